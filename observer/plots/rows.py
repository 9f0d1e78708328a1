"""Which segments of a connection a ladder shows, and where on its folded time axis.

A ladder has room for some dozens of rows.  What moves a state, proves a finding or is out of the ordinary has a row of
its own; runs of the rest become one row that counts them.  Rows follow each other in capture order; the space between
two grows with the time that passes, up to a pause, which is marked and folded.

Never here: drawing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy

from observer.plots.subject import Ints, numbers
from observer.schema import MARKS, Columns

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
"""RFC 9293 3.1; keys of `schema.FLAGS`."""
MARK: Final = {name: bit for bit, name in MARKS.items()}
TROUBLE: Final = sum(
    MARK[name]
    for name in (
        "retransmission", "fast_retransmission", "spurious_retransmission", "zero_window", "zero_window_probe",
        "window_full", "keep_alive", "lost_segment", "reused_ports",
    )
)  # fmt: skip
"""Labels that are worth a row."""

REPEATED, ORDINARY, LABELLED, TROUBLED, DECISIVE = range(-1, 4)
"""How much a segment deserves a row; what was REPEATED often is folded even where there is room."""
REPEATS: Final = 4
"""So many like segments have rows, and the last of them."""
FIRST_FEW: Final = 10
"""Ordinary segments that have rows although others must be folded: what was asked, and how it was answered."""

ROW: Final = 1.0
"""Height of a segment's row; its arrow leaves at START of it and arrives at ARRIVAL, before the next one leaves."""
START: Final = 0.3
ARRIVAL: Final = 1.1
FOLD: Final = 1.7
"""Height of a row that stands for many."""
PAUSE: Final = 1.3
"""Space that a folded pause takes, at least twice what ordinary time between two rows may take."""
SPREAD: Final = 0.6
PAUSE_SHARE: Final = 0.05
"""A pause is at least this share of the connection's time ..."""
PAUSE_TIMES: Final = 6.0
"""... and so many times the usual time between two rows."""
SHORT_RUN: Final = 2
"""Runs of up to so many uneventful segments are not worth folding."""


class Cells(NamedTuple):
    """The columns of packets that a ladder looks at, each int64 of shape (segments,)."""

    frame: Ints
    time: Ints
    direction: Ints
    seq: Ints
    ack: Ints
    length: Ints
    window: Ints
    flags: Ints
    label: Ints
    mss: Ints

    @classmethod
    def of(cls, packets: Columns) -> Cells:
        """Take them from the table."""
        return cls(*(numbers(packets, name) for name in cls._fields))


class Item(NamedTuple):
    """One row: the segments first .. last, or (first > last) something else that happened before segment `first`.

    y is its upper edge, height its height, in rows.  pause_ns is the folded time above it, 0 if none is folded.
    """

    first: int
    last: int
    time_ns: int
    frame: int
    y: float = 0.0
    height: float = ROW
    pause_ns: int = 0

    @property
    def is_segment(self) -> bool:
        """Whether it is one segment."""
        return self.first == self.last

    @property
    def is_fold(self) -> bool:
        """Whether it stands for several segments."""
        return self.first < self.last


class Other(NamedTuple):
    """Something without a segment of the connection: a timer (frame -1), an ICMP error."""

    frame: int
    time_ns: int


def weights(cells: Cells, decisive: Collection[int]) -> Ints:
    """Return how much each segment deserves a row; decisive: frames that do in any case."""
    weight = numpy.where(cells.label != 0, LABELLED, ORDINARY)
    weight[(cells.label & TROUBLE) != 0] = TROUBLED
    weight[_repeated(cells)] = REPEATED
    weight[(cells.flags & (SYN | FIN | RST)) != 0] = DECISIVE
    if decisive:
        weight[numpy.isin(cells.frame, numpy.fromiter(decisive, numpy.int64))] = DECISIVE
    return weight


