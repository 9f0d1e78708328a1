"""pcapng: sections, interfaces, every packet block, statistics, time units, and every damage."""

from __future__ import annotations

import struct
from fractions import Fraction

import build
import pytest
from build import epb, idb, isb, opb, shb, spb
from hypothesis import given
from hypothesis import strategies as st
from reading import Got, expected, read

from observer.capture.scan import TIME_MAX

FRAMES = build.frames(20)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_byte_orders(order: str, nano: bool) -> None:
    result = read(build.pcapng(FRAMES, order=order, nano=nano, link=276))
    assert result.frames == expected(FRAMES, link=276)
    assert result.damages == []
    assert (result.files[0].kind(), result.files[0].link_types) == ("pcapng", [276])


def test_sections_in_either_order_with_their_own_interfaces() -> None:
    octets = (
        shb(length=1234)
        + idb(link=1)
        + idb(link=101, tsresol=9)
        + epb(b"one", 5_000_000, wire=99)
        + epb(b"two", 6_000_000_000, interface=1)
        + shb(order=">")
        + idb(order=">", link=113, tsresol=3)
        + epb(b"three", 7000, order=">")
        + shb()
        + idb(link=228)
        + epb(b"four", 8_000_000)
    )
    result = read(octets)
    assert result.frames == [
        Got(b"one", 5 * build.SECOND, 99, 1),
        Got(b"two", 6 * build.SECOND, 3, 101),
        Got(b"three", 7 * build.SECOND, 5, 113),
        Got(b"four", 8 * build.SECOND, 4, 228),
    ]
    assert result.damages == []
    assert result.files[0].link_types == [1, 101, 113, 228]
    assert [one.resolution for one in result.files[0].interfaces] == ["1e-6", "1e-9", "1e-3", "1e-6"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_simple_and_obsolete_blocks(order: str) -> None:
    octets = (
        shb(order=order)
        + idb(order=order, link=1, snaplen=8)
        + idb(order=order, link=101)
        + spb(b"x" * 8, order=order, wire=60)
        + opb(b"obsolete", 3_000_000, order=order, interface=1, wire=70)
        + spb(b"short", order=order)
    )
    assert read(octets).frames == [
        Got(b"x" * 8, 0, 60, 1),
        Got(b"obsolete", 3 * build.SECOND, 70, 101),
        Got(b"short", 3 * build.SECOND, 5, 1),
    ]


def test_unknown_blocks_of_any_size_are_passed_over() -> None:
    large = build.block(0x80000001, bytes(3_000_000))
    small = build.block(0x0BAD, b"custom")
    octets = shb() + small + idb() + large + epb(b"frame", 1_000_000) + small + large
    for buffer_octets in (64, 4096, 1 << 20):
        result = read(octets, buffer_octets=buffer_octets)
        assert [one.octets for one in result.frames] == [b"frame"]
        assert result.damages == []


def test_texts_and_statistics() -> None:
    octets = (
        shb(opts=[(2, b"machine"), (3, b"Linux \x1b[31m\xff"), (4, b"dumpcap\0rest"), (1, b"comment")])
        + idb(opts=[(2, b"eth0"), (3, b"uplink"), (13, b"\x04")], snaplen=96)
        + idb(opts=[(2, b"eth1")], snaplen=128)
        + isb(opts=[(4, 10), (5, 1)])
        + isb(interface=1, opts=[(4, 5), (5, 2), (7, 3)])
        + isb(opts=[(4, 100), (5, 7)])
    )
    info = read(octets).files[0]
    assert (info.hardware, info.operating_system, info.application) == ("machine", "Linux \x1b[31m\\xff", "dumpcap")
    assert (info.received, info.dropped_interface, info.dropped_os) == (105, 9, 3)
    assert info.snaplen == 128
    assert [(one.name, one.fcs_octets) for one in info.interfaces] == [("eth0", 4), ("eth1", 0)]
    assert info.notes == ["each frame ends with 4 octets of frame check sequence"]


@given(
    resolution=st.integers(0, 255),
    stamp=st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**33), st.integers(2**60, 2**62)),
    offset=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**32), 2**32)),
)
def test_time_is_exact_and_never_leaves_its_bounds(resolution: int, stamp: int, offset: int | None) -> None:
    unit = Fraction(1, 2 ** (resolution & 127)) if resolution & 128 else Fraction(1, 10 ** (resolution & 127))
    octets = shb() + idb(tsresol=resolution, tsoffset=offset) + epb(b"x", stamp)
    value = min(int(stamp * unit * build.SECOND), TIME_MAX)
    value += min(max((offset or 0) * build.SECOND, -TIME_MAX), TIME_MAX)
    assert read(octets).frames[0].time_ns == min(max(value, 0), TIME_MAX)


