"""The tracker's loop: for each segment of a batch, its stream, what kind it is, what it says.

Never allocates: the caller (tracker.py) sees to it that every table has room for the batch.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel, prefetch
from observer.segments import (
    ACK_FLAG,
    BAD_CHECKSUM,
    CUT_HEADER,
    DST,
    DST_PORT,
    ENCAPSULATION,
    FIN,
    FLAGS,
    FRAME,
    KIND,
    KIND_QUOTED,
    LENGTH,
    OPTIONS,
    RST,
    SEQ,
    SRC,
    SRC_PORT,
    STRIDE,
    SYN,
    TIME,
    TTL,
    VERSION,
)
from observer.tcp.analysis import analyse, completeness_of, is_plain, opens_stream, plain
from observer.tcp.archive import retire, revive, row_of
from observer.tcp.events import EV_WHO, EVENT_STRIDE, MIDSTREAM_PICKUP, NEW_INCARNATION, TIME_WAIT_REUSED, UNTOLD, note
from observer.tcp.evidence import append
from observer.tcp.flowtable import (
    find_slot,
    new_flow,
    new_stream,
    old_roles_equal,
    pack,
    recall,
    role_flags,
    stub_opens,
    tag_of,
)
from observer.tcp.layout import (
    A_ACK,
    A_NEXT,
    A_NEXT_TIME,
    BLOCK,
    CLIENT,
    COMPLETENESS,
    E_ACKED,
    E_CONTIGUOUS,
    E_DATA_FRAME,
    E_DATA_TIME,
    E_FLAGS,
    E_OCTETS,
    E_PACKETS,
    E_SND_MAX,
    E_STATE,
    E_UNIQUE,
    F_ACK_NOTED,
    F_CALM,
    F_DATA_NOTED,
    F_TTL,
    FLOW_ENCAP,
    FLOW_FLAGS,
    FLOW_KEY,
    FLOW_PORTS,
    FLOW_STRIDE,
    FLOW_SWAPPED,
    FLOW_TOUCHED,
    FORGOTTEN,
    G_DUPLICATE_NS,
    G_EVENTS,
    G_MASK,
    G_NOW,
    G_QUOTED,
    G_QUOTED_LOST,
    G_SEGMENTS,
    LAST_FRAME,
    LAST_TIME,
    LINE,
    M_MARKS,
    M_STREAM,
    MARK_STRIDE,
    PREVIOUS,
    S_FLOW,
    S_PORTS,
    S_SRC,
    SERVER,
    SLOT_FLOW,
    SLOT_NUMBER,
    STREAM,
    STREAM_STRIDE,
)
from observer.tcp.segment import infer, quoted
from observer.tcp.sequence import diff, gt
from observer.tcp.states import REPLACED, SENT, TIME_WAIT
from observer.tcp.timers import run_timers
from observer.tcp.zeek import zeek_segment
from observer.tcp.zeek_cells import Z_LAST

LINES: Final = BLOCK // LINE
AHEAD: Final = 8  # segments whose memory is asked for together


@entry
def track(
    rows: Int64s, streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s,
    marks: Int64s, scratch: Int64s, count: int,
) -> int:  # fmt: skip
    """Take in `count` segment rows; write stream, direction and marks of each.

    Room needed for n rows: n streams, n + 1 flows, 16 n log entries, 8 n events (see tracker.py).
    """
    ask_for_slots(rows, slots, g, marks, 0, min(AHEAD, count))
    ask_for_slots(rows, slots, g, marks, AHEAD, min(2 * AHEAD, count))
    ask_for_flows(rows, streams, slots, flows, g, marks, 0, min(AHEAD, count))
    for start in range(0, count, AHEAD):
        ask_for_slots(rows, slots, g, marks, start + 2 * AHEAD, min(start + 3 * AHEAD, count))
        ask_for_flows(rows, streams, slots, flows, g, marks, start + AHEAD, min(start + 2 * AHEAD, count))
        for i in range(start, min(start + AHEAD, count)):
            segment(rows, streams, slots, flows, log, events, g, marks, scratch, i)
    return 0


@kernel
def ask_for_slots(rows: Int64s, slots: Int64s, g: Int64s, marks: Int64s, start: int, stop: int) -> int:
    """Leave each segment's hash in its place in `marks`, and ask the memory for its slot."""
    for i in range(start, stop):
        tag = tag_of(g, rows, i * STRIDE)
        marks[i * MARK_STRIDE] = tag
        prefetch(slots, tag & g[G_MASK])
    return 0


