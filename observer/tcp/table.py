"""Memory for rows of cells: grows without a second copy, and is given back when most of it is not used any more.

Never knows what the rows mean.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any, Final

import numpy

Array = numpy.ndarray[Any, numpy.dtype[numpy.int64]]

LARGE_CELLS: Final = 1 << 17
"""From a megaoctet on, a table gets address space of its own."""
HUGE_CELLS: Final = 1 << 21
"""From 16 MiB on, a table takes huge pages."""
MAP_NORESERVE: Final = 0x4000
"""Linux, asm-generic/mman.h; Python names it from 3.13 on."""
RESERVED_OCTETS: Final = 1 << 36
"""Address space for each table: 64 GiB, of which only what is used takes memory."""


class Table:
    """Rows of int64 cells that grow without being copied.

    Where the system lets us, address space is reserved once and pages come as they are touched; elsewhere the array is
    enlarged by an eighth at a time.

    Attributes
    ----------
    cells
        Flat int64 array; only the first ``rows_used * stride`` cells mean anything, the others are zeros.
    """

    def __init__(self, stride: int, rows: int) -> None:
        self.stride = stride
        self.cells: Array = numpy.zeros(stride * rows, numpy.int64)
        self._space: mmap.mmap | None = None
        self._small_pages = True

    def reserve(self, rows: int) -> bool:
        """Make room for so many rows in all; True if the memory moved (bound kernels must be bound again)."""
        need = rows * self.stride
        if need > HUGE_CELLS and self._space is not None and self._small_pages:
            # A large table is read all over: fewer faults, fewer missing translations.  A small one would take more.
            self._space.madvise(mmap.MADV_HUGEPAGE)
            self._small_pages = False
        if need <= len(self.cells):
            return False
        used = self.cells
        if len(used) < RESERVED_OCTETS // 8 and need > LARGE_CELLS:
            self._space = _reserved()
            if self._space is not None:
                self.cells = numpy.frombuffer(self._space, numpy.int64)
                self.cells[: len(used)] = used
                return True
        self.cells = numpy.zeros(max(need, len(used) + len(used) // 8), numpy.int64)
        self.cells[: len(used)] = used
        return True

    def shrink(self, rows: int, before: int) -> None:
        """Only `rows` of `before` rows are used any more; bound kernels must be bound again.

        What is left over is zeros again, and gives its memory back where it is more than what is used.
        """
        used, end = rows * self.stride, before * self.stride
        if end - used > max(used, LARGE_CELLS):
            if self._space is None:
                self.cells = self.cells[: max(used, self.stride)].copy()
                return
            whole = -(-8 * used // mmap.PAGESIZE) * mmap.PAGESIZE
            self._space.madvise(mmap.MADV_DONTNEED, whole, len(self._space) - whole)
            end = whole // 8
        self.cells[used:end] = 0


def _reserved() -> mmap.mmap | None:
    """Address space of which only touched pages take memory; None where that cannot be had."""
    if sys.platform != "linux":
        return None
    try:
        return mmap.mmap(-1, RESERVED_OCTETS, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    except (OSError, ValueError):
        return None
