"""One segment: the order of work (see states.py), and what its sender's being alive corrects.

Never looks into octets: a segment is a row of cells.
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
    ICMP_CODE,
    ICMP_TYPE,
    LENGTH,
    REPORTER,
    RST,
    SEQ,
    SYN,
    TIME,
    TTL,
    VERSION,
)
from observer.tcp.bookkeeping import account, sequence
from observer.tcp.closing import ack_of_fin_towards, ack_proves, fin_sent, fin_towards
from observer.tcp.events import (
    DUPLICATE_FRAME,
    EV_ADDRESS,
    EVENT_STRIDE,
    ICMP_ERROR,
    RETRACTION,
    note,
)
from observer.tcp.evidence import append, retract, retract_end
from observer.tcp.flowtable import pack
from observer.tcp.handshake import ack_towards, speaks, syn_sent, syn_towards, synack_sent, synack_towards
from observer.tcp.layout import (
    A_NEXT,
    CLIENT,
    D_ACK_OF_SYN,
    D_END,
    D_RST,
    DOUBTS,
    E_CONTIGUOUS,
    E_COUNTS_3,
    E_END_TIME,
    E_FLAGS,
    E_ISS,
    E_RETX_COUNT,
    E_SND_MAX,
    E_STATE,
    F_ACK_NOTED,
    F_CALM,
    F_DATA_NOTED,
    F_FIN,
    F_ISLAND,
    F_OTHER,
    F_RST,
    F_SYN,
    F_TTL,
    F_TTL_ODD,
    F_ZERO_WINDOW,
    G_DUPLICATES,
    G_EVENTS,
    G_RULES_OFF,
    MARK_DUPLICATE_FRAME,
    RTT_CLIENT,
    RTT_SERVER,
    RULE_ALIVE,
    RULE_ICMP,
    RULE_RST_RETRACT,
    SERVER,
    Z_FLAGS,
)
from observer.tcp.resets import BASELINE, reset
from observer.tcp.states import ASSUMED, ESTABLISHED, ICMP, RCV_RST, SND_RST, SYN_RECEIVED, SYN_SENT
from observer.tcp.timers import round_trip, run_timers
from observer.tcp.zeek_cells import QUICK, SEEN_ACK, SEEN_DATA, Z_LAST

LOW: Final = 0xFFFFFFFF
CALM_MASK: Final = DOUBTS | F_FIN | F_RST | F_ISLAND | F_ZERO_WINDOW  # any of these wants the whole inference
REORDERED_NS: Final = 3_000_000  # frames overtake each other on their way to the tap by this much (Wireshark's rule)
HIGH_ONE: Final = 1 << 32  # one more in the upper half of a cell that counts two things


@kernel
def infer(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, streams: Int64s, flow: int, x: int, y: int,
    rows: Int64s, s: int, marks: int,
) -> int:  # fmt: skip
    """All that a segment x -> y says about the states of both endpoints, and the accounting of what is not plain."""
    time, frame, flags = rows[s + TIME], rows[s + FRAME], rows[s + FLAGS]
    # 1. timers that were due before it
    run_timers(flows, log, g, flow, time)
    if marks & MARK_DUPLICATE_FRAME:
        # The capture repeats itself; the endpoints sent nothing.
        g[G_DUPLICATES] += 1
        return note(flows, events, g, flow, x, DUPLICATE_FRAME, 0, time, frame)
    # 2. corrections because x evidently lives
    if not flags & RST:
        lives(flows, log, events, g, flow, x, time, frame, flags)
        # 3. and 4. what x's sending proves about x, and what its acknowledgment proves
        if flags & SYN == 0:
            speaks(flows, log, events, g, flow, x, y, rows, s)
            if flags & ACK_FLAG and flows[y + E_FLAGS] & F_FIN:
                ack_proves(flows, log, events, g, flow, x, y, rows, s)
        elif flags & ACK_FLAG:
            synack_sent(flows, log, events, g, flow, x, y, rows, s)
        else:
            syn_sent(flows, log, events, g, flow, x, y, rows, s)
        # 5. x's own FIN
        if flags & FIN:
            fin_sent(flows, log, events, g, flow, x, y, rows, s)
        if flags & SYN == 0 and flows[x + E_STATE]:
            flows[x + E_FLAGS] |= F_OTHER
    # 6. bookkeeping
    account(flows, events, g, flow, x, y, rows, s, marks)
    sequence(flows, log, events, g, flow, x, y, rows, s)
    # 7. what y may have received
    if flags & RST:
        reset(flows, log, events, g, streams, flow, x, y, rows, s)
    else:
        towards(flows, log, events, g, flow, x, y, rows, s)
        ttl(flows, x, rows[s + TTL])
    calm(flows, flow)
    return 0


@kernel
def lives(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, time: int, frame: int, flags: int
) -> int:
    """x sends something that is no RST: no end that was only assumed can have happened."""
    kept = flows[x + E_FLAGS]
    if kept & D_END and flags & SYN == 0 and not g[G_RULES_OFF] & RULE_ALIVE:
        if retract_end(flows, log, g, x, frame):
            note(flows, events, g, flow, x, RETRACTION, 0, time, frame)
    if (
        kept & D_RST
        and time > flows[x + E_END_TIME] + round_trip(flows, flow)
        and not g[G_RULES_OFF] & RULE_RST_RETRACT
    ):
        if retract(flows, log, g, x, RCV_RST, frame):
            note(flows, events, g, flow, x, RETRACTION, RCV_RST, time, frame)
    y = flow + CLIENT + SERVER - (x - flow)
    overtaken = 0 <= time - flows[y + E_END_TIME] < REORDERED_NS  # sent before the RST, or a copy: it says nothing
    if kept & F_RST and flags & SYN == 0 and not overtaken and not g[G_RULES_OFF] & RULE_RST_RETRACT:
        # an endpoint that has reset says nothing more but RST: the RST was not its own
        if retract(flows, log, g, x, SND_RST, frame):
            note(flows, events, g, flow, x, RETRACTION, SND_RST, time, frame)
        flows[x + E_FLAGS] &= ~F_RST
    return 0


@kernel
def towards(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """What y may have received of a segment that is no RST."""
    time, frame, flags, ack = rows[s + TIME], rows[s + FRAME], rows[s + FLAGS], rows[s + ACK]
    if flags & SYN:
        if flags & ACK_FLAG:
            synack_towards(flows, log, events, g, flow, x, y, ack, time, frame)
        else:
            syn_towards(flows, log, events, g, flow, x, y, time, frame)
        return 0
    if flags & ACK_FLAG:
        if flows[y + E_STATE] == SYN_RECEIVED:
            ack_towards(flows, log, g, flow, x, y, rows, s)
        if flows[y + E_FLAGS] & F_FIN:
            ack_of_fin_towards(flows, log, g, y, ack, time, frame)
    if flows[x + E_FLAGS] & F_FIN and (flags & FIN or rows[s + LENGTH] > 0):  # an ACK alone brings no FIN
        fin_towards(flows, log, g, x, y, time, frame)
    return 0


@kernel
def ttl(flows: Int64s, x: int, value: int) -> int:
    """Remember the TTL of x's segments and how many in a row had it."""
    kept = flows[x + E_COUNTS_3]
    if kept >> 32 == 0 or kept >> 40 != value:
        if kept >> 32:
            flows[x + E_FLAGS] |= F_TTL_ODD
        flows[x + E_COUNTS_3] = value << 40 | HIGH_ONE | kept & LOW
    elif kept >> 32 & 0xFF < 255:
        flows[x + E_COUNTS_3] = kept + HIGH_ONE
    return 0


