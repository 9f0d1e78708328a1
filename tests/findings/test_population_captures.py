"""Population findings on real captures: those of the project, and the kernel's truth where it is there."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

import observer
from observer import Options

POPULATIONS = frozenset({
    "time_wait_pileup", "port_exhaustion", "accept_queue_overflow", "syn_flood", "close_wait_pileup",
    "fin_wait_2_pileup", "connection_leak", "reset_storm",
})  # fmt: skip
EXPECTED = {
    "abort-on-overflow.pcap": {"accept_queue_overflow"},
    "accept-queue-full.pcap": {"accept_queue_overflow"},
    "accept-queue-full-late.pcap": {"accept_queue_overflow"},
    "accept-queue-full-receive.pcap": {"accept_queue_overflow"},
    "accept-resumes.pcap": {"accept_queue_overflow"},
    "syn-flood.pcap": {"syn_flood"},
}
"""What the scenarios of captures/README.md contain by construction; all others contain no population."""


def populations(path: Path, **options: object) -> pandas.DataFrame:
    table = observer.read(path, options=Options(**options)).findings  # type: ignore[arg-type]
    return table[table.code.isin(POPULATIONS)]


def test_each_capture_of_the_project_has_its_populations_and_no_other(captures: Path) -> None:
    paths = sorted(captures.glob("*.pcap*"))
    assert {path.name for path in paths} >= set(EXPECTED)
    for path in paths:
        table = populations(path)
        assert set(table.code) == EXPECTED.get(path.name, set()), path.name
        assert table.stream.isna().all()
        assert (table.endpoint == "server").all()


def test_a_pile_up_at_a_lower_threshold(captures: Path) -> None:
    path = captures / "time-wait-pileup.pcap.gz"
    (row,) = populations(path, time_wait_pileup=300).itertuples()
    assert (row.code, row.endpoint, row.cause) == ("time_wait_pileup", "client", "client_closes_first")
    assert (row.server_port, pandas.isna(row.client_port), pandas.isna(row.end)) == (5001, True, True)
    assert row.summary.startswith("300 connections in TIME-WAIT at once")
    assert populations(path, time_wait_pileup=301).empty
    assert set(populations(path, ephemeral_ports=(32768, 33067)).code) == set()  # its ports lie elsewhere


def test_flood_names_evidence_and_sources(captures: Path) -> None:
    (row,) = populations(captures / "syn-flood.pcap").itertuples()
    assert (row.grade, row.severity, row.cause) == ("confirmed", "problem", "never_completed")
    assert "200 openings" in row.summary and "from 1 address" in row.summary
    assert len(row.frames) >= 3 and row.frames[0] == 1


LABELS = {"accept_queue_reset": "accept_queue_overflow", "half_established": "accept_queue_overflow"}


@pytest.mark.parametrize("tap", ["client", "middle", "server"])
def test_kernel_truth_has_overflows_where_its_queues_were_full_and_nothing_else(shared: Path, tap: str) -> None:
    import json

    seen = 0
    for path in sorted((shared / "kernel-truth").glob(f"*.{tap}.pcap")):
        truth = json.loads(path.with_name(path.name.replace(f".{tap}.pcap", ".truth.json")).read_text())
        full = [
            entry for entry in truth["must_find"]
            if tap in entry["vantages"] and LABELS.get(entry["label"]) and entry["cause"] != "final_ack_lost"
            and entry.get("level", "must") == "must"
        ]  # fmt: skip
        table = populations(path)
        assert set(table.code) <= {"accept_queue_overflow"}, path.name
        assert ("accept_queue_overflow" in set(table.code)) == bool(full), path.name
        seen += len(table)
    assert seen
