"""The decoder's entry: records of frames in, rows of segments out, every other frame counted by its reason.

The usual frame (Ethernet, at most one VLAN tag, IPv4 without options, TCP) takes a short way; everything else is
walked layer by layer.  Where Python must help (fragments, what only scapy knows), the kernel returns the
record's index with its place in the registers, and goes on from there in the next call.

Never keeps anything from one frame to the next but counts.
"""

from __future__ import annotations

from typing import Final

from observer import segments as s
from observer.kernels import Int64s, Octets, entry, kernel
from observer.wire import reasons as why
from observer.wire import registers as r
from observer.wire.link import link_layer
from observer.wire.skips import skip_count, skip_frame
from observer.wire.tcp_header import checksum_bits, tcp_header
from observer.wire.walk import walk
from observer.wire.wifi import AGGREGATE_MAX

SCAPY_TRIES: Final = 32
"""Fruitless dissections by scapy of one protocol number, before its frames are only counted."""
OCTETS_A_ROW: Final = 44
"""A further segment in the same frame costs more octets than this (A-MSDU, LLC, IP, ports and SEQ: 14 + 3 + 20 + 8)."""

VERIFY_HERE: Final = 1  # `verify`: the kernel sums up
VERIFY_LATER: Final = 2  # `verify`: the kernel notes place and length in two spare cells, Python sums up
VERIFY_OFFSET: Final = 38  # those cells (segments.STRIDE leaves them free)
VERIFY_LENGTH: Final = 39

STREAM_HEADER: Final = 16
"""Octets of a TCP header, up to the window, that an IP packet must hold to be counted to a stream: Wireshark 4.0's
packet-tcp.c reads them before it looks for the stream.  A capture that cuts them off is another matter."""


@entry
def decode(
    octets: Octets, records: Int64s, rows: Int64s, state: Int64s, skips: Int64s, first: int, count: int, verify: int
) -> int:
    """Decode records `first` to `count`; returns `count`, or the record at which state[STOP] says what is needed."""
    for record in range(first, count):
        base = record * s.RECORD_STRIDE
        offset = records[base + s.RECORD_OFFSET]
        captured = records[base + s.RECORD_CAPTURED]
        # 1. room for as many rows as the frame could give
        if state[r.ROWS] + 1 + min(captured, AGGREGATE_MAX) // OCTETS_A_ROW > state[r.CAPACITY]:
            state[r.STOP] = r.STOP_FULL
            return record
        if state[r.RESUME] == 0:
            # 2. the usual frame
            cell = state[r.ROWS] * s.STRIDE
            place = usual(octets, rows, cell, offset, captured) if records[base + s.RECORD_LINK] == 1 else 0
            if place:
                end = place - 20 + r.u16(octets, place - 18)
                real_end = min(end, offset + max(captured, records[base + s.RECORD_WIRE]))
                end = min(end, offset + captured)
                bits = tcp_header(octets, rows, cell, place, end, real_end)
                rows[cell + s.KIND] = s.KIND_SEGMENT
                rows[cell + s.ENCAPSULATION] = s.ENCAP_VLAN if place - offset > 34 else 0
                complete(octets, records, rows, base, cell, bits | s.FIRST_OF_FRAME, place, end, real_end, verify)
                state[r.ROWS] += 1
                state[r.FRAMES] += 1
                state[r.SEGMENT_FRAMES] += 1
                continue
            # 3. any other
            begin(state, offset, captured, records[base + s.RECORD_WIRE])
            layer = state[r.ENTER] if state[r.ENTER] else link_layer(state, records[base + s.RECORD_LINK])
            state[r.STOP] = frame(octets, records, rows, state, skips, base, layer, verify)
        else:
            # 4. a frame that Python has helped with: what is left of it
            state[r.RESUME] = 0
            state[r.STOP] = pending(octets, records, rows, state, skips, base, verify)
        if state[r.STOP]:
            return record
        if state[r.NESTED] == 0:
            close_frame(rows, state, skips, records[base + s.RECORD_FRAME])
    state[r.STOP] = r.STOP_DONE
    return count


