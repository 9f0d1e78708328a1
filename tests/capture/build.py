"""Captures made octet by octet, for tests: nothing here leans on the code that is tested.

Sources: draft-ietf-opsawg-pcap-05, draft-ietf-opsawg-pcapng-02.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

SECOND = 1_000_000_000


class Frame(NamedTuple):
    """A frame to be written: what was captured, its time, its length on the wire (None: as captured)."""

    time_ns: int
    octets: bytes
    wire: int | None = None


def frames(count: int, *, start_ns: int = 1_700_000_000 * SECOND, step_ns: int = 1000, size: int = 60) -> list[Frame]:
    """Frames that differ, `size` octets and more, with times a whole number of microseconds apart."""
    return [
        Frame(start_ns + i * step_ns, i.to_bytes(4, "big") + bytes((i + j) & 0xFF for j in range(size - 4 + i % 7)))
        for i in range(count)
    ]


def pcap_header(
    *,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    version: tuple[int, int] = (2, 4),
    snaplen: int = 262144,
    link: int = 1,
) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link)


def pcap(
    some: Iterable[Frame | tuple[Any, ...]],
    *,
    order: str = "<",
    nano: bool = False,
    kuznetzov: bool = False,
    snaplen: int = 262144,
    link: int = 1,
    version: tuple[int, int] = (2, 4),
    swapped: bool = False,
) -> bytes:
    """A pcap file.  order: ``<`` or ``>``; swapped: lengths in the order of old versions."""
    magic = 0xA1B2CD34 if kuznetzov else 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [pcap_header(order=order, magic=magic, version=version, snaplen=snaplen, link=link)]
    for frame in (Frame(*one) for one in some):
        seconds, rest = divmod(frame.time_ns, SECOND)
        lengths = [len(frame.octets), len(frame.octets) if frame.wire is None else frame.wire]
        if swapped:
            lengths.reverse()
        parts.append(struct.pack(order + "IIII", seconds, rest if nano else rest // 1000, *lengths))
        if kuznetzov:
            parts.append(struct.pack(order + "IHBB", 1, 0x0800, 0, 0))
        parts.append(frame.octets)
    return b"".join(parts)


# --- pcapng, block by block ------------------------------------------------------------------------------


def padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def block(kind: int, body: bytes, *, order: str = "<", trailer: int | None = None, length: int | None = None) -> bytes:
    total = len(padded(body)) + 12 if length is None else length
    end = total if trailer is None else trailer
    return struct.pack(order + "II", kind, total) + padded(body) + struct.pack(order + "I", end)


def options(values: Iterable[tuple[int, bytes]], *, order: str = "<") -> bytes:
    values = list(values)
    if not values:
        return b""
    return b"".join(struct.pack(order + "HH", code, len(value)) + padded(value) for code, value in values) + bytes(4)


def shb(*, order: str = "<", length: int = -1, opts: Iterable[tuple[int, bytes]] = (), major: int = 1) -> bytes:
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, length) + options(opts, order=order)
    return block(0x0A0D0D0A, body, order=order)


def idb(
    *,
    order: str = "<",
    link: int = 1,
    snaplen: int = 0,
    tsresol: int | None = None,
    tsoffset: int | None = None,
    opts: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    values = list(opts)
    if tsresol is not None:
        values.append((9, bytes([tsresol])))
    if tsoffset is not None:
        values.append((14, struct.pack(order + "q", tsoffset)))
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options(values, order=order), order=order)


def epb(
    octets: bytes,
    stamp: int,
    *,
    order: str = "<",
    interface: int = 0,
    wire: int | None = None,
    captured: int | None = None,
    opts: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """An enhanced packet block; stamp counts units of the interface."""
    lengths = (len(octets) if captured is None else captured, len(octets) if wire is None else wire)
    body = struct.pack(order + "IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF, *lengths)
    return block(6, body + padded(octets) + options(opts, order=order), order=order)


def opb(octets: bytes, stamp: int, *, order: str = "<", interface: int = 0, wire: int | None = None) -> bytes:
    lengths = (len(octets), len(octets) if wire is None else wire)
    body = struct.pack(order + "HHIIII", interface, 0, stamp >> 32, stamp & 0xFFFFFFFF, *lengths)
    return block(2, body + octets, order=order)


def spb(octets: bytes, *, order: str = "<", wire: int | None = None) -> bytes:
    return block(3, struct.pack(order + "I", len(octets) if wire is None else wire) + octets, order=order)


def isb(*, order: str = "<", interface: int = 0, opts: Iterable[tuple[int, int]] = (), stamp: int = 0) -> bytes:
    """Interface statistics; every option is a 64-bit count."""
    values = [(code, struct.pack(order + "Q", count)) for code, count in opts]
    body = struct.pack(order + "III", interface, stamp >> 32, stamp & 0xFFFFFFFF)
    return block(5, body + options(values, order=order), order=order)


def pcapng(some: Iterable[Frame | tuple[Any, ...]], *, order: str = "<", link: int = 1, nano: bool = True) -> bytes:
    """A pcapng file of one section and one interface."""
    unit = 1 if nano else 1000
    parts = [shb(order=order), idb(order=order, link=link, tsresol=9 if nano else None)]
    for frame in (Frame(*one) for one in some):
        parts.append(epb(frame.octets, frame.time_ns // unit, order=order, wire=frame.wire))
    return b"".join(parts)
