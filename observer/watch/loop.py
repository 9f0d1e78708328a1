"""The live loop: chunks as they come, the same tracker and the same findings as for files, and a clock.

    feed -> Chunk -> rows of segments -> tracker -> every tick: timers, findings, what changed -> watchers

Never decides anything about TCP; never keeps packets but the latest few; never prints.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer import schema
from observer.errors import ObserverError
from observer.findings.again import Memory, find_again
from observer.flow import Flow, Kept
from observer.kernels import Engine
from observer.observation import CaptureInfo, Observation
from observer.observe import Notice, Speed
from observer.options import Options
from observer.segments import RECORD_STRIDE, RECORD_TIME, STRIDE
from observer.tcp.layout import MARK_STRIDE
from observer.tcp.tracker import Tracker
from observer.watch.announce import Announcer, Change, Row
from observer.watch.clock import Clock
from observer.watch.feed import Feed
from observer.watch.growing import Growing
from observer.watch.numbering import Numbering
from observer.watch.room import LIMIT, Room, Standing, make_room
from observer.watch.watcher import Watcher
from observer.wire import Decoder

if TYPE_CHECKING:
    import pandas

    from observer.capture import Chunk

POLL_S: Final = 0.1
"""How long to wait for packets before the clock is looked at."""
TICK_S: Final = 0.5
"""Between two looks at timers and findings: what can be proved is told within a second."""
TICK_SHARE: Final = 0.15
"""Of all time, at most this much is spent looking: packets come first."""
RECENT_ROWS: Final = 1 << 16
"""Segments kept so that the story of a connection can be told while it goes on."""
BURST: Final = 4
"""Between two looks there may be so much of the limit above it: a quarter; then room is made at once."""
LATER_NS: Final = 86_400_000_000_000
"""A day: by then every TIME-WAIT of today is over."""
EVENTS_EACH: Final = 10
"""Events held at most, for each connection that may be held: ordinary ones have two or three."""
BUSY_ROWS: Final = 1024
"""A chunk of more segments is a busy time's: copying them too would cost more than it tells."""


