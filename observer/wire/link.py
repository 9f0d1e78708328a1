"""Link layers: what a frame of each LINKTYPE begins with, and the dispatch by EtherType.

Never knows what follows IP.  Sources: tcpdump.org/linktypes.html (every LINKTYPE_ number and header below),
IEEE 802.3 and 802.2, RFC 1042 (SNAP), IANA EtherTypes, RFC 1661 and 1662 (PPP), RFC 2427 (frame relay).
"""

from __future__ import annotations

from typing import Final

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.registers import (
    BACKBONE,
    CISCO_HDLC,
    COOKED,
    COOKED_2,
    DETAIL,
    END,
    ETHERNET,
    FABRIC_PATH,
    FDDI,
    FRAME_RELAY,
    HINT,
    IP,
    IPV4,
    IPV6,
    LLC,
    LOOPBACK,
    MACSEC,
    MPLS,
    NFLOG,
    NSH,
    OFFSET,
    PFLOG,
    PPI,
    PPP,
    PPP_HDLC,
    PPPOE,
    PRISM,
    RADIOTAP,
    SKIP_TO_ETHERNET,
    SKIP_TO_IP,
    TAG,
    TO_SCAPY,
    TOKEN_RING,
    TRILL,
    VLAN,
    WIFI,
    lacks,
    little16,
    narrow,
    onward,
    short,
    u16,
    u32,
)

ETHERTYPE_MIN: Final = 0x600  # IEEE 802.3 3.2.6: below, the field is a length

NO_IP: Final = (
    *range(0x6000, 0x600A),  # DEC
    *(0x8137, 0x809B, 0x80F3),  # IPX, AppleTalk and its ARP
    *(0x8808, 0x8809, 0x880A, 0x88CC, 0x888E, 0x8863, 0x9000),  # pause, LACP, LLDP, EAPOL, PPPoE discovery, test
    *range(0x88B5, 0x88BB),  # experiments, GOOSE, GSE, sampled values
    *(0x88A4, 0x8892, 0x88F7, 0x8902, 0x88CD, 0x88AB),  # EtherCAT, PROFINET, PTP, CFM, SERCOS, POWERLINK
    *(0x88E1, 0x8912, 0x893A, 0x8899, 0x8874, 0x88D9),  # HomePlug, IEEE 1905, loop detection, LLTD
    *(0x8906, 0x8914, 0x8915, 0x88F5, 0x88F6, 0x22EA, 0x22F0),  # FCoE, FIP, RoCE, MVRP, MMRP, SRP, AVTP
    *(0x8819, 0x8890, 0x890D, 0x88C7),  # CobraNet, IEEE 802.11 encapsulations
)
"""EtherTypes (IEEE registration authority) that are known and hold no IP: never worth a second look."""


@kernel
def link_layer(state: Int64s, link: int) -> int:
    """The layer that a frame of this LINKTYPE begins with."""
    if link == 1:
        return ETHERNET
    if link in {12, 14, 101, 228, 229}:  # RAW under its four numbers
        return IP
    if link == 113:
        return COOKED
    if link == 276:
        return COOKED_2
    if link in {0, 108}:
        return LOOPBACK
    if link == 105:
        return WIFI
    if link == 127:
        return RADIOTAP
    if link in {9, 50}:
        return PPP_HDLC
    if link == 51:
        return PPPOE
    if link == 104:
        return CISCO_HDLC
    if link == 239:
        return NFLOG
    return rare_link_layer(state, link)


@kernel
def rare_link_layer(state: Int64s, link: int) -> int:
    """The rest of `link_layer`."""
    if link == 192:
        return PPI
    if link in {119, 163}:
        return PRISM
    if link == 10:
        return FDDI
    if link == 6:
        return TOKEN_RING
    if link == 107:
        return FRAME_RELAY
    if link == 117:
        return PFLOG
    if link in {11, 100}:  # ATM by RFC 2684: LLC first
        return LLC
    if link == 219:
        return MPLS
    state[DETAIL] = 1  # PPP_WITH_DIRECTION: one octet says which way
    if link in {204, 166}:
        state[OFFSET] += 1
        return PPP
    state[DETAIL] = 4  # NETANALYZER: four octets before the Ethernet header
    if link == 240:
        return SKIP_TO_ETHERNET
    state[DETAIL] = 12  # ENC: address family, index of the association, flags
    if link == 109:
        return SKIP_TO_IP
    state[DETAIL] = link
    state[HINT] = why.UNKNOWN_LINK
    return TO_SCAPY


