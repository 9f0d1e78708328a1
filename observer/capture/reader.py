"""What the readers of pcap and pcapng have in common: one buffer, filled, scanned, and moved on.

A reader's `chunk` reads on only when nothing complete is left, and hands over what a single read brought, so a
pipe's frames come as they arrive.  The octets of an unfinished record move to the front of the buffer before
the next read.  Never here: the formats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Protocol

import numpy

from observer.capture.chunk import Chunk, Damage, FileInfo
from observer.capture.inflate import StreamDamageError
from observer.capture.scan import FULL, HUNGRY, NEED, POSITION, STATE_CELLS, STATUS
from observer.capture.source import Source
from observer.kernels import Bound, Engine
from observer.segments import RECORD_STRIDE

BUFFER_OCTETS: Final = 1 << 20
"""Measured on 4.3 GB, warm: reading goes at 10 GB/s with 256 KiB, 13 with 512 KiB, 16 with 1 or 2 MiB."""
RECORDS_MAX: Final = 2048
"""Rows of a chunk at most: with the segment rows made of them they fill less than a processor's 1 MiB of cache."""
LENGTH_MAX: Final = 1 << 24
"""No frame may claim more captured octets, whatever a file's snaplen says: bounds the buffer.

libpcap's MAXIMUM_SNAPLEN is 262144; only D-Bus and USB captures have frames beyond."""
SNAPLEN_MAX: Final = 262144
"""libpcap's MAXIMUM_SNAPLEN: what a frame may have whatever the file's own snaplen says."""
DAMAGES_MAX: Final = 100
"""Damages told one by one for each file; further ones are counted."""


class Workspace:
    """A reader's memory, handed on from one file to the next so that kernels stay bound."""

    def __init__(self, octets: int = BUFFER_OCTETS, records: int = RECORDS_MAX) -> None:
        self.octets = numpy.empty(octets, numpy.uint8)
        self.records = numpy.zeros(records * RECORD_STRIDE, numpy.int64)

    def grow(self, size: int, keep: int) -> None:
        """Make room for size octets, keeping the first of them."""
        grown = numpy.empty(size, numpy.uint8)
        grown[:keep] = self.octets[:keep]
        self.octets = grown


