"""From the event logs to rows: the transitions of every endpoint, in hindsight.

`transitions` writes for each log entry what state it led from and to.  Live entries are folded in their order;
a retracted entry is written with the states that it would have led from and to, so that the record shows what was
believed.  Sources: DESIGN.md, theory of operation 3; states.py.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel
from observer.tcp.evidence import LOG_FRAME, LOG_LINK, LOG_PROOF, LOG_STRIDE, LOG_TIME, step
from observer.tcp.layout import (
    BLOCK,
    CLIENT,
    E_DEAD,
    E_FIRST,
    E_FLAGS,

    F_UNKNOWN_START,
    FLOW_STRIDE,
    STREAM,
)
from observer.tcp.states import CLOSED, TIMER, UNKNOWN

TRANSITION_STRIDE: Final = 7
T_WHO: Final = 0  # stream << 1 | 1 for the server
T_TIME: Final = 1
T_FRAME: Final = 2  # 0: a timer, no frame
T_STATES: Final = 3  # from << 8 | to
T_CAUSE: Final = 4
T_CERTAINTY: Final = 5
T_PROOF: Final = 6  # 0: none


@kernel
def write(out: Int64s, row: int, who: int, log: Int64s, cell: int, before: int, after: int, time: int) -> int:
    """One row of the result from one log entry."""
    at = row * TRANSITION_STRIDE
    link = log[cell + LOG_LINK]
    certainty = link >> 8 & 0xFF
    out[at + T_WHO] = who
    out[at + T_TIME] = time
    out[at + T_FRAME] = 0 if certainty == TIMER else log[cell + LOG_FRAME]
    out[at + T_STATES] = before << 8 | after
    out[at + T_CAUSE] = link & 0xFF
    out[at + T_CERTAINTY] = certainty
    out[at + T_PROOF] = log[cell + LOG_PROOF]
    return row + 1


@kernel
def state_at(flows: Int64s, log: Int64s, g: Int64s, x: int, frame: int) -> int:
    """The endpoint's state by its live log just before the entries of a frame."""
    state = UNKNOWN if flows[x + E_FLAGS] & F_UNKNOWN_START else CLOSED
    at = flows[x + E_FIRST]
    while at and log[(at - 1) * LOG_STRIDE + LOG_FRAME] < frame:
        link = log[(at - 1) * LOG_STRIDE + LOG_LINK]
        state = step(g, state, link & 0xFF)
        at = link >> 16
    return state


@kernel
def endpoint_rows(flows: Int64s, log: Int64s, g: Int64s, x: int, who: int, out: Int64s, row: int) -> int:
    """All rows of one endpoint; returns the next free row."""
    state = UNKNOWN if flows[x + E_FLAGS] & F_UNKNOWN_START else CLOSED
    latest = 0
    at = flows[x + E_FIRST]
    while at:
        cell = (at - 1) * LOG_STRIDE
        after = step(g, state, log[cell + LOG_LINK] & 0xFF)
        if log[cell + LOG_TIME] > latest:
            latest = log[cell + LOG_TIME]
        if after != state:  # an entry may have become void by a retraction before it
            row = write(out, row, who, log, cell, state, after, latest)
        state = after
        at = log[cell + LOG_LINK] >> 16
    at = flows[x + E_DEAD]
    while at:
        cell = (at - 1) * LOG_STRIDE
        before = state_at(flows, log, g, x, log[cell + LOG_FRAME])
        after = step(g, before, log[cell + LOG_LINK] & 0xFF)
        row = write(out, row, who, log, cell, before, after, log[cell + LOG_TIME])
        at = log[cell + LOG_LINK] >> 16
    return row


@entry
def transitions(flows: Int64s, log: Int64s, g: Int64s, out: Int64s, first: int, count: int) -> int:
    """Rows of the flows first .. count - 1 into `out`; returns how many rows were written."""
    row = 0
    for number in range(first, count):
        flow = number * FLOW_STRIDE
        who = flows[flow + STREAM] << 1
        row = endpoint_rows(flows, log, g, flow + CLIENT, who, out, row)
        row = endpoint_rows(flows, log, g, flow + CLIENT + BLOCK, who | 1, out, row)
    return row


