"""The table of flows as rows of int64 cells: everything about a connection in one row, for streams of any length.

Kernels only read here.  `O_...` are the cells of a row; observe.py names them as schema.py does.
Sources: Wireshark's completeness, Zeek's conn_state and history; where the tap stands: RFC 9293 says nothing, see
`tap_of`.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, entry, kernel
from observer.tcp.analysis import completeness
from observer.tcp.archive import AHEAD, ask_for_history
from observer.tcp.evidence import LOG_FRAME, LOG_LINK, LOG_STRIDE, certainty_now, step
from observer.tcp.flowtable import is_alike, is_lone_syn
from observer.tcp.fold import flow_of, start_of
from observer.tcp.layout import (
    A_ACK_TIME,
    A_NEXT,
    CLIENT,
    COMPLETENESS,
    E_COUNTS,
    E_COUNTS_2,
    E_COUNTS_3,
    E_FIRST,
    E_FLAGS,
    E_OCTETS,
    E_OPENINGS,
    E_PACKETS,
    E_SND_MAX,
    E_STATE,
    E_TRAITS,
    E_UNIQUE,
    F_CALM,
    F_FIN,
    F_RST,
    FLOW_ENCAP,
    FLOW_FAST_OPEN,
    FLOW_FLAGS,
    FLOW_INFERRED,
    FLOW_SWAPPED,
    G_EVENTS,
    G_LOG,
    HANDSHAKE,
    LAST_FRAME,
    LAST_TIME,
    LINE,
    PREVIOUS,
    RTT_CLIENT,
    RTT_SERVER,
    S_FRAME,
    S_PORTS,
    S_TIME,
    SERVER,
    STREAM_STRIDE,
    TRAIT_ECN,
    TRAIT_FAST_OPEN,
    TRAIT_HAS_MSS,
    TRAIT_HAS_SCALE,
    TRAIT_SACK,
    TRAIT_SCALE,
    TRAIT_TIMESTAMPS,
    Z_HISTORY,
)
from observer.tcp.sequence import diff
from observer.tcp.states import (
    CLOSED,
    CLOSING,
    EXPIRE,
    GIVE_UP,
    ICMP,
    RCV_RST,
    SND_FIN,
    SND_RST,
    TIME_WAIT,
)
from observer.tcp.zeek import zeek_conn_state

ROW: Final = 64
O_ROLES: Final = 0
O_PORTS: Final = 1  # client's << 16 | server's
O_VERSION: Final = 2
O_FIRST_TIME: Final = 3
O_LAST_TIME: Final = 4
O_FIRST_FRAME: Final = 5
O_LAST_FRAME: Final = 6
O_SWAPPED: Final = 7  # 1: the stream's first sender is the server
O_SYNS: Final = 8
O_SYNACKS: Final = 9
O_HANDSHAKE: Final = 10
O_SACK: Final = 11
O_TIMESTAMPS: Final = 12
O_ECN: Final = 13
O_FAST_OPEN: Final = 14
O_CLOSED_FIRST: Final = 15
O_ENDED: Final = 16
O_RST_SENDER: Final = 17
O_TIME_WAIT: Final = 18
O_TAP: Final = 19
O_TAP_GRADE: Final = 20
O_COMPLETENESS: Final = 21
O_CONN_STATE: Final = 22
O_HISTORY: Final = 23  # 23..26
O_PREVIOUS: Final = 27  # stream; -1: none
O_ENCAPSULATION: Final = 28
O_CLIENT: Final = 32  # 32..47: the client's cells
O_SERVER: Final = 48
P_PACKETS: Final = 0
P_OCTETS: Final = 1
P_UNIQUE: Final = 2
P_RETRANSMITTED: Final = 3
P_OUT_OF_ORDER: Final = 4
P_DUPLICATE_ACKS: Final = 5
P_ZERO_WINDOWS: Final = 6
P_KEEPALIVES: Final = 7
P_RTT: Final = 8
P_MSS: Final = 9
P_SCALE: Final = 10
P_STATE: Final = 11
P_CERTAINTY: Final = 12
P_PATH: Final = 13  # bits of what its history passed through: PATH_...
P_LAST_TIME: Final = 14  # ns, its last segment; 0: none

PATH_FIN: Final = 1
PATH_RESET: Final = 2
PATH_TIME_WAIT: Final = 4
PATH_TIMEOUT: Final = 8
PATH_CLOSING: Final = 16

ENDED_FIN: Final = 0
ENDED_RESET: Final = 1
ENDED_TIMEOUT: Final = 2
ENDED_OPEN: Final = 3
SIDE_CLIENT: Final = 0
SIDE_SERVER: Final = 1
SIDE_BOTH: Final = 2
TAP_CLIENT: Final = 0
TAP_MIDDLE: Final = 1
TAP_SERVER: Final = 2
PROBABLE: Final = 1
SUSPECTED: Final = 2
NEARER: Final = 4  # one side's round trip is so many times shorter than the other's: the tap stands there

OWN: Final = (
    O_PORTS, O_VERSION, O_FIRST_TIME, O_LAST_TIME, O_FIRST_FRAME, O_LAST_FRAME, O_CLIENT + P_LAST_TIME,
)  # fmt: skip
"""What lone SYNs that are alike do not share, see `name_lone`."""

LOW: Final = 0xFFFFFFFF


@entry
def flow_rows(
    streams: Int64s, flows: Int64s, log: Int64s, events: Int64s, g: Int64s, scratch: Int64s, out: Int64s,
    first: int, stop: int, now: int,
) -> int:  # fmt: skip
    """ROW cells for each of the streams first .. stop - 1, each cell's column in one piece: it is read as a column."""
    example = -1  # the latest stream that is not like the one before it, if that is a lone SYN
    column = column_of(stop - first)
    o = ROW * column  # one row, in which each stream's cells are made
    for stream in range(first, stop):
        ask_for_history(streams, log, stream + AHEAD)
        if example >= 0 and is_alike(streams, stream, example):
            name_lone(streams, stream, out, stream - first, column)
            continue
        if example >= 0:
            repeat_row(out, example - first, stream - first, column)
        example = stream if is_lone_syn(streams, stream) else -1
        kept_log, kept_events = g[G_LOG], g[G_EVENTS]
        flow = flow_of(streams, flows, log, events, g, scratch, stream, now)
        head(streams, flows, flow, stream, out, o)
        calm = 1 if (flows[flow + CLIENT + E_FLAGS] | flows[flow + SERVER + E_FLAGS]) & F_CALM else 0
        endpoint(flows, log, g, flow + CLIENT, flows[flow + RTT_CLIENT], calm, out, o + O_CLIENT)
        endpoint(flows, log, g, flow + SERVER, flows[flow + RTT_SERVER], calm, out, o + O_SERVER)
        both(flows, log, flow, out, o)
        g[G_LOG], g[G_EVENTS] = kept_log, kept_events
        for cell in range(ROW):
            out[cell * column + stream - first] = out[o + cell]
    if example >= 0:
        repeat_row(out, example - first, stop - first, column)
    return stop - first


