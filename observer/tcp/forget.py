"""Forgetting connections: what is kept moves together in its tables and is numbered anew, in its old order.

A tracker that runs for days must give memory back, and holes in its tables would give back nothing.  So every kept
stream moves down: its row, its flow (packed or not), its log entries, its events.  Everything about it stays as it
was, but for the numbers of streams; an incarnation before that is forgotten is remembered as FORGOTTEN, because that
there was one decides how the first segment is read.

All moves are in place: in virtual machines new memory costs 1 to 5 ms for each MiB, and no segment is taken in
meanwhile.

`numbers` maps the old streams: new number + 1, 0 for forgotten ones.

Never decides what is worth keeping, with one exception: the incarnation before a kept one whose opening is not over is
kept too, because the rest of that opening still says something about it (track.replace_listener, resets.reset).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy

from observer.kernels import Engine, Int64s, entry, kernel, prefetch
from observer.tcp.archive import AHEAD, ask_for_history
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
from observer.tcp.evidence import LOG_BLOCK, LOG_LINK, LOG_STRIDE
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
BLOCK_CELLS: Final = LOG_BLOCK * LOG_STRIDE
LEAST_SLOTS: Final = 1024
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


def forget(engine: Engine, tables: Tables, keep: Any, events_from: int) -> tuple[Array, Array]:
    """Forget what is not to be kept, and events of earlier frames than that.

    Returns
    -------
    The old numbers of the streams kept, ascending, and the hash table: the same array, or a smaller one.
    """
    bind, (streams, flows, log, events, slots, g) = engine.bind, tables
    numbers: Array = numpy.array(keep, numpy.int64)
    count = bind(number, streams, flows, numbers)(len(numbers))
    kept = numpy.flatnonzero(numbers)
    # 1. who points at flows is told by streams meanwhile
    pointers: Array = numpy.empty(count + 1, numpy.int64)
    pointing = bind(take_slots, slots, flows, numbers, pointers)()
    ring: Array = numpy.empty(2 * int(g[G_RING_SIZE]), numpy.int64)
    queued = bind(take_ring, flows, numbers, g, ring)()
    # 2. the tables
    bind(move_events, events, numbers, g)(int(g[G_EVENTS]), events_from)
    bind(move_streams, streams, numbers, kept)(count)
    g[G_FLOWS] = bind(move_flows, streams, flows, numbers)(int(g[G_FLOWS]))
    forward: Array = numpy.zeros(-(-int(g[G_LOG]) // LOG_BLOCK), numpy.int64)
    bind(mark_log, streams, flows, log, forward)(count)
    g[G_LOG] = LOG_BLOCK * bind(move_log, log, forward)()
    g[[G_LONG, G_PACKED_ENTRIES, G_FREE_ROW, G_FREE_BLOCK]] = 0
    bind(point_at_log, streams, flows, log, forward, g)(count)
    g[G_STREAMS] = count
    # 3. and back
    slots = emptied(slots, count)
    g[G_MASK] = len(slots) - 1
    bind(put_slots, pointers, streams, slots)(pointing)
    bind(put_ring, ring, streams, g)(queued)
    return kept, slots


def emptied(slots: Array, count: int) -> Array:
    """A hash table of zeros for so many streams, with room for as many again; the same one if it is not far larger."""
    size = LEAST_SLOTS << (4 * count // LEAST_SLOTS).bit_length()
    if len(slots) > 4 * size:
        return numpy.zeros(size, numpy.int64)
    slots[:] = 0
    return slots


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


# --- streams and flows --------------------------------------------------------------------------------------


@entry
def move_streams(streams: Int64s, numbers: Int64s, kept: Int64s, count: int) -> int:
    """Move the streams kept[0 .. count - 1] down; their flows stay where they are."""
    for new in range(count):
        old, r = kept[new] * STREAM_STRIDE, new * STREAM_STRIDE
        for cell in range(STREAM_STRIDE):
            streams[r + cell] = streams[old + cell]
        if streams[r + S_PREVIOUS] > 0:
            before = numbers[streams[r + S_PREVIOUS] - 1]
            streams[r + S_PREVIOUS] = before if before else FORGOTTEN
    return 0


@entry
def move_flows(streams: Int64s, flows: Int64s, numbers: Int64s, count: int) -> int:
    """Move the rows of kept streams down, in the order in which they stand; returns how many there are.

    A row that is free names stream 0, whose own row is another one.
    """
    rows = 0
    for row in range(count):
        prefetch(flows, (row + AHEAD) * FLOW_STRIDE)
        old = row * FLOW_STRIDE
        stream = numbers[flows[old + STREAM]] - 1
        r = stream * STREAM_STRIDE
        if stream >= 0 and streams[r + S_FLOW] == row + 1:
            flow = rows * FLOW_STRIDE
            rows += 1
            if flow != old:
                for cell in range(FLOW_STRIDE):
                    flows[flow + cell] = flows[old + cell]
            flows[flow + STREAM] = stream
            flows[flow + PREVIOUS] = streams[r + S_PREVIOUS]
            streams[r + S_FLOW] = rows
    return rows


# --- the log: whole blocks move, so what is packed across some of them stays in one piece --------------------


@entry
def mark_log(streams: Int64s, flows: Int64s, log: Int64s, forward: Int64s, count: int) -> int:
    """Mark the blocks of `log` that kept streams have something in: 1 in `forward`."""
    for stream in range(count):
        later = min(stream + AHEAD, count - 1)
        ask_for_chains(streams, flows, later)
        ask_for_history(streams, log, later)
        place = streams[stream * STREAM_STRIDE + S_FLOW]
        if place > 0:
            flow = (place - 1) * FLOW_STRIDE
            mark_chains(flows, log, forward, flow + CLIENT)
            mark_chains(flows, log, forward, flow + SERVER)
        elif place < 0:
            at = (-place - 1) * LOG_STRIDE
            last = at + length_packed(log, at) - 1
            for block in range(at // BLOCK_CELLS, last // BLOCK_CELLS + 1):
                forward[block] = 1
    return 0


@kernel
def ask_for_chains(streams: Int64s, flows: Int64s, stream: int) -> int:
    """Ask the memory for where a stream's row says that its log begins."""
    place = streams[stream * STREAM_STRIDE + S_FLOW]
    if place > 0:
        flow = (place - 1) * FLOW_STRIDE
        prefetch(flows, flow + CLIENT + E_LOG // LINE * LINE)
        prefetch(flows, flow + SERVER + E_LOG // LINE * LINE)
    return 0


@kernel
def mark_chains(flows: Int64s, log: Int64s, forward: Int64s, x: int) -> int:
    """Mark the blocks of an endpoint's live and retracted entries."""
    at = flows[x + E_FIRST] & LOW
    while at:
        forward[(at - 1) // LOG_BLOCK] = 1
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    at = flows[x + E_DEAD] & LOW
    while at:
        forward[(at - 1) // LOG_BLOCK] = 1
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    return 0


@entry
def move_log(log: Int64s, forward: Int64s) -> int:
    """Move marked blocks down, and write into `forward` where each is now, + 1; returns how many there are."""
    blocks = 0
    for block in range(len(forward)):
        if forward[block]:
            if block != blocks:
                for cell in range(BLOCK_CELLS):
                    log[blocks * BLOCK_CELLS + cell] = log[block * BLOCK_CELLS + cell]
            blocks += 1
            forward[block] = blocks
    return blocks


@kernel
def moved(forward: Int64s, entry: int) -> int:
    """Where an entry (+ 1) of the log is now; 0 stays 0."""
    if entry == 0:
        return 0
    return (forward[(entry - 1) // LOG_BLOCK] - 1) * LOG_BLOCK + (entry - 1) % LOG_BLOCK + 1


@entry
def point_at_log(streams: Int64s, flows: Int64s, log: Int64s, forward: Int64s, g: Int64s, count: int) -> int:
    """Let everything point at where the log's entries are now; count flows and packed entries anew."""
    for stream in range(count):
        ask_for_chains(streams, flows, min(stream + AHEAD, count - 1))
        packed = stream * STREAM_STRIDE + S_FLOW
        place = streams[packed]
        if place > 0:
            flow = (place - 1) * FLOW_STRIDE
            point_at_entries(flows, log, forward, flow + CLIENT)
            point_at_entries(flows, log, forward, flow + SERVER)
        elif place < 0:
            streams[packed] = -moved(forward, -place)
            at = (-streams[packed] - 1) * LOG_STRIDE
            g[G_PACKED_ENTRIES] += entries_packed(log, at) + 2  # as archive.archive counts them
        g[G_LONG] += 1 if place else 0
    return 0


@kernel
def point_at_entries(flows: Int64s, log: Int64s, forward: Int64s, x: int) -> int:
    """Let an endpoint point at its entries, and each of those at the next."""
    first, dead, free = flows[x + E_FIRST], flows[x + E_DEAD] & LOW, flows[x + E_DEAD] >> 32
    # its next free entry stands in a block of its own, unless that is full (evidence.new_entry)
    free = moved(forward, free + 1) - 1 if free % LOG_BLOCK else 0
    flows[x + E_FIRST] = moved(forward, first >> 32) << 32 | moved(forward, first & LOW)
    flows[x + E_DEAD] = free << 32 | moved(forward, dead)
    flows[x + E_LOG] = moved(forward, flows[x + E_LOG])
    flows[x + E_TAIL] = moved(forward, flows[x + E_TAIL])
    point_at_next(log, forward, flows[x + E_FIRST] & LOW)
    point_at_next(log, forward, flows[x + E_DEAD] & LOW)
    return 0


@kernel
def point_at_next(log: Int64s, forward: Int64s, entry: int) -> int:
    """Let the entries of a chain point at the next ones."""
    at = entry
    while at:
        cell = (at - 1) * LOG_STRIDE + LOG_LINK
        at = moved(forward, log[cell] >> 16)
        log[cell] = at << 16 | log[cell] & 0xFFFF
    return 0


# --- what points at flows -----------------------------------------------------------------------------------


@entry
def take_slots(slots: Int64s, flows: Int64s, numbers: Int64s, pointers: Int64s) -> int:
    """List the kept streams of the hash table: hash << 32 | new number + 1 each; returns how many."""
    mask, listed = len(slots) - 1, 0
    for i in range(len(slots)):
        later = slots[(i + AHEAD) & mask]
        if later & SLOT_FLOW:
            prefetch(flows, ((later & SLOT_NUMBER) - 1) * FLOW_STRIDE + STREAM)
        else:
            prefetch(numbers, (later & SLOT_NUMBER) - 1)
        kept = slots[i]
        if kept:
            place = (kept & SLOT_NUMBER) - 1
            new = numbers[flows[place * FLOW_STRIDE + STREAM] if kept & SLOT_FLOW else place]
            if new:
                pointers[listed] = kept >> 32 << 32 | new
                listed += 1
    return listed


@entry
def put_slots(pointers: Int64s, streams: Int64s, slots: Int64s, count: int) -> int:
    """Put the listed streams into a hash table of zeros."""
    mask = len(slots) - 1
    for i in range(count):
        later = pointers[min(i + AHEAD, count - 1)]
        prefetch(slots, later >> 32 & mask)
        prefetch(streams, ((later & SLOT_NUMBER) - 1) * STREAM_STRIDE + S_FLOW)
        new = pointers[i] & SLOT_NUMBER
        row = streams[(new - 1) * STREAM_STRIDE + S_FLOW]
        at = pointers[i] >> 32 & mask
        while slots[at]:
            at = (at + 1) & mask
        slots[at] = pointers[i] >> 32 << 32 | (SLOT_FLOW | row if row > 0 else new)
    return 0


@entry
def take_ring(flows: Int64s, numbers: Int64s, g: Int64s, ring: Int64s) -> int:
    """List the kept flows that wait to be packed, the longest waiting first: new stream, hash; returns how many."""
    size, listed = g[G_RING_SIZE], 0
    for i in range(size):
        place = G_RING + (g[G_RING_NEXT] + i) % size * RING_STRIDE
        flow = g[place] - 1
        new = numbers[flows[flow + STREAM]] if flow >= 0 else 0
        if new:
            ring[2 * listed] = new - 1
            ring[2 * listed + 1] = g[place + 1]
            listed += 1
    return listed


@entry
def put_ring(ring: Int64s, streams: Int64s, g: Int64s, count: int) -> int:
    """Let the listed flows wait, and no others."""
    for i in range(g[G_RING_SIZE]):
        place = G_RING + i * RING_STRIDE
        g[place] = (streams[ring[2 * i] * STREAM_STRIDE + S_FLOW] - 1) * FLOW_STRIDE + 1 if i < count else 0
        g[place + 1] = ring[2 * i + 1] if i < count else 0
    g[G_RING_NEXT] = count % g[G_RING_SIZE]
    return 0


# --- events -------------------------------------------------------------------------------------------------


@entry
def move_events(events: Int64s, numbers: Int64s, g: Int64s, count: int, first_frame: int) -> int:
    """Move the events of kept streams from that frame on down, in their order."""
    kept = 0
    for row in range(count):
        old = row * EVENT_STRIDE
        who, code = events[old + EV_WHO], events[old + EV_CODE]
        new = numbers[who >> 1]
        if new and events[old + EV_FRAME] >= first_frame:
            at = kept * EVENT_STRIDE
            kept += 1
            for cell in range(EVENT_STRIDE):
                events[at + cell] = events[old + cell]
            events[at + EV_WHO] = (new - 1) << 1 | who & 1
            if code in (NEW_INCARNATION, TIME_WAIT_REUSED, OLD_RESET):
                before = events[at + EV_DETAIL]  # UNTOLD, if it was forgotten before
                known = numbers[before] if before >= 0 else 0
                events[at + EV_DETAIL] = known - 1 if known else UNTOLD
    g[G_EVENTS] = kept
    return 0
