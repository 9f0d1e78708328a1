"""Frames written as they come: the file is whole after every chunk, and as far as it goes when the disk is full."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from build import Frame, frames, pcap
from reading import Got, expected, read

from observer.capture import open_capture
from observer.capture.chunk import FileInfo, Interface
from observer.capture.live_writer import PcapngWriter
from observer.errors import CaptureError

SOME = frames(500)
speeds = pytest.mark.parametrize("compiled", [True, False])


def live_info() -> FileInfo:
    return FileInfo("eth0", format="live", interfaces=[Interface(1, name="eth0", snaplen=96)])


@speeds
def test_whole_after_every_chunk(tmp_path: Path, compiled: bool) -> None:
    path, count = tmp_path / "a.pcapng", 0
    with (
        open_capture(pcap(SOME), records_max=50) as capture,
        PcapngWriter(path, live_info(), compiled=compiled) as writer,
    ):
        for chunk in capture:
            writer.write(chunk)
            count += chunk.count
            assert path.stat().st_size == writer.octets
            now = read(path)
            assert now.frames == expected(SOME[:count])
            assert now.damages == []
    assert writer.frames == count == len(SOME)
    [interface] = read(path).files[0].interfaces
    assert (interface.name, interface.snaplen, interface.resolution) == ("eth0", 96, "1e-9")


@speeds
def test_what_was_cut_and_several_link_types(tmp_path: Path, compiled: bool) -> None:
    """Frames of a capture that does not tell interfaces get one for each link type."""
    first, second = (
        pcap([Frame(5, b"", 60), Frame(7, b"abc", 99)], nano=True),
        pcap([Frame(6, b"abcd")], nano=True, link=101),
    )
    path = tmp_path / "a.pcapng"
    with open_capture([first, second]) as capture, PcapngWriter(path, FileInfo("x"), compiled=compiled) as writer:
        for chunk in capture:
            writer.write(chunk)
    written = read(path)
    assert written.frames == [Got(b"", 5, 60, 1), Got(b"abcd", 6, 4, 101), Got(b"abc", 7, 99, 1)]
    assert written.files[0].link_types == [1, 101]


def test_rotated(tmp_path: Path) -> None:
    info = live_info()
    with open_capture(pcap(SOME), records_max=100) as capture:
        writer = PcapngWriter(tmp_path / "0", info)
        for number, chunk in enumerate(capture):
            if number:
                writer.rotate(tmp_path / str(number))
            writer.write(chunk)
        info.received, info.dropped_os, info.dropped_interface = 600, 90, 10
        writer.close()
        writer.close()
    parts = [read(tmp_path / str(number)) for number in range(5)]
    assert [frame for part in parts for frame in part.frames] == expected(SOME)
    assert not any(part.damages for part in parts)
    last = parts[-1].files[0]
    assert (last.received, last.dropped_os, last.dropped_interface) == (600, 90, 10)
    assert parts[0].files[0].received is None


def test_a_full_disk_leaves_whole_frames(tmp_path: Path) -> None:
    """A limit of the process stands for the disk's: the kernel writes what fits, then refuses."""
    path, written = tmp_path / "a.pcapng", 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_capture(pcap(SOME), records_max=50) as capture, PcapngWriter(path, live_info()) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, limits[1]))
        try:
            with pytest.raises(CaptureError, match=r"a\.pcapng: cannot be written any further") as told:
                for chunk in capture:
                    writer.write(chunk)
                    written += chunk.count
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(told.value)
        assert writer.frames == written > 0
    after = read(path)
    assert after.frames == expected(SOME[:written])
    assert after.damages == []


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="none"):
        PcapngWriter(tmp_path / "none" / "a.pcapng", live_info())


def test_others_may_not_read_what_was_captured(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        PcapngWriter(tmp_path / "a.pcapng", live_info()).close()
    finally:
        os.umask(before)
    assert (tmp_path / "a.pcapng").stat().st_mode & 0o007 == 0


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
def test_wireshark_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    some = [Frame(1_700_000_000_123_456_789 + i, bytes(14 + i), 2000) for i in range(9)]
    with open_capture(pcap(some, nano=True)) as capture, PcapngWriter(path, live_info()) as writer:
        for chunk in capture:
            writer.write(chunk)
    command = ["tshark", "-r", str(path), "-T", "fields"]
    for name in ("frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_name"):
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0].replace(".", "") for line in lines] == [str(one.time_ns) for one in some]
    assert [line[1:] for line in lines] == [[str(14 + i), "2000", "eth0"] for i in range(9)]
