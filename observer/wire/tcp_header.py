"""The TCP header: its fields, its options and its checksum.

Never judges a segment: what cannot be is marked (BAD_OPTIONS, CUT_HEADER) and handed on.
Sources: RFC 9293 3.1 and 3.2, 7323 (scale, timestamps), 2018 (SACK), 7413 (Fast Open), 8684 (MPTCP), 1071 (checksum).
"""

from __future__ import annotations

from typing import Final

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.registers import little16, u16, u32

TCP_HEADER: Final = 20  # RFC 9293 3.1
SURE_HEADER: Final = 8  # ports and sequence number: what every ICMP error quotes (RFC 792)
PAD_PAD_TIMESTAMPS: Final = 0x0101080A  # NOP NOP TS: the usual options (RFC 7323 appendix A)
FAST_OPEN_EXPERIMENT: Final = 0xF989  # RFC 7413 appendix A, under option 254


@kernel
def tcp_header(octets: Octets, rows: Int64s, cell: int, o: int, end: int, real_end: int) -> int:
    """Write the fields of the header at `o`; returns its HAS_ bits, or a negative reason."""
    if end - o < SURE_HEADER:
        return -why.BAD_TCP if real_end - o < SURE_HEADER else -why.CUT_TCP
    rows[cell + s.SRC_PORT] = u16(octets, o)
    rows[cell + s.DST_PORT] = u16(octets, o + 2)
    rows[cell + s.SEQ] = u32(octets, o + 4)
    if end - o < TCP_HEADER:
        return partial_header(octets, rows, cell, o, end, real_end)
    size = (octets[o + 12] >> 4) * 4
    rows[cell + s.ACK] = u32(octets, o + 8)
    rows[cell + s.FLAGS] = (octets[o + 12] & 1) << 8 | octets[o + 13]
    rows[cell + s.WINDOW] = u16(octets, o + 14)
    rows[cell + s.LENGTH] = real_end - o - size
    if size == TCP_HEADER:
        return 0
    if size < TCP_HEADER or real_end - o < size:
        return bad_offset(rows, cell, size)
    if size == 32 and end - o >= 32 and u32(octets, o + 20) == PAD_PAD_TIMESTAMPS:
        rows[cell + s.TS_VALUE] = u32(octets, o + 24)
        rows[cell + s.TS_ECHO] = u32(octets, o + 28)
        return s.HAS_TIMESTAMPS
    return tcp_options(octets, rows, cell, o + TCP_HEADER, o + size, end)


@kernel
def bad_offset(rows: Int64s, cell: int, size: int) -> int:
    """A data offset that cannot be: no receiver takes such a segment, so only ports and SEQ count.

    Wireshark gives such packets to their stream.  Where the offset is below five it shows no more fields but
    counts everything behind the offset as payload; so does this.
    """
    if size >= TCP_HEADER:
        rows[cell + s.LENGTH] = 0
    else:
        rows[cell + s.ACK] = 0
        rows[cell + s.FLAGS] = 0
        rows[cell + s.WINDOW] = 0
    return s.CUT_HEADER | s.BAD_OPTIONS


@kernel
def partial_header(octets: Octets, rows: Int64s, cell: int, o: int, end: int, real_end: int) -> int:
    """The fields of a header that the capture, or a quotation, cuts off; those not there are 0."""
    have = end - o
    rows[cell + s.ACK] = u32(octets, o + 8) if have >= 12 else 0
    rows[cell + s.FLAGS] = (octets[o + 12] & 1) << 8 | octets[o + 13] if have >= 14 else 0
    rows[cell + s.WINDOW] = u16(octets, o + 14) if have >= 16 else 0
    rows[cell + s.LENGTH] = 0
    if have > 12:
        size = (octets[o + 12] >> 4) * 4
        if TCP_HEADER <= size <= real_end - o:
            rows[cell + s.LENGTH] = real_end - o - size
    return s.CUT_HEADER


@kernel
def tcp_options(octets: Octets, rows: Int64s, cell: int, o: int, stop: int, end: int) -> int:
    """Walk the options between `o` and `stop`, of which nothing was captured from `end` on."""
    bits = 0
    while o < stop:
        if o >= end:
            return bits | s.CUT_OPTIONS
        kind = octets[o]
        if kind == 0:
            return bits
        if kind == 1:
            o += 1
            continue
        if o + 2 > stop:
            return bits | s.BAD_OPTIONS
        if o + 2 > end:
            return bits | s.CUT_OPTIONS
        size = octets[o + 1]
        if size < 2 or o + size > stop:
            return bits | s.BAD_OPTIONS
        if o + size > end:
            return bits | s.CUT_OPTIONS
        bits |= tcp_option(octets, rows, cell, o, kind, size)
        o += size
    return bits


