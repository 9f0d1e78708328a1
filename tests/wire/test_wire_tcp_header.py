"""TCP's fields, options, checksum, and what a short capture leaves of them."""

from __future__ import annotations

import struct

import pytest

from observer import segments as s
from tests.wire.catalogue import DST, SRC, ether
from tests.wire.decoding import Row, decode_everywhere, decode_with, frames_of


def segment(
    options: bytes = b"", payload: bytes = b"", *, offset: int | None = None, flags: int = s.ACK_FLAG, seq: int = 1
) -> bytes:
    """A TCP segment with raw options, padded with end-of-list."""
    options += bytes(-len(options) % 4)
    words = offset if offset is not None else 5 + len(options) // 4
    return struct.pack("!HHIIHHHH", 1, 2, seq, 3, words << 12 | flags, 4, 0, 0) + options + payload


def packet(tcp: bytes, *, length: int | None = None) -> bytes:
    from scapy.layers.inet import IP

    header = bytes(IP(src=SRC, dst=DST, proto=6, len=length if length is not None else 20 + len(tcp)))
    return ether(0x0800, header + tcp)


def only(frame: bytes, *, wire: int | None = None) -> Row:
    rows, _ = decode_everywhere([frame], wire=[wire or len(frame)])
    assert len(rows) == 1
    return rows[0]


def options_of(options: bytes) -> Row:
    return only(packet(segment(options)))


KNOWN = s.FIRST_OF_FRAME | s.CHECKSUM_KNOWN | s.BAD_CHECKSUM  # the checksum field is left 0


