"""Agreement with Wireshark's tools on real captures: frame counts of all, every frame's cells of a sample."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest
from reading import read

SHARED = Path(os.environ.get("OBSERVER_SHARED") or Path(__file__).parents[3] / "shared")
CORPUS = SHARED / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"{CORPUS} is not there")


def captures() -> list[Path]:
    return sorted(path for folder in CORPUS.iterdir() if folder.is_dir() for path in folder.iterdir())


@pytest.mark.skipif(not shutil.which("capinfos"), reason="capinfos (Wireshark) is not installed")
def test_frame_counts_of_every_capture() -> None:
    paths = captures()
    out = subprocess.run(
        ["capinfos", "-T", "-r", "-m", "-c", *map(str, paths)], capture_output=True, text=True, check=False
    ).stdout
    truth = {name: int(count) for name, count in (line.rsplit(",", 1) for line in out.splitlines())}
    ours = {str(path): len(read(path).frames) for path in paths}
    differing = {name: (count, truth.get(name)) for name, count in ours.items() if truth.get(name) != count}
    print(f"{len(paths)} captures, {sum(ours.values())} frames, {len(differing)} differ from capinfos")
    assert differing == {}


def test_times_of_every_tcp_frame_as_wireshark_has_them() -> None:
    with gzip.open(CORPUS / "tshark_packets.csv.gz", "rt", newline="") as file:
        truth: dict[str, dict[int, int]] = {}
        for row in csv.DictReader(file):
            truth.setdefault(row["pcap"], {})[int(row["frame"])] = int(row["time_ns"])
    frames = 0
    for name, times in truth.items():
        ours = read(CORPUS / name).frames
        assert {frame: ours[frame - 1].time_ns for frame in times} == times, name
        frames += len(times)
    print(f"{frames} frames of {len(truth)} captures have Wireshark's times")
    assert frames


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark (Wireshark) is not installed")
def test_times_and_lengths_of_a_sample_as_tshark_has_them() -> None:
    frames = 0
    for path in captures()[::36]:
        fields = [f"-eframe.{name}" for name in ("number", "time_epoch", "len", "cap_len")]
        command = ["tshark", "-n", "-r", str(path), "-Tfields", *fields]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        truth = [line.split("\t") for line in out.splitlines()]
        ours = [
            [str(i), one.time_ns, str(one.wire), str(len(one.octets))] for i, one in enumerate(read(path).frames, 1)
        ]
        theirs = [[number, int(Decimal(time) * 10**9), wire, captured] for number, time, wire, captured in truth]
        assert ours == theirs, path
        frames += len(ours)
    assert frames > 100


def test_as_scapy_reads_them() -> None:
    scapy = pytest.importorskip("scapy.utils")
    for path in captures()[::60]:
        with scapy.RawPcapReader(str(path)) as reader:
            theirs = [octets for octets, _ in reader]
        assert [one.octets for one in read(path).frames] == theirs, path
