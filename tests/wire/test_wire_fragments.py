"""IP fragments: reassembled where all are there, counted where not, in bounded memory."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import segments as s
from observer.wire.fragments import Fragment, Packet
from tests.wire.catalogue import DST, DST6, SRC, SRC6, ether, ip4, tcp4, tcp6
from tests.wire.decoding import Row, decode_everywhere, decode_with, frames_of

SECOND = 10**9


def fragments4(packet: bytes, size: int, *, identification: int = 7) -> list[bytes]:
    """IPv4 fragments with `size` octets each."""
    header, payload = packet[:20], packet[20:]
    parts = []
    for offset in range(0, len(payload), size):
        part = payload[offset : offset + size]
        more = offset + size < len(payload)
        place = more << 13 | offset // 8
        parts.append(header[:2] + struct.pack("!HHH", 20 + len(part), identification, place) + header[8:] + part)
    return parts


def fragments6(packet: bytes, size: int) -> list[bytes]:
    header, payload = packet[:40], packet[40:]
    parts = []
    for offset in range(0, len(payload), size):
        part = payload[offset : offset + size]
        more = offset + size < len(payload)
        extension = struct.pack("!BBHI", header[6], 0, offset | more, 99)
        parts.append(header[:4] + struct.pack("!HB", 8 + len(part), 44) + header[7:] + extension + part)
    return parts


def frames4(packet: bytes, size: int) -> list[bytes]:
    return [ether(0x0800, part) for part in fragments4(packet, size)]


def is_the_segment(row: Row, *, version: int = 4) -> bool:
    ends = (SRC, DST) if version == 4 else (SRC6, DST6)
    return (row.src, row.dst, row.src_port, row.seq, row.length) == (*ends, 50000, 1000, 15)


@pytest.mark.parametrize("size", [8, 16, 24, 40])
def test_ipv4(size: int) -> None:
    frames = frames4(tcp4(), size)
    rows, decoder = decode_everywhere(frames)
    (row,) = rows
    assert is_the_segment(row)
    assert row.frame == len(frames)
    assert row.has(s.REASSEMBLED)
    assert row.has(s.HAS_TIMESTAMPS)
    assert row.has(s.CHECKSUM_KNOWN)
    assert not row.has(s.BAD_CHECKSUM)
    assert row.cells[s.TTL] == 61
    assert [(entry.reason, entry.count) for entry in decoder.skipped] == [("fragment", len(frames) - 1)]


def test_ipv6() -> None:
    frames = [ether(0x86DD, part) for part in fragments6(tcp6(), 16)]
    (row,) = decode_everywhere(frames)[0]
    assert is_the_segment(row, version=6)
    assert row.has(s.REASSEMBLED)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_and_twice(seed: int) -> None:
    frames = frames4(tcp4(), 8)
    doubled = frames[:-1] * 2
    random.Random(seed).shuffle(doubled)
    rows, decoder = decode_everywhere([*doubled, frames[-1]])
    assert [is_the_segment(row) for row in rows] == [True]
    assert decoder.segment_frames == 1


def test_inside_a_tunnel_and_the_tunnel_itself() -> None:
    inside = [ether(0x0800, ip4(47, b"\0\0\x08\0" + part)) for part in fragments4(tcp4(), 24)]
    (row,) = decode_everywhere(inside)[0]
    assert is_the_segment(row)
    assert row.encapsulation == s.ENCAP_GRE
    outside = frames4(ip4(47, b"\0\0\x08\0" + tcp4()), 24)
    (row,) = decode_everywhere(outside)[0]
    assert is_the_segment(row)
    assert row.encapsulation == s.ENCAP_GRE
    vxlan = struct.pack("!HHHH", 1, 4789, 16 + 14 + len(tcp4()), 0) + b"\x08" + bytes(7) + ether(0x0800, tcp4())
    both = [ether(0x0800, ip4(4, part)) for part in fragments4(ip4(17, vxlan), 32)]
    (row,) = decode_everywhere(both)[0]
    assert is_the_segment(row)
    assert row.encapsulation == s.ENCAP_VXLAN | s.ENCAP_IP_IN_IP


def test_fragments_of_fragments() -> None:
    once = ip4(47, b"\0\0\x08\0" + fragments4(tcp4(), 24)[0])
    rest = [ip4(47, b"\0\0\x08\0" + part) for part in fragments4(tcp4(), 24)[1:]]
    frames = [*frames4(once, 24), *(ether(0x0800, part) for part in rest)]
    rows, _ = decode_everywhere(frames)
    assert [is_the_segment(row) for row in rows] == [True]
    assert rows[0].frame == len(frames)


def test_first_octets_win() -> None:
    first, *rest = frames4(tcp4(), 24)
    forged = bytearray(first)
    forged[34:36] = b"\xff\xff"  # another source port, later
    (row,) = decode_everywhere([first, bytes(forged), *rest])[0]
    assert is_the_segment(row)


def test_short_capture_still_tells_the_length() -> None:
    from scapy.layers.inet import IP, TCP

    frames = frames4(bytes(IP(src=SRC, dst=DST) / TCP(sport=50000) / bytes(3000)), 1400)
    rows, _ = decode_everywhere([frame[:64] for frame in frames], wire=[len(frame) for frame in frames])
    (row,) = rows
    assert row.length == 3000
    assert row.src_port == 50000


def test_incomplete_and_uninteresting() -> None:
    udp = struct.pack("!HHHH", 1, 53, 8 + 100, 0) + bytes(100)
    frames = [*frames4(tcp4(), 16)[1:], *frames4(ip4(17, udp), 40), *frames4(ip4(132, bytes(64)), 32)]
    rows, decoder = decode_everywhere(frames)
    assert not rows
    found = {(entry.reason, entry.detail): entry.count for entry in decoder.skipped}
    assert found == {
        ("fragment_incomplete", ""): 2,
        ("fragment_other", "protocol 17"): 3,
        ("fragment_other", "protocol 132"): 2,
    }


def test_number_used_again_much_later() -> None:
    first, *rest = frames4(tcp4(), 24)
    times = [0, *(200 * SECOND for _ in rest)]
    rows, decoder = decode_everywhere([first, *rest], times_ns=times)
    assert not rows
    assert decoder.skipped[0].reason == "fragment_incomplete"


def test_memory_is_bounded() -> None:
    frames = [ether(0x0800, part) for i in range(2000) for part in fragments4(tcp4(), 16, identification=i)[:1]]
    limit = 40_000
    rows, decoder = decode_with("compiled", [frames_of(frames)], max_fragments_octets=limit)
    assert not rows
    assert [(e.reason, e.count, e.first_frame, e.last_frame) for e in decoder.skipped] == [
        ("fragment_incomplete", 2000, 1, 2000)
    ]
    assert decoder._fragments.octets == 0
    decoder.decode(frames_of(frames))
    assert 0 < decoder._fragments.octets <= limit


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.booleans()), max_size=30))
@settings(max_examples=300, deadline=None)
def test_pieces_against_a_naive_packet(parts: list[tuple[int, int, bool]]) -> None:
    """Every octet is that of the first fragment that brought it."""
    packet, naive = Packet(0), {}
    total = -1
    for i, (start, size, more) in enumerate(parts):
        packet.add(Fragment(start, size, more, bytes([i]) * size, 6, 0, 1))
        for place in range(start, start + size):
            naive.setdefault(place, i)
        if not more and total < 0:
            total = start + size
        whole = total >= 0 and all(place in naive for place in range(total))
        assert packet.is_whole() == whole
        if whole:
            assert packet.payload() == bytes(naive[place] for place in range(total))
    assert packet.held == sum(1 for place in naive if total < 0 or place < total)
