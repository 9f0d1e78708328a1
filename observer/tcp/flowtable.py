"""Finding a segment's flow: a keyed hash table over the streams, and what a stream remembers of its first segment.

A stream that has only its first segment (a SYN of a flood, say) is one row of `streams`; the flow row with its two
endpoints is made when a second segment comes, by playing the first one again from that row.

The hash is multilinear with random 64-bit multipliers drawn for each run, so addresses cannot be chosen to collide.
Sources: Lemire and Kaser, "Strongly universal string hashing is fast" (2014); stream boundaries as Wireshark has them.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel
from observer.segments import (
    ACK,
    ACK_FLAG,
    DST,
    DST_PORT,
    ENCAPSULATION,
    FLAGS,
    FRAME,
    HAS_SACK,
    HAS_SACK2,
    HAS_TIMESTAMPS,
    IP_ID,
    KIND,
    KIND_SEGMENT,
    LENGTH,
    MSS,
    OPTIONS,
    SCALE,
    SEQ,
    SRC,
    SRC_PORT,
    SYN,
    TIME,
    TS_ECHO,
    TS_VALUE,
    TTL,
    VERSION,
    WINDOW,
    WIRE_LENGTH,
)
from observer.tcp.layout import (
    CLIENT,
    E_FLAGS,
    E_STATE,
    F_UNKNOWN_START,
    FLOW_FLAGS,
    FLOW_INFERRED,
    FLOW_KEY,
    FLOW_PORTS,
    FLOW_STRIDE,
    FLOW_SWAPPED,
    G_FLOWS,
    G_FREE_ROW,
    G_LONG,
    G_MASK,
    G_SECRET,
    G_STREAMS,
    PREVIOUS,
    S_ACK,
    S_DST,
    S_FLAGS,
    S_FLOW,
    S_FRAME,
    S_LENGTH,
    S_MSS,
    S_OPTIONS,
    S_PORTS,
    S_PREVIOUS,
    S_SEQ,
    S_SRC,
    S_TIME,
    S_TS,
    SERVER,
    SLOT_FLOW,
    SLOT_NUMBER,
    STREAM,
    STREAM_STRIDE,
)
from observer.tcp.sequence import add
from observer.tcp.states import UNKNOWN

MASK: Final = 0xFFFFFFFF
TAG: Final = 0x7FFFFFFF  # 31 bits of the hash stand beside the stream's number in a slot
HALF: Final = 0x80000000


@kernel
def pack(high: int, low: int) -> int:
    """Two 32-bit words as one signed 64-bit cell."""
    return ((high ^ HALF) - HALF) << 32 | low


@kernel
def hash_of(g: Int64s, a0: int, a1: int, b0: int, b1: int, ports: int) -> int:
    """31 bits from the two ends of a connection, in either order the same.

    (a0, a1) and (b0, b1) are addresses as two cells each, ports is ``version << 32 | port of a << 16 | port of b``.
    """
    a_port, b_port = ports >> 16 & 0xFFFF, ports & 0xFFFF
    if a0 > b0 or (a0 == b0 and (a1 > b1 or (a1 == b1 and a_port > b_port))):
        a0, b0 = b0, a0
        a1, b1 = b1, a1
        a_port, b_port = b_port, a_port
    # Products wrap modulo 2**64; bits 32..62 of the sum are the same for unbounded ints.
    total = g[G_SECRET] + g[G_SECRET + 1] * (a1 & MASK) + g[G_SECRET + 2] * (b1 & MASK)
    total += g[G_SECRET + 3] * (a_port << 16 | b_port)
    if ports >> 32 == 6:
        total += g[G_SECRET + 4] * (a1 >> 32 & MASK) + g[G_SECRET + 5] * (b1 >> 32 & MASK)
        total += g[G_SECRET + 6] * (a0 & MASK) + g[G_SECRET + 7] * (b0 & MASK)
        total += g[G_SECRET + 8] * (a0 >> 32 & MASK) + g[G_SECRET + 9] * (b0 >> 32 & MASK)
    return total >> 32 & TAG


@kernel
def find_slot(streams: Int64s, slots: Int64s, flows: Int64s, g: Int64s, rows: Int64s, s: int, tag: int) -> int:
    """Slot of the latest stream between the segment's two ends, or the free slot where it belongs.

    tag: the hash of its ends (`tag_of`).
    """
    version = rows[s + VERSION] << 32
    ports = version | rows[s + SRC_PORT] << 16 | rows[s + DST_PORT]
    other = version | rows[s + DST_PORT] << 16 | rows[s + SRC_PORT]
    forth = pack(rows[s + SRC + 3], rows[s + DST + 3])
    back = pack(rows[s + DST + 3], rows[s + SRC + 3])
    at = tag & g[G_MASK]
    while slots[at]:
        kept = slots[at]
        if kept >> 32 == tag:
            number = (kept & SLOT_NUMBER) - 1
            if rows[s + VERSION] == 4:
                if kept & SLOT_FLOW:
                    key, both = flows[number * FLOW_STRIDE + FLOW_KEY], flows[number * FLOW_STRIDE + FLOW_PORTS]
                else:
                    r = number * STREAM_STRIDE
                    key, both = pack(streams[r + S_SRC + 1] & MASK, streams[r + S_DST + 1] & MASK), streams[r + S_PORTS]
                if (key == forth and both == ports) or (key == back and both == other):
                    return at
            else:
                stream = flows[number * FLOW_STRIDE + STREAM] if kept & SLOT_FLOW else number
                if is_between(streams, stream, rows, s, ports, other):
                    return at
        at = (at + 1) & g[G_MASK]
    return at


@kernel
def is_between(streams: Int64s, stream: int, rows: Int64s, s: int, ports: int, other: int) -> bool:
    """Whether the stream is between the two ends of an IPv6 segment."""
    r = stream * STREAM_STRIDE
    a0, a1 = pack(rows[s + SRC], rows[s + SRC + 1]), pack(rows[s + SRC + 2], rows[s + SRC + 3])
    b0, b1 = pack(rows[s + DST], rows[s + DST + 1]), pack(rows[s + DST + 2], rows[s + DST + 3])
    c0, c1, d0, d1 = streams[r + S_SRC], streams[r + S_SRC + 1], streams[r + S_DST], streams[r + S_DST + 1]
    kept = streams[r + S_PORTS]
    forth = kept == ports and c0 == a0 and c1 == a1 and d0 == b0 and d1 == b1
    return forth or (kept == other and c0 == b0 and c1 == b1 and d0 == a0 and d1 == a1)


@kernel
def tag_of(g: Int64s, rows: Int64s, s: int) -> int:
    """The hash of a segment's ends."""
    return hash_of(
        g,
        pack(rows[s + SRC], rows[s + SRC + 1]),
        pack(rows[s + SRC + 2], rows[s + SRC + 3]),
        pack(rows[s + DST], rows[s + DST + 1]),
        pack(rows[s + DST + 2], rows[s + DST + 3]),
        rows[s + VERSION] << 32 | rows[s + SRC_PORT] << 16 | rows[s + DST_PORT],
    )


