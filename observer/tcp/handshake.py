"""Opening: what a SYN, a SYN-ACK and the ACK of a SYN-ACK say about both endpoints.

The heart of it: a server that repeats its SYN-ACK has not taken the ACK that passed the tap; then it stays in
SYN-RECEIVED until it says something else.  Sources: RFC 9293 3.5 and 3.10.7; RFC 7413; the schedules were
measured against Linux.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.segments import (
    ACK,
    CWR,
    ECE,
    FLAGS,
    FRAME,
    HAS_FAST_OPEN,
    HAS_MSS,
    HAS_SACK_PERMITTED,
    HAS_SCALE,
    HAS_TIMESTAMPS,
    LENGTH,
    MSS,
    OPTIONS,
    SCALE,
    SEQ,
    TIME,
    TS_ECHO,
    TS_VALUE,
)
from observer.tcp.events import (
    CHALLENGE_ACK,
    DEFERRED_ACCEPT,
    ECN,
    FAST_OPEN,
    RETRACTION,
    SIMULTANEOUS_OPEN,
    SYN_RETRANSMITTED,
    SYNACK_AFTER_ACK,
    SYNACK_RETRANSMITTED,
    note,
)
from observer.tcp.evidence import append, insert, prove, retract, retract_end
from observer.tcp.layout import (
    CLIENT,
    D_ACK_OF_SYN,
    D_SYNACK,
    E_CANDIDATE_FRAME,
    E_CANDIDATE_TIME,
    E_DATA_FRAME,
    E_FLAGS,
    E_ISS,
    E_OPEN_FIRST,
    E_OPEN_FRAME,
    E_OPEN_LAST,
    E_OPENINGS,
    E_RETX_COUNT,
    E_SND_MAX,
    E_STATE,
    E_TAIL,
    E_TRAITS,
    F_CANDIDATE,
    F_CHALLENGED,
    F_CONTRADICTED,
    F_DEFERRED,
    F_ISS,
    F_OTHER,
    F_SND,
    F_SYN,
    F_SYNACK,
    F_UNKNOWN_START,
    FLOW_FAST_OPEN,
    FLOW_FLAGS,
    G_RULES_OFF,
    G_SYNACK_FIRST,
    HANDSHAKE,
    RTT_CLIENT,
    RTT_SERVER,
    RULE_ALIVE,
    RULE_ECHO,
    RULE_RETRACT_SYNACK,
    RULE_STICKY,
    TRAIT_ECN,
    TRAIT_FAST_OPEN,
    TRAIT_HAS_MSS,
    TRAIT_HAS_SCALE,
    TRAIT_SACK,
    TRAIT_SCALE,
    TRAIT_STAMP,
    TRAIT_STAMPED,
    TRAIT_SYN,
    TRAIT_TIMESTAMPS,
)
from observer.tcp.sequence import add, gt, le
from observer.tcp.states import (
    ACKNOWLEDGED,
    ASSUMED,
    CLOSED,
    MIDSTREAM,
    RCV_ACK_OF_SYN,
    RCV_SYN,
    RCV_SYNACK,
    SENT,
    SND_SYN,
    SND_SYNACK,
    SYN_RECEIVED,
    SYN_SENT,
    UNKNOWN,
)
from observer.tcp.timers import round_trip

LOW: Final = 0xFFFFFFFF
DEFERRED_NS: Final = 2_200_000_000  # a first repeat later than this, though 1 s is due, is deferred accept (measured)


@kernel
def traits(flows: Int64s, x: int, rows: Int64s, s: int, synack: int) -> int:
    """Keep what the options of a SYN or SYN-ACK say."""
    options = rows[s + OPTIONS]
    kept = TRAIT_SYN
    if options & HAS_MSS:
        kept |= TRAIT_HAS_MSS | rows[s + MSS] & 0xFFFF
    if options & HAS_SCALE:
        kept |= TRAIT_HAS_SCALE | (rows[s + SCALE] & 0xF) << TRAIT_SCALE
    if options & HAS_SACK_PERMITTED:
        kept |= TRAIT_SACK
    if options & HAS_TIMESTAMPS:
        kept |= TRAIT_TIMESTAMPS
    if options & HAS_FAST_OPEN:
        kept |= TRAIT_FAST_OPEN
    # RFC 3168 6.1.1: an ECN-setup SYN has ECE and CWR, an ECN-setup SYN-ACK has ECE alone
    if rows[s + FLAGS] & (ECE | CWR) == (ECE if synack else ECE | CWR):
        kept |= TRAIT_ECN
    if options & HAS_TIMESTAMPS:
        kept |= TRAIT_STAMPED | (rows[s + TS_VALUE] & LOW) << TRAIT_STAMP
    flows[x + E_TRAITS] = kept
    return 0


@kernel
def echoes_first(flows: Int64s, g: Int64s, y: int, rows: Int64s, s: int) -> bool:
    """Whether the segment echoes the timestamp of y's first SYN or SYN-ACK (of y's first FIN, once y has sent one).

    RFC 7323 4.3: what a receiver echoes is what it took in order, not what was repeated later.
    """
    return (
        rows[s + OPTIONS] & HAS_TIMESTAMPS != 0
        and flows[y + E_TRAITS] & TRAIT_STAMPED != 0
        and flows[y + E_TRAITS] >> TRAIT_STAMP & LOW == rows[s + TS_ECHO]
        and g[G_RULES_OFF] & RULE_ECHO == 0
    )


@kernel
def echoes_later(flows: Int64s, g: Int64s, y: int, rows: Int64s, s: int) -> bool:
    """Whether the segment echoes another timestamp than that of y's first SYN-ACK, which y has repeated."""
    return (
        flows[y + E_OPENINGS] >> 32 > 1
        and flows[y + E_FLAGS] & F_OTHER == 0
        and rows[s + OPTIONS] & HAS_TIMESTAMPS != 0
        and flows[y + E_TRAITS] & TRAIT_STAMPED != 0
        and flows[y + E_TRAITS] >> TRAIT_STAMP & LOW != rows[s + TS_ECHO]
        and g[G_RULES_OFF] & RULE_ECHO == 0
    )


