"""One frame for every link layer and encapsulation, all carrying the same segment.

Built with scapy where it knows the header, by hand from the standards where not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from observer import segments as s

SRC, DST = "192.0.2.1", "198.51.100.7"
SRC6, DST6 = "2001:db8::1", "2001:db8::2"
PAYLOAD = b"hello, observer"
MAC = bytes.fromhex("020000000001020000000002")


@dataclass(frozen=True)
class Case:
    """A frame with what must come out of it."""

    name: str
    link: int
    frame: bytes
    encapsulation: int = 0
    version: int = 4
    tshark: bool = True
    """Whether Wireshark 4.0 finds the segment, too."""


def build(layers: object) -> bytes:
    return bytes(layers)  # type: ignore[call-overload]


@cache
def tcp4() -> bytes:
    from scapy.layers.inet import IP, TCP

    options = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]
    return build(
        IP(src=SRC, dst=DST, id=77, ttl=61)
        / TCP(sport=50000, dport=443, seq=1000, ack=2000, flags="PA", window=500, options=options)
        / PAYLOAD
    )


@cache
def tcp6() -> bytes:
    from scapy.layers.inet import TCP
    from scapy.layers.inet6 import IPv6

    segment = TCP(sport=50000, dport=443, seq=1000, ack=2000, flags="PA", window=500)
    return build(IPv6(src=SRC6, dst=DST6, hlim=61) / segment / PAYLOAD)


def ether(kind: int, payload: bytes) -> bytes:
    return MAC + struct.pack("!H", kind) + payload


def ip4(number: int, payload: bytes) -> bytes:
    from scapy.layers.inet import IP

    return build(IP(src="10.9.9.1", dst="10.9.9.2", proto=number) / payload)


def ip6(number: int, payload: bytes) -> bytes:
    from scapy.layers.inet6 import IPv6

    return build(IPv6(src="fd00::1", dst="fd00::2", nh=number) / payload)


def udp(port: int, payload: bytes, *, source: int = 40000) -> bytes:
    return ether(0x0800, ip4(17, struct.pack("!HHHH", source, port, 8 + len(payload), 0) + payload))


SNAP = bytes.fromhex("aaaa03000000")
TO_AP = bytes.fromhex("0801000002aaaaaaaaaa02bbbbbbbbbb02cccccccccc0000")


def wifi(payload: bytes) -> bytes:
    return TO_AP + SNAP + payload


def qos_wifi(payload: bytes, qos: bytes = bytes(2)) -> bytes:
    return b"\x88" + TO_AP[1:] + qos + payload


def subframe(payload: bytes) -> bytes:
    body = MAC + struct.pack("!H", len(payload)) + payload
    return body + bytes(-len(body) % 4)


def links() -> list[Case]:
    """Link layers."""
    ip, ip_6 = tcp4(), tcp6()
    e4 = ether(0x0800, ip)
    snap4 = SNAP + b"\x08\x00" + ip
    frelay = bytes.fromhex("1841")
    return [
        Case("ethernet", 1, e4),
        Case("ethernet padded", 1, ether(0x0800, ip) + b"padding!"),
        Case("ethernet ipv6", 1, ether(0x86DD, ip_6), version=6),
        Case("802.3 snap", 1, MAC + struct.pack("!H", len(snap4)) + snap4 + bytes(4)),
        Case("802.3 llc ip", 1, MAC + struct.pack("!H", len(ip) + 3) + b"\x06\x06\x03" + ip),
        Case("raw 12", 12, ip),
        Case("raw 14", 14, ip),
        Case("raw 101", 101, ip),
        Case("raw 101 ipv6", 101, ip_6, version=6),
        Case("ipv4 228", 228, ip),
        Case("ipv6 229", 229, ip_6, version=6),
        Case("sll", 113, bytes.fromhex("0000000100060200000000010000") + b"\x08\x00" + ip),
        Case("sll ipv6", 113, bytes.fromhex("0000000100060200000000010000") + b"\x86\xdd" + ip_6, version=6),
        Case("sll 802.2", 113, bytes.fromhex("0000000100060200000000010000") + b"\x00\x04" + snap4),
        Case("sll2", 276, b"\x08\x00" + bytes.fromhex("000000000002000100060200000000010000") + ip),
        Case("null little", 0, struct.pack("<I", 2) + ip),
        Case("null big", 0, struct.pack(">I", 2) + ip),
        Case("null ipv6 linux", 0, struct.pack("<I", 10) + ip_6, version=6, tshark=False),
        Case("null ipv6 netbsd", 0, struct.pack("<I", 24) + ip_6, version=6),
        Case("null ipv6 freebsd", 0, struct.pack("<I", 28) + ip_6, version=6),
        Case("null ipv6 darwin", 0, struct.pack("<I", 30) + ip_6, version=6),
        Case("null ipv6 darwin big", 0, struct.pack(">I", 30) + ip_6, version=6),
        Case("loop", 108, struct.pack(">I", 2) + ip),
        Case("ppp", 9, b"\xff\x03\x00\x21" + ip),
        Case("ppp ipv6", 9, b"\xff\x03\x00\x57" + ip_6, version=6),
        Case("ppp bare", 9, b"\x00\x21" + ip),
        Case("ppp short protocol", 9, b"\x21" + ip),
        Case("ppp as cisco hdlc", 9, b"\x0f\x00\x08\x00" + ip),
        Case("ppp hdlc", 50, b"\xff\x03\x00\x21" + ip),
        Case("pppoe link", 51, struct.pack("!BBHHH", 0x11, 0, 1, len(ip) + 2, 0x21) + ip, s.ENCAP_PPPOE),
        Case("ppp with direction", 204, b"\x00\xff\x03\x00\x21" + ip),
        Case("cisco hdlc", 104, b"\x0f\x00\x08\x00" + ip),
        Case("nflog", 239, b"\x02\x00\x00\x00" + struct.pack("<HHIHH", 8, 5, 1, len(ip) + 4, 9) + ip),
        Case("nflog big", 239, b"\x02\x00\x00\x00" + struct.pack(">HHI", 8, 5, 1) + struct.pack(">HH", len(ip) + 4, 9)
             + ip, tshark=False),
        Case("802.11", 105, wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("802.11 qos", 105, qos_wifi(SNAP + b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("802.11 bridge", 105, b"\x08\x03" + TO_AP[2:] + bytes(6) + SNAP + b"\x08\x00" + ip, s.ENCAP_WIFI),
        Case("radiotap", 127, bytes.fromhex("0000090002000000 00") + wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("radiotap padded", 127, bytes.fromhex("0000110003000000 0102030405060708 20")
             + qos_wifi(b"\0\0" + SNAP + b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("radiotap two words", 127, bytes.fromhex("00000d00020000800000000000")
             + wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("ppi", 192, struct.pack("<BBHI", 0, 0, 8, 105) + wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("ppi ethernet", 192, struct.pack("<BBHI", 0, 0, 8, 1) + e4),
        Case("avs", 163, struct.pack(">II56x", 0x80211001, 64) + wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("prism", 119, struct.pack("<II136x", 0x44, 144) + wifi(b"\x08\x00" + ip), s.ENCAP_WIFI),
        Case("fddi", 10, b"\x50" + MAC + snap4),
        Case("token ring", 6, b"\x10\x40" + MAC + snap4),
        Case("token ring routed", 6, b"\x10\x40" + MAC[:6] + b"\x82" + MAC[7:] + bytes.fromhex("063000110020") + snap4),
        Case("frame relay", 107, frelay + b"\x03\xcc" + ip),
        Case("frame relay snap", 107, frelay + b"\x03\x00\x80\x00\x00\x00\x08\x00" + ip),
        Case("frame relay cisco", 107, frelay + b"\x08\x00" + ip),
        Case("atm llc", 11, snap4),
        Case("atm 1483", 100, snap4),
        Case("mpls link", 219, struct.pack("!I", 16 << 12 | 1 << 8 | 64) + ip, s.ENCAP_MPLS, tshark=False),
        Case("netanalyzer", 240, bytes(4) + e4, tshark=False),
        Case("enc", 109, struct.pack("<III", 2, 0, 0) + ip),
        Case("pflog", 117, bytes([61, 2]) + bytes(62) + ip),
    ]  # fmt: skip


def tags() -> list[Case]:
    """Tags and tunnels below IP, on Ethernet."""
    ip, ip_6 = tcp4(), tcp6()
    e4, label = ether(0x0800, ip), struct.pack("!I", 16 << 12 | 1 << 8 | 64)
    upper = struct.pack("!I", 17 << 12 | 64)
    v = b"\x00\x05"
    ppp = struct.pack("!BBHHH", 0x11, 0, 1, len(ip) + 2, 0x21) + ip
    return [
        Case("vlan", 1, ether(0x8100, v + b"\x08\x00" + ip), s.ENCAP_VLAN),
        Case("vlan ipv6", 1, ether(0x8100, v + b"\x86\xdd" + ip_6), s.ENCAP_VLAN, 6),
        Case("qinq", 1, ether(0x88A8, v + b"\x81\x00" + v + b"\x08\x00" + ip), s.ENCAP_VLAN),
        Case("vlan 9100", 1, ether(0x9100, v + b"\x81\x00" + v + b"\x08\x00" + ip), s.ENCAP_VLAN),
        Case("vlan llc", 1, ether(0x8100, v + struct.pack("!H", len(ip) + 8) + SNAP + b"\x08\x00" + ip), s.ENCAP_VLAN),
        Case("mpls", 1, ether(0x8847, label + ip), s.ENCAP_MPLS),
        Case("mpls two labels ipv6", 1, ether(0x8847, upper + label + ip_6), s.ENCAP_MPLS, 6),
        Case("mpls pseudowire", 1, ether(0x8847, label + e4), s.ENCAP_MPLS, tshark=False),
        Case("mpls pseudowire control word", 1, ether(0x8847, label + bytes(4) + e4), s.ENCAP_MPLS, tshark=False),
        Case("pppoe", 1, ether(0x8864, ppp), s.ENCAP_PPPOE),
        Case("pppoe padded", 1, ether(0x8864, ppp) + bytes(9), s.ENCAP_PPPOE),
        Case("802.1ah", 1, ether(0x88E7, bytes(4) + e4), s.ENCAP_802_1AH),
        Case("fabric path", 1, ether(0x8903, b"\x00\x41" + e4 + bytes(4)), s.ENCAP_OTHER),
        Case("vn-tag", 1, ether(0x8926, bytes(4) + b"\x08\x00" + ip)),
        Case("e-tag", 1, ether(0x893F, bytes(6) + b"\x08\x00" + ip)),
        Case("cisco metadata", 1, ether(0x8909, bytes.fromhex("010100010002") + b"\x08\x00" + ip)),
        Case("macsec authenticated", 1, ether(0x88E5, bytes.fromhex("000000000001") + b"\x08\x00" + ip + bytes(16)),
             s.ENCAP_OTHER),
        Case("macsec authenticated sci", 1, ether(0x88E5, b"\x20" + bytes(13) + b"\x08\x00" + ip + bytes(16)),
             s.ENCAP_OTHER),
        Case("nsh", 1, ether(0x894F, bytes.fromhex("0fc2020100000000") + ip), s.ENCAP_OTHER),
        Case("nsh ethernet", 1, ether(0x894F, bytes.fromhex("0fc6010300000000") + bytes(16) + e4), s.ENCAP_OTHER),
        Case("trill", 1, ether(0x22F3, bytes.fromhex("003f00010002") + e4), s.ENCAP_OTHER),
        Case("transparent ethernet", 1, ether(0x6558, e4)),
        Case("ppp ethertype", 1, ether(0x880B, b"\x00\x21" + ip), tshark=False),
    ]  # fmt: skip


def on_ip() -> list[Case]:
    """Tunnels on IP, and IP's own extensions."""
    from scapy.layers.inet import IP, TCP, IPOption_NOP

    ip, ip_6 = tcp4(), tcp6()
    e4 = ether(0x0800, ip)
    segment = ip_6[40:]
    optioned = build(IP(src=SRC, dst=DST, proto=6, options=[IPOption_NOP()] * 4) / TCP(ip[20:]))

    def extended(first: int, chain: bytes) -> bytes:
        header = struct.pack("!IHBB", 6 << 28, len(chain) + len(segment), first, 61)
        return ether(0x86DD, header + ip_6[8:40] + chain + segment)

    gre = s.ENCAP_GRE
    routed = bytes.fromhex("4000 0800 0000 0000") + bytes.fromhex("0800 00 04 0a000001 0000 00 00") + ip
    return [
        Case("ipv4 options", 1, ether(0x0800, optioned)),
        Case("hop by hop", 1, extended(0, bytes([6, 0]) + bytes([1, 4, 0, 0, 0, 0])), version=6),
        Case("destination and hop", 1, extended(0, bytes([60, 0, 1, 4, 0, 0, 0, 0, 6, 1]) + bytes([1, 12]) + bytes(12)),
             version=6),
        Case("routing done", 1, extended(43, bytes([6, 2, 0, 0, 0, 0, 0, 0]) + bytes(16)), version=6),
        Case("atomic fragment", 1, extended(44, bytes([6, 0, 0, 0, 0, 0, 0, 9])), version=6),
        Case("ah", 1, extended(51, bytes([6, 4]) + bytes(22)), version=6),
        Case("ah ipv4", 1, ether(0x0800, build(IP(src=SRC, dst=DST, proto=51) / (b"\6\4" + bytes(22) + ip[20:])))),
        Case("mobility", 1, extended(135, bytes([6, 0]) + bytes(6)), version=6, tshark=False),
        Case("4in4", 1, ether(0x0800, ip4(4, ip)), s.ENCAP_IP_IN_IP),
        Case("6in4", 1, ether(0x0800, ip4(41, ip_6)), s.ENCAP_IP_IN_IP, 6),
        Case("4in6", 1, ether(0x86DD, ip6(4, ip)), s.ENCAP_IP_IN_IP),
        Case("6in6", 1, ether(0x86DD, ip6(41, ip_6)), s.ENCAP_IP_IN_IP, 6),
        Case("ethernet in ip", 1, ether(0x0800, ip4(97, b"\x30\x00" + e4)), s.ENCAP_OTHER),
        Case("mpls in ip", 1, ether(0x0800, ip4(137, struct.pack("!I", 16 << 12 | 1 << 8 | 64) + ip)), s.ENCAP_MPLS),
        Case("gre", 1, ether(0x0800, ip4(47, b"\0\0\x08\0" + ip)), gre),
        Case("gre over ipv6", 1, ether(0x86DD, ip6(47, b"\0\0\x86\xdd" + ip_6)), gre, 6),
        Case("gre all fields", 1, ether(0x0800, ip4(47, b"\xb0\0\x08\0" + bytes(12) + ip)), gre),
        Case("gre routed", 1, ether(0x0800, ip4(47, routed)), gre),
        Case("gre bridging", 1, ether(0x0800, ip4(47, b"\x20\0\x65\x58" + bytes(4) + e4)), gre),
        Case("gre mpls", 1, ether(0x0800, ip4(47, b"\0\0\x88\x47" + struct.pack("!I", 16 << 12 | 1 << 8 | 64) + ip)),
             gre | s.ENCAP_MPLS),
        Case("pptp", 1, ether(0x0800, ip4(47, struct.pack("!HHHHI", 0x3001, 0x880B, len(ip) + 4, 1, 5)
             + b"\xff\x03\x00\x21" + ip)), gre),
        Case("pptp ack", 1, ether(0x0800, ip4(47, struct.pack("!HHHHII", 0x3081, 0x880B, len(ip) + 4, 1, 5, 4)
             + b"\xff\x03\x00\x21" + ip)), gre),
        Case("erspan 1", 1, ether(0x0800, ip4(47, b"\0\0\x88\xbe" + e4)), gre | s.ENCAP_ERSPAN),
        Case("erspan 2", 1, ether(0x0800, ip4(47, b"\x10\0\x88\xbe" + bytes(4) + b"\x10" + bytes(7) + e4)),
             gre | s.ENCAP_ERSPAN),
        Case("erspan 3", 1, ether(0x0800, ip4(47, b"\x10\0\x22\xeb" + bytes(4) + b"\x20" + bytes(11) + e4)),
             gre | s.ENCAP_ERSPAN),
        Case("erspan 3 optional", 1, ether(0x0800, ip4(47, b"\x10\0\x22\xeb" + bytes(4) + b"\x20" + bytes(10) + b"\x01"
             + bytes(8) + e4)), gre | s.ENCAP_ERSPAN),
        Case("wccp 1", 1, ether(0x0800, ip4(47, b"\0\0\x88\x3e" + ip)), gre),
        Case("wccp 2", 1, ether(0x0800, ip4(47, b"\0\0\x88\x3e" + bytes(4) + ip)), gre),
    ]  # fmt: skip