@kernel
def calm(flows: Int64s, flow: int) -> int:
    """Set F_CALM where an endpoint's plain segments need no inference: nothing is assumed, nothing pending.

    That a server was assumed to have the handshake's ACK is proved or refuted by its own segments and by the client's
    repetitions only, so the client is calm already while it waits for the server's first word.
    """
    client, server = flow + CLIENT, flow + SERVER
    kept = flows[client + E_FLAGS] | flows[server + E_FLAGS]
    quiet = (
        flows[client + E_STATE] == ESTABLISHED
        and flows[server + E_STATE] == ESTABLISHED
        and kept & CALM_MASK & ~D_ACK_OF_SYN == 0
        and flows[client + E_RETX_COUNT] + flows[server + E_RETX_COUNT] == 0
        and flows[flow + RTT_CLIENT] != 0
        and flows[flow + RTT_SERVER] != 0
        and flows[client + Z_FLAGS] & flows[server + Z_FLAGS] & QUICK != 0
        and flows[client + Z_LAST] == flows[client + A_NEXT]
        and flows[server + Z_LAST] == flows[server + A_NEXT]
        # what `wake` brings up to date must be so now: no hole, no probe's octet that the analysis does not count
        and flows[client + E_SND_MAX] == flows[client + A_NEXT]
        and flows[server + E_SND_MAX] == flows[server + A_NEXT]
        and flows[client + E_CONTIGUOUS] == flows[client + A_NEXT]
        and flows[server + E_CONTIGUOUS] == flows[server + A_NEXT]
    )
    settle(flows, client, quiet)
    settle(flows, server, quiet)
    return 0