@kernel
def answers_earlier(flows: Int64s, g: Int64s, x: int, y: int, rows: Int64s, s: int) -> bool:
    """Whether x's SYN-ACK, the first at the tap, repeats one that was lost before the tap: x took y's first SYN.

    It echoes the first of several SYNs; or there is one SYN only, as long ago as a server waits before it repeats.
    """
    if flows[x + E_TAIL] or flows[y + E_OPENINGS] & LOW == 0:
        return False
    if flows[y + E_OPENINGS] & LOW > 1:
        return echoes_first(flows, g, y, rows, s)
    wait = g[G_SYNACK_FIRST]
    late = rows[s + TIME] >= flows[y + E_OPEN_FIRST] + wait
    return late and acks_syn(flows, y, rows[s + ACK]) and g[G_RULES_OFF] & RULE_ECHO == 0


@kernel
def stands_still(flows: Int64s, x: int, rows: Int64s, s: int) -> int:
    """Forget x's timestamp where its repeat has the same: its clock does not tell them apart."""
    if rows[s + OPTIONS] & HAS_TIMESTAMPS and flows[x + E_TRAITS] >> TRAIT_STAMP & LOW == rows[s + TS_VALUE]:
        flows[x + E_TRAITS] &= ~TRAIT_STAMPED
    return 0


@kernel
def acks_syn(flows: Int64s, y: int, ack: int) -> bool:
    """Whether an acknowledgment covers y's SYN and nothing that y never sent."""
    flags = flows[y + E_FLAGS]
    if not flags & F_ISS:
        return True
    return gt(ack, flows[y + E_ISS]) and (not flags & F_SND or le(ack, flows[y + E_SND_MAX]))


