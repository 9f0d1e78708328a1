"""The tracker: owns the tables that the kernels work on, and sees to it that they have room.

Feeds batches of segment rows to `track`, and hands the finished tables over as numpy arrays.  Never reads files, never
knows time but the packets'.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer.errors import ObserverError
from observer.kernels import Bound, Engine
from observer.options import Options
from observer.segments import STRIDE
from observer.tcp import events as event_module
from observer.tcp.addresses import intern, intern_again
from observer.tcp.archive import ENTRIES_MAX, PACKED_MAX, packing_rules
from observer.tcp.columns import ROW, column_of, flow_rows
from observer.tcp.evidence import LOG_BLOCK, LOG_LINK, LOG_STRIDE
from observer.tcp.flowtable import rehash
from observer.tcp.fold import SPARE_ENTRIES, TRANSITION_STRIDE, lone_events, transitions
from observer.tcp.layout import (
    CLIENT,
    E_DEAD,
    E_FIRST,
    FLOW_STRIDE,
    G_DUPLICATE_NS,
    G_EVENTS,
    G_FIN_TIMEOUT,
    G_FLOWS,
    G_FREE_BLOCK,
    G_LOG,
    G_LONG,
    G_MASK,
    G_NOW,
    G_PACK,
    G_PACKED_ENTRIES,
    G_QUOTED,
    G_QUOTED_LOST,
    G_RING_SIZE,
    G_RULES_OFF,
    G_SECRET,
    G_SEGMENTS,
    G_SIZE,
    G_STREAMS,
    G_SYNACK_FIRST,
    G_TABLE,
    G_TIME_WAIT,
    G_ZERO_WINDOW,
    MARK_STRIDE,
    RING_MAX,
    RULES,
    S_FLOW,
    SERVER,
    STREAM_STRIDE,
)
from observer.tcp.states import TABLE_SIZE, transition_array
from observer.tcp.table import Array, Table
from observer.tcp.track import finish, track

if TYPE_CHECKING:
    from observer.tcp.summary import Summary

Codes = numpy.ndarray[Any, numpy.dtype[numpy.int32]]

LOG_PER_SEGMENT: Final = 10 * LOG_BLOCK + PACKED_MAX + 2 * ENTRIES_MAX
"""Rows of `log` that one segment can take at most: ten entries with its stream's first one, each of them
perhaps in a new block, one flow packed, two made again."""
ROWS_PER_SEGMENT: Final = 3
"""Rows of `flows` that one segment can take: its own, one made again in its slot, one of the incarnation before."""
EVENTS_PER_SEGMENT: Final = 16
SPARE_ENTRIES_PER_STREAM: Final = 4
"""Log entries that a stream's only segment can cause at most, both endpoints together."""
LONE_EVENTS: Final = 4
"""Events that a stream's only segment can cause at most."""
FIN_TIMEOUT_S: Final = 60
"""Linux net.ipv4.tcp_fin_timeout."""
SECOND: Final = 1_000_000_000


ADDRESS_PART: Final = 1 << 14
"""Streams whose addresses are numbered at once."""


