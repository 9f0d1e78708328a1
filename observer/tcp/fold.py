"""From the event logs to rows: the transitions of every endpoint, in hindsight.

For each log entry the state that it led from and to.  Live entries are folded in their order; a retracted entry is
written with the states that it was believed to lead from and to, so that the record shows what was believed.

Streams of one segment only have no flow row; theirs is made in a spare row, read, and forgotten again.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel
from observer.tcp.archive import AHEAD, ask_for_history, unpack
from observer.tcp.events import EVENT_STRIDE
from observer.tcp.evidence import LOG_BELIEVED, LOG_FRAME, LOG_LINK, LOG_PROOF, LOG_STRIDE, LOG_TIME, step
from observer.tcp.flowtable import begin_flow, blank_flow, is_alike, is_lone_syn
from observer.tcp.layout import (
    CLIENT,
    E_DEAD,
    E_FIRST,
    E_FLAGS,
    F_UNKNOWN_START,
    FLOW_STRIDE,
    G_EVENTS,
    G_FLOWS,
    G_LOG,
    S_FLOW,
    SERVER,
    STREAM_STRIDE,
)
from observer.tcp.states import CLOSED, TIMER, UNKNOWN
from observer.tcp.timers import run_timers
from observer.tcp.track import play_first

LOW: Final = 0xFFFFFFFF
TRANSITION_STRIDE: Final = 7
T_WHO: Final = 0  # stream << 1 | 1 for the server
T_TIME: Final = 1
T_FRAME: Final = 2  # -1: a timer, no frame
T_STATES: Final = 3  # from << 8 | to
T_CAUSE: Final = 4
T_CERTAINTY: Final = 5
T_PROOF: Final = 6  # -1: none

SPARE_ENTRIES: Final = 64
"""Room that log and events need behind their last row while a lone or a packed flow is made (see tracker.py)."""


@kernel
def flow_of(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, stream: int, now: int
) -> int:
    """First cell of a stream's flow row; for a stream of one segment, or a packed one, it is made in the spare row.

    The caller restores g's counters of log and events afterwards.
    """
    number = streams[stream * STREAM_STRIDE + S_FLOW]
    if number > 0:
        return (number - 1) * FLOW_STRIDE
    flow = g[G_FLOWS] * FLOW_STRIDE
    if number:
        unpack(streams, flows, log, g, stream, flow)
        run_timers(flows, log, g, flow, now)
        return flow
    blank_flow(flows, flow)
    begin_flow(streams, flows, flow, stream)
    play_first(streams, flows, log, events, g, scratch, stream, flow)
    run_timers(flows, log, g, flow, now)
    return flow


@kernel
def write(out: Int64s, row: int, who: int, log: Int64s, cell: int, before: int, after: int, time: int) -> int:
    """One row of the result from one log entry; returns the next free row."""
    at = row * TRANSITION_STRIDE
    link = log[cell + LOG_LINK]
    certainty = link >> 8 & 0xFF
    proof = log[cell + LOG_PROOF]
    out[at + T_WHO] = who
    out[at + T_TIME] = time
    out[at + T_FRAME] = -1 if certainty == TIMER else log[cell + LOG_FRAME]
    out[at + T_STATES] = before << 8 | after
    out[at + T_CAUSE] = link & 0xF
    out[at + T_CERTAINTY] = certainty
    out[at + T_PROOF] = proof if proof else -1
    return row + 1


@kernel
def start_of(flows: Int64s, x: int) -> int:
    """The state in which the endpoint's whole record begins."""
    return UNKNOWN if flows[x + E_FLAGS] & F_UNKNOWN_START else CLOSED


@kernel
def endpoint_rows(flows: Int64s, log: Int64s, g: Int64s, x: int, who: int, out: Int64s, row: int) -> int:
    """All rows of one endpoint; returns the next free row."""
    state = start_of(flows, x)
    latest = log[((flows[x + E_FIRST] & LOW) - 1) * LOG_STRIDE + LOG_TIME] if flows[x + E_FIRST] & LOW else 0
    at = flows[x + E_FIRST] & LOW
    while at:
        cell = (at - 1) * LOG_STRIDE
        after = step(g, state, log[cell + LOG_LINK] & 0xFF)
        # the capture's time stamps may run backwards, an endpoint's history does not
        latest = max(latest, log[cell + LOG_TIME])
        if after != state:  # an entry may have become void by a retraction before it
            row = write(out, row, who, log, cell, state, after, latest)
        state = after
        at = log[cell + LOG_LINK] >> 16
    at = flows[x + E_DEAD] & LOW
    while at:
        cell = (at - 1) * LOG_STRIDE
        before = log[cell + LOG_LINK] >> LOG_BELIEVED & 0xF
        after = step(g, before, log[cell + LOG_LINK] & 0xF)
        row = write(out, row, who, log, cell, before, after, log[cell + LOG_TIME])
        at = log[cell + LOG_LINK] >> 16
    return row


@entry
def transitions(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, out: Int64s,
    first: int, stop: int, now: int,
) -> int:  # fmt: skip
    """Rows of the streams first .. stop - 1 into `out`; returns how many rows were written."""
    row = 0
    for stream in range(first, stop):
        ask_for_history(streams, log, stream + AHEAD)
        kept_log, kept_events = g[G_LOG], g[G_EVENTS]
        flow = flow_of(streams, flows, log, events, g, scratch, stream, now)
        row = endpoint_rows(flows, log, g, flow + CLIENT, stream << 1, out, row)
        row = endpoint_rows(flows, log, g, flow + SERVER, stream << 1 | 1, out, row)
        g[G_LOG], g[G_EVENTS] = kept_log, kept_events
    return row


@entry
def lone_events(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, out: Int64s,
    first: int, stop: int, now: int,
) -> int:  # fmt: skip
    """Events of the streams of one segment among first .. stop - 1 into `out`; returns how many were written."""
    row = 0
    silent = -1  # a lone SYN that gave no event
    for stream in range(first, stop):
        if streams[stream * STREAM_STRIDE + S_FLOW] or (silent >= 0 and is_alike(streams, stream, silent)):
            continue
        kept_log, kept_events = g[G_LOG], g[G_EVENTS]
        flow_of(streams, flows, log, events, g, scratch, stream, now)
        for made in range(kept_events, g[G_EVENTS]):
            for cell in range(EVENT_STRIDE):
                out[row * EVENT_STRIDE + cell] = events[made * EVENT_STRIDE + cell]
            row += 1
        if g[G_EVENTS] == kept_events and is_lone_syn(streams, stream):
            silent = stream
        g[G_LOG], g[G_EVENTS] = kept_log, kept_events
    return row
