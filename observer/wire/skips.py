"""The table of frames that gave no segment: a count for each reason and detail, in bounded memory.

SKIP_SLOTS rows of SKIP_STRIDE cells in one array, open addressing.  Never forgets a frame: where keys run out,
new details of a reason are counted together.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.wire import registers as r

SKIP_SLOTS: Final = 1024
SKIP_KEYS_MAX: Final = 768  # from then on, new details of a reason are counted together
SKIP_STRIDE: Final = 4
SKIP_KEY: Final = 0  # reason << 32 | detail; 0: free
SKIP_COUNT: Final = 1
SKIP_FIRST: Final = 2  # frames
SKIP_LAST: Final = 3
DETAIL_ANY: Final = 0xFFFFFFFF  # the detail of what was counted together


@kernel
def skip_slot(skips: Int64s, key: int) -> int:
    """First cell of the slot that has this key, or of the free slot where it would stand."""
    slot = (key * 2654435761 >> 12) & (SKIP_SLOTS - 1)
    while skips[slot * SKIP_STRIDE] != 0 and skips[slot * SKIP_STRIDE] != key:
        slot = (slot + 1) & (SKIP_SLOTS - 1)
    return slot * SKIP_STRIDE


@kernel
def skip_count(skips: Int64s, reason: int, detail: int) -> int:
    """How many frames were skipped for this."""
    return skips[skip_slot(skips, reason << 32 | detail) + SKIP_COUNT]


@kernel
def skip_frame(state: Int64s, skips: Int64s, reason: int, detail: int, number: int) -> None:
    """Count a frame without segment."""
    cell = skip_slot(skips, reason << 32 | detail)
    if skips[cell] == 0 and state[r.SKIP_KEYS] >= SKIP_KEYS_MAX:
        cell = skip_slot(skips, reason << 32 | DETAIL_ANY)
        detail = DETAIL_ANY
    if skips[cell] == 0:
        skips[cell] = reason << 32 | detail
        skips[cell + SKIP_COUNT] = 0
        skips[cell + SKIP_FIRST] = number
        state[r.SKIP_KEYS] += 1
    skips[cell + SKIP_COUNT] += 1
    skips[cell + SKIP_LAST] = number
