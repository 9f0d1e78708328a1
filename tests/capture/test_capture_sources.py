"""Where captures come from: files, patterns, pipes as they grow, standard input, open files, misuse."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import build
import pytest
import zstandard
from reading import drain, expected, read

from observer.capture import open_capture
from observer.errors import CaptureError

FRAMES = build.frames(30)
PCAP = build.pcap(FRAMES)


class Pipe:
    """A pipe whose other end is written to when a test says so."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.file = os.fdopen(self.reading, "rb")

    def write(self, octets: bytes) -> None:
        os.write(self.writing, octets)

    def end(self) -> None:
        os.close(self.writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.file.close()


@pytest.mark.parametrize("kind", [build.pcap, build.pcapng])
def test_frames_of_a_pipe_come_as_they_are_written(pipe: Pipe, kind: Callable[..., bytes]) -> None:
    head = len(kind([]))
    octets = kind(FRAMES[:1])
    pipe.write(octets)
    with open_capture(pipe.file) as capture:
        assert next(capture).count == 1
        for i in range(1, 5):
            octets = kind(FRAMES[i : i + 2])[head:]
            pipe.write(octets[:-1])  # the second frame is not complete
            chunk = next(capture)
            assert chunk.count == 1
            pipe.write(octets[-1:])
            assert next(capture).count == 1
        assert capture.octets_total is None
        pipe.end()
        assert list(capture) == []
        assert (capture.frames, capture.damages) == (9, [])


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_compressed_pipes_too(pipe: Pipe, name: str) -> None:
    if name == "gzip":
        import zlib

        compressor: Any = zlib.compressobj(wbits=31)
        flush = zlib.Z_SYNC_FLUSH
    else:
        compressor = zstandard.ZstdCompressor().compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    pipe.write(compressor.compress(build.pcap(FRAMES[:2])) + compressor.flush(flush))
    with open_capture(pipe.file) as capture:
        assert next(capture).count == 2
        pipe.write(compressor.compress(build.pcap(FRAMES[2:3])[24:]) + compressor.flush(flush))
        assert next(capture).count == 1
        pipe.write(compressor.flush())
        pipe.end()
        assert list(capture) == []
        assert capture.damages == []


@pytest.mark.parametrize(
    "octets", [PCAP, build.pcapng(FRAMES), gzip.compress(PCAP), zstandard.ZstdCompressor().compress(PCAP)]
)
def test_octet_by_octet(pipe: Pipe, octets: bytes) -> None:
    def dribble() -> None:
        for octet in octets:
            pipe.write(bytes([octet]))
        pipe.end()

    writer = threading.Thread(target=dribble)
    writer.start()
    result = read(pipe.file)
    writer.join()
    assert result.frames == expected(FRAMES)
    assert result.damages == []


def test_a_pipe_that_breaks_off(pipe: Pipe) -> None:
    pipe.write(PCAP[:-1])
    pipe.end()
    result = read(pipe.file)
    assert result.frames == expected(FRAMES[:-1])
    assert len(result.damages) == 1


def test_empty_pipe(pipe: Pipe) -> None:
    pipe.end()
    result = read(pipe.file)
    assert result.frames == []
    assert "empty" in result.damages[0].message


def test_fifo(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(PCAP))
    with open_capture(str(path)) as capture:  # does not wait for a writer
        writer.start()
        assert drain(capture) == expected(FRAMES)
    writer.join()


def test_interrupt_while_waiting(pipe: Pipe) -> None:
    """Ctrl-C comes out of the iterator, what was delivered stands, and reading may even go on."""
    pipe.write(PCAP + PCAP[24:30])
    with open_capture(pipe.file) as capture:
        assert next(capture).count == 30
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(capture)
        timer.join()
        assert (capture.frames, capture.damages) == (30, [])
        pipe.write(PCAP[30 : 24 + 16 + len(FRAMES[0].octets)])
        pipe.end()
        assert drain(capture) == expected(FRAMES[:1])


def test_standard_input() -> None:
    script = (
        "from observer.capture import open_capture\n"
        "with open_capture('-') as c:\n"
        "    for chunk in c: print(c.frames, flush=True)\n"
        "    print(c.files[0].name, c.damages)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(PCAP)
        child.stdin.flush()
        assert child.stdout.readline() == b"30\n"  # before the input ends
        child.stdin.write(PCAP[24:])
        child.stdin.close()
        assert child.stdout.readline() == b"60\n"
        assert child.stdout.readline() == b"standard input []\n"


def test_standard_input_that_is_closed_or_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CaptureError, match="closed"):
        open_capture("-")

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(CaptureError, match="terminal"):
        open_capture("-")


# --- files -----------------------------------------------------------------------------------------------


def test_open_files_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(PCAP)
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        assert read(buffered).frames == expected(FRAMES)
        assert read(raw).frames == expected(FRAMES)
        assert not buffered.closed

    class OnlyRead:
        def __init__(self) -> None:
            self.read = io.BytesIO(PCAP).read

    assert read(OnlyRead()).frames == expected(FRAMES)
    assert read(io.BytesIO(PCAP)).frames == expected(FRAMES)
    assert read(bytearray(PCAP)).frames == expected(FRAMES)
    assert read(path).files[0].name == str(path)
    assert read(os.fsencode(path) if False else str(path)).frames == expected(FRAMES)


def test_a_file_that_begins_in_the_middle(tmp_path: Path) -> None:
    file = io.BytesIO(b"something before" + PCAP)
    file.seek(16)
    assert read(file).frames == expected(FRAMES)


def test_text_file_is_misuse(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(PCAP)
    with path.open() as file, pytest.raises(CaptureError, match="mode 'rb'"):
        open_capture(file)
    with pytest.raises(CaptureError, match="text"):
        open_capture(io.StringIO("a"))


def test_patterns(tmp_path: Path) -> None:
    for i, name in enumerate(["c.pcap", "a.pcap", "b.pcap"]):
        (tmp_path / name).write_bytes(build.pcap(build.frames(3, start_ns=i * build.SECOND)))
    result = read(str(tmp_path / "*.pcap"))
    assert len(result.frames) == 9
    assert [Path(one.name).name for one in result.files] == ["c.pcap", "a.pcap", "b.pcap"]
    with pytest.raises(CaptureError, match="no file matches"):
        open_capture(str(tmp_path / "*.pcapng"))
    odd = tmp_path / "odd[1].pcap"
    odd.write_bytes(PCAP)
    assert len(read(str(odd)).frames) == 30


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\x1b[31m\xff.pcap"
    with open(path, "wb") as file:  # noqa: PTH123  octets as a name
        file.write(PCAP)
    result = read(os.fsdecode(path))
    assert result.files[0].name.endswith("/\x1b[31m\\xff.pcap")
    result.files[0].name.encode("utf-8")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"nothing\.pcap: there is no such file"):
        open_capture(tmp_path / "nothing.pcap")
    with pytest.raises(CaptureError, match=r"is a directory; name the captures in it, for example .*/\*\.pcap"):
        open_capture(tmp_path)
    with pytest.raises(CaptureError, match="cannot be opened"):
        open_capture("a\0b")
    with pytest.raises(CaptureError, match="no capture was named"):
        open_capture([])
    with pytest.raises(CaptureError, match="cannot be read from 'int'"):
        open_capture(7)
    (tmp_path / "text.pcap").write_text("hello, this is no capture at all")
    with pytest.raises(CaptureError, match=r"text\.pcap: is no pcap"):
        open_capture([tmp_path / "text.pcap"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(PCAP)
    path.chmod(0)
    with pytest.raises(CaptureError, match="permissions"):
        open_capture(path)


def test_reading_that_fails_is_damage() -> None:
    class Failing(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self.inner = io.BytesIO(PCAP)

        def readable(self) -> bool:
            return True

        def readinto(self, view: Any) -> int:
            if self.inner.tell() > 500:
                raise OSError(5, "Input/output error")
            return self.inner.readinto(memoryview(view)[:100])

    result = read(Failing())
    assert 0 < len(result.frames) < 30
    assert "input/output error" in result.damages[0].message


def test_closed_in_between() -> None:
    with open_capture(PCAP, records_max=1) as capture:
        next(capture)
        capture.close()
        assert list(capture) == []


def test_nothing_heavy_is_imported() -> None:
    script = "import sys, observer.capture as c; c.open_capture(bytes.fromhex('d4c3b2a1020004') + bytes(17)).close();"
    script += "print([m for m in ('isal', 'zstandard', 'scapy', 'numba', 'pandas') if m in sys.modules])"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True, text=True)
    assert out.stdout == "[]\n"


def test_first_chunk_is_not_waited_for(pipe: Pipe) -> None:
    begin = time.perf_counter()
    pipe.write(PCAP)
    with open_capture(pipe.file) as capture:
        next(capture)
    assert time.perf_counter() - begin < 1