@kernel
def usual(octets: Octets, rows: Int64s, cell: int, offset: int, captured: int) -> int:
    """If this is Ethernet, at most one VLAN tag, plain IPv4 and a whole TCP header: IP's cells, and where TCP starts.

    0 if it is anything else; then the row may hold anything.
    """
    if captured < 54:
        return 0
    o = offset + 14
    kind = r.u16(octets, offset + 12)
    if kind == 0x8100:
        if captured < 58:
            return 0
        kind = r.u16(octets, offset + 16)
        o = offset + 18
    # no options, neither fragment nor offset, TCP, and long enough for a header
    if kind != 0x0800 or octets[o] != 0x45 or octets[o + 9] != 6 or r.u16(octets, o + 6) & 0x3FFF:
        return 0
    if r.u16(octets, o + 2) < 40:
        return 0
    rows[cell + s.VERSION] = 4
    rows[cell + s.SRC] = 0
    rows[cell + s.SRC + 1] = 0
    rows[cell + s.SRC + 2] = 0
    rows[cell + s.SRC + 3] = r.u32(octets, o + 12)
    rows[cell + s.DST] = 0
    rows[cell + s.DST + 1] = 0
    rows[cell + s.DST + 2] = 0
    rows[cell + s.DST + 3] = r.u32(octets, o + 16)
    rows[cell + s.TTL] = octets[o + 8]
    rows[cell + s.IP_ID] = r.u16(octets, o + 4)
    return o + 20


@kernel
def complete(
    octets: Octets, records: Int64s, rows: Int64s, base: int, cell: int, bits: int, o: int, end: int, real_end: int,
    verify: int,
) -> None:  # fmt: skip
    """Fill in what every row has: the frame's cells, the OPTIONS bits, the checksum's verdict."""
    rows[cell + s.TIME] = records[base + s.RECORD_TIME]
    rows[cell + s.FRAME] = records[base + s.RECORD_FRAME]
    rows[cell + s.WIRE_LENGTH] = records[base + s.RECORD_WIRE]
    if verify:
        whole = end == real_end and rows[cell + s.KIND] == s.KIND_SEGMENT and real_end - o < 65536
        if verify == VERIFY_LATER:
            rows[cell + VERIFY_OFFSET] = o
            rows[cell + VERIFY_LENGTH] = end - o if whole else 0
        elif whole:
            bits |= checksum_bits(octets, rows, cell, o, end)
    rows[cell + s.OPTIONS] = bits


@kernel
def begin(state: Int64s, offset: int, captured: int, wire: int) -> None:
    """Set the registers to the start of a frame (a nested one keeps what Python has set)."""
    state[r.CELL] = state[r.ROWS] * s.STRIDE
    state[r.PENDING] = 0
    if state[r.NESTED]:
        return
    state[r.OFFSET] = offset
    state[r.END] = offset + captured
    state[r.REAL_END] = offset + max(captured, wire)
    state[r.ENCAP] = 0
    state[r.STEPS] = 0
    state[r.QUOTED] = 0
    state[r.REASON] = 0
    state[r.FIRST_ROW] = state[r.ROWS]


@kernel
def frame(
    octets: Octets, records: Int64s, rows: Int64s, state: Int64s, skips: Int64s, base: int, layer: int, verify: int
) -> int:
    """Walk a frame from `layer` on, and its further subframes; returns a STOP_ number (STOP_DONE: all done)."""
    result = walk(octets, rows, state, layer)
    if result == r.TO_SEGMENT:
        result = put_row(octets, records, rows, state, base, verify)
    if result == r.TO_REASSEMBLY:
        return r.STOP_FRAGMENT
    if result == r.TO_SCAPY:
        tried = skip_count(skips, state[r.HINT], state[r.DETAIL])
        if state[r.TRIES] > 0 and tried < SCAPY_TRIES:
            return r.STOP_SCAPY
        result = -state[r.HINT]
    if result < 0:
        give_up(state, -result)
    return pending(octets, records, rows, state, skips, base, verify)


