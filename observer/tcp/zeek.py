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
(5 min), a late answer to a SYN and a simultaneous open do not begin another record here, nor has a first segment with
a wrong checksum a record of its own.  `x` (an application analyser gave up) has no cause in TCP.  Of several holes
in one direction only the first is kept exactly: octets above it count as present up to the highest one seen, so `g`
may be missed, never invented.  Payload that the capture cut off counts as present (Zeek drops such payload and
reports gaps).  Counts for `c g t w` stop at 1,048,575, after the seventh letter.

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
    L_H,
    L_R,
    L_S,
    L_W,
    MASK,
    ORIGINATOR,
    QUICK,
    RESET,
    SEEN,
    SEEN_ACK,
    SEEN_DATA,
    SILENT,
    STATE_MASK,
    SYN_SENT,
    TIMER_MASK,
    TIMER_SHIFT,
    TOO_LARGE_JUMP,
    UPPER,
    WAITING,
    Z_ACKED,
    Z_COUNTS,
    Z_DELIVERED,
    Z_FLAGS,
    Z_IGNORE_CHECKSUMS,
    Z_LAST,
    Z_OVER,
    Z_PARTIAL,
    Z_START,
    Z_STARTED,
    ZERO_WINDOW_SHIFT,
)
from observer.tcp.zeek_steps import (
    zeek_acknowledged,
    zeek_append,
    zeek_close,
    zeek_corrects,
    zeek_counted,
    zeek_delta,
    zeek_ends,
    zeek_enter,
    zeek_flip,
    zeek_from_inactive,
    zeek_is_flipped,
    zeek_last,
    zeek_letter,
    zeek_numbers,
    zeek_payload,
    zeek_quick,
    zeek_step,
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
    length = rows[s + seg.LENGTH]
    need = QUICK | (SEEN_DATA if length else SEEN_ACK)
    if flows[x + Z_FLAGS] & need != need or rows[s + seg.FLAGS] & (CONTROL | seg.ACK_FLAG) != seg.ACK_FLAG:
        return 0
    if rows[s + seg.SEQ] != flows[x + Z_LAST] or (flows[y + Z_LAST] - rows[s + seg.ACK]) & 0x80000000:
        return 0
    if rows[s + seg.WINDOW] == 0 or rows[s + seg.OPTIONS] & (seg.BAD_CHECKSUM | seg.CUT_HEADER):
        return 0
    flows[x + Z_LAST] = (flows[x + Z_LAST] + length) & MASK
    return 1


# --- the segment ------------------------------------------------------------------------------------------


@kernel
def zeek_segment(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, from_first_sender: int) -> int:
    """Take one segment of a flow.

    x, y: first cells of the sender's and the receiver's endpoint block in `flows`; s: first cell of the segment's row;
    from_first_sender: 1 if the sender also sent the flow's first segment.  Returns 0.  Rows of KIND_QUOTED are not
    for this function; duplicates of a frame are, because Zeek takes them for retransmissions.
    """
    options, flags, length = rows[s + seg.OPTIONS], rows[s + seg.FLAGS], rows[s + seg.LENGTH]
    seq, time_ns = rows[s + seg.SEQ], rows[s + seg.TIME]
    if flows[flow + layout.Z_FLOW] & Z_OVER or options & seg.CUT_HEADER:
        return 0
    # 1. roles
    if not flows[flow + layout.Z_FLOW] & Z_STARTED:
        flows[flow + layout.Z_FLOW] |= Z_STARTED
        flows[(x if from_first_sender else y) + Z_FLAGS] |= ORIGINATOR
        if zeek_is_flipped(flags, rows[s + seg.SRC_PORT], rows[s + seg.DST_PORT]):
            zeek_flip(flows, flow, x, y)
            zeek_append(flows, flow, L_FLIP)
    elif zeek_ends(flows, flow, x, y, flags, seq, time_ns):
        flows[flow + layout.Z_FLOW] |= Z_OVER
        flows[x + Z_FLAGS] &= ~QUICK
        flows[y + Z_FLAGS] &= ~QUICK
        return 0
    # 2. checksum
    if options & seg.BAD_CHECKSUM and not flows[flow + layout.Z_FLOW] & Z_IGNORE_CHECKSUMS:
        letter = zeek_counted(flows, x + Z_COUNTS, CHECKSUM_SHIFT, L_C)
        if letter:
            zeek_append(flows, flow, letter + UPPER if flows[x + Z_FLAGS] & ORIGINATOR else letter)
        return 0
    if flows[flow + layout.Z_HISTORY] == L_H + UPPER and not flags & CONTROL and (length or flags & seg.ACK_FLAG):
        # it began with a SYN-ACK; an ACK or data afterwards shows that this was no scan
        flows[flow + layout.Z_HISTORY] = L_FLIP | L_H << 5
        flows[flow + layout.Z_FLOW] += 1
        zeek_flip(flows, flow, x, y)
        server = y if flows[x + Z_FLAGS] & ORIGINATOR else x
        flows[server + Z_FLAGS] = zeek_enter(flows[server + Z_FLAGS], ESTABLISHED)
    if flows[x + Z_FLAGS] & QUICK:
        # zeek_is_plain moved only Z_LAST on
        flows[x + Z_DELIVERED] = flows[x + Z_LAST]
        flows[y + Z_DELIVERED] = flows[y + Z_LAST]
    if not flows[x + Z_FLAGS] & SEEN:
        zeek_partial(flows, flow, x, flags)
    # 3. sequence numbers (SYN and FIN take one each; the payload of a RST is not part of the stream)
    end = seq + (flags >> 1 & 1) + (flags & seg.FIN)
    end = (end if flags & seg.RST else end + length) & MASK
    if flows[x + Z_FLAGS] & STATE_MASK == INACTIVE:
        if flags & seg.SYN:
            zeek_numbers(flows, x, seq, end)
        else:
            zeek_numbers(flows, x, seq - 1, seq)
    elif flags & seg.SYN and zeek_corrects(flows[x + Z_FLAGS], 1 if seq == flows[x + Z_START] else 0):
        zeek_numbers(flows, x, seq, end)
    # 4. letters
    letter = zeek_letter(flows, x, flags, (seq - flows[x + Z_START]) & MASK, length)
    own = flows[x + Z_FLAGS]
    upper = UPPER if own & ORIGINATOR else 0
    letters = letter + upper if letter else 0
    shift = 5 if letter else 0
    boring = flags & seg.RST or own & STATE_MASK == RESET or flows[y + Z_FLAGS] & STATE_MASK == CLOSED
    if rows[s + seg.WINDOW] == 0 and not boring:
        letter = zeek_counted(flows, x + Z_COUNTS, ZERO_WINDOW_SHIFT, L_W)
        letters |= letter + upper << shift if letter else 0
        shift += 5 if letter else 0
    # acknowledged numbers, then the sender's own
    ack = rows[s + seg.ACK] if flags & seg.ACK_FLAG else -1
    if ack >= 0 and flows[y + Z_FLAGS] & STATE_MASK == INACTIVE:
        zeek_numbers(flows, y, ack - 1, ack - 1)
        ack = -1
    elif ack >= 0 and zeek_delta(ack, flows[y + Z_START]) < 0:
        ack = -1  # before the begin of what is known
    elif ack >= 0 and not flags & seg.RST and zeek_delta(ack, flows[y + Z_LAST]) > 0:
        # octets that were not captured; other acknowledgments say no more than Z_LAST.  An acknowledgment of 0 far
        # away is rather a broken field than a large connection.
        moved = zeek_delta(ack, flows[y + Z_ACKED])
        if moved > 0 and (ack != 0 or moved <= TOO_LARGE_JUMP):
            flows[y + Z_ACKED] = ack
    letter = zeek_last(flows, x, flags, end, length)
    letters |= letter + upper << shift if letter else 0
    shift += 5 if letter else 0
    # 5. the machine
    if flags & seg.FIN:
        flows[x + Z_FLAGS] |= HAS_FIN
    before = flows[x + Z_FLAGS] & STATE_MASK
    if before == INACTIVE:
        if flags & seg.SYN and upper:
            cell = flows[flow + layout.Z_FLOW]
            flows[flow + layout.Z_FLOW] = cell & TIMER_MASK | (time_ns >> 20) << TIMER_SHIFT
        letter = zeek_from_inactive(flows, flow, x, y, flags, length)
        letters |= letter << shift
        shift += 5 if letter else 0
    elif flags & CONTROL:
        zeek_step(flows, x, y, flags)
    # 6. holes
    if ack >= 0:
        letter = zeek_acknowledged(flows, flow, x, y, ack)
        if letter:
            upper = UPPER if flows[y + Z_FLAGS] & ORIGINATOR else 0
            letters |= (letter + upper if letter < 32 else letter + (upper << 5 | upper)) << shift
    if length > 0 and not flags & seg.RST:
        zeek_payload(flows, x, seq + (flags >> 1 & 1), length)
    if flags & (seg.FIN | seg.RST) and flows[x + Z_FLAGS] & STATE_MASK != before:
        zeek_close(flows, flow, x, y, time_ns)
    zeek_append(flows, flow, letters)
    return zeek_quick(flows, x, y)


@kernel
def zeek_partial(flows: Int64s, flow: int, x: int, flags: int) -> int:
    """Whether the begin of the connection is missing, by the first segment of each side."""
    cell = flows[flow + layout.Z_FLOW]
    if flows[x + Z_FLAGS] & ORIGINATOR:
        whole = flags & (seg.SYN | seg.ACK_FLAG) == seg.SYN
    else:
        whole = not cell & Z_PARTIAL and flags & seg.SYN != 0
    flows[flow + layout.Z_FLOW] = cell & ~Z_PARTIAL if whole else cell | Z_PARTIAL
    flows[x + Z_FLAGS] |= SEEN
    return 0


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
    a_silent, b_silent = SILENT >> a & 1, SILENT >> b & 1
    if b == RESET:
        if WAITING >> a & 1 or (a == RESET and zeek_is_empty(flows, o) and zeek_is_empty(flows, p)):
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
