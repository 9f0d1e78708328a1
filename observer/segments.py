"""The columns in which decoding and tracking meet: one row of int64 cells for each segment.

`wire` writes these rows, `tcp` reads them, neither knows the other.  A batch of segments is one flat
int64 array; segment ``s`` has its cells at ``s * STRIDE + COLUMN``.  Cells that a segment does not have
(SACK edges of a segment without SACK) are left as they were: read them only when the bit in OPTIONS or
KIND says that they are there.

This module never computes anything: it only says where things stand.
Sources: RFC 9293 3.1 (header), 7323 (window scale, timestamps), 2018 and 2883 (SACK, D-SACK), 7413 (Fast Open).
"""

from __future__ import annotations

from typing import Final

STRIDE: Final = 40
"""int64 cells per row."""

# --- always written --------------------------------------------------------------------------------
TIME: Final = 0  # ns since 1970 UTC, the capture's clock
FRAME: Final = 1  # number of the frame in the capture, from 1
KIND: Final = 2  # KIND_SEGMENT or KIND_QUOTED
VERSION: Final = 3  # 4 or 6, the innermost IP header
SRC: Final = 4  # 4..7: sender's address as four 32-bit words, most significant first; IPv4 in the last, others 0
DST: Final = 8  # 8..11: receiver's address, likewise
SRC_PORT: Final = 12
DST_PORT: Final = 13
SEQ: Final = 14  # 0 .. 2**32-1
ACK: Final = 15  # 0 .. 2**32-1; the field as sent, also without the ACK flag
FLAGS: Final = 16  # FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128, AE 256
WINDOW: Final = 17  # as sent, not scaled
LENGTH: Final = 18  # payload octets by the IP length, also where the capture cut them off
OPTIONS: Final = 19  # HAS_... bits
TTL: Final = 20  # or hop limit
IP_ID: Final = 21  # IPv4 identification; 0 for IPv6
ENCAPSULATION: Final = 22  # ENCAP_... bits of everything between the frame and the innermost IP header
WIRE_LENGTH: Final = 23  # octets of the frame on the wire

# --- only where OPTIONS says so --------------------------------------------------------------------
MSS: Final = 24  # HAS_MSS
SCALE: Final = 25  # HAS_SCALE: shift count 0..14 (larger ones are taken as 14, RFC 7323 2.3)
TS_VALUE: Final = 26  # HAS_TIMESTAMPS
TS_ECHO: Final = 27
SACK_LEFT: Final = 28  # HAS_SACK: edges of the first block
SACK_RIGHT: Final = 29
SACK2_LEFT: Final = 30  # HAS_SACK2: edges of the second block (D-SACK needs it, RFC 2883)
SACK2_RIGHT: Final = 31

# --- only where KIND is KIND_QUOTED ----------------------------------------------------------------
# The row describes the segment that an ICMP error quotes: SRC, DST, ports and SEQ are the quotation's.
# ACK, FLAGS, WINDOW are valid only with HAS_QUOTED_HEADER (a quotation may stop after eight octets).
ICMP_TYPE: Final = 32
ICMP_CODE: Final = 33
REPORTER: Final = 34  # 34..37: address of the sender of the ICMP error, as SRC

KIND_SEGMENT: Final = 0
KIND_QUOTED: Final = 1

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
PSH: Final = 8
ACK_FLAG: Final = 16
URG: Final = 32
ECE: Final = 64
CWR: Final = 128
AE: Final = 256

HAS_MSS: Final = 1
HAS_SCALE: Final = 2
HAS_SACK_PERMITTED: Final = 4
HAS_SACK: Final = 8
HAS_SACK2: Final = 16
HAS_TIMESTAMPS: Final = 32
HAS_FAST_OPEN: Final = 64  # the option is there (cookie or cookie request, RFC 7413)
HAS_FAST_OPEN_COOKIE: Final = 128  # with a cookie
HAS_OTHER_OPTION: Final = 256  # an option not named here
BAD_OPTIONS: Final = 512  # a length that cannot be; what stood before it was taken
CUT_OPTIONS: Final = 1024  # the capture ends before the options do
BAD_CHECKSUM: Final = 2048  # the TCP checksum could be verified (nothing cut off) and is wrong
CHECKSUM_KNOWN: Final = 4096  # the TCP checksum was verified (see Options.verify_checksums)
CUT_HEADER: Final = 8192  # the capture ends inside the fixed header: only ports and SEQ are sure
HAS_QUOTED_HEADER: Final = 16384
REASSEMBLED: Final = 32768  # the datagram was put together from IP fragments
FIRST_OF_FRAME: Final = 65536  # not set on the second and later segments that one frame carries (A-MSDU)
HAS_MPTCP: Final = 131072  # option 30, RFC 8684: duplicate ACKs may be signals

ENCAP_VLAN: Final = 1
ENCAP_MPLS: Final = 2
ENCAP_PPPOE: Final = 4
ENCAP_GRE: Final = 8
ENCAP_VXLAN: Final = 16
ENCAP_GENEVE: Final = 32
ENCAP_GTP: Final = 64
ENCAP_IP_IN_IP: Final = 128
ENCAP_802_1AH: Final = 256
ENCAP_ERSPAN: Final = 512
ENCAP_WIFI: Final = 1024
ENCAP_TEREDO: Final = 2048
ENCAP_OTHER: Final = 4096  # found by scapy

ENCAPSULATIONS: Final[dict[int, str]] = {
    ENCAP_VLAN: "vlan",
    ENCAP_MPLS: "mpls",
    ENCAP_PPPOE: "pppoe",
    ENCAP_GRE: "gre",
    ENCAP_VXLAN: "vxlan",
    ENCAP_GENEVE: "geneve",
    ENCAP_GTP: "gtp",
    ENCAP_IP_IN_IP: "ip-in-ip",
    ENCAP_802_1AH: "802.1ah",
    ENCAP_ERSPAN: "erspan",
    ENCAP_WIFI: "802.11",
    ENCAP_TEREDO: "teredo",
    ENCAP_OTHER: "other",
}

# --- records: what `capture` hands to `wire` -------------------------------------------------------
# A Chunk holds one flat int64 array of records; record r has its cells at r * RECORD_STRIDE + column.
RECORD_STRIDE: Final = 6
RECORD_OFFSET: Final = 0  # first octet of the frame inside the chunk's octets
RECORD_CAPTURED: Final = 1  # octets captured; offset + captured never exceeds the chunk's size
RECORD_WIRE: Final = 2  # octets on the wire
RECORD_TIME: Final = 3  # ns since 1970 UTC
RECORD_LINK: Final = 4  # LINKTYPE_... number of tcpdump.org's registry
RECORD_FRAME: Final = 5  # number of the frame in the capture, from 1
