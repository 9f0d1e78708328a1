"""kill -9 while tables are written: what was written stays whole and readable, and the next run goes on beside it."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest

import observer
from observer.watch.parts import KEPT, load

ROOT = Path(__file__).resolve().parents[2]
PILE = ROOT / "captures" / "time-wait-pileup.pcap.gz"
PROGRAM = """
import sys, time
from observer import kernels
from observer.capture.live_pipe import open_growing
from observer.watch import Live
from observer.watch import loop
from observer.watch.parts import Parts
loop.TICK_S = 0.02
parts = Parts(__import__("pathlib").Path(sys.argv[1]), steady_ns=time.monotonic_ns, complain=print, every_s=0.02)
live = Live(open_growing("-"), engine=kernels.Interpreted(), watchers=[parts], limit=100)
print("ready", flush=True)
live.run()
"""


def run_and_kill(folder: Path, after_s: float) -> None:
    """Feed a capture slowly, and kill the observer so long after it began to look."""
    octets = gzip.decompress(PILE.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        begun, at = time.monotonic(), 0
        while time.monotonic() - begun < after_s:
            process.stdin.write(octets[at : at + 1500])
            process.stdin.flush()
            at += 1500
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("seed", range(int(os.environ.get("OBSERVER_CRASHES", "4"))))
def test_what_was_written_stays(tmp_path: Path, seed: int) -> None:
    whole = observer.read(PILE).flows
    for run in (1, 2):
        run_and_kill(tmp_path, random.Random(seed * 2 + run).uniform(0.4, 1.6))
        for path in tmp_path.glob("*/run=*/*.parquet"):
            if not path.name.startswith("."):
                pandas.read_parquet(path)
        if not list((tmp_path / "flows").glob(f"run={run:04}/*.parquet")):
            continue  # killed before the first writing
        flows = load(tmp_path, "flows", run=run)
        assert flows.stream.tolist() == list(range(len(flows)))
        assert flows.first_frame.tolist() == whole.first_frame[: len(flows)].tolist()
        for table in KEPT[1:]:
            assert set(load(tmp_path, table, run=run).stream) <= set(flows.stream)
    assert load(tmp_path, "flows").run.nunique() >= 1