@kernel
def ask_for_flows(
    rows: Int64s, streams: Int64s, slots: Int64s, flows: Int64s, g: Int64s, marks: Int64s, start: int, stop: int
) -> int:
    """Ask the memory for what the slots, which are there by now, say that the segments will need.

    What is fetched is only a guess: nothing depends on it.
    """
    for i in range(start, stop):
        kept = slots[marks[i * MARK_STRIDE] & g[G_MASK]]
        number = (kept & SLOT_NUMBER) - 1
        if kept & SLOT_FLOW:
            flow = number * FLOW_STRIDE
            prefetch(flows, flow)
            prefetch(flows, flow + CLIENT)
            prefetch(flows, flow + CLIENT + LINE)
            prefetch(flows, flow + SERVER)
            prefetch(flows, flow + SERVER + LINE)
            if rows[i * STRIDE + FLAGS] & (SYN | FIN | RST):
                for line in range(2, LINES):
                    prefetch(flows, flow + CLIENT + line * LINE)
                    prefetch(flows, flow + SERVER + line * LINE)
        elif kept:
            prefetch(streams, number * STREAM_STRIDE)
            prefetch(streams, number * STREAM_STRIDE + LINE)
    return 0


@kernel
def ask_for_states(flows: Int64s, flow: int) -> int:
    """Ask the memory for what says whether a flow's timers are due."""
    prefetch(flows, flow + CLIENT)
    prefetch(flows, flow + CLIENT + LINE)
    prefetch(flows, flow + SERVER)
    prefetch(flows, flow + SERVER + LINE)
    return 0


@kernel
def segment(
    rows: Int64s, streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s,
    marks: Int64s, scratch: Int64s, i: int,
) -> int:  # fmt: skip
    """One segment: its stream, then the short way of a plain segment or the long one."""
    s = i * STRIDE
    tag = marks[i * MARK_STRIDE]
    at = find_slot(streams, slots, flows, g, rows, s, tag)
    if is_packed(streams, slots[at]):
        revive(streams, slots, flows, log, g, at)
    if rows[s + KIND] == KIND_QUOTED:
        marks[i * MARK_STRIDE + M_MARKS] = 0
        marks[i * MARK_STRIDE + M_STREAM] = quotation(rows, streams, slots, flows, log, events, g, scratch, at, s)
        return 0
    g[G_SEGMENTS] += 1
    g[G_NOW] = max(g[G_NOW], rows[s + TIME])
    kept = slots[at]
    if kept == 0:
        stream = new_stream(streams, slots, flows, g, at, rows, s, tag)
        marks[i * MARK_STRIDE + M_STREAM] = stream << 1 | first_side(rows, s)
        marks[i * MARK_STRIDE + M_MARKS] = 0
        return 0
    number = (kept & SLOT_NUMBER) - 1
    if kept & SLOT_FLOW:
        flow = number * FLOW_STRIDE
        stream = flows[flow + STREAM]
        same = same_sender(streams, flows, flow, rows, s)
        # the first sender is the client unless the row is swapped
        from_server = (1 - same) ^ (flows[flow + FLOW_FLAGS] & FLOW_SWAPPED)
        x = flow + (SERVER if from_server else CLIENT)
        y = flow + (CLIENT if from_server else SERVER)
        calm = F_CALM | (F_DATA_NOTED if rows[s + LENGTH] else F_ACK_NOTED)
        if (
            flows[x + E_FLAGS] & calm == calm
            and flows[x + E_FLAGS] >> F_TTL == rows[s + TTL]
            and rows[s + OPTIONS] & (BAD_CHECKSUM | CUT_HEADER) == 0
            and is_plain(flows, x, y, rows, s)
        ):
            plain(flows, x, rows, s)
            count_segment(flows, flow, x, rows, s)
            marks[i * MARK_STRIDE + M_STREAM] = stream << 1 | from_server
            marks[i * MARK_STRIDE + M_MARKS] = 0
            return 0
        opens = opens_stream(flows, x, rows[s + FLAGS], rows[s + SEQ])
    else:
        stream = number
        same = first_sender(streams, stream, rows, s)
        opens = stub_opens(streams, stream, same, rows[s + FLAGS], rows[s + SEQ])
        flow, from_server = 0, 0
    if opens:
        fresh = new_stream(streams, slots, flows, g, at, rows, s, tag)
        marks[i * MARK_STRIDE + M_STREAM] = fresh << 1
        marks[i * MARK_STRIDE + M_MARKS] = 0
        if kept & SLOT_FLOW:
            replace_opener(flows, log, events, g, flow, from_server, rows, s, fresh)
        return 0
    if not kept & SLOT_FLOW:
        flow = promote(streams, slots, flows, log, events, g, scratch, at, stream)
        from_server = (1 - same) ^ (flows[flow + FLOW_FLAGS] & FLOW_SWAPPED)
    marks[i * MARK_STRIDE + M_STREAM] = stream << 1 | from_server
    marks[i * MARK_STRIDE + M_MARKS] = take(streams, flows, log, events, g, flow, from_server, rows, s)
    retire(streams, slots, flows, log, g, flow, tag)
    return 0


