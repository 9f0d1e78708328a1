"""Several captures as one, in time order.

Files that follow each other in time (rotated captures) are read one after the other, each chunk handed through
as it is.  Where they overlap, frames are merged by time stamp as mergecap does it: stable, and never changing
the order within a file, for which a file's running maximum of time is its key.

Whole chunks are merged at once: all frames up to the earliest end of the chunks at hand are final, whatever
comes later.  Never here: formats, kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy

from observer.capture.chunk import Chunk, FileInfo, Int64Array
from observer.capture.reader import BUFFER_OCTETS, Reader, Workspace
from observer.kernels import Engine
from observer.segments import RECORD_CAPTURED, RECORD_FRAME, RECORD_OFFSET, RECORD_STRIDE, RECORD_TIME

SHARED_OCTETS: Final = 64 * BUFFER_OCTETS
"""Memory that the buffers of all files that overlap at one time should not exceed."""
SMALLEST_OCTETS: Final = 32768
BEFORE_ALL: Final = -1
"""First time of a file without frames: it is opened first, to report what there is to report."""


class Waiting(NamedTuple):
    """A file that is not open yet."""

    first_ns: int
    place: int
    """Its place among the files as they were named; the first wins among equal times."""
    open: Callable[[Workspace], tuple[Reader, FileInfo]]


@dataclass(slots=True, eq=False)
class Lane:
    """A file that is being read."""

    index: int
    reader: Reader
    info: FileInfo
    workspace: Workspace
    key_ns: int = 0
    chunk: Chunk | None = None
    begun: bool = False
    taken: int = 0  # rows of the chunk that were handed over
    keys: Int64Array = field(default_factory=lambda: numpy.zeros(0, numpy.int64))

    def rest(self) -> Int64Array:
        """Rows of the chunk that were not handed over, (n, RECORD_STRIDE)."""
        if self.chunk is None:
            return numpy.zeros((0, RECORD_STRIDE), numpy.int64)
        rows = self.chunk.records[: self.chunk.count * RECORD_STRIDE].reshape(-1, RECORD_STRIDE)
        return rows[self.taken :]

    def begin(self, frame: int) -> None:
        """Note which frame is the file's first."""
        if not self.begun:
            self.begun = True
            self.info.first_frame = frame

    def last(self) -> tuple[int, int]:
        """Everything that this file has yet to bring comes after this (time, index)."""
        return self.key_ns, self.index


