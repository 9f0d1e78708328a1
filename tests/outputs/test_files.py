"""Table files: read back with other readers, they say what was written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import output_samples as samples
import pandas
import pyarrow.parquet
import pytest

from observer import schema
from observer.errors import OptionError
from observer.outputs.files import write_tables
from observer.outputs.zeek import FIELDS, uid
from observer.registry import Writer, choose, collect

NAMES = ["csv", "parquet", "jsonl", "zeek"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_tables({"flows": samples.flows(250)}, tmp_path / "new" / "folder", choose(Writer, NAMES), batch_rows=100)
    return tmp_path / "new" / "folder"


@pytest.fixture
def rows() -> list[dict[str, object]]:
    return schema.to_arrow("flows", samples.flows(250)).to_pylist()


def test_formats_are_found_by_their_constants() -> None:
    assert sorted(collect(Writer)) == sorted(NAMES)
    with pytest.raises(OptionError, match="format 'xml' is unknown; there are csv, "):
        choose(Writer, ["xml"])


def test_only_whole_files_are_left(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["conn.log", "flows.csv", "flows.jsonl", "flows.parquet"]


def test_csv(written: Path, rows: list[dict[str, object]]) -> None:
    with (written / "flows.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert list(told[0]) == schema.TABLES["flows"].names()
    for row, expected in zip(told, rows, strict=True):
        assert row["history"] == expected["history"]
        assert row["tap"] == (expected["tap"] or "")
        assert pandas.Timestamp(row["first_time"]) == expected["first_time"]
        assert row["first_time"].startswith("2026-11-21T02:12:03.123") and row["first_time"].endswith("Z")
        assert row["client_mss"] == ("" if expected["client_mss"] is None else str(expected["client_mss"]))


@pytest.mark.parametrize("time_ns", [0, -1, 999_999_999, -(2**63) + 10**9, 2**63 - 1, samples.START_NS])
def test_times_are_iso_8601_to_the_nanosecond(tmp_path: Path, time_ns: int) -> None:
    flows = samples.flows(2, first_time=[time_ns, schema.NULL_TIME])
    write_tables({"flows": flows}, tmp_path, choose(Writer, ["csv", "jsonl"]))
    with (tmp_path / "flows.csv").open(newline="") as file:
        told = [row["first_time"] for row in csv.DictReader(file)]
    assert len(told[0]) == 30 and told[1] == ""
    assert pandas.Timestamp(told[0]).value == time_ns
    assert json.loads((tmp_path / "flows.jsonl").read_text().splitlines()[0])["first_time"] == told[0]


def test_csv_without_need_has_no_quotes(tmp_path: Path) -> None:
    plain = schema.Coded([0, 0, 0], ["ShA"])
    flows = samples.flows(3, history=plain, file=plain, encapsulation=[0, 1, 0])
    write_tables({"flows": flows}, tmp_path, choose(Writer, ["csv"]))
    assert '"' not in (tmp_path / "flows.csv").read_text()


def test_parquet(written: Path, rows: list[dict[str, object]]) -> None:
    assert pyarrow.parquet.read_table(written / "flows.parquet").to_pylist() == rows
    frame = pandas.read_parquet(written / "flows.parquet")
    assert str(frame.client_state.dtype) == "category"


def test_json_lines(written: Path, rows: list[dict[str, object]]) -> None:
    told = [json.loads(line) for line in (written / "flows.jsonl").read_text().splitlines()]
    for row, expected in zip(told, rows, strict=True):
        for name, value in expected.items():
            if not name.endswith("_time"):
                assert row[name] == value, name
        assert pandas.Timestamp(row["last_time"]) == expected["last_time"]


def test_zeek(written: Path, rows: list[dict[str, object]]) -> None:
    flows = samples.flows(250, history=schema.Coded([0] * 250, ["ShADadfF"]))
    write_tables({"flows": flows}, written, choose(Writer, ["zeek"]))
    lines = (written / "conn.log").read_text().splitlines()
    assert lines[0] == r"#separator \x09"
    assert [line.split("\t")[0] for line in lines[1:8]] == [
        "#set_separator", "#empty_field", "#unset_field", "#path", "#open", "#fields", "#types",
    ]  # fmt: skip
    assert lines[-1].startswith("#close\t")
    assert lines[6].split("\t")[1:] == [name for name, _ in FIELDS]
    told = [dict(zip(lines[6].split("\t")[1:], line.split("\t"), strict=True)) for line in lines[8:-1]]
    assert len(told) == 250
    assert told[0]["duration"] == told[0]["orig_bytes"] == "-"  # no time passed: as Zeek
    second = told[1]
    assert second["ts"] == "1795227123.123457" and second["duration"] == "0.001234"
    assert second["orig_bytes"] == str(rows[1]["client_unique_octets"])
    assert (second["id.orig_h"], second["id.resp_p"]) == (rows[1]["client_addr"], str(rows[1]["server_port"]))
    assert len({row["uid"] for row in told}) == 250
    assert uid("1:abc", 1, 2) == uid("1:abc", 1, 2) != uid("1:abc", 1, 3)


def test_tables_without_rows(tmp_path: Path) -> None:
    write_tables({"flows": samples.flows(0)}, tmp_path, choose(Writer, NAMES))
    assert (tmp_path / "flows.csv").read_text().count("\n") == 1
    assert (tmp_path / "flows.jsonl").read_text() == ""
    assert pyarrow.parquet.read_table(tmp_path / "flows.parquet").num_rows == 0
    assert "#close" in (tmp_path / "conn.log").read_text()


def test_zeek_has_no_log_of_events(tmp_path: Path) -> None:
    events = schema.Columns("events", 0, {"stream": [], "endpoint": [], "time": [], "event": schema.Coded([], [])})
    assert write_tables({"events": events}, tmp_path, choose(Writer, ["zeek"])) == []


def test_zeek_notices(tmp_path: Path) -> None:
    rows = [
        samples.verdict(stream=5, cause="accept_queue_full", summary="a\tb"),
        samples.verdict("syn_flood", None, client=None, begin=None, grade="probable"),
    ]
    write_tables({"findings": samples.findings(*rows)}, tmp_path, choose(Writer, ["zeek"]))
    lines = (tmp_path / "notice.log").read_text().splitlines()
    names = lines[6].split("\t")[1:]
    assert (
        lines[4] == "#path\tnotice" and len(lines[7].split("\t")[1:]) == len(names) and lines[-1].startswith("#close")
    )
    told = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[8:-1]]
    population, single = told
    assert (single["ts"], single["id.orig_h"], single["id.orig_p"]) == ("1795227124.143456", "10.0.1.2", "40005")
    assert (single["note"], single["msg"]) == ("TCP::Half_Established", "a\\x09b")
    assert single["sub"] == "confirmed, accept_queue_full, tcp.stream eq 5"
    assert (population["ts"], population["id.orig_h"], population["src"]) == ("-", "-", "-")
    assert (population["note"], population["dst"], population["p"]) == ("TCP::Syn_Flood", "10.0.1.9", "5001")


def test_evidence_of_findings_is_a_list(tmp_path: Path) -> None:
    findings = schema.Columns("findings", 1, {
        "code": schema.Coded([0], ["half_open"]), "severity": [2], "grade": [0], "frames": [[3, 5]], "summary": ["s"],
    })  # fmt: skip
    write_tables({"findings": findings}, tmp_path, choose(Writer, ["csv", "jsonl", "parquet"]))
    assert json.loads((tmp_path / "findings.jsonl").read_text())["frames"] == [3, 5]
    with (tmp_path / "findings.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["frames"] == "3 5"


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write into"):
        write_tables({"flows": samples.flows(1)}, tmp_path / "file" / "x", choose(Writer, ["csv"]))


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = schema.Columns("flows", 5, {})
    with pytest.raises(Exception, match="lacks the columns"):
        write_tables({"flows": broken}, tmp_path, choose(Writer, NAMES))
    assert list(tmp_path.iterdir()) == []