@kernel
def is_packed(streams: Int64s, kept: int) -> bool:
    """Whether what a slot holds is a stream whose flow was packed (see archive.py)."""
    return kept != 0 and not kept & SLOT_FLOW and streams[((kept & SLOT_NUMBER) - 1) * STREAM_STRIDE + S_FLOW] < 0


@kernel
def first_side(rows: Int64s, s: int) -> int:
    """1 if the sender of a stream's first segment is its server."""
    return role_flags(rows[s + FLAGS], rows[s + SRC_PORT], rows[s + DST_PORT]) & FLOW_SWAPPED


@kernel
def same_sender(streams: Int64s, flows: Int64s, flow: int, rows: Int64s, s: int) -> int:
    """1 if the segment comes from the sender of the flow's first segment."""
    if rows[s + VERSION] != 4:
        return first_sender(streams, flows[flow + STREAM], rows, s)
    if flows[flow + FLOW_PORTS] >> 16 & 0xFFFF != rows[s + SRC_PORT]:
        return 0
    return 1 if flows[flow + FLOW_KEY] == pack(rows[s + SRC + 3], rows[s + DST + 3]) else 0


@kernel
def first_sender(streams: Int64s, stream: int, rows: Int64s, s: int) -> int:
    """1 if the segment comes from the sender of the stream's first segment."""
    r = stream * STREAM_STRIDE
    if streams[r + S_PORTS] >> 16 & 0xFFFF != rows[s + SRC_PORT]:
        return 0
    low = streams[r + S_SRC + 1] == pack(rows[s + SRC + 2], rows[s + SRC + 3])
    return 1 if low and streams[r + S_SRC] == pack(rows[s + SRC], rows[s + SRC + 1]) else 0


@kernel
def count_segment(flows: Int64s, flow: int, x: int, rows: Int64s, s: int) -> int:
    """What every segment adds, plain or not."""
    flows[flow + LAST_TIME] = rows[s + TIME]
    flows[flow + LAST_FRAME] = rows[s + FRAME]
    flows[flow + COMPLETENESS] |= completeness_of(rows, s, 0)
    flows[flow + FLOW_FLAGS] |= rows[s + ENCAPSULATION] << FLOW_ENCAP
    flows[x + E_PACKETS] += 1
    flows[x + E_OCTETS] += rows[s + LENGTH]
    return 0