@kernel
def settle(flows: Int64s, x: int, quiet: int) -> int:
    """Write F_CALM and what goes with it."""
    flags = flows[x + E_FLAGS] & LOW & ~(F_CALM | F_DATA_NOTED | F_ACK_NOTED)
    # a new TTL has lasted long enough: while calm it is only compared (see track.py)
    if quiet and not flags & D_ACK_OF_SYN and flows[x + E_COUNTS_3] >> 32 & 0xFF >= BASELINE:
        flags |= F_CALM | (flows[x + E_COUNTS_3] >> 40) << F_TTL
        if flows[x + Z_FLAGS] & SEEN_DATA:
            flags |= F_DATA_NOTED
        if flows[x + Z_FLAGS] & SEEN_ACK:
            flags |= F_ACK_NOTED
    flows[x + E_FLAGS] = flags
    return 0


@kernel
def quoted(flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, rows: Int64s, s: int) -> int:
    """An ICMP error quotes a segment of x: a hard error while x is opening, a soft one later (RFC 1122 4.2.3.9)."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    run_timers(flows, log, g, flow, time)
    kind, code = rows[s + ICMP_TYPE], rows[s + ICMP_CODE]
    at = g[G_EVENTS] * EVENT_STRIDE + EV_ADDRESS
    events[at] = pack(rows[s + REPORTER], rows[s + REPORTER + 1])
    events[at + 1] = pack(rows[s + REPORTER + 2], rows[s + REPORTER + 3])
    note(flows, events, g, flow, x, ICMP_ERROR, kind * 256 + code, time, frame)
    # IPv4: 3 unreachable (4, fragmentation needed, is no error of the connection), 11 time exceeded, 12 parameter
    # problem; IPv6: 1 unreachable, 3 time exceeded, 4 parameter problem
    if rows[s + VERSION] == 4:
        hard = (kind == 3 and code != 4) or kind in (11, 12)
    else:
        hard = kind in (1, 3, 4)
    same = rows[s + SEQ] == flows[x + E_ISS] and flows[x + E_FLAGS] & F_SYN != 0
    if hard and same and flows[x + E_STATE] == SYN_SENT and not g[G_RULES_OFF] & RULE_ICMP:
        append(flows, log, g, x, ICMP, ASSUMED, time, frame)
    calm(flows, flow)
    return 0