@kernel
def tcp_option(octets: Octets, rows: Int64s, cell: int, o: int, kind: int, size: int) -> int:
    """One option, wholly captured; returns its HAS_ bit, BAD_OPTIONS if it cannot have this size."""
    if kind == 8 and size == 10:
        rows[cell + s.TS_VALUE] = u32(octets, o + 2)
        rows[cell + s.TS_ECHO] = u32(octets, o + 6)
        return s.HAS_TIMESTAMPS
    if kind == 2 and size == 4:
        rows[cell + s.MSS] = u16(octets, o + 2)
        return s.HAS_MSS
    if kind == 3 and size == 3:
        rows[cell + s.SCALE] = min(octets[o + 2], 14)  # RFC 7323 2.3
        return s.HAS_SCALE
    if kind == 4 and size == 2:
        return s.HAS_SACK_PERMITTED
    if kind == 5 and size >= 10 and size & 7 == 2:
        rows[cell + s.SACK_LEFT] = u32(octets, o + 2)
        rows[cell + s.SACK_RIGHT] = u32(octets, o + 6)
        if size < 18:
            return s.HAS_SACK
        rows[cell + s.SACK2_LEFT] = u32(octets, o + 10)
        rows[cell + s.SACK2_RIGHT] = u32(octets, o + 14)
        return s.HAS_SACK | s.HAS_SACK2
    if kind == 34:
        return fast_open(size - 2)
    if kind == 254 and size >= 4 and u16(octets, o + 2) == FAST_OPEN_EXPERIMENT:
        return fast_open(size - 4)
    if kind == 30:
        return s.HAS_MPTCP
    return s.BAD_OPTIONS if kind in (2, 3, 4, 5, 8) else s.HAS_OTHER_OPTION


@kernel
def fast_open(cookie: int) -> int:
    """RFC 7413 4.1.1: no cookie is a request for one; a cookie has 4 to 16 octets, an even number."""
    if cookie == 0:
        return s.HAS_FAST_OPEN
    if 4 <= cookie <= 16 and cookie & 1 == 0:
        return s.HAS_FAST_OPEN | s.HAS_FAST_OPEN_COOKIE
    return s.BAD_OPTIONS


@kernel
def pseudo_header(rows: Int64s, cell: int, length: int) -> int:
    """Sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) of a segment of `length` octets, below 2^36."""
    total = length + 6
    for i in range(8):
        total += rows[cell + s.SRC + i]
    return total


@kernel
def folded(total: int) -> int:
    """A ones' complement sum (RFC 1071) of non-negative numbers, down to 16 bits."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@kernel
def checksum_bits(octets: Octets, rows: Int64s, cell: int, o: int, end: int) -> int:
    """CHECKSUM_KNOWN, and BAD_CHECKSUM if that of the segment from `o` to `end` is wrong.

    RFC 1071 2 (B): the sum may be taken in either byte order, so the octets are taken as this machine has them
    (little-endian: four loads become one) and the pseudo-header, a big-endian sum, is swapped.
    """
    first = folded(pseudo_header(rows, cell, end - o))
    total = (first & 0xFF) << 8 | first >> 8
    while end - o >= 16:
        a = octets[o] | octets[o + 1] << 8 | octets[o + 2] << 16 | octets[o + 3] << 24
        b = octets[o + 4] | octets[o + 5] << 8 | octets[o + 6] << 16 | octets[o + 7] << 24
        c = octets[o + 8] | octets[o + 9] << 8 | octets[o + 10] << 16 | octets[o + 11] << 24
        d = octets[o + 12] | octets[o + 13] << 8 | octets[o + 14] << 16 | octets[o + 15] << 24
        total += a + b + (c + d)
        o += 16
    while end - o >= 2:
        total += little16(octets, o)
        o += 2
    if o < end:
        total += octets[o]
    return s.CHECKSUM_KNOWN if folded(total) == 0xFFFF else s.CHECKSUM_KNOWN | s.BAD_CHECKSUM
