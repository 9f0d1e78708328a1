"""TCP headers quoted in ICMP errors are rows of their own kind."""

from __future__ import annotations

import pytest

from observer import segments as s
from tests.wire.catalogue import DST, DST6, SRC, SRC6, ether, tcp4, tcp6, udp
from tests.wire.decoding import address, decode_everywhere


def icmp4(kind: int, code: int, quoted: bytes) -> bytes:
    from scapy.layers.inet import ICMP, IP

    return ether(0x0800, bytes(IP(src="203.0.113.9", dst=SRC) / ICMP(type=kind, code=code)) + quoted)


def icmp6(kind: int, code: int, quoted: bytes) -> bytes:
    from scapy.layers.inet6 import IPv6

    return ether(0x86DD, bytes(IPv6(src="2001:db8::9", dst=SRC6, nh=58, plen=8 + len(quoted)))
                 + bytes([kind, code, 0, 0, 0, 0, 0, 0]) + quoted)  # fmt: skip


def with_length(frame: bytes) -> bytes:
    """The frame with the IPv4 total length that its size implies."""
    return frame[:16] + (len(frame) - 14).to_bytes(2, "big") + frame[18:]


@pytest.mark.parametrize(("kind", "code"), [(3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)])
def test_whole_header_quoted(kind: int, code: int) -> None:
    rows, decoder = decode_everywhere([with_length(icmp4(kind, code, tcp4()))])
    (row,) = rows
    assert row.quoted
    assert row.has(s.HAS_QUOTED_HEADER)
    assert row.has(s.HAS_TIMESTAMPS)
    assert row.has(s.FIRST_OF_FRAME)
    assert (row.src, row.src_port, row.dst, row.dst_port, row.seq) == (SRC, 50000, DST, 443, 1000)
    assert (row.ack, row.window, row.length) == (2000, 500, 15)
    assert row.cells[s.ICMP_TYPE : s.ICMP_CODE + 1] == (kind, code)
    assert address(4, row.cells[s.REPORTER : s.REPORTER + 4]) == "203.0.113.9"
    assert (decoder.frames, decoder.segment_frames, decoder.quoted_frames) == (1, 0, 1)


@pytest.mark.parametrize("size", range(8, 20))
def test_short_quotation(size: int) -> None:
    (row,) = decode_everywhere([with_length(icmp4(3, 1, tcp4()[: 20 + size]))])[0]
    assert row.quoted
    assert not row.has(s.HAS_QUOTED_HEADER)
    assert (row.src_port, row.dst_port, row.seq) == (50000, 443, 1000)


@pytest.mark.parametrize(("kind", "code"), [(1, 4), (2, 0), (3, 0), (4, 1)])
def test_icmpv6(kind: int, code: int) -> None:
    (row,) = decode_everywhere([icmp6(kind, code, tcp6())])[0]
    assert row.quoted
    assert (row.src, row.dst, row.src_port) == (SRC6, DST6, 50000)
    assert row.cells[s.ICMP_TYPE : s.ICMP_CODE + 1] == (kind, code)
    assert address(6, row.cells[s.REPORTER : s.REPORTER + 4]) == "2001:db8::9"


def test_length_is_that_of_the_packet_quoted() -> None:
    """The quotation ends early, the quoted IP header still tells how long the segment was."""
    (row,) = decode_everywhere([with_length(icmp4(11, 0, tcp4()[:-10]))])[0]
    assert row.length == 15


def test_what_is_not_a_quoted_segment() -> None:
    later = bytearray(tcp4())
    later[6:8] = b"\x00\x09"
    frames = [
        with_length(icmp4(8, 0, b"echo")),
        with_length(icmp4(3, 3, udp(53, b"query")[14:])),
        with_length(icmp4(3, 1, tcp4()[:27])),
        with_length(icmp4(11, 1, bytes(later))),
    ]
    rows, decoder = decode_everywhere(frames)
    assert not rows
    found = {entry.reason: entry.detail for entry in decoder.skipped}
    assert found == {"icmp": "", "quoted_other": "protocol 17", "cut_tcp": "", "quoted_fragment": ""}