@kernel
def promote(
    streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s,
    at: int, stream: int,
) -> int:  # fmt: skip
    """A stream's second segment came: make its flow row and play its first segment; returns the flow's first cell."""
    flow = new_flow(streams, slots, flows, g, at, stream)
    play_first(streams, flows, log, events, g, scratch, stream, flow)
    return flow


@kernel
def play_first(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, stream: int, flow: int
) -> int:
    """Analyse a stream's first segment into a blank flow row."""
    recall(streams, stream, scratch, 0)
    from_server = flows[flow + FLOW_FLAGS] & FLOW_SWAPPED
    x = flow + (SERVER if from_server else CLIENT)
    flows[flow + COMPLETENESS] = completeness_of(scratch, 0, 2 if flows[flow + PREVIOUS] else 1)
    if scratch[FLAGS] & SYN == 0:
        note(flows, events, g, flow, x, MIDSTREAM_PICKUP, 0, scratch[TIME], scratch[FRAME])
    elif scratch[FLAGS] & ACK_FLAG == 0 and flows[flow + PREVIOUS]:
        before = flows[flow + PREVIOUS]
        before = UNTOLD if before == FORGOTTEN else before - 1
        note(flows, events, g, flow, x, NEW_INCARNATION, before, scratch[TIME], scratch[FRAME])
    kept = flows[flow + COMPLETENESS]
    take(streams, flows, log, events, g, flow, from_server, scratch, 0)
    flows[flow + COMPLETENESS] = kept
    return 0


@kernel
def take(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, from_server: int,
    rows: Int64s, s: int,
) -> int:  # fmt: skip
    """A segment that is not plain: analysis, Zeek's view, inference; returns its marks."""
    x = flow + (SERVER if from_server else CLIENT)
    y = flow + (CLIENT if from_server else SERVER)
    if (flows[x + E_FLAGS] | flows[y + E_FLAGS]) & F_CALM:
        wake(flows, flow, x)
        wake(flows, flow, y)
    if rows[s + OPTIONS] & CUT_HEADER:
        run_timers(flows, log, g, flow, rows[s + TIME])
        return count_segment(flows, flow, x, rows, s)  # ports and sequence number alone tell nothing
    marks = analyse(flows, flow, x, y, rows, s, g[G_DUPLICATE_NS])
    swapped = flows[flow + FLOW_FLAGS] & FLOW_SWAPPED
    zeek_segment(flows, flow, x, y, rows, s, 1 - (from_server ^ swapped))
    if flows[flow + PREVIOUS] and flows[x + E_PACKETS] == 0 and rows[s + FLAGS] & (SYN | ACK_FLAG) == SYN | ACK_FLAG:
        replace_listener(streams, flows, log, events, g, flow, y, rows, s)
    infer(flows, log, events, g, streams, flow, x, y, rows, s, marks)
    count_segment(flows, flow, x, rows, s)
    return marks


@kernel
def wake(flows: Int64s, flow: int, x: int) -> int:
    """Bring the inference's cells up to date after plain segments, which only moved the analysis' cells."""
    fresh = diff(flows[x + A_NEXT], flows[x + E_SND_MAX])
    if fresh > 0:
        flows[x + E_UNIQUE] += fresh
        flows[x + E_SND_MAX] = flows[x + A_NEXT]
        flows[x + E_CONTIGUOUS] = flows[x + A_NEXT]
        flows[x + E_DATA_TIME] = flows[x + A_NEXT_TIME]
        flows[x + E_DATA_FRAME] = flows[flow + LAST_FRAME]
        flows[x + Z_LAST] = flows[x + A_NEXT]
    if gt(flows[x + A_ACK], flows[x + E_ACKED]):
        flows[x + E_ACKED] = flows[x + A_ACK]
    return 0


