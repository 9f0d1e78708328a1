"""Resets and ICMP errors: who closed, and whether the other side can have accepted it.

Sources: RFC 9293 3.5.2 and 3.5.3; RFC 5961 3 and 4; RFC 1122 4.2.3.9; fingerprints measured on Linux.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.segments import (
    ACK,
    ACK_FLAG,
    FLAGS,
    FRAME,
    HAS_TIMESTAMPS,
    IP_ID,
    OPTIONS,
    SEQ,
    TIME,
    TTL,
    WINDOW,
)
from observer.tcp.analysis import ACKING
from observer.tcp.archive import row_of
from observer.tcp.events import (
    EV_DATA_GAP,
    EV_FACTS,
    EV_GAP,
    EV_OWN_GAP,
    EVENT_STRIDE,
    OLD_RESET,
    REFUSED,
    RESET,
    RESET_FORGED,
    RESET_IGNORED,
    RETRACTION,
    RST_ACCEPTABLE,
    RST_ACKS_ALL,
    RST_ACKS_FIN,
    RST_ANSWERS_SYN,
    RST_AT_LAST_ACK,
    RST_AT_NEXT,
    RST_BEHIND,
    RST_BEYOND,
    RST_FIRST,
    RST_FROM_SOCKET,
    RST_IDENTIFIED,
    RST_NUMBER,
    RST_OTHER_TTL,
    RST_STAMPED,
    RST_UNACKED,
    RST_WINDOW,
    note,
)
from observer.tcp.evidence import LOG_STRIDE, LOG_TIME, append, find, prove, retract
from observer.tcp.flowtable import old_roles_equal
from observer.tcp.layout import (
    A_ACK,
    A_ACK_TIME,
    A_FLAGS,
    CLIENT,
    D_ACK_OF_SYN,
    D_FIN,
    D_SYNACK,
    E_ACKED,
    E_COUNTS_3,
    E_DATA_TIME,
    E_END_TIME,
    E_FIN,
    E_FLAGS,
    E_ISS,
    E_SND_MAX,
    E_STATE,
    F_ACKED,
    F_CHALLENGED,
    F_FIN,
    F_FORGED,
    F_ISS,
    F_OTHER,
    F_RST,
    F_SND,
    F_SYN,
    F_SYNACK,
    FLOW_FLAGS,
    FLOW_TOUCHED,
    G_EVENTS,
    G_FIN_TIMEOUT,
    G_RULES_OFF,
    PREVIOUS,
    RULE_CHALLENGE,
    RULE_NEVER_ESTABLISHED,
    RULE_RST_FORGED,
    RULE_RST_WINDOW,
    SERVER,
)
from observer.tcp.sequence import add, diff, ge, gt, le
from observer.tcp.states import (
    ASSUMED,
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    EXPIRE,
    FIN_WAIT_2,
    LAST_ACK,
    RCV_ACK_OF_FIN,
    RCV_ACK_OF_SYN,
    RCV_FIN,
    RCV_RST,
    RCV_SYNACK,
    SENT,
    SND_RST,
    SYN_SENT,
    TIME_WAIT,
    TIMER,
    UNKNOWN,
)
from observer.tcp.timers import run_timers

BASELINE: Final = 3  # segments in a row with the same TTL before another TTL means anything (measured)


@kernel
def is_forged(flows: Int64s, g: Int64s, x: int, rows: Int64s, s: int) -> int:
    """How far the RST's TTL is from what x's segments always had; 0: not at all, or nothing is known."""
    kept = flows[x + E_COUNTS_3] >> 32
    if kept & 0xFF < BASELINE or g[G_RULES_OFF] & RULE_RST_FORGED:
        return 0
    return rows[s + TTL] - (kept >> 8)


@kernel
def reset(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, streams: Int64s, flow: int, x: int, y: int,
    rows: Int64s, s: int,
) -> int:  # fmt: skip
    """A RST from x to y: the sender's side, then the receiver's."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    bare = rows[s + FLAGS] & ACK_FLAG == 0
    forged = is_forged(flows, g, x, rows, s)
    if bare and flows[x + E_STATE] == SYN_SENT and answers_challenge(flows, g, flow, y, rows[s + SEQ]):
        # RFC 9293 3.5.1, figure 9: the opener resets what is left of the old incarnation and keeps opening
        old = previous_flow(flows, log, g, streams, flow)
        if old >= 0:
            same = old_roles_equal(streams, flows, flow, old)
            y_old = old + (y - flow) if same else old + CLIENT + SERVER - (y - flow)
            run_timers(flows, log, g, old, time)
            flows[old + FLOW_FLAGS] |= FLOW_TOUCHED
            append(flows, log, g, y_old, RCV_RST, ASSUMED, time, frame)
            note(flows, events, g, flow, x, OLD_RESET, flows[flow + PREVIOUS] - 1, time, frame)
        return 0
    describe(flows, events, g, x, y, rows, s)
    note(flows, events, g, flow, x, RESET, 0 if bare else 1, time, frame)
    if forged:
        note(flows, events, g, flow, x, RESET_FORGED, forged, time, frame)
        flows[x + E_FLAGS] |= F_FORGED
    else:
        reset_sent(flows, log, events, g, flow, x, y, rows, s)
    reset_towards(flows, log, events, g, flow, x, y, rows, s)
    return 0