@kernel
def skip(octets: Octets, state: Int64s, layer: int) -> int:
    """Step over DETAIL octets that tell nothing."""
    size = state[DETAIL]
    if lacks(state, size):
        return short(state, size, why.CUT_LINK)
    return onward(state, size, layer, 0)


@kernel
def ethernet(octets: Octets, state: Int64s) -> int:
    """Destination, source, EtherType or length."""
    if lacks(state, 14):
        return short(state, 14, why.CUT_LINK)
    kind = u16(octets, state[OFFSET] + 12)
    if kind < ETHERTYPE_MIN or kind == 0x8903:
        if kind == 0x8903:
            return FABRIC_PATH
        state[OFFSET] += 14
        return length_or_type(state, kind)
    state[OFFSET] += 14
    return ethertype(state, kind)


@kernel
def length_or_type(state: Int64s, kind: int) -> int:
    """What follows an IEEE 802.3 length or an EtherType field."""
    if kind >= ETHERTYPE_MIN:
        return ethertype(state, kind)
    if kind > 1500:  # IEEE 802.3 3.2.6: 1501 .. 1535 are not defined
        return -why.BAD_LINK
    narrow(state, kind)
    return LLC


@kernel
def ethertype(state: Int64s, kind: int) -> int:
    """The layer that an EtherType announces."""
    if kind == 0x0800:
        return IPV4
    if kind == 0x86DD:
        return IPV6
    if kind in {33024, 34984, 37120, 37376}:
        return VLAN
    if kind in {34887, 34888}:
        return MPLS
    if kind == 0x8864:
        return PPPOE
    if kind in {2054, 32821}:
        return -why.ARP
    if kind == 0x88E7:
        return BACKBONE
    if kind == 0x6558:
        return ETHERNET
    if kind == 0x880B:
        return PPP
    if kind == 0x8870:
        return LLC
    return rare_ethertype(state, kind)


@kernel
def rare_ethertype(state: Int64s, kind: int) -> int:
    """The rest of `ethertype`."""
    if kind == 0x88E5:
        return MACSEC
    if kind == 0x894F:
        return NSH
    if kind == 0x22F3:
        return TRILL
    state[DETAIL] = 6  # VN-Tag (0x8926): four octets and the EtherType; Cisco metadata (0x8909): six and it
    if kind == 0x8926:
        return TAG
    state[DETAIL] = 8
    if kind in {35081, 35135}:  # IEEE 802.1BR E-tag: six octets and the EtherType
        return TAG
    state[DETAIL] = kind
    if kind in NO_IP or kind < ETHERTYPE_MIN:
        return -why.NOT_IP
    state[HINT] = why.NOT_IP
    return TO_SCAPY


@kernel
def vlan(octets: Octets, state: Int64s) -> int:
    """IEEE 802.1Q tag: four octets, of which the last two are what the tag was inserted before."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_ENCAPSULATION)
    kind = u16(octets, state[OFFSET] + 2)
    onward(state, 4, 0, s.ENCAP_VLAN)
    return length_or_type(state, kind)


@kernel
def tag(octets: Octets, state: Int64s) -> int:
    """A tag of DETAIL octets whose last two are an EtherType."""
    size = state[DETAIL]
    if lacks(state, size):
        return short(state, size, why.CUT_ENCAPSULATION)
    kind = u16(octets, state[OFFSET] + size - 2)
    state[OFFSET] += size
    return length_or_type(state, kind)


@kernel
def llc(octets: Octets, state: Int64s) -> int:
    """IEEE 802.2 header, with SNAP where it is there."""
    if lacks(state, 3):
        return short(state, 3, why.CUT_LINK)
    o = state[OFFSET]
    if octets[o] == 0xAA and octets[o + 1] == 0xAA and octets[o + 2] == 3:
        if lacks(state, 8):
            return short(state, 8, why.CUT_LINK)
        organisation = u16(octets, o + 3) << 8 | octets[o + 5]
        kind = u16(octets, o + 6)
        state[OFFSET] = o + 8
        if organisation == 0x0080C2 and (kind in {1, 7}):  # RFC 2684 5.2: bridged IEEE 802.3
            state[DETAIL] = 0
            return ETHERNET
        # RFC 1042, and IEEE 802.1H's tunnel encapsulation
        if (organisation in {0, 248}) and kind >= ETHERTYPE_MIN:
            return ethertype(state, kind)
        state[DETAIL] = 0xAA
        return -why.LLC_OTHER
    if octets[o] == 0x06 and octets[o + 1] == 0x06:  # IEEE 802.2 SAP of IP
        return onward(state, 3 if octets[o + 2] & 3 == 3 else 4, IP, 0)
    if octets[o] == 0xFE and octets[o + 2] == 3 and not lacks(state, 4) and octets[o + 3] == 0xCC:
        return onward(state, 4, IP, 0)  # RFC 2427, 2684: routed IP under an NLPID
    state[DETAIL] = octets[o]
    return -why.LLC_OTHER


@kernel
def cooked(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_LINUX_SLL: 16 octets, the protocol in the last two."""
    if lacks(state, 16):
        return short(state, 16, why.CUT_LINK)
    kind = u16(octets, state[OFFSET] + 14)
    state[OFFSET] += 16
    return cooked_protocol(state, kind)


