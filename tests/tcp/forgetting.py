"""A tracker that is disturbed between batches, made to forget or told the time, and what it must not have changed.

Streams are told apart by the frame that began them and by their ends, which stay whatever their numbers become.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from observer import segments as seg
from observer.capture import open_capture
from observer.kernels import Engine, Interpreted
from observer.options import Options
from observer.tcp import columns, events, layout
from observer.tcp.evidence import LOG_BLOCK, LOG_LINK, LOG_STRIDE
from observer.tcp.tracker import Tracker
from observer.wire import Decoder

Array = Any
Name = tuple[int, ...]
"""First frame, version and ports, both addresses: of one stream for good."""
TOLD = [*range(columns.O_ENCAPSULATION + 1), *range(columns.O_CLIENT, columns.O_CLIENT + columns.P_LAST_TIME + 1),
        *range(columns.O_SERVER, columns.O_SERVER + columns.P_LAST_TIME + 1)]  # fmt: skip
NAMES_STREAM = (events.NEW_INCARNATION, events.TIME_WAIT_REUSED, events.OLD_RESET)
NOBODY = (-1,)


def rows_of(path: Path) -> Array:
    """All segment rows of a capture: shape (n, segments.STRIDE)."""
    engine = Interpreted()
    capture, decoder, parts = open_capture(path, engine=engine), Decoder(engine, Options()), []
    for chunk in capture:
        batch = decoder.decode(chunk)
        parts.append(batch.rows[: batch.count * seg.STRIDE].reshape(-1, seg.STRIDE).copy())
    capture.close()
    return numpy.concatenate(parts) if parts else numpy.zeros((0, seg.STRIDE), numpy.int64)


def names_of(tracker: Tracker) -> list[Name]:
    """What each stream is called."""
    cells = tracker.streams.cells[: tracker.stream_count * layout.STREAM_STRIDE].reshape(-1, layout.STREAM_STRIDE)
    wanted = [layout.S_FRAME, layout.S_PORTS, *range(layout.S_SRC, layout.S_SRC + 4)]
    return [tuple(line) for line in cells[:, wanted].tolist()]


def ends_of(name: Name) -> frozenset[tuple[int, ...]]:
    """The 4-tuple, whichever end spoke first."""
    _, ports, a0, a1, b0, b1 = name
    return frozenset(((ports >> 32, ports >> 16 & 0xFFFF, a0, a1), (ports >> 32, ports & 0xFFFF, b0, b1)))


def in_order(rows: Array) -> Array:
    return rows[numpy.lexsort(rows.T)] if len(rows) else rows


def event_rows(tracker: Tracker) -> Array:
    """All events; cells that nobody writes are 0."""
    rows = tracker.event_rows().copy()
    rows[~numpy.isin(rows[:, events.EV_CODE], (events.RESET, events.ICMP_ERROR)), events.EV_FACTS :] = 0
    return rows


def tables(tracker: Tracker) -> list[Array]:
    """Everything that is told, by the tracker's own numbers."""
    rows = tracker.flow_rows(0, tracker.stream_count)[:, TOLD].copy()
    words, versions, codes = tracker.addresses()
    counts = numpy.array([tracker.segment_count, *tracker.quoted_count, tracker.now, tracker.flow_count])
    return [rows, tracker.transitions(), in_order(event_rows(tracker)), words, versions, codes, counts]


def logs_of(tracker: Tracker) -> dict[Name, list[Any]]:
    """The log entries of each flow that has a row, and at which of them its endpoints point."""
    names, told = names_of(tracker), {}
    flows = tracker.flows.cells
    log = tracker.log.cells[: int(tracker.g[layout.G_LOG]) * LOG_STRIDE].reshape(-1, LOG_STRIDE)
    for stream, name in enumerate(names):
        row = int(tracker.streams.cells[stream * layout.STREAM_STRIDE + layout.S_FLOW])
        if row <= 0:
            continue
        told[name] = []
        for x in ((row - 1) * layout.FLOW_STRIDE + layout.CLIENT, (row - 1) * layout.FLOW_STRIDE + layout.SERVER):
            live, dead = (chain(log, int(flows[x + cell]) & 0xFFFFFFFF) for cell in (layout.E_FIRST, layout.E_DEAD))
            pointers = flows[x + layout.E_LOG], flows[x + layout.E_TAIL], flows[x + layout.E_FIRST] >> 32
            places = [live.index(at) if at else None for at in map(int, pointers)]
            cells = [[*log[at - 1, :LOG_LINK].tolist(), int(log[at - 1, LOG_LINK]) & 0xFFFF] for at in live + dead]
            told[name].append((cells, len(live), places, int(flows[x + layout.E_DEAD] >> 32) % LOG_BLOCK))
    return told


def chain(log: Array, first: int) -> list[int]:
    """The entries (+ 1) from one on."""
    entries = []
    while first:
        entries.append(first)
        first = int(log[first - 1, LOG_LINK]) >> 16
    return entries


