"""Looking into a packed flow without making its row again: how long it is, and a few of its cells.

Never changes what is packed, but for the one mark that says that somebody should look.  How it is packed: archive.py.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.tcp import layout as c
from observer.tcp.archive import HEAD, WIDE, packing_rules

_RULES: Final = packing_rules()
# places of cells in the rules; they are combined with no other cell, or `index` would not find them
LAST_TIME_AT: Final = _RULES.index(c.LAST_TIME)
CLIENT_END_AT: Final = _RULES.index(c.CLIENT + c.E_END_TIME)
SERVER_END_AT: Final = _RULES.index(c.SERVER + c.E_END_TIME)
FLAGS_AT: Final = _RULES.index(c.FLOW_FLAGS) - WIDE
LAST_FRAME_AT: Final = _RULES.index(c.LAST_FRAME) - WIDE
CLIENT_STATE_AT: Final = _RULES.index(c.CLIENT + c.E_STATE) - WIDE
SERVER_STATE_AT: Final = _RULES.index(c.SERVER + c.E_STATE) - WIDE

LOW: Final = 0xFFFFFFFF
PAIRS: Final = 0x5555555555555555
FOURS: Final = 0x3333333333333333
EIGHTS: Final = 0x0F0F0F0F0F0F0F0F
ONES: Final = 0x0101010101010101


@kernel
def ones(word: int) -> int:
    """How many bits of a map are set; it has less than 63."""
    word -= word >> 1 & PAIRS
    word = (word & FOURS) + (word >> 2 & FOURS)
    return ((word + (word >> 4) & EIGHTS) * ONES) >> 56 & 0x7F


@kernel
def wide(log: Int64s, at: int, index: int) -> int:
    """The cell of 64 bits that stands at `index` of the packing rules; at: first cell of what is packed."""
    present = log[at]
    if not present >> index & 1:
        return 0
    return log[at + HEAD + ones(present & ((1 << index) - 1))]


@kernel
def place_of_pair(log: Int64s, at: int, index: int) -> int:
    """Where the cell of 32 bits at `index` of the rules stands, with another in its word; -1: both are 0."""
    pair = index >> 1
    present = log[at + 1]
    if not present >> pair & 1:
        return -1
    return at + HEAD + ones(log[at]) + ones(present & ((1 << pair) - 1))


@kernel
def narrow(log: Int64s, at: int, index: int) -> int:
    """The cell of 32 bits at `index` of the rules, behind those of 64."""
    place = place_of_pair(log, at, index)
    if place < 0:
        return 0
    return log[place] >> ((index & 1) << 5) & LOW


@kernel
def entries_packed(log: Int64s, at: int) -> int:
    """Log entries, live and retracted, of both endpoints (archive.pack_log)."""
    client, server = log[at + 2], log[at + 3]
    return (client & 0xFF) + (client >> 8 & 0xFF) + (server & 0xFF) + (server >> 8 & 0xFF)


@kernel
def length_packed(log: Int64s, at: int) -> int:
    """Words that the packed flow takes."""
    used = at + HEAD + ones(log[at]) + ones(log[at + 1])
    for _ in range(entries_packed(log, at)):
        form = log[used] & 3  # archive.pack_entry: one word; with the proof's frame; time, frame and proof as they are
        used += 4 if form & 2 else 1 + (form & 1)
    return used - at
