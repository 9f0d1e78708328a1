"""Time-outs that were due: what happens to an endpoint without any segment.

Looked at when the flow's next segment comes and at the end of the capture; each takes effect at the instant at
which it was due, so it does not matter when one looks.  Sources: RFC 9293 3.4.2 and 3.8.3; the schedules are
those of the stack profile (options.py), their tolerances measured against Linux's timer wheel.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.tcp.evidence import append, insert, retract
from observer.tcp.layout import (
    CLIENT,
    D_ACK_OF_SYN,
    D_END,
    E_END_TIME,
    E_FLAGS,
    E_OPEN_FIRST,
    E_OPEN_FRAME,
    E_OPEN_LAST,
    E_OPENINGS,
    E_RETX_COUNT,
    E_RETX_GAP,
    E_RETX_TIME,
    E_STATE,
    F_CALM,
    F_CONTRADICTED,
    F_DEFERRED,
    F_OTHER,
    F_SYN,
    F_SYNACK,
    FIRST_RTT,
    G_RULES_OFF,
    G_SYNACK_FIRST,
    G_TIME_WAIT,
    LAST_FRAME,
    RTT_CLIENT,
    RTT_SERVER,
    RULE_GIVE_UP,
    RULE_STATELESS,
    RULE_SYNACK_EXPIRY,
    RULE_TIME_WAIT,
    SERVER,
)
from observer.tcp.states import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    EXPIRE,
    FIN_WAIT_1,
    GIVE_UP,
    LAST_ACK,
    RCV_ACK_OF_SYN,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TIMER,
)

LONGEST_NS: Final = 86_400_000_000_000  # a day: clocks of damaged captures leap by centuries, whose sums leave 64 bits
UNKNOWN_TRIP_NS: Final = (
    200_000_000  # a round trip where none was measured: generous, so that nothing is concluded early
)
TRIP_MARGIN_NS: Final = 1_000_000  # scheduling of the endpoint's host
STATELESS_DATA_NS: Final = 1_300_000_000  # three copies of the client's data take longer than this (measured)
LATEST: Final = 4  # as a shift: a timer of seconds fires late by up to 1/16, so that is when it surely had (measured)
LEAST_RTO_NS: Final = 200_000_000  # Linux TCP_RTO_MIN (include/net/tcp.h): a quicker repeat is no time-out's
GIVE_UP_AFTER: Final = 3  # retransmissions before silence is taken for giving up (measured)


@kernel
def round_trip(flows: Int64s, flow: int) -> int:
    """ns that surely suffice from one endpoint to the other and back, with some margin."""
    client, server = flows[flow + RTT_CLIENT], flows[flow + RTT_SERVER]
    if client and server:
        trip = min(client, LONGEST_NS) + min(server, LONGEST_NS)
    elif flows[flow + FIRST_RTT] > 0:  # not where the capture's clock ran backwards
        trip = flows[flow + FIRST_RTT]
    else:
        trip = UNKNOWN_TRIP_NS
    trip = min(trip, LONGEST_NS)
    return trip + (trip >> 3) + TRIP_MARGIN_NS


@kernel
def run_timers(flows: Int64s, log: Int64s, g: Int64s, flow: int, now: int) -> int:
    """Everything that was due at both endpoints before `now`."""
    client, server = flow + CLIENT, flow + SERVER
    if not flows[client + E_FLAGS] & F_CALM:
        run_endpoint(flows, log, g, flow, client, server, now)
    if not flows[server + E_FLAGS] & F_CALM:
        run_endpoint(flows, log, g, flow, server, client, now)
    return 0


@kernel
def run_endpoint(flows: Int64s, log: Int64s, g: Int64s, flow: int, x: int, y: int, now: int) -> int:
    """Everything that was due at x before `now`; y is its peer."""
    state = flows[x + E_STATE]
    if state == TIME_WAIT:
        due = flows[x + E_END_TIME] + g[G_TIME_WAIT]
        if now > due and not g[G_RULES_OFF] & RULE_TIME_WAIT:
            append(flows, log, g, x, EXPIRE, TIMER, due, flows[flow + LAST_FRAME])
    elif state == SYN_RECEIVED:
        if flows[x + E_FLAGS] & (F_SYNACK | F_SYN) == F_SYNACK:
            expire_request(flows, log, g, flow, x, y, now)
    elif flows[x + E_RETX_COUNT] >= GIVE_UP_AFTER:
        give_up(flows, log, g, flow, x, now)
    return 0


@kernel
def expire_request(flows: Int64s, log: Int64s, g: Int64s, flow: int, x: int, y: int, now: int) -> int:
    """A SYN-ACK is repeated on a fixed schedule; one that is missing says that the request was dropped at that time.

    Without any repeat and without an answer the listener kept nothing to repeat from: a stateless (SYN cookie)
    answer, and the endpoint was CLOSED again right behind its SYN-ACK.
    """
    first, last, delay = flows[x + E_OPEN_FIRST], flows[x + E_OPEN_LAST], g[G_SYNACK_FIRST]
    if flows[x + E_OPENINGS] >> 32 == 1 and not flows[y + E_FLAGS] & F_OTHER:
        if now > first + delay + (delay * 3) // 10 and not g[G_RULES_OFF] & RULE_STATELESS:
            insert(flows, log, g, x, EXPIRE, TIMER, first, flows[x + E_OPEN_FRAME], 0)
        return 0
    if g[G_RULES_OFF] & RULE_SYNACK_EXPIRY:
        return 0
    due = first + delay
    while due <= last + delay // 20 and delay < LONGEST_NS:  # a repeat is never early, and late by 6 % at most
        delay *= 2
        due += delay
    if last >= due - delay and last <= due - delay + (delay >> 3):
        due = last + delay  # each timer starts when the one before it fired, late as that may have been
    if now > due + (delay * 3) // 10:
        append(flows, log, g, x, EXPIRE, TIMER, due + (delay >> LATEST), flows[flow + LAST_FRAME])
    return 0


@kernel
def stateless_server(flows: Int64s, log: Int64s, g: Int64s, x: int, y: int, now: int, frame: int) -> int:
    """Client x repeats its data: had server y a connection, it would have answered by now.

    One SYN-ACK, nothing else from y, and the data sent three times over more than 1.3 s: y kept no request
    (a SYN cookie whose ACK met a full accept queue).  Then it was CLOSED right behind its SYN-ACK.
    """
    if (
        flows[y + E_FLAGS] & (F_SYNACK | F_OTHER | D_ACK_OF_SYN | F_CONTRADICTED | F_DEFERRED)
        == F_SYNACK | D_ACK_OF_SYN
        and flows[y + E_OPENINGS] >> 32 == 1
        and flows[x + E_RETX_COUNT] >= 2
        and now - flows[y + E_OPEN_FIRST] > STATELESS_DATA_NS
        and not g[G_RULES_OFF] & RULE_STATELESS
    ):
        retract(flows, log, g, y, RCV_ACK_OF_SYN, frame)
        insert(flows, log, g, y, EXPIRE, TIMER, flows[y + E_OPEN_FIRST], flows[y + E_OPEN_FRAME], 0)
        return 1
    return 0


@kernel
def give_up(flows: Int64s, log: Int64s, g: Int64s, flow: int, x: int, now: int) -> int:
    """Retransmissions with back-off that end in silence: the sender gave up when the next one was due."""
    state = flows[x + E_STATE]
    if state not in (SYN_SENT, ESTABLISHED, FIN_WAIT_1, CLOSE_WAIT, CLOSING, LAST_ACK):
        return 0
    wait = 2 * min(max(flows[x + E_RETX_GAP], LEAST_RTO_NS), LONGEST_NS)
    if now > flows[x + E_RETX_TIME] + wait + (wait * 3) // 10 and not g[G_RULES_OFF] & RULE_GIVE_UP:
        append(flows, log, g, x, GIVE_UP, TIMER, flows[x + E_RETX_TIME] + wait, flows[flow + LAST_FRAME])
        flows[x + E_FLAGS] |= D_END
        flows[x + E_RETX_COUNT] = 0
    return 0