@pytest.mark.parametrize(
    ("options", "bits", "cells"),
    [
        (b"", 0, {}),
        (b"\x02\x04\x05\xb4", s.HAS_MSS, {s.MSS: 1460}),
        (b"\x03\x03\x07", s.HAS_SCALE, {s.SCALE: 7}),
        (b"\x03\x03\x0f", s.HAS_SCALE, {s.SCALE: 14}),
        (b"\x04\x02", s.HAS_SACK_PERMITTED, {}),
        (b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2", s.HAS_TIMESTAMPS, {s.TS_VALUE: 1, s.TS_ECHO: 2}),
        (b"\x08\x0a\0\0\0\1\xff\xff\xff\xff\1\1", s.HAS_TIMESTAMPS, {s.TS_VALUE: 1, s.TS_ECHO: 0xFFFFFFFF}),
        (b"\1\1\x05\x0a\0\0\0\5\0\0\0\6", s.HAS_SACK, {s.SACK_LEFT: 5, s.SACK_RIGHT: 6}),
        (
            b"\1\1\x05\x1a" + struct.pack("!6I", 5, 6, 7, 8, 9, 10),
            s.HAS_SACK | s.HAS_SACK2,
            {s.SACK_LEFT: 5, s.SACK_RIGHT: 6, s.SACK2_LEFT: 7, s.SACK2_RIGHT: 8},
        ),
        (b"\x22\x02", s.HAS_FAST_OPEN, {}),
        (b"\x22\x0a" + bytes(8), s.HAS_FAST_OPEN | s.HAS_FAST_OPEN_COOKIE, {}),
        (b"\x22\x05" + bytes(3), s.BAD_OPTIONS, {}),
        (b"\xfe\x04\xf9\x89", s.HAS_FAST_OPEN, {}),
        (b"\xfe\x0c\xf9\x89" + bytes(8), s.HAS_FAST_OPEN | s.HAS_FAST_OPEN_COOKIE, {}),
        (b"\xfe\x04\x12\x34", s.HAS_OTHER_OPTION, {}),
        (b"\x1e\x0c" + bytes(10), s.HAS_MPTCP, {}),
        (b"\x13\x12" + bytes(16), s.HAS_OTHER_OPTION, {}),
        (b"\x02\x04\x05\xb4\x00\x03\x03\x07", s.HAS_MSS, {s.MSS: 1460}),  # nothing counts after the end of the list
        (b"\x02\x04\x05\xb4\x63\x00\x03\x07", s.HAS_MSS | s.BAD_OPTIONS, {}),
        (b"\x02\x04\x05\xb4\x63\x01\x03\x07", s.HAS_MSS | s.BAD_OPTIONS, {}),
        (b"\x02\x04\x05\xb4\x63\x7f\x03\x07", s.HAS_MSS | s.BAD_OPTIONS, {}),
        (b"\x01\x01\x01\x08", s.BAD_OPTIONS, {}),
        (b"\x02\x03\x05\x03\x03\x02", s.BAD_OPTIONS | s.HAS_SCALE, {s.SCALE: 2}),
        (b"\x05\x0b" + bytes(9), s.BAD_OPTIONS, {}),
    ],
)
def test_options(options: bytes, bits: int, cells: dict[int, int]) -> None:
    row = options_of(options)
    assert row.bits == bits | KNOWN
    for cell, value in cells.items():
        assert row.cells[cell] == value


def test_nine_flags() -> None:
    assert only(packet(segment(flags=0x1FF))).flags == 0x1FF
    assert only(packet(segment(flags=0xFFF))).flags == 0x1FF  # reserved bits are no flags


@pytest.mark.parametrize("captured", range(54, 66))
def test_options_cut_by_the_capture(captured: int) -> None:
    frame = packet(segment(b"\x02\x04\x05\xb4\x01\x03\x03\x07\x04\x02\x00\x00", b"payload"))
    row = only(frame[:captured], wire=len(frame))
    whole = captured - 54
    assert row.has(s.HAS_MSS) == (whole >= 4)
    assert row.has(s.HAS_SCALE) == (whole >= 8)
    assert row.has(s.HAS_SACK_PERMITTED) == (whole >= 10)
    assert row.has(s.CUT_OPTIONS) == (whole < 11)  # the end of the list
    assert row.length == 7
    assert not row.has(s.CHECKSUM_KNOWN)


@pytest.mark.parametrize("captured", range(42, 54))
def test_header_cut_by_the_capture(captured: int) -> None:
    frame = packet(segment(b"", b"payload", flags=s.SYN, seq=0xFFFFFFFF))
    row = only(frame[:captured], wire=len(frame))
    have = captured - 34
    assert row.has(s.CUT_HEADER)
    assert (row.src_port, row.dst_port, row.seq) == (1, 2, 0xFFFFFFFF)
    assert row.ack == (3 if have >= 12 else 0)
    assert row.length == (7 if have >= 13 else 0)
    assert row.flags == (s.SYN if have >= 14 else 0)
    assert row.window == (4 if have >= 16 else 0)


def test_header_cut_before_the_sequence_number() -> None:
    frame = packet(segment())
    rows, decoder = decode_everywhere([frame[:41]], wire=[len(frame)])
    assert not rows
    assert decoder.skipped[0].reason == "cut_tcp"


@pytest.mark.parametrize("offset", [0, 1, 4])
def test_offset_inside_the_header(offset: int) -> None:
    row = only(packet(segment(payload=b"abc", offset=offset)))
    assert row.has(s.CUT_HEADER)
    assert row.has(s.BAD_OPTIONS)
    assert (row.flags, row.length) == (0, 23 - 4 * offset), "everything behind the offset, as Wireshark counts it"


def test_offset_beyond_the_segment() -> None:
    row = only(packet(segment(payload=b"abc", offset=15)))
    assert row.has(s.CUT_HEADER)
    assert row.has(s.BAD_OPTIONS)
    assert row.length == 0


def test_ip_length_nought_means_what_is_there() -> None:
    row = only(packet(segment(payload=b"x" * 3000), length=0))
    assert row.length == 3000


def test_ip_length_beyond_the_frame_counts_what_arrived() -> None:
    assert only(packet(segment(payload=b"x" * 10), length=2000)).length == 10


def test_ip_length_below_the_header() -> None:
    rows, decoder = decode_everywhere([packet(segment(), length=19), packet(segment(), length=24)])
    assert not rows
    assert {entry.reason for entry in decoder.skipped} == {"bad_ip", "bad_tcp"}


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 33, 1400, 1401])
def test_checksum(size: int) -> None:
    from scapy.layers.inet import IP, TCP

    good = bytes(
        IP(src=SRC, dst="255.254.253.252") / TCP(sport=1, dport=65535) / bytes(range(1, 256)).ljust(size)[:size]
    )
    bad = bytearray(good)
    bad[-1] ^= 1
    rows, _ = decode_everywhere([ether(0x0800, good), ether(0x0800, bytes(bad)), ether(0x0800, good)[:-1]],
                                wire=[14 + len(good)] * 3)  # fmt: skip
    marks = s.CHECKSUM_KNOWN | s.BAD_CHECKSUM
    assert [row.bits & marks for row in rows] == [s.CHECKSUM_KNOWN, marks, 0]
    rows, _ = decode_with("compiled", [frames_of([ether(0x0800, bytes(bad))])], verify_checksums=False)
    assert rows[0].bits & marks == 0
