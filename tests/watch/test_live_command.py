"""`observer live` on a pipe: signals, files, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import observer
from observer.cli import main
from observer.commands.shared import BAD_USAGE, DONE, FOUND
from observer.watch.parts import load

ROOT = Path(__file__).resolve().parents[2]
QUEUE = ROOT / "captures" / "accept-queue-full.pcap"


@contextmanager
def live(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "observer", "live", "-r", "-", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def feed(process: subprocess.Popen[bytes], octets: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(octets)
    process.stdin.flush()


def until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_term_signal_sums_up_and_exits_with_0(tmp_path: Path) -> None:
    with live("-o", tmp_path / "out") as process:
        feed(process, QUEUE.read_bytes())
        until((tmp_path / "out" / "findings.jsonl").exists)
        until(lambda: b"half_established" in (tmp_path / "out" / "findings.jsonl").read_bytes())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == DONE, err
    assert b"PROBLEM confirmed half_established 10.0.1.2:40174 -> 10.0.2.2:5001 tcp.stream eq 5" in out
    assert b"\nConnections" in out and b"watching standard input" in err
    assert len(load(tmp_path / "out", "flows")) == 9


def test_hangup_goes_on_in_the_next_file_and_usr1_tells_statistics(tmp_path: Path) -> None:
    octets = QUEUE.read_bytes()
    half = 24
    for _ in range(40):  # whole records: their length stands at octet 8 of each
        half += 16 + int.from_bytes(octets[half + 8 : half + 12], "little")
    frames = tmp_path / "frames.pcapng"
    with live("-w", frames, "-o", tmp_path / "out") as process:
        feed(process, octets[:half])
        until(lambda: frames.exists() and frames.stat().st_size > 1000)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        until((tmp_path / "out" / "flows" / "run=0001" / "open.parquet").exists)
        feed(process, octets[half:])
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        _, err = process.communicate(timeout=60)
    assert process.returncode == DONE, err
    assert b"40 frames" in err and b"none lost" in err
    parts = [frames, tmp_path / "frames.2.pcapng"]
    assert [observer.read(part).capture.frames for part in parts] == [40, 43]
    together, whole = observer.read(parts), observer.read(QUEUE)
    assert together.flows.client_state.tolist() == whole.flows.client_state.tolist()


def test_json_lines_and_fail_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with live("--json", "--fail-on", "problem") as process:
        out, _ = process.communicate(QUEUE.read_bytes(), timeout=60)
    assert process.returncode == FOUND
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["change"] for line in lines} <= {"raised", "changed", "ended", "withdrawn"}
    assert ("accept_queue_overflow", "raised") in {(line["code"], line["change"]) for line in lines}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name an interface with -i"),
        (("-r", "-", "tcp"), "filter where it is captured"),
        (("-i", "nosuch0"), "nosuch0"),
    ],
)
def test_mistakes_are_sentences(arguments: tuple[str, ...], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["live", *arguments]) == BAD_USAGE
    err = capfd.readouterr().err
    assert words in err and "Traceback" not in err