@kernel
def syn_sent(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x sends a SYN without ACK: what that says about x."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    if flows[x + E_OPENINGS] & LOW == 0:
        flows[x + E_OPEN_FIRST] = time
        flows[x + E_OPEN_FRAME] = frame
        traits(flows, x, rows, s, 0)
    else:
        note(flows, events, g, flow, x, SYN_RETRANSMITTED, flows[x + E_OPENINGS] & LOW, time, frame)
        stands_still(flows, x, rows, s)
        if not g[G_RULES_OFF] & RULE_ALIVE:
            retract_end(flows, log, g, x, frame)
        if flows[x + E_FLAGS] & D_SYNACK and not g[G_RULES_OFF] & RULE_RETRACT_SYNACK:
            # it repeats its SYN: it never got the SYN-ACK that passed the tap
            retract(flows, log, g, x, RCV_SYNACK, frame)
            note(flows, events, g, flow, x, RETRACTION, RCV_SYNACK, time, frame)
    flows[x + E_OPENINGS] += 1
    flows[x + E_OPEN_LAST] = time
    flows[x + E_ISS] = rows[s + SEQ]
    flows[x + E_FLAGS] |= F_ISS | F_SYN
    append(flows, log, g, x, SND_SYN, SENT, time, frame)
    return 0


@kernel
def syn_towards(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, time: int, frame: int
) -> int:
    """x's SYN passes towards y: only a y that has itself sent a SYN and no SYN-ACK changes its state."""
    if flows[y + E_STATE] == SYN_SENT and not flows[y + E_FLAGS] & F_SYNACK:
        append(flows, log, g, y, RCV_SYN, ASSUMED, time, frame)
        if not flows[x + E_FLAGS] & F_SYNACK:
            append(flows, log, g, x, RCV_SYN, ASSUMED, time, frame)
        note(flows, events, g, flow, x, SIMULTANEOUS_OPEN, 0, time, frame)
    return 0


@kernel
def synack_sent(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x sends a SYN-ACK: what that says about x."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    flags = flows[x + E_FLAGS]
    if flows[x + E_OPENINGS] >> 32 == 0:
        flows[x + E_OPEN_FIRST] = time
        flows[x + E_OPEN_FRAME] = frame
        traits(flows, x, rows, s, 1)
        if flows[x + E_TRAITS] & flows[y + E_TRAITS] & TRAIT_ECN:
            note(flows, events, g, flow, x, ECN, 0, time, frame)
        earlier = answers_earlier(flows, g, x, y, rows, s)
        if flows[y + E_OPENINGS] & LOW == 1 and not earlier and not flags & F_SYN and time > flows[y + E_OPEN_LAST]:
            flows[flow + (RTT_SERVER if y == flow + CLIENT else RTT_CLIENT)] = time - flows[y + E_OPEN_LAST]
        if flows[y + E_FLAGS] & F_ISS and gt(rows[s + ACK], add(flows[y + E_ISS], 1)):
            flows[flow + FLOW_FLAGS] |= FLOW_FAST_OPEN
            note(flows, events, g, flow, y, FAST_OPEN, (rows[s + ACK] - flows[y + E_ISS] - 1) & 0xFFFF, time, frame)
        if earlier:
            insert(flows, log, g, x, SND_SYNACK, ACKNOWLEDGED, flows[y + E_OPEN_FIRST], flows[y + E_OPEN_FRAME], frame)
            flows[x + E_OPEN_FIRST] = flows[y + E_OPEN_FIRST]
    else:
        note(flows, events, g, flow, x, SYNACK_RETRANSMITTED, flows[x + E_OPENINGS] >> 32, time, frame)
        retract_end(flows, log, g, x, frame)
        stands_still(flows, x, rows, s)
        same = 1 if rows[s + SEQ] == flows[x + E_ISS] else 0
        synack_again(flows, log, events, g, flow, x, y, same, time, frame)
    flows[x + E_OPENINGS] += 1 << 32
    flows[x + E_OPEN_LAST] = time
    flows[x + E_ISS] = rows[s + SEQ]
    flows[x + E_FLAGS] |= F_ISS | F_SYNACK
    append(flows, log, g, x, SND_SYNACK, SENT, time, frame)
    return 0


@kernel
def synack_again(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, same: int, time: int, frame: int
) -> int:
    """A repeated SYN-ACK: if the handshake's ACK passed a round trip ago, x did not take it.

    With another number it is no repeat (`same` is 0): x kept no request, or another host answers in its place.
    """
    flags = flows[x + E_FLAGS]
    if flags & F_OTHER or g[G_RULES_OFF] & RULE_RETRACT_SYNACK:
        return 0
    entry_time = flows[x + E_CANDIDATE_TIME]  # when the ACK passed, see ack_towards
    if not flags & F_CANDIDATE or time <= entry_time + round_trip(flows, flow):
        return 0
    provoked = flows[y + E_OPEN_LAST] > flows[x + E_OPEN_LAST]  # a repeated SYN asked for it
    late = time > flows[x + E_OPEN_FIRST] + DEFERRED_NS
    if flags & D_ACK_OF_SYN:
        retract(flows, log, g, x, RCV_ACK_OF_SYN, frame)
        note(flows, events, g, flow, x, RETRACTION, RCV_ACK_OF_SYN, time, frame)
    if same and flows[x + E_OPENINGS] >> 32 == 1 and late and not provoked:
        flows[x + E_FLAGS] |= F_DEFERRED
        note(flows, events, g, flow, x, DEFERRED_ACCEPT, 0, time, frame)
    elif same and not flags & F_DEFERRED:
        flows[x + E_FLAGS] |= F_CONTRADICTED
        note(flows, events, g, flow, x, SYNACK_AFTER_ACK, flows[x + E_OPENINGS] >> 32, time, frame)
    flows[x + E_FLAGS] &= ~F_CANDIDATE  # what counts from here on is the first ACK behind this SYN-ACK
    return 0


@kernel
def synack_towards(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, ack: int, time: int, frame: int
) -> int:
    """x's SYN-ACK passes towards y."""
    if not acks_syn(flows, y, ack):
        return 0
    if flows[y + E_STATE] == SYN_SENT:
        append(flows, log, g, y, RCV_SYNACK, ASSUMED, time, frame)
    elif flows[y + E_STATE] == SYN_RECEIVED:  # simultaneous open: the SYN-ACK acknowledges y's SYN
        append(flows, log, g, y, RCV_ACK_OF_SYN, ASSUMED, time, frame)
    return 0


@kernel
def ack_towards(flows: Int64s, log: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int) -> int:
    """x's segment with ACK passes towards y in SYN-RECEIVED."""
    time, frame = rows[s + TIME], rows[s + FRAME]
    if not acks_syn(flows, y, rows[s + ACK]):
        return 0
    flags = flows[y + E_FLAGS]
    if not flags & F_CONTRADICTED or g[G_RULES_OFF] & RULE_STICKY:
        append(flows, log, g, y, RCV_ACK_OF_SYN, ASSUMED, time, frame)
    if not flags & F_CANDIDATE or (rows[s + LENGTH] > 0 and flows[x + E_RETX_COUNT] > 0):
        # While y drops everything, whatever is repeated last is what it may take.
        flows[y + E_CANDIDATE_TIME] = time
        flows[y + E_CANDIDATE_FRAME] = frame
        flows[y + E_FLAGS] |= F_CANDIDATE
    return 0


@kernel
def speaks(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int
) -> int:
    """x sends a segment that is neither SYN nor RST: what that proves about x's own opening."""
    time, frame, ack = rows[s + TIME], rows[s + FRAME], rows[s + ACK]
    flags = flows[x + E_FLAGS]
    state = flows[x + E_STATE]
    if state == SYN_SENT:
        # It goes on, so it had a SYN-ACK, though the tap did not see one (or saw one taken back).
        append(flows, log, g, x, RCV_SYNACK, ACKNOWLEDGED, time, frame)
        if not flows[y + E_FLAGS] & (F_SYN | F_SYNACK | F_OTHER) and flows[y + E_STATE] == CLOSED:
            flows[y + E_FLAGS] |= F_UNKNOWN_START  # its side of the handshake was not captured
            flows[y + E_STATE] = UNKNOWN
    elif state == SYN_RECEIVED:
        fast_open = flows[flow + FLOW_FLAGS] & FLOW_FAST_OPEN and not flags & F_CANDIDATE
        inserted = flags & F_CANDIDATE and insert(
            flows, log, g, x, RCV_ACK_OF_SYN, ACKNOWLEDGED, flows[x + E_CANDIDATE_TIME], flows[x + E_CANDIDATE_FRAME],
            frame,
        )  # fmt: skip
        # where the candidate is older than the opening that counts, it is from now on
        if (
            not inserted and not fast_open
        ):  # with Fast Open a server may send data before its SYN is acknowledged (RFC 7413 4.2)
            append(flows, log, g, x, RCV_ACK_OF_SYN, ACKNOWLEDGED, time, frame)
    elif state == UNKNOWN:
        append(flows, log, g, x, MIDSTREAM, SENT, time, frame)
    elif state == CLOSED and not flags & (F_SYN | F_SYNACK | F_OTHER):
        speaks_unopened(flows, log, events, g, flow, x, y, ack, time, frame)
    if flags & D_SYNACK and acks_syn(flows, y, ack):
        if echoes_later(flows, g, y, rows, s):
            retract(flows, log, g, x, RCV_SYNACK, frame)
            insert(flows, log, g, x, RCV_SYNACK, ACKNOWLEDGED, flows[y + E_OPEN_LAST], flows[y + E_DATA_FRAME], frame)
        else:
            prove(flows, log, x, RCV_SYNACK, frame)
        flows[flow + HANDSHAKE] = time - flows[x + E_OPEN_FIRST]
    if flags & D_ACK_OF_SYN:
        prove(flows, log, x, RCV_ACK_OF_SYN, frame)
    return 0


@kernel
def speaks_unopened(
    flows: Int64s, log: Int64s, events: Int64s, g: Int64s, flow: int, x: int, y: int, ack: int, time: int, frame: int
) -> int:
    """x never answered y's SYN at the tap, and now sends something else."""
    if flows[y + E_FLAGS] & F_ISS and gt(ack, flows[y + E_ISS]) and acks_syn(flows, y, ack):
        # its SYN-ACK is missing in the capture
        append(flows, log, g, x, SND_SYNACK, ACKNOWLEDGED, time, frame)
        append(flows, log, g, x, RCV_ACK_OF_SYN, ACKNOWLEDGED, time, frame)
    else:
        flows[x + E_FLAGS] |= F_CHALLENGED
        note(flows, events, g, flow, x, CHALLENGE_ACK, 0, time, frame)
    return 0