@kernel
def describe(flows: Int64s, events: Int64s, g: Int64s, x: int, y: int, rows: Int64s, s: int) -> int:
    """What x's RST looks like, and how its numbers stand to what both sent, into the event that is noted next."""
    flags, seq, ack = rows[s + FLAGS], rows[s + SEQ], rows[s + ACK]
    mine, theirs = flows[x + E_FLAGS], flows[y + E_FLAGS]
    facts = (1 if rows[s + WINDOW] else 0) * RST_WINDOW
    facts |= (1 if rows[s + OPTIONS] & HAS_TIMESTAMPS else 0) * RST_STAMPED
    facts |= (1 if rows[s + IP_ID] else 0) * RST_IDENTIFIED
    if flows[y + A_FLAGS] & ACKING and seq == flows[y + A_ACK]:
        facts |= RST_AT_LAST_ACK
    if mine & F_SND:
        ahead = diff(seq, flows[x + E_SND_MAX])
        facts |= RST_AT_NEXT if ahead == 0 else (RST_BEYOND if ahead > 0 else RST_BEHIND)
    else:
        facts |= RST_FIRST
    octets = flows[y + E_FIN] if theirs & F_FIN else flows[y + E_SND_MAX]  # the end of y's octets
    if flags & ACK_FLAG:
        facts |= RST_FROM_SOCKET
        if theirs & F_SND and ge(ack, octets) and le(ack, flows[y + E_SND_MAX]):
            facts |= RST_ACKS_ALL
        if theirs & F_FIN and gt(ack, flows[y + E_FIN]):
            facts |= RST_ACKS_FIN
        if seq == 0 and theirs & F_SYN and ack == flows[y + E_SND_MAX]:
            facts |= RST_ANSWERS_SYN
    if mine & F_ACKED and theirs & F_SND and gt(octets, flows[x + E_ACKED]):
        facts |= RST_UNACKED
    if is_acceptable(flows, g, x, y, rows, s):
        facts |= RST_ACCEPTABLE
    kept = flows[x + E_COUNTS_3]
    if kept >> 32 and kept >> 40 != rows[s + TTL]:
        facts |= RST_OTHER_TTL
    relative = diff(seq, flows[x + E_ISS]) if mine & F_ISS else 0
    at = g[G_EVENTS] * EVENT_STRIDE
    events[at + EV_FACTS] = facts | (relative & 0x7FFFFFFF) << RST_NUMBER
    events[at + EV_GAP] = rows[s + TIME] - flows[y + A_ACK_TIME] if flows[y + A_ACK_TIME] else -1
    events[at + EV_DATA_GAP] = rows[s + TIME] - flows[y + E_DATA_TIME] if flows[y + E_DATA_TIME] else -1
    events[at + EV_OWN_GAP] = rows[s + TIME] - flows[x + E_DATA_TIME] if flows[x + E_DATA_TIME] else -1
    return 0


@kernel
def answers_challenge(flows: Int64s, g: Int64s, flow: int, y: int, seq: int) -> bool:
    """Whether a bare RST with this number answers an ACK that y sent with an old incarnation's numbers."""
    unopened = flows[y + E_FLAGS] & (F_SYN | F_SYNACK | F_CHALLENGED) == F_CHALLENGED
    return unopened and seq == flows[y + A_ACK] and g[G_RULES_OFF] & RULE_CHALLENGE == 0


@kernel
def previous_flow(flows: Int64s, log: Int64s, g: Int64s, streams: Int64s, flow: int) -> int:
    """First cell of the flow of the incarnation before on this 4-tuple; -1: none with more than one segment."""
    stream = flows[flow + PREVIOUS]
    if not stream:
        return -1
    return row_of(streams, flows, log, g, stream - 1)


