"""Openings that nobody completes, in masses: a SYN flood.

What tells it from a service that is down or unreachable is that its SYNs are not repeated: a client that wants a
connection sends its SYN again after a second (RFC 6298 2.1), whoever only wants to fill the listener's queue does not.
A port scan does not reach the threshold at any one listener.

Never here: single openings without an answer, see the connection-level findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import (
    ADDRESS_SHIFT,
    CLIENT_SPOKE,
    CLOSED_BY_RESET,
    COMPLETED,
    SAW_SYN,
    SAW_SYNACK,
    SYN_REPEATED,
    SYNACK_REPEATED,
)
from observer.findings.crowds import Peak, busiest, counted, distinct, evidence, groups, members, rate, rate_at
from observer.findings.survey import Survey, end_of
from observer.findings.verdict import Verdict
from observer.findings.words import SECOND, duration
from observer.registry import Finding

Array = Any

REPEAT_NS: Final = 1_100_000_000
"""By then a client has repeated its SYN: RTO 1 s (RFC 6298 2.1), and timers are up to 6 % late (INFERENCE.md)."""
REPEATING_SHARE: Final = 0.5
"""Share of repeated SYNs from which on the openings are of clients that want a connection."""
ENOUGH_SHARE: Final = 0.25
"""Of the threshold: so many openings suffice to judge the rest by, if they are not a busy service's few failures."""


class Flood(NamedTuple):
    """What is known of one listener's half-finished openings."""

    streams: Array
    times: Array
    peak: Peak
    judged: int
    """Openings old enough that an honest client would have repeated its SYN."""
    repeated: int
    """How many of those were repeated."""
    answered: int
    sources: int
    others: int
    """Other connections of the listener, begun meanwhile or just before, that were completed."""


def floods(survey: Survey) -> Iterator[Verdict]:
    """Floods, listener by listener."""
    crowd = survey.crowd
    open_bits = SAW_SYN | COMPLETED | CLIENT_SPOKE | CLOSED_BY_RESET
    embryonic = numpy.flatnonzero(crowd.bits & open_bits == SAW_SYN)
    least = survey.around.options.syn_flood
    for listener, places in groups(crowd.server[embryonic], least):
        streams = embryonic if len(places) == len(embryonic) else embryonic[places]  # new memory is dear
        errors = survey.marks("icmp_error").stream  # unreachable: told so, and not a matter of the queue
        if len(errors):
            streams = streams[~numpy.isin(streams, errors)]
        if len(streams) < least:
            continue
        flood = _flood_of(survey, listener, streams)
        if flood.peak.most >= least:
            verdict = _verdict(survey, listener, flood)
            if verdict is not None:
                yield verdict


def _flood_of(survey: Survey, listener: int, streams: Array) -> Flood:
    crowd, profile = survey.crowd, survey.around.options.profile()
    times = crowd.first[streams]
    if (times[1:] < times[:-1]).any():  # streams are numbered in the order of the capture
        order = numpy.argsort(times, kind="stable")
        streams, times = streams[order], times[order]
    bits = crowd.bits[streams]
    # a request is kept until its last repeat has gone unanswered
    kept_s = profile.syn_ack_first_s * (2 ** (profile.syn_ack_repeats + 1) - 1)
    # a server that repeats its SYN-ACK has waited as long as an honest client would
    old = (times < survey.around.end_ns - REPEAT_NS) | (bits & SYNACK_REPEATED != 0)
    return Flood(
        streams=streams,
        times=times,
        peak=busiest(times, round(kept_s * SECOND)),
        judged=int(old.sum()),
        repeated=int((old & (bits & SYN_REPEATED != 0)).sum()),
        answered=int((bits & SAW_SYNACK != 0).sum()),
        sources=distinct(crowd.client[streams] >> ADDRESS_SHIFT),
        # handshakes in flight at the end of the capture follow upon others that were completed a moment before
        others=survey.around.completed.begun(listener, int(times[0]) - REPEAT_NS - 1, int(times[-1]) + 1),
    )


def _verdict(survey: Survey, listener: int, flood: Flood) -> Verdict | None:
    around, count = survey.around, len(flood.streams)
    if flood.judged and flood.repeated >= REPEATING_SHARE * flood.judged:
        return None  # clients that try again: the service does not answer, or its answers do not arrive
    least = around.options.syn_flood
    surely = flood.judged >= least or (flood.judged >= ENOUGH_SHARE * least and flood.others < count)
    if not surely and flood.others >= count:
        return None  # a busy service, whose latest handshakes the end of the capture cut short
    answered = flood.answered >= ENOUGH_SHARE * least
    grade = "suspected" if not surely else "confirmed" if answered else "probable"
    heavy = surely and count > flood.others
    end = int(flood.times[-1])
    return Verdict(
        grade=grade,
        severity="problem" if heavy else "warning",
        endpoint="server",
        cause="never_completed" if answered else "never_answered",
        begin=int(flood.times[0]),
        end=None if end + SECOND >= around.end_ns else end,
        server=end_of(listener),
        frames=evidence(survey, flood.streams, flood.times, flood.peak.time),
        streams=members(flood.streams),
        summary=_in_words(flood, answered=answered),
        unknown=around.caveat(
            "" if surely else "the capture ends before an honest client would have repeated its SYN",
            "" if answered else "no SYN-ACK of these was captured: the tap may stand where the flood is filtered",
            "source addresses of a flood are often forged",
        ),
    )


def _in_words(flood: Flood, *, answered: bool) -> str:
    per_second = rate_at(flood.times, int(flood.times[-1]), int(flood.times[-1] - flood.times[0]))
    lasted = duration(int(flood.times[-1] - flood.times[0]))
    answer = (
        f"The server answered {flood.answered:,}, and no third ACK came" if answered else "Few or none were answered"
    )
    again = f"{flood.repeated:,} of {flood.judged:,}" if flood.repeated else f"none of {flood.judged:,}"
    repeats = f", and {again} SYNs came again when they were due" if flood.judged else ""
    others = f"; {counted(flood.others, 'other connection')} completed meanwhile" if flood.others else ""
    return (
        f"{counted(len(flood.streams), 'opening')} in {lasted} ({rate(per_second)}) from "
        f"{counted(flood.sources, 'address')} never completed{repeats}. {answer}{others}."
    )


SYN_FLOOD: Final = Finding(
    name="syn_flood",
    title="SYN flood",
    definition="So many openings of one listener are half finished at once (Options.syn_flood): their SYNs are neither "
    "completed, nor refused, nor repeated as a client would that wants a connection.",
    source="RFC 4987; RFC 6298 2.1",
    severity="problem",
    causes={
        "never_completed": "the server sends SYN-ACKs and keeps a request for each",
        "never_answered": "the server's queue of requests is full, or something before it takes the SYNs away",
    },
    remedy="Turn on SYN cookies (net.ipv4.tcp_syncookies=1, the default of Linux), filter or limit the sources before "
    "the server, and raise net.ipv4.tcp_max_syn_backlog if the load is real.",
    survey=floods,
)