@kernel
def new_stream(
    streams: Int64s, slots: Int64s, flows: Int64s, g: Int64s, at: int, rows: Int64s, s: int, tag: int
) -> int:
    """Open a stream with this segment, in slot `at` (free, or the incarnation before); returns its number."""
    stream = g[G_STREAMS]
    g[G_STREAMS] = stream + 1
    r = stream * STREAM_STRIDE
    streams[r + S_SRC] = pack(rows[s + SRC], rows[s + SRC + 1])
    streams[r + S_SRC + 1] = pack(rows[s + SRC + 2], rows[s + SRC + 3])
    streams[r + S_DST] = pack(rows[s + DST], rows[s + DST + 1])
    streams[r + S_DST + 1] = pack(rows[s + DST + 2], rows[s + DST + 3])
    streams[r + S_PORTS] = rows[s + VERSION] << 32 | rows[s + SRC_PORT] << 16 | rows[s + DST_PORT]
    streams[r + S_TIME] = rows[s + TIME]
    streams[r + S_FRAME] = rows[s + FRAME]
    streams[r + S_SEQ] = rows[s + SEQ]
    streams[r + S_ACK] = rows[s + ACK]
    flags, ttl = rows[s + FLAGS] & 0xFFFF, rows[s + TTL] & 0xFF
    streams[r + S_FLAGS] = flags | rows[s + WINDOW] << 16 | ttl << 32 | (rows[s + IP_ID] & 0xFFFF) << 40
    streams[r + S_LENGTH] = rows[s + LENGTH] | (rows[s + WIRE_LENGTH] & 0x7FFFFFFF) << 32
    # SACK edges are not kept: on a stream's very first segment they tell nothing
    streams[r + S_OPTIONS] = rows[s + OPTIONS] & ~(HAS_SACK | HAS_SACK2) | rows[s + ENCAPSULATION] << 32
    streams[r + S_TS] = pack(rows[s + TS_ECHO], rows[s + TS_VALUE]) if rows[s + OPTIONS] & HAS_TIMESTAMPS else 0
    streams[r + S_MSS] = (rows[s + MSS] & 0xFFFF) | (rows[s + SCALE] & 0xFF) << 16
    streams[r + S_FLOW] = 0
    kept = slots[at]
    number = kept & SLOT_NUMBER
    streams[r + S_PREVIOUS] = flows[(number - 1) * FLOW_STRIDE + STREAM] + 1 if kept & SLOT_FLOW else number
    slots[at] = tag << 32 | (stream + 1)
    return stream


