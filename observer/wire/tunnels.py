"""Tunnels over UDP, told by either port as Wireshark does: VXLAN, GENEVE, GTP, Teredo, L2TP, CAPWAP, TZSP, LISP.

Never guesses a tunnel on another port.  Sources: RFC 7348 (VXLAN), draft-ietf-nvo3-vxlan-gpe, RFC 8926 (GENEVE),
3GPP TS 29.281 and 29.060 (GTP), RFC 4380 (Teredo), 2661 (L2TP), 5415 (CAPWAP), 6830 (LISP), IANA service names.
"""

from __future__ import annotations

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.encapsulation import next_protocol
from observer.wire.ip import ip
from observer.wire.link import ethertype
from observer.wire.registers import (
    CAPWAP,
    DETAIL,
    ENCAP,
    END,
    ETHERNET,
    GENEVE,
    GRE,
    GTP,
    IP,
    IPV6,
    L2TP,
    LISP,
    MPLS,
    OFFSET,
    PPP,
    TEREDO,
    TZSP,
    VXLAN,
    VXLAN_GPE,
    WIFI,
    lacks,
    narrow,
    onward,
    short,
    u16,
)
from observer.wire.wifi import wifi


@kernel
def udp(octets: Octets, state: Int64s) -> int:
    """A UDP header; what follows is a tunnel if one of the ports says so."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_TRANSPORT)
    o = state[OFFSET]
    layer = tunnel(u16(octets, o + 2))
    if layer == 0:
        layer = tunnel(u16(octets, o))
    if layer == 0:
        return -why.UDP_OTHER
    length = u16(octets, o + 4)
    if length >= 8:
        narrow(state, length)
    state[OFFSET] = o + 8
    return layer


@kernel
def tunnel(port: int) -> int:
    """The layer that a UDP port announces; 0: none."""
    if port == 4789:
        return VXLAN
    if port in {2152, 3386}:
        return GTP
    if port == 6081:
        return GENEVE
    if port == 4790:
        return VXLAN_GPE
    if port == 3544:
        return TEREDO
    if port == 1701:
        return L2TP
    if port == 5247:
        return CAPWAP
    if port == 37008:
        return TZSP
    if port == 4341:
        return LISP
    if port == 6635:
        return MPLS
    if port == 4754:
        return GRE
    return 0


@kernel
def vxlan(octets: Octets, state: Int64s, generic: int) -> int:
    """VXLAN: eight octets, then Ethernet; its generic form names what follows."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    onward(state, 8, 0, s.ENCAP_VXLAN)
    if generic and octets[o] & 4:
        return next_protocol(state, octets[o + 3])
    return ETHERNET


@kernel
def geneve(octets: Octets, state: Int64s) -> int:
    """GENEVE: eight octets, options counted in words, then what the EtherType says."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    size = 8 + (octets[o] & 63) * 4
    if octets[o] >> 6:
        return -why.BAD_ENCAPSULATION
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    kind = u16(octets, o + 2)
    onward(state, size, 0, s.ENCAP_GENEVE)
    return ethertype(state, kind)


@kernel
def gtp(octets: Octets, state: Int64s) -> int:
    """GTP-U version 1, and version 0 of GPRS: message 255 carries a user's packet."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    flags = octets[o]
    if octets[o + 1] != 255 or flags >> 5 > 1 or flags & 0x10 == 0:
        return -why.TUNNEL_CONTROL
    size = 12 if flags & 7 else 8
    if flags >> 5 == 0:  # 3GPP TS 29.060 6
        size = 20
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    following = octets[o + 11] if flags & 4 and size == 12 else 0
    o += size
    while following:  # extension headers, counted in words; each ends with the type of the next
        if state[END] - o < 4:
            state[OFFSET] = o
            return short(state, 4, why.CUT_ENCAPSULATION)
        size = octets[o] * 4
        if size == 0:
            return -why.BAD_ENCAPSULATION
        o += size
        if state[END] < o:
            state[OFFSET] = o - size
            return short(state, size, why.CUT_ENCAPSULATION)
        following = octets[o - 1]
    state[OFFSET] = o
    state[ENCAP] |= s.ENCAP_GTP
    if lacks(state, 2):
        return short(state, 2, why.CUT_ENCAPSULATION)
    if u16(octets, o) == 0xFF03:
        return PPP
    return ip(octets, state)