class Live(Growing):
    """The tables of what is being captured, growing.

    Each table is made when it is asked for, as things are at that moment.  In a ``with`` statement a thread captures in
    the background; `run` does the same in the calling thread.

    Attributes
    ----------
    options
        Timers and thresholds.
    feed
        Where frames come from.
    capture
        What was captured so far, as `observation.CaptureInfo`.
    numbering
        From the tracker's numbers of connections to those that people see.
    notices
        Sentences about interfaces: down, gone, back, frames lost; the latest hundred.
    forgotten, evicted
        Connections that are no longer in the tables because there were too many: those that were over, and those that
        were not, which findings may miss.
    dropped_events
        Events that are no longer in the tables because there were too many, the oldest first.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        options: Options | None = None,
        engine: Engine | None = None,
        notice: Notice | None = None,
        clock: Clock | None = None,
        limit: int = LIMIT,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.options = options or Options()
        self.feed = feed
        self.capture = CaptureInfo(files=feed.files, damages=feed.damages)
        self.notices: deque[Any] = deque(maxlen=100)
        self.forgotten = 0
        self.evicted = 0
        self.dropped_events = 0
        self.clock = clock or Clock()
        self.watchers = list(watchers)
        self._speed = Speed(notice, engine)
        if engine is not None:
            feed.use(engine)
        self._decoder = Decoder(self._speed.engine, self.options)
        self._tracker = Tracker(self._speed.engine, self.options)
        self.numbering = Numbering()
        self._announcer = Announcer()
        self._limit = limit
        self._forgot = False  # since findings were last looked for
        self._memory = Memory()
        self._changed: dict[str, Any] = {}
        self._since_frame = self._since_ns = 0
        self._recent: deque[tuple[Any, Any]] = deque()
        self._recent_rows = 0
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._next_tick = self.clock.steady_ns()
        self._ended = False
        self._seen: Observation | None = None

    # --- running ------------------------------------------------------------------------------------------

    def run(self, *, for_s: float | None = None) -> None:
        """Capture in this thread until the feed ends, `stop` is called, or this many seconds have passed.

        Raises
        ------
        KeyboardInterrupt
            After everything was brought to its end, if Ctrl-C is what ended it.
        """
        until = None if for_s is None else self.clock.steady_ns() + round(for_s * 1e9)
        try:
            while not (self.feed.finished or self._stop.is_set()):
                if until is not None and self.clock.steady_ns() >= until:
                    break
                self.step(POLL_S)
        finally:
            self.end()

    def step(self, timeout_s: float = 0.0) -> bool:
        """Take what has come, waiting for it up to this long, and look around if it is time to; whether any came."""
        chunk = self.feed.poll(timeout_s)
        with self._lock:
            if chunk is not None and chunk.count:
                self._take(chunk)
            if self.clock.steady_ns() >= self._next_tick:
                with self.feed.relieved():
                    self.tick()
        return chunk is not None

    def tick(self) -> list[Change]:
        """Let timers run and look for findings; returns what is new, after telling the watchers."""
        with self._lock:
            begin = self.clock.steady_ns()
            changes = self._look()
            for watcher in self.watchers:
                watcher.tick(self, changes)
            self._make_room(self._limit)
            cost = self.clock.steady_ns() - begin
            self._next_tick = begin + max(round(TICK_S * 1e9), round(cost / TICK_SHARE))
            return changes

    def end(self) -> None:
        """Bring everything to its end: the last frames, timers, findings; watchers are told.  Once is enough."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            clocked = not self.feed.finished  # a pipe at its end has no clock any more
            try:
                self._drain()
            finally:
                self.feed.close()
            self._decoder.finish()
            self._tracker.finish(self.clock.now_ns() if clocked and self.capture.frames else None)
            changes = self._look()
            for watcher in self.watchers:
                watcher.end(self, changes)

    def _drain(self) -> None:
        """Take what was captured but not handed over yet, as far as it is there at once."""
        for _ in range(10_000):  # a busy interface never runs dry
            chunk = self.feed.poll(0)
            if chunk is None:
                return
            if chunk.count:
                self._take(chunk)

    def _take(self, chunk: Chunk) -> None:
        """Take a chunk through decoding and tracking."""
        self._seen = None
        if self._speed.wants_change(self.feed.frames, None):
            for part in (self.feed, self._decoder, self._tracker):
                part.use(self._speed.engine)
        times = chunk.records[RECORD_TIME : chunk.count * RECORD_STRIDE : RECORD_STRIDE]
        info = self.capture
        if info.first_time_ns is None:
            info.first_time_ns = info.last_time_ns = int(times[0])
        info.last_time_ns = max(info.last_time_ns or 0, int(times[-1]))
        info.frames = self.feed.frames
        self.clock.packet(info.last_time_ns)
        batch = self._decoder.decode(chunk)
        if batch.count:
            marks = self._tracker.track(batch.rows, batch.count)
            self._remember(batch.rows, marks, batch.count)
        for watcher in self.watchers:
            watcher.take(chunk)
        self._make_room(self._limit + self._limit // BURST)

    def _make_room(self, limit: int) -> None:
        """Forget connections, or the older half of the events, if there are too many.

        What was found of connections that are forgotten stays as it is.
        """
        events_from = self._too_many_events()
        if self._tracker.stream_count <= limit and not events_from:
            return
        now_ns = self.clock.settled_ns()
        self._tracker.finish(now_ns)
        self._seen = None
        seen = Standing.of(self._summarise())
        closing = self._tracker.summary(now_ns + LATER_NS).is_finished
        room = make_room(seen, closing, limit=self._limit, now_ns=now_ns)
        for watcher in self.watchers:
            watcher.forget(self, room.keep)
        self._forget(room, events_from)
        self.forgotten += room.over
        self.evicted += room.evicted

    def _too_many_events(self) -> int:
        """Give the frame up to which events must go, 0: there is room for all.

        Connections that are over take their events along; only those of long lives, or of endless repetition, are left.
        """
        frames = self._tracker.event_frames
        if len(frames) <= self._limit * EVENTS_EACH:
            return 0
        middle = int(numpy.partition(frames, len(frames) // 2)[len(frames) // 2])
        self.dropped_events += int((frames < middle).sum())
        return middle

    def _forget(self, room: Room, events_from: int) -> None:
        """Forget what does not stay, wherever it is known."""
        numbers = self.numbering.of(numpy.arange(len(room.keep)))
        kept = self._tracker.forget(room.keep, events_from=events_from)
        keep = numpy.zeros(len(room.keep), bool)
        keep[kept] = True
        self.numbering.forget(keep)
        self._announcer.retire(frozenset(numbers[~keep].tolist()))
        self._changed = {who: noted[kept] for who, noted in self._changed.items()}
        self._memory = Memory()
        for watcher in self.watchers:
            watcher.forgot(kept)
        self._seen = None
        self._recent.clear()  # their marks have the old numbers
        self._recent_rows = 0
        self._forgot = True

    def _remember(self, rows: Any, marks: Any, count: int) -> None:
        """Keep the latest segments."""
        if count > BUSY_ROWS:
            return
        kept = rows[: count * STRIDE].reshape(-1, STRIDE), marks[: count * MARK_STRIDE].reshape(-1, MARK_STRIDE)
        self._recent.append((kept[0].copy(), kept[1].copy()))
        self._recent_rows += count
        while self._recent_rows > RECENT_ROWS:
            self._recent_rows -= len(self._recent.popleft()[0])

    def _look(self) -> list[Change]:
        """Judge, and compare with what was told."""
        self._seen = None
        self.feed.statistics()
        self.notices.extend(self.feed.notices())
        from observer.outputs.finding_rows import rows_as_json

        observation = self._observation()
        if not self._ended:  # the last look is a whole one
            changed = self.take_changed("findings")
            observation.give("findings", find_again(observation, self._memory, changed))
        findings = self.numbering.columns(observation.columns("findings"))
        forgot, self._forgot = self._forgot, False
        return self._announcer.update(rows_as_json(findings), forgot=forgot)

    def _summarise(self) -> Any:
        """Look at all connections cheaply, and note for whoever wants to know which of them changed."""
        now_ns = self._tracker.end or 0
        summary = self._tracker.summary(now_ns, since_frame=self._since_frame, since_ns=self._since_ns)
        self._since_frame, self._since_ns = self.capture.frames + 1, now_ns
        count = len(summary.last_time)
        for who, noted in self._changed.items():
            news = numpy.ones(count, bool)  # what is new has changed
            news[: len(noted)] = noted | summary.is_changed[: len(noted)]
            self._changed[who] = news
        return summary

    def take_changed(self, who: str) -> Any:
        """Give which connections (bool, as the tracker counts them) changed since `who` asked last; all at first."""
        self._summarise()
        noted = self._changed.get(who)
        count = self._tracker.stream_count
        self._changed[who] = numpy.zeros(count, bool)
        return numpy.ones(count, bool) if noted is None else noted

    # --- what there is ------------------------------------------------------------------------------------

    def _observation(self) -> Observation:
        """Make the observation as things are now; it is right, and not made again, until the next step or tick."""
        if self._seen is not None:
            return self._seen
        if not self._ended:
            self._tracker.finish(self.clock.settled_ns())
        info = self.capture
        end = max(info.last_time_ns or 0, self._tracker.end or 0) or None
        seen = CaptureInfo(
            files=info.files, frames=info.frames, first_time_ns=info.first_time_ns, last_time_ns=end,
            damages=info.damages, interrupted=info.interrupted,
        )  # fmt: skip
        self._seen = Observation(None, self.options, seen, self._decoder, self._tracker, None)
        return self._seen

    def view(self) -> tuple[Observation, Any]:
        """Give the tables as they are now, and what `Tracker.summary` says of each connection.

        For watchers: both are right until they return, and count connections as the tracker does (see `numbering`).
        """
        return self._observation(), self._summarise()

    def story(self, stream: int, *, width: int = 80) -> str:
        """Tell one connection's story as `observer explain` does, from the latest segments.

        Raises
        ------
        ObserverError
            There is no such connection, or it was forgotten.
        """
        with self._lock:
            held = self.numbering.held(stream, self._tracker.stream_count)
            if held is None:
                known = "is no longer held" if 0 <= stream < self.connections else "does not exist"
                raise ObserverError(f"connection {stream} {known}: there were {self.connections}, numbered from 0")
            observation = self._observation()
            observation.kept = Recent(held, list(self._recent))
            return str(Flow(observation, held).explain(width=width))

    def columns(self, table: str) -> schema.Columns:
        """Return the raw columns of a table as things are now: whole, as what they are made from goes on changing."""
        with self._lock:
            columns = self.numbering.columns(self._observation().columns(table))
            return schema.Columns(table, columns.rows, {name: columns[name] for name in columns}, columns.addresses)

    def _frame(self, table: str) -> pandas.DataFrame:
        with self._lock:
            return schema.from_columns(table, self.numbering.columns(self._observation().columns(table)))

    def finding_rows(self) -> list[Row]:
        """Give all findings as they were when last looked at, as `outputs.finding_rows.rows_as_json` does."""
        return self._announcer.rows()

    @property
    def begin_ns(self) -> int:
        """Time of the first frame, ns since 1970; 0 without frames."""
        return self.capture.first_time_ns or 0

    @property
    def end_ns(self) -> int:
        """Up to when timers were run, ns since 1970; 0 without frames."""
        return max(self.capture.last_time_ns or 0, self._tracker.end or 0)

    @property
    def connections(self) -> int:
        """Connections so far, those that were forgotten among them."""
        return self.numbering.total(self._tracker.stream_count)

    @property
    def segments(self) -> int:
        """TCP segments so far."""
        return self._tracker.segment_count

    @property
    def quoted_frames(self) -> int:
        """Frames that hold no segment but an ICMP error that quotes one."""
        return self._decoder.quoted_frames

    # --- in the background --------------------------------------------------------------------------------

    def start(self, *, for_s: float | None = None) -> Live:
        """Capture in a thread of its own, see `run`."""
        if self._thread is not None:
            raise ObserverError("this live observation was started before; make another one")
        self._thread = threading.Thread(target=self._background, args=(for_s,), name="observer live", daemon=True)
        self._thread.start()
        return self

    def quit(self) -> None:
        """Ask the loop to end, from a signal handler or another thread; does not wait."""
        self._stop.set()

    def stop(self) -> None:
        """Stop capturing; the tables stay.  Raises what the thread ended by, if it failed."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.end()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._ended

    def _background(self, for_s: float | None) -> None:
        try:
            self.run(for_s=for_s)
        except BaseException as error:  # told to whoever asks next: a thread has nobody to tell
            self._failure = error

    def __enter__(self) -> Live:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(info.name for info in self.capture.files)
        state = "ended" if self._ended else "capturing" if self._thread is not None else "not started"
        return f"<Live: {names}, {state}, {self.capture.frames:,} frames, {self.connections:,} connections>"


class Recent(Kept):
    """The latest segments of one connection, where packets that were kept while reading stand otherwise."""

    def __init__(self, stream: int, parts: Sequence[tuple[Any, Any]]) -> None:
        super().__init__([stream])
        for rows, marks in parts:
            self.take(rows.ravel(), marks.ravel(), len(rows))
