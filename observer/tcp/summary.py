"""A cheap look at every stream, between batches: who is finished, who never opened, who changed, since when.

What a live observer decides by whom to forget and whom to look at; no row of any table is made for it.
Never decides that itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy

from observer.kernels import Int64s, Octets, entry, kernel, prefetch
from observer.segments import ACK_FLAG, SYN
from observer.tcp.archive import AHEAD, is_finished
from observer.tcp.evidence import LOG_STRIDE
from observer.tcp.layout import (
    CLIENT,
    E_END_TIME,
    E_FLAGS,
    E_PACKETS,
    E_STATE,
    F_OTHER,
    FLOW_FLAGS,
    FLOW_STRIDE,
    FLOW_TOUCHED,
    G_SYNACK_FIRST,
    G_TIME_WAIT,
    LAST_FRAME,
    LAST_TIME,
    LINE,
    S_FLAGS,
    S_FLOW,
    S_FRAME,
    S_TIME,
    SERVER,
    STREAM_STRIDE,
)
from observer.tcp.packed import (
    CLIENT_END_AT,
    CLIENT_STATE_AT,
    FLAGS_AT,
    LAST_FRAME_AT,
    LAST_TIME_AT,
    SERVER_END_AT,
    SERVER_STATE_AT,
    narrow,
    place_of_pair,
    wide,
)
from observer.tcp.states import TIME_WAIT

Octet = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
Array = numpy.ndarray[Any, numpy.dtype[numpy.int64]]
Bools = numpy.ndarray[Any, numpy.dtype[numpy.bool_]]

LONE: Final = 1
EMBRYONIC: Final = 2
ONE_SIDED: Final = 4
FINISHED: Final = 8
CHANGED: Final = 16
TOUCHED: Final = FLOW_TOUCHED << (FLAGS_AT % 2 * 32)  # in the word that packed flags share with another cell


@dataclass(frozen=True)
class Summary:
    """One item for each stream, in the order of their numbers.

    Attributes
    ----------
    bits
        uint8: LONE, EMBRYONIC, ONE_SIDED, FINISHED, CHANGED.
    last_time
        int64: when its latest segment came, ns.
    last_frame
        int64: in which frame.
    """

    bits: Octet
    last_time: Array
    last_frame: Array

    @property
    def is_lone(self) -> Bools:
        """Whether it has one segment only."""
        return (self.bits & LONE).astype(bool)

    @property
    def is_embryonic(self) -> Bools:
        """Whether it is not finished and nobody has sent anything but SYN, SYN-ACK and RST yet; all lone ones."""
        return (self.bits & EMBRYONIC).astype(bool)

    @property
    def is_one_sided(self) -> Bools:
        """Whether only one end has ever sent anything; not told of packed flows, which are finished."""
        return (self.bits & ONE_SIDED).astype(bool)

    @property
    def is_finished(self) -> Bools:
        """Whether both ends are CLOSED, or in a TIME-WAIT that is over; never a lone one."""
        return (self.bits & FINISHED).astype(bool)

    @property
    def is_changed(self) -> Bools:
        """Whether its rows may be others than when one last looked."""
        return (self.bits & CHANGED).astype(bool)


@entry
def summarise(
    streams: Int64s, flows: Int64s, log: Int64s, g: Int64s, bits: Octets, times: Int64s, frames: Int64s, count: int,
    now: int, since_frame: int, since_ns: int,
) -> int:  # fmt: skip
    """Fill the arrays of a Summary; what was touched beside segments (FLOW_TOUCHED) is not any more."""
    for stream in range(count):
        ask_for(streams, flows, log, stream, count)
        r = stream * STREAM_STRIDE
        number = streams[r + S_FLOW]
        if number == 0:
            times[stream] = streams[r + S_TIME]
            frames[stream] = streams[r + S_FRAME]
            told = LONE | EMBRYONIC | ONE_SIDED | lone_change(streams, g, r, now, since_ns)
        elif number > 0:
            flow = (number - 1) * FLOW_STRIDE
            times[stream] = flows[flow + LAST_TIME]
            frames[stream] = flows[flow + LAST_FRAME]
            told = of_row(flows, g, flow, now)
        else:
            at = (-number - 1) * LOG_STRIDE
            times[stream] = wide(log, at, LAST_TIME_AT)
            frames[stream] = narrow(log, at, LAST_FRAME_AT)
            told = of_packed(log, g, at, now, since_ns)
        bits[stream] = told | (CHANGED if frames[stream] >= since_frame else 0)
    return 0


@kernel
def ask_for(streams: Int64s, flows: Int64s, log: Int64s, stream: int, count: int) -> int:
    """Ask the memory for what a later stream is told by."""
    if stream + AHEAD < count:
        place = streams[(stream + AHEAD) * STREAM_STRIDE + S_FLOW]
        if place > 0:
            flow = (place - 1) * FLOW_STRIDE
            prefetch(flows, flow)
            prefetch(flows, flow + CLIENT)
            prefetch(flows, flow + CLIENT + LINE)
            prefetch(flows, flow + SERVER)
            prefetch(flows, flow + SERVER + LINE)
        elif place < 0:
            at = (-place - 1) * LOG_STRIDE
            for line in range(4):
                prefetch(log, at + line * LINE)
    return 0


@kernel
def lone_change(streams: Int64s, g: Int64s, r: int, now: int, since_ns: int) -> int:
    """CHANGED if a lone SYN-ACK turned out to be a stateless one in the meantime (timers.expire_request)."""
    if streams[r + S_FLAGS] & (SYN | ACK_FLAG) != SYN | ACK_FLAG:
        return 0
    due = streams[r + S_TIME] + g[G_SYNACK_FIRST] + g[G_SYNACK_FIRST] * 3 // 10
    return CHANGED if since_ns <= due < now else 0


@kernel
def of_row(flows: Int64s, g: Int64s, flow: int, now: int) -> int:
    """What a flow's row tells."""
    client, server = flow + CLIENT, flow + SERVER
    told = 0
    if is_finished(flows, flow) and is_quiet(flows, g, client, now) and is_quiet(flows, g, server, now):
        told = FINISHED
    elif not (flows[client + E_FLAGS] | flows[server + E_FLAGS]) & F_OTHER:
        told = EMBRYONIC
    if flows[client + E_PACKETS] == 0 or flows[server + E_PACKETS] == 0:
        told |= ONE_SIDED
    if flows[flow + FLOW_FLAGS] & FLOW_TOUCHED:
        flows[flow + FLOW_FLAGS] &= ~FLOW_TOUCHED
        told |= CHANGED
    return told


@kernel
def is_quiet(flows: Int64s, g: Int64s, x: int, now: int) -> bool:
    """Whether the endpoint is not in TIME-WAIT, or longer than that lasts."""
    return flows[x + E_STATE] != TIME_WAIT or now > flows[x + E_END_TIME] + g[G_TIME_WAIT]


@kernel
def of_packed(log: Int64s, g: Int64s, at: int, now: int, since_ns: int) -> int:
    """What a packed flow tells: its timers are not run before it is read, but they tell when they were due."""
    told = FINISHED
    for side in range(2):
        if narrow(log, at, SERVER_STATE_AT if side else CLIENT_STATE_AT) == TIME_WAIT:
            due = wide(log, at, SERVER_END_AT if side else CLIENT_END_AT) + g[G_TIME_WAIT]
            if now <= due:
                told &= ~FINISHED
            elif since_ns <= due:
                told |= CHANGED
    place = place_of_pair(log, at, FLAGS_AT)
    if place >= 0 and log[place] & TOUCHED:
        log[place] &= ~TOUCHED
        told |= CHANGED
    return told
