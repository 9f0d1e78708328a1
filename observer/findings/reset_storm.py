"""Resets in masses at one service: which share of its connections, by whom, of which classes.

Never here: the class of a single reset, see the connection-level findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import CLOSED_BY_RESET, RESET_BY_SERVER
from observer.findings.crowds import busiest, counted, groups, members, percent, sample
from observer.findings.survey import Survey, end_of
from observer.findings.verdict import Verdict
from observer.findings.words import SECOND
from observer.registry import Finding

Array = Any

CLASSES: Final = (
    "injected_reset", "half_established_reset", "accept_overflow_reset", "half_open", "half_open_reconnect",
    "keepalive_timeout", "refused", "handshake_aborted", "reset_on_close", "send_timeout",
)  # fmt: skip
"""Findings that say why a connection was reset; the first that was found of one counts."""
UNKNOWN_CLASS: Final = "no class"
FAILING_SHARE: Final = 0.5
"""Share of resets that are problems by themselves from which on the storm is one."""
NAMED: Final = 4
"""Classes named in the sentence."""


class Storm(NamedTuple):
    """The resets of one listener."""

    streams: Array
    total: int
    share: float
    burst: int
    """Most resets within a second."""
    by_server: int


def storms(survey: Survey) -> Iterator[Verdict]:
    """Listeners many of whose connections are reset, or many at once by the server."""
    crowd, options = survey.crowd, survey.around.options
    reset = numpy.flatnonzero(crowd.bits & CLOSED_BY_RESET != 0)
    classes: dict[int, Verdict] | None = None
    for listener, places in groups(crowd.server[reset], options.reset_storm):
        streams = reset[places]
        total = len(survey.around.of_listener(listener))
        by_server = crowd.bits[streams] & RESET_BY_SERVER != 0
        at_once = numpy.sort(crowd.last[streams[by_server]])
        burst = busiest(at_once, SECOND).most if len(at_once) else 0
        storm = Storm(streams, total, len(streams) / total, burst, int(by_server.sum()))
        if storm.share >= options.reset_storm_share or burst >= options.reset_storm:
            if classes is None:
                classes = _classes(survey)
            yield _verdict(survey, listener, storm, classes)


def _classes(survey: Survey) -> dict[int, Verdict]:
    """Why each connection was reset, as far as that was found."""
    found: dict[int, Verdict] = {}
    for verdict in survey.verdicts(*CLASSES):
        if verdict.stream is not None:
            found.setdefault(verdict.stream, verdict)
    return found


def _verdict(survey: Survey, listener: int, storm: Storm, classes: dict[int, Verdict]) -> Verdict:
    around, crowd = survey.around, survey.crowd
    known = [classes[stream] for stream in storm.streams.tolist() if stream in classes]
    counts = Counter(_name(verdict) for verdict in known)
    if len(known) < len(storm.streams):
        counts[UNKNOWN_CLASS] = len(storm.streams) - len(known)
    failing = sum(verdict.severity == "problem" for verdict in known)
    times = crowd.last[storm.streams]
    order = storm.streams[numpy.argsort(times, kind="stable")]
    whole = sorted(counts, key=lambda name: -counts[name])
    server_sends = 2 * storm.by_server >= len(storm.streams)
    return Verdict(
        grade="confirmed",
        severity="problem" if failing >= FAILING_SHARE * len(storm.streams) else "warning",
        endpoint="server" if server_sends else "client",
        cause=whole[0],
        begin=int(times.min()),
        end=None if times.max() + SECOND >= around.end_ns else int(times.max()),
        server=end_of(listener),
        frames=survey.last_frames(sample(order, len(order) // 2)),
        streams=members(order),
        summary=f"{len(storm.streams):,} of {counted(storm.total)} ({percent(storm.share)}) ended by reset, "
        f"{storm.by_server:,} of them by the server, up to {max(storm.burst, 1):,} of its resets within a second: "
        f"{_listing(counts, whole)}.",
        unknown=around.caveat(),
    )  # fmt: skip


def _name(verdict: Verdict) -> str:
    """The class of a reset in words: the finding, and its cause if it tells causes apart."""
    name = verdict.code.replace("_", " ")
    return f"{name} ({verdict.cause.replace('_', ' ')})" if verdict.cause else name


def _listing(counts: Counter[str], order: list[str]) -> str:
    text = ", ".join(f"{counts[name]:,} {name}" for name in order[:NAMED])
    rest = sum(counts[name] for name in order[NAMED:])
    return f"{text}, {rest:,} others" if rest else text


RESET_STORM: Final = Finding(
    name="reset_storm",
    title="reset storm",
    definition="Many connections of one service (Options.reset_storm) end by reset, and they are a large share of all "
    "(Options.reset_storm_share) or the server resets that many within a second.",
    source="RFC 9293 3.5.2 and 3.10.7; CRITERIA: reset taxonomy",
    severity="warning",
    causes={},
    remedy="Look at the commonest class: each has a remedy of its own (`observer findings`). Many at once from one "
    "server mean that its process ended or was killed.",
    survey=storms,
)
