"""gzip and zstd: members and frames, damage, bombs."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import sys
import tracemalloc
import zlib
from pathlib import Path

import build
import pytest
import zstandard
from reading import expected, read

from observer.capture import open_capture
from observer.errors import CaptureError

FRAMES = build.frames(2000)
PLAIN = build.pcap(FRAMES)


def zstd(octets: bytes, *, checksum: bool = True, size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size).compress(octets)


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)  # importing it fails
    else:
        pytest.importorskip("isal")
    return str(request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("order", ["<", ">"])
def test_gzip(order: str) -> None:
    result = read(gzip.compress(build.pcap(FRAMES, order=order)))
    assert result.frames == expected(FRAMES)
    assert (result.damages, result.files[0].kind()) == ([], "pcap, gzip")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("cut", [1, 23, 24, 1000, len(PLAIN) - 1])
def test_gzip_members(cut: int) -> None:
    octets = gzip.compress(PLAIN[:cut]) + gzip.compress(b"") + gzip.compress(PLAIN[cut:]) + bytes(1000)
    result = read(octets)
    assert result.frames == expected(FRAMES)
    assert result.damages == []


def test_gzip_header_with_everything(tmp_path: Path) -> None:
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(PLAIN) + deflate.flush()
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x04\0abcd" + b"name\0" + b"comment" * 20000 + b"\0" + b"\0\0"
    trailer = zlib.crc32(PLAIN).to_bytes(4, "little") + len(PLAIN).to_bytes(4, "little")
    assert read(header + body + trailer).frames == expected(FRAMES)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [False, True])
def test_zstd(checksum: bool, size: bool) -> None:
    result = read(zstd(PLAIN, checksum=checksum, size=size))
    assert result.frames == expected(FRAMES)
    assert (result.damages, result.files[0].kind()) == ([], "pcap, zstd")


def test_zstd_frames_and_frames_to_skip() -> None:
    skip = b"\x57\x2a\x4d\x18" + (100_000).to_bytes(4, "little") + bytes(100_000)
    octets = skip + zstd(PLAIN[:1000]) + zstd(b"") + skip + zstd(PLAIN[1000:], checksum=False)
    result = read(octets)
    assert result.frames == expected(FRAMES)
    assert result.damages == []


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_pcapng_inside(compress: object) -> None:
    assert read(compress(build.pcapng(FRAMES))).frames == expected(FRAMES)  # type: ignore[operator]


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_gzip_checksum() -> None:
    octets = bytearray(gzip.compress(PLAIN))
    octets[-6] ^= 1
    result = read(bytes(octets))
    assert result.frames == expected(FRAMES)
    (damage,) = result.damages
    assert "checksum is wrong" in damage.message
    assert (damage.offset, damage.frame) == (len(PLAIN), 2001)
    assert f"at decompressed octet {len(PLAIN)}, frame 2001" in str(damage)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("octets", [gzip.compress(PLAIN), zstd(PLAIN), zstd(PLAIN, checksum=False)])
def test_cut(octets: bytes) -> None:
    for size in [*range(4, 60), *range(60, len(octets), 997), *range(len(octets) - 12, len(octets))]:
        result = read(octets[:size])
        assert result.frames == expected(FRAMES[: len(result.frames)])
        (damage,) = result.damages
        assert "stream is cut" in damage.message
        assert damage.frame == len(result.frames) + 1


def oracle_of_deflate(octets: bytes) -> int:
    """How many octets zlib gets out of a gzip stream before it fails."""
    inner = zlib.decompressobj(wbits=-15)
    out, feed = 0, octets[10:]
    try:
        while not inner.eof and (piece := inner.decompress(feed, 1)):
            out += len(piece)
            feed = inner.unconsumed_tail
    except zlib.error:
        pass
    return out


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("seed", range(8))
def test_corrupt_deflate_delivers_all_before(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    some = [(one.time_ns, rng.randbytes(30) + one.octets) for one in FRAMES]
    plain = build.pcap(some)
    octets = bytearray(gzip.compress(plain))
    at = rng.randrange(len(octets) // 4, len(octets) - 20)
    octets[at : at + 10] = b"\xff" * 10
    path = tmp_path / "corrupt.pcap.gz"
    path.write_bytes(octets)
    reached = oracle_of_deflate(bytes(octets))
    again = zlib.decompressobj(wbits=-15)
    salvaged = read(str(path))
    whole = read(again.decompress(bytes(octets[10:]), reached))
    assert salvaged.frames == whole.frames
    assert len(salvaged.frames) > 100
    assert salvaged.damages


def oracle_of_zstd(octets: bytes) -> bytes:
    """What zstandard's own reader gets out, octet by octet, before it fails."""
    out = bytearray()
    with zstandard.ZstdDecompressor().stream_reader(octets) as reader, contextlib.suppress(zstandard.ZstdError):
        while piece := reader.read(1):
            out += piece
    return bytes(out)


@pytest.mark.parametrize("seed", range(5))
def test_corrupt_zstd_delivers_all_blocks_before(seed: int) -> None:
    rng = random.Random(seed)
    some = [(i * 1000, bytes(rng.choices(b"abcdefgh", k=700))) for i in range(2000)]
    octets = bytearray(zstd(build.pcap(some), checksum=False))
    at = rng.randrange(len(octets) // 4, len(octets) - 40)
    octets[at : at + 20] = b"\xff" * 20
    result = read(bytes(octets))
    whole = oracle_of_zstd(bytes(octets))
    assert result.frames == read(whole).frames
    assert len(result.frames) > 100
    assert result.damages


def test_zstd_checksum() -> None:
    octets = bytearray(zstd(PLAIN))
    octets[-2] ^= 1
    result = read(bytes(octets))
    assert result.frames == expected(FRAMES)
    assert "checksum is wrong" in result.damages[0].message


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_something_else_follows(compress: object) -> None:
    result = read(compress(PLAIN) + b"something else")  # type: ignore[operator]
    assert result.frames == expected(FRAMES)
    assert "follows the" in result.damages[0].message


def test_compressed_text_is_named() -> None:
    with pytest.raises(CaptureError, match="gzip-compressed, and inside text"):
        read(gzip.compress(b"just a long line of text, nothing else"))


def test_corrupt_from_the_first_octet() -> None:
    result = read(b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff\xff")
    assert result.frames == []
    assert len(result.damages) == 1


# --- bombs -----------------------------------------------------------------------------------------------


def bomb(kind: str) -> bytes:
    """A capture of 200 MB of frames that are all alike, in some kB."""
    frame = build.pcap([(0, bytes(60_000))])[24:]
    head, piece = build.pcap_header(), frame * 10
    if kind == "gzip":
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as file:
            file.write(head)
            for _ in range(333):
                file.write(piece)
        return out.getvalue()
    deflate = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join([deflate.compress(head), *(deflate.compress(piece) for _ in range(333)), deflate.flush()])


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bombs_take_constant_memory(kind: str) -> None:
    octets = bomb(kind)
    assert len(octets) < 1 << 20
    tracemalloc.start()
    try:
        with open_capture(octets) as capture:
            for _ in capture:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert capture.frames == 3330
    assert peak < 8 << 20


def test_progress_counts_compressed_octets(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap.gz"
    path.write_bytes(gzip.compress(build.pcap((i, os.urandom(1000)) for i in range(3000))))
    with open_capture(path) as capture:
        seen = [capture.octets_read for _ in capture]
        assert capture.octets_total == path.stat().st_size
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= path.stat().st_size
    assert capture.octets_read == path.stat().st_size