class Tracker:
    """Reconstructs the state of both endpoints of every connection from segment rows.

    Parameters
    ----------
    engine
        How kernels run; `use` changes it between batches.
    options
        Timers, thresholds, rules switched off.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self.streams = Table(STREAM_STRIDE, 256)
        self.flows = Table(FLOW_STRIDE, 256)
        self.log = Table(LOG_STRIDE, 4096)
        self.events = Table(event_module.EVENT_STRIDE, 4096)
        self.slots: Array = numpy.zeros(1024, numpy.int64)
        self.marks: Array = numpy.zeros(MARK_STRIDE, numpy.int64)
        self.scratch: Array = numpy.zeros(STRIDE, numpy.int64)
        self.g: Array = numpy.zeros(G_SIZE, numpy.int64)
        self._settle(options)
        self._engine = engine
        self._rows: Array | None = None
        self._end: int | None = None
        self.forgotten_count = 0
        self._let_go()

    def _let_go(self) -> None:
        """Drop what was made from the tables, and what is bound to them."""
        self._bound: Bound | None = None
        self._over: tuple[Callable[..., int], Array, Bound] | None = None
        self._row_space: Array = numpy.empty(0, numpy.int64)
        self._transition_space: Array = numpy.empty(0, numpy.int64)
        self._summary: Summary | None = None

    def _settle(self, options: Options) -> None:
        """Write the settings and the machine into g."""
        profile, g = options.profile(), self.g
        g[G_MASK] = len(self.slots) - 1
        g[G_TIME_WAIT] = round(profile.time_wait_s * SECOND)
        g[G_SYNACK_FIRST] = round(profile.syn_ack_first_s * SECOND)
        g[G_ZERO_WINDOW] = round(options.zero_window_s * SECOND)
        g[G_FIN_TIMEOUT] = FIN_TIMEOUT_S * SECOND
        g[G_DUPLICATE_NS] = round(options.duplicate_frame_s * SECOND)
        g[G_RULES_OFF] = sum(RULES[name] for name in options.without_rules)
        secret = random.SystemRandom()
        for i in range(12):
            g[G_SECRET + i] = secret.getrandbits(63) | 1
        g[G_TABLE : G_TABLE + TABLE_SIZE] = transition_array()
        g[G_RING_SIZE] = RING_MAX
        rules = packing_rules()
        g[G_PACK : G_PACK + len(rules)] = rules

    def use(self, engine: Engine) -> None:
        """Run kernels another way from the next batch on."""
        self._engine = engine
        self._bound = None
        self._over = None

    def _make_room(self, count: int) -> None:
        g = self.g
        moved = self.streams.reserve(int(g[G_STREAMS]) + count)
        moved |= self.flows.reserve(int(g[G_FLOWS]) + ROWS_PER_SEGMENT * count + 1)
        moved |= self.log.reserve(int(g[G_LOG]) + count * LOG_PER_SEGMENT)
        moved |= self.events.reserve(int(g[G_EVENTS]) + count * EVENTS_PER_SEGMENT)
        if len(self.marks) < count * MARK_STRIDE:
            self.marks = numpy.zeros(count * MARK_STRIDE, numpy.int64)
            moved = True
        if 2 * (int(g[G_STREAMS]) + count) > len(self.slots):
            size = len(self.slots)
            while size < 2 * (int(g[G_STREAMS]) + count):
                size *= 2
            larger: Array = numpy.zeros(size, numpy.int64)
            self._engine.bind(rehash, self.slots, larger)()
            self.slots = larger
            g[G_MASK] = size - 1
            moved = True
        if moved:
            self._bound = None

    def track(self, rows: Array, count: int) -> Array:
        """Take in `count` segment rows (segments.STRIDE cells each).

        Returns
        -------
        The marks of the batch (layout.MARK_STRIDE cells for each row); reused by the next call.
        """
        self._make_room(count)
        if self._bound is None or self._rows is not rows:
            self._rows = rows
            self._bound = self._engine.bind(
                track, rows, self.streams.cells, self.slots, self.flows.cells, self.log.cells,
                self.events.cells, self.g, self.marks, self.scratch,
            )  # fmt: skip
        self._bound(count)
        return self.marks

    def finish(self, now: int | None = None) -> None:
        """Run timers up to `now` (ns; default: the latest time seen): the capture is over, or it is time for a look.

        A look in between changes nothing of what is told in the end, if all that comes later is not before `now`.
        """
        flows = int(self.g[G_FLOWS])
        self.flows.reserve(flows + 1)
        self.log.reserve(int(self.g[G_LOG]) + 2 * LOG_BLOCK * flows + SPARE_ENTRIES)
        self.events.reserve(int(self.g[G_EVENTS]) + SPARE_ENTRIES)
        self._bound = None
        self._over = None
        bound = self._engine.bind(
            finish, self.streams.cells, self.flows.cells, self.log.cells, self.events.cells, self.g, self.scratch
        )
        self._end = self.now if now is None else now
        bound(flows, self._end)

    def summary(self, now: int | None = None, *, since_frame: int = 0, since_ns: int = 0) -> Summary:
        """Look at every stream without making its row; the arrays' memory is used again by the next call.

        Parameters
        ----------
        now
            ns; default: the latest time seen.
        since_frame, since_ns
            Streams are told as changed that had a segment from this frame on, that something else touched since the
            last summary, or that time alone changed between `since_ns` and `now`.
        """
        from observer.tcp.summary import Summary, summarise

        count, told = self.stream_count, self._summary
        if told is None or len(told.bits) < count:
            room = count + count // 8
            times, frames = numpy.empty(room, numpy.int64), numpy.empty(room, numpy.int64)
            self._summary = told = Summary(numpy.empty(room, numpy.uint8), times, frames)
        self._engine.bind(
            summarise, self.streams.cells, self.flows.cells, self.log.cells, self.g, told.bits, told.last_time,
            told.last_frame,
        )(count, self.now if now is None else now, since_frame, since_ns)  # fmt: skip
        return Summary(told.bits[:count], told.last_time[:count], told.last_frame[:count])

    def forget(self, keep: numpy.ndarray[Any, numpy.dtype[numpy.bool_]], *, events_from: int = 0) -> Array:
        """Keep only some streams, numbered anew in their old order; the memory of the others is given back.

        What is told of them stays the same, but for numbers of streams, and for incarnations before them that are
        forgotten.  A segment between the ends of a stream that is forgotten opens a new one.  Counters of segments
        go on.

        Parameters
        ----------
        keep
            bool for each stream.
        events_from
            Events of frames before this one are forgotten, whosever they are.

        Returns
        -------
        The old numbers of the streams kept, ascending.  An incarnation before a kept one is among them, asked for or
        not, while that one's opening is not over.
        """
        from observer.tcp.forget import Tables, forget

        if len(keep) != self.stream_count:
            raise ObserverError(f"{len(keep)} streams to keep or forget, but there are {self.stream_count}")
        g, held = self.g, (self.streams, self.flows, self.log, self.events)
        counters = (G_STREAMS, G_FLOWS, G_LOG, G_EVENTS)
        before = g[list(counters)].tolist()
        streams, flows, log, events = (table.cells for table in held)
        tables = Tables(streams, flows, log, events, self.slots, g)
        kept, self.slots = forget(self._engine, tables, keep, events_from)
        for table, counter, rows in zip(held, counters, before, strict=True):
            table.shrink(int(g[counter]), rows)
        self.forgotten_count += len(keep) - len(kept)
        self._let_go()
        return kept

    def _over_streams(self, entry: Callable[..., int], out: Array, first: int, stop: int) -> int:
        """Run an entry that makes rows from the streams first .. stop - 1."""
        if self._over is None or self._over[0] is not entry or self._over[1] is not out:
            bound = self._engine.bind(
                entry, self.streams.cells, self.flows.cells, self.log.cells, self.events.cells, self.g,
                self.scratch, out,
            )  # fmt: skip
            self._over = (entry, out, bound)
        # what is made for reading stands behind everything, and is forgotten again: tracking may go on afterwards
        free = self.g[G_FREE_BLOCK]
        self.g[G_FREE_BLOCK] = 0
        rows = self._over[2](first, stop, max(self.now, self._end or 0))
        self.g[G_FREE_BLOCK] = free
        for table, used, spare in (
            (self.flows, int(self.g[G_FLOWS]), 1), (self.events, int(self.g[G_EVENTS]), SPARE_ENTRIES),
        ):  # fmt: skip
            table.cells[used * table.stride : (used + spare) * table.stride] = 0
        return rows

    def flow_rows(self, first: int, stop: int) -> Array:
        """Everything about the streams first .. stop - 1: shape (stop - first, columns.ROW), cells columns.O_....

        The memory is used again by the next call.
        """
        column = column_of(stop - first)
        cells = (column + 1) * ROW
        if len(self._row_space) < cells:
            self._row_space = numpy.empty(cells, numpy.int64)
        self._over_streams(flow_rows, self._row_space, first, stop)
        return self._row_space[: ROW * column].reshape(ROW, column)[:, : stop - first].T

    def transitions(self, first: int = 0, stop: int | None = None) -> Array:
        """Transitions of the streams first .. stop - 1: shape (rows, fold.TRANSITION_STRIDE), cells fold.T_....

        Ordered by stream and endpoint; retracted ones stand behind the live ones of their endpoint.
        """
        stop = self.stream_count if stop is None else stop
        lone = self.stream_count - self.flow_count
        entries = int(self.g[G_LOG] + self.g[G_PACKED_ENTRIES]) if stop - first > 1 else self.entry_count(first)
        cells = (entries + min(lone, stop - first) * SPARE_ENTRIES_PER_STREAM + 1) * TRANSITION_STRIDE
        if len(self._transition_space) < cells:
            self._transition_space = numpy.empty(cells, numpy.int64)
        out = self._transition_space
        rows = self._over_streams(transitions, out, first, stop)
        if stop - first == self.stream_count:
            self._transition_space = numpy.empty(0, numpy.int64)  # it is the caller's now
            return out[: rows * TRANSITION_STRIDE].reshape(-1, TRANSITION_STRIDE)
        # Part by part the same memory is used again: new memory costs more than a copy that fits.  Each cell's column
        # of the copy is in one piece: it is read as a column.
        return out[: rows * TRANSITION_STRIDE].reshape(-1, TRANSITION_STRIDE).T.copy().T

    def entry_count(self, stream: int) -> int:
        """Log entries of one stream, live and retracted; of a packed one, how many it may have."""
        number = int(self.streams.cells[stream * STREAM_STRIDE + S_FLOW])
        if number < 0:
            return ENTRIES_MAX + 2
        if not number:
            return 0
        flow, log, count = (number - 1) * FLOW_STRIDE, self.log.cells, 0
        for block in (CLIENT, SERVER):
            for chain in (E_FIRST, E_DEAD):
                at = int(self.flows.cells[flow + block + chain]) & 0xFFFFFFFF
                while at:
                    count += 1
                    at = int(log[(at - 1) * LOG_STRIDE + LOG_LINK]) >> 16
        return count

    def event_rows(self) -> Array:
        """All events: shape (rows, events.EVENT_STRIDE), cells events.EV_..., in no particular order."""
        stride = event_module.EVENT_STRIDE
        lone = self.stream_count - self.flow_count
        out: Array = numpy.empty((lone * LONE_EVENTS + 1) * stride, numpy.int64)
        rows = self._over_streams(lone_events, out, 0, self.stream_count) if lone else 0
        used = int(self.g[G_EVENTS])
        own = self.events.cells[: used * stride].reshape(-1, stride)
        return numpy.concatenate([own, out.reshape(-1, stride)[:rows]])

    def addresses(self) -> tuple[numpy.ndarray[Any, numpy.dtype[numpy.uint32]], Array, Codes]:
        """Distinct addresses and who has them.

        Returns
        -------
        words
            uint32, shape (n, 4), most significant first.
        versions
            shape (n,): 4 or 6.
        codes
            int32, shape (streams, 2): of each stream's first sender and of its peer.
        """
        count = self.stream_count
        distinct: Array = numpy.empty(6 * count + 3, numpy.int64)
        codes: Array = numpy.empty(count, numpy.int64)
        slots: Array = numpy.zeros(1024, numpy.int64)
        known = 0
        for first in range(0, count, ADDRESS_PART):
            stop = min(first + ADDRESS_PART, count)
            if len(slots) < 2 * (known + 2 * (stop - first)):
                size = 8 * len(slots)
                while size < 2 * (known + 2 * (stop - first)):
                    size *= 2
                slots = numpy.zeros(size, numpy.int64)
                self._engine.bind(intern_again, self.g, slots, distinct)(known)
            number = self._engine.bind(intern, self.streams.cells, self.g, slots, distinct, codes)
            known = number(first, stop, known)
        # no copies: a flood has millions of addresses
        words, pairs = distinct[: 3 * known].view(numpy.uint32).reshape(-1, 6), codes.view(numpy.int32).reshape(-1, 2)
        if sys.byteorder == "big":
            words, pairs = words[:, [1, 0, 3, 2]], pairs[:, ::-1]
        return words[:, :4], distinct[2 : 3 * known : 3], pairs

    @property
    def now(self) -> int:
        """The latest time seen, ns."""
        return int(self.g[G_NOW])

    @property
    def end(self) -> int | None:
        """Up to when timers were run by `finish`, ns; None: never yet."""
        return self._end

    @property
    def stream_count(self) -> int:
        """Streams so far, as Wireshark numbers them."""
        return int(self.g[G_STREAMS])

    @property
    def flow_count(self) -> int:
        """Streams of more than one segment."""
        return int(self.g[G_LONG])

    @property
    def event_frames(self) -> Array:
        """Frame of each event, in no particular order; right until the next batch."""
        stride = event_module.EVENT_STRIDE
        rows = self.events.cells[: int(self.g[G_EVENTS]) * stride].reshape(-1, stride)
        return rows[:, event_module.EV_FRAME]

    @property
    def segment_count(self) -> int:
        return int(self.g[G_SEGMENTS])

    @property
    def quoted_count(self) -> tuple[int, int]:
        """Headers quoted in ICMP errors, and how many of them belong to no captured stream."""
        return int(self.g[G_QUOTED]), int(self.g[G_QUOTED_LOST])
