"""Forgetting connections: what is kept moves into fresh, compact tables and is numbered anew, in its old order.

A tracker that runs for days must give memory back, and holes in its tables would give back nothing.  So every kept
stream is copied: its row, its flow (packed or not), its log entries, its events.  Everything about it stays as it
was, but for the numbers of streams; an incarnation before that is forgotten is remembered as FORGOTTEN, because that
there was one decides how the first segment is read.

`numbers` maps the old streams: new number + 1, 0 for forgotten ones.

Never decides what is worth keeping, with one exception: the incarnation before a kept one whose opening is not over is
kept too, because the rest of that opening still says something about it (track.replace_listener, resets.reset).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy

from observer.kernels import Engine, Int64s, entry, kernel, prefetch
from observer.tcp.archive import AHEAD, USUAL_LINES
from observer.tcp.events import (
    EV_CODE,
    EV_DETAIL,
    EV_FRAME,
    EV_WHO,
    EVENT_STRIDE,
    NEW_INCARNATION,
    OLD_RESET,
    TIME_WAIT_REUSED,
    UNTOLD,
)
from observer.tcp.evidence import LOG_BLOCK, LOG_FRAME, LOG_LINK, LOG_PROOF, LOG_STRIDE, LOG_TIME
from observer.tcp.layout import (
    CLIENT,
    E_DEAD,
    E_FIRST,
    E_FLAGS,
    E_LOG,
    E_TAIL,
    F_SYN,
    F_SYNACK,
    FLOW_STRIDE,
    FORGOTTEN,
    G_EVENTS,
    G_FLOWS,
    G_FREE_BLOCK,
    G_FREE_ROW,
    G_LOG,
    G_LONG,
    G_MASK,
    G_PACKED_ENTRIES,
    G_RING,
    G_RING_NEXT,
    G_RING_SIZE,
    G_STREAMS,
    LINE,
    PREVIOUS,
    RING_STRIDE,
    S_FLOW,
    S_PREVIOUS,
    SERVER,
    SLOT_FLOW,
    SLOT_NUMBER,
    STREAM,
    STREAM_STRIDE,
)
from observer.tcp.packed import entries_packed, length_packed

Array = numpy.ndarray[Any, numpy.dtype[numpy.int64]]

LOW: Final = 0xFFFFFFFF
ASKED: Final = 1  # in `numbers`, before they are numbers: the caller keeps it
NEEDED: Final = 2  # ... a kept one needs it


class Tables(NamedTuple):
    """The arrays of a tracker."""

    streams: Array
    flows: Array
    log: Array
    events: Array
    slots: Array
    g: Array


def counters(g: Array) -> Array:
    """An array g for tables in which nothing stands yet; counters of what came, settings and secret go on."""
    fresh = g.copy()
    emptied = (G_STREAMS, G_FLOWS, G_LOG, G_EVENTS, G_LONG, G_PACKED_ENTRIES, G_FREE_ROW, G_FREE_BLOCK, G_RING_NEXT)
    fresh[list(emptied)] = 0
    fresh[G_RING:] = 0
    return fresh


def move_all(engine: Engine, old: Tables, new: Tables, numbers: Array, kept: Array, events_from: int) -> None:
    """Fill the new tables, which are empty and large enough; kept: old numbers of the streams that have a new one."""
    bind, count = engine.bind, len(kept)
    new.g[G_STREAMS] = count
    new.g[G_MASK] = len(new.slots) - 1
    bind(
        move, old.streams, old.flows, old.log, numbers, kept, new.streams, new.flows, new.log, new.g
    )(count)  # fmt: skip
    bind(move_slots, old.slots, old.flows, numbers, new.streams, new.slots)()
    bind(move_ring, old.flows, numbers, new.streams, old.g, new.g)()
    bind(move_events, old.events, numbers, new.events, new.g)(int(old.g[G_EVENTS]), events_from)


# --- who is kept --------------------------------------------------------------------------------------------


@entry
def number(streams: Int64s, flows: Int64s, numbers: Int64s, count: int) -> int:
    """Turn ASKED or 0 of each stream into its new number + 1, or 0; returns how many are kept.

    Only what the caller asked for can need the incarnation before: a chain of incarnations is not kept whole.
    """
    for stream in range(count):
        if numbers[stream] & ASKED:
            before = streams[stream * STREAM_STRIDE + S_PREVIOUS] - 1
            if before >= 0 and streams[before * STREAM_STRIDE + S_FLOW] and is_opening(streams, flows, stream):
                numbers[before] |= NEEDED
    kept = 0
    for stream in range(count):
        if numbers[stream]:
            kept += 1
            numbers[stream] = kept
    return kept


@kernel
def is_opening(streams: Int64s, flows: Int64s, stream: int) -> bool:
    """Whether either end has yet to send its SYN or SYN-ACK; of a packed flow that is not looked up: perhaps."""
    row = streams[stream * STREAM_STRIDE + S_FLOW]
    if row <= 0:
        return True
    flow = (row - 1) * FLOW_STRIDE
    opened = F_SYN | F_SYNACK
    return flows[flow + CLIENT + E_FLAGS] & opened == 0 or flows[flow + SERVER + E_FLAGS] & opened == 0


# --- streams, flows, log entries ----------------------------------------------------------------------------


@entry
def move(
    streams: Int64s, flows: Int64s, log: Int64s, numbers: Int64s, kept: Int64s, new_streams: Int64s,
    new_flows: Int64s, new_log: Int64s, fresh: Int64s, count: int,
) -> int:  # fmt: skip
    """Copy the streams kept[0 .. count - 1] with all that belongs to them; fresh: the new tables' array g."""
    for new in range(count):
        ask_for(streams, flows, log, kept, new, count)
        old = kept[new] * STREAM_STRIDE
        r = new * STREAM_STRIDE
        for cell in range(STREAM_STRIDE):
            new_streams[r + cell] = streams[old + cell]
        if streams[old + S_PREVIOUS] > 0:
            before = numbers[streams[old + S_PREVIOUS] - 1]
            new_streams[r + S_PREVIOUS] = before if before else FORGOTTEN
        if streams[old + S_FLOW] > 0:
            move_flow(flows, log, new_streams, new_flows, new_log, fresh, new)
        elif streams[old + S_FLOW] < 0:
            move_packed(log, new_streams, new_log, fresh, new)
    return 0