class Merged:
    """A Reader over several files; see the module."""

    def __init__(self, waiting: list[Waiting], *, engine: Engine, workspace: Workspace) -> None:
        self._waiting = sorted(waiting, key=lambda one: (one.first_ns, one.place), reverse=True)  # next is last
        self._engine = engine
        self._pool = [workspace]
        self._lanes: list[Lane] = []
        self._ready: Chunk | None = None  # merged rows, of which some were handed over
        self._handed = 0
        self._merged = numpy.zeros(0, numpy.uint8)
        self._octets_read = 0
        self._rows_max = len(workspace.records) // RECORD_STRIDE

    @property
    def octets_read(self) -> int:
        """Octets of all files that were consumed."""
        return self._octets_read + sum(lane.reader.octets_read for lane in self._lanes)

    def use(self, engine: Engine) -> None:
        """Run the kernels on another engine from now on."""
        self._engine = engine
        for lane in self._lanes:
            lane.reader.use(engine)

    def close(self) -> None:
        """Close what is open."""
        for lane in self._lanes:
            lane.reader.close()

    def chunk(self, frame: int) -> Chunk | None:
        """The next frames in time order, numbered from frame on; None at the end."""
        while True:
            if self._ready is not None:
                return self._slice(self._ready, frame)
            for lane in [lane for lane in self._lanes if lane.taken == (lane.chunk.count if lane.chunk else 0)]:
                self._pull(lane, frame)
            if not self._lanes:
                if not self._waiting:
                    return None
                self._open_next(frame)
                continue
            horizon = min(lane.last() for lane in self._lanes)
            if self._waiting and self._waiting[-1][:2] < horizon:
                self._open_next(frame)
                continue
            only = self._lanes[0]
            if len(self._lanes) == 1 and only.chunk and only.taken == 0:
                only.begin(frame)
                rows = only.rest()
                if rows[0, RECORD_FRAME] != frame:  # read while another file was still being handed over
                    rows[:, RECORD_FRAME] = numpy.arange(frame, frame + len(rows))
                only.taken = only.chunk.count
                return only.chunk
            self._merge(horizon, frame)

    def _open_next(self, frame: int) -> None:
        following = self._waiting.pop()
        size = max(SMALLEST_OCTETS, min(BUFFER_OCTETS, SHARED_OCTETS // (len(self._lanes) + 1)))
        workspace = self._pool.pop() if self._pool else Workspace(size, self._rows_max)
        reader, info = following.open(workspace)
        reader.use(self._engine)
        lane = Lane(following.place, reader, info, workspace)
        self._lanes.append(lane)
        self._lanes.sort(key=lambda one: one.index)
        self._pull(lane, frame)

    def _pull(self, lane: Lane, frame: int) -> None:
        """The lane's next chunk, or the end of the lane."""
        lane.chunk = lane.reader.chunk(frame)
        lane.taken = 0
        if lane.chunk is None:
            self._octets_read += lane.reader.octets_read
            lane.reader.close()
            self._lanes.remove(lane)
            self._pool.append(lane.workspace)
            return
        times = lane.rest()[:, RECORD_TIME]
        lane.keys = numpy.maximum(numpy.maximum.accumulate(times), lane.key_ns)
        lane.key_ns = int(lane.keys[-1])

    def _merge(self, horizon: tuple[int, int], frame: int) -> None:
        """Bring together, in order, all rows up to (time, index); one lane's chunk is used up by it."""
        lanes, parts, keys, spans, size = [], [], [], [], 0
        for lane in self._lanes:
            side: Literal["left", "right"] = "right" if lane.index <= horizon[1] else "left"
            until = int(numpy.searchsorted(lane.keys, horizon[0], side=side))
            if lane.chunk is None or until <= lane.taken:
                continue
            rows = lane.rest()[: until - lane.taken].copy()
            begin = int(rows[0, RECORD_OFFSET])
            end = int(rows[-1, RECORD_OFFSET] + rows[-1, RECORD_CAPTURED])
            rows[:, RECORD_OFFSET] += size - begin
            lanes.append(lane)
            parts.append(rows)
            keys.append(lane.keys[lane.taken : until])
            spans.append((lane.chunk.octets, begin, end))
            size += end - begin
            lane.taken = until
        if size > len(self._merged):
            self._merged = numpy.empty(max(size, BUFFER_OCTETS), numpy.uint8)
        at = 0
        for octets, begin, end in spans:
            self._merged[at : at + end - begin] = octets[begin:end]
            at += end - begin
        order = numpy.argsort(numpy.concatenate(keys), kind="stable")
        rows = numpy.concatenate(parts)[order]
        first = 0
        for lane, rows_of_lane in zip(lanes, parts, strict=True):
            if not lane.begun:
                lane.begin(frame + int(numpy.flatnonzero(order == first)[0]))
            first += len(rows_of_lane)
        self._ready = Chunk(self._merged, size, rows.reshape(-1), len(rows))
        self._handed = 0

    def _slice(self, ready: Chunk, frame: int) -> Chunk:
        """Hand over some of the merged rows."""
        count = min(self._rows_max, ready.count - self._handed)
        records = ready.records[self._handed * RECORD_STRIDE : (self._handed + count) * RECORD_STRIDE]
        self._handed += count
        if self._handed == ready.count:
            self._ready = None
        records[RECORD_FRAME::RECORD_STRIDE] = numpy.arange(frame, frame + count)
        return Chunk(ready.octets, ready.size, records, count)