@kernel
def reset_sent(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x resets: it has no connection from here on, and for some RSTs it never had one."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    flags = flows[x + E_FLAGS]
    bare = rows[s + FLAGS] & ACK_FLAG == 0
    if flags & D_SYNACK and not flags & F_OTHER:
        if bare and not g[G_RULES_OFF] & RULE_NEVER_ESTABLISHED:
            # a bare RST answers the SYN-ACK: nobody waited for it (half-open scan, cancelled connect())
            retract(flows, log, g, x, RCV_SYNACK, frame)
            note(flows, events, g, flow, x, RETRACTION, RCV_SYNACK, time, frame)
        elif not bare:
            prove(flows, log, x, RCV_SYNACK, frame)
    if flags & D_ACK_OF_SYN and flags & F_SYNACK and not flags & F_OTHER:
        if bare and not g[G_RULES_OFF] & RULE_NEVER_ESTABLISHED:
            # a server that only ever sent SYN-ACKs, then a RST from no socket: it never had a connection
            retract(flows, log, g, x, RCV_ACK_OF_SYN, frame)
            note(flows, events, g, flow, x, RETRACTION, RCV_ACK_OF_SYN, time, frame)
        elif not bare:
            prove(flows, log, x, RCV_ACK_OF_SYN, frame)
    if flows[x + E_STATE] == TIME_WAIT and bare and flags & D_FIN and not g[G_RULES_OFF] & RULE_NEVER_ESTABLISHED:
        # TIME-WAIT answers a FIN by an ACK: a bare RST says that nobody was there any more to receive it
        retract(flows, log, g, x, RCV_FIN, frame)
        note(flows, events, g, flow, x, RETRACTION, RCV_FIN, time, frame)
    if flows[x + E_STATE] == FIN_WAIT_2 and bare:
        expired_fin_wait(flows, log, g, x, time)
    if flows[x + E_STATE] == CLOSED and flows[y + E_STATE] == SYN_SENT:
        note(flows, events, g, flow, x, REFUSED, 0, time, frame)
    if flows[x + E_STATE] != UNKNOWN:
        append(flows, log, g, x, SND_RST, SENT, time, frame)
    flows[x + E_FLAGS] |= F_RST
    return 0


@kernel
def expired_fin_wait(flows: Int64s, log: Int64s, g: Int64s, x: int, time: int) -> int:
    """A bare RST from FIN-WAIT-2 long after it was entered: the socket had been closed and its timer had run out."""
    at = find(flows, log, x, RCV_ACK_OF_FIN)
    if at:
        due = log[(at - 1) * LOG_STRIDE + LOG_TIME] + g[G_FIN_TIMEOUT]
        if time > due:
            append(flows, log, g, x, EXPIRE, TIMER, due, log[(at - 1) * LOG_STRIDE + 1])
    return 0


@kernel
def is_acceptable(flows: Int64s, g: Int64s, x: int, y: int, rows: Int64s, s: int) -> bool:
    """Whether y can have accepted x's RST (RFC 5961 3.2: its number is RCV.NXT; in SYN-SENT it acknowledges the SYN).

    y's RCV.NXT lies between what y has acknowledged and what x has sent.  Behind x's FIN, Linux takes the number of the
    FIN as well (tcp_reset_check, net/ipv4/tcp_input.c): who sent it before it heard of the FIN meant the same.
    """
    state = flows[y + E_STATE]
    flags = flows[y + E_FLAGS]
    if state == SYN_SENT:
        ack = rows[s + ACK]
        return rows[s + FLAGS] & ACK_FLAG != 0 and gt(ack, flows[y + E_ISS]) and le(ack, flows[y + E_SND_MAX])
    if g[G_RULES_OFF] & RULE_RST_WINDOW:
        return True
    seq = rows[s + SEQ]
    if flags & F_ACKED:
        low = flows[y + E_ACKED]
    elif flows[x + E_FLAGS] & F_ISS:
        low = add(flows[x + E_ISS], 1)
    else:
        return True
    if not flows[x + E_FLAGS] & F_SND:
        return seq == low
    if state in (CLOSE_WAIT, LAST_ACK, CLOSING) and flows[x + E_FLAGS] & F_FIN:
        if seq == flows[x + E_FIN] and low == add(seq, 1):
            return True
    high = flows[x + E_SND_MAX]
    return ge(seq, low) and (le(seq, high) or seq == low)


@kernel
def reset_towards(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x's RST passes towards y."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    state = flows[y + E_STATE]
    if state in (CLOSED, UNKNOWN):
        return 0
    if is_acceptable(flows, g, x, y, rows, s):
        append(flows, log, g, y, RCV_RST, ASSUMED, time, frame)
        flows[y + E_END_TIME] = time
    else:
        note(flows, events, g, flow, x, RESET_IGNORED, 0, time, frame)
    return 0
