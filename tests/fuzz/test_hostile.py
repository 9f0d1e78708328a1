"""Inputs made to hurt: collisions, endless fragments, bombs, escape sequences, a pipe that never ends."""

from __future__ import annotations

import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from mutate import ethernet, ipv4, ipv6, tcp, wrappings
from seeds import ETHERNET, NASTY, ROOT, Frame, write_pcap, write_pcapng

import observer
from observer import kernels

START_NS = 1_700_000_000_000_000_000
SYN, ACK = 2, 16


def segment(source: int, target: int, ports: tuple[int, int], seq: int, flags: int = SYN) -> bytes:
    """An Ethernet frame with one segment without payload."""
    head = struct.pack("!HHIIHHHH", *ports, seq, 0, 5 << 12 | flags, 64240, 0, 0)
    return ethernet(ipv4(head, ends=struct.pack("!II", source, target)))


def capture(octets: list[bytes], step_ns: int = 1000) -> bytes:
    return write_pcap([Frame(START_NS + i * step_ns, one, len(one)) for i, one in enumerate(octets)], ETHERNET)


def reading_time_s(data: bytes) -> float:
    """The best of three readings, compiled."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        observer.read(io.BytesIO(data), engine=kernels.Compiled())
        times.append(time.perf_counter() - begin)
    return min(times)


def run(*arguments: str | bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "observer", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, check=False, cwd=cwd, timeout=60, env=environment)  # type: ignore[arg-type]


def controls(output: bytes) -> list[str]:
    """Characters that a terminal would obey rather than show."""
    text = output.decode("utf-8", "surrogateescape")
    obeyed = set(range(32)) - {10} | set(range(0x7F, 0xA0)) | set(range(0x202A, 0x202F)) | set(range(0x2066, 0x206A))
    return [character for character in text if ord(character) in obeyed or 0xDC80 <= ord(character) <= 0xDCFF]


# --- time -------------------------------------------------------------------------------------------


def test_colliding_addresses_and_ports_cost_no_more_than_others() -> None:
    """60,000 SYNs whose addresses and ports have equal sums and equal exclusive ors."""
    count, random = 60_000, Random(1)
    same = [
        segment(0x0A000000 | i, 0xAC100000 | i, (1024 + i % 60_000, 1024 + i % 60_000), seq=i) for i in range(count)
    ]
    ordinary = [
        segment(random.getrandbits(32), 0xAC100001, (random.randrange(65536), 443), seq=i) for i in range(count)
    ]
    hostile_s, ordinary_s = reading_time_s(capture(same)), reading_time_s(capture(ordinary))
    assert hostile_s < 3 * ordinary_s + 0.05


def test_many_incarnations_of_one_connection() -> None:
    """A chain of 65,536 openings between the same two ports is not walked for every segment."""
    count = 65_536
    octets = [segment(1, 2, (1000, 80), seq=(i * 100_003) & 0xFFFFFFFF) for i in range(count)]
    observation = observer.read(io.BytesIO(capture(octets)), engine=kernels.Compiled())
    assert observation.tracker.stream_count == count
    assert observation.segments == count
    quarter_s, whole_s = reading_time_s(capture(octets[: count // 4])), reading_time_s(capture(octets))
    assert whole_s < 4 * 3 * quarter_s + 0.05


# --- memory -----------------------------------------------------------------------------------------

PEAK = """
import sys, resource
import observer
from observer.errors import CaptureError
try:
    observation = observer.read(sys.argv[1])
    print(observation.capture.frames, end=" ")