@kernel
def teredo(octets: Octets, state: Int64s) -> int:
    """RFC 4380 5.1: an authentication and an origin indication may stand before the IPv6 header."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    if u16(octets, o) == 1:
        state[OFFSET] = o + 13 + octets[o + 2] + octets[o + 3]
        if lacks(state, 2):
            return short(state, 2, why.CUT_ENCAPSULATION)
        o = state[OFFSET]
    if u16(octets, o) == 0:
        state[OFFSET] = o + 8
        if lacks(state, 1):
            return short(state, 1, why.CUT_ENCAPSULATION)
        o = state[OFFSET]
    if octets[o] >> 4 != 6:
        return -why.UDP_OTHER
    return onward(state, 0, IPV6, s.ENCAP_TEREDO)


@kernel
def l2tp(octets: Octets, state: Int64s) -> int:
    """RFC 2661 3.1: data messages of version 2; length, sequence numbers and offset are optional."""
    if lacks(state, 6):
        return short(state, 6, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    flags = u16(octets, o)
    if flags & 0x8000 or flags & 15 != 2:
        return -why.TUNNEL_CONTROL
    size = 6
    if flags & 0x4000:
        size += 2
        narrow(state, u16(octets, o + 2))
    if flags & 0x0800:
        size += 4
    if flags & 0x0200:
        if lacks(state, size + 2):
            return short(state, size + 2, why.CUT_ENCAPSULATION)
        size += 2 + u16(octets, o + size)
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    return onward(state, size, PPP, s.ENCAP_OTHER)


@kernel
def capwap(octets: Octets, state: Int64s) -> int:
    """RFC 5415 4.3: header length in words, then an 802.11 or Ethernet frame; fragments are counted."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    if octets[o] & 15 == 1:
        return -why.ENCRYPTED
    size = (octets[o + 1] >> 3) * 4
    flags = octets[o + 3]
    native = octets[o + 2] & 1
    if size < 8:
        return -why.BAD_ENCAPSULATION
    if flags & 0x08:
        return -why.TUNNEL_CONTROL
    if flags & 0x80:
        return -why.WIFI_FRAGMENT
    if lacks(state, size + 2):
        return short(state, size + 2, why.CUT_ENCAPSULATION)
    onward(state, size, 0, s.ENCAP_OTHER)
    o += size
    if not native:
        return ETHERNET
    # many controllers send the two octets of frame control in the wrong order: version bits tell
    swapped = 1 if octets[o] & 0x0F != 0x08 and octets[o + 1] & 0x0F == 0x08 else 0
    return wifi(octets, state, 0, swapped)


@kernel
def tzsp(octets: Octets, state: Int64s) -> int:
    """TaZmen sniffer protocol: four octets, tagged fields up to an end tag, then the frame."""
    if lacks(state, 5):
        return short(state, 5, why.CUT_ENCAPSULATION)
    o = state[OFFSET]
    kind = u16(octets, o + 2)
    if octets[o + 1] > 1:  # 0 received frame, 1 frame to be sent; others are the tool's own
        return -why.TUNNEL_CONTROL
    o += 4
    while state[END] - o >= 2 and octets[o] != 1:
        o += 1 if octets[o] == 0 else 2 + octets[o + 1]
    state[OFFSET] = o
    if lacks(state, 1):
        return short(state, 1, why.CUT_ENCAPSULATION)
    onward(state, 1, 0, s.ENCAP_OTHER)
    if kind == 1:
        return ETHERNET
    if kind == 18:
        return WIFI
    state[DETAIL] = kind
    return -why.BAD_ENCAPSULATION


@kernel
def lisp(octets: Octets, state: Int64s) -> int:
    """RFC 6830 5.3: eight octets, then IP."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_ENCAPSULATION)
    return onward(state, 8, IP, s.ENCAP_OTHER)
