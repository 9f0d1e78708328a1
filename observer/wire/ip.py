"""IPv4 and IPv6 headers, extension headers, the dispatch by protocol, and what ICMP errors quote.

A layer here writes its addresses into the row in preparation; an inner header overwrites an outer one, so the
row ends up with those of the innermost header, as Wireshark has it.

Never reassembles: a fragment ends the walk (`TO_REASSEMBLY`) and Python collects it (fragments.py).
Sources: RFC 791, 8200, 4302 (AH), 6275 (mobility), 5095 and 8754 (routing types 0 and 4), 792, 4443, IANA's
protocol numbers.
"""

from __future__ import annotations

from typing import Final

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.registers import (
    CELL,
    DETAIL,
    END,
    ETHER_IP,
    ETHERNET,
    EXTENSION,
    FRAGMENT_ID,
    FRAGMENT_MORE,
    FRAGMENT_OFFSET,
    GRE,
    HINT,
    ICMP,
    ICMPV6,
    IP,
    IPV4,
    IPV6,
    MPLS,
    OFFSET,
    PROTOCOL,
    QUOTED,
    REAL_END,
    TO_REASSEMBLY,
    TO_SCAPY,
    TO_SEGMENT,
    UDP,
    lacks,
    onward,
    short,
    u16,
    u32,
)

IPV4_HEADER: Final = 20  # RFC 791 3.1
IPV6_HEADER: Final = 40  # RFC 8200 3
EXTENSIONS: Final = (0, 43, 44, 60, 135, 139, 140)
"""Hop-by-hop, routing, fragment, destination, mobility, HIP, shim6 (IANA's IPv6 extension header types)."""
CARRIERS: Final = (1, 4, 6, 17, 41, 47, 51, 58, 94, 97, 137, *EXTENSIONS)
"""TCP, and what may hold it: ICMP's quotations, IP in IP, UDP, GRE, AH, Ethernet and MPLS in IP."""
UNASSIGNED: Final = 147  # the first protocol number that IANA has not assigned


@kernel
def ip(octets: Octets, state: Int64s) -> int:
    """An IP header of either version, by its first four bits."""
    if lacks(state, 1):
        return short(state, 1, why.CUT_IP)
    version = octets[state[OFFSET]] >> 4
    if version == 4:
        return IPV4
    if version == 6:
        return IPV6
    return -why.BAD_IP


@kernel
def ipv4(octets: Octets, rows: Int64s, state: Int64s) -> int:
    """An IPv4 header."""
    if lacks(state, IPV4_HEADER):
        return short(state, IPV4_HEADER, why.CUT_IP)
    o = state[OFFSET]
    version = octets[o] >> 4
    if version != 4:
        return IPV6 if version == 6 else -why.BAD_IP
    header = (octets[o] & 15) * 4
    total = u16(octets, o + 2)
    if total == 0:  # segmentation offload: the length did not fit or was left to the card
        total = state[REAL_END] - o
    if header < IPV4_HEADER or total < header:
        return -why.BAD_IP
    if lacks(state, header):
        return short(state, header, why.CUT_IP)
    cell = state[CELL]
    rows[cell + s.VERSION] = 4
    for i in range(3):
        rows[cell + s.SRC + i] = 0
        rows[cell + s.DST + i] = 0
    rows[cell + s.SRC + 3] = u32(octets, o + 12)
    rows[cell + s.DST + 3] = u32(octets, o + 16)
    rows[cell + s.TTL] = octets[o + 8]
    rows[cell + s.IP_ID] = u16(octets, o + 4)
    limit(state, o + total)
    state[OFFSET] = o + header
    place = u16(octets, o + 6) & 0x3FFF
    if place:
        return fragment(state, octets[o + 9], (place & 0x1FFF) * 8, place >> 13, u16(octets, o + 4))
    return protocol(state, octets[o + 9])


@kernel
def limit(state: Int64s, end: int) -> None:
    """End the packet where its header says, or with the frame on the wire if that ends before.

    A quotation is shorter than the packet that it quotes: there the header alone tells.
    """
    if end < state[REAL_END] or state[QUOTED]:
        state[REAL_END] = end
    state[END] = min(state[END], end)


@kernel
def fragment(state: Int64s, number: int, offset: int, more: int, identification: int) -> int:
    """A fragment of a packet with the given protocol, at `offset` octets of it."""
    if state[QUOTED]:
        state[DETAIL] = 0
        return -why.QUOTED_FRAGMENT if offset else protocol(state, number)
    state[PROTOCOL] = number
    state[FRAGMENT_OFFSET] = offset
    state[FRAGMENT_MORE] = more
    state[FRAGMENT_ID] = identification
    if may_carry(number):
        return TO_REASSEMBLY
    state[DETAIL] = number
    return -why.FRAGMENT_OTHER


@kernel
def may_carry(number: int) -> int:
    """1 if an IP packet of this protocol may hold a TCP header, at once or inside a tunnel or quotation."""
    return 1 if number in CARRIERS else 0


