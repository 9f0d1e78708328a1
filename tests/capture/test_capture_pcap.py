"""pcap in every variant, and every way in which it can be damaged."""

from __future__ import annotations

import struct

import build
import pytest
from reading import Got, expected, read

from observer.errors import CaptureError

FRAMES = build.frames(20)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_byte_orders_and_resolutions(order: str, nano: bool) -> None:
    some = build.frames(20, step_ns=1 if nano else 1000)
    result = read(build.pcap(some, order=order, nano=nano, link=113))
    assert result.frames == expected(some, link=113)
    assert result.damages == []
    info = result.files[0]
    assert (info.kind(), info.link_types, info.frames, info.first_frame) == ("pcap", [113], 20, 1)
    assert info.interfaces[0].resolution == ("1e-9" if nano else "1e-6")


@pytest.mark.parametrize("order", ["<", ">"])
def test_kuznetzov(order: str) -> None:
    result = read(build.pcap(FRAMES, order=order, kuznetzov=True))
    assert result.frames == expected(FRAMES)
    assert "Kuznetzov" in result.files[0].notes[0]


def test_cut_frames_keep_their_length_on_the_wire() -> None:
    some = [(1000, b"x" * 64, 1500), (2000, b"", 60), (3000, b"", 0), (4000, b"abc", 3)]
    assert read(build.pcap(some, snaplen=64)).frames == expected(some)


def test_wire_length_is_never_less_than_what_was_captured() -> None:
    assert read(build.pcap([(0, b"x" * 64, 10)])).frames == [Got(b"x" * 64, 0, 64, 1)]


@pytest.mark.parametrize("version", [(2, 2), (2, 3), (543, 0)])
def test_lengths_that_old_versions_swapped(version: tuple[int, int]) -> None:
    some = [(0, b"x" * 64, 1500), (0, b"y" * 60)]
    assert read(build.pcap(some, version=version, swapped=True)).frames == expected(some)


def test_frame_check_sequence_bits_are_no_part_of_the_link_type() -> None:
    result = read(build.pcap(FRAMES, link=1 | 1 << 26 | 2 << 28))
    assert result.frames == expected(FRAMES)
    assert result.files[0].interfaces[0].fcs_octets == 4
    assert "4 octets of frame check sequence" in result.files[0].notes[0]


def test_seconds_are_unsigned() -> None:
    latest = 0xFFFFFFFF * build.SECOND
    header = build.pcap_header(magic=0xA1B23C4D)
    record = struct.pack("<IIII", 0xFFFFFFFF, 0xFFFFFFFF, 1, 1) + b"x"
    assert read(build.pcap([(latest, b"x")])).frames[0].time_ns == latest
    assert read(header + record).frames[0].time_ns == latest + 0xFFFFFFFF


def test_unknown_version_is_told_and_read() -> None:
    result = read(build.pcap(FRAMES, version=(7, 1)))
    assert result.frames == expected(FRAMES)
    assert [(one.offset, one.frame) for one in result.damages] == [(4, 1)]


def test_no_frames() -> None:
    result = read(build.pcap([]))
    assert (result.frames, result.damages, result.files[0].first_frame) == ([], [], 0)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 10, 23])
def test_cut_in_the_file_header(size: int) -> None:
    result = read(build.pcap(FRAMES)[:size])
    assert result.frames == []
    (damage,) = result.damages
    assert (damage.offset, damage.frame) == (0, 1)
    assert (f"after {size} of the 24 octets" if size else "empty") in damage.message


def test_cut_anywhere() -> None:
    whole = build.pcap(FRAMES[:3])
    ends = [24]
    for frame in FRAMES[:3]:
        ends.append(ends[-1] + 16 + len(frame.octets))
    for size in range(24, len(whole)):
        result = read(whole[:size])
        complete = sum(end <= size for end in ends) - 1
        assert result.frames == expected(FRAMES[:complete])
        if size in ends:
            assert result.damages == []
        else:
            (damage,) = result.damages
            assert (damage.offset, damage.frame) == (ends[complete], complete + 1)
            assert "cut" in damage.message


def test_impossible_length() -> None:
    damaged = build.pcap(FRAMES[:3]) + struct.pack("<IIII", 1, 1, 262145, 262145) + bytes(300000)
    result = read(damaged)
    assert result.frames == expected(FRAMES[:3])
    (damage,) = result.damages
    assert (damage.offset, damage.frame) == (len(build.pcap(FRAMES[:3])), 4)
    assert "262145" in damage.message


def test_long_frames_within_the_snaplen() -> None:
    some = [(0, bytes(3_000_000)), (0, b"x"), (0, bytes(5_000_000)), (0, b"y" * 100)]
    result = read(build.pcap(some, snaplen=8_000_000))
    assert result.frames == expected(some)
    assert result.damages == []


def test_bound_of_lengths_whatever_the_snaplen() -> None:
    header = build.pcap_header(snaplen=0xFFFFFFFF)
    result = read(header + struct.pack("<IIII", 1, 1, (1 << 24) + 1, 0) + bytes(100))
    assert (result.frames, len(result.damages)) == ([], 1)


@pytest.mark.parametrize("second", [{}, {"order": ">"}, {"nano": True, "link": 101}])
def test_files_one_behind_the_other(second: dict[str, object]) -> None:
    more = build.frames(5, start_ns=build.SECOND)
    result = read(build.pcap(FRAMES) + build.pcap(more, **second))  # type: ignore[arg-type]
    assert result.frames == expected(FRAMES) + expected(more, link=int(str(second.get("link", 1))))
    assert result.damages == []
    assert "several pcap files" in result.files[0].notes[0]


def test_empty_records_of_the_magic_time_are_no_file_header() -> None:
    empty = struct.pack("<IIII", 0xA1B2C3D4, 7, 0, 0)
    assert len(read(build.pcap(FRAMES) + empty).frames) == 21


@pytest.mark.parametrize("buffer_octets", [64, 100, 1000, 1 << 20])
@pytest.mark.parametrize("records_max", [1, 3, 4096])
def test_any_size_of_buffers(buffer_octets: int, records_max: int) -> None:
    result = read(build.pcap(FRAMES), buffer_octets=buffer_octets, records_max=records_max)
    assert result.frames == expected(FRAMES)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"Hello, world, this is text\n", "text"),
        (b"\x7fELF\x02\x01\x01" + bytes(40), "ELF"),
        (b"snoop\0\0\0\0\0\0\x02", "snoop"),
        (b"\xfd7zXZ\0" + bytes(30), "xz -dc"),
        (bytes(100), "zeros"),
        (b'{"a": 1}', "JSON"),
        (b"\x12\x34\x56\x78" * 10, "12 34 56 78"),
        (b"\n\r\r\n" + bytes(40), "nothing known"),
        (b"Hi", "text"),
    ],
)
def test_what_is_no_capture_is_named(octets: bytes, what: str) -> None:
    with pytest.raises(CaptureError, match="octets in memory: is no pcap or pcapng capture") as error:
        read(octets)
    assert what in str(error.value)
