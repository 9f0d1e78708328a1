"""Rows of the table of findings: chosen by code and connection, and as JSON.

Never here: what like findings have in common (see `grouping`), or layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from observer.outputs.display_filter import Place, filter_of
from observer.schema import ENDPOINTS, GRADES, NULL_TIME, SEVERITIES, TABLES, Coded, Columns

Ints = Any


def chosen_findings(findings: Columns, codes: Sequence[str], chosen: Ints | None) -> Columns:
    """Return the findings with one of these codes (none given: all) that concern a chosen connection (mask; None: all).

    A population's finding concerns the connections that make it up.
    """
    keep = numpy.ones(findings.rows, bool)
    if codes:
        named: Coded = findings["code"]
        wanted = numpy.array([value in codes for value in named.values] + [False])
        keep &= wanted[numpy.asarray(named.codes, numpy.int64)]
    if chosen is not None:
        stream = numpy.asarray(findings["stream"], numpy.int64)
        single = stream >= 0
        keep[single] &= chosen[stream[single]]
        members = findings["streams"]
        for row in numpy.flatnonzero(keep & ~single).tolist():
            keep[row] = bool(chosen[numpy.array(members[row], numpy.int64)].any())
    return findings.take(keep)


def concerned(findings: Columns, connections: int) -> Ints:
    """Return for each connection whether a finding concerns it: bool, shape (connections,)."""
    mask = numpy.zeros(connections, bool)
    stream = numpy.asarray(findings["stream"], numpy.int64)
    mask[stream[stream >= 0]] = True
    for row in numpy.flatnonzero(stream < 0).tolist():
        mask[findings["streams"][row]] = True
    return mask


def worst_severity(findings: Columns) -> int:
    """Return the position of the worst severity in `schema.SEVERITIES`, -1 without findings."""
    return int(numpy.asarray(findings["severity"]).max()) if findings.rows else -1


def rows_as_json(findings: Columns) -> list[dict[str, Any]]:
    """Return every finding with all columns of the table, times in ns since 1970, and `streams` and `filter`."""
    made = {column.name: _values(column.name, column.kind, findings) for column in TABLES["findings"].columns}
    members = findings.get("streams", [[]] * findings.rows)
    rows = []
    for at, values in enumerate(zip(*made.values(), strict=True)):
        row = dict(zip(made, values, strict=True))
        row["streams"] = [row["stream"]] if row["stream"] is not None else list(members[at] or [])
        place = Place(*(row[name] for name in Place._fields))
        row["filter"] = filter_of(sorted(set(row["streams"])), place).text
        rows.append(row)
    return rows


def _values(name: str, kind: str, findings: Columns) -> list[Any]:
    if name not in findings:
        return [None] * findings.rows
    raw = findings[name]
    if kind in ("text", "frames"):
        return list(raw)
    if kind == "label":
        return [raw.values[code] if code >= 0 else None for code in numpy.asarray(raw.codes).tolist()]
    numbers = numpy.asarray(raw).tolist()
    if kind == "time":
        return [None if number == NULL_TIME else number for number in numbers]
    if kind == "address":
        texts = findings.addresses.texts([max(number, 0) for number in numbers]) if findings.addresses else []
        return [text if number >= 0 else None for text, number in zip(texts, numbers, strict=True)]
    names = {"severity": SEVERITIES, "grade": GRADES, "endpoint": ENDPOINTS}.get(name)
    return [None if number < 0 else names[number] if names else number for number in numbers]
