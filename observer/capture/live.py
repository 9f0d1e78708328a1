"""Live interfaces as one capture: the same Chunks as from files, with a poll that waits no longer than it may.

One interface's frames are handed over in the order in which the kernel gave them.  Frames of several interfaces are
merged by time: the kernel hands an interface's frames over some tens of milliseconds late, so frames are held back
until no other interface can bring an earlier one (at most WINDOW_S); after that an earlier one is handed over late.
An interface that goes down, is removed or comes back is told in `notices`, and the others go on.

    with open_live(["eth0"], bpf="tcp port 443") as live:
        while not live.finished:
            chunk = live.poll(timeout_s=0.2)

Never here: files, decoding.  Sources: pcap(3PCAP), packet(7), and live_pcap.py, live_watch.py.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import numpy

from observer import privileges
from observer.capture.chunk import Chunk, Damage, FileInfo, Int64Array, Interface
from observer.capture.live_pcap import RETIRE_MS, SNAPLEN_MAX, Settings
from observer.capture.live_watch import InterfaceStatistics, LiveNotice, Watched, open_lane
from observer.errors import OptionError
from observer.kernels import Engine
from observer.segments import RECORD_CAPTURED, RECORD_FRAME, RECORD_OFFSET, RECORD_STRIDE

__all__ = ["HEADERS_OCTETS", "InterfaceStatistics", "LiveCapture", "LiveChunk", "LiveNotice", "open_live"]

HEADERS_OCTETS: Final = 512
"""A snaplen that holds every header that is looked at, tunnels included."""
RING_OCTETS: Final = 64 << 20
"""Room for frames in the kernel, of all interfaces together: at 500,000 packets/s of 100 octets about half a second."""
RING_LEAST: Final = 8 << 20
WINDOW_S: Final = 4 * RETIRE_MS / 1000
"""How late an interface's frames may come: the kernel's timer takes up to twice RETIRE_MS, and as much again."""
BUSY_FRAMES: Final = 512
GATHER_S: Final = 0.02
"""After so many frames at once, the next look comes so much later: the kernel would wake this process for each of its
blocks, 300 times a second at 500,000 frames/s.  Measured there: 100 ns of processor time a frame, with this 45 ns."""
RELIEF_S: Final = 0.1
"""Work between two polls that is longer than this is long: a ring of 64 MiB lasts five times as long at 500,000/s."""
RELIEF_OCTETS: Final = 1 << 30
"""Memory for frames that wait while such work goes on, at most a sixteenth of the machine's: some 14 s of frames of 100
octets at 500,000/s.  When it is full, the ring fills."""
CHECK_S: Final = 0.5
"""How often interfaces are looked at for being up, gone or back."""
RECORDS_MAX: Final = 4096
"""As for files: batches of some thousand keep what follows in the caches."""


@dataclass(slots=True)
class LiveChunk(Chunk):
    """A Chunk that knows where each frame was captured."""

    interfaces: Int64Array = field(default_factory=lambda: numpy.zeros(0, numpy.int64))
    """int64 for each row: index into FileInfo.interfaces."""


class LiveCapture:
    """Frames of live interfaces; made by `open_live`.

    Attributes
    ----------
    frames : int
        Handed over so far.
    files : list of FileInfo
        One, with an Interface for each interface.
    damages : list of Damage
        Always empty.
    finished : bool
        Whether `close` was called.
    """

    octets_total = None

    def __init__(self, watched: list[Watched], *, records_max: int) -> None:
        self.frames = 0
        self.octets_read = 0
        self.damages: list[Damage] = []
        self.files = [FileInfo(", ".join(one.name for one in watched), format="live")]
        self.finished = False
        self._watched = watched
        self._notices: list[LiveNotice] = []
        self._check_at = time.monotonic() + CHECK_S
        self._zeros = numpy.zeros(records_max, numpy.int64)
        self._merged = numpy.zeros(0, numpy.uint8)
        self._busy = False
        self._numbered = 0  # frames that have a number: handed over, or waiting in the backlog
        self._backlog: deque[LiveChunk] = deque()
        self._backlog_octets = 0
        self._backlog_most = min(RELIEF_OCTETS, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16)
        self._take_at = 0.0  # when to look for new frames although older ones wait
        self._lock = threading.RLock()
        for one in watched:
            self._describe(one)

    # --- frames ------------------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> LiveChunk | None:
        """The next frames, or None if none came within the time; 0 does not wait.

        The chunk is valid until the next poll.
        """
        deadline = time.monotonic() + timeout_s
        while not self.finished:
            now = time.monotonic()
            if now >= self._check_at:
                self._check(now)
            chunk = self._from_backlog(now) if self._backlog else self._next()
            if chunk is not None:
                self._count(chunk)
                return chunk
            now = time.monotonic()
            if now >= deadline:
                return None
            if self._busy:
                self._busy = False
                time.sleep(min(GATHER_S, deadline - now))
            else:
                self._wait(min(deadline, self._check_at) - now)
        return None

    @contextmanager
    def relieved(self) -> Iterator[None]:
        """Long work between two polls: if it takes longer than RELIEF_S, frames are taken from the kernel meanwhile.

        A thread does it, up to RELIEF_OCTETS; later polls hand them over first.  In the block, do not poll.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._relieve, args=(over,), name="observer-relief", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _relieve(self, over: threading.Event) -> None:
        if not over.wait(RELIEF_S):
            while not over.is_set():
                if not self._take_to_backlog():
                    over.wait(RELIEF_S)

    def _take_to_backlog(self) -> bool:
        """Frames that are there now; whether there may be more, and room for it."""
        if self._backlog_octets >= self._backlog_most:
            return False
        with self._lock:
            chunk = None if self.finished else self._next()
            if chunk is None:
                return False
            self._backlog.append(_copied(chunk))
            self._backlog_octets += _memory(chunk)
        return True

    def _from_backlog(self, now: float) -> LiveChunk:
        """The oldest frames that wait; working them off takes long too, so new ones are taken meanwhile."""
        if now >= self._take_at:
            while self._take_to_backlog():
                pass
            self._take_at = time.monotonic() + RELIEF_S
        chunk = self._backlog.popleft()
        self._backlog_octets -= _memory(chunk)
        return chunk

    def _next(self) -> LiveChunk | None:
        """Frames that can be handed over now."""
        chunk = self._one(self._watched[0]) if len(self._watched) == 1 else self._several()
        if chunk is not None:
            self._numbered += chunk.count
            self._busy = chunk.count >= BUSY_FRAMES
        return chunk

    def _one(self, only: Watched) -> LiveChunk | None:
        """Frames of the one interface, as they are."""
        count = only.pull(self._numbered + 1)
        lane = only.lane
        if not count or lane is None:
            return None
        only.taken = count
        interfaces = self._zeros[:count] if only.number == 0 else numpy.full(count, only.number)
        return LiveChunk(lane.octets, lane.size, lane.records, count, interfaces=interfaces)

    def _several(self) -> LiveChunk | None:
        """Frames of several interfaces that nothing can precede any more."""
        for one in self._watched:
            if not one.pending and one.pull(0):
                one.sort()
        busy = [one for one in self._watched if one.pending]
        if not busy:
            return None
        late = time.monotonic() - min(one.pulled_s for one in busy) > 2 * WINDOW_S  # the clock was set back
        idle = [one for one in self._watched if not one.pending and one.lane is not None]
        horizons = [int(one.keys[-1]) for one in busy]
        if not late:
            horizons += [one.empty_ns - int(WINDOW_S * 1e9) for one in idle]
        return self._merge(busy, min(horizons))

    def _merge(self, busy: list[Watched], horizon_ns: int) -> LiveChunk | None:
        """Rows up to a time, in order; the octets of each interface stay together."""
        parts, keys, numbers, spans, size = [], [], [], [], 0
        for one in busy:
            until = int(numpy.searchsorted(one.keys, horizon_ns, side="right"))
            if until <= one.taken or one.lane is None:
                continue
            rows = one.rows()[one.taken : until].copy()
            begin = int(rows[0, RECORD_OFFSET])
            end = int(rows[-1, RECORD_OFFSET] + rows[-1, RECORD_CAPTURED])
            rows[:, RECORD_OFFSET] += size - begin
            parts.append(rows)
            keys.append(one.keys[one.taken : until])
            numbers.append(numpy.full(len(rows), one.number))
            spans.append(one.lane.octets[begin:end])
            size += end - begin
            one.taken = until
        if not parts:
            return None
        if size > len(self._merged):
            self._merged = numpy.empty(2 * size, numpy.uint8)
        numpy.concatenate(spans, out=self._merged[:size])
        order = numpy.argsort(numpy.concatenate(keys), kind="stable")
        rows = numpy.concatenate(parts)[order]
        rows[:, RECORD_FRAME] = numpy.arange(self._numbered + 1, self._numbered + 1 + len(rows))
        interfaces = numpy.concatenate(numbers)[order]
        return LiveChunk(self._merged, size, rows.reshape(-1), len(rows), interfaces=interfaces)

    def _count(self, chunk: LiveChunk) -> None:
        info = self.files[0]
        info.first_frame = 1
        self.frames += chunk.count
        info.frames = self.frames
        captured = chunk.records[RECORD_CAPTURED : chunk.count * RECORD_STRIDE : RECORD_STRIDE]
        self.octets_read += int(captured.sum())

    def _wait(self, timeout_s: float) -> None:
        """Until an interface may have something, or the time is over."""
        if any(one.pending for one in self._watched):
            timeout_s = min(timeout_s, WINDOW_S / 10)  # what is held back is due soon
        waiting = [one.lane.descriptor for one in self._watched if one.lane is not None and not one.pending]
        if any(descriptor < 0 for descriptor in waiting):
            timeout_s = min(timeout_s, RETIRE_MS / 1000)  # something that cannot be waited for
        poll = select.poll()
        for descriptor in waiting:
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        poll.poll(max(timeout_s, 0) * 1000)

    # --- interfaces ----------------------------------------------------------------------------------------

    def _check(self, now: float) -> None:
        self._check_at = now + CHECK_S
        for one in self._watched:
            before = one.lane
            one.check()
            if one.lane is not before and one.lane is not None:
                self._describe(one)

    def _describe(self, one: Watched) -> None:
        """Give an interface its place in the FileInfo; again, if it came back with another link type."""
        lane, info = one.lane, self.files[0]
        if lane is None:
            return
        resolution = "1e-9" if lane.nanoseconds else "1e-6"
        interface = Interface(lane.link_type, name=one.name, snaplen=lane.snaplen, resolution=resolution)
        if interface not in info.interfaces:
            info.interfaces.append(interface)
        one.number = info.interfaces.index(interface)
        info.saw_link_type(lane.link_type)
        info.snaplen = max(info.snaplen, lane.snaplen)

    @property
    def link_types(self) -> list[int]:
        """LINKTYPE_ numbers of the interfaces, each once."""
        return self.files[0].link_types

    def descriptors(self) -> list[int]:
        """What can be waited on with select; other ones when an interface has come back."""
        return [one.lane.descriptor for one in self._watched if one.lane is not None and one.lane.descriptor >= 0]

    def statistics(self) -> list[InterfaceStatistics]:
        """Counts of each interface up to now; also kept in `files`."""
        with self._lock:
            all_of_them = [one.statistics() for one in self._watched]
        info = self.files[0]
        info.received = _sum([one.received for one in all_of_them])
        info.dropped_os = _sum([one.dropped_kernel for one in all_of_them])
        info.dropped_interface = _sum([one.dropped_interface for one in all_of_them])
        return all_of_them

    def notices(self) -> list[LiveNotice]:
        """What happened since the last call, in order."""
        found = self._notices + [notice for one in self._watched for notice in one.notices]
        self._notices = []
        for one in self._watched:
            one.notices.clear()
        return sorted(found, key=lambda notice: notice.time_ns)

    def use(self, engine: Engine) -> None:
        """As `Capture.use`; no kernel takes part here."""

    def close(self) -> None:
        """Stop capturing.  Statistics and notices stay readable."""
        with self._lock:
            if not self.finished:
                self.finished = True
                for one in self._watched:
                    one.end()
                self._backlog.clear()
                self.statistics()

    def __enter__(self) -> LiveCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _copied(chunk: LiveChunk) -> LiveChunk:
    """The same in memory of its own, and no more of it than needed."""
    octets, records = chunk.octets[: chunk.size].copy(), chunk.records[: chunk.count * RECORD_STRIDE].copy()
    return LiveChunk(octets, chunk.size, records, chunk.count, interfaces=chunk.interfaces)


