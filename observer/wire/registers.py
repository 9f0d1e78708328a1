"""The decoder's registers: one small int64 array in which the layers of a frame hand each other their places.

A *layer* is a kernel that reads one header at ``state[OFFSET]`` and returns the number of the next layer, one
of the ends `TO_SEGMENT`, `TO_REASSEMBLY`, `TO_SCAPY`, or the negative code of the reason (reasons.py) why
there is no segment.  Two ends delimit what a layer may read: nothing was captured from END on, and by the
lengths in the headers the layer's data goes on until REAL_END, which may lie behind END (short captures).

This module never reads packets; it only holds numbers and the loads of big-endian fields.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, Octets, kernel

# --- registers ------------------------------------------------------------------------------------
ROWS: Final = 0  # rows written so far
CELL: Final = 1  # first cell of the row being written
OFFSET: Final = 2  # where the next header starts
END: Final = 3  # end of what was captured of it
REAL_END: Final = 4  # end by the headers' lengths
ENCAP: Final = 5  # ENCAP_ bits so far
STEPS: Final = 6  # headers read so far
QUOTED: Final = 7  # 1 inside the quotation of an ICMP error
DETAIL: Final = 8  # a number that belongs to the reason (protocol, EtherType, link type)
REASON: Final = 9  # first reason met in this frame, 0: none
PENDING: Final = 10  # next A-MSDU subframe: offset, or 0
PENDING_END: Final = 11
PENDING_REAL_END: Final = 12
FIRST_ROW: Final = 13  # rows before this frame
MARKS: Final = 14  # HAS_ bits that every row of this octets buffer gets (REASSEMBLED)
STOP: Final = 15  # why the kernel returned to Python: a STOP_ number
ENTER: Final = 16  # layer to begin the next record with; 0: by its link type
RESUME: Final = 17  # 1: the first record was begun before and Python has dealt with its slow part
NESTED: Final = 18  # 1: octets hold a reassembled datagram, the frame is counted by the outer call
PROTOCOL: Final = 19  # of a fragment
FRAGMENT_OFFSET: Final = 20  # octets
FRAGMENT_MORE: Final = 21  # 1: not the last
FRAGMENT_ID: Final = 22
TRIES: Final = 23  # fruitless scapy dissections that are still allowed
FRAMES: Final = 24  # frames decoded
SEGMENT_FRAMES: Final = 25  # frames that gave at least one row
QUOTED_FRAMES: Final = 26  # frames that gave at least one quotation
SKIP_KEYS: Final = 27  # slots used in the table of skipped frames
CAPACITY: Final = 28  # rows that fit
HINT: Final = 29  # the reason if scapy cannot help either
REASON_DETAIL: Final = 30
PENDING_ENCAP: Final = 31
COUNTED: Final = 32  # 1: the frame is counted by another part of it (of a nested buffer)
STATE_SIZE: Final = 36

STOP_DONE: Final = 0  # all records decoded
STOP_FRAGMENT: Final = 1
STOP_SCAPY: Final = 2
STOP_FULL: Final = 3  # no room for another row

# --- layers ----------------------------------------------------------------------------------------
TO_SEGMENT: Final = 1
TO_REASSEMBLY: Final = 2
TO_SCAPY: Final = 3
FIRST_LAYER: Final = 4  # from here on, layers to be walked
ETHERNET: Final = 4
LLC: Final = 5
VLAN: Final = 6
MPLS: Final = 7
PPPOE: Final = 8
PPP: Final = 9
IP: Final = 10  # version by the first four bits
IPV4: Final = 11
IPV6: Final = 12
EXTENSION: Final = 13  # an IPv6 extension header (or AH); its number in PROTOCOL
UDP: Final = 14
GRE: Final = 15
ICMP: Final = 16
ICMPV6: Final = 17
BACKBONE: Final = 18  # IEEE 802.1ah
FABRIC_PATH: Final = 19
TAG: Final = 20  # a tag of known size before an EtherType; its size in DETAIL
MACSEC: Final = 21
NSH: Final = 22
TRILL: Final = 23
ETHER_IP: Final = 24
WIFI: Final = 25
RADIOTAP: Final = 26
VXLAN: Final = 27
VXLAN_GPE: Final = 28
GENEVE: Final = 29
GTP: Final = 30
TEREDO: Final = 31
L2TP: Final = 32
CAPWAP: Final = 33
TZSP: Final = 34
LISP: Final = 35
ERSPAN: Final = 36
COOKED: Final = 37
COOKED_2: Final = 38
LOOPBACK: Final = 39
CISCO_HDLC: Final = 40
PPP_HDLC: Final = 41
NFLOG: Final = 42
PPI: Final = 43
PRISM: Final = 44
FDDI: Final = 45
TOKEN_RING: Final = 46
FRAME_RELAY: Final = 47
SKIP_TO_IP: Final = 48  # a link header of known size (DETAIL) before an IP header
SKIP_TO_ETHERNET: Final = 49  # likewise before an Ethernet header
WCCP: Final = 50
PFLOG: Final = 51
AMSDU: Final = 52  # one subframe of an 802.11 A-MSDU


@kernel
def u16(octets: Octets, offset: int) -> int:
    """The big-endian 16-bit number at `offset`."""
    return octets[offset] << 8 | octets[offset + 1]


@kernel
def u32(octets: Octets, offset: int) -> int:
    """The big-endian 32-bit number at `offset`."""
    return octets[offset] << 24 | octets[offset + 1] << 16 | octets[offset + 2] << 8 | octets[offset + 3]


@kernel
def little16(octets: Octets, offset: int) -> int:
    """The little-endian 16-bit number at `offset`."""
    return octets[offset + 1] << 8 | octets[offset]


@kernel
def short(state: Int64s, needed: int, reason: int) -> int:
    """Why a header of `needed` octets is not there: cut by the capture (`reason`) or never sent (`reason` + 1)."""
    if state[REAL_END] - state[OFFSET] >= needed:
        return -reason
    return -(reason + 1)


@kernel
def lacks(state: Int64s, needed: int) -> int:
    """1 if fewer than `needed` octets were captured from OFFSET on."""
    return 1 if state[END] - state[OFFSET] < needed else 0


@kernel
def narrow(state: Int64s, length: int) -> None:
    """Let the data from OFFSET on be `length` octets long, where it was longer: what follows is padding."""
    end = state[OFFSET] + length
    state[REAL_END] = min(state[REAL_END], end)
    state[END] = min(state[END], end)


@kernel
def onward(state: Int64s, octets: int, layer: int, encapsulation: int) -> int:
    """Go on with `layer` after `octets` octets of header, inside the given encapsulation (0: none)."""
    state[OFFSET] += octets
    state[ENCAP] |= encapsulation
    return layer