@kernel
def recall(streams: Int64s, stream: int, rows: Int64s, s: int) -> int:
    """Write a stream's first segment back into a segment row."""
    r = stream * STREAM_STRIDE
    rows[s + TIME] = streams[r + S_TIME]
    rows[s + FRAME] = streams[r + S_FRAME]
    rows[s + KIND] = KIND_SEGMENT
    rows[s + VERSION] = streams[r + S_PORTS] >> 32
    rows[s + SRC_PORT] = streams[r + S_PORTS] >> 16 & 0xFFFF
    rows[s + DST_PORT] = streams[r + S_PORTS] & 0xFFFF
    rows[s + SEQ] = streams[r + S_SEQ]
    rows[s + ACK] = streams[r + S_ACK]
    rows[s + FLAGS] = streams[r + S_FLAGS] & 0xFFFF
    rows[s + WINDOW] = streams[r + S_FLAGS] >> 16 & 0xFFFF
    rows[s + TTL] = streams[r + S_FLAGS] >> 32 & 0xFF
    rows[s + IP_ID] = streams[r + S_FLAGS] >> 40 & 0xFFFF
    rows[s + LENGTH] = streams[r + S_LENGTH] & MASK
    rows[s + WIRE_LENGTH] = streams[r + S_LENGTH] >> 32
    rows[s + OPTIONS] = streams[r + S_OPTIONS] & MASK
    rows[s + ENCAPSULATION] = streams[r + S_OPTIONS] >> 32
    rows[s + TS_VALUE] = streams[r + S_TS] & MASK
    rows[s + TS_ECHO] = streams[r + S_TS] >> 32 & MASK
    rows[s + MSS] = streams[r + S_MSS] & 0xFFFF
    rows[s + SCALE] = streams[r + S_MSS] >> 16 & 0xFF
    return 0


@kernel
def role_flags(flags: int, source_port: int, destination_port: int) -> int:
    """FLOW_SWAPPED if the sender of a stream's first segment is the server, FLOW_INFERRED if that is only inferred.

    Without a SYN the lower port is taken for the listener's: the same for all connections of a listener, as
    ephemeral ports are above registered ones (RFC 6335 6).
    """
    if flags & SYN:
        return FLOW_SWAPPED if flags & ACK_FLAG else 0
    if source_port < destination_port:
        return FLOW_SWAPPED | FLOW_INFERRED
    return FLOW_INFERRED


@kernel
def take_row(flows: Int64s, g: Int64s) -> int:
    """First cell of a row of zeros that is free."""
    free = g[G_FREE_ROW]
    if free:
        flow = (free - 1) * FLOW_STRIDE
        g[G_FREE_ROW] = flows[flow]
        flows[flow] = 0
        return flow
    number = g[G_FLOWS]
    g[G_FLOWS] = number + 1
    return number * FLOW_STRIDE


@kernel
def new_flow(streams: Int64s, slots: Int64s, flows: Int64s, g: Int64s, at: int, stream: int) -> int:
    """Make the flow row of the stream in slot `at`; returns its first cell."""
    flow = take_row(flows, g)
    number = flow // FLOW_STRIDE
    g[G_LONG] += 1
    streams[stream * STREAM_STRIDE + S_FLOW] = number + 1
    slots[at] = slots[at] >> 32 << 32 | SLOT_FLOW | (number + 1)
    begin_flow(streams, flows, flow, stream)
    return flow


@kernel
def blank_flow(flows: Int64s, flow: int) -> int:
    """Make a row that was used all zeros again, as new rows are."""
    for i in range(FLOW_STRIDE):
        flows[flow + i] = 0
    return 0