@kernel
def is_extension(number: int) -> int:
    """1 if the number is that of an IPv6 extension header that tells its own length."""
    return 1 if number in EXTENSIONS else 0


@kernel
def protocol(state: Int64s, number: int) -> int:
    """The layer that an IP header's protocol (or next header) number announces."""
    if number == 6:
        return TO_SEGMENT
    if number == 17:
        return UDP
    if number == 1:
        return ICMP
    if number == 58:
        return ICMPV6
    if number in {4, 41, 94}:
        return onward(state, 0, IP, s.ENCAP_IP_IN_IP)
    if number == 47:
        return GRE
    if number == 51 or is_extension(number):
        state[PROTOCOL] = number
        return EXTENSION
    if number == 97:
        return ETHER_IP
    if number == 137:
        return MPLS
    state[DETAIL] = number
    if number == 50:
        return -why.ENCRYPTED
    if number == 59:
        return -why.NO_NEXT_HEADER
    if number >= UNASSIGNED and not state[QUOTED]:
        state[HINT] = why.PROTOCOL_OTHER
        return TO_SCAPY
    return -why.PROTOCOL_OTHER


@kernel
def ipv6(octets: Octets, rows: Int64s, state: Int64s) -> int:
    """An IPv6 header."""
    if lacks(state, IPV6_HEADER):
        return short(state, IPV6_HEADER, why.CUT_IP)
    o = state[OFFSET]
    version = octets[o] >> 4
    if version != 6:
        return IPV4 if version == 4 else -why.BAD_IP
    cell = state[CELL]
    rows[cell + s.VERSION] = 6
    for i in range(4):
        rows[cell + s.SRC + i] = u32(octets, o + 8 + 4 * i)
        rows[cell + s.DST + i] = u32(octets, o + 24 + 4 * i)
    rows[cell + s.TTL] = octets[o + 7]
    rows[cell + s.IP_ID] = 0
    length = u16(octets, o + 4)
    if length:  # 0: a jumbogram (RFC 2675) or segmentation offload
        limit(state, o + IPV6_HEADER + length)
    state[OFFSET] = o + IPV6_HEADER
    return protocol(state, octets[o + 6])


@kernel
def extension(octets: Octets, rows: Int64s, state: Int64s) -> int:
    """An IPv6 extension header, or the authentication header of either version."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_IP)
    o = state[OFFSET]
    number = state[PROTOCOL]
    if number == 44:  # RFC 8200 4.5
        state[OFFSET] = o + 8
        place = u16(octets, o + 2)
        if place & 0xFFF9:
            return fragment(state, octets[o], place & 0xFFF8, place & 1, u32(octets, o + 4))
        return protocol(state, octets[o])
    # RFC 4302 2.2: the authentication header counts in words less two, the others in double words less one
    length = (octets[o + 1] + 2) * 4 if number == 51 else (octets[o + 1] + 1) * 8
    if lacks(state, length):
        return short(state, length, why.CUT_IP)
    if number == 43:
        final_destination(octets, rows, state, length)
    state[OFFSET] = o + length
    return protocol(state, octets[o])


@kernel
def final_destination(octets: Octets, rows: Int64s, state: Int64s, length: int) -> None:
    """Take the packet's last hop from a routing header with hops to go: it is the connection's endpoint."""
    o = state[OFFSET]
    kind = octets[o + 2]
    if octets[o + 3] == 0 or length < 24:
        return
    if kind == 0:  # RFC 2460 4.4: the last address of the list is the final one
        place = o + length - 16 - (length - 8) % 16
    elif kind in {2, 4}:  # RFC 6275 6.4: one address; RFC 8754 2: the list stands backwards
        place = o + 8
    else:
        return
    for i in range(4):
        rows[state[CELL] + s.DST + i] = u32(octets, place + 4 * i)


@kernel
def icmp(octets: Octets, rows: Int64s, state: Int64s, version: int) -> int:
    """An ICMP (4) or ICMPv6 (6) message: errors quote the packet that they are about."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_TRANSPORT)
    o = state[OFFSET]
    kind = octets[o]
    # RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem
    # RFC 4443 2.1: unreachable, too big, time exceeded, parameter problem
    quotes = kind in {3, 4, 5, 11, 12} if version == 4 else 1 <= kind <= 4
    if not quotes:
        return -why.ICMP_OTHER
    cell = state[CELL]
    rows[cell + s.ICMP_TYPE] = kind
    rows[cell + s.ICMP_CODE] = octets[o + 1]
    for i in range(4):
        rows[cell + s.REPORTER + i] = rows[cell + s.SRC + i]
    state[QUOTED] = 1
    return onward(state, 8, IP, 0)


@kernel
def ether_ip(octets: Octets, state: Int64s) -> int:
    """RFC 3378: Ethernet in IP, two octets of header (version 3)."""
    if lacks(state, 2):
        return short(state, 2, why.CUT_ENCAPSULATION)
    if octets[state[OFFSET]] >> 4 != 3:
        return -why.BAD_ENCAPSULATION
    return onward(state, 2, ETHERNET, s.ENCAP_OTHER)