# --- damage ----------------------------------------------------------------------------------------------

START = shb() + idb()
GOOD = epb(b"good", 1_000_000)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (epb(b"bad", 0, interface=1), "interface"),
        (epb(b"bad", 0, captured=100), "longer than its block"),
        (build.block(6, bytes(8)), "longer than its block"),
        (build.block(3, b""), "longer than its block"),
        (build.block(1, b"\1\0\0\0"), "too short"),
        (isb(interface=9), "statistics"),
        (opb(b"bad", 0, interface=7), "interface"),
    ],
)
def test_a_bad_block_is_passed_over(bad: bytes, message: str) -> None:
    result = read(START + GOOD + bad + GOOD)
    assert [one.octets for one in result.frames] == [b"good", b"good"]
    (damage,) = result.damages
    assert (damage.offset, damage.frame) == (len(START + GOOD), 2)
    assert message in damage.message


@pytest.mark.parametrize(
    "bad",
    [
        build.block(6, bytes(28), trailer=44),
        build.block(0x99, bytes(28), trailer=0),
        build.block(6, bytes(28), length=43),
        build.block(6, bytes(28), length=8),
        build.block(6, bytes(28), length=0xFFFFFFF0),
        build.block(0x0A0D0D0A, struct.pack("<IHHq", 0x11111111, 1, 0, -1)),
        build.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), trailer=4),
        build.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), length=24),
    ],
)
def test_lengths_that_lie_end_the_file(bad: bytes) -> None:
    result = read(START + GOOD + bad + GOOD)
    assert [one.octets for one in result.frames] == [b"good"]
    (damage,) = result.damages
    assert (damage.offset, damage.frame) == (len(START + GOOD), 2)


def test_frames_without_any_interface() -> None:
    result = read(shb() + GOOD + spb(b"x") + idb() + GOOD)
    assert len(result.frames) == 1
    assert len(result.damages) == 2


def test_interfaces_end_with_their_section() -> None:
    result = read(START + GOOD + shb() + GOOD)
    assert len(result.frames) == 1
    assert "interface" in result.damages[0].message


def test_cut_anywhere() -> None:
    parts = [shb(), idb(), GOOD, build.block(0x99, b"?"), spb(b"simple"), isb(opts=[(5, 1)])]
    whole = b"".join(parts)
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    for size in range(4, len(whole)):
        result = read(whole[:size])
        assert len(result.frames) == (size >= ends[2]) + (size >= ends[4])
        if size in ends:
            assert result.damages == []
        else:
            (damage,) = result.damages
            assert damage.offset == max([0, *(end for end in ends if end <= size)])
            assert "cut" in damage.message


def test_cut_inside_a_large_block() -> None:
    result = read(START + GOOD + build.block(0x99, bytes(100_000))[:-4])
    assert len(result.frames) == 1
    assert "inside a block" in result.damages[0].message


def test_option_longer_than_its_block() -> None:
    bad = build.block(1, struct.pack("<HHI", 101, 0, 0) + struct.pack("<HH", 2, 1000))
    result = read(shb() + bad + GOOD)
    assert [one.link for one in result.frames] == [101]
    assert "option" in result.damages[0].message


def test_many_damages_are_counted_not_listed() -> None:
    result = read(START + epb(b"bad", 0, interface=1) * 1000 + GOOD)
    assert len(result.frames) == 1
    assert len(result.damages) == 101
    assert "900 more" in result.damages[-1].message


def test_section_version() -> None:
    result = read(shb(major=2) + idb() + GOOD)
    assert len(result.frames) == 1
    assert "version 2.0" in result.damages[0].message


def test_a_file_of_interfaces_alone_is_not_read_for_ever() -> None:
    result = read(shb() + idb() * 70_000 + GOOD)
    assert result.frames == []
    assert "65536" in result.damages[0].message
    assert len(result.files[0].interfaces) == 256
