"""Numbers as people say them, for the sentences of findings.

Never here: a judgement.
"""

from __future__ import annotations

from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000


def duration(ns: int) -> str:
    """A length of time with its unit, three digits at most.

    Examples
    --------
    >>> duration(7_130_000_000), duration(21_600_000), duration(420_000), duration(600 * SECOND)
    ('7.1 s', '22 ms', '0.4 ms', '10 min')
    >>> duration(37_000)
    '0.04 ms'
    """
    seconds = ns / SECOND
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    if seconds >= 100:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = ns / MILLISECOND
    if milliseconds >= 10:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 0.1 or ns <= 0 else f"{max(milliseconds, 0.01):.2f} ms"


def times(count: int) -> str:
    """How often, in words.

    Examples
    --------
    >>> times(1), times(2), times(5)
    ('once', 'twice', '5 times')
    """
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
