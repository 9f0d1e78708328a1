"""Just enough parsing of the laboratory's own captures: which flow passed which tap when, in which direction.

Independent of the observer on purpose: the truth must not rest on what it judges. Reads only what tcpdump writes here:
nanosecond pcap, Ethernet, IPv4 or IPv6 without extension headers.

Sources: draft-ietf-opsawg-pcap, RFC 791, RFC 8200, RFC 9293 3.1.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NANOSECOND_MAGIC = 0xA1B23C4D
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@dataclass(slots=True, frozen=True)
class Frame:
    """One TCP segment (``flags`` >= 0) or ICMP message (``flags`` -1) at a tap."""

    time_ns: int
    source: tuple[str, int]
    target: tuple[str, int]
    flags: int
    seq: int
    ack: int
    window: int
    payload_octets: int


def records(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(time in ns, original length, octets) of each record of a nanosecond pcap; a cut last record is left out."""
    data = path.read_bytes()
    if len(data) < 24 or struct.unpack_from("<I", data)[0] != NANOSECOND_MAGIC:
        raise ValueError(f"{path} is not a little-endian nanosecond pcap")
    position = 24
    while position + 16 <= len(data):
        seconds, nanos, kept, original = struct.unpack_from("<IIII", data, position)
        if position + 16 + kept > len(data):
            return
        yield seconds * 1_000_000_000 + nanos, original, data[position + 16 : position + 16 + kept]
        position += 16 + kept


def frames(path: Path) -> list[Frame]:
    """Every TCP segment and ICMP message of a capture, in file order."""
    found = []
    for time_ns, _, octets in records(path):
        kind = struct.unpack_from(">H", octets, 12)[0]
        if kind == 0x0800:
            head, protocol, end = 14 + (octets[14] & 15) * 4, octets[23], 14 + struct.unpack_from(">H", octets, 16)[0]
            source, target = socket.inet_ntoa(octets[26:30]), socket.inet_ntoa(octets[30:34])
        elif kind == 0x86DD:
            head, protocol, end = 54, octets[20], 54 + struct.unpack_from(">H", octets, 18)[0]
            source = socket.inet_ntop(socket.AF_INET6, octets[22:38])
            target = socket.inet_ntop(socket.AF_INET6, octets[38:54])
        else:
            continue
        if protocol != socket.IPPROTO_TCP:
            found.append(Frame(time_ns, (source, 0), (target, 0), -1, 0, 0, 0, 0))
            continue
        sport, dport, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", octets, head)
        payload = end - head - (offset >> 4) * 4
        found.append(Frame(time_ns, (source, sport), (target, dport), flags, seq, ack, window, payload))
    return found
