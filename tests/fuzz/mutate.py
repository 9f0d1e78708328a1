"""Mutations of captures: each takes a random generator and returns octets that claim to be a capture.

Deterministic: the same generator state gives the same octets.
"""

from __future__ import annotations

import functools
import gzip
import struct
from collections.abc import Callable
from random import Random

from seeds import ETHERNET, Frame, Seed, block, write_pcap, write_pcapng

Mutation = Callable[[Random, list[Seed]], bytes]
MUTATIONS: dict[str, Mutation] = {}
EDGES = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    19,
    20,
    31,
    32,
    39,
    40,
    59,
    60,
    64,
    127,
    128,
    255,
    256,
    1500,
    32767,
    32768,
    65535,
)
EDGES_32 = (0, 1, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF)
LINKS = (0, 1, 6, 8, 9, 10, 12, 14, 50, 51, 100, 101, 104, 105, 107, 108, 109, 113, 117, 119, 127, 129, 140, 141,
         147, 163, 165, 187, 192, 195, 199, 214, 220, 226, 228, 229, 239, 240, 245, 253, 276, 285, 65535)  # fmt: skip
START_NS = 1_700_000_000_000_000_000


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def window(random: Random, seeds: list[Seed], most: int = 40) -> Seed:
    """Some frames in a row of one capture."""
    seed = random.choice(seeds)
    first = random.randrange(max(1, len(seed.frames) - most // 2))
    return seed._replace(frames=seed.frames[first : first + random.randrange(1, most)])


def wrapped(random: Random, frames: list[Frame], link: int) -> bytes:
    return write_pcap(frames, link, order=random.choice("<>"), nano=random.random() < 0.3)


@mutation
def bit_flips(random: Random, seeds: list[Seed]) -> bytes:
    seed = window(random, seeds)
    data = bytearray(wrapped(random, seed.frames, seed.link))
    for _ in range(random.choice([1, 1, 3, 10, 60])):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


@mutation
def header_octets(random: Random, seeds: list[Seed]) -> bytes:
    """The first hundred octets of frames, where all the headers stand, set to edge values."""
    seed = window(random, seeds)
    frames = []
    for frame in seed.frames:
        octets = bytearray(frame.octets)
        for _ in range(random.choice([0, 1, 1, 2, 8])):
            if octets:
                at = random.randrange(min(len(octets), 100))
                octets[at] = random.choice([0, 1, 4, 6, 17, 0x45, 0x4F, 0x5F, 0x7F, 0x80, 0xFF, random.randrange(256)])
        frames.append(frame._replace(octets=bytes(octets)))
    return wrapped(random, frames, seed.link)


@mutation
def cut(random: Random, seeds: list[Seed]) -> bytes:
    seed = window(random, seeds)
    data = wrapped(random, seed.frames, seed.link)
    return data[: random.randrange(len(data) + 1)]


@mutation
def cut_frames(random: Random, seeds: list[Seed]) -> bytes:
    """Frames captured short, with any length on the wire."""
    seed = window(random, seeds)
    frames = []
    for frame in seed.frames:
        wire = random.choice([frame.wire, len(frame.octets), random.choice(EDGES_32)])
        frames.append(frame._replace(octets=frame.octets[: random.randrange(len(frame.octets) + 1)], wire=wire))
    return wrapped(random, frames, seed.link)


@mutation
def splice_octets(random: Random, seeds: list[Seed]) -> bytes:
    first, second = (wrapped(random, seed.frames, seed.link) for seed in (window(random, seeds), window(random, seeds)))
    return first[: random.randrange(len(first))] + second[random.randrange(len(second)) :]


@mutation
def splice_frames(random: Random, seeds: list[Seed]) -> bytes:
    """Frames of two captures: mixed, repeated, left out, in any order and of any time."""
    first, second = window(random, seeds), window(random, seeds)
    frames = first.frames + second.frames
    if random.random() < 0.7:
        random.shuffle(frames)
    frames += random.choices(frames, k=random.randrange(20))
    if random.random() < 0.4:
        frames = [
            frame._replace(time_ns=random.choice([0, START_NS, (1 << 62) - 1, frame.time_ns])) for frame in frames
        ]
    return wrapped(random, frames, random.choice([first.link, second.link]))


@mutation
def joined_frames(random: Random, seeds: list[Seed]) -> bytes:
    """The front of one frame and the back of another."""
    first, second = window(random, seeds), window(random, seeds)
    frames = []
    for frame in first.frames:
        other = random.choice(second.frames).octets
        octets = frame.octets[: random.randrange(80)] + other[random.randrange(min(80, len(other) + 1)) :]
        frames.append(frame._replace(octets=octets, wire=len(octets)))
    return wrapped(random, frames, first.link)


@mutation
def lying_records(random: Random, seeds: list[Seed]) -> bytes:
    """Lengths and times of the file's record headers, and its global header, set to edge values."""
    seed = window(random, seeds)
    data = bytearray(write_pcap(seed.frames, seed.link))
    at = 24
    if random.random() < 0.3:
        struct.pack_into("<I", data, random.choice([0, 4, 8, 12, 16, 20]), random.choice(EDGES_32 + EDGES))
    for frame in seed.frames:
        if random.random() < 0.15:
            value = random.choice([*EDGES, *EDGES_32, len(frame.octets) - 1, len(frame.octets) + 1])
            struct.pack_into("<I", data, at + random.choice([0, 4, 8, 12]), value & 0xFFFFFFFF)
        at += 16 + len(frame.octets)
    return bytes(data)


def ip_offset(octets: bytes) -> int | None:
    """Where an IPv4 or IPv6 header seems to begin."""
    for at in range(min(len(octets) - 20, 80)):
        if octets[at] == 0x45 and octets[at + 9] in {1, 4, 6, 17, 41, 47} and octets[at + 6] & 0x9F == 0:
            return at
        if octets[at] >> 4 == 6 and octets[at + 6] in {0, 4, 6, 17, 41, 43, 44, 47, 58, 60} and octets[at + 7] > 0:
            return at
    return None


@mutation
def lying_headers(random: Random, seeds: list[Seed]) -> bytes:
    """Length fields of IP, UDP and TCP headers."""
    seed = window(random, seeds)
    frames = []
    for frame in seed.frames:
        octets = bytearray(frame.octets)
        ip = ip_offset(frame.octets)
        if ip is not None and random.random() < 0.6:
            size = 20 if octets[ip] >> 4 == 4 else 40
            # (place, octets): version and header length, total or payload length, fragment, UDP length, TCP data offset
            field = random.choice([(0, 1), (2, 2), (4, 2), (6, 2), (size + 4, 2), (size + 12, 1), (size + 13, 1)])
            at, width = ip + field[0], field[1]
            if at + width <= len(octets):
                value = random.choice([random.choice(EDGES), random.randrange(65536)])
                octets[at : at + width] = (value & (256**width - 1)).to_bytes(width, "big")
        frames.append(frame._replace(octets=bytes(octets)))
    return wrapped(random, frames, seed.link)


@mutation
def absurd_options(random: Random, seeds: list[Seed]) -> bytes:
    """TCP and IP options of any kind and length, also none that fit."""
    frames = []
    for i in range(random.randrange(1, 30)):
        options = bytearray()
        while len(options) < random.randrange(41):
            kind = random.choice([0, 1, 2, 3, 4, 5, 5, 8, 30, 34, 253, 254, random.randrange(256)])
            length = random.choice([0, 1, 2, 3, 4, 6, 10, 10, 18, 26, 34, 40, 255])
            options += bytes([kind, length]) + random.randbytes(min(max(length - 2, 0), 40))
        options = options[:40] + bytes(-len(options[:40]) % 4)
        segment = tcp(random, bytes(options), b"x" * random.randrange(9))
        ip_options = random.randbytes(4 * random.randrange(11)) if random.random() < 0.2 else b""
        packet = ipv4(segment, options=ip_options)
        octets = ethernet(packet)
        octets = octets[: random.randrange(len(octets))] if random.random() < 0.2 else octets
        frames.append(Frame(START_NS + i * 1000, octets, len(packet) + 14))
    return wrapped(random, frames, ETHERNET)


def tcp(random: Random, options: bytes = b"", payload: bytes = b"", ports: tuple[int, int] | None = None) -> bytes:
    source, target = ports or (random.choice([1, 2, 80]), random.choice([1, 2, 80]))
    offset = (20 + len(options)) // 4 if random.random() < 0.9 else random.randrange(16)
    near = random.choice(EDGES_32)
    seq, ack = (near + random.randrange(4)) & 0xFFFFFFFF, (near + random.randrange(4)) & 0xFFFFFFFF
    flags = random.choice([2, 18, 16, 24, 17, 4, 20, random.randrange(512)])
    head = struct.pack("!HHIIHHHH", source, target, seq, ack, offset << 12 | flags, random.choice(EDGES), 0, 0)
    return head + options + payload


def ipv4(payload: bytes, *, protocol: int = 6, options: bytes = b"", fragment: int = 0, ident: int = 1,
         ends: bytes = b"\x0a\0\0\x01\x0a\0\0\x02") -> bytes:  # fmt: skip
    size = 20 + len(options)
    total = (size + len(payload)) & 0xFFFF
    return (
        struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, total, ident, fragment, 64, protocol, 0)
        + ends
        + options
        + payload
    )


def ipv6(payload: bytes, *, protocol: int = 6) -> bytes:
    return (
        struct.pack("!IHBB", 6 << 28, len(payload) & 0xFFFF, protocol, 64)
        + bytes(15)
        + b"\1"
        + bytes(15)
        + b"\2"
        + payload
    )


def ethernet(payload: bytes, kind: int | None = None) -> bytes:
    if kind is None:
        kind = 0x86DD if payload[:1] and payload[0] >> 4 == 6 else 0x0800
    return bytes(11) + b"\1" + struct.pack("!H", kind) + payload


def wrappings(random: Random) -> list[Callable[[bytes], bytes]]:
    """Ways to put an IP packet into another one."""

    def protocol(packet: bytes) -> int:
        return 41 if packet[:1] and packet[0] >> 4 == 6 else 4

    def kind(packet: bytes) -> int:
        return 0x86DD if protocol(packet) == 41 else 0x0800

    def udp(port: int, payload: bytes) -> bytes:
        return struct.pack("!HHHH", 5000, port, (8 + len(payload)) & 0xFFFF, 0) + payload

    def extension(packet: bytes) -> bytes:
        body = packet[40:] if packet[:1] and packet[0] >> 4 == 6 else packet
        inner = packet[6] if packet[:1] and packet[0] >> 4 == 6 and len(packet) > 6 else 4
        return ipv6(bytes([inner, 0]) + bytes(6) + body, protocol=random.choice([0, 43, 60, 44]))

    return [
        lambda packet: ipv4(packet, protocol=protocol(packet)),
        lambda packet: ipv6(packet, protocol=protocol(packet)),
        extension,
        lambda packet: ipv4(struct.pack("!HH", 0, kind(packet)) + packet, protocol=47),
        lambda packet: ipv4(struct.pack("!HH", 0x1000, 0x6558) + bytes(4) + ethernet(packet), protocol=47),
        lambda packet: ipv4(struct.pack("!HHI", 0x1000, 0x88BE, 1) + bytes(8) + ethernet(packet), protocol=47),
        lambda packet: ipv4(udp(4789, b"\x08" + bytes(7) + ethernet(packet)), protocol=17),
        lambda packet: ipv4(udp(6081, b"\0\0\x65\x58" + bytes(4) + ethernet(packet)), protocol=17),
        lambda packet: ipv4(
            udp(2152, b"\x30\xff" + struct.pack("!H", len(packet) & 0xFFFF) + bytes(4) + packet), protocol=17
        ),
        lambda packet: ipv4(udp(3544, packet), protocol=17),
        lambda packet: ipv4(bytes([11, 0]) + bytes(6) + packet, protocol=1),
    ]


@mutation
def deep_encapsulation(random: Random, seeds: list[Seed]) -> bytes:
    """Up to some hundred layers around a packet, of one kind or of all kinds."""
    frames = []
    for i in range(random.randrange(1, 6)):
        ways = wrappings(random)
        packet = ipv4(tcp(random, payload=b"y" * 20))
        depth = random.choice([1, 2, 3, 8, 20, 200, 300])
        chosen = random.choice(ways) if random.random() < 0.5 else None
        for _ in range(depth):
            packet = (chosen or random.choice(ways))(packet)
        tags = random.choice([0, 0, 1, 2, 200])
        tag = random.choice(
            [b"\x81\x00\x00\x01", b"\x88\xa8\x00\x01", b"\x88\x47\x00\x00\x10\x40", b"\x88\x64\x11\x00\0\0\0\0\0\x21"]
        )
        octets = bytes(12) + tag * tags + ethernet(packet)[12:]
        if random.random() < 0.2:
            octets = octets[: random.randrange(len(octets))]
        frames.append(Frame(START_NS + i * 1000, octets[:262144], len(octets)))
    return wrapped(random, frames, ETHERNET)


@mutation
def fragments(random: Random, seeds: list[Seed]) -> bytes:
    """Datagrams in pieces: overlapping, missing, repeated, endless, of lying lengths."""
    frames = []
    for _ in range(random.randrange(1, 12)):
        datagram = tcp(random, payload=random.randbytes(random.randrange(120)))
        ident = random.randrange(3)
        pieces, at = [], 0
        while at < len(datagram):
            size = 8 * random.randrange(1, 6)
            more = 0x2000 if at + size < len(datagram) else 0
            pieces.append((at // 8 | more, datagram[at : at + size + random.choice([0, 0, 0, 8])]))
            at += size
        pieces = [piece for piece in pieces if random.random() < 0.9]
        pieces += random.choices(pieces, k=random.randrange(3)) if pieces else []
        if random.random() < 0.5:
            random.shuffle(pieces)
        if random.random() < 0.2:
            pieces.append((random.choice([0x1FFF, 0x3FFF, 0x2000]), random.randbytes(random.randrange(40))))
        for fragment, part in pieces:
            if random.random() < 0.5:
                packet = ipv4(part, fragment=fragment, ident=ident)
            else:
                offset = (fragment & 0x1FFF) << 3 | (fragment >> 13 & 1)
                packet = ipv6(struct.pack("!BBHI", 6, 0, offset, ident) + part, protocol=44)
            octets = ethernet(packet)
            frames.append(Frame(START_NS + len(frames) * random.choice([1000, 40_000_000_000]), octets, len(octets)))
    return wrapped(random, frames or [Frame(START_NS, b"", 0)], ETHERNET)


@mutation
def conversations(random: Random, seeds: list[Seed]) -> bytes:
    """Segments of any flags on a few 4-tuples, near the edges of sequence space, at times that jump."""
    frames = []
    time_ns = START_NS
    for _ in range(random.randrange(1, 120)):
        time_ns += random.choice([0, 1000, 1000, 20_000_000, 1_000_000_000, 70_000_000_000, -500_000_000])
        ends = random.choice([b"\x0a\0\0\x01\x0a\0\0\x02", b"\x0a\0\0\x02\x0a\0\0\x01", b"\x0a\0\0\x01\x0a\0\0\x01"])
        ports = random.choice([(1, 2), (2, 1), (1, 1)])
        payload = b"z" * random.choice([0, 0, 0, 1, 2, 1460])
        stamps = struct.pack("!BBBBII", 1, 1, 8, 10, random.choice(EDGES_32), random.choice(EDGES_32))
        octets = ethernet(ipv4(tcp(random, random.choice([b"", stamps]), payload, ports), ends=ends))
        frames.append(Frame(max(0, time_ns), octets, len(octets)))
    return wrapped(random, frames, ETHERNET)


@mutation
def link_types(random: Random, seeds: list[Seed]) -> bytes:
    """Frames under the wrong link type, or under octets that other link types begin with."""
    seed = window(random, seeds, 12)
    link = random.choice([random.choice(LINKS), random.randrange(300)])
    head = random.choice([b"", random.randbytes(random.randrange(1, 40)), bytes(random.randrange(1, 40))])
    frames = [frame._replace(octets=head + frame.octets[random.choice([0, 0, 14]) :]) for frame in seed.frames]
    frames = [frame._replace(wire=len(frame.octets)) for frame in frames]
    return wrapped(random, frames, link)


@mutation
def noise(random: Random, seeds: list[Seed]) -> bytes:
    """Random octets behind plausible beginnings."""
    link = random.choice(LINKS)
    starts = [b"", bytes(12) + b"\x08\x00\x45", bytes(12) + b"\x86\xdd\x60", b"\x45", b"\x60", b"\x02\0\0\0\x45",
              bytes(12) + b"\x81\x00", b"\0\0" + random.randbytes(10), bytes(14) + b"\x08\x00\x45"]  # fmt: skip
    frames = []
    for i in range(random.randrange(1, 30)):
        octets = random.choice(starts) + random.randbytes(random.choice([0, 1, 8, 40, 100, 400]))
        frames.append(Frame(START_NS + i, octets, random.choice([len(octets), random.choice(EDGES_32)])))
    return wrapped(random, frames, link)


@mutation
def pcapng_blocks(random: Random, seeds: list[Seed]) -> bytes:
    """Sound pcapng of many sections, interfaces and kinds of blocks; sometimes with flipped bits or cut."""
    seed = window(random, seeds)
    frames = [frame._replace(wire=frame.wire & 0xFFFFFFFF) for frame in seed.frames]
    links = [seed.link, *random.choices(LINKS, k=random.randrange(3))]
    data = bytearray(write_pcapng(frames, links, random))
    for _ in range(random.choice([0, 0, 1, 4])):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    if random.random() < 0.3:
        del data[random.randrange(len(data)) :]
    return bytes(data)


@mutation
def pcapng_lies(random: Random, seeds: list[Seed]) -> bytes:
    """pcapng blocks whose lengths and fields are edge values."""
    seed = window(random, seeds, 12)
    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, random.choice([-1, 0, 24, 1 << 62])))]
    for frame in seed.frames:
        lie = random.choice([None, None, None, *EDGES, *EDGES_32])
        captured = random.choice([len(frame.octets), len(frame.octets), random.choice(EDGES_32)])
        kind = random.choice([0, 1, 1, 2, 3, 4, 5, 6, 6, 6, 0x0A0D0D0A, 0xFFFFFFFF])
        rate = struct.pack("<HHB3x", 9, 1, random.choice([0, 6, 9, 18, 19, 0x7F, 0x80, 0xBF, 0xFF]))
        bodies = {1: struct.pack("<HHI", seed.link, 0, 0) + rate, 3: struct.pack("<I", captured) + frame.octets}
        numbers = [random.choice([0, 0, 1, 0xFFFFFFFF]), *random.choices(EDGES_32, k=2), captured, captured]
        body = bodies.get(kind, struct.pack("<5I", *numbers) + frame.octets)
        parts.append(block(kind, body, length=lie))
    return b"".join(parts)


