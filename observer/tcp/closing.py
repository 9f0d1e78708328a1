"""Closing: what FINs and their acknowledgments say about both endpoints.

Sources: RFC 9293 3.6 and 3.10.7; RFC 2883 (D-SACK); what Linux does was measured.
"""

from __future__ import annotations

from observer.kernels import Int64s, kernel
from observer.segments import (
    ACK,
    FIN,
    FLAGS,
    FRAME,
    HAS_SACK,
    HAS_TIMESTAMPS,
    LENGTH,
    OPTIONS,
    SACK_RIGHT,
    SEQ,
    TIME,
    TS_VALUE,
)
from observer.tcp.events import HALF_CLOSED, RETRACTION, SIMULTANEOUS_CLOSE, note
from observer.tcp.evidence import LOG_FRAME, LOG_PROOF, LOG_STRIDE, LOG_TIME, append, find, insert, prove, retract
from observer.tcp.handshake import echoes_first
from observer.tcp.layout import (
    D_ACK_OF_FIN,
    D_FIN,
    E_CANDIDATE_FRAME,
    E_CANDIDATE_TIME,
    E_CONTIGUOUS,
    E_DATA_FRAME,
    E_DATA_TIME,
    E_END_TIME,
    E_FIN,
    E_FLAGS,
    E_SND_MAX,
    E_STATE,
    E_TRAITS,
    F_AHEAD,
    F_CANDIDATE,
    F_CONTRADICTED,
    F_FIN,
    F_HALF_TOLD,
    F_SND,
    G_RULES_OFF,
    RULE_CLOSING,
    RULE_FIN_CONTIGUOUS,
    RULE_FIN_INSERT,
    RULE_FIN_LOST,
    RULE_LAST_ACK_LOST,
    RULE_STICKY,
    TRAIT_STAMP,
    TRAIT_STAMPED,
)
from observer.tcp.sequence import add, diff, ge, gt
from observer.tcp.states import (
    ACKNOWLEDGED,
    ASSUMED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    RCV_ACK_OF_FIN,
    RCV_FIN,
    SENT,
    SND_FIN,
    SYN_RECEIVED,
    TIME_WAIT,
)
from observer.tcp.timers import round_trip


@kernel
def covers_fin(flows: Int64s, y: int, ack: int) -> bool:
    """Whether an acknowledgment covers y's FIN: by its very number, as nothing lies behind a FIN (RFC 9293 3.4).

    Who acknowledges more than that has other octets of y than the tap, and drops the FIN as old.
    """
    return flows[y + E_FLAGS] & F_FIN != 0 and ack == add(flows[y + E_FIN], 1)


@kernel
def is_duplicate_sack(rows: Int64s, s: int) -> bool:
    """Whether the first SACK block tells of octets received twice (RFC 2883: it lies below the acknowledgment)."""
    return rows[s + OPTIONS] & HAS_SACK != 0 and ge(rows[s + ACK], rows[s + SACK_RIGHT])


@kernel
def waits_for_fin(state: int) -> bool:
    return state in (ESTABLISHED, SYN_RECEIVED, FIN_WAIT_1, FIN_WAIT_2)