@kernel
def cooked_2(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_LINUX_SLL2: 20 octets, the protocol in the first two."""
    if lacks(state, 20):
        return short(state, 20, why.CUT_LINK)
    kind = u16(octets, state[OFFSET])
    state[OFFSET] += 20
    return cooked_protocol(state, kind)


@kernel
def cooked_protocol(state: Int64s, kind: int) -> int:
    """What follows Linux's cooked headers."""
    if kind >= ETHERTYPE_MIN:
        return ethertype(state, kind)
    if kind == 4:  # LINUX_SLL_P_802_2
        return LLC
    state[DETAIL] = kind
    return -why.NOT_IP


@kernel
def loopback(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_NULL and LINKTYPE_LOOP: an address family in four octets, of either byte order."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_LINK)
    o = state[OFFSET]
    if octets[o] == 0xFF and octets[o + 1] == 3:  # some systems write PPP frames under this number
        return PPP_HDLC
    family = u32(octets, o)
    if family > 0xFFFF:
        family = little16(octets, o)
    state[OFFSET] = o + 4
    if family == 2:  # AF_INET everywhere
        return IPV4
    # AF_INET6: 10 Linux, 23 Windows, 24 OpenBSD and NetBSD, 28 FreeBSD, 30 Darwin
    if family in {10, 23, 24, 28, 30}:
        return IPV6
    if family >= ETHERTYPE_MIN:
        return ethertype(state, family)
    state[DETAIL] = family
    return -why.FAMILY_OTHER


@kernel
def nflog(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_NFLOG: family, version, then items of length, type, value in the capturing machine's byte order."""
    if lacks(state, 4):
        return short(state, 4, why.CUT_LINK)
    o = state[OFFSET]
    family = octets[o]
    state[DETAIL] = family
    if family not in {2, 10}:
        return -why.FAMILY_OTHER
    o += 4
    while state[END] - o >= 4:
        size = little16(octets, o)
        kind = little16(octets, o + 2)
        if kind & 0x7FFF > 0xFF:  # the machine was a big-endian one: no type is as large as that
            size = u16(octets, o)
            kind = u16(octets, o + 2)
        if size < 4:
            return -why.BAD_LINK
        if kind & 0x7FFF == 9:  # NFULA_PAYLOAD
            state[OFFSET] = o + 4
            narrow(state, size - 4)
            return IP
        o += (size + 3) & ~3
    state[OFFSET] = o
    return short(state, 4, why.CUT_LINK)


@kernel
def fddi(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_FDDI: frame control, destination, source; frames of class LLC only."""
    if lacks(state, 13):
        return short(state, 13, why.CUT_LINK)
    control = octets[state[OFFSET]]
    state[OFFSET] += 13
    state[DETAIL] = 0
    return LLC if control & 0x70 == 0x50 else -why.LLC_OTHER


@kernel
def token_ring(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_IEEE802_5: access and frame control, addresses, source routing where the source's top bit says so."""
    if lacks(state, 14):
        return short(state, 14, why.CUT_LINK)
    o = state[OFFSET]
    size = 14
    if octets[o + 8] & 0x80:
        if lacks(state, 16):
            return short(state, 16, why.CUT_LINK)
        size += octets[o + 14] & 31
    state[DETAIL] = 0
    if octets[o + 1] & 0xC0 != 0x40:
        return -why.LLC_OTHER
    return onward(state, size, LLC, 0)


@kernel
def pflog(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_PFLOG: a header that tells its length (rounded up to four), then IP."""
    if lacks(state, 2):
        return short(state, 2, why.CUT_LINK)
    size = (octets[state[OFFSET]] + 3) & ~3
    if size < 4:
        return -why.BAD_LINK
    if lacks(state, size):
        return short(state, size, why.CUT_LINK)
    return onward(state, size, IP, 0)
