"""Crowds made of arrays, for tests of population findings: no capture, no tracker, any number of connections.

Times are seconds from the beginning of a pretended capture; streams are numbered from 0 and their frames are 10 apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from observer.findings import around as near
from observer.findings.around import Around, Crowd
from observer.findings.survey import SPAN_STATES, Marks, Spans, Survey
from observer.findings.verdict import Verdict
from observer.options import Options
from observer.registry import Finding, collect
from observer.schema import STATES, Columns

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
SERVER = 1 << 16 | 80
COMPLETE = near.SAW_SYN | near.SAW_SYNACK | near.COMPLETED | near.SERVER_SPOKE | near.CLIENT_SPOKE
NOTHING = numpy.zeros(0, numpy.int64)


def state(name: str) -> int:
    return STATES.index(name)


def ns(seconds: Any) -> Any:
    """Seconds of the pretended capture as time stamps."""
    return numpy.asarray(BEGIN + numpy.round(numpy.asarray(seconds, float) * SECOND), numpy.int64)


def crowd(
    first: Any,
    *,
    last: Any = None,
    client: Any = 7,
    port: Any = None,
    server: Any = SERVER,
    client_state: str = "ESTABLISHED",
    server_state: str = "ESTABLISHED",
    bits: Any = COMPLETE,
) -> Crowd:
    """Connections that began at these seconds; `client` is an address code, ports count upwards from 40000."""
    first = numpy.asarray(first, float)
    count = len(first)

    def full(value: Any, kind: type) -> Any:
        return numpy.broadcast_to(numpy.asarray(value), count).astype(kind)

    ports = 40000 + numpy.arange(count) % 20000 if port is None else port
    return Crowd(
        client=full(client, numpy.int64) << 16 | full(ports, numpy.int64),
        server=full(server, numpy.int64),
        first=ns(first),
        last=ns(first + 0.01 if last is None else numpy.broadcast_to(last, count)),
        client_state=full(state(client_state), numpy.uint8),
        server_state=full(state(server_state), numpy.uint8),
        bits=full(bits, numpy.uint16),
    )


def spans(streams: Any, endpoint: int, begin: Any, end: Any, *, until: float) -> Spans:
    """Stretches of some streams at one endpoint, cut at the end of the capture."""
    begin, end = numpy.asarray(begin, float), numpy.asarray(end, float)
    still = numpy.broadcast_to(end >= until, len(begin))
    return Spans(
        stream=numpy.asarray(streams, numpy.int64),
        endpoint=numpy.full(len(begin), endpoint, numpy.int8),
        begin=ns(begin),
        end=ns(numpy.minimum(numpy.broadcast_to(end, len(begin)), until)),
        still=still,
        frame=numpy.asarray(streams, numpy.int64) * 10 + 5,
    )


def survey(
    people: Crowd,
    *,
    until: float,
    options: Options | None = None,
    states: Mapping[str, Spans] | None = None,
    verdicts: Mapping[str, Sequence[Verdict]] | None = None,
    events: Mapping[str, Sequence[tuple[float, int, int]]] | None = None,
    previous: Mapping[int, int] | None = None,
) -> Survey:
    """A survey of these; events: by name (time in seconds, value, stream); previous: the stream before a stream."""
    none = spans([], 0, [], [], until=until)
    before = numpy.full(len(people.first), -1, numpy.int64)
    for stream, earlier in (previous or {}).items():
        before[stream] = earlier

    def marks(name: str) -> Marks:
        rows = list((events or {}).get(name, ()))
        streams = numpy.array([row[2] for row in rows], numpy.int64)
        return Marks(
            ns([row[0] for row in rows]), streams * 10 + 7, numpy.array([row[1] for row in rows], int), streams
        )

    flows = Columns(
        "flows",
        len(people.first),
        {
            "first_frame": lambda start, stop: numpy.arange(start, stop) * 10 + 1,
            "last_frame": lambda start, stop: numpy.arange(start, stop) * 10 + 9,
            "previous_stream": before,
        },
    )
    around = Around(people, options or Options(), begin_ns=BEGIN, end_ns=int(ns(until)))
    return Survey(around, {**dict.fromkeys(SPAN_STATES, none), **(states or {})}, verdicts or {}, flows, marks)


def found(code: str, of: Survey) -> list[Verdict]:
    """What a finding says of it, severity filled in as the framework does."""
    finding = collect(Finding)[code]
    assert finding.survey is not None
    verdicts = list(finding.survey(of))
    for verdict in verdicts:
        verdict.code = code
        verdict.severity = verdict.severity or finding.severity
        assert verdict.frames == sorted(set(verdict.frames)) and 0 < len(verdict.frames) <= 24
        assert verdict.cause is None or not finding.causes or verdict.cause in finding.causes
    return verdicts