@kernel
def ack_proves(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """y has sent FIN; x's acknowledgment says whether x had received it."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    if covers_fin(flows, y, rows[s + ACK]):
        fin_received(flows, log, g, x, y, rows, s)
        if rows[s + LENGTH] and not flows[x + E_FLAGS] & F_HALF_TOLD:
            flows[x + E_FLAGS] |= F_HALF_TOLD
            note(flows, events, g, flow, y, HALF_CLOSED, rows[s + LENGTH], time, frame)
    elif flows[x + E_FLAGS] & D_FIN:
        at = find(flows, log, x, RCV_FIN)
        passed = log[(at - 1) * LOG_STRIDE + LOG_TIME] if at else time
        own_fin = rows[s + FLAGS] & FIN
        if own_fin and flows[x + E_FLAGS] & F_FIN == 0:
            if not g[G_RULES_OFF] & RULE_CLOSING:
                crossed_fins(flows, log, events, g, flow, x, rows, s)
        elif time > passed + round_trip(flows, flow) and not g[G_RULES_OFF] & RULE_FIN_LOST:
            retract(flows, log, g, x, RCV_FIN, frame)
            note(flows, events, g, flow, x, RETRACTION, RCV_FIN, time, frame)
    return 0


@kernel
def fin_received(flows: Int64s, log: Int64s, g: Int64s, x: int, y: int, rows: Int64s, s: int) -> int:
    """x acknowledges y's FIN, so it has received it: at which instant?"""
    frame = rows[s + FRAME]
    if is_ahead(flows, x, rows, s):
        flows[x + E_FLAGS] |= F_AHEAD
    if flows[x + E_FLAGS] & D_FIN:
        moved = flows[x + E_FLAGS] & F_CANDIDATE and not is_duplicate_sack(rows, s)
        if moved and not g[G_RULES_OFF] & RULE_FIN_INSERT and not echoes_first(flows, g, y, rows, s):
            # y repeated its FIN before x acknowledged it, and x did not get it twice: the first was lost
            move_ack_of_fin(flows, log, g, x, frame)
            retract(flows, log, g, x, RCV_FIN, frame)
            insert_fin(
                flows, log, g, x, flows[x + E_CANDIDATE_TIME], flows[x + E_CANDIDATE_FRAME], rows[s + TIME], frame
            )
        else:
            prove(flows, log, x, RCV_FIN, frame)
    elif waits_for_fin(flows[x + E_STATE]) and not g[G_RULES_OFF] & RULE_FIN_INSERT:
        # What let x take the FIN is the last of y's segments that carried anything.
        insert_fin(flows, log, g, x, flows[y + E_DATA_TIME], flows[y + E_DATA_FRAME], rows[s + TIME], frame)
    return 0


@kernel
def is_ahead(flows: Int64s, x: int, rows: Int64s, s: int) -> bool:
    """Whether x, which acknowledges y's FIN for the first time, has sent one octet that the tap has not seen.

    If that turns out to be its own FIN, lost before the tap, then x had sent it when y's came: they crossed.  Not if y
    had to repeat its FIN: then the acknowledgment before this one may be lost, too.
    """
    kept = flows[x + E_FLAGS]
    first = not kept & (F_FIN | F_CANDIDATE) and (kept & D_FIN != 0 or waits_for_fin(flows[x + E_STATE]))
    alone = rows[s + LENGTH] == 0 and rows[s + FLAGS] & FIN == 0
    return first and alone and kept & F_SND != 0 and diff(rows[s + SEQ], flows[x + E_SND_MAX]) == 1


@kernel
def insert_fin(flows: Int64s, log: Int64s, g: Int64s, x: int, time: int, passed: int, now: int, frame: int) -> int:
    """x has received the FIN that passed at `time` in frame `passed`, as it says now in `frame`.

    Where x could not take a FIN at that instant (its opening is known from later segments only), it counts from now.
    """
    if insert(flows, log, g, x, RCV_FIN, ACKNOWLEDGED, time, passed, frame):
        enter_time_wait(flows, x, time)
    elif append(flows, log, g, x, RCV_FIN, ACKNOWLEDGED, now, frame):
        enter_time_wait(flows, x, now)
    return 0


@kernel
def move_ack_of_fin(flows: Int64s, log: Int64s, g: Int64s, x: int, frame: int) -> int:
    """The segment with y's first FIN never arrived: nor did the acknowledgment of x's FIN in that same segment."""
    fin, ack = find(flows, log, x, RCV_FIN), find(flows, log, x, RCV_ACK_OF_FIN)
    same = fin and ack and log[(fin - 1) * LOG_STRIDE + LOG_FRAME] == log[(ack - 1) * LOG_STRIDE + LOG_FRAME]
    if same and flows[x + E_FLAGS] & D_ACK_OF_FIN:
        retract(flows, log, g, x, RCV_ACK_OF_FIN, frame)
        insert(flows, log, g, x, RCV_ACK_OF_FIN, ACKNOWLEDGED,
               flows[x + E_CANDIDATE_TIME], flows[x + E_CANDIDATE_FRAME], frame)  # fmt: skip
    return 0


@kernel
def enter_time_wait(flows: Int64s, x: int, time: int) -> int:
    """Start the 2 MSL timer if x has just come to TIME-WAIT."""
    if flows[x + E_STATE] == TIME_WAIT:
        flows[x + E_END_TIME] = time
    return 0


@kernel
def crossed_fins(flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, rows: Int64s, s: int) -> int:
    """x sends its FIN without acknowledging y's: it had not received it.  Both go through CLOSING to TIME-WAIT."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    retract(flows, log, g, x, RCV_FIN, frame)
    append(flows, log, g, x, SND_FIN, SENT, time, frame)
    append(flows, log, g, x, RCV_FIN, ASSUMED, time, frame)
    flows[x + E_FLAGS] &= ~F_CANDIDATE  # a repeat that passed before did not arrive either
    note(flows, events, g, flow, x, SIMULTANEOUS_CLOSE, 0, time, frame)
    return 0


@kernel
def crossed_unseen(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, fin: int, time: int, frame: int
) -> int:
    """The tap sees x's FIN for the first time: log it and return 1 if x had sent it before y's came (`is_ahead`)."""
    at = find(flows, log, x, RCV_FIN)
    if not at or not flows[x + E_FLAGS] & F_AHEAD or fin != flows[x + E_SND_MAX] or g[G_RULES_OFF] & RULE_CLOSING:
        return 0
    if flows[x + E_DATA_FRAME] > log[(at - 1) * LOG_STRIDE + LOG_PROOF]:
        return 0  # more octets have come since: the missing one was data
    came, passed = log[(at - 1) * LOG_STRIDE + LOG_TIME], log[(at - 1) * LOG_STRIDE + LOG_FRAME]
    if not insert(flows, log, g, x, SND_FIN, ACKNOWLEDGED, came, passed - 1, frame):
        return 0
    log[(find(flows, log, x, SND_FIN) - 1) * LOG_STRIDE + LOG_FRAME] = passed
    note(flows, events, g, flow, x, SIMULTANEOUS_CLOSE, 0, time, frame)
    return 1


@kernel
def fin_sent(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x sends FIN: the first time, or again."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    fin = add(rows[s + SEQ], rows[s + LENGTH])
    if not flows[x + E_FLAGS] & F_FIN:
        flows[x + E_FLAGS] |= F_FIN
        flows[x + E_FIN] = fin
        flows[x + E_TRAITS] &= (1 << TRAIT_STAMP) - 1
        if rows[s + OPTIONS] & HAS_TIMESTAMPS:
            flows[x + E_TRAITS] |= TRAIT_STAMPED | (rows[s + TS_VALUE] & 0xFFFFFFFF) << TRAIT_STAMP
        else:
            flows[x + E_TRAITS] &= ~TRAIT_STAMPED
        if not crossed_unseen(flows, log, events, g, flow, x, fin, time, frame):
            append(flows, log, g, x, SND_FIN, SENT, time, frame)
        return 0
    if flows[x + E_FLAGS] & D_ACK_OF_FIN:
        at = find(flows, log, x, RCV_ACK_OF_FIN)
        if (
            at
            and time > log[(at - 1) * LOG_STRIDE + LOG_TIME] + round_trip(flows, flow)
            and not g[G_RULES_OFF] & RULE_LAST_ACK_LOST
        ):
            # it repeats its FIN: the acknowledgment that passed the tap never arrived
            retract(flows, log, g, x, RCV_ACK_OF_FIN, frame)
            note(flows, events, g, flow, x, RETRACTION, RCV_ACK_OF_FIN, time, frame)
    if flows[y + E_FLAGS] & D_FIN and not flows[y + E_FLAGS] & F_CANDIDATE:
        flows[y + E_CANDIDATE_TIME] = time
        flows[y + E_CANDIDATE_FRAME] = frame
        flows[y + E_FLAGS] |= F_CANDIDATE
    return 0


@kernel
def fin_towards(flows: Int64s, log: Int64s, g: Int64s, x: int, y: int, time: int, frame: int) -> int:
    """x's FIN (or what was missing before it) passes towards y: y receives it if no octet before it is missing."""
    whole = gt(flows[x + E_CONTIGUOUS], flows[x + E_FIN]) or g[G_RULES_OFF] & RULE_FIN_CONTIGUOUS
    if flows[y + E_STATE] == SYN_RECEIVED and flows[y + E_FLAGS] & F_CONTRADICTED and not g[G_RULES_OFF] & RULE_STICKY:
        return 0  # it drops everything until it takes the handshake's ACK (see ack_towards)
    if whole and waits_for_fin(flows[y + E_STATE]) and find(flows, log, y, RCV_FIN) == 0:
        append(flows, log, g, y, RCV_FIN, ASSUMED, time, frame)
        flows[y + E_FLAGS] &= ~F_CANDIDATE
        enter_time_wait(flows, y, time)
    return 0


@kernel
def ack_of_fin_towards(flows: Int64s, log: Int64s, g: Int64s, y: int, ack: int, time: int, frame: int) -> int:
    """An acknowledgment of y's FIN passes towards y."""
    if covers_fin(flows, y, ack) and append(flows, log, g, y, RCV_ACK_OF_FIN, ASSUMED, time, frame):
        enter_time_wait(flows, y, time)
    return 0
