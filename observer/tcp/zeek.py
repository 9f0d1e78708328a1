"""Zeek's conn_state and history of a flow, kept segment by segment as Zeek's TCP analyser keeps them.

Zeek has one small machine per endpoint (inactive, SYN sent, SYN-ACK sent, partial, established, closed, reset) and a
text of letters for what happened.  Both are rebuilt here from the facts of Zeek's sources: roles and their flips,
when a letter is repeated, what counts as retransmission (an end of segment that is not beyond the highest seen) and
as content gap (octets that the peer acknowledges and the capture does not hold).

The work for one segment, in Zeek's order, so that the letters come out in its order:

1. The first segment decides the roles: its sender is the originator, unless it is no SYN and comes from a likely
   server port (`^`).  A SYN-ACK that is followed by an ACK or data was no scan: the roles are flipped then.
2. A segment with a wrong checksum is a `c` and nothing else.  Set Z_IGNORE_CHECKSUMS in Z_FLOW when the row is made
   to have it taken like any other (Zeek's `ignore_checksums`); without verification no row carries the mark.
3. Sequence numbers of an endpoint that speaks for the first time, or that sends another SYN.
4. Letters of flags and payload, then `w`, then `t`.
5. The endpoints' machine.
6. What the acknowledgment shows to be missing (`g`), then the payload fills holes.

`zeek_is_plain` is the short way for nearly all segments of a long transfer.

What differs from Zeek on purpose.  One row of the flow table is one connection, where Zeek may begin a new record by
a timer.  Where it does so 5 s after the close is complete, 5 s after a SYN that nobody answered (the sender goes on
without SYN: one direction was captured), or because another connection begins on the same ports, the flow keeps the
first record and the rest is not in it (`zeek_is_over`): a late RST cannot change how a connection ended.  Inactivity
(5 min), a late answer to a SYN and a simultaneous open do not begin another record here, nor does a first segment
with a wrong checksum have a record of its own.  `x` (an application analyser gave up) has no cause in TCP.  Of several holes in one
direction only the first is kept exactly: octets above it count as present up to the highest one seen, so `g` may be
missed, never invented.  Payload that the capture cut off counts as present (Zeek drops such payload and reports
gaps).  Counts for `c g t w` stop at 1,048,575, after the seventh letter.

Never here: findings, RFC 9293 states, time-outs of TCP itself.

Sources: Zeek 5.1 to 8 (TCPSessionAdapter, TCP_Endpoint, TCP_Reassembler, Reassem, base/protocols/conn), pull requests
2191 and 2552 for the flip after a SYN-ACK; checked against conn.log baselines of Zeek's own tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer import segments as seg
from observer.kernels import Int64s, kernel
from observer.tcp import layout
from observer.tcp.zeek_cells import (
    ALPHABET,
    BREAKS_SYN_RST,
    C_OTH,
    C_REJ,
    C_RSTO,
    C_RSTOS0,
    C_RSTR,
    C_RSTRH,
    C_S0,
    C_S1,
    C_S2,
    C_S3,
    C_SF,
    C_SH,
    C_SHR,
    CHECKSUM_SHIFT,
    CLOSED,
    CONN_STATES,
    CONTROL,
    ESTABLISHED,
    HAS_FIN,
    INACTIVE,
    L_C,
    L_FLIP,
    L_R,
    L_S,
    MASK,
    ORIGINATOR,
    PARTIAL,
    QUICK,
    RESET,
    SEEN,
    SEEN_ACK,
    SEEN_DATA,
    STATE_MASK,
    SYN_ACK_SENT,
    SYN_SENT,
    UPPER,
    Z_ACKED,
    Z_COUNTS,
    Z_DELIVERED,
    Z_FLAGS,
    Z_IGNORE_CHECKSUMS,
    Z_LAST,
    Z_OVER,
    Z_START,
    Z_STARTED,
)
from observer.tcp.zeek_steps import (
    zeek_acknowledged,
    zeek_begin,
    zeek_close,
    zeek_count,
    zeek_delta,
    zeek_ends,
    zeek_flip_after_syn_ack,
    zeek_init_endpoint,
    zeek_letters,
    zeek_partial,
    zeek_payload,
    zeek_quick,
    zeek_set_sequence,
    zeek_start_timer,
    zeek_step,
    zeek_update_acked,
    zeek_update_last,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy
    import numpy.typing

__all__ = [
    "CONN_STATES",
    "Z_IGNORE_CHECKSUMS",
    "zeek_conn_state",
    "zeek_histories",
    "zeek_history",
    "zeek_is_over",
    "zeek_is_plain",
    "zeek_originator",
    "zeek_segment",
]


# --- the short way ---------------------------------------------------------------------------------------


@kernel
def zeek_is_plain(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> int:
    """1 if the segment tells Zeek nothing new; then all there is to do for it has been done.

    The test, all of which must hold: flags are ACK, perhaps with PSH, URG or the ECN bits; both endpoints are
    established (or partial) and without a hole (QUICK); the letter for payload or for a pure ACK is noted; the window
    is open; the checksum is not wrong; the segment begins exactly at the highest octet seen; it acknowledges nothing
    that was not seen.  Only then the sender's highest octet is moved on, which is the one thing that changes.
    """
    r = s
    length = rows[r + seg.LENGTH]
    need = QUICK | (SEEN_DATA if length else SEEN_ACK)
    if flows[x + Z_FLAGS] & need != need or rows[r + seg.FLAGS] & (CONTROL | seg.ACK_FLAG) != seg.ACK_FLAG:
        return 0
    if rows[r + seg.SEQ] != flows[x + Z_LAST] or (flows[y + Z_LAST] - rows[r + seg.ACK]) & 0x80000000:
        return 0
    if rows[r + seg.WINDOW] == 0 or rows[r + seg.OPTIONS] & (seg.BAD_CHECKSUM | seg.CUT_HEADER):
        return 0
    flows[x + Z_LAST] = (flows[x + Z_LAST] + length) & MASK
    return 1


# --- the segment ------------------------------------------------------------------------------------------


@kernel
def zeek_segment(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, from_first_sender: int) -> int:
    """Take one segment of a flow.

    x, y: first cells of the sender's and the receiver's endpoint block in `flows`; s: index of the segment's row;
    from_first_sender: 1 if the sender also sent the flow's first segment.  Returns 0.  Rows of KIND_QUOTED are not
    for this function; duplicates of a frame are, because Zeek takes them for retransmissions.
    """
    r = s
    options = rows[r + seg.OPTIONS]
    if flows[flow + layout.Z_FLOW] & Z_OVER or options & seg.CUT_HEADER:
        return 0
    # 1. roles
    if not flows[flow + layout.Z_FLOW] & Z_STARTED:
        zeek_begin(flows, flow, x, y, rows, s, from_first_sender)
    elif zeek_ends(flows, flow, x, y, rows, s):
        return 0
    # 2. checksum
    if options & seg.BAD_CHECKSUM and not flows[flow + layout.Z_FLOW] & Z_IGNORE_CHECKSUMS:
        return zeek_count(flows, flow, x, Z_COUNTS, CHECKSUM_SHIFT, L_C)
    flags, length = rows[r + seg.FLAGS], rows[r + seg.LENGTH]
    zeek_flip_after_syn_ack(flows, flow, x, y, flags, length)
    return zeek_process(flows, flow, x, y, rows, s)


@kernel
def zeek_process(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int) -> int:
    """Steps 3 to 6 for a segment that counts."""
    r = s
    flags, length = rows[r + seg.FLAGS], rows[r + seg.LENGTH]
    seq, ack = rows[r + seg.SEQ], rows[r + seg.ACK]
    if flows[x + Z_FLAGS] & QUICK:
        # zeek_is_plain moved only Z_LAST on
        flows[x + Z_DELIVERED] = flows[x + Z_LAST]
        flows[y + Z_DELIVERED] = flows[y + Z_LAST]
    if not flows[x + Z_FLAGS] & SEEN:
        zeek_partial(flows, flow, x, flags)
    # 3. sequence numbers (SYN and FIN take one each; the payload of a RST is not part of the stream)
    taken = 0 if flags & seg.RST else length
    if flags & seg.SYN:
        taken += 1
    if flags & seg.FIN:
        taken += 1
    end = (seq + taken) & MASK
    zeek_init_endpoint(flows, x, flags, seq, end)
    # 4. letters
    zeek_letters(flows, flow, x, y, rows, s)
    if flags & seg.FIN:
        flows[x + Z_FLAGS] |= HAS_FIN
    fresh = flags & seg.ACK_FLAG and flows[y + Z_FLAGS] & STATE_MASK == INACTIVE
    if fresh:
        zeek_set_sequence(flows, y, ack - 1, ack - 1)
    elif flags & (seg.ACK_FLAG | seg.RST) == seg.ACK_FLAG:
        zeek_update_acked(flows, y, ack)
    zeek_update_last(flows, flow, x, flags, end, length)
    # 5. the machine
    if flags & seg.SYN and flows[x + Z_FLAGS] & (STATE_MASK | ORIGINATOR) == ORIGINATOR:
        zeek_start_timer(flows, flow, rows[r + seg.TIME])
    closes = zeek_step(flows, flow, x, y, flags, length)
    # 6. holes
    if flags & seg.ACK_FLAG and not fresh and zeek_delta(ack, flows[y + Z_START]) >= 0:
        zeek_acknowledged(flows, flow, y, x, ack)
    if length > 0 and not flags & seg.RST:
        zeek_payload(flows, x, (seq + 1) & MASK if flags & seg.SYN else seq, length)
    if closes:
        zeek_close(flows, flow, x, y, rows[r + seg.TIME])
    return zeek_quick(flows, x, y)


# --- the result -------------------------------------------------------------------------------------------


@kernel
def zeek_is_empty(flows: Int64s, x: int) -> int:
    """1 if Zeek's size of the endpoint's stream is 0 octets."""
    start, last, acked = flows[x + Z_START], flows[x + Z_LAST], flows[x + Z_ACKED]
    size = (last - start) & MASK if zeek_delta(last, acked) > 0 else (acked - start) & MASK
    # one for the SYN, one for the FIN
    return 1 if size <= (2 if flows[x + Z_FLAGS] & HAS_FIN else 1) else 0


@kernel
def zeek_is_syn_then_reset(flows: Int64s, flow: int) -> int:
    """1 if the originator's SYN was followed by its RST without anything else of its own that matters."""
    begun = 0
    for i in range(4):
        rest = flows[flow + layout.Z_HISTORY + i]
        while rest:
            code = rest & 31
            rest >>= 5
            if not begun:
                if code != L_FLIP and code != L_S + UPPER:
                    return 0
                begun = 1 if code == L_S + UPPER else 0
            elif code == L_R + UPPER:
                return 1
            elif code > UPPER and BREAKS_SYN_RST >> (code - UPPER) & 1:
                return 0
    return 0


