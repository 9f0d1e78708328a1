"""IEEE 802.11 data frames, and the headers that capture tools put before them.

Never decrypts and never reassembles 802.11 fragments: both are counted.
Sources: IEEE 802.11-2020 9.2 and 9.3.2 (frame formats, A-MSDU), radiotap.org, LINKTYPE_PPI, Prism and AVS headers.
"""

from __future__ import annotations

from typing import Final

from observer import segments as s
from observer.kernels import Int64s, Octets, kernel
from observer.wire import reasons as why
from observer.wire.link import link_layer
from observer.wire.registers import (
    AMSDU,
    ENCAP,
    END,
    LLC,
    OFFSET,
    PENDING,
    PENDING_ENCAP,
    PENDING_END,
    PENDING_REAL_END,
    REAL_END,
    WIFI,
    lacks,
    little16,
    narrow,
    onward,
    short,
    u16,
    u32,
)

AGGREGATE_MAX: Final = 65536  # octets of an A-MSDU at most; IEEE 802.11 allows 11454
PRISM_HEADER: Final = 144  # octets of the Prism header
AVS_MAGIC: Final = 0x80211  # upper 20 bits of the AVS header's first word


@kernel
def radiotap(octets: Octets, state: Int64s) -> int:
    """The radiotap header; its flags may say that the 802.11 header is padded and that a checksum follows."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_LINK)
    o = state[OFFSET]
    size = little16(octets, o + 2)
    if size < 8:
        return -why.BAD_LINK
    if lacks(state, size):
        return short(state, size, why.CUT_LINK)
    present = octets[o + 4]
    field = o + 4
    while octets[field + 3] & 0x80 and field + 8 <= o + size:  # another word of presence bits follows
        field += 4
    field += 4
    flags = 0
    if present & 2:
        if present & 1:  # the eight octets of the clock, aligned to eight
            field = o + ((field - o + 7) & ~7) + 8
        if field < o + size:
            flags = octets[field]
    state[OFFSET] = o + size
    return wifi(octets, state, 1 if flags & 0x20 else 0, 0)


@kernel
def wifi(octets: Octets, state: Int64s, padded: int, swapped: int) -> int:
    """An 802.11 frame; `padded`: its header is filled up to four octets; `swapped`: frame control backwards."""
    if lacks(state, 24):
        if not lacks(state, 1) and octets[state[OFFSET] + swapped] & 0x0C != 0x08:
            return -why.WIFI_OTHER
        return short(state, 24, why.CUT_LINK)
    o = state[OFFSET]
    kind = octets[o + swapped]
    flags = octets[o + 1 - swapped]
    if kind & 0x0F != 0x08 or kind & 0x40:  # not data, or data of length nought
        return -why.WIFI_OTHER
    if flags & 0x40:
        return -why.WIFI_ENCRYPTED
    # more fragments follow, or this is not the first; who swaps frame control may swap sequence control as well
    if flags & 4 or (octets[o + 22] & 15 and not swapped):
        return -why.WIFI_FRAGMENT
    size = 30 if flags & 3 == 3 else 24  # a fourth address between access points
    aggregate = 0
    if kind & 0x80:  # QoS control, and HT control where the order bit is set
        if lacks(state, size + 2):
            return short(state, size + 2, why.CUT_LINK)
        aggregate = octets[o + size] & 0x80
        size += 6 if flags & 0x80 else 2
    if padded:
        size = (size + 3) & ~3
    state[OFFSET] = o + size
    state[ENCAP] |= s.ENCAP_WIFI
    if aggregate:
        return AMSDU
    return LLC


@kernel
def amsdu(octets: Octets, state: Int64s) -> int:
    """One subframe of an A-MSDU: destination, source, length; the next one is kept pending."""
    if lacks(state, 14):
        return short(state, 14, why.CUT_LINK)
    if state[END] - state[OFFSET] > AGGREGATE_MAX:
        return -why.BAD_LINK
    o = state[OFFSET]
    size = u16(octets, o + 12)
    following = o + ((14 + size + 3) & ~3)
    if state[END] - following >= 14:
        state[PENDING] = following
        state[PENDING_END] = state[END]
        state[PENDING_REAL_END] = state[REAL_END]
        state[PENDING_ENCAP] = state[ENCAP]
    state[OFFSET] = o + 14
    narrow(state, size)
    return LLC


@kernel
def ppi(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_PPI: a header that tells its length and the link type of what follows."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_LINK)
    o = state[OFFSET]
    size = little16(octets, o + 2)
    if size < 8:
        return -why.BAD_LINK
    if lacks(state, size):
        return short(state, size, why.CUT_LINK)
    link = little16(octets, o + 4)
    state[OFFSET] = o + size
    return link_layer(state, link)


@kernel
def prism(octets: Octets, state: Int64s) -> int:
    """LINKTYPE_IEEE802_11_PRISM and _AVS: a fixed header, or one that tells its length."""
    if lacks(state, 8):
        return short(state, 8, why.CUT_LINK)
    o = state[OFFSET]
    size = PRISM_HEADER
    if u32(octets, o) >> 12 == AVS_MAGIC:
        size = u32(octets, o + 4)
    if size < 8:
        return -why.BAD_LINK
    if lacks(state, size):
        return short(state, size, why.CUT_LINK)
    return onward(state, size, WIFI, 0)