@kernel
def begin_flow(streams: Int64s, flows: Int64s, flow: int, stream: int) -> int:
    """Fill a row of zeros for a stream of which nothing was analysed yet."""
    r = stream * STREAM_STRIDE
    flags = streams[r + S_FLAGS] & 0xFFFF
    ports = streams[r + S_PORTS]
    if ports >> 32 == 4:
        flows[flow + FLOW_KEY] = pack(streams[r + S_SRC + 1] & MASK, streams[r + S_DST + 1] & MASK)
    flows[flow + FLOW_PORTS] = ports
    flows[flow + STREAM] = stream
    flows[flow + PREVIOUS] = streams[r + S_PREVIOUS]
    flows[flow + FLOW_FLAGS] = role_flags(flags, ports >> 16 & 0xFFFF, ports & 0xFFFF)
    if flags & (SYN | ACK_FLAG) != SYN:
        flows[flow + CLIENT + E_STATE] = UNKNOWN
        flows[flow + CLIENT + E_FLAGS] = F_UNKNOWN_START
        if not flags & SYN:
            flows[flow + SERVER + E_STATE] = UNKNOWN
            flows[flow + SERVER + E_FLAGS] = F_UNKNOWN_START
    return 0


@kernel
def stub_opens(streams: Int64s, stream: int, same_sender: int, flags: int, seq: int) -> int:
    """Whether a SYN opens a new stream although the latest one has only its first segment.

    As `analysis.opens_stream`: the sender's base number must be known and differ.
    """
    if flags & (SYN | ACK_FLAG) != SYN:
        return 0
    r = stream * STREAM_STRIDE
    first = streams[r + S_FLAGS] & 0xFFFF
    if same_sender:
        base = streams[r + S_SEQ] if first & SYN else add(streams[r + S_SEQ], -1)
        return 1 if base != seq else 0
    return 1 if first & ACK_FLAG and add(streams[r + S_ACK], -1) != seq else 0


@kernel
def is_lone_syn(streams: Int64s, stream: int) -> bool:
    """Whether all there is of a stream is a SYN, on a 4-tuple that is new: what floods and scans are made of."""
    r = stream * STREAM_STRIDE
    return streams[r + S_FLOW] == 0 and streams[r + S_FLAGS] & 0x1FF == SYN and streams[r + S_PREVIOUS] == 0


@kernel
def is_alike(streams: Int64s, stream: int, example: int) -> bool:
    """Whether a stream is a lone SYN of which everything is told as of the example, addresses, ports and time aside.

    Sequence number, timestamps, TTL, IP identification and (roles are seen) ports of a lone SYN decide about no
    column and no event.  A flood's rows are made in a third of the time by this (2 M connections: 0.2 s of 1.2).
    """
    a, b = stream * STREAM_STRIDE, example * STREAM_STRIDE
    return (
        is_lone_syn(streams, stream)
        and streams[a + S_OPTIONS] == streams[b + S_OPTIONS]
        and streams[a + S_MSS] == streams[b + S_MSS]
        and (streams[a + S_LENGTH] ^ streams[b + S_LENGTH]) & MASK == 0
        and (streams[a + S_FLAGS] ^ streams[b + S_FLAGS]) & MASK == 0
    )


@kernel
def old_roles_equal(streams: Int64s, flows: Int64s, flow: int, before: int) -> bool:
    """Whether client and server are the same ends in both incarnations' rows."""
    new, old = flows[flow + STREAM] * STREAM_STRIDE, flows[before + STREAM] * STREAM_STRIDE
    same_first = (
        streams[new + S_PORTS] == streams[old + S_PORTS]
        and streams[new + S_SRC + 1] == streams[old + S_SRC + 1]
        and streams[new + S_SRC] == streams[old + S_SRC]
    )
    swapped = (flows[flow + FLOW_FLAGS] ^ flows[before + FLOW_FLAGS]) & FLOW_SWAPPED
    return same_first == (swapped == 0)


@entry
def rehash(old: Int64s, new: Int64s) -> int:
    """Move all streams from one hash table to a larger, empty one."""
    mask = len(new) - 1
    for i in range(len(old)):
        if old[i]:
            at = (old[i] >> 32) & mask
            while new[at]:
                at = (at + 1) & mask
            new[at] = old[i]
    return 0
