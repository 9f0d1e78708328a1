"""Arithmetic on sequence numbers: 32 bits that wrap (RFC 9293 3.4).

Every function takes numbers from 0 to 2**32 - 1 and compares them by their signed distance, so "later" holds
for anything less than 2**31 octets ahead, across the wrap too.  At a distance of exactly 2**31, where RFC 1982
3.2 leaves the order open, `diff` is -2**31 both ways: each counts as earlier than the other.

Never here: state.  Kernels only, see `observer.kernels`.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import kernel

MASK: Final = 0xFFFFFFFF  # RFC 9293 3.4: arithmetic modulo 2**32
HALF: Final = 0x80000000


@kernel
def diff(a: int, b: int) -> int:
    """How many octets a is after b, from -2**31 to 2**31 - 1; negative if it is before.

    Examples
    --------
    >>> diff(5, 0xFFFFFFFE), diff(0xFFFFFFFE, 5)
    (7, -7)
    """
    return ((a - b + HALF) & MASK) - HALF


@kernel
def add(a: int, octets: int) -> int:
    """The sequence number so many octets on (or back, if negative).

    Examples
    --------
    >>> add(0xFFFFFFFF, 2), add(0, -1) == 0xFFFFFFFF
    (1, True)
    """
    return (a + octets) & MASK


@kernel
def lt(a: int, b: int) -> bool:
    """Whether a is before b."""
    return ((a - b + HALF) & MASK) < HALF


@kernel
def le(a: int, b: int) -> bool:
    """Whether a is before b or equal to it."""
    return a == b or ((a - b + HALF) & MASK) < HALF


@kernel
def gt(a: int, b: int) -> bool:
    """Whether a is after b."""
    return ((a - b + HALF) & MASK) > HALF


@kernel
def ge(a: int, b: int) -> bool:
    """Whether a is after b or equal to it."""
    return ((a - b + HALF) & MASK) >= HALF
