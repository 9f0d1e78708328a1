"""Hostile octets: no exception, no index out of range, every frame counted, by every engine the same."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import segments as s
from tests.wire.catalogue import MAC, SNAP, TO_AP, all_cases, ether, ip4, subframe, tcp4, tcp6, udp
from tests.wire.decoding import decode_everywhere, decode_with, frames_of
from tests.wire.test_wire_fragments import fragments4

LINKS = sorted({case.link for case in all_cases()} | {2, 300, 65535})


@pytest.mark.parametrize("link", LINKS)
def test_random_octets(link: int) -> None:
    rng = random.Random(link)
    frames = [rng.randbytes(rng.randrange(200)) for _ in range(300)] + [b"", b"\0", b"\xff" * 100, bytes(100)]
    _, decoder = decode_everywhere(frames, link)
    assert decoder.frames == len(frames)


@pytest.mark.parametrize("link", LINKS)
@settings(max_examples=30, deadline=None)
@given(frames=st.lists(st.binary(max_size=120), min_size=1, max_size=8), more=st.integers(0, 3000))
def test_arbitrary_octets(link: int, frames: list[bytes], more: int) -> None:
    chunk = frames_of(frames, link, wire=[len(frame) + more for frame in frames])
    one, counted = decode_with("interpreted", [chunk])
    other, again = decode_with("checked", [chunk])
    assert one == other
    assert counted.skipped == again.skipped


@pytest.mark.parametrize("seed", range(4))
def test_mutated_catalogue(seed: int) -> None:
    """Flipped, overwritten, cut and spliced frames of every kind."""
    rng = random.Random(seed)
    cases = all_cases()
    for link in sorted({case.link for case in cases}):
        sources = [case.frame for case in cases if case.link == link]
        frames = []
        for _ in range(40 if link != 1 else 1500):
            frame = bytearray(rng.choice(sources))
            for _ in range(rng.randrange(1, 4)):
                place = rng.randrange(len(frame))
                if rng.random() < 0.5:
                    frame[place] ^= 1 << rng.randrange(8)
                else:
                    frame[place : place + 2] = rng.choice([b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\1"])
            cut = frame[: rng.randrange(len(frame) + 1)] if rng.random() < 0.3 else frame
            other = rng.choice(sources)
            frames.append(bytes(cut) + (other[rng.randrange(len(other)) :] if rng.random() < 0.1 else b""))
        _, decoder = decode_everywhere(frames, link)
        assert decoder.frames == len(frames)


def nested(wrap: int, depth: int) -> bytes:
    """The segment wrapped `depth` times in one kind of tunnel or tag."""
    inner = tcp4() if wrap < 5 else ether(0x0800, tcp4())
    for _ in range(depth):
        if wrap == 0:
            inner = ip4(4, inner)
        elif wrap == 1:
            inner = ip4(47, b"\0\0\x08\0" + inner)
        elif wrap == 2:
            inner = ip4(41, b"\x60\0\0\0" + struct.pack("!HBB", min(len(inner), 65535), 4, 64) + bytes(32) + inner)
        elif wrap == 3:
            inner = ip4(17, struct.pack("!HHHH", 1, 2152, 0, 0) + struct.pack("!BBHI", 0x30, 255, 0, 1) + inner)
        elif wrap == 4:
            inner = b"\0\5\x08\0" + inner if inner[0] >> 4 == 4 and inner[1] == 0 else b"\0\5\x81\0" + inner
        elif wrap == 5:
            inner = udp(4789, bytes(8) + inner)
        else:
            inner = ether(0x6558, inner)
    if wrap == 4:
        return ether(0x8100, inner)
    return inner if wrap > 4 else ether(0x0800, inner)


@pytest.mark.parametrize("wrap", range(7))
def test_two_hundred_deep(wrap: int) -> None:
    rows, decoder = decode_everywhere([nested(wrap, 200), nested(wrap, 14)])
    assert [row.frame for row in rows] == [2]
    assert [(entry.reason, entry.count) for entry in decoder.skipped] == [("too_deep", 1)]
    assert (rows[0].src_port, rows[0].length) == (50000, 15)


def test_extension_headers_without_end() -> None:
    chain = b"".join(bytes([60, 0, 1, 4, 0, 0, 0, 0]) for _ in range(180))
    frame = ether(0x86DD, b"\x60\0\0\0" + struct.pack("!HBB", len(chain), 60, 64) + tcp6()[8:40] + chain)
    rows, decoder = decode_everywhere([frame])
    assert not rows
    assert decoder.skipped[0].reason == "too_deep"


def test_many_subframes_in_one_frame() -> None:
    """An A-MSDU gives a row for each segment; only the first is marked as the frame's first."""
    body = b"".join(subframe(SNAP + b"\x08\x00" + tcp4()) for _ in range(700))
    frame = b"\x88" + TO_AP[1:] + b"\x80\x00" + body
    rows, decoder = decode_everywhere([frame, frame], 105)
    assert len(rows) == 1400
    assert [row.has(s.FIRST_OF_FRAME) for row in rows] == ([True] + [False] * 699) * 2
    assert {row.encapsulation for row in rows} == {s.ENCAP_WIFI}
    assert decoder.segment_frames == 2