@kernel
def column_of(count: int) -> int:
    """Cells from one column's begin to the next one's, for so many rows.

    Some more than rows, so that the columns of a row do not all fall on the same place of a cache.
    """
    return count + 3 * LINE


@kernel
def name_lone(streams: Int64s, stream: int, out: Int64s, row: int, column: int) -> int:
    """Write what is a lone SYN's own into its row; the rest it has in common with one that is alike."""
    r = stream * STREAM_STRIDE
    out[O_PORTS * column + row] = streams[r + S_PORTS] & LOW
    out[O_VERSION * column + row] = streams[r + S_PORTS] >> 32
    out[O_FIRST_TIME * column + row] = streams[r + S_TIME]
    out[O_LAST_TIME * column + row] = streams[r + S_TIME]
    out[O_FIRST_FRAME * column + row] = streams[r + S_FRAME]
    out[O_LAST_FRAME * column + row] = streams[r + S_FRAME]
    out[(O_CLIENT + P_LAST_TIME) * column + row] = streams[r + S_TIME]
    return 0


@kernel
def repeat_row(out: Int64s, row: int, stop: int, column: int) -> int:
    """Write all that `name_lone` does not into the rows behind `row`, which are like it, one column after the other."""
    if row + 1 == stop:
        return 0
    for cell in range(ROW):
        if cell not in OWN:
            value = out[cell * column + row]
            for other in range(row + 1, stop):
                out[cell * column + other] = value
    return 0