def _repeated(cells: Cells) -> Any:
    """Return a mask of segments of which there were several like ones before and another follows."""
    keys = numpy.stack((cells.direction, cells.seq, cells.ack, cells.length, cells.flags))
    order = numpy.lexsort(keys)  # stable: like ones stay in order of capture
    new = numpy.ones(len(order) + 1, bool)
    new[1:-1] = (numpy.diff(keys[:, order], axis=1) != 0).any(axis=0)
    firsts = numpy.flatnonzero(new)
    rank = numpy.arange(len(order)) - firsts[numpy.cumsum(new[:-1]) - 1]
    result = numpy.zeros(len(order), bool)
    result[order] = (rank >= REPEATS) & ~new[1:]
    return result


def chosen(weight: Ints, room: int) -> Any:
    """Return a mask of the segments that have a row of their own, so that rows and folds fit into `room` rows."""
    for level in range(ORDINARY, DECISIVE + 1):
        shown = weight >= level
        if _rows(shown) <= room:
            return _filled(shown, weight, room) if level else shown
    shown = weight >= DECISIVE
    places = numpy.flatnonzero(shown)
    shown = numpy.zeros(len(weight), bool)
    begin, end = 0, len(places)  # from both ends towards the middle: how it began and how it ended
    while begin < end:
        trial = places[end - 1] if (begin + len(places) - end) % 2 else places[begin]
        shown[trial] = True
        if _rows(shown) > room:
            shown[trial] = False
            break
        begin, end = (begin, end - 1) if (begin + len(places) - end) % 2 else (begin + 1, end)
    return shown


def _rows(shown: Any) -> int:
    """Count the rows that a choice needs: one for each shown segment, one for each run of the others if it is long."""
    steps = numpy.diff(shown.astype(numpy.int8), prepend=1, append=1)
    runs = numpy.flatnonzero(steps > 0) - numpy.flatnonzero(steps < 0)
    return int(shown.sum()) + int(numpy.where(runs > SHORT_RUN, 1, runs).sum())


def _filled(shown: Any, weight: Ints, room: int) -> Any:
    """Give what room is left to the weightiest of the others, from the begin on."""
    shown = shown.copy()
    left = room - _rows(shown)
    rest = numpy.flatnonzero(~shown & (weight > ORDINARY))[: 4 * room]
    plain = numpy.flatnonzero(~shown & (weight == ORDINARY))[:FIRST_FEW]
    for place in [*rest[numpy.argsort(-weight[rest], kind="stable")].tolist(), *plain.tolist()]:
        if left <= 0:
            break
        shown[place] = True
        left = room - _rows(shown)
    if left < 0:
        shown[place] = False
    return shown


def items(cells: Cells, shown: Any, others: Sequence[Other]) -> list[Item]:
    """Return the rows in order, at their places."""
    places: list[Item] = []
    at = 0
    waiting = sorted(((_place(cells, other), other) for other in others), key=lambda pair: (pair[0], pair[1].time_ns))
    cuts = [place for place, _ in waiting]
    count = len(cells.frame)
    edges = numpy.flatnonzero(shown)
    while at < count or waiting:
        while waiting and waiting[0][0] <= at:
            _, other = waiting.pop(0)
            places.append(Item(at, at - 1, other.time_ns, other.frame))
        if at >= count:
            continue
        stop = at + 1
        if not shown[at]:
            following = edges[numpy.searchsorted(edges, at)] if len(edges) and edges[-1] > at else count
            stop = min([int(following), *(cut for cut in cuts if cut > at)])
        if stop - at <= SHORT_RUN:
            places.extend(Item(one, one, int(cells.time[one]), int(cells.frame[one])) for one in range(at, stop))
        else:
            places.append(Item(at, stop - 1, int(cells.time[at]), int(cells.frame[at]), height=FOLD))
        at = stop
    return _spaced(places, cells)


def _place(cells: Cells, other: Other) -> int:
    """Return the index of the segment before which something happened."""
    if other.frame >= 0:
        return int(numpy.searchsorted(cells.frame, other.frame))
    later = numpy.flatnonzero(cells.time > other.time_ns)
    return int(later[0]) if len(later) else len(cells.time)