@kernel
def replace_opener(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, from_server: int, rows: Int64s, s: int,
    fresh: int,
) -> int:  # fmt: skip
    """A SYN with a new number, of a fresh stream: its sender has nothing left of the old incarnation."""
    x = flow + (SERVER if from_server else CLIENT)
    run_timers(flows, log, g, flow, rows[s + TIME])
    if flows[x + E_STATE] == TIME_WAIT and rows[s + FLAGS] & ACK_FLAG == 0:
        # the fresh stream has no flow row yet; who sends a SYN is its client
        note(flows, events, g, flow, x, TIME_WAIT_REUSED, flows[flow + STREAM], rows[s + TIME], rows[s + FRAME])
        events[(g[G_EVENTS] - 1) * EVENT_STRIDE + EV_WHO] = fresh << 1
    append(flows, log, g, x, REPLACED, SENT, rows[s + TIME], rows[s + FRAME])
    flows[flow + FLOW_FLAGS] |= FLOW_TOUCHED
    return 0


@kernel
def replace_listener(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, y: int, rows: Int64s, s: int
) -> int:
    """A SYN-ACK answers the new incarnation: its sender has given up the old one, whatever state that was in."""
    before = row_of(streams, flows, log, g, flows[flow + PREVIOUS] - 1)
    if before < 0:
        return 0
    same = (flows[flow + FLOW_FLAGS] ^ flows[before + FLOW_FLAGS]) & FLOW_SWAPPED == 0
    x_is_server = y == flow + CLIENT
    # which block the sender has in the old row: the first senders of both rows may differ
    from_server = x_is_server if old_roles_equal(streams, flows, flow, before) else not x_is_server
    x_old = before + (SERVER if from_server else CLIENT)
    run_timers(flows, log, g, before, rows[s + TIME])
    if flows[x_old + E_STATE] == TIME_WAIT and same:
        x = flow + (SERVER if x_is_server else CLIENT)
        note(flows, events, g, flow, x, TIME_WAIT_REUSED, flows[flow + PREVIOUS] - 1, rows[s + TIME], rows[s + FRAME])
    append(flows, log, g, x_old, REPLACED, SENT, rows[s + TIME], rows[s + FRAME])
    flows[before + FLOW_FLAGS] |= FLOW_TOUCHED
    return 0


@kernel
def quotation(
    rows: Int64s, streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s,
    scratch: Int64s, at: int, s: int,
) -> int:  # fmt: skip
    """A TCP header inside an ICMP error: an event of its flow, never a segment."""
    g[G_QUOTED] += 1
    kept = slots[at]
    if kept == 0:
        g[G_QUOTED_LOST] += 1
        return -1
    number = (kept & SLOT_NUMBER) - 1
    if kept & SLOT_FLOW:
        flow = number * FLOW_STRIDE
    else:
        flow = promote(streams, slots, flows, log, events, g, scratch, at, number)
    stream = flows[flow + STREAM]
    from_server = (1 - same_sender(streams, flows, flow, rows, s)) ^ (flows[flow + FLOW_FLAGS] & FLOW_SWAPPED)
    if (flows[flow + CLIENT + E_FLAGS] | flows[flow + SERVER + E_FLAGS]) & F_CALM:
        wake(flows, flow, flow + CLIENT)
        wake(flows, flow, flow + SERVER)
    quoted(flows, log, events, g, flow, flow + (SERVER if from_server else CLIENT), rows, s)
    flows[flow + FLOW_FLAGS] |= FLOW_TOUCHED
    return stream << 1 | from_server


@entry
def finish(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, count: int, now: int
) -> int:
    """Run the timers of all flows up to the instant `now`.

    Nothing else: what comes later must find everything as if nobody had looked.
    """
    for number in range(count):
        flow = number * FLOW_STRIDE
        ask_for_states(flows, flow + AHEAD * FLOW_STRIDE)
        before = flows[flow + CLIENT + E_STATE] << 8 | flows[flow + SERVER + E_STATE]
        run_timers(flows, log, g, flow, now)
        if flows[flow + CLIENT + E_STATE] << 8 | flows[flow + SERVER + E_STATE] != before:
            flows[flow + FLOW_FLAGS] |= FLOW_TOUCHED
    return 0