@kernel
def head(streams: Int64s, flows: Int64s, flow: int, stream: int, out: Int64s, o: int) -> int:
    """Names, times, roles."""
    r = stream * STREAM_STRIDE
    ports = streams[r + S_PORTS]
    source, destination = ports >> 16 & 0xFFFF, ports & 0xFFFF
    kept = flows[flow + FLOW_FLAGS]
    swapped = kept & FLOW_SWAPPED
    if not kept & FLOW_INFERRED:
        roles = 1 if swapped else 0  # seen, or told by the SYN-ACK
    else:
        roles = 4 if source == destination else 3  # who spoke first, or the lower port
    out[o + O_ROLES] = roles
    out[o + O_PORTS] = destination << 16 | source if swapped else source << 16 | destination
    out[o + O_VERSION] = ports >> 32
    out[o + O_FIRST_TIME] = streams[r + S_TIME]
    out[o + O_LAST_TIME] = flows[flow + LAST_TIME]
    out[o + O_FIRST_FRAME] = streams[r + S_FRAME]
    out[o + O_LAST_FRAME] = flows[flow + LAST_FRAME]
    out[o + O_SWAPPED] = swapped
    out[o + O_PREVIOUS] = max(flows[flow + PREVIOUS], 0) - 1
    out[o + O_ENCAPSULATION] = kept >> FLOW_ENCAP
    out[o + O_COMPLETENESS] = completeness(
        flows[flow + COMPLETENESS], flows[flow + CLIENT + E_PACKETS] + flows[flow + SERVER + E_PACKETS]
    )
    for i in range(4):
        out[o + O_HISTORY + i] = flows[flow + Z_HISTORY + i]
    return 0


@kernel
def endpoint(flows: Int64s, log: Int64s, g: Int64s, x: int, trip: int, calm: int, out: Int64s, o: int) -> int:
    """One endpoint's cells.

    calm: 1 if plain segments may have moved the analysis' cells only (track.wake); read so, that they change nothing.
    """
    out[o + P_PACKETS] = flows[x + E_PACKETS]
    out[o + P_OCTETS] = flows[x + E_OCTETS]
    out[o + P_UNIQUE] = flows[x + E_UNIQUE] + max(diff(flows[x + A_NEXT], flows[x + E_SND_MAX]), 0) * calm
    out[o + P_RETRANSMITTED] = flows[x + E_COUNTS] & LOW
    out[o + P_OUT_OF_ORDER] = flows[x + E_COUNTS] >> 32
    out[o + P_DUPLICATE_ACKS] = flows[x + E_COUNTS_2] & LOW
    out[o + P_ZERO_WINDOWS] = flows[x + E_COUNTS_2] >> 32
    out[o + P_KEEPALIVES] = flows[x + E_COUNTS_3] & LOW
    out[o + P_RTT] = trip if trip > 0 else -1
    traits = flows[x + E_TRAITS]
    out[o + P_MSS] = traits & 0xFFFF if traits & TRAIT_HAS_MSS else -1
    out[o + P_SCALE] = traits >> TRAIT_SCALE & 0xF if traits & TRAIT_HAS_SCALE else -1
    out[o + P_STATE] = flows[x + E_STATE]
    out[o + P_CERTAINTY] = certainty_now(flows, log, x)
    out[o + P_PATH] = path_of(flows, log, g, x)
    out[o + P_LAST_TIME] = flows[x + A_ACK_TIME]
    return 0


@kernel
def path_of(flows: Int64s, log: Int64s, g: Int64s, x: int) -> int:
    """What the endpoint's history passed through."""
    state = start_of(flows, x)
    path = PATH_FIN if flows[x + E_FLAGS] & F_FIN else 0
    at = flows[x + E_FIRST] & LOW
    while at:
        link = log[(at - 1) * LOG_STRIDE + LOG_LINK]
        event = link & 0xFF
        after = step(g, state, event)
        if after != state:
            if event in (SND_RST, RCV_RST):
                path |= PATH_RESET
            elif event in (GIVE_UP, ICMP) or (event == EXPIRE and state != TIME_WAIT):
                path |= PATH_TIMEOUT
            if after == TIME_WAIT:
                path |= PATH_TIME_WAIT
            if after == CLOSING:
                path |= PATH_CLOSING
        state = after
        at = link >> 16
    return path


@kernel
def fin_frame(flows: Int64s, log: Int64s, x: int) -> int:
    """Frame of the endpoint's first FIN as logged; 0: none."""
    at = flows[x + E_FIRST] & LOW
    while at:
        link = log[(at - 1) * LOG_STRIDE + LOG_LINK]
        if link & 0xFF == SND_FIN:
            return log[(at - 1) * LOG_STRIDE + LOG_FRAME]
        at = link >> 16
    return 0


@kernel
def side_of(client: int, server: int) -> int:
    """Which sides a property holds for: SIDE_..., or -1."""
    if client and server:
        return SIDE_BOTH
    if client:
        return SIDE_CLIENT
    return SIDE_SERVER if server else -1