@kernel
def pending(octets: Octets, records: Int64s, rows: Int64s, state: Int64s, skips: Int64s, base: int, verify: int) -> int:
    """Decode the subframes of an A-MSDU that are left; returns a STOP_ number."""
    while state[r.PENDING]:
        state[r.OFFSET] = state[r.PENDING]
        state[r.END] = state[r.PENDING_END]
        state[r.REAL_END] = state[r.PENDING_REAL_END]
        state[r.PENDING] = 0
        state[r.QUOTED] = 0
        state[r.STEPS] = 2
        state[r.ENCAP] = state[r.PENDING_ENCAP]
        result = walk(octets, rows, state, r.AMSDU)
        if result == r.TO_SEGMENT:
            result = put_row(octets, records, rows, state, base, verify)
        if result == r.TO_REASSEMBLY:
            return r.STOP_FRAGMENT
        if result == r.TO_SCAPY:
            result = -state[r.HINT]
        if result < 0:
            give_up(state, -result)
    return r.STOP_DONE


@kernel
def give_up(state: Int64s, reason: int) -> None:
    """Note the first reason of a frame, with its detail."""
    if state[r.REASON]:
        return
    detail = state[r.DETAIL] if reason in why.DETAILED else 0
    if state[r.QUOTED]:
        if reason == why.UDP_OTHER:
            reason, detail = why.QUOTED_OTHER, 17
        elif reason == why.ICMP_OTHER:
            reason, detail = why.QUOTED_OTHER, 1
        elif reason == why.PROTOCOL_OTHER:
            reason = why.QUOTED_OTHER
    state[r.REASON] = reason
    state[r.REASON_DETAIL] = detail


@kernel
def put_row(octets: Octets, records: Int64s, rows: Int64s, state: Int64s, base: int, verify: int) -> int:
    """Write the row of the TCP header at OFFSET; returns TO_SEGMENT or a negative reason."""
    if state[r.ROWS] >= state[r.CAPACITY]:  # never: `decode` makes room
        return -why.BAD_LINK
    cell = state[r.CELL]
    o = state[r.OFFSET]
    end = state[r.END]
    real_end = state[r.REAL_END]
    if not state[r.QUOTED] and real_end - o < STREAM_HEADER:
        return -why.BAD_TCP
    bits = tcp_header(octets, rows, cell, o, end, real_end)
    if bits < 0:
        return bits
    if state[r.QUOTED]:
        rows[cell + s.KIND] = s.KIND_QUOTED
        if bits & s.CUT_HEADER == 0:
            bits |= s.HAS_QUOTED_HEADER
    else:
        rows[cell + s.KIND] = s.KIND_SEGMENT
    if state[r.ROWS] == state[r.FIRST_ROW]:
        bits |= s.FIRST_OF_FRAME
    rows[cell + s.ENCAPSULATION] = state[r.ENCAP]
    complete(octets, records, rows, base, cell, bits | state[r.MARKS], o, end, real_end, verify)
    state[r.ROWS] += 1
    state[r.CELL] = cell + s.STRIDE
    return r.TO_SEGMENT


@kernel
def close_frame(rows: Int64s, state: Int64s, skips: Int64s, number: int) -> None:
    """Count a frame that is done: by its segments, its quotations, or its reason."""
    state[r.FRAMES] += 1
    if state[r.ROWS] == state[r.FIRST_ROW]:
        if state[r.REASON] != why.FRAGMENT:  # Python counts fragments: later ones may complete them
            skip_frame(state, skips, state[r.REASON], state[r.REASON_DETAIL], number)
        return
    for row in range(state[r.FIRST_ROW], state[r.ROWS]):
        if rows[row * s.STRIDE + s.KIND] == s.KIND_SEGMENT:
            state[r.SEGMENT_FRAMES] += 1
            return
    state[r.QUOTED_FRAMES] += 1
