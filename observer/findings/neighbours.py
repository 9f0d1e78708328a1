"""Questions about the other connections of a listener or host, each answered in logarithmic time.

A reset storm asks them once for each of its connections, so looking through all neighbours each time would be
quadratic.

Never here: a judgement.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

Array = Any


class _Group(NamedTuple):
    """Connections of one key."""

    first: Array  # ascending
    latest: Array  # of those up to here: the latest last segment
    last: Array  # ascending, on its own


class Neighbours:
    """Connections by a key (a listener, a host).

    Parameters
    ----------
    keys, first, last
        int64, one element for each connection: its key, the times of its first and its last segment (ns).

    Examples
    --------
    >>> near = Neighbours(numpy.array([7, 7, 8]), numpy.array([10, 30, 20]), numpy.array([90, 40, 25]))
    >>> near.begun(7, 5, 15), near.alive(7, 50, 60), near.outlived(7, before=20, after=80), near.alive(9, 0, 99)
    (1, 1, True, 0)
    """

    def __init__(self, keys: Array, first: Array, last: Array) -> None:
        order = numpy.lexsort((first, keys))
        self._keys, self._first, self._last = keys[order], first[order], last[order]
        self._groups: dict[int, _Group] = {}

    def _group(self, key: int) -> _Group:
        if key not in self._groups:
            low, high = numpy.searchsorted(self._keys, [key, key + 1])
            last = self._last[low:high]
            self._groups[key] = _Group(self._first[low:high], numpy.maximum.accumulate(last), numpy.sort(last))
        return self._groups[key]

    def begun(self, key: int, begin: int, end: int) -> int:
        """How many began after `begin` and before `end`."""
        first = self._group(key).first
        low, high = numpy.searchsorted(first, begin, "right"), numpy.searchsorted(first, end, "left")
        return max(int(high - low), 0)

    def alive(self, key: int, begin: int, end: int) -> int:
        """How many had begun by `end` and had a segment at or after `begin`."""
        group = self._group(key)
        begun = numpy.searchsorted(group.first, end, "right")
        return max(int(begun - numpy.searchsorted(group.last, begin, "left")), 0)

    def outlived(self, key: int, *, before: int, after: int) -> bool:
        """Whether one began before one time and had a segment after another."""
        group = self._group(key)
        count = int(numpy.searchsorted(group.first, before, "left"))
        return count > 0 and bool(group.latest[count - 1] > after)


class Moments:
    """Events of one kind by key, to be asked what happened about a time.

    Examples
    --------
    >>> Moments(numpy.array([7, 7, 8]), numpy.array([0, 1, 2]), numpy.array([10, 30, 20])).near(7, 5, 15)
    [0]
    """

    def __init__(self, keys: Array, streams: Array, times: Array) -> None:
        order = numpy.lexsort((times, keys))
        self._keys, self._streams, self._times = keys[order], streams[order], times[order]

    def near(self, key: int, begin: int, end: int, *, most: int = 1000) -> list[int]:
        """Streams in which it happened from `begin` to `end`, each once; `most` of them suffice."""
        low, high = numpy.searchsorted(self._keys, [key, key + 1])
        times = self._times[low:high]
        start = low + numpy.searchsorted(times, begin, "left")
        stop = min(low + numpy.searchsorted(times, end, "right"), start + most)
        found: list[int] = numpy.unique(self._streams[start:stop]).tolist()
        return found
