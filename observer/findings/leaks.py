"""A client that opens connection after connection to one service and closes none.

A pool grows too, but then it uses what it has: what is leaked is used once, at the beginning, and never again.

Never here: CLOSE-WAIT that the peer's close leaves behind, see `pileups`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import ADDRESS_SHIFT, COMPLETED
from observer.findings.crowds import counted, evidence, groups, members, rate
from observer.findings.survey import Survey
from observer.findings.verdict import Verdict
from observer.findings.words import SECOND, duration
from observer.registry import Finding
from observer.schema import STATES

Array = Any

HELD: Final = tuple(STATES.index(state) for state in ("ESTABLISHED", "CLOSE_WAIT"))
"""The client has not closed."""
KEPT_SHARE: Final = 0.8
"""Share of a client's connections that it did not close, from which on it may leak them."""
IDLE_SHARE: Final = 0.8
"""Share of those that were used only early in their life."""
EARLY: Final = 0.5
"""Early: in this first part of the time from its opening to the end of the capture."""
PARTS: Final = 4
"""The count must have grown in each of so many parts of the time since the first opening."""
GROWTH: Final = 0.25
"""By at least this fraction of an even growth."""
LONG_S: Final = 60.0
"""Watched for so long a growth is probably a leak; a shorter one may be a pool that fills."""
MANY: Final = 1000
"""Connections from which on it is a problem: RLIMIT_NOFILE is 1024 by default (getrlimit(2))."""


class Growth(NamedTuple):
    """What a client kept open at one service."""

    streams: Array
    opened: int
    closed: int
    length_ns: int


def leaks(survey: Survey) -> Iterator[Verdict]:
    """Clients whose open connections to one service only grow in number."""
    crowd, around = survey.crowd, survey.around
    options = around.options
    if around.end_ns - around.begin_ns < options.connection_leak_s * SECOND:
        return
    opened = crowd.bits & COMPLETED != 0
    kept = numpy.flatnonzero(opened & numpy.isin(crowd.client_state, HELD))
    spaces = survey.spaces(kept) if len(kept) >= options.connection_leak else kept
    for key, places in groups(spaces, options.connection_leak):
        growth = _growth_of(survey, kept[places])
        if growth is not None:
            yield _verdict(survey, key, growth)


def _growth_of(survey: Survey, kept: Array) -> Growth | None:
    """The growth, if it is one that looks like a leak."""
    crowd, end_ns = survey.crowd, survey.around.end_ns
    key = crowd.server[kept[0]]
    siblings = survey.around.of_listener(int(key))
    own = siblings[crowd.client[siblings] >> ADDRESS_SHIFT == crowd.client[kept[0]] >> ADDRESS_SHIFT]
    opened = int((crowd.bits[own] & COMPLETED != 0).sum())
    first = crowd.first[kept]
    age = numpy.maximum(end_ns - first, 1)
    begin = int(first.min())
    length = end_ns - begin
    if len(kept) < KEPT_SHARE * opened or length < survey.around.options.connection_leak_s * SECOND:
        return None
    idle = crowd.last[kept] - first <= EARLY * age
    parts = numpy.bincount(numpy.minimum((first - begin) * PARTS // max(length, 1), PARTS - 1), minlength=PARTS)
    if idle.mean() < IDLE_SHARE or parts.min() < GROWTH * len(kept) / PARTS:
        return None
    return Growth(kept, opened, opened - len(kept), length)


def _verdict(survey: Survey, key: int, growth: Growth) -> Verdict:
    crowd, around = survey.crowd, survey.around
    client, server = survey.space(key)
    first = crowd.first[growth.streams]
    count = len(growth.streams)
    surely = growth.length_ns >= LONG_S * SECOND
    closed = "none" if not growth.closed else f"{growth.closed:,}"
    return Verdict(
        grade="probable" if surely else "suspected",
        severity="problem" if surely and count >= MANY else "warning",
        endpoint="client",
        cause="client_does_not_close",
        begin=int(first.min()),
        end=None,
        client=client,
        server=server,
        frames=evidence(survey, growth.streams, first, int(numpy.median(first))),
        streams=members(growth.streams),  # the oldest first
        summary=f"The client opened {counted(growth.opened)} within {duration(growth.length_ns)} and closed {closed} "
        f"of them; {count:,} stand idle, and {rate(count * SECOND / growth.length_ns)} are added.",
        unknown=around.caveat(
            "behind one address there may be many users (NAT)",
            "" if surely else "the capture is short: a pool that fills looks the same",
        ),
    )


CONNECTION_LEAK: Final = Finding(
    name="connection_leak",
    title="connections leak",
    definition="A client opens connections to one service again and again, uses each only at its beginning and closes "
    "none: their number grows over the whole time that was captured.",
    source="CRITERIA: population findings; getrlimit(2)",
    severity="warning",
    causes={"client_does_not_close": "the client's application forgets its sockets"},
    remedy="Close connections when their work is done, on error paths as well, or give them back to the pool; an idle "
    "time-out at the server bounds the damage.",
    survey=leaks,
)
