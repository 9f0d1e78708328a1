"""Holds the findings of a capture against what a truth file says of the same connections.

A finding is right if the truth explains it: the scenario lists it (at any level, for this connection and endpoint), or
the kernel's own record proves it (tests/lab/expected.py).  It is wrong if the truth forbids it or nothing explains it.
What must be found, and with which causes, is what the truth says this tap can know.

Never judges by itself what a capture shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

import observer
from observer.registry import Finding, collect
from tests.lab.expected import Expectation, expected_findings, judge

Row = dict[str, Any]
Truth = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """What came of one capture.

    rows
        Its findings.
    must
        What had to be found.
    missing, wrong_cause
        Of those: not found at this endpoint, or found with another cause.
    wrong
        Findings that the truth forbids or nothing explains.
    """

    rows: list[Row]
    must: list[Expectation]
    missing: list[Expectation]
    wrong_cause: list[Expectation]
    wrong: list[Row]

    def wrong_of(self, *, severity: str = "", grade: str = "") -> list[Row]:
        """Wrong findings of a severity, of a grade."""
        return [row for row in self.wrong if severity in ("", row["severity"]) and grade in ("", row["grade"])]


def end_text(address: str, port: int) -> str:
    """As truth files spell an end: 10.0.0.1:80, [2001:db8::1]:80."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def rows_of(observation: observer.Observation, known: Sequence[str] = ()) -> list[Row]:
    """Its findings as mappings; `flow` as in the truth's list of connections, None for populations."""
    spelled = {frozenset(flow.split(">")): flow for flow in known}
    rows = []
    for row in observation.findings.to_dict("records"):
        single = not pandas.isna(row["stream"])
        ends = [end_text(row[f"{side}_addr"], row[f"{side}_port"]) for side in ("client", "server")] if single else []
        flow = spelled.get(frozenset(ends), ">".join(ends)) if single else None
        rows.append({**row, "flow": flow, "frames": list(row["frames"])})
    return rows


def hold(truth: Truth, tap: str, observation: observer.Observation) -> Held:
    """Hold the findings of one tap's capture against the truth."""
    rows = rows_of(observation, list(truth.get("states", ())))
    expected = expected_findings(truth, tap)
    verdict = judge(expected, rows)
    wrong = [rows[index] for index in sorted({*verdict.forbidden, *verdict.unexplained})]
    return Held(rows, expected.must, verdict.missing, verdict.wrong_cause, wrong)


def hold_file(truth: Truth, tap: str, capture: Path) -> Held:
    """The same, reading the capture."""
    return hold(truth, tap, observer.read(str(capture)))


def unknown_codes(truth: Truth) -> set[str]:
    """Codes that a truth asks for and no finding has: a misspelt label would make a test that cannot fail."""
    asked = {code for one in expected_findings(truth, "middle").must for code in one.codes}
    return asked - set(collect(Finding))


def line(row: Row) -> str:
    """A finding in one line, for messages."""
    where = row["flow"] or "population"
    what = f"{row['severity']}/{row['grade']} {row['code']} {row['cause']} at {row['endpoint']}"
    return f"{what} of {where} (stream {row['stream']}), frames {row['frames'][:6]}: {row['summary']}"
