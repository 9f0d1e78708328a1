"""Tags and tunnels between a link layer and IP, or on IP itself: MPLS, PPPoE, 802.1ah, FabricPath, GRE, ERSPAN...

Never follows a tunnel by port; tunnels.py does.
Sources: RFC 3032 (MPLS), 4385 (pseudowire control word), 2516 (PPPoE), IEEE 802.1ah and 802.1AE, RFC 2784, 2890, 1701
(GRE), 2637 (PPTP), draft-foschiano-erspan-03, RFC 8300 (NSH), 6325 (TRILL).
"""

from __future__ import annotations

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.link import ETHERTYPE_MIN, ethertype, length_or_type
from observer.wire.registers import (
    DETAIL,
    ENCAP,
    END,
    ERSPAN,
    ETHERNET,
    IP,
    IPV4,
    IPV6,
    MPLS,
    OFFSET,
    PPP,
    WCCP,
    lacks,
    narrow,
    onward,
    short,
    u16,
)


@kernel
def mpls(octets: Octets, state: Int64s) -> int:
    """A stack of labels; what follows the last one is guessed from its first four bits."""
    o = state[OFFSET]
    state[ENCAP] |= s.ENCAP_MPLS
    while True:
        if state[END] - o < 5:
            state[OFFSET] = o
            return short(state, 5, why.CUT_ENCAPSULATION)
        bottom = octets[o + 2] & 1
        o += 4
        if bottom:
            break
    state[OFFSET] = o
    first = octets[o] >> 4
    if first == 4:
        return IPV4
    if first == 6:
        return IPV6
    # RFC 4385 3: a control word begins with 0, an associated channel with 1
    if first == 0 and is_ethernet(octets, state, o + 4):
        return onward(state, 4, ETHERNET, 0)
    if is_ethernet(octets, state, o):
        return ETHERNET
    return -why.BAD_ENCAPSULATION


@kernel
def is_ethernet(octets: Octets, state: Int64s, offset: int) -> int:
    """1 if what stands at `offset` may be an Ethernet header: a plausible EtherType or length."""
    if state[END] - offset < 14:
        return 0
    kind = u16(octets, offset + 12)
    if kind in {2048, 34525, 33024, 34984, 2054, 34887}:
        return 1
    return 1 if kind <= 1500 and kind <= state[END] - offset - 14 and kind >= 3 else 0


