"""Numbers that stay: a tracker that forgets connections counts the rest anew, people's stream numbers never change.

Never here: which connections are forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from observer.schema import Coded, Columns

Ints = Any
STREAMS = ("stream", "previous_stream")
"""Columns that hold the number of a connection."""
NAMING = ("new_incarnation", "time_wait_reused", "old_incarnation_reset")
"""Events whose detail is the number of another connection."""


class Numbering:
    """From a tracker's numbers to those that were given when the connections were first seen.

    Examples
    --------
    >>> numbering = Numbering()
    >>> numbering.forget(numpy.array([True, False, True]))
    >>> numbering.of([0, 1, 2]).tolist(), numbering.total(3)
    ([0, 2, 3], 4)
    """

    def __init__(self) -> None:
        self._kept: Ints = numpy.zeros(0, numpy.int64)
        self._next = 0  # the number of the first stream that came after the last forgetting

    @property
    def plain(self) -> bool:
        """Whether nothing was ever forgotten, so that both numbers are the same."""
        return not self._next

    def of(self, streams: Ints) -> Ints:
        """Give the lasting numbers (int64) of the tracker's; negative ones stay."""
        streams = numpy.asarray(streams, numpy.int64)
        kept = len(self._kept)
        if not self._next:
            return streams
        if not kept:
            return numpy.where(streams < 0, streams, streams + self._next)
        known = self._kept[numpy.clip(streams, 0, kept - 1)]
        return numpy.where(streams < 0, streams, numpy.where(streams < kept, known, streams - kept + self._next))

    def held(self, number: int, count: int) -> int | None:
        """Give the tracker's number, of its `count` streams, of one that was given for good; None: it was forgotten.

        Examples
        --------
        >>> numbering = Numbering()
        >>> numbering.forget(numpy.array([True, False, True]))
        >>> [numbering.held(number, 3) for number in (0, 1, 2, 3, 4)]
        [0, None, 1, 2, None]
        """
        if number < self._next:
            at = int(numpy.searchsorted(self._kept, number))
            return at if at < len(self._kept) and self._kept[at] == number else None
        at = number - self._next + len(self._kept)
        return at if at < count else None

    def total(self, count: int) -> int:
        """Give how many connections there were in all, with `count` in the tracker."""
        return self._next + count - len(self._kept)

    def forget(self, keep: Ints) -> None:
        """Tell that the tracker keeps only these of its streams (bool for each)."""
        total = self.total(len(keep))
        self._kept = self.of(numpy.flatnonzero(keep))
        self._next = total

    def columns(self, columns: Columns) -> Columns:
        """Give a table with lasting numbers; its other columns are as they were."""
        if self.plain:
            return columns
        source = {name: _whole(columns, name) for name in columns}
        for name in STREAMS:
            if name in columns:
                source[name] = _renumbered(self, columns, name)
        if "streams" in columns:
            source["streams"] = [self._listed(members) for members in columns["streams"]]
        if columns.table == "events":
            source["detail"] = self._named(columns)
        return Columns(columns.table, columns.rows, source, columns.addresses)

    def _named(self, columns: Columns) -> Any:
        """Make details with lasting numbers when they are asked for."""

        def make(start: int, stop: int) -> Coded:
            part = columns.part(start, stop)
            return self._details(part["event"], part["detail"])

        return make

    def _details(self, event: Coded, detail: Coded) -> Coded:
        """Renumber the details that name a connection."""
        codes, values = numpy.array(detail.codes, numpy.int64), list(detail.values)
        naming = [code for code, name in enumerate(event.values) if name in NAMING]
        for row in numpy.flatnonzero(numpy.isin(event.codes, naming) & (codes >= 0)).tolist():
            text = values[codes[row]]
            if text.isdecimal():
                values.append(str(int(self.of([int(text)])[0])))
                codes[row] = len(values) - 1
        return Coded(codes, values)

    def _listed(self, members: Sequence[int]) -> list[int]:
        numbers: list[int] = self.of(numpy.array(members, numpy.int64)).tolist()
        return numbers


def _whole(columns: Columns, name: str) -> Any:
    """Make a column of a part when it is asked for, as the table it stands in does."""
    return lambda start, stop: columns.part(start, stop)[name]


def _renumbered(numbering: Numbering, columns: Columns, name: str) -> Any:
    return lambda start, stop: numbering.of(columns.part(start, stop)[name])
