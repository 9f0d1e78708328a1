"""What every segment leaves behind, whatever it says about states: counters, windows, sequence numbers, round trips.

Never decides about a state, but that `repeats` asks timers.stateless_server.
Sources: RFC 9293 3.4 (sequence numbers), 3.8.4 and 3.8.6 (keepalives, window probes).
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.segments import (
    ACK,
    ACK_FLAG,
    FIN,
    FLAGS,
    FRAME,
    LENGTH,
    RST,
    SEQ,
    SYN,
    TIME,
    WINDOW,
)
from observer.tcp.events import (
    KEEPALIVE_ANSWERED,
    KEEPALIVE_PROBE,
    LOST_SEGMENT,
    OUT_OF_ORDER,
    RETRANSMISSION,
    STATELESS_SYNACK,
    UNANSWERED,
    WINDOW_OPENED,
    WINDOW_PROBE,
    ZERO_WINDOW,
    note,
)
from observer.tcp.layout import (
    CLIENT,
    E_ACKED,
    E_CONTIGUOUS,
    E_COUNTS,
    E_COUNTS_2,
    E_COUNTS_3,
    E_DATA_FRAME,
    E_DATA_TIME,
    E_END_TIME,
    E_FLAGS,
    E_ISLAND,
    E_ISS,
    E_OPENINGS,
    E_RETX_COUNT,
    E_RETX_GAP,
    E_RETX_SEQ,
    E_RETX_TIME,
    E_SND_MAX,
    E_STATE,
    E_UNIQUE,
    E_ZERO_TIME,
    F_ACKED,
    F_ISLAND,
    F_ISS,
    F_SND,
    F_ZERO_WINDOW,
    MARK_DUPLICATE_ACK,
    MARK_KEEP_ALIVE,
    MARK_KEEP_ALIVE_ACK,
    MARK_LOST_SEGMENT,
    MARK_OUT_OF_ORDER,
    MARK_RETRANSMISSION,
    MARK_ZERO_WINDOW,
    MARK_ZERO_WINDOW_PROBE,
    RTT_CLIENT,
    RTT_SERVER,
)
from observer.tcp.sequence import add, diff, ge, gt, le, lt
from observer.tcp.states import TIME_WAIT
from observer.tcp.timers import stateless_server

LOW: Final = 0xFFFFFFFF
SILENT_AFTER: Final = 2  # repeats without any answer that are worth telling: fewer are ordinary loss
HIGH_ONE: Final = 1 << 32  # one more in the upper half of a cell that counts two things


@kernel
def account(
    flows: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, marks: int
) -> int:
    """Counters and events of what the marks say."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    relative = diff(rows[s + SEQ], flows[x + E_ISS]) if flows[x + E_FLAGS] & F_ISS else rows[s + SEQ]
    if marks & MARK_RETRANSMISSION:
        flows[x + E_COUNTS] += 1
        if rows[s + FLAGS] & SYN == 0:
            note(flows, events, g, flow, x, RETRANSMISSION, relative, time, frame)
    if marks & MARK_OUT_OF_ORDER:
        flows[x + E_COUNTS] += HIGH_ONE
        note(flows, events, g, flow, x, OUT_OF_ORDER, relative, time, frame)
    if marks & MARK_DUPLICATE_ACK:
        flows[x + E_COUNTS_2] += 1
    if marks & MARK_LOST_SEGMENT:
        note(flows, events, g, flow, x, LOST_SEGMENT, relative, time, frame)
    if marks & MARK_ZERO_WINDOW:
        flows[x + E_COUNTS_2] += HIGH_ONE
    if marks & (MARK_KEEP_ALIVE | MARK_ZERO_WINDOW_PROBE | MARK_KEEP_ALIVE_ACK):
        probes(flows, events, g, flow, x, y, marks, time, frame)
    if rows[s + FLAGS] & (SYN | FIN | RST) == 0:
        window(flows, events, g, flow, x, rows[s + WINDOW], time, frame)
    return 0


@kernel
def probes(
    flows: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, marks: int, time: int, frame: int
) -> int:
    """Keepalives and window probes: the same shape, told apart by the peer's window."""
    if marks & MARK_KEEP_ALIVE_ACK:
        note(flows, events, g, flow, x, KEEPALIVE_ANSWERED, flows[y + E_COUNTS_3] & LOW, time, frame)
    elif flows[y + E_FLAGS] & F_ZERO_WINDOW or marks & MARK_ZERO_WINDOW_PROBE:
        note(flows, events, g, flow, x, WINDOW_PROBE, 0, time, frame)
    else:
        flows[x + E_COUNTS_3] += 1
        note(flows, events, g, flow, x, KEEPALIVE_PROBE, flows[x + E_COUNTS_3] & LOW, time, frame)
    return 0


@kernel
def window(flows: Int64s, events: Int64s, g: Int64s, flow: int, x: int, value: int, time: int, frame: int) -> int:
    """x closes or opens its receive window."""
    kept = flows[x + E_FLAGS]
    if value == 0 and not kept & F_ZERO_WINDOW:
        flows[x + E_FLAGS] |= F_ZERO_WINDOW
        flows[x + E_ZERO_TIME] = time
        note(flows, events, g, flow, x, ZERO_WINDOW, 0, time, frame)
    elif value and kept & F_ZERO_WINDOW:
        flows[x + E_FLAGS] &= ~F_ZERO_WINDOW
        note(flows, events, g, flow, x, WINDOW_OPENED, time - flows[x + E_ZERO_TIME], time, frame)
    return 0


