"""Captures taken apart and put together: what the mutations start from.

Nothing here leans on observer.capture: it is what is tested.
Sources: pcap-savefile(5), draft-ietf-opsawg-pcapng (block types and options).
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("OBSERVER_SHARED") or ROOT.parent / "shared")
LARGEST = 1_500_000  # octets of a seed file; larger ones add time, not variety
ETHERNET = 1


class Frame(NamedTuple):
    """A frame of a capture: ns since 1970, octets captured, octets on the wire."""

    time_ns: int
    octets: bytes
    wire: int


class Seed(NamedTuple):
    """The frames of one capture."""

    name: str
    link: int
    frames: list[Frame]


def read_pcap(data: bytes) -> tuple[int, list[Frame]]:
    """Link type and frames of a whole, undamaged classic pcap file."""
    orders = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000)}
    orders |= {b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1)}
    order, unit = orders[data[:4]]
    (link,) = struct.unpack_from(order + "I", data, 20)
    frames, at = [], 24
    while at + 16 <= len(data):
        seconds, part, captured, wire = struct.unpack_from(order + "IIII", data, at)
        if at + 16 + captured > len(data):
            break
        frames.append(Frame(seconds * 1_000_000_000 + part * unit, data[at + 16 : at + 16 + captured], wire))
        at += 16 + captured
    return link & 0xFFFF, frames


def read_pcapng(data: bytes) -> tuple[int, list[Frame]]:
    """Link type of the first interface and the frames of its enhanced packet blocks, microseconds taken for granted."""
    order = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    link, frames, at = None, [], 0
    while at + 12 <= len(data):
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or at + length > len(data):
            break
        if kind == 1 and link is None:
            (link,) = struct.unpack_from(order + "H", data, at + 8)
        elif kind == 6:
            _, high, low, captured, wire = struct.unpack_from(order + "IIIII", data, at + 8)
            time_ns = ((high << 32 | low) * 1000) & ((1 << 62) - 1)
            frames.append(Frame(time_ns, data[at + 28 : at + 28 + captured], wire))
        at += length
    return link or ETHERNET, frames


def load_seeds(folders: list[Path] | None = None) -> list[Seed]:
    """Every capture of the project and, where it is there, of the shared corpus."""
    found = []
    for folder in folders or [ROOT / "captures", SHARED / "corpus"]:
        for path in sorted(folder.rglob("*.pcap*")) if folder.is_dir() else []:
            if path.stat().st_size > LARGEST:
                continue
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            try:
                link, frames = read_pcapng(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else read_pcap(data)
            except (KeyError, struct.error):
                continue
            if frames:
                found.append(Seed(path.name, link, frames))
    return found


def write_pcap(frames: list[Frame], link: int, *, order: str = "<", nano: bool = False) -> bytes:
    parts = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)]
    for frame in frames:
        seconds, rest = divmod(frame.time_ns, 1_000_000_000)
        rest = rest if nano else rest // 1000
        parts.append(
            struct.pack(order + "IIII", seconds & 0xFFFFFFFF, rest, len(frame.octets), frame.wire & 0xFFFFFFFF)
        )
        parts.append(frame.octets)
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<", length: int | None = None) -> bytes:
    """A pcapng block; `length` lies about its size."""
    body += bytes(-len(body) % 4)
    size = len(body) + 12 if length is None else length & 0xFFFFFFFF
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


NASTY = (b"\x1b]0;owned\x07", b"\x1b[31m\x1b[2J", b"\xff\xfe\x00", "\u202egnp.exe".encode(), b"\r\n\x9b5n", b"")


def write_pcapng(frames: list[Frame], links: list[int], random: Random) -> bytes:
    """Several sections and interfaces, all kinds of blocks, options that nobody expects; formally sound."""
    parts = []
    order = random.choice("<>")
    rate = 6
    for i, frame in enumerate(frames):
        if i == 0 or random.random() < 0.05:
            order, rate = random.choice("<>"), random.choice([6, 6, 9, 3, 0, 0x8A, 0x94])
            notes = option(random.choice([1, 2, 3, 4]), random.choice(NASTY), order) + option(0, b"", order)
            parts.append(block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + notes, order))
            for link in links:
                notes = option(9, bytes([rate]), order) + option(2, random.choice(NASTY), order)
                notes += option(14, struct.pack(order + "q", random.choice([0, 1, -1, 1 << 40])), order)
                parts.append(block(1, struct.pack(order + "HHI", link, 0, random.choice([0, 96])) + notes, order))
        unit = (1 << (rate & 0x7F)) if rate & 0x80 else 10**rate
        ticks = (frame.time_ns * unit // 1_000_000_000) & (1 << 64) - 1
        interface = random.randrange(len(links))
        kind = random.random()
        if kind < 0.8:
            head = struct.pack(order + "5I", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame.octets), frame.wire)
            notes = option(1, random.choice(NASTY), order) if random.random() < 0.1 else b""
            parts.append(block(6, head + frame.octets + bytes(-len(frame.octets) % 4) + notes, order))
        elif kind < 0.87:
            parts.append(block(3, struct.pack(order + "I", frame.wire) + frame.octets, order))
        elif kind < 0.94:
            head = struct.pack(
                order + "HHIIII", interface, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(frame.octets), frame.wire
            )
            parts.append(block(2, head + frame.octets, order))
        else:  # name resolution, interface statistics, secrets, custom, unknown
            body = random.randbytes(random.randrange(40))
            parts.append(block(random.choice([4, 5, 10, 0xBAD, 0x40000BAD, 0x7FFFFFFF]), body, order))
    return b"".join(parts)