def test_room_for_the_smallest_subframes() -> None:
    """As many rows as one frame can hold: IP over bare LLC with no more of a TCP header than a stream needs."""
    shortest = subframe(b"\x06\x06\x03" + ip4(6, struct.pack("!HHIIHH", 1, 2, 3, 4, 0x5010, 5)))
    head = b"\x88" + TO_AP[1:] + b"\x80\x00"
    frames = [head + shortest * 1150] * 3
    rows, decoder = decode_everywhere(frames, 105)
    assert len(rows) == 3450
    assert decoder.segment_frames == 3
    rows, decoder = decode_everywhere([head + shortest * 1200], 105)
    assert not rows
    assert decoder.skipped[0].reason == "bad_link"


def test_room_after_a_reassembled_aggregate() -> None:
    """A subframe completes a packet that holds a whole aggregate itself; more subframes follow."""
    shortest = subframe(b"\x06\x06\x03" + ip4(6, struct.pack("!HHIIHH", 1, 2, 3, 4, 0x5010, 5)))
    head = b"\x88" + TO_AP[1:] + b"\x80\x00"
    inner = head + shortest * 1100
    tunnel = ip4(17, struct.pack("!HHHH", 1, 37008, 0, 0) + b"\1\0\0\x12\1" + inner)
    frames = []
    for identification in range(3):
        parts = fragments4(tunnel, 32000, identification=identification)
        frames += [head + subframe(SNAP + b"\x08\x00" + part) + shortest * 500 for part in parts]
    rows, decoder = decode_everywhere(frames, 105)
    assert len(rows) == 3 * 1100 + len(frames) * 500
    assert decoder.segment_frames == len(frames)


def test_subframes_of_several_kinds() -> None:
    arp = subframe(SNAP + b"\x08\x06" + bytes(28))
    strange = subframe(SNAP + b"\x73\x74" + bytes(28))
    piece = bytearray(tcp4())
    piece[6] |= 0x20
    fragment = subframe(SNAP + b"\x08\x00" + bytes(piece))
    segment = subframe(SNAP + b"\x08\x00" + tcp4())
    head = b"\x88" + TO_AP[1:] + b"\x80\x00"
    frames = [head + strange + fragment + arp + segment, head + fragment + arp, head + arp + fragment, head + MAC]
    rows, decoder = decode_everywhere(frames, 105)
    assert [row.frame for row in rows] == [1]
    assert decoder.segment_frames == 1
    assert sum(entry.count for entry in decoder.skipped) == 3


def test_many_details_are_counted_together() -> None:
    frames = [MAC + struct.pack("!HB", 3 + 40, i & 0xFF) + b"\0\3" + bytes(40) for i in range(256)]
    frames += [b"\x0f\0" + struct.pack("!H", 0x600) for _ in range(10)]
    _, decoder = decode_with("compiled", [frames_of(frames)])
    assert decoder.frames == len(frames)
    ppp = [struct.pack("!H", (i & 0xFE) << 8 | 1 | (i >> 8 & 0x7F) << 1) + bytes(4) for i in range(2000)]
    _, decoder = decode_with("compiled", [frames_of(ppp, 9)])
    assert sum(entry.count for entry in decoder.skipped) == 2000
    assert len(decoder.skipped) < 1024
