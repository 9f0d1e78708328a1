"""Link layers of serial lines: PPP, Cisco HDLC, frame relay.

Never knows what follows IP.  Sources: RFC 1661 and 1662 (PPP), 2427 (frame relay), tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.link import ETHERTYPE_MIN, ethertype
from observer.wire.registers import (
    CISCO_HDLC,
    DETAIL,
    END,
    ETHERNET,
    IP,
    IPV4,
    IPV6,
    MPLS,
    OFFSET,
    PPP,
    lacks,
    short,
    u16,
)


@kernel
def cisco_hdlc(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_C_HDLC: address, control, EtherType."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_LINK)
    kind = u16(octets, state[OFFSET] + 2)
    state[OFFSET] += 4
    if kind == 0x8035:  # here SLARP, not RARP
        state[DETAIL] = kind
        return -why.NOT_IP
    return ethertype(state, kind) if kind >= ETHERTYPE_MIN else -why.BAD_LINK


@kernel
def ppp_hdlc(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_PPP and PPP_HDLC: PPP with or without address and control, or Cisco HDLC."""
    if lacks(state, 2):
        return short(state, 2, why.CUT_LINK)
    first = octets[state[OFFSET]]
    if first in {15, 143}:
        return CISCO_HDLC
    return PPP


@kernel
def ppp(octets: Octets, state: Int64s) -> int:
    """RFC 1661 2: the protocol in one or two octets; RFC 1662 3.1: address and control may stand before."""
    if lacks(state, 2):
        return short(state, 2, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    if octets[o] == 0xFF and octets[o + 1] == 3:
        o += 2
        state[OFFSET] = o
        if lacks(state, 2):
            return short(state, 2, why.CUT_ENCAPSULATION)
    kind = octets[o]
    size = 1
    if kind & 1 == 0:  # the last octet of the protocol is odd, the others are even
        kind = u16(octets, o)
        size = 2
    state[OFFSET] = o + size
    if kind == 0x21:
        return IPV4
    if kind == 0x57:
        return IPV6
    if kind in {641, 643}:
        return MPLS
    state[DETAIL] = kind
    return -why.PPP_OTHER


@kernel
def frame_relay(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_FRELAY: address, then RFC 2427's control and NLPID, or Cisco's EtherType."""
    o = state[OFFSET]
    size = 0
    while size < 4 and state[END] - o > size and octets[o + size] & 1 == 0:
        size += 1
    size += 1
    state[OFFSET] = o + size
    if lacks(state, 4):
        return short(state, 4, why.CUT_LINK)
    o += size
    if octets[o] != 3:
        kind = u16(octets, o)
        state[OFFSET] = o + 2
        return ethertype(state, kind) if kind >= ETHERTYPE_MIN else -why.BAD_LINK
    o += 1
    if octets[o] == 0:  # one octet of padding
        o += 1
    state[OFFSET] = o + 1
    if octets[o] == 0xCC or octets[o] == 0x8E:
        return IP
    state[DETAIL] = octets[o]
    if octets[o] != 0x80:
        return -why.LLC_OTHER
    if lacks(state, 5):
        return short(state, 5, why.CUT_LINK)
    kind = u16(octets, o + 4)
    organisation = u16(octets, o + 1) << 8 | octets[o + 3]
    state[OFFSET] = o + 6
    if organisation == 0x0080C2 and (kind in {1, 7}):
        return ETHERNET
    return ethertype(state, kind) if organisation == 0 and kind >= ETHERTYPE_MIN else -why.LLC_OTHER