def on_udp() -> list[Case]:
    """Tunnels over UDP."""
    ip, ip_6 = tcp4(), tcp6()
    e4 = ether(0x0800, ip)
    gtp = struct.pack("!BBHI", 0x30, 255, len(ip), 1)
    gtp_seq = struct.pack("!BBHIHBB", 0x32, 255, len(ip) + 4, 1, 9, 0, 0)
    gtp_ext = struct.pack("!BBHIHBB", 0x34, 255, len(ip) + 8, 1, 0, 0, 0x85) + b"\x01\x00\x09\x00"
    gtp_0 = struct.pack("!BBHHHB3xQ", 0x1E, 255, len(ip), 0, 0, 0xFF, 0)
    l2tp = b"\x00\x02" + b"\0\1\0\2" + b"\xff\x03\x00\x21" + ip
    l2tp_all = struct.pack("!HHHHHHH", 0x4A02, 14 + 4 + len(ip) + 2, 1, 2, 3, 4, 2) + b"\0\0" + b"\xff\x03\x00\x21" + ip
    capwap = bytes.fromhex("0010020000000000")
    native = bytes.fromhex("0010030000000000")
    swapped = b"\x01\x08" + TO_AP[2:] + SNAP + b"\x08\x00" + ip
    other = s.ENCAP_OTHER
    return [
        Case("vxlan", 1, udp(4789, b"\x08\0\0\0\0\0\5\0" + e4), s.ENCAP_VXLAN),
        Case("vxlan by source port", 1, udp(9999, b"\x08\0\0\0\0\0\5\0" + e4, source=4789), s.ENCAP_VXLAN),
        Case("vxlan-gpe", 1, udp(4790, b"\x0c\0\0\1\0\0\5\0" + ip), s.ENCAP_VXLAN),
        Case("vxlan-gpe ethernet", 1, udp(4790, b"\x0c\0\0\3\0\0\5\0" + e4), s.ENCAP_VXLAN),
        Case("geneve", 1, udp(6081, b"\0\0\x65\x58\0\0\5\0" + e4), s.ENCAP_GENEVE),
        Case("geneve options ipv6", 1, udp(6081, b"\2\0\x86\xdd\0\0\5\0" + b"\0\1\2\1\0\0\0\0" + ip_6),
             s.ENCAP_GENEVE, 6),
        Case("gtp", 1, udp(2152, gtp + ip), s.ENCAP_GTP),
        Case("gtp sequence", 1, udp(2152, gtp_seq + ip), s.ENCAP_GTP),
        Case("gtp extension", 1, udp(2152, gtp_ext + ip), s.ENCAP_GTP),
        Case("gtp ipv6", 1, udp(2152, struct.pack("!BBHI", 0x30, 255, len(ip_6), 1) + ip_6), s.ENCAP_GTP, 6),
        Case("gtp version 0", 1, udp(3386, gtp_0 + ip), s.ENCAP_GTP),
        Case("teredo", 1, udp(3544, ip_6), s.ENCAP_TEREDO, 6),
        Case("teredo origin", 1, udp(3544, bytes(8) + ip_6), s.ENCAP_TEREDO, 6),
        Case("teredo authentication", 1, udp(3544, b"\0\1\0\0" + bytes(9) + bytes(8) + ip_6), s.ENCAP_TEREDO, 6),
        Case("l2tp", 1, udp(1701, l2tp), other),
        Case("l2tp all fields", 1, udp(1701, l2tp_all), other),
        Case("capwap ethernet", 1, udp(5247, capwap + e4), other),
        Case("capwap 802.11 swapped", 1, udp(5247, native + swapped), other | s.ENCAP_WIFI),
        Case("capwap 802.11", 1, udp(5247, native + wifi(b"\x08\x00" + ip)), other | s.ENCAP_WIFI, tshark=False),
        Case("tzsp", 1, udp(37008, b"\1\0\0\1" + b"\x0a\1\xff\0\1" + e4), other),
        Case("tzsp 802.11", 1, udp(37008, b"\1\0\0\x12" + b"\1" + wifi(b"\x08\x00" + ip)), other | s.ENCAP_WIFI),
        Case("lisp", 1, udp(4341, bytes(8) + ip), other),
        Case("mpls over udp", 1, udp(6635, struct.pack("!I", 16 << 12 | 1 << 8 | 64) + ip), s.ENCAP_MPLS),
        Case("gre over udp", 1, udp(4754, b"\0\0\x08\0" + ip), s.ENCAP_GRE),
    ]  # fmt: skip


@cache
def all_cases() -> tuple[Case, ...]:
    return (*links(), *tags(), *on_ip(), *on_udp())