@functools.cache
def _zstd() -> object:
    import zstandard

    return zstandard.ZstdCompressor()


@mutation
def compressed(random: Random, seeds: list[Seed]) -> bytes:
    """gzip and zstd: several members, flipped bits, cut, rubbish behind, nested."""
    seed = window(random, seeds)
    data = wrapped(random, seed.frames, seed.link)

    def pack(octets: bytes) -> bytes:
        return gzip.compress(octets, 1) if random.random() < 0.6 else _zstd().compress(octets)  # type: ignore[attr-defined]

    half = random.randrange(len(data))
    out = bytearray(pack(data[:half]) + pack(data[half:]) if random.random() < 0.3 else pack(data))
    fate = random.random()
    if fate < 0.3:
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    elif fate < 0.5:
        del out[random.randrange(len(out)) :]
    elif fate < 0.6:
        out += random.randbytes(random.randrange(1, 50))
    elif fate < 0.65:
        out = bytearray(pack(bytes(out)))
    return bytes(out)


def case(seed: int, index: int, seeds: list[Seed]) -> tuple[str, bytes]:
    """Name of the mutation and octets of one case; depends on seed and index (and the seeds) only."""
    random = Random(f"{seed}:{index}")
    name = random.choice(list(MUTATIONS))
    return name, MUTATIONS[name](random, seeds)