class Reader(Protocol):
    """Frames of one file or of several."""

    @property
    def octets_read(self) -> int:
        """Octets of the files that were consumed, compressed if they are."""
        ...

    def chunk(self, frame: int) -> Chunk | None:
        """The next frames, numbered from frame on; None at the end."""
        ...

    def use(self, engine: Engine) -> None:
        """Run the kernels on another engine from now on."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class FileReader(ABC):
    """Reads one file with the kernel of its format."""

    def __init__(
        self, source: Source, *, info: FileInfo, damages: list[Damage], engine: Engine, workspace: Workspace
    ) -> None:
        self.info = info
        self.workspace = workspace
        self._source = source
        self._damages = damages
        self._damaged = 0
        self._engine = engine
        self._state = numpy.zeros(STATE_CELLS, numpy.int64)
        self._cells = self._state.data
        self._base = 0  # the first octet of the buffer in the stream
        self._start = 0  # what is not consumed yet: [start, end) of the buffer
        self._end = len(source.head)
        self._skip = 0  # octets to pass over without looking
        self._hungry = False
        self._finished = False
        if len(workspace.octets) < 2 * len(source.head):
            workspace.grow(4096, 0)
        workspace.octets[: self._end] = numpy.frombuffer(source.head, numpy.uint8)
        self.begin()
        self._scan: Bound = self.bound(engine)

    # --- what a format adds ----------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Read what stands before the first record, as far as the kernel does not."""

    @abstractmethod
    def bound(self, engine: Engine) -> Bound:
        """The format's kernel with this reader's arrays: takes position, size and frame number."""

    @abstractmethod
    def settle(self, status: int) -> None:
        """Decide what the kernel cannot; must move on, or finish."""

    @abstractmethod
    def unfinished(self, octets: int) -> str:
        """What it means that the file ends with so many octets of something."""

    # --- reading -----------------------------------------------------------------------------------------

    @property
    def octets_read(self) -> int:
        """Octets of the file that were consumed."""
        return self._source.octets_read

    def use(self, engine: Engine) -> None:
        """Run the kernel on another engine from now on."""
        self._engine = engine
        self._scan = self.bound(engine)

    def chunk(self, frame: int) -> Chunk | None:
        """The next frames, numbered from frame on; None at the end."""
        cells = self._cells
        while not self._finished:
            if self._hungry or self._skip:
                self._fill()
                continue
            count = self._scan(self._start, self._end, frame)
            self._start = cells[POSITION]
            status = cells[STATUS]
            self._hungry = status == HUNGRY
            if count:
                info = self.info
                info.first_frame = info.first_frame or frame
                info.frames += count
                return Chunk(self.workspace.octets, self._end, self.workspace.records, count, self._base)
            if status not in (HUNGRY, FULL):
                self.settle(status)
        return None

    def _fill(self) -> None:
        """Read once, behind what is left."""
        workspace = self.workspace
        left = self._end - self._start
        if self._skip:
            passed = min(self._skip, left)
            self._start += passed
            self._skip -= passed
            left -= passed
            if not self._skip and left:
                return
        if self._start:
            if left:
                workspace.octets[:left] = workspace.octets[self._start : self._end]
            self._base += self._start
            self._start, self._end = 0, left
        need = self._cells[NEED]
        if need > len(workspace.octets):
            workspace.grow(need + SNAPLEN_MAX, left)
            self._scan = self.bound(self._engine)
        try:
            got = self._source.readinto(workspace.octets.data[left:])
        except StreamDamageError as damage:
            self.damage(left, f"{damage}; the file ends here" + self._lost(left))
            self.finish()
            return
        self._hungry = False
        self._end += got
        if not got:
            if self._base + self._end == 0:
                self.damage(0, "the file is empty: nothing was captured or nothing was written out")
            elif left or self._skip:
                self.damage(0, self.unfinished(left))
            self.finish()

    def _lost(self, octets: int) -> str:
        return f" and {octets} octets of an unfinished frame are left out" if octets else ""

    def finish(self) -> None:
        """Nothing more can be had from this file."""
        self._finished = True
        self._start = self._end
        if self._damaged > DAMAGES_MAX:
            more = self._damaged - DAMAGES_MAX
            self._damages.append(self._damage_at(self._start, f"{more} more damaged places, not listed"))

    def damage(self, position: int, message: str) -> None:
        """Report a damage at a position counted from the first octet that is not consumed."""
        self._damaged += 1
        if self._damaged <= DAMAGES_MAX:
            self._damages.append(self._damage_at(self._start + position, message))

    def report_to(self, damages: list[Damage]) -> None:
        """Add further damages to another list."""
        self._damages = damages

    def _damage_at(self, position: int, message: str) -> Damage:
        frame, packed = self.info.frames + 1, bool(self.info.compression)
        return Damage(self.info.name, self._base + position, frame, message, packed)

    def close(self) -> None:
        """Close the file."""
        self._finished = True
        self._source.close()

    def octets(self, position: int, size: int) -> bytes:
        """Octets of the buffer, counted from the first that is not consumed."""
        at = self._start + position
        return self.workspace.octets[at : min(at + size, self._end)].tobytes()

    def wait_for(self, size: int) -> bool:
        """Whether so many octets are not there yet; then the next read brings more before the kernel runs again."""
        self._cells[NEED] = size
        self._hungry = self._end - self._start < size
        return self._hungry

    def consume(self, size: int) -> None:
        """Move on; what is not there yet is passed over when it comes."""
        here = min(size, self._end - self._start)
        self._start += here
        self._skip = size - here