def waiting_of(tracker: Tracker) -> list[tuple[Name, int]]:
    """The flows that wait to be packed, the longest waiting first, with the hashes of their ends."""
    names, g, size = names_of(tracker), tracker.g, int(tracker.g[layout.G_RING_SIZE])
    waiting = []
    for i in range(size):
        place = layout.G_RING + (int(g[layout.G_RING_NEXT]) + i) % size * layout.RING_STRIDE
        if g[place]:
            waiting.append((names[tracker.flows.cells[g[place] - 1 + layout.STREAM]], int(g[place + 1])))
    return waiting


@dataclass
class Story:
    """What is told of one stream; numbers of streams are names."""

    row: list[Any]
    transitions: list[tuple[int, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)


def stories(tracker: Tracker) -> dict[Name, Story]:
    """What is told of each stream."""
    names = names_of(tracker)
    told = {}
    for name, row in zip(names, tracker.flow_rows(0, tracker.stream_count).tolist(), strict=True):
        before = row[columns.O_PREVIOUS]
        row[columns.O_PREVIOUS] = names[before] if before >= 0 else NOBODY
        told[name] = Story([row[cell] for cell in TOLD])
    for who, *cells in tracker.transitions().tolist():
        told[names[who >> 1]].transitions.append((who & 1, *cells))
    for time, frame, who, code, number, *facts in event_rows(tracker).tolist():
        detail: Any = number
        if code in NAMES_STREAM:
            detail = names[number] if number != events.UNTOLD else NOBODY
        told[names[who >> 1]].events.append((frame, code, time, who & 1, str(detail), *facts))
    for story in told.values():
        story.events.sort()
    return told


@dataclass
class Disturbed:
    """A tracker and what it was made to forget."""

    tracker: Tracker
    forgotten: set[Name] = field(default_factory=set)
    lost: set[frozenset[tuple[int, ...]]] = field(default_factory=set)  # 4-tuples whose newest stream was forgotten

    def forget(self, keep: Array) -> None:
        """Forget, and remember what: with a few kept that were not asked for, if they are needed."""
        names = names_of(self.tracker)
        logs, waiting = logs_of(self.tracker), waiting_of(self.tracker)
        kept = self.tracker.forget(keep)
        remembered = set(names_of(self.tracker))
        assert logs_of(self.tracker) == {name: log for name, log in logs.items() if name in remembered}
        assert waiting_of(self.tracker) == [flow for flow in waiting if flow[0] in remembered]
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert set(numpy.flatnonzero(keep).tolist()) <= set(kept.tolist())
        assert names_of(self.tracker) == [names[number] for number in kept.tolist()]
        newest = {ends_of(name): number for number, name in enumerate(names)}
        gone = set(range(len(names))) - set(kept.tolist())
        self.forgotten |= {names[number] for number in gone}
        self.lost |= {ends for ends, number in newest.items() if number in gone}


def run(
    rows: Array,
    engine: Engine,
    batch: int,
    disturb: Callable[[Disturbed, int], None],
    *,
    ring: int | None = None,
    options: Options | None = None,
) -> Disturbed:
    """Track rows in batches, with `disturb(tracker, rows so far)` behind each, and finish."""
    disturbed = Disturbed(Tracker(engine, options or Options()))
    if ring is not None:
        disturbed.tracker.g[layout.G_RING_SIZE] = ring
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        disturbed.tracker.track(numpy.ascontiguousarray(part).reshape(-1), len(part))
        disturb(disturbed, first + len(part))
    disturbed.tracker.finish(max((int(time) for time in rows[:, seg.TIME]), default=0))
    return disturbed


def leave_alone(disturbed: Disturbed, done: int) -> None:
    """No disturbance."""


def assert_same(one: Tracker, other: Tracker, what: str = "") -> None:
    """Equal in everything that is told, numbers too."""
    for mine, theirs in zip(tables(one), tables(other), strict=True):
        assert numpy.array_equal(mine, theirs), what


def assert_kept(disturbed: Disturbed, undisturbed: Tracker, what: str = "") -> None:
    """What was not forgotten is told as if nothing else had been."""
    expected, told = stories(undisturbed), stories(disturbed.tracker)
    expected = {
        name: story
        for name, story in expected.items()
        if name not in disturbed.forgotten and ends_of(name) not in disturbed.lost
    }
    told = {name: story for name, story in told.items() if ends_of(name) not in disturbed.lost}
    assert list(told) == list(expected), what  # in their old order
    place = TOLD.index(columns.O_PREVIOUS)
    for name, story in told.items():
        other = expected[name]
        if other.row[place] in disturbed.forgotten:
            other.row[place] = NOBODY
            other.events = sorted((*cells[:4], unnamed(cells), *cells[5:]) for cells in other.events)
        assert story == other, (what, name)


def unnamed(cells: tuple[Any, ...]) -> str:
    """The detail of an event of a stream whose forerunner was forgotten."""
    return str(NOBODY) if cells[1] in NAMES_STREAM else cells[4]
