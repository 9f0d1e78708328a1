"""Every reason why a frame gives no segment: number, name, one sentence.

Where a layer's header is not there, the even number says that the capture cut it off and the odd number
after it that the frame was too short or the header impossible.  Nothing is dropped without one of these.

This module never decodes; kernels return the negative of these numbers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CUT_LINK: Final = 2
BAD_LINK: Final = 3
CUT_ENCAPSULATION: Final = 4
BAD_ENCAPSULATION: Final = 5
CUT_IP: Final = 6
BAD_IP: Final = 7
CUT_TCP: Final = 8
BAD_TCP: Final = 9
CUT_TRANSPORT: Final = 10
BAD_TRANSPORT: Final = 11
ARP: Final = 12
NOT_IP: Final = 13
LLC_OTHER: Final = 14
UDP_OTHER: Final = 15
ICMP_OTHER: Final = 16
PROTOCOL_OTHER: Final = 17
ENCRYPTED: Final = 18
FRAGMENT_OTHER: Final = 19
FRAGMENT: Final = 20
FRAGMENT_INCOMPLETE: Final = 21
QUOTED_FRAGMENT: Final = 22
TOO_DEEP: Final = 23
UNKNOWN_LINK: Final = 24
WIFI_OTHER: Final = 25
WIFI_ENCRYPTED: Final = 26
WIFI_FRAGMENT: Final = 27
TUNNEL_CONTROL: Final = 28
PPP_OTHER: Final = 29
NO_NEXT_HEADER: Final = 30
FAMILY_OTHER: Final = 31
EMPTY: Final = 32
QUOTED_OTHER: Final = 33

DETAILED: Final = (
    NOT_IP, LLC_OTHER, PROTOCOL_OTHER, FRAGMENT_OTHER, UNKNOWN_LINK, PPP_OTHER, FAMILY_OTHER, QUOTED_OTHER,
)  # fmt: skip
"""The reasons that have a detail number."""


class Reason(NamedTuple):
    """One reason: its number in the kernels, its name in the table `skipped`, and what it means."""

    code: int
    name: str
    doc: str
    detail: str = ""
    """What the detail number is, in a format with one place; empty: there is none."""


REASONS: Final[dict[int, Reason]] = {
    reason.code: reason
    for reason in (
        Reason(CUT_LINK, "cut_link", "The capture ends inside the link header."),
        Reason(BAD_LINK, "bad_link", "The frame is too short for its link header, or the header is impossible."),
        Reason(CUT_ENCAPSULATION, "cut_encapsulation", "The capture ends inside a tunnel's or tag's header."),
        Reason(BAD_ENCAPSULATION, "bad_encapsulation", "A tunnel's or tag's header does not fit or is impossible."),
        Reason(CUT_IP, "cut_ip", "The capture ends inside the IP header."),
        Reason(BAD_IP, "bad_ip", "The IP header has an impossible version or length."),
        Reason(CUT_TCP, "cut_tcp", "The capture, or an ICMP quotation, ends before the TCP ports and sequence number."),
        Reason(BAD_TCP, "bad_tcp", "The IP packet is too short to hold the TCP fields up to the window."),
        Reason(CUT_TRANSPORT, "cut_transport", "The capture ends inside the UDP or ICMP header."),
        Reason(BAD_TRANSPORT, "bad_transport", "The IP packet is too short for its UDP or ICMP header."),
        Reason(ARP, "arp", "Address resolution (ARP or RARP)."),
        Reason(NOT_IP, "not_ip", "An EtherType that carries no IP.", "EtherType 0x{:04x}"),
        Reason(LLC_OTHER, "llc", "An IEEE 802.2 frame that carries no IP.", "DSAP 0x{:02x}"),
        Reason(UDP_OTHER, "udp", "UDP, and no tunnel that is known by its port."),
        Reason(ICMP_OTHER, "icmp", "ICMP or ICMPv6, and no error that quotes a packet."),
        Reason(PROTOCOL_OTHER, "ip_protocol", "Another IP protocol.", "protocol {}"),
        Reason(ENCRYPTED, "encrypted", "Encrypted (ESP, MACsec, DTLS): nothing can be said about what is inside."),
        Reason(FRAGMENT_OTHER, "fragment_other", "A fragment of an IP packet that cannot carry TCP.", "protocol {}"),
        Reason(FRAGMENT, "fragment", "A fragment of an IP packet that a later frame completed."),
        Reason(FRAGMENT_INCOMPLETE, "fragment_incomplete", "A fragment of an IP packet that was never completed."),
        Reason(QUOTED_FRAGMENT, "quoted_fragment", "An ICMP error that quotes a later fragment: no ports."),
        Reason(TOO_DEEP, "too_deep", "More headers inside each other than the decoder follows (64)."),
        Reason(UNKNOWN_LINK, "unknown_link", "A link type that nothing here decodes.", "link type {}"),
        Reason(WIFI_OTHER, "wifi_no_data", "An 802.11 frame without data (management, control, null data)."),
        Reason(WIFI_ENCRYPTED, "wifi_encrypted", "An 802.11 data frame under WEP or WPA."),
        Reason(WIFI_FRAGMENT, "wifi_fragment", "A fragment of an 802.11 frame or of a CAPWAP packet."),
        Reason(TUNNEL_CONTROL, "tunnel_control", "A tunnel's own control message."),
        Reason(PPP_OTHER, "ppp", "A PPP protocol that is not IP.", "protocol 0x{:04x}"),
        Reason(NO_NEXT_HEADER, "no_next_header", "IPv6 with nothing after its headers."),
        Reason(FAMILY_OTHER, "family", "A loopback or log frame of an address family other than IP.", "family {}"),
        Reason(EMPTY, "empty", "A frame without octets."),
        Reason(QUOTED_OTHER, "quoted_other", "An ICMP error that quotes something other than TCP.", "protocol {}"),
    )
}
"""All reasons by number; names are promised to readers of `skipped`."""