except CaptureError:
    print(-1, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def frames_and_peak_kib(path: Path) -> tuple[int, int]:
    """Frames read and peak memory of a process of its own that reads the capture."""
    # a shell stands between: a child's peak would begin with what this process has
    command = ["sh", "-c", '"$0" -c "$1" "$2"; exit $?', sys.executable, PEAK, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    frames, peak = done.stdout.split()
    return int(frames), int(peak)


def zeros(header: bytes, octets: int, path: Path) -> None:
    with gzip.open(path, "wb", 9) as file:
        file.write(header)
        for _ in range(octets >> 20):
            file.write(bytes(1 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_gzip_bombs_take_constant_memory(tmp_path: Path) -> None:
    observer.read(io.BytesIO(capture([segment(1, 2, (3, 4), 5)])), engine=kernels.Compiled())  # compiled beforehand
    zeros(write_pcap([], ETHERNET), 16 << 20, tmp_path / "small.gz")
    zeros(write_pcap([], ETHERNET), 256 << 20, tmp_path / "large.gz")
    assert (tmp_path / "large.gz").stat().st_size < 400_000
    small, small_peak = frames_and_peak_kib(tmp_path / "small.gz")
    large, large_peak = frames_and_peak_kib(tmp_path / "large.gz")
    assert (small, large) == ((16 << 20) // 16, (256 << 20) // 16)
    assert large_peak < small_peak + 30_000
    zeros(b"", 256 << 20, tmp_path / "nothing.gz")  # no capture: refused at its first octets
    refused, refused_peak = frames_and_peak_kib(tmp_path / "nothing.gz")
    assert refused == -1
    assert refused_peak < small_peak


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("version", [4, 6])
def test_fragments_that_never_complete_take_bounded_memory(version: int, tmp_path: Path) -> None:
    """64 MiB of first fragments, each of another datagram; a quarter of it may be held."""
    part = bytes(1400)
    peaks = []
    for count in (1_000, 48_000):
        octets = []
        for i in range(count):
            if version == 4:
                ends = struct.pack("!II", i >> 16, 2)
                octets.append(ethernet(ipv4(part, fragment=0x2000, ident=i & 0xFFFF, ends=ends)))
            else:
                octets.append(ethernet(ipv6(struct.pack("!BBHI", 6, 0, 1, i) + part, protocol=44)))
        path = tmp_path / f"{count}.pcap"
        path.write_bytes(capture(octets))
        frames, peak = frames_and_peak_kib(path)
        assert frames == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 100_000


def test_fragments_that_never_complete_are_all_counted() -> None:
    octets = [ethernet(ipv4(bytes(1400), fragment=0x2000, ident=i)) for i in range(3000)]
    options = observer.Options(max_fragments_octets=100_000)
    observation = observer.read(io.BytesIO(capture(octets)), options=options)
    assert {entry.reason: entry.count for entry in observation.decoder.skipped} == {"fragment_incomplete": 3000}


# --- depth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", range(len(wrappings(Random(0)))))
@pytest.mark.parametrize("depth", [200, 1000])
def test_deep_encapsulation_is_counted_not_followed_for_ever(way: int, depth: int) -> None:
    packet = ipv4(tcp(Random(1), payload=b"x"))
    for _ in range(depth):
        packet = wrappings(Random(way))[way](packet)
    for engine in (kernels.Interpreted(), kernels.Checked()):
        observation = observer.read(io.BytesIO(capture([ethernet(packet)])), engine=engine)
        decoder = observation.decoder
        assert decoder.segment_frames + decoder.quoted_frames + sum(entry.count for entry in decoder.skipped) == 1


# --- terminal ---------------------------------------------------------------------------------------

NAMES = [
    b"\x1b]0;owned\x07.pcap",
    b"\x1b[2J\x1b[31mred.pcap",
    "\u202egnp.pcap".encode(),
    b"\xff\xfe\x9b5n.pcap",
    b"a\nb.pcap",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["good", "damaged", "no capture", "missing"])
def test_file_names_never_reach_the_terminal_raw(name: bytes, kind: str, tmp_path: Path) -> None:
    data = capture([segment(1, 2, (3, 4), 5), segment(1, 2, (3, 4), 5)])
    content = {"good": data, "damaged": data[:-3], "no capture": b"\x1b[31mhello" * 9}.get(kind)
    path = os.fsencode(tmp_path) + b"/" + name
    if content is not None:
        try:
            Path(os.fsdecode(path)).write_bytes(content)
        except OSError:
            pytest.skip("this file system does not take such names")
    for command in ([b"read", path], [b"explain", path, b"0"], [b"read", b"--json", path]):
        done = run(*command)
        assert done.returncode == {"good": 0, "damaged": 1, "no capture": 2, "missing": 2}[kind], done.stderr
        assert controls(done.stdout) == []
        assert controls(done.stderr) == []
        assert b"Traceback" not in done.stderr
        assert done.stderr.count(b"\n") <= 2 or kind == "damaged"


def test_strings_in_pcapng_never_reach_the_terminal_raw(tmp_path: Path) -> None:
    octets = segment(1, 2, (3, 4), 5)
    frames = [Frame(START_NS + i, octets, len(octets)) for i in range(60)]
    for seed in range(6):
        path = tmp_path / f"{seed}.pcapng"
        path.write_bytes(write_pcapng(frames, [ETHERNET, ETHERNET], Random(seed)))
        assert any(nasty in path.read_bytes() for nasty in NASTY if nasty)
        for command in (["read", str(path)], ["read", "--json", str(path)]):
            done = run(*command)
            assert done.returncode in {0, 1}, done.stderr
            assert controls(done.stdout) == []
            assert controls(done.stderr) == []


# --- a pipe that never ends -------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A FIFO and an observer that reads it."""
    path = tmp_path / "endless.pcap"
    os.mkfifo(path)
    command = [sys.executable, "-m", "observer", "read", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        yield path, process
        process.kill()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_interrupt_delivers_what_was_read(fifo: tuple[Path, subprocess.Popen[bytes]]) -> None:
    import fcntl
    import termios

    path, process = fifo
    data = capture([segment(i, 2, (3, 4), 5) for i in range(1000)])
    with path.open("wb", buffering=0) as pipe:
        pipe.write(data)
        deadline = time.monotonic() + 20
        while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]:
            assert time.monotonic() < deadline, "the observer does not read"
            time.sleep(0.05)
        time.sleep(0.5)  # read, but perhaps not yet decoded
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert b"1,000 frames" in out, err
    assert b"1,000 connections" in out
    assert process.returncode == 1
    assert b"Traceback" not in err
