"""What another tap would have seen: findings may vanish there or lose their grade, but none becomes false."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

import observer
from tests.findings import truths
from tests.findings.vantages import CHANGES, Records, capture_of, held_after, parts_of, records_of
from tests.tcp import kernel_truth
from tests.tcp.kernel_truth import Case


@pytest.fixture(scope="module")
def own(captures: Path) -> list[Case]:
    found = [case for case in kernel_truth.own_captures(captures) if case.capture.suffix == ".pcap"]
    assert len(found) >= 25
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_becomes_false(own: list[Case], name: str) -> None:
    told, false = 0, []
    # The second half alone may leave too little of an endpoint to doubt a reset in its name: only what is sure counts.
    grades = ("confirmed",) if name == "from_half" else ("confirmed", "probable", "suspected")
    for case in own:
        held = held_after(CHANGES[name], case.truth, case.tap, case.capture)
        told += len(held.rows)
        if name != "clock_steps":
            assert all(pandas.isna(row["end"]) or row["begin"] <= row["end"] for row in held.rows), case.name
        false += [
            f"{case.name}: {truths.line(row)}"
            for row in held.wrong
            if row["severity"] != "info" and row["grade"] in grades
        ]
    assert not false, "\n" + "\n".join(false)
    assert told or name in ("client_only", "server_only")


def test_copies_change_no_finding(own: list[Case]) -> None:
    for case in own:
        once = _codes(records_of(case.capture))
        for name in ("twice_at_once", "twice_20us", "routed_twice"):
            assert _codes(list(CHANGES[name](records_of(case.capture)))) == once, (case.name, name)


def _codes(records: Records) -> list[tuple[str, str, str]]:
    findings = observer.read(capture_of(records)).findings
    return sorted(zip(findings.code, findings.grade, findings.endpoint, strict=True))


def test_a_direction_is_one_direction(own: list[Case]) -> None:
    for case in own:
        records = records_of(case.capture)
        halves = [list(CHANGES[name](records)) for name in ("client_only", "server_only")]
        segments = [sum(parts_of(record.octets) is not None for record in some) for some in (records, *halves)]
        assert segments[0] == segments[1] + segments[2]


def test_offload_joins_what_belongs_together(captures: Path) -> None:
    records = records_of(captures / "loss-recovered.pcap")
    joined = list(CHANGES["offloaded"](records))
    assert len(joined) < len(records)
    assert max(record.wire for record in joined) > 1514
    octets = [observer.read(capture_of(some)).flows.client_octets.sum() for some in (records, joined)]
    assert octets[0] == octets[1]
