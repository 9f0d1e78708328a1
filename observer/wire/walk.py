"""The walk through a frame's headers: from one layer to the next until TCP, or until something ends it.

Never reads a header itself: each layer does, in the module that its import names.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire import registers as r
from observer.wire.encapsulation import (
    backbone,
    erspan,
    fabric_path,
    gre,
    macsec,
    mpls,
    nsh,
    pppoe,
    trill,
    wccp,
)
from observer.wire.ip import ether_ip, extension, icmp, ip, ipv4, ipv6
from observer.wire.link import (
    cooked,
    cooked_2,
    ethernet,
    fddi,
    llc,
    loopback,
    nflog,
    pflog,
    skip,
    tag,
    token_ring,
    vlan,
)
from observer.wire.serial import cisco_hdlc, frame_relay, ppp, ppp_hdlc
from observer.wire.tunnels import capwap, geneve, gtp, l2tp, lisp, teredo, tzsp, udp, vxlan
from observer.wire.wifi import amsdu, ppi, prism, radiotap, wifi

STEPS_MAX: Final = 64
"""Headers read in one frame before it is counted as too deep; Wireshark's own limit is of the same order."""


@kernel
def walk(octets: Octets, rows: Int64s, state: Int64s, layer: int) -> int:
    """Read header after header; returns TO_SEGMENT, TO_REASSEMBLY, TO_SCAPY or a negative reason."""
    while layer >= r.FIRST_LAYER:
        if state[r.STEPS] >= STEPS_MAX:
            return -why.TOO_DEEP
        state[r.STEPS] += 1
        if layer == r.IPV4:
            layer = ipv4(octets, rows, state)
        elif layer == r.ETHERNET:
            layer = ethernet(octets, state)
        elif layer == r.VLAN:
            layer = vlan(octets, state)
        elif layer == r.IPV6:
            layer = ipv6(octets, rows, state)
        elif layer == r.IP:
            layer = ip(octets, state)
        elif layer == r.UDP:
            layer = udp(octets, state)
        elif layer == r.COOKED:
            layer = cooked(octets, state)
        elif layer == r.COOKED_2:
            layer = cooked_2(octets, state)
        elif layer == r.LOOPBACK:
            layer = loopback(octets, state)
        elif layer < r.VXLAN:
            layer = walk_between(octets, rows, state, layer)
        elif layer <= r.ERSPAN or layer == r.WCCP:
            layer = walk_tunnel(octets, state, layer)
        else:
            layer = walk_link(octets, state, layer)
    return layer


@kernel
def walk_between(octets: Octets, rows: Int64s, state: Int64s, layer: int) -> int:
    """One step of `walk`: layers that stand between link and IP, or on IP."""
    if layer == r.LLC:
        return llc(octets, state)
    if layer == r.EXTENSION:
        return extension(octets, rows, state)
    if layer == r.ICMP:
        return icmp(octets, rows, state, 4)
    if layer == r.ICMPV6:
        return icmp(octets, rows, state, 6)
    if layer == r.MPLS:
        return mpls(octets, state)
    if layer == r.PPPOE:
        return pppoe(octets, state)
    if layer == r.PPP:
        return ppp(octets, state)
    if layer == r.GRE:
        return gre(octets, state)
    if layer == r.WIFI:
        return wifi(octets, state, 0, 0)
    if layer == r.RADIOTAP:
        return radiotap(octets, state)
    if layer == r.BACKBONE:
        return backbone(octets, state)
    if layer == r.FABRIC_PATH:
        return fabric_path(octets, state)
    if layer == r.TAG:
        return tag(octets, state)
    if layer == r.MACSEC:
        return macsec(octets, state)
    if layer == r.NSH:
        return nsh(octets, state)
    if layer == r.TRILL:
        return trill(octets, state)
    return ether_ip(octets, state)


@kernel
def walk_tunnel(octets: Octets, state: Int64s, layer: int) -> int:
    """One step of `walk`: tunnels over UDP and GRE."""
    if layer == r.VXLAN:
        return vxlan(octets, state, 0)
    if layer == r.VXLAN_GPE:
        return vxlan(octets, state, 1)
    if layer == r.GENEVE:
        return geneve(octets, state)
    if layer == r.GTP:
        return gtp(octets, state)
    if layer == r.TEREDO:
        return teredo(octets, state)
    if layer == r.L2TP:
        return l2tp(octets, state)
    if layer == r.CAPWAP:
        return capwap(octets, state)
    if layer == r.TZSP:
        return tzsp(octets, state)
    if layer == r.LISP:
        return lisp(octets, state)
    if layer == r.WCCP:
        return wccp(octets, state)
    return erspan(octets, state)


@kernel
def walk_link(octets: Octets, state: Int64s, layer: int) -> int:
    """One step of `walk`: the rarer link layers."""
    if layer == r.CISCO_HDLC:
        return cisco_hdlc(octets, state)
    if layer == r.PPP_HDLC:
        return ppp_hdlc(octets, state)
    if layer == r.NFLOG:
        return nflog(octets, state)
    if layer == r.PPI:
        return ppi(octets, state)
    if layer == r.PRISM:
        return prism(octets, state)
    if layer == r.FDDI:
        return fddi(octets, state)
    if layer == r.TOKEN_RING:
        return token_ring(octets, state)
    if layer == r.FRAME_RELAY:
        return frame_relay(octets, state)
    if layer == r.SKIP_TO_IP:
        return skip(octets, state, r.IP)
    if layer == r.SKIP_TO_ETHERNET:
        return skip(octets, state, r.ETHERNET)
    if layer == r.PFLOG:
        return pflog(octets, state)
    return amsdu(octets, state)
