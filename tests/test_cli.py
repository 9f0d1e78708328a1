"""The command line: exit statuses, sentences instead of tracebacks, filters, files, pipes, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from observer.cli import main
from observer.commands.read import ON_DEMAND, WRITTEN
from observer.commands.shared import BAD_USAGE, DAMAGED, DONE, FOUND

CAPTURES = Path(__file__).parent.parent / "captures"
CAPTURE = CAPTURES / "orderly-close-client.pcap"
QUEUE = CAPTURES / "accept-queue-full.pcap"

pytestmark = pytest.mark.skipif(not QUEUE.exists(), reason="captures/ is not there: run captures/make.py")
COMMAND = [sys.executable, "-m", "observer"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", CAPTURE) == DONE
    out, err = capsys.readouterr()
    assert "11 TCP segments in 1 connection; every frame decoded" in out
    assert "TIME-WAIT" in out and "observer explain" in out
    assert err == "" and all(line.isprintable() for line in out.splitlines())


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", QUEUE, "--json") == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["connections"] == 9 and told["segments"] == 83 and not told["damaged"]


def test_findings_stand_before_the_connections(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CAPTURES)  # a path stands unbroken, as long as it may be
    assert run("read", QUEUE.name) == DONE
    out = capsys.readouterr().out
    assert 0 < out.index("\nFindings") < out.index("\nConnections")
    assert "10.0.2.2:5001" in out and "Wireshark: tcp.stream in {5..8}" in out and "Remedy: " in out
    assert all(line.isprintable() and len(line) <= 80 for line in out.splitlines())


def test_findings_in_json_single_and_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", QUEUE, "--json") == DONE
    told = json.loads(capsys.readouterr().out)
    singles = {(row["code"], row["stream"]) for row in told["findings"]}
    assert {("half_established", stream) for stream in (5, 6, 7, 8)} <= singles
    members = sum(one["findings"] + sum(one["absorbed"].values()) for one in told["finding_groups"])
    assert members == len(told["findings"])


def test_one_finding_and_its_connections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas

    assert run("read", QUEUE, "--finding", "half-established", "--json", "-o", tmp_path) == DONE
    told = json.loads(capsys.readouterr().out)
    assert {row["code"] for row in told["findings"]} == {"half_established"}
    assert told["connections"] == 4 and told["selection"] == "finding half_established"
    findings, flows = (pandas.read_csv(tmp_path / f"{name}.csv") for name in ("findings", "flows"))
    assert sorted(findings.stream) == sorted(flows.stream) == [5, 6, 7, 8]
    assert run("read", QUEUE, "--finding", "half_established", "--state", "ESTABLISHED", "--json") == DONE
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_findings_fail_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", QUEUE, "--fail-on", "problem") == FOUND
    assert run("read", QUEUE, "--fail-on", "problem", "--port", 80) == DONE
    assert run("read", CAPTURE, "--fail-on", "warning") == DONE
    assert run("read", CAPTURES / "reset-on-close.pcap", "--fail-on", "problem") == DONE
    assert run("read", CAPTURES / "reset-on-close.pcap", "--fail-on", "warning") == FOUND
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(QUEUE.read_bytes()[:-10])
    assert run("read", cut, "--fail-on", "problem") == FOUND
    assert "Damage" in capsys.readouterr().out


def test_filters_narrow_summary_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas

    status = run("read", QUEUE, "--state", "server:CLOSED", "--host", "10.0.0.0/8", "--port", 5001, "--json",
                 "-o", tmp_path, "--format", "parquet,zeek", "--table", "flows,transitions")  # fmt: skip
    assert status == DONE
    told = json.loads(capsys.readouterr().out)
    flows = pandas.read_parquet(tmp_path / "flows.parquet")
    transitions = pandas.read_parquet(tmp_path / "transitions.parquet")
    assert 0 < len(flows) == told["connections"] < told["connections_in_capture"]
    assert set(transitions.stream) == set(flows.stream)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conn.log", "flows.parquet", "transitions.parquet"]


def test_tables_agree_with_each_other(tmp_path: Path) -> None:
    import pandas

    assert run("read", QUEUE, "-o", tmp_path, "--format", "csv,jsonl", "--table", "flows,packets,events") == DONE
    flows, packets = (pandas.read_csv(tmp_path / f"{name}.csv") for name in ("flows", "packets"))
    assert packets.groupby("stream").size().tolist() == (flows.client_packets + flows.server_packets).tolist()
    assert packets.length.sum() == flows.client_octets.sum() + flows.server_octets.sum()
    last = packets.groupby("stream").last()
    assert len(last) == len(flows) == len(pandas.read_json(tmp_path / "flows.jsonl", lines=True))


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", CAPTURE, 0) == DONE
    out = capsys.readouterr().out
    assert "SYN-SENT" in out and "connect() returns" in out and "FIN,ACK" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("form", ["text", "markdown", "dot"])
def test_states(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("states", "--format", form) == DONE
    assert "SYN-RECEIVED" in capsys.readouterr().out


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "flows") == DONE
    assert "community_id" in capsys.readouterr().out
    assert run("schema", "--markdown") == DONE
    assert "| `proof_frame` |" in capsys.readouterr().out


def test_every_finding_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    from observer.registry import Finding, collect

    assert run("findings") == DONE
    out = capsys.readouterr().out
    known = collect(Finding)
    assert [line.split("  ")[0] for line in out.splitlines() if line[:1] not in (" ", "")] == sorted(
        known, key=lambda name: (known[name].judge is None, name)
    )
    assert all(len(line) <= 80 and line.isprintable() for line in out.splitlines())
    words = " ".join(out.split())
    for finding in known.values():
        for text in (finding.title, finding.definition, finding.remedy, finding.source, *finding.causes.values()):
            assert " ".join(text.split()) in words, finding.name
    assert run("findings", "half-open", "--markdown") == DONE
    assert capsys.readouterr().out.count("\n") == 3


def test_all_tables_can_be_written(tmp_path: Path) -> None:
    from observer.schema import TABLES

    assert set(TABLES) == {*WRITTEN, *ON_DEMAND}
    assert run("read", QUEUE, "-o", tmp_path, "--format", "csv,parquet,jsonl", "--table", ",".join(TABLES)) == DONE
    for suffix in ("csv", "parquet", "jsonl"):
        assert {path.stem for path in tmp_path.glob(f"*.{suffix}")} == set(TABLES)
    assert run("read", QUEUE, "-o", tmp_path / "usual") == DONE
    assert {path.stem for path in (tmp_path / "usual").iterdir()} == set(WRITTEN) >= {"findings", "calls"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["read"], "Missing argument 'FILE...'. Help: observer read --help"),
        (["nonsense"], "No such command"),
        (["read", "/no/such.pcap"], "/no/such.pcap"),
        (["read", str(CAPTURES)], "is a directory"),
        (["read", __file__], "test_cli.py"),
        (["read", str(CAPTURE), "--host", "x"], "'x' is no address"),
        (["read", str(CAPTURE), "--port", "99999"], "port 99999 does not exist"),
        (["read", str(CAPTURE), "--state", "x"], "'x' is no state"),
        (["read", str(CAPTURE), "--since", "x"], "'x' is no time"),
        (["read", str(CAPTURE), "--format", "csv"], "--format needs -o DIR"),
        (["read", str(CAPTURE), "-o", "x", "--format", "xml"], "format 'xml' is unknown"),
        (["read", str(CAPTURE), "-o", "x", "--table", "x"], "there is no table 'x'"),
        (["read", str(CAPTURE), "--finding", "x"], "finding 'x' is unknown; there are "),
        (["read", str(CAPTURE), "--fail-on", "info"], "'info' is not one of"),
        (["read", str(CAPTURE), "--time-wait", "-1"], "time_wait_s is -1.0"),
        (["explain", str(CAPTURE), "7"], "there is no stream 7"),
        (["explain", str(CAPTURE), "--", "-1"], "there is no stream -1"),
        (["schema", "x"], "there is no table 'x'"),
    ],
)
def test_bad_usage_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == BAD_USAGE
    out, err = capsys.readouterr()
    assert out == "" and sentence in err
    assert err.startswith("observer: ") and err.count("\n") == 1
    assert not Path("x").exists()


def test_escape_sequences_in_names_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tmp_path / "a\x1b[31m\u202eb.pcap"
    assert run("read", name) == BAD_USAGE
    assert capsys.readouterr().err.strip().isprintable()
    shutil.copy(CAPTURE, name)
    assert run("read", name) == DONE
    out = capsys.readouterr().out
    assert "a\\x1b[31m\\u202eb.pcap" in out and all(line.isprintable() for line in out.splitlines())


def test_a_cut_capture_is_used_up_to_the_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(CAPTURE.read_bytes()[:-10])
    assert run("read", cut) == DAMAGED
    out = capsys.readouterr().out
    assert "Damage" in out and "10 TCP segments in 1 connection" in out
    assert run("explain", cut, 0) == DAMAGED


def test_several_files_are_one_capture(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", CAPTURE, QUEUE) == DONE
    out = capsys.readouterr().out
    assert out.startswith("2 files") and "94 TCP segments in 10 connections" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == DONE
    assert capsys.readouterr().out.startswith("observer ")


def test_standard_input() -> None:
    with QUEUE.open("rb") as file:
        told = subprocess.run(
            [*COMMAND, "read", "-"], stdin=file, capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
    assert "83 TCP segments" in told.stdout and "Next:" not in told.stdout


def test_a_reader_that_has_seen_enough() -> None:
    process = subprocess.Popen(
        [*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == DONE and err == ""


def test_interruption_delivers_what_was_read() -> None:
    process = subprocess.Popen(
        [*COMMAND, "read", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdin and process.stdout
    process.stdin.write(QUEUE.read_bytes())
    process.stdin.flush()
    time.sleep(2.0)  # it has started and read what there is, and waits for more
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == DAMAGED, err
    assert b"83 TCP segments" in out and b"stopped by Ctrl-C" in out


def test_a_small_capture_imports_nothing_heavy() -> None:
    code = (
        "import sys; from observer.cli import main; main(sys.argv[1:]);"
        "heavy = 'pandas', 'pyarrow', 'rich', 'matplotlib', 'scapy', 'numba', 'llvmlite';"
        "print([name for name in heavy if name in sys.modules])"
    )
    for arguments in (["read", str(CAPTURE)], ["explain", str(CAPTURE), "0"], ["states"]):
        told = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
        assert told.stdout.endswith("[]\n"), told.stdout + told.stderr
