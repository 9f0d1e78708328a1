"""Which connections a live observer gives up so that memory stays bounded: those that are over, then half-born ones.

Never here: giving them up.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy

Array = Any

LIMIT: Final = 200_000
"""Connections held at most: some 150 octets for a lone SYN, 600 for one that is over, 2 kB for an open one."""
AFTER: Final = 0.75
"""Share of the limit that is left when room was made: so that it is made seldom."""
OVER_S: Final = 5.0
"""A connection that was over for so long is given up first; before, late segments may still come."""


class Standing(NamedTuple):
    """What `Tracker.summary` says of each connection, kept: bool, but for last_time (int64, ns)."""

    is_finished: Array
    is_lone: Array
    is_embryonic: Array
    is_one_sided: Array
    last_time: Array

    @classmethod
    def of(cls, summary: Any) -> Standing:
        """Copy it: the tracker uses the memory again."""
        return cls(*(numpy.array(getattr(summary, name)) for name in cls._fields))


class Room(NamedTuple):
    """What stays.

    keep
        bool, for each connection.
    over
        How many go that were over.
    evicted
        How many go that were not: findings may miss them.
    """

    keep: Array
    over: int
    evicted: int


def make_room(summary: Standing, closing: Array, *, limit: int, now_ns: int) -> Room:
    """Choose what stays when there are more than `limit` connections: all, if there are not.

    In this order go those that are over, those that nobody answered (a flood's), those that only one side was seen of
    or whose opening is not complete, those in TIME-WAIT, and the rest; of each kind the longest silent first.

    Parameters
    ----------
    summary
        Of each connection.
    closing
        bool: over as soon as TIME-WAIT is.
    limit
        Connections.
    now_ns
        ns since 1970.

    Examples
    --------
    >>> no = numpy.zeros(4, bool)
    >>> seen = Standing(is_finished=numpy.array([True, False, False, False]), is_lone=no, is_one_sided=no,
    ...     is_embryonic=numpy.array([False, True, True, False]), last_time=numpy.array([0, 5, 3, 1]))
    >>> make_room(seen, no, limit=3, now_ns=10**10)
    Room(keep=array([False,  True, False,  True]), over=1, evicted=1)
    """
    count = len(summary.last_time)
    if count <= limit:
        return Room(numpy.ones(count, bool), 0, 0)
    excess = count - int(limit * AFTER)
    over = summary.is_finished & (summary.last_time <= now_ns - round(OVER_S * 1e9))
    rank = numpy.full(count, 4, numpy.int64)
    rank[closing] = 3
    rank[summary.is_embryonic | summary.is_one_sided] = 2
    rank[summary.is_lone] = 1
    rank[over] = 0
    order = numpy.lexsort((summary.last_time, rank))
    keep = numpy.ones(count, bool)
    keep[order[:excess]] = False
    gone_over = int((over & ~keep).sum())
    return Room(keep, gone_over, excess - gone_over)