def _end(item: Item, cells: Cells) -> int:
    return int(cells.time[item.last]) if item.is_fold else item.time_ns


def _spaced(places: list[Item], cells: Cells) -> list[Item]:
    """Put rows at their heights: space grows with time, a pause is folded."""
    if not places:
        return []
    gaps = [max(0, after.time_ns - _end(before, cells)) for before, after in pairwise(places)]
    usual = float(numpy.median(gaps)) if gaps else 0.0
    whole = max(1, sum(gaps))
    limit = max(PAUSE_TIMES * usual, PAUSE_SHARE * whole, 1.0)
    y, spaced = 0.0, []
    for item, gap in zip(places, [0, *gaps], strict=True):
        pause = gap if gap > limit else 0
        y += PAUSE if pause else SPREAD * gap / limit
        spaced.append(item._replace(y=y, pause_ns=pause))
        y += item.height
    return spaced


class Scale:
    """Where on the ladder something happened, by frame or time."""

    def __init__(self, placed: Sequence[Item], cells: Cells) -> None:
        self._cells = cells
        self._firsts = numpy.array([item.first for item in placed if item.first <= item.last], numpy.int64)
        self._items = [item for item in placed if item.first <= item.last]
        self._others = {(item.frame, item.time_ns if item.frame < 0 else 0): item for item in placed
                        if item.first > item.last}  # fmt: skip
        self.bottom = placed[-1].y + placed[-1].height if placed else ROW

    def segment(self, frame: int) -> int:
        """Return the index of the segment of a frame, -1 if the frame is none of this connection."""
        at = int(numpy.searchsorted(self._cells.frame, frame))
        return at if frame >= 0 and at < len(self._cells.frame) and int(self._cells.frame[at]) == frame else -1

    def at(self, frame: int, time_ns: int, *, receiver: bool) -> float:
        """Return the height at which a frame left its sender, or arrived; without a frame, at which time it was."""
        place = self.segment(frame)
        if place < 0:
            other = self._others.get((frame, time_ns if frame < 0 else 0))
            if other is not None:
                return other.y + ROW / 2
            place = max(0, int(numpy.searchsorted(self._cells.time, time_ns, side="right")) - 1)
        if not self._items:
            return 0.0
        item = self._items[max(0, int(numpy.searchsorted(self._firsts, place, side="right")) - 1)]
        if item.is_fold:
            return item.y + item.height * (place - item.first + 0.5) / (item.last - item.first + 1)
        return item.y + (ARRIVAL if receiver else START)


def unanswered(cells: Cells) -> Any:
    """Return a mask of segments with payload, SYN or FIN that were sent again before anything acknowledged them.

    Whether they were lost, or their acknowledgment was, or it was late, the tap cannot tell.
    """
    again = MARK["retransmission"] | MARK["fast_retransmission"]
    result = numpy.zeros(len(cells.frame), bool)
    for side in (0, 1):
        mine = numpy.flatnonzero((cells.direction == side) & (_span(cells) > 0))
        copies = mine[(cells.label[mine] & again) != 0]
        if not len(copies):
            continue
        theirs = numpy.flatnonzero((cells.direction != side) & (cells.ack >= 0))
        acked = numpy.maximum.accumulate(cells.ack[theirs]) if len(theirs) else theirs
        last: dict[int, int] = {}
        wanted = set(cells.seq[copies].tolist())
        for place in mine[numpy.isin(cells.seq[mine], numpy.fromiter(wanted, numpy.int64))].tolist():
            seq = int(cells.seq[place])
            if seq in last and cells.label[place] & again:
                before = int(numpy.searchsorted(theirs, place)) - 1
                result[last[seq]] = before < 0 or int(acked[before]) <= seq
            last[seq] = place
    return result


def _span(cells: Cells) -> Ints:
    """Sequence numbers that each segment takes (RFC 9293 3.4)."""
    return cells.length + ((cells.flags & SYN) != 0) + ((cells.flags & FIN) != 0)
