"""The event log of an endpoint: append, insert, prove, retract, fold.

Each endpoint has a chain of live entries in the order in which things happened to it, and a chain of
retracted ones, kept for the record.  The endpoint's state is always the fold of the state machine over the
live chain.  An entry is four int64 cells: time (ns), frame, proof frame, and a link
``(next entry + 1) << 16 | certainty << 8 | event``; a retracted one has the state that it was believed to have led
from in the upper half of the event's octet, so that telling the record needs no search.  Only events that change the
state are logged, so the live chain is as short as the machine is deep.

Never decides what happened: the rules do (handshake.py, closing.py, resets.py, timers.py).
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.tcp.layout import (
    D_ACK_OF_FIN,
    D_ACK_OF_SYN,
    D_END,
    D_FIN,
    D_RST,
    D_SYNACK,
    DOUBTS,
    E_DEAD,
    E_FIRST,
    E_FLAGS,
    E_LOG,
    E_STATE,
    E_TAIL,
    F_SEALED,
    F_UNKNOWN_START,
    G_FREE_BLOCK,
    G_LOG,
    G_TABLE,
)
from observer.tcp.states import (
    ACKNOWLEDGED,
    ASSUMED,
    CLOSED,
    EVENT_COUNT,
    EXPIRE,
    GIVE_UP,
    ICMP,
    RCV_ACK_OF_FIN,
    RCV_ACK_OF_SYN,
    RCV_FIN,
    RCV_RST,
    RCV_SYNACK,
    RETRACTED,
    SENT,
    SND_SYN,
    SND_SYNACK,
    TIMER,
    UNKNOWN,
)

LOW: Final = 0xFFFFFFFF
LOG_STRIDE: Final = 4
LOG_BLOCK: Final = 4  # entries that an endpoint is given at once: two cache lines
LOG_TIME: Final = 0
LOG_FRAME: Final = 1
LOG_PROOF: Final = 2
LOG_LINK: Final = 3
LOG_BELIEVED: Final = 4  # bits 4..7 of a retracted entry's link: the state before it


@kernel
def step(g: Int64s, state: int, event: int) -> int:
    """The state after an event; the same state where the machine has no such row."""
    return g[G_TABLE + state * EVENT_COUNT + event]


@kernel
def doubt_of(event: int, certainty: int) -> int:
    """The doubt bit that a live entry of this event and certainty keeps open; 0 for what is certain."""
    if certainty == ASSUMED:
        if event == RCV_SYNACK:
            return D_SYNACK
        if event == RCV_ACK_OF_SYN:
            return D_ACK_OF_SYN
        if event == RCV_FIN:
            return D_FIN
        if event == RCV_ACK_OF_FIN:
            return D_ACK_OF_FIN
        if event == RCV_RST:
            return D_RST
    if event in (ICMP, GIVE_UP, EXPIRE):
        return D_END
    return 0


@kernel
def initial(flows: Int64s, x: int) -> int:
    """The state in which folding starts."""
    return UNKNOWN if flows[x + E_FLAGS] & (F_UNKNOWN_START | F_SEALED) == F_UNKNOWN_START else CLOSED


@kernel
def relink_first(flows: Int64s, log: Int64s, x: int, entry: int) -> int:
    """Let folding start at another entry (+ 1; 0: none), also in the chain of all entries."""
    flows[x + E_LOG] = entry
    seal = flows[x + E_FIRST] >> 32
    if seal:
        cell = (seal - 1) * LOG_STRIDE + LOG_LINK
        log[cell] = entry << 16 | log[cell] & 0xFFFF
    else:
        flows[x + E_FIRST] = entry
    return 0


@kernel
def new_entry(flows: Int64s, log: Int64s, g: Int64s, x: int) -> int:
    """Number of an entry that is free: the next one of the endpoint's block.

    Entries come in blocks, so that an endpoint's log is in few cache lines.  A block's first entry is always one of the
    endpoint's own, live or retracted: `archive` finds the blocks by that.
    """
    entry = flows[x + E_DEAD] >> 32
    if entry % LOG_BLOCK == 0:
        free = g[G_FREE_BLOCK]
        if free:
            entry = free - 1
            g[G_FREE_BLOCK] = log[entry * LOG_STRIDE + LOG_LINK]
        else:
            entry = (g[G_LOG] + LOG_BLOCK - 1) & -LOG_BLOCK
            g[G_LOG] = entry + LOG_BLOCK
    flows[x + E_DEAD] = (entry + 1) << 32 | flows[x + E_DEAD] & LOW
    return entry


@kernel
def append(flows: Int64s, log: Int64s, g: Int64s, x: int, event: int, certainty: int, time: int, frame: int) -> int:
    """Log an event that comes after all others of the endpoint at block x; 1 if it changed the state."""
    state = flows[x + E_STATE]
    to = step(g, state, event)
    if to == state:
        return 0
    entry = new_entry(flows, log, g, x)
    at = entry * LOG_STRIDE
    log[at + LOG_TIME] = time
    log[at + LOG_FRAME] = frame
    log[at + LOG_PROOF] = frame if certainty == ACKNOWLEDGED else 0  # it is known only by what the endpoint sends now
    log[at + LOG_LINK] = certainty << 8 | event
    tail = flows[x + E_TAIL]
    if tail:
        log[(tail - 1) * LOG_STRIDE + LOG_LINK] += (entry + 1) << 16
    else:
        flows[x + E_FIRST] = flows[x + E_FIRST] & ~LOW | (entry + 1)
    if flows[x + E_LOG] == 0:
        flows[x + E_LOG] = entry + 1
    elif state == CLOSED and event in (SND_SYN, SND_SYNACK):
        # A new opening rests on nothing that came before: folding starts here (and stays short under hostile input).
        flows[x + E_LOG] = entry + 1
        flows[x + E_FIRST] = tail << 32 | flows[x + E_FIRST] & LOW
        flows[x + E_FLAGS] = flows[x + E_FLAGS] & ~DOUBTS | F_SEALED  # what is sealed is never retracted
    flows[x + E_TAIL] = entry + 1
    flows[x + E_STATE] = to
    flows[x + E_FLAGS] |= doubt_of(event, certainty)
    return 1


@kernel
def insert(
    flows: Int64s, log: Int64s, g: Int64s, x: int, event: int, certainty: int, time: int, frame: int, proof: int
) -> int:
    """Log an event that happened before some that are logged already: behind the last entry up to its frame.

    Returns 1 if the state machine had a use for it there, 0 if nothing was logged.
    """
    state = initial(flows, x)
    before = 0
    at = flows[x + E_LOG]
    while at and log[(at - 1) * LOG_STRIDE + LOG_FRAME] <= frame:
        state = step(g, state, log[(at - 1) * LOG_STRIDE + LOG_LINK] & 0xFF)
        before = at
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    if step(g, state, event) == state:
        return 0
    entry = new_entry(flows, log, g, x)
    new = entry * LOG_STRIDE
    log[new + LOG_TIME] = time
    log[new + LOG_FRAME] = frame
    log[new + LOG_PROOF] = proof
    log[new + LOG_LINK] = at << 16 | certainty << 8 | event
    if before:
        link = log[(before - 1) * LOG_STRIDE + LOG_LINK]
        log[(before - 1) * LOG_STRIDE + LOG_LINK] = (entry + 1) << 16 | link & 0xFFFF
    else:
        relink_first(flows, log, x, entry + 1)
    if not at:
        flows[x + E_TAIL] = entry + 1
    flows[x + E_FLAGS] |= doubt_of(event, certainty)
    fold(flows, log, g, x)
    return 1


@kernel
def fold(flows: Int64s, log: Int64s, g: Int64s, x: int) -> int:
    """The state of the endpoint as its live log says; stored and returned."""
    state = initial(flows, x)
    at = flows[x + E_LOG]
    while at:
        link = log[(at - 1) * LOG_STRIDE + LOG_LINK]
        state = step(g, state, link & 0xFF)
        at = link >> 16
    flows[x + E_STATE] = state
    return state


@kernel
def find(flows: Int64s, log: Int64s, x: int, event: int) -> int:
    """Live entry of the event + 1; 0: there is none.  The newest, if there were several."""
    found = flows[x + E_TAIL]
    if found and log[(found - 1) * LOG_STRIDE + LOG_LINK] & 0xFF == event and flows[x + E_LOG]:
        return found  # mostly it is the newest of all: no walk, whose first entries are long out of the caches
    found = 0
    at = flows[x + E_LOG]
    while at:
        link = log[(at - 1) * LOG_STRIDE + LOG_LINK]
        if link & 0xFF == event:
            found = at
        at = link >> 16
    return found


@kernel
def prove(flows: Int64s, log: Int64s, x: int, event: int, frame: int) -> int:
    """An assumed entry is proved by something the endpoint sent in this frame; returns the entry + 1, or 0."""
    at = find(flows, log, x, event)
    if at:
        cell = (at - 1) * LOG_STRIDE
        if log[cell + LOG_LINK] >> 8 & 0xFF == ASSUMED:
            log[cell + LOG_LINK] -= (ASSUMED - 2) << 8  # ACKNOWLEDGED is 2
            log[cell + LOG_PROOF] = frame
    flows[x + E_FLAGS] &= ~doubt_of(event, ASSUMED)
    return at


@kernel
def retract(flows: Int64s, log: Int64s, g: Int64s, x: int, event: int, frame: int) -> int:
    """Take an entry out because the endpoint's own segment in this frame contradicts it; fold again.

    Returns 1 if there was such an entry.
    """
    before = 0
    state = initial(flows, x)
    at = flows[x + E_LOG]
    while at and log[(at - 1) * LOG_STRIDE + LOG_LINK] & 0xFF != event:
        before = at
        state = step(g, state, log[(at - 1) * LOG_STRIDE + LOG_LINK] & 0xFF)
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    if not at:
        return 0
    cell = (at - 1) * LOG_STRIDE
    link = log[cell + LOG_LINK]
    behind = link >> 16
    if before:
        log[(before - 1) * LOG_STRIDE + LOG_LINK] = behind << 16 | log[(before - 1) * LOG_STRIDE + LOG_LINK] & 0xFFFF
    else:
        relink_first(flows, log, x, behind)
    if not behind:
        flows[x + E_TAIL] = before if before else flows[x + E_FIRST] >> 32
    log[cell + LOG_LINK] = (flows[x + E_DEAD] & LOW) << 16 | RETRACTED << 8 | state << LOG_BELIEVED | event
    log[cell + LOG_PROOF] = frame
    flows[x + E_DEAD] = flows[x + E_DEAD] & ~LOW | at
    doubt = doubt_of(event, ASSUMED) | doubt_of(event, TIMER)
    flows[x + E_FLAGS] &= ~doubt
    fold(flows, log, g, x)
    return 1


@kernel
def retract_end(flows: Int64s, log: Int64s, g: Int64s, x: int, frame: int) -> int:
    """The endpoint lives although a timer or an ICMP error had ended it: take all such ends out."""
    done = retract(flows, log, g, x, EXPIRE, frame)
    done |= retract(flows, log, g, x, GIVE_UP, frame)
    done |= retract(flows, log, g, x, ICMP, frame)
    return done


@kernel
def certainty_now(flows: Int64s, log: Int64s, x: int) -> int:
    """Certainty of the newest live entry; 0 where nothing was logged."""
    tail = flows[x + E_TAIL]
    if not tail:
        return 0
    return log[(tail - 1) * LOG_STRIDE + LOG_LINK] >> 8 & 0xFF


__all__ = [
    "LOG_FRAME", "LOG_LINK", "LOG_PROOF", "LOG_STRIDE", "LOG_TIME", "SENT",
    "append", "certainty_now", "find", "fold", "insert", "prove", "retract", "retract_end", "step",
]  # fmt: skip
