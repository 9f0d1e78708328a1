"""From verdicts to the table of findings, the worst first.

Never here: a criterion, or how a finding is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from observer.findings.judging import Judging
from observer.findings.source import Source
from observer.findings.verdict import Verdict
from observer.schema import ENDPOINTS, GRADES, NULL_TIME, SEVERITIES, Addresses, Coded, Columns


def find(source: Source) -> Columns:
    """Raw columns of the table of findings.

    Beside the documented columns: `streams`, of a population's finding the connections that make it up (lists).
    """
    judging = Judging(source)
    return columns_of(judging.verdicts(), judging.around.addresses)


def worst_first(verdict: Verdict) -> tuple[Any, ...]:
    """Sorting key: severity, then populations before single connections, grade, time."""
    return (
        -SEVERITIES.index(verdict.severity or "info"),
        verdict.stream is not None,
        GRADES.index(verdict.grade),
        verdict.begin or 0,
        verdict.stream or 0,
        verdict.code,
    )


def columns_of(verdicts: Sequence[Verdict], addresses: Addresses | None) -> Columns:
    """Raw columns of these verdicts, in the order of the table."""
    rows = sorted(verdicts, key=worst_first)

    def numbers(values: list[int]) -> Any:
        return numpy.array(values, numpy.int64)

    def place(side: str, part: int) -> Any:
        ends = (getattr(row, side) for row in rows)
        return numbers([-1 if end is None else end[part] for end in ends])

    source = {
        "code": _coded([row.code for row in rows]),
        "severity": numbers([SEVERITIES.index(row.severity or "info") for row in rows]),
        "grade": numbers([GRADES.index(row.grade) for row in rows]),
        "stream": numbers([-1 if row.stream is None else row.stream for row in rows]),
        "endpoint": numbers([-1 if row.endpoint is None else ENDPOINTS.index(row.endpoint) for row in rows]),
        "client_addr": place("client", 0),
        "client_port": place("client", 1),
        "server_addr": place("server", 0),
        "server_port": place("server", 1),
        "cause": _coded([row.cause for row in rows]),
        "begin": numbers([NULL_TIME if row.begin is None else row.begin for row in rows]),
        "end": numbers([NULL_TIME if row.end is None else row.end for row in rows]),
        "frames": [row.frames for row in rows],
        "summary": [row.summary for row in rows],
        "remedy": [row.remedy for row in rows],
        "unknown": [row.unknown for row in rows],
        "streams": [row.streams for row in rows],
    }
    return Columns("findings", len(rows), source, addresses)


def _coded(texts: Sequence[str | None]) -> Coded:
    values: dict[str, int] = {}
    codes = [-1 if text is None else values.setdefault(text, len(values)) for text in texts]
    return Coded(numpy.array(codes, numpy.int64), list(values))