@kernel
def sequence(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """Sequence numbers: how far x has sent and acknowledged, without a hole, what it repeats, round trips."""
    time, flags, seq, ack = rows[s + TIME], rows[s + FLAGS], rows[s + SEQ], rows[s + ACK]
    kept = flows[x + E_FLAGS]
    space = rows[s + LENGTH] + (flags & SYN) // SYN + (flags & FIN)
    end = add(seq, space)
    if flags & RST:
        return 0
    if not kept & F_SND:
        flows[x + E_FLAGS] |= F_SND
        flows[x + E_SND_MAX] = end
        flows[x + E_CONTIGUOUS] = end
        flows[x + E_UNIQUE] += rows[s + LENGTH]
    elif space:
        repeats(flows, log, events, g, flow, x, y, rows, s)
        contiguous(flows, x, seq, end, rows[s + LENGTH])
    if space:
        flows[x + E_DATA_TIME] = time
        flows[x + E_DATA_FRAME] = rows[s + FRAME]
    if flags & ACK_FLAG:
        if not kept & F_ACKED or gt(ack, flows[x + E_ACKED]):
            flows[x + E_ACKED] = ack
            flows[x + E_FLAGS] |= F_ACKED
            trips(flows, flow, x, y, ack, time)
            if flows[y + E_FLAGS] & F_SND and gt(ack, flows[y + E_CONTIGUOUS]) and le(ack, flows[y + E_SND_MAX]):
                flows[y + E_CONTIGUOUS] = ack  # the tap may have missed it, x did not
                join_island(flows, y)
        if flags & SYN == 0:
            flows[y + E_RETX_COUNT] = 0
        if flows[x + E_STATE] == TIME_WAIT:
            flows[x + E_END_TIME] = time  # every ACK of a repeated FIN restarts 2 MSL (RFC 9293 3.10.7.4)
    return 0


@kernel
def trips(flows: Int64s, flow: int, x: int, y: int, ack: int, time: int) -> int:
    """Round trip between the tap and x: from what y sent to x's acknowledgment of it."""
    cell = flow + (RTT_CLIENT if x == flow + CLIENT else RTT_SERVER)
    if flows[cell] == 0 and flows[y + E_FLAGS] & F_SND and ack == flows[y + E_SND_MAX]:
        sent = flows[y + E_DATA_TIME]
        if flows[y + E_RETX_COUNT] == 0 and flows[y + E_OPENINGS] >> 32 <= 1 and 0 < sent < time:
            flows[cell] = time - sent
    return 0


@kernel
def repeats(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """Count repetitions of the same segment that nothing answers: what giving up is told by."""
    time, seq = rows[s + TIME], rows[s + SEQ]
    if not lt(seq, flows[x + E_SND_MAX]):
        return 0
    if flows[x + E_RETX_COUNT] and flows[x + E_RETX_SEQ] == seq:
        flows[x + E_RETX_COUNT] += 1
        flows[x + E_RETX_GAP] = time - flows[x + E_RETX_TIME]
    else:
        flows[x + E_RETX_COUNT] = 1
        flows[x + E_RETX_SEQ] = seq
        flows[x + E_RETX_GAP] = time - flows[x + E_DATA_TIME]
    flows[x + E_RETX_TIME] = time
    if flows[x + E_RETX_COUNT] >= SILENT_AFTER and rows[s + FLAGS] & SYN == 0:
        note(flows, events, g, flow, x, UNANSWERED, flows[x + E_RETX_COUNT], time, rows[s + FRAME])
    if stateless_server(flows, log, g, x, y, time, rows[s + FRAME]):
        note(flows, events, g, flow, y, STATELESS_SYNACK, 0, time, rows[s + FRAME])
    return 0


@kernel
def contiguous(flows: Int64s, x: int, seq: int, end: int, length: int) -> int:
    """Move x's contiguous end, its highest number and its count of unique octets on.

    One island beyond the first hole is remembered; what lies beyond a second hole is left to the peer's
    acknowledgment, which fills the gap in `sequence`.
    """
    if gt(end, flows[x + E_SND_MAX]):
        fresh = diff(end, flows[x + E_SND_MAX])
        flows[x + E_UNIQUE] += length if length < fresh else fresh
        flows[x + E_SND_MAX] = end
    elif gt(seq, add(flows[x + E_CONTIGUOUS], -1)) and not in_island(flows, x, seq):
        flows[x + E_UNIQUE] += length  # it fills a hole
    here = flows[x + E_CONTIGUOUS]
    if le(seq, here):
        if gt(end, here):
            flows[x + E_CONTIGUOUS] = end
            join_island(flows, x)
    elif not flows[x + E_FLAGS] & F_ISLAND:
        flows[x + E_ISLAND] = seq
        flows[x + E_ISLAND + 1] = end
        flows[x + E_FLAGS] |= F_ISLAND
    elif le(seq, flows[x + E_ISLAND + 1]) and ge(end, flows[x + E_ISLAND]):
        if gt(end, flows[x + E_ISLAND + 1]):
            flows[x + E_ISLAND + 1] = end
        if lt(seq, flows[x + E_ISLAND]):
            flows[x + E_ISLAND] = seq
    return 0


@kernel
def in_island(flows: Int64s, x: int, seq: int) -> bool:
    """Whether the octet was seen already, beyond the first hole."""
    return flows[x + E_FLAGS] & F_ISLAND != 0 and ge(seq, flows[x + E_ISLAND]) and lt(seq, flows[x + E_ISLAND + 1])


@kernel
def join_island(flows: Int64s, x: int) -> int:
    """The first hole may be full now."""
    if flows[x + E_FLAGS] & F_ISLAND and le(flows[x + E_ISLAND], flows[x + E_CONTIGUOUS]):
        if gt(flows[x + E_ISLAND + 1], flows[x + E_CONTIGUOUS]):
            flows[x + E_CONTIGUOUS] = flows[x + E_ISLAND + 1]
        flows[x + E_FLAGS] &= ~F_ISLAND
    return 0
