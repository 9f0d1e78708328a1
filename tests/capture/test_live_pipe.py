"""Captures that come down a pipe bit by bit: a poll never waits, and in the end all is there."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from build import frames, pcap
from hypothesis import given
from hypothesis import strategies as some
from live_net import rows
from reading import Got, read

from observer.capture.live_pipe import GrowingCapture, open_growing
from observer.errors import CaptureError

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
PLAIN = pcap(frames(200), nano=True)
PCAPNG = next(path for path in sorted(CAPTURES.iterdir()) if path.suffix == ".pcapng").read_bytes()


def packed(form: str) -> bytes:
    if form == "gzip":
        return gzip.compress(PLAIN)
    if form == "zstd":
        zstandard = pytest.importorskip("zstandard")
        return bytes(zstandard.ZstdCompressor().compress(PLAIN))
    return PCAPNG if form == "pcapng" else PLAIN


def everything(live: GrowingCapture) -> list[Got]:
    """What is there now."""
    found: list[Got] = []
    while (chunk := live.poll(0)) is not None:
        found += rows(chunk)
    return found


@pytest.mark.parametrize("form", ["pcap", "pcapng", "gzip", "zstd"])
@given(cuts=some.lists(some.floats(0, 1), max_size=6))
def test_pieces_of_any_size_give_what_the_whole_gives(form: str, cuts: list[float]) -> None:
    """Between the pieces a poll finds nothing, and changes nothing."""
    octets = packed(form)
    places = sorted({0, len(octets), *(int(cut * len(octets)) for cut in cuts)})
    receiving, sending = os.pipe()
    found: list[Got] = []
    with os.fdopen(receiving, "rb", buffering=0) as pipe, open_growing(pipe) as live:
        assert everything(live) == []
        for i, j in itertools.pairwise(places):
            for k in range(i, j, 4096):  # no more than a pipe surely holds
                os.write(sending, octets[k : min(k + 4096, j)])
                found += everything(live)
            assert not live.finished
        os.close(sending)
        found += everything(live)
        assert live.finished
        assert live.poll(0) is None
        expected = read(octets)
        assert found == expected.frames
        assert live.frames == len(found)
        assert live.damages == expected.damages
        assert live.link_types == expected.files[0].link_types
        assert live.statistics()[0].frames == len(found)
        assert live.descriptors() == []


def test_a_poll_waits_no_longer_than_it_may_and_ends_when_something_comes() -> None:
    receiving, sending = os.pipe()
    with os.fdopen(receiving, "rb", buffering=0) as pipe, open_growing(pipe) as live:
        begin = time.monotonic()
        assert live.poll(0.05) is None
        assert time.monotonic() - begin >= 0.05
        timer = threading.Timer(0.1, os.write, (sending, PLAIN[:1000]))
        timer.start()
        assert live.poll(60) is not None
        assert time.monotonic() - begin < 50
        timer.join()
        assert live.descriptors() == [receiving]
        os.close(sending)


def test_a_cut_stream_is_told_and_what_came_before_is_there() -> None:
    receiving, sending = os.pipe()
    os.write(sending, PLAIN[:-10])
    os.close(sending)
    with os.fdopen(receiving, "rb", buffering=0) as pipe, open_growing(pipe) as live:
        assert len(everything(live)) == 199
        [damage] = live.damages
        assert "cut" in str(damage)


def test_what_is_no_capture_is_said() -> None:
    receiving, sending = os.pipe()
    os.write(sending, b"tcpdump: listening on eth0\n")
    os.close(sending)
    with (
        os.fdopen(receiving, "rb", buffering=0) as pipe,
        open_growing(pipe) as live,
        pytest.raises(CaptureError, match="no pcap or pcapng capture"),
    ):
        live.poll(1)


def test_a_named_pipe_may_be_opened_before_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with open_growing(path) as live:
        assert live.poll(0) is None
        assert live.poll(0.02) is None
        with path.open("wb", buffering=0) as writer:
            assert live.poll(0) is None
            writer.write(PLAIN[:5000])
            assert len(everything(live)) > 0
            assert not live.finished
        everything(live)
        assert live.finished


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(PLAIN)
    with open_growing(str(path)) as live:
        assert everything(live) == read(PLAIN).frames
        assert live.finished


def test_standard_input() -> None:
    program = (
        "from observer.capture.live_pipe import open_growing\n"
        "live = open_growing('-')\n"
        "while not live.finished: live.poll(0.1)\n"
        "print(live.frames, live.files[0].name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=PLAIN, capture_output=True, check=True, timeout=120)
    assert done.stdout.decode().split("\n")[0] == "200 standard input"


def test_what_cannot_be_followed(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such file"):
        open_growing(tmp_path / "none")
    with pytest.raises(CaptureError, match="descriptor"):
        open_growing(object())
