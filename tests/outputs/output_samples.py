"""Made-up raw tables for tests of the outputs: no capture, no tracker."""

from __future__ import annotations

from typing import Any

import numpy

from observer.findings.table import columns_of
from observer.findings.verdict import Verdict
from observer.schema import TABLES, Addresses, Coded, Columns

START_NS = 1_795_227_123_123_456_789  # 2026-11-21 02:12:03.123456789 UTC


def addresses(count: int = 50) -> Addresses:
    words = numpy.zeros((count, 4), numpy.uint32)
    words[:, 3] = 0x0A000100 + numpy.arange(count)
    versions = numpy.full(count, 4, numpy.uint8)
    words[1] = (0x20010DB8, 0, 0, 1)
    versions[1] = 6
    return Addresses(words, versions)


def column(kind: Any, name: str, rows: int, random: numpy.random.Generator) -> Any:
    spec = TABLES["flows"].column(name)
    if kind == "address":
        return random.integers(0, 50, rows)
    if kind == "enum":
        return random.integers(-1 if spec.nullable else 0, len(spec.categories), rows)
    if kind == "label":
        return Coded(random.integers(-1 if spec.nullable else 0, 3, rows), ["ShADadfF", 'say "hi", ok\n', ""])
    if kind == "text":
        return numpy.array([f"1:{i:027d}=" for i in range(rows)], "S")
    if kind == "bits":
        return random.integers(0, 4, rows)
    if kind == "bool":
        return random.integers(0, 2, rows)
    if kind == "time":
        return START_NS + numpy.arange(rows) * 1000
    low = -1 if spec.nullable else 0
    return random.integers(low, 30 if "int8" in spec.dtype.lower() else 60_000, rows)


def flows(rows: int = 10, seed: int = 1, **given: Any) -> Columns:
    """Random flows, every column of the schema, `given` columns as they are given."""
    random = numpy.random.default_rng(seed)
    source = {c.name: column(c.kind, c.name, rows, random) for c in TABLES["flows"].columns}
    source["stream"] = numpy.arange(rows)
    source["last_time"] = source["first_time"] + numpy.arange(rows) * 1_234_567
    source.update({name: numpy.array(value) if isinstance(value, list) else value for name, value in given.items()})
    return Columns("flows", rows, source, addresses())


def verdict(code: str = "half_established", stream: int | None = 5, **given: Any) -> Verdict:
    """A verdict on a connection from 10.0.1.2:40000 + stream to 10.0.1.9:5001; `given` is as it is given."""
    facts: dict[str, Any] = {
        "grade": "confirmed", "severity": "problem", "endpoint": "server", "begin": START_NS + 1_020_000_000,
        "end": START_NS + 8_440_000_000, "frames": [31, 35, 39], "summary": "connect() succeeded, accept() cannot.",
        "remedy": "Accept faster.", "client": None if stream is None else (2, 40_000 + stream), "server": (9, 5001),
    }  # fmt: skip
    return Verdict(code=code, stream=stream, **{**facts, **given})


def findings(*verdicts: Verdict) -> Columns:
    """A table of findings, the worst first."""
    return columns_of(verdicts, addresses())