@kernel
def zeek_originator(flows: Int64s, client: int, server: int) -> int:
    """First cell of the block of Zeek's originator: `client` or `server`."""
    return server if flows[server + Z_FLAGS] & ORIGINATOR else client


@kernel
def zeek_is_over(flows: Int64s, flow: int) -> int:
    """1 if later segments of the flow belong to another record of Zeek's."""
    return 1 if flows[flow + layout.Z_FLOW] & Z_OVER else 0


@kernel
def zeek_conn_state(flows: Int64s, flow: int, client: int, server: int) -> int:
    """Zeek's conn_state as a key of CONN_STATES."""
    o = zeek_originator(flows, client, server)
    p = client if o == server else server
    a, b = flows[o + Z_FLAGS] & STATE_MASK, flows[p + Z_FLAGS] & STATE_MASK
    a_silent, b_silent = a == INACTIVE or a == PARTIAL, b == INACTIVE or b == PARTIAL
    if b == RESET:
        if a == SYN_SENT or a == SYN_ACK_SENT or (a == RESET and zeek_is_empty(flows, o) and zeek_is_empty(flows, p)):
            return C_REJ
        return C_RSTRH if a_silent else C_RSTR
    if a == RESET:
        if b_silent:
            return C_RSTOS0 if zeek_is_syn_then_reset(flows, flow) else C_OTH
        return C_RSTO
    if a == CLOSED and b == CLOSED:
        return C_SF
    if a == CLOSED:
        return C_SH if b_silent else C_S2
    if b == CLOSED:
        return C_SHR if a_silent else C_S3
    if a == SYN_SENT and b == INACTIVE:
        return C_S0
    return C_S1 if a == ESTABLISHED and b == ESTABLISHED else C_OTH


# --- text, outside the kernels ------------------------------------------------------------------------------


def zeek_history(cells: Iterable[int]) -> str:
    """Text of a packed history.

    cells: the four cells Z_HISTORY .. Z_HISTORY + 3 of a flow.

    Examples
    --------
    >>> zeek_history([13 | 2 << 5 | 15 << 10, 0, 0, 0])
    'ShA'
    """
    text = []
    for cell in cells:
        rest = int(cell)
        while rest:
            text.append(ALPHABET[rest & 31])
            rest >>= 5
    return "".join(text)


def zeek_histories(cells: numpy.typing.NDArray[numpy.int64]) -> list[str]:
    """Texts of many packed histories: an array of shape (flows, 4), int64.

    Most flows share few histories, so each is spelled once.

    Examples
    --------
    >>> import numpy
    >>> zeek_histories(numpy.array([[13, 0, 0, 0], [25 | 6 << 5, 0, 0, 0]]))
    ['S', '^r']
    """
    known: dict[tuple[int, ...], str] = {}
    texts = []
    for key in map(tuple, cells.tolist()):
        text = known.get(key)
        if text is None:
            text = known[key] = zeek_history(key)
        texts.append(text)
    return texts