@kernel
def pppoe(octets: Octets, state: Int64s) -> int:
    """PPPoE session header: version and type 1, code 0, session, length."""
    if lacks(state, 6):
        return short(state, 6, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    if octets[o + 1] != 0:
        return -why.TUNNEL_CONTROL
    length = u16(octets, o + 4)
    onward(state, 6, PPP, s.ENCAP_PPPOE)
    narrow(state, length)
    return PPP


@kernel
def backbone(octets: Octets, state: Int64s) -> int:
    """IEEE 802.1ah I-tag: four octets, then the customer's addresses and EtherType."""
    if lacks(state, 18):
        return short(state, 18, why.CUT_ENCAPSULATION)
    return onward(state, 4, ETHERNET, s.ENCAP_802_1AH)


@kernel
def fabric_path(octets: Octets, state: Int64s) -> int:
    """Cisco FabricPath: addresses, EtherType 0x8903, tag; then the Ethernet frame."""
    if lacks(state, 16):
        return short(state, 16, why.CUT_ENCAPSULATION)
    return onward(state, 16, ETHERNET, s.ENCAP_OTHER)


@kernel
def macsec(octets: Octets, state: Int64s) -> int:
    """IEEE 802.1AE security tag; what is only authenticated can be read."""
    if lacks(state, 6):
        return short(state, 6, why.CUT_ENCAPSULATION)
    control = octets[state[OFFSET]]
    if control & 0x0C:
        return -why.ENCRYPTED
    size = 14 if control & 0x20 else 6
    if lacks(state, size + 2):
        return short(state, size + 2, why.CUT_ENCAPSULATION)
    kind = u16(octets, state[OFFSET] + size)
    onward(state, size + 2, 0, s.ENCAP_OTHER)
    return length_or_type(state, kind)


@kernel
def nsh(octets: Octets, state: Int64s) -> int:
    """RFC 8300 2: a header that tells its length in words and what follows."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    size = (octets[o + 1] & 63) * 4
    if size < 8:
        return -why.BAD_ENCAPSULATION
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    onward(state, size, 0, s.ENCAP_OTHER)
    return next_protocol(state, octets[o + 3])


@kernel
def next_protocol(state: Int64s, number: int) -> int:
    """The NSH "next protocol" registry, which VXLAN-GPE shares (1 IPv4, 2 IPv6, 3 Ethernet, 4 NSH, 5 MPLS)."""
    if number in {1, 2}:
        return IP
    if number == 3:
        return ETHERNET
    if number == 4:
        return ethertype(state, 0x894F)
    if number == 5:
        return MPLS
    return -why.BAD_ENCAPSULATION


@kernel
def trill(octets: Octets, state: Int64s) -> int:
    """RFC 6325 3: six octets and options, then the Ethernet frame."""
    if lacks(state, 6):
        return short(state, 6, why.CUT_ENCAPSULATION)
    size = 6 + ((u16(octets, state[OFFSET]) >> 6) & 31) * 4
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    return onward(state, size, ETHERNET, s.ENCAP_OTHER)


@kernel
def gre(octets: Octets, state: Int64s) -> int:
    """GRE: the flags tell which of checksum, key, sequence number, acknowledgment and routing are there."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    flags = u16(octets, o)
    kind = u16(octets, o + 2)
    size = 4
    if flags & 0xC000:
        size += 4
    size += 4 * ((flags >> 13) & 1) + 4 * ((flags >> 12) & 1)
    if flags & 7 == 1:  # RFC 2637 4.1: version 1 carries PPP, and may be an acknowledgment only
        size += 4 * ((flags >> 7) & 1)
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    state[OFFSET] = o + size
    state[ENCAP] |= s.ENCAP_GRE
    if flags & 0x4000:
        failure = gre_routing(octets, state)
        if failure:
            return failure
    if flags & 7 == 1 and (flags & 0x1000 == 0 or kind != 0x880B):
        return -why.TUNNEL_CONTROL
    return gre_protocol(octets, state, kind, flags)


@kernel
def gre_routing(octets: Octets, state: Int64s) -> int:
    """RFC 1701: source route entries up to an empty one.  Returns 0 or a reason."""
    while True:
        if lacks(state, 4):
            return short(state, 4, why.CUT_ENCAPSULATION)
        o = state[OFFSET]
        state[OFFSET] = o + 4 + octets[o + 3]
        if u16(octets, o) == 0 and octets[o + 3] == 0:
            return 0


@kernel
def gre_protocol(octets: Octets, state: Int64s, kind: int, flags: int) -> int:
    """What a GRE header's protocol type announces."""
    if kind == 0x88BE:  # ERSPAN: type I has no header of its own and no sequence number
        if flags & 0x1000 == 0:
            return onward(state, 0, ETHERNET, s.ENCAP_ERSPAN)
        return ERSPAN
    if kind == 0x22EB:
        return ERSPAN
    if kind == 0x883E:
        return WCCP
    if kind >= ETHERTYPE_MIN:
        return ethertype(state, kind)
    state[DETAIL] = kind
    return -why.NOT_IP


@kernel
def erspan(octets: Octets, state: Int64s) -> int:
    """ERSPAN II (version 1): eight octets; III (version 2): twelve, and eight more where the last bit says so."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    size = 8
    if octets[o] >> 4 == 2:
        if lacks(state, 12):
            return short(state, 12, why.CUT_ENCAPSULATION)
        size = 20 if octets[o + 11] & 1 else 12
    return onward(state, size, ETHERNET, s.ENCAP_ERSPAN)


@kernel
def wccp(octets: Octets, state: Int64s) -> int:
    """WCCP in GRE: version 2 puts four octets before the IP header."""
    if lacks(state, 1):
        return short(state, 1, why.CUT_ENCAPSULATION)
    first = octets[state[OFFSET]] >> 4
    return onward(state, 0 if first == 4 else 4, IP, 0)