def _memory(chunk: LiveChunk) -> int:
    """Octets that a copied chunk takes."""
    return chunk.size + 8 * chunk.count * (RECORD_STRIDE + 1)


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def open_live(
    interfaces: str | Iterable[str],
    *,
    bpf: str = "",
    snaplen: int = SNAPLEN_MAX,
    buffer_octets: int | None = None,
    promiscuous: bool = True,
    user: str | None = None,
    records_max: int = RECORDS_MAX,
    compiled: bool = True,
) -> LiveCapture:
    """Capture from live interfaces.

    Parameters
    ----------
    interfaces
        A name or several; ``any`` is all of them (Linux).
    bpf
        libpcap's filter expression; empty: every frame.
    snaplen
        Octets kept of each frame; HEADERS_OCTETS are enough where frames are not written to a file.
    buffer_octets
        Room for frames in the kernel for each interface; None: RING_OCTETS for all together.
    promiscuous
        Take frames for other stations too.
    user
        Become this user when everything is open; see `privileges.drop_to`.
    records_max
        Frames of one interface handed over at once, at most.
    compiled
        Copy frames with machine code; else with Python, some hundred times slower.

    Raises
    ------
    CaptureError
        An interface does not exist, cannot be opened, or this process may not capture (with the remedy).
    OptionError
        A wrong filter, an impossible option, a user that cannot be had.
    """
    names = [interfaces] if isinstance(interfaces, str) else list(dict.fromkeys(interfaces))
    if not names:
        raise OptionError("no interface was named; `observer interfaces` lists them")
    if "any" in names and len(names) > 1:
        raise OptionError("'any' is all interfaces already; name it alone")
    if not 1 <= snaplen <= SNAPLEN_MAX:
        raise OptionError(f"snaplen is {snaplen}; it must be 1 to {SNAPLEN_MAX} octets")
    if records_max < 1 or (buffer_octets is not None and not 1 << 16 <= buffer_octets < 1 << 31):
        raise OptionError("records_max must be 1 or more, buffer_octets 64 KiB or more and below 2 GiB")
    if user is not None:
        privileges.may_become(user)
    settings = Settings(
        bpf=bpf,
        snaplen=snaplen,
        ring_octets=buffer_octets or max(RING_LEAST, RING_OCTETS // len(names)),
        promiscuous=promiscuous,
        records_max=records_max,
        compiled=compiled,
    )
    watched: list[Watched] = []
    try:
        for name in names:
            watched.append(Watched(name, settings, open_lane(name, settings)))
        if user is not None:
            privileges.drop_to(user)
    except BaseException:
        for one in watched:
            one.end()
        raise
    return LiveCapture(watched, records_max=records_max)
