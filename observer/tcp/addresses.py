"""Numbers the distinct addresses of all streams, so that tables and findings compare small integers.

Never here: addresses as text (schema/raw.py).
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel
from observer.tcp.flowtable import pack
from observer.tcp.layout import G_SECRET, S_DST, S_PORTS, S_SRC, STREAM_STRIDE

LOW: Final = 0xFFFFFFFF


@entry
def intern(
    streams: Int64s, g: Int64s, slots: Int64s, distinct: Int64s, codes: Int64s, first: int, stop: int, known: int
) -> int:  # fmt: skip
    """Number the addresses of the streams first .. stop - 1; returns how many distinct ones are known then.

    slots: a power of two of cells, zeros at first, larger than twice what may be known in the end; distinct: 3 cells
    for each address (see `halves`; the version); codes: for each stream the number of its first sender's address |
    the other's << 32.
    """
    for i in range(2 * first, 2 * stop):
        r = (i >> 1) * STREAM_STRIDE
        a = r + (S_DST if i & 1 else S_SRC)
        high, low, version = halves(streams[a]), halves(streams[a + 1]), streams[r + S_PORTS] >> 32
        at = find_address(g, slots, distinct, high, low, version)
        if not slots[at]:
            d = known * 3
            distinct[d], distinct[d + 1], distinct[d + 2] = high, low, version
            known += 1
            slots[at] = known
        if i & 1:
            codes[i >> 1] |= slots[at] - 1 << 32
        else:
            codes[i >> 1] = slots[at] - 1
    return known


@entry
def intern_again(g: Int64s, slots: Int64s, distinct: Int64s, known: int) -> int:
    """Find places for all addresses that are known in a larger table of slots."""
    for i in range(known):
        at = find_address(g, slots, distinct, distinct[3 * i], distinct[3 * i + 1], distinct[3 * i + 2])
        slots[at] = i + 1
    return known


@kernel
def halves(cell: int) -> int:
    """A cell with its halves exchanged: in little-endian memory the more significant word stands first."""
    return pack(cell & LOW, cell >> 32 & LOW)


@kernel
def find_address(g: Int64s, slots: Int64s, distinct: Int64s, high: int, low: int, version: int) -> int:
    """The slot of an address, or the free one where it belongs."""
    mask = len(slots) - 1
    at = (halves(low) * g[G_SECRET] + halves(high) * g[G_SECRET + 1] >> 24) & mask  # keyed, as the flow table's hash
    while slots[at]:
        d = (slots[at] - 1) * 3
        if distinct[d + 1] == low and distinct[d] == high and distinct[d + 2] == version:
            break
        at = (at + 1) & mask
    return at