@kernel
def ask_for(streams: Int64s, flows: Int64s, log: Int64s, kept: Int64s, new: int, count: int) -> int:
    """Ask the memory for what the next kept streams stand in: between them there may be millions of others."""
    if new + 2 * AHEAD < count:
        row = kept[new + 2 * AHEAD] * STREAM_STRIDE
        prefetch(streams, row)
        prefetch(streams, row + LINE)
    if new + AHEAD < count:
        place = streams[kept[new + AHEAD] * STREAM_STRIDE + S_FLOW]
        if place > 0:
            for line in range(FLOW_STRIDE // LINE):
                prefetch(flows, (place - 1) * FLOW_STRIDE + line * LINE)
        elif place < 0:
            for line in range(USUAL_LINES):
                prefetch(log, (-place - 1) * LOG_STRIDE + line * LINE)
    return 0


@kernel
def move_flow(
    flows: Int64s, log: Int64s, new_streams: Int64s, new_flows: Int64s, new_log: Int64s, fresh: Int64s, stream: int
) -> int:
    """Copy the row of a stream, whose own row was copied, and its log."""
    r = stream * STREAM_STRIDE
    old = (new_streams[r + S_FLOW] - 1) * FLOW_STRIDE
    row = fresh[G_FLOWS]
    fresh[G_FLOWS] = row + 1
    fresh[G_LONG] += 1
    flow = row * FLOW_STRIDE
    for cell in range(FLOW_STRIDE):
        new_flows[flow + cell] = flows[old + cell]
    new_streams[r + S_FLOW] = row + 1
    new_flows[flow + STREAM] = stream
    new_flows[flow + PREVIOUS] = new_streams[r + S_PREVIOUS]
    move_log(log, new_flows, new_log, fresh, flow + CLIENT)
    move_log(log, new_flows, new_log, fresh, flow + SERVER)
    return 0


@kernel
def move_log(log: Int64s, new_flows: Int64s, new_log: Int64s, fresh: Int64s, x: int) -> int:
    """Copy the log of the endpoint at block x of `new_flows`, whose cells still say where it stood.

    The entries stand behind each other, so they are whole blocks again (evidence.new_entry), also those of a flow
    that had been packed, which stood outside of blocks.
    """
    base = (fresh[G_LOG] + LOG_BLOCK - 1) & -LOG_BLOCK
    done, starts, seals, ends = base, 0, 0, 0
    first, seal = new_flows[x + E_FIRST] & LOW, new_flows[x + E_FIRST] >> 32
    at = first
    while at:
        following = move_entry(log, at, new_log, done)
        done += 1
        starts = done if at == new_flows[x + E_LOG] else starts
        seals = done if at == seal else seals
        ends = done if at == new_flows[x + E_TAIL] else ends
        at = following
    at = new_flows[x + E_DEAD] & LOW
    dead = done + 1 if at else 0
    while at:
        at = move_entry(log, at, new_log, done)
        done += 1
    new_flows[x + E_FIRST] = seals << 32 | (base + 1 if first else 0)
    new_flows[x + E_LOG] = starts
    new_flows[x + E_TAIL] = ends
    new_flows[x + E_DEAD] = done << 32 | dead
    if done > base:
        fresh[G_LOG] = (done + LOG_BLOCK - 1) & -LOG_BLOCK
    return 0


@kernel
def move_entry(log: Int64s, entry: int, new_log: Int64s, place: int) -> int:
    """Copy an entry (+ 1) to a place, before its successor's; returns the next one of its chain."""
    old, new = (entry - 1) * LOG_STRIDE, place * LOG_STRIDE
    link = log[old + LOG_LINK]
    new_log[new + LOG_TIME] = log[old + LOG_TIME]
    new_log[new + LOG_FRAME] = log[old + LOG_FRAME]
    new_log[new + LOG_PROOF] = log[old + LOG_PROOF]
    new_log[new + LOG_LINK] = (place + 2 if link >> 16 else 0) << 16 | link & 0xFFFF
    return link >> 16


@kernel
def move_packed(log: Int64s, new_streams: Int64s, new_log: Int64s, fresh: Int64s, stream: int) -> int:
    """Copy a packed flow as it is: nothing in it names a stream or a place."""
    packed = stream * STREAM_STRIDE + S_FLOW
    old, place = (-new_streams[packed] - 1) * LOG_STRIDE, fresh[G_LOG]
    length = length_packed(log, old)
    for word in range(length):
        new_log[place * LOG_STRIDE + word] = log[old + word]
    new_streams[packed] = -(place + 1)
    fresh[G_LOG] = place + (length + LOG_STRIDE - 1) // LOG_STRIDE
    fresh[G_LONG] += 1
    fresh[G_PACKED_ENTRIES] += entries_packed(log, old) + 2  # as archive.archive counts them
    return 0


# --- what points at them ------------------------------------------------------------------------------------


@entry
def move_slots(slots: Int64s, flows: Int64s, numbers: Int64s, new_streams: Int64s, new_slots: Int64s) -> int:
    """Fill the new hash table, of zeros: the same hashes, for the streams that are kept."""
    old, mask = len(slots) - 1, len(new_slots) - 1
    for i in range(len(slots)):
        later = slots[(i + AHEAD) & old]
        if later & SLOT_FLOW:
            prefetch(flows, ((later & SLOT_NUMBER) - 1) * FLOW_STRIDE + STREAM)
        kept = slots[i]
        if kept:
            place = (kept & SLOT_NUMBER) - 1
            new = numbers[flows[place * FLOW_STRIDE + STREAM] if kept & SLOT_FLOW else place]
            if new:
                row = new_streams[(new - 1) * STREAM_STRIDE + S_FLOW]
                at = kept >> 32 & mask
                while new_slots[at]:
                    at = (at + 1) & mask
                new_slots[at] = kept >> 32 << 32 | (SLOT_FLOW | row if row > 0 else new)
    return 0


@entry
def move_ring(flows: Int64s, numbers: Int64s, new_streams: Int64s, g: Int64s, fresh: Int64s) -> int:
    """Queue the finished flows that are kept in their old order; the ring of `fresh` is empty before."""
    size, queued = g[G_RING_SIZE], 0
    for i in range(size):
        place = G_RING + (g[G_RING_NEXT] + i) % size * RING_STRIDE
        flow = g[place] - 1
        new = numbers[flows[flow + STREAM]] if flow >= 0 else 0
        if new:
            row = new_streams[(new - 1) * STREAM_STRIDE + S_FLOW] - 1
            fresh[G_RING + queued * RING_STRIDE] = row * FLOW_STRIDE + 1
            fresh[G_RING + queued * RING_STRIDE + 1] = g[place + 1]
            queued += 1
    fresh[G_RING_NEXT] = queued % size
    return 0


@entry
def move_events(
    events: Int64s, numbers: Int64s, new_events: Int64s, fresh: Int64s, count: int, first_frame: int
) -> int:  # fmt: skip
    """Copy the events of kept streams from that frame on, in their order."""
    for row in range(count):
        old = row * EVENT_STRIDE
        who = events[old + EV_WHO]
        new = numbers[who >> 1]
        if new and events[old + EV_FRAME] >= first_frame:
            at = fresh[G_EVENTS] * EVENT_STRIDE
            fresh[G_EVENTS] += 1
            for cell in range(EVENT_STRIDE):
                new_events[at + cell] = events[old + cell]
            new_events[at + EV_WHO] = (new - 1) << 1 | who & 1
            if events[old + EV_CODE] in (NEW_INCARNATION, TIME_WAIT_REUSED, OLD_RESET):
                before = events[old + EV_DETAIL]  # UNTOLD, if it was forgotten before
                known = numbers[before] if before >= 0 else 0
                new_events[at + EV_DETAIL] = known - 1 if known else UNTOLD
    return 0
