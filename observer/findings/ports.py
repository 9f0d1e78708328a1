"""A client that runs out of ports towards one service, or uses them again too early.

With every port of the range taken connect() fails at once (EADDRNOTAVAIL) and nothing of that is on the wire.  What
is: all ports of the range taken at once, each used again in the moment in which its TIME-WAIT is over; or a SYN
that meets TIME-WAIT at the server and is answered by an ACK with the old numbers (RFC 9293 3.10.7.4, RFC 5961 4).

Never here: TIME-WAIT as such, see `time_wait`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import ADDRESS_SHIFT
from observer.findings.crowds import counted, evidence, groups, members, peak_of, percent
from observer.findings.survey import Survey
from observer.findings.time_wait import CLIENT, port_range
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import SECOND
from observer.options import Options
from observer.registry import Finding
from observer.schema import ENDPOINTS, STATES

Array = Any

FULL_SHARE: Final = 0.98
"""Ports taken from which on the range counts as full: some may be reserved or bound by others."""
MANY_REFUSED: Final = 10
"""Refused reuses from which on they are a problem: each costs its client a second or a time-out."""
PROMPT_SHARE: Final = 0.5
"""Share of openings on a port whose TIME-WAIT is just over, from which on the client had no other port."""
GONE: Final = tuple(STATES.index(state) for state in ("CLOSED", "TIME_WAIT"))


def exhaustions(survey: Survey) -> Iterator[Verdict]:
    """Clients without a port left, and clients whose reuse of a port was refused."""
    yield from _refused(survey)
    yield from _used_up(survey)


# --- a SYN into TIME-WAIT --------------------------------------------------------------------------------


def _refused(survey: Survey) -> Iterator[Verdict]:
    """A challenge ACK answers the SYN, and the connection before it on these ports is in TIME-WAIT."""
    marks = survey.marks("challenge_ack")
    if not len(marks.stream):
        return
    streams, first = numpy.unique(marks.stream, return_index=True)
    previous = survey.flows.take(streams)["previous_stream"]
    rows = numpy.flatnonzero(_in_time_wait(survey, previous, marks.time[first]))
    for key, places in groups(survey.spaces(streams[rows]), 1):
        chosen = first[rows[places]]
        client, server = survey.space(key)
        count = len(chosen)
        yield Verdict(
            grade="confirmed",
            severity="problem" if count >= MANY_REFUSED else "warning",
            endpoint="client",
            cause="refused_by_time_wait",
            begin=int(marks.time[chosen].min()),
            end=int(marks.time[chosen].max()),
            client=client,
            server=server,
            frames=clean_frames(*marks.frame[chosen][:20].tolist()),
            streams=members(marks.stream[chosen]),
            summary=f"{counted(count)} began on a port that the server still had in TIME-WAIT: it answered the SYN "
            "with an ACK of the old connection, so connect() took a reset and another SYN, or failed.",
            unknown=survey.around.caveat(),
        )


def _in_time_wait(survey: Survey, streams: Array, times: Array) -> Array:
    """Whether an endpoint of each of these streams (-1: none) was in TIME-WAIT at that time."""
    spans = survey.spans["TIME_WAIT"]
    found = numpy.zeros(len(streams), bool)
    for side in range(len(ENDPOINTS)):
        rows = numpy.flatnonzero((spans.endpoint == side) & numpy.isin(spans.stream, streams))
        rows = rows[numpy.argsort(spans.stream[rows], kind="stable")]
        if len(rows):
            at = numpy.minimum(numpy.searchsorted(spans.stream[rows], streams), len(rows) - 1)
            own = rows[at]
            found |= (spans.stream[own] == streams) & (spans.begin[own] <= times) & (times <= spans.end[own])
    return found


# --- no port left ----------------------------------------------------------------------------------------


class Use(NamedTuple):
    """How a client used its ports towards one service.

    prompt, later: openings within a moment of the end of their port's TIME-WAIT, and all from the first such on.
    """

    taken: int
    time: int
    ports: tuple[int, int]
    prompt: int
    later: int

    @property
    def share(self) -> float:
        return self.taken / (self.ports[1] - self.ports[0] + 1)


def _used_up(survey: Survey) -> Iterator[Verdict]:
    options, spans = survey.around.options, survey.spans["TIME_WAIT"]
    low, high = options.ephemeral_ports
    least = min(options.time_wait_pileup, ceil(FULL_SHARE * (high - low + 1)))
    held = numpy.flatnonzero(spans.endpoint == CLIENT)
    if len(held) < least:
        return
    waiting = {key for key, _ in groups(survey.spaces(spans.stream[held]), least)}
    if not waiting:
        return
    count = len(survey.crowd.first)
    begins, ends = numpy.zeros(count, numpy.int64), numpy.zeros(count, numpy.int64)
    begins[spans.stream[held]] = spans.begin[held]
    ends[spans.stream[held]] = spans.end[held]
    for key, streams in groups(survey.spaces(numpy.arange(count)), least):
        if key in waiting:
            use = _use_of(survey, streams, begins[streams], ends[streams])
            if use.share >= FULL_SHARE or _waits(use, options):
                yield _used_up_verdict(survey, key, streams, use)


def _use_of(survey: Survey, streams: Array, waits: Array, free: Array) -> Use:
    """streams: of one tuple space; waits, free: when each was in TIME-WAIT at the client (0: never)."""
    crowd, around = survey.crowd, survey.around
    ports = crowd.client[streams] & (1 << ADDRESS_SHIFT) - 1
    first = crowd.first[streams]
    lives = ~numpy.isin(crowd.client_state[streams], GONE)
    until = numpy.maximum(numpy.where(lives, around.end_ns, crowd.last[streams]), free)
    peak = peak_of(first, until)
    prompt = _prompt(survey, ports, first, waits)
    later = int((first >= prompt.min()).sum()) if len(prompt) else 0
    return Use(peak.most, peak.time, port_range(ports, around.options), len(prompt), later)


def _prompt(survey: Survey, ports: Array, first: Array, waits: Array) -> Array:
    """Times of openings whose port had just left the TIME-WAIT that the connection before entered at `waits`."""
    profile = survey.around.options.profile()
    lasts = profile.time_wait_s * SECOND
    if survey.around.end_ns - int(first.min()) < lasts:
        return numpy.zeros(0, numpy.int64)
    order = numpy.lexsort((first, ports))
    again = numpy.flatnonzero(ports[order][1:] == ports[order][:-1]) + 1
    before = waits[order[again - 1]]
    times = first[order[again]]
    gap = times - before
    return times[(before > 0) & (gap >= lasts) & (gap <= lasts * (1 + profile.timer_slack))]


def _waits(use: Use, options: Options) -> bool:
    """Whether openings wait for ports to become free."""
    low, high = options.ephemeral_ports
    return use.prompt >= min(options.time_wait_pileup, high - low + 1) and use.prompt >= PROMPT_SHARE * use.later


def _used_up_verdict(survey: Survey, key: int, streams: Array, use: Use) -> Verdict:
    crowd, around = survey.crowd, survey.around
    client, server = survey.space(key)
    waits = _waits(use, around.options)
    size = use.ports[1] - use.ports[0] + 1
    text = f"The client had {use.taken:,} of its {size:,} ports for this service taken at once ({percent(use.share)})"
    if waits:
        text += (
            f", and {use.prompt:,} of {counted(use.later, 'later opening')} came just when the TIME-WAIT of their port "
            "was over: connections wait for ports."
        )
    else:
        text += ": while that lasts connect() fails at once with EADDRNOTAVAIL, which nothing on the wire shows."
    still = use.time + SECOND >= around.end_ns
    return Verdict(
        grade="confirmed" if waits and use.share >= FULL_SHARE else "probable",
        endpoint="client",
        cause="ports_used_up",
        begin=use.time,
        end=None if still else int(crowd.last[streams].max()),
        client=client,
        server=server,
        frames=evidence(survey, streams, crowd.first[streams], use.time),
        streams=members(streams[numpy.argsort(-crowd.first[streams], kind="stable")]),
        summary=text,
        unknown=around.caveat(
            f"that the client's ports are {use.ports[0]}-{use.ports[1]} is assumed (Options.ephemeral_ports)",
            f"that TIME-WAIT lasts {around.options.profile().time_wait_s:g} s is assumed (Options.time_wait_s)",
            "failures of connect() before the first SYN are not on the wire",
        ),
    )


PORT_EXHAUSTION: Final = Finding(
    name="port_exhaustion",
    title="client out of ports",
    definition="A client has no free port left for a service: all of its range is taken at once, or each port is used "
    "again in the moment in which its TIME-WAIT is over; or it uses ports so early that the server refuses them.",
    source="RFC 9293 3.4.2 and 3.10.7.4; RFC 5961 4; net.ipv4.ip_local_port_range of Linux",
    severity="problem",
    causes={
        "ports_used_up": "every port of the range is connected or in TIME-WAIT; connect() fails with EADDRNOTAVAIL",
        "refused_by_time_wait": "the server still has the old connection in TIME-WAIT and does not take the new SYN",
    },
    remedy="Keep connections open for more than one request (keep-alive, a pool), let the server close first, widen "
    "net.ipv4.ip_local_port_range, or spread over more addresses; with timestamps "
    "net.ipv4.tcp_tw_reuse=1 helps a client.",
    survey=exhaustions,
)