@kernel
def both(flows: Int64s, log: Int64s, flow: int, out: Int64s, o: int) -> int:
    """What takes both endpoints to tell."""
    client, server = flow + CLIENT, flow + SERVER
    c_path, s_path = out[o + O_CLIENT + P_PATH], out[o + O_SERVER + P_PATH]
    c_traits, s_traits = flows[client + E_TRAITS], flows[server + E_TRAITS]
    agreed = c_traits & s_traits
    out[o + O_SACK] = 1 if agreed & TRAIT_SACK else 0
    out[o + O_TIMESTAMPS] = 1 if agreed & TRAIT_TIMESTAMPS else 0
    out[o + O_ECN] = 1 if agreed & TRAIT_ECN else 0
    out[o + O_FAST_OPEN] = 1 if flows[flow + FLOW_FLAGS] & FLOW_FAST_OPEN or c_traits & TRAIT_FAST_OPEN else 0
    openings = flows[client + E_OPENINGS] + flows[server + E_OPENINGS]
    out[o + O_SYNS] = openings & LOW
    out[o + O_SYNACKS] = openings >> 32
    out[o + O_HANDSHAKE] = flows[flow + HANDSHAKE] if flows[flow + HANDSHAKE] > 0 else -1
    out[o + O_TIME_WAIT] = side_of(c_path & PATH_TIME_WAIT, s_path & PATH_TIME_WAIT)
    out[o + O_RST_SENDER] = side_of(flows[client + E_FLAGS] & F_RST, flows[server + E_FLAGS] & F_RST)
    out[o + O_CLOSED_FIRST] = closed_first(flows, log, client, server, c_path, s_path)
    out[o + O_ENDED] = ended(out[o + O_CLIENT + P_STATE], out[o + O_SERVER + P_STATE], c_path, s_path)
    out[o + O_CONN_STATE] = zeek_conn_state(flows, flow, client, server)
    tap_of(flows, flow, client, server, out, o)
    return 0


@kernel
def closed_first(flows: Int64s, log: Int64s, client: int, server: int, c_path: int, s_path: int) -> int:
    """Who sent the first FIN; both, if they crossed (both went through CLOSING)."""
    if c_path & s_path & PATH_CLOSING:
        return SIDE_BOTH
    c_fin, s_fin = fin_frame(flows, log, client), fin_frame(flows, log, server)
    if c_fin and s_fin:
        return SIDE_CLIENT if c_fin < s_fin else SIDE_SERVER
    return side_of(c_fin, s_fin)


@kernel
def ended(c_state: int, s_state: int, c_path: int, s_path: int) -> int:
    """How the connection ended; still open if either side lives (TIME-WAIT is over for the applications)."""
    path = c_path | s_path
    if c_path & s_path & PATH_FIN:
        return ENDED_FIN
    if path & PATH_RESET:
        return ENDED_RESET
    if path & PATH_TIMEOUT:
        return ENDED_TIMEOUT
    return (
        ENDED_FIN
        if path & PATH_FIN and c_state in (CLOSED, TIME_WAIT) and s_state in (CLOSED, TIME_WAIT)
        else ENDED_OPEN
    )


@kernel
def is_initial(ttl: int) -> bool:
    """Whether a TTL is one that hosts start with: no router between (Linux, BSD 64; Windows 128; others 255)."""
    return ttl in (64, 128, 255)


@kernel
def tap_of(flows: Int64s, flow: int, client: int, server: int, out: Int64s, o: int) -> int:
    """Where the capture was made: on the side with much the shorter round trip, whose TTL no router has lowered."""
    c_trip, s_trip = flows[flow + RTT_CLIENT], flows[flow + RTT_SERVER]
    c_near, s_near = is_initial(flows[client + E_COUNTS_3] >> 40), is_initial(flows[server + E_COUNTS_3] >> 40)
    out[o + O_TAP] = -1
    out[o + O_TAP_GRADE] = -1
    if c_trip <= 0 or s_trip <= 0:
        return 0
    if c_trip <= s_trip // NEARER:  # not c_trip * NEARER: clocks may jump by centuries
        out[o + O_TAP] = TAP_CLIENT
        out[o + O_TAP_GRADE] = PROBABLE if c_near and not s_near else SUSPECTED
    elif s_trip <= c_trip // NEARER:
        out[o + O_TAP] = TAP_SERVER
        out[o + O_TAP_GRADE] = PROBABLE if s_near and not c_near else SUSPECTED
    elif not c_near and not s_near and flows[client + E_COUNTS_3] >> 32 and flows[server + E_COUNTS_3] >> 32:
        out[o + O_TAP] = TAP_MIDDLE
        out[o + O_TAP_GRADE] = PROBABLE
    return 0
