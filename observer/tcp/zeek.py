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

What differs from Zeek on purpose.  One row of the flow table is one connection, so Zeek's timers for unanswered SYNs
(5 s), inactivity (5 min) and half-closed connections do not cut a flow in two here.  One timer is kept: 5 s after the
close is complete, or when another connection begins on the same ports, Zeek starts a new record; the flow's own is
then final (`zeek_is_over`), so a late RST cannot change how it ended.  A first segment with a wrong checksum does not
make a record of its own.  `x` (an application analyser gave up) has no cause in TCP.  Of several holes in one
direction only the first is kept exactly: octets above it count as present up to the highest one seen, so `g` may be
missed, never invented.  Payload that the capture cut off counts as present (Zeek drops such payload and reports
gaps).  Counts for `c g t w` stop at 1,048,575, after the seventh letter.

Never here: findings, RFC 9293 states, time-outs of TCP itself.

Sources: Zeek 5.1 to 8 (TCPSessionAdapter, TCP_Endpoint, TCP_Reassembler, Reassem, base/protocols/conn), pull requests
2191 and 2552 for the flip after a SYN-ACK; checked against conn.log baselines of Zeek's own tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer import segments as seg
from observer.kernels import Int64s, kernel
from observer.tcp import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy
    import numpy.typing

# --- cells of an endpoint (added to its block) ----------------------------------------------------------
Z_FLAGS: Final = layout.Z_FLAGS
Z_START: Final = Z_FLAGS + 1  # sequence number of its SYN; of a partial connection its first one - 1
Z_LAST: Final = Z_FLAGS + 2  # highest end of a segment seen
Z_ACKED: Final = Z_FLAGS + 3  # highest acknowledgment of its octets, kept only where it is beyond Z_LAST
Z_LAST_SYN: Final = Z_FLAGS + 4  # relative sequence number of its last SYN, FIN, RST
Z_LAST_FIN: Final = Z_FLAGS + 5
Z_LAST_RST: Final = Z_FLAGS + 6
Z_COUNTS: Final = Z_FLAGS + 7  # 20 bits each: wrong checksums, retransmissions, zero windows
Z_DELIVERED: Final = Z_FLAGS + 8  # end of what is there without a hole or was given up; stale where QUICK is set
Z_ABOVE: Final = Z_FLAGS + 9  # octets above the first hole: distance from Z_DELIVERED << 30 | length; 0: none

# --- Z_FLAGS --------------------------------------------------------------------------------------------
STATE_MASK: Final = 7
PREVIOUS_SHIFT: Final = 3  # the state before, 3 bits
SEEN_SYN: Final = 1 << 6
SEEN_FIN: Final = 1 << 7
SEEN_RST: Final = 1 << 8
SEEN_FIN_RST: Final = 1 << 9
SEEN_DATA: Final = 1 << 10
SEEN_ACK: Final = 1 << 11
SEEN_MULTI: Final = 1 << 12
DID_CLOSE: Final = 1 << 13
ORIGINATOR: Final = 1 << 14
SEEN: Final = 1 << 15  # it has sent a segment
QUICK: Final = 1 << 16  # see zeek_is_plain
HAS_FIN: Final = 1 << 17
GAPS_SHIFT: Final = 20  # 20 bits: content gaps

# states of an endpoint (Zeek's TCP_ENDPOINT_...)
INACTIVE: Final = 0
SYN_SENT: Final = 1
SYN_ACK_SENT: Final = 2
PARTIAL: Final = 3
ESTABLISHED: Final = 4
CLOSED: Final = 5
RESET: Final = 6

# --- Z_FLOW ---------------------------------------------------------------------------------------------
LETTERS_MASK: Final = 63  # letters noted
Z_STARTED: Final = 1 << 8
Z_PARTIAL: Final = 1 << 9
Z_OVER: Final = 1 << 10  # Zeek would have begun another record; this one is final
Z_FULL: Final = 1 << 11  # more letters than fit: the first MAX_LETTERS are kept
Z_IGNORE_CHECKSUMS: Final = 1 << 12
CLOSE_SHIFT: Final = 16  # time of the complete close in units of 2**20 ns; 0: not closed

MAX_LETTERS: Final = 48  # 4 cells of 12 letters of 5 bits
LETTERS_PER_CELL: Final = 12
ALPHABET: Final = " shadfrcgtwiqSHADFRCGTWIQ^"  # code of a letter = its place; upper case is 12 further on
L_S: Final = 1
L_H: Final = 2
L_A: Final = 3
L_D: Final = 4
L_F: Final = 5
L_R: Final = 6
L_C: Final = 7
L_G: Final = 8
L_T: Final = 9
L_W: Final = 10
L_I: Final = 11
L_Q: Final = 12
UPPER: Final = 12
L_FLIP: Final = 25

COUNT_MASK: Final = 0xFFFFF  # 20 bits
CHECKSUM_SHIFT: Final = 0
RETRANSMISSION_SHIFT: Final = 20
ZERO_WINDOW_SHIFT: Final = 40

MASK: Final = 0xFFFFFFFF
ABOVE_SHIFT: Final = 30
ABOVE_MASK: Final = (1 << 30) - 1
TOO_LARGE_JUMP: Final = 1048576  # Zeek's TOO_LARGE_SEQ_DELTA: SYN and RST this far off are not believed
CLOSE_DELAY: Final = 4768  # 5 s (Zeek's tcp_close_delay) in units of 2**20 ns
CONTROL: Final = seg.SYN | seg.FIN | seg.RST

CONN_STATES: Final[dict[int, str]] = {
    1: "S0",
    2: "S1",
    3: "SF",
    4: "REJ",
    5: "S2",
    6: "S3",
    7: "RSTO",
    8: "RSTR",
    9: "RSTOS0",
    10: "RSTRH",
    11: "SH",
    12: "SHR",
    13: "OTH",
}
C_S0: Final = 1
C_S1: Final = 2
C_SF: Final = 3
C_REJ: Final = 4
C_S2: Final = 5
C_S3: Final = 6
C_RSTO: Final = 7
C_RSTR: Final = 8
C_RSTOS0: Final = 9
C_RSTRH: Final = 10
C_SH: Final = 11
C_SHR: Final = 12
C_OTH: Final = 13


# --- the short way ---------------------------------------------------------------------------------------


@kernel
def zeek_is_plain(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> int:
    """1 if the segment tells Zeek nothing new; then all there is to do for it has been done.

    The test, all of which must hold: flags are ACK, perhaps with PSH, URG or the ECN bits; both endpoints are
    established (or partial) and without a hole (QUICK); the letter for payload or for a pure ACK is noted; the window
    is open; the checksum is not wrong; the segment begins exactly at the highest octet seen; it acknowledges nothing
    that was not seen.  Only then the sender's highest octet is moved on, which is the one thing that changes.
    """
    r = s * seg.STRIDE
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


# --- small parts -----------------------------------------------------------------------------------------


@kernel
def zeek_delta(a: int, b: int) -> int:
    """Difference of two sequence numbers, -2**31 .. 2**31-1."""
    d = (a - b) & MASK
    return d - 0x100000000 if d & 0x80000000 else d


@kernel
def zeek_letter(flows: Int64s, flow: int, code: int) -> int:
    """Append a letter; beyond MAX_LETTERS only Z_FULL is set."""
    cell = flows[flow + layout.Z_FLOW]
    n = cell & LETTERS_MASK
    if n >= MAX_LETTERS:
        flows[flow + layout.Z_FLOW] = cell | Z_FULL
        return 0
    flows[flow + layout.Z_HISTORY + n // LETTERS_PER_CELL] |= code << (5 * (n % LETTERS_PER_CELL))
    flows[flow + layout.Z_FLOW] = cell + 1
    return 0


@kernel
def zeek_note(flows: Int64s, flow: int, x: int, seen: int, letter: int) -> int:
    """Append the letter in the case of endpoint x if `seen` is not set yet; 1 if it was set."""
    flags = flows[x + Z_FLAGS]
    if seen and flags & seen:
        return 1
    flows[x + Z_FLAGS] = flags | seen
    zeek_letter(flows, flow, letter + UPPER if flags & ORIGINATOR else letter)
    return 0


@kernel
def zeek_count(flows: Int64s, flow: int, x: int, cell: int, shift: int, letter: int) -> int:
    """Count an event in 20 bits of a cell of x; its letter comes at 1, 10, 100 ... 1,000,000."""
    n = ((flows[x + cell] >> shift) & COUNT_MASK) + 1
    if n > COUNT_MASK:
        return 0
    flows[x + cell] += 1 << shift
    if n in (1, 10, 100, 1000, 10000, 100000, 1000000):
        zeek_note(flows, flow, x, 0, letter)
    return 0


@kernel
def zeek_set_state(flows: Int64s, x: int, state: int) -> int:
    """Enter a state and remember the one before."""
    flags = flows[x + Z_FLAGS]
    if flags & STATE_MASK != state:
        flows[x + Z_FLAGS] = (flags & ~63) | (flags & STATE_MASK) << PREVIOUS_SHIFT | state
    return 0


@kernel
def zeek_likely_server(port: int) -> int:
    """1 for Zeek's likely_server_ports with its default scripts, TCP only."""
    if port < 1024:
        if port in (21, 22, 25, 43, 53, 79, 80, 81, 88, 135, 139, 143, 389, 443, 445):
            return 1
        return 1 if port in (502, 563, 585, 587, 614, 631, 636, 989, 990, 992, 993, 995) else 0
    if port in (1080, 1434, 1883, 2811, 3128, 3268, 3306, 3389, 5222, 5223, 5269, 5432):
        return 1
    return 1 if port in (6379, 6666, 6667, 6668, 6669, 8000, 8080, 8888, 20000) else 0


@kernel
def zeek_flip(flows: Int64s, flow: int, x: int, y: int) -> int:
    """Exchange originator and responder."""
    flows[x + Z_FLAGS] ^= ORIGINATOR
    flows[y + Z_FLAGS] ^= ORIGINATOR
    flows[flow + layout.Z_FLOW] &= ~Z_PARTIAL
    return 0


# --- 1. roles, and whether the record is still this one ---------------------------------------------------


@kernel
def zeek_begin(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, from_first_sender: int) -> int:
    """Roles by the flow's first segment."""
    r = s * seg.STRIDE
    first = x if from_first_sender else y
    flows[first + Z_FLAGS] |= ORIGINATOR
    flows[flow + layout.Z_FLOW] |= Z_STARTED
    flags = rows[r + seg.FLAGS]
    if flags & (seg.SYN | seg.ACK_FLAG) == seg.SYN or not zeek_likely_server(rows[r + seg.SRC_PORT]):
        return 0
    if zeek_likely_server(rows[r + seg.DST_PORT]) and (
        flags & seg.SYN or rows[r + seg.SRC_PORT] >= rows[r + seg.DST_PORT]
    ):
        # both ports are plausible: only the smaller one of a segment that is no SYN-ACK is taken for the server's
        return 0
    zeek_flip(flows, flow, x, y)
    return zeek_letter(flows, flow, L_FLIP)


@kernel
def zeek_is_reuse(flows: Int64s, x: int, y: int, flags: int, seq: int) -> int:
    """1 if Zeek takes a segment with SYN for the begin of another connection on the same ports."""
    o = x if flows[x + Z_FLAGS] & ORIGINATOR else y
    p = y if o == x else x
    o_state, p_state = flows[o + Z_FLAGS] & STATE_MASK, flows[p + Z_FLAGS] & STATE_MASK
    if o_state == INACTIVE and p_state == INACTIVE:
        return 0  # nothing but wrong checksums so far
    known = o
    if flags & seg.ACK_FLAG:
        if o_state != INACTIVE:
            return 0
        known = p
    if flows[x + Z_FLAGS] & flows[y + Z_FLAGS] & DID_CLOSE:
        return 1
    if seq == flows[known + Z_START]:
        return 0
    # SYN-ACK and SYN in the wrong order are one handshake
    reversed_ = not flags & seg.ACK_FLAG and o_state == SYN_ACK_SENT and p_state == INACTIVE
    return 0 if reversed_ and seq == flows[p + Z_START] else 1


@kernel
def zeek_ends(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int) -> int:
    """1 (and Z_OVER) if Zeek would put this segment into another record."""
    r = s * seg.STRIDE
    closed = flows[flow + layout.Z_FLOW] >> CLOSE_SHIFT
    if closed and (rows[r + seg.TIME] >> 20) - closed >= CLOSE_DELAY:
        flows[flow + layout.Z_FLOW] |= Z_OVER
        return 1
    if rows[r + seg.FLAGS] & seg.SYN and zeek_is_reuse(flows, x, y, rows[r + seg.FLAGS], rows[r + seg.SEQ]):
        flows[flow + layout.Z_FLOW] |= Z_OVER
        return 1
    return 0


@kernel
def zeek_flip_after_syn_ack(flows: Int64s, flow: int, x: int, y: int, flags: int, length: int) -> int:
    """Flip a connection that began with SYN-ACK when an ACK or data follows: scans do not look like that."""
    if flows[flow + layout.Z_HISTORY] != L_H + UPPER or flags & CONTROL or not (length or flags & seg.ACK_FLAG):
        return 0
    flows[flow + layout.Z_HISTORY] = L_FLIP | L_H << 5
    flows[flow + layout.Z_FLOW] += 1
    zeek_flip(flows, flow, x, y)
    server = y if flows[x + Z_FLAGS] & ORIGINATOR else x
    return zeek_set_state(flows, server, ESTABLISHED)


# --- 3. sequence numbers ----------------------------------------------------------------------------------


@kernel
def zeek_set_sequence(flows: Int64s, x: int, start: int, last: int) -> int:
    """Begin the sequence numbers of x: `start` is its (supposed) SYN."""
    flows[x + Z_START] = start & MASK
    flows[x + Z_ACKED] = start & MASK
    flows[x + Z_LAST] = last & MASK
    flows[x + Z_DELIVERED] = (start + 1) & MASK
    flows[x + Z_ABOVE] = 0
    return 0


@kernel
def zeek_init_endpoint(flows: Int64s, x: int, flags: int, seq: int, end: int) -> int:
    """Begin or correct the sequence numbers of the sender."""
    state = flows[x + Z_FLAGS] & STATE_MASK
    syn = flags & seg.SYN
    if state == INACTIVE:
        if syn:
            return zeek_set_sequence(flows, x, seq, end)
        return zeek_set_sequence(flows, x, seq - 1, seq)
    if not syn or state == CLOSED:
        return 0
    if state == RESET and (flows[x + Z_FLAGS] >> PREVIOUS_SHIFT) & STATE_MASK != INACTIVE:
        return 0
    if state in (SYN_SENT, SYN_ACK_SENT) and seq == flows[x + Z_START]:
        return 0
    return zeek_set_sequence(flows, x, seq, end)


@kernel
def zeek_update_last(flows: Int64s, flow: int, x: int, flags: int, end: int, length: int) -> int:
    """Move the sender's highest octet on; payload that does not is a retransmission."""
    delta = zeek_delta(end, flows[x + Z_LAST])
    if flags & (seg.SYN | seg.RST) and (delta > TOO_LARGE_JUMP or delta < -TOO_LARGE_JUMP):
        return 0
    if flags & seg.FIN and flows[x + Z_LAST] == (flows[x + Z_START] + 1) & MASK:
        flows[x + Z_LAST] = end
    elif flows[x + Z_FLAGS] & STATE_MASK == RESET:
        return 0
    elif delta > 0:
        flows[x + Z_LAST] = end
    elif length > 0:
        zeek_count(flows, flow, x, Z_COUNTS, RETRANSMISSION_SHIFT, L_T)
    return 0


# --- 4. letters -------------------------------------------------------------------------------------------


@kernel
def zeek_again(flows: Int64s, flow: int, x: int, seen: int, letter: int, cell: int, relative: int) -> int:
    """A letter of SYN, FIN or RST: the first time, and again at another sequence number than the last."""
    if zeek_note(flows, flow, x, seen, letter) and relative != flows[x + cell]:
        zeek_note(flows, flow, x, 0, letter)
    flows[x + cell] = relative
    return 0


@kernel
def zeek_letters(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int) -> int:
    """Letters of flags, payload and window."""
    r = s * seg.STRIDE
    flags, length = rows[r + seg.FLAGS], rows[r + seg.LENGTH]
    relative = (rows[r + seg.SEQ] - flows[x + Z_START]) & MASK
    control = flags & CONTROL
    if control == 0:
        if length:
            zeek_note(flows, flow, x, SEEN_DATA, L_D)
        elif flags & seg.ACK_FLAG:
            zeek_note(flows, flow, x, SEEN_ACK, L_A)
    elif control == seg.SYN:
        letter = L_H if flags & seg.ACK_FLAG else L_S
        zeek_again(flows, flow, x, SEEN_SYN, letter, Z_LAST_SYN, relative)
    elif control == seg.FIN:
        zeek_again(flows, flow, x, SEEN_FIN, L_F, Z_LAST_FIN, (relative + length) & MASK)
    elif control == seg.RST:
        zeek_again(flows, flow, x, SEEN_RST, L_R, Z_LAST_RST, relative)
    elif control & seg.FIN and control & seg.RST:
        zeek_note(flows, flow, x, SEEN_FIN_RST, L_I)
    else:
        zeek_note(flows, flow, x, SEEN_MULTI, L_Q)
    matters = flows[y + Z_FLAGS] & STATE_MASK != CLOSED and flows[x + Z_FLAGS] & STATE_MASK != RESET
    if rows[r + seg.WINDOW] == 0 and not flags & seg.RST and matters:
        zeek_count(flows, flow, x, Z_COUNTS, ZERO_WINDOW_SHIFT, L_W)
    return 0


# --- 5. the endpoints' machine ----------------------------------------------------------------------------


@kernel
def zeek_from_inactive(flows: Int64s, flow: int, x: int, y: int, flags: int, length: int) -> int:
    """The sender's first segment; 1 if it closes its side."""
    originator = flows[x + Z_FLAGS] & ORIGINATOR
    peer = flows[y + Z_FLAGS] & STATE_MASK
    if flags & seg.SYN:
        if originator:
            zeek_set_state(flows, x, SYN_ACK_SENT if flags & seg.ACK_FLAG else SYN_SENT)
        else:
            if not flags & seg.ACK_FLAG and peer == SYN_ACK_SENT:
                # SYN-ACK and SYN were captured in the wrong order
                zeek_flip(flows, flow, x, y)
                zeek_letter(flows, flow, L_FLIP)
                zeek_set_state(flows, y, ESTABLISHED)
            elif peer == SYN_SENT:
                zeek_set_state(flows, y, ESTABLISHED)
            zeek_set_state(flows, x, ESTABLISHED)
    if flags & seg.FIN:
        zeek_set_state(flows, x, CLOSED)
    if flags & seg.RST:
        zeek_set_state(flows, x, RESET)
    if flows[x + Z_FLAGS] & STATE_MASK == INACTIVE:
        if not originator and length == 0 and peer == SYN_SENT:
            return 0  # some acknowledge a SYN before they send their own: no partial connection
        if flags & seg.ACK_FLAG and peer == ESTABLISHED:
            flows[flow + layout.Z_FLOW] &= ~Z_PARTIAL
            zeek_set_state(flows, x, ESTABLISHED)
        else:
            zeek_set_state(flows, x, PARTIAL)
    return 1 if flags & (seg.FIN | seg.RST) else 0


@kernel
def zeek_step(flows: Int64s, flow: int, x: int, y: int, flags: int, length: int) -> int:
    """One step of the sender's machine; 1 if the segment closes its side."""
    state = flows[x + Z_FLAGS] & STATE_MASK
    if state == INACTIVE:
        return zeek_from_inactive(flows, flow, x, y, flags, length)
    if state == RESET:
        return 0
    peer = flows[y + Z_FLAGS] & STATE_MASK
    if state == CLOSED:
        # a RST after both FINs is an ordinary end
        if not flags & seg.RST or peer == CLOSED:
            return 0
        zeek_set_state(flows, x, RESET)
        return 1
    if state in (SYN_SENT, SYN_ACK_SENT):
        if flags & seg.FIN:
            zeek_set_state(flows, x, CLOSED)
    else:
        if flags & (seg.SYN | seg.ACK_FLAG) == seg.SYN and state == PARTIAL and peer == INACTIVE:
            zeek_set_state(flows, x, SYN_SENT)
        if flags & (seg.FIN | seg.RST) == seg.FIN:
            zeek_set_state(flows, x, CLOSED)
            if peer == RESET and (flows[y + Z_FLAGS] >> PREVIOUS_SHIFT) & STATE_MASK == CLOSED:
                zeek_set_state(flows, y, CLOSED)  # FIN, then RST, then the other FIN: an ordinary end
    if flags & seg.RST:
        zeek_set_state(flows, x, RESET)
    return 1 if flags & (seg.FIN | seg.RST) else 0


@kernel
def zeek_close(flows: Int64s, flow: int, x: int, y: int, time_ns: int) -> int:
    """Note that the sender closed, and when the close became complete."""
    if flows[x + Z_FLAGS] & DID_CLOSE:
        return 0
    flows[x + Z_FLAGS] |= DID_CLOSE
    peer = flows[y + Z_FLAGS]
    complete = flows[x + Z_FLAGS] & STATE_MASK == RESET or peer & DID_CLOSE or peer & STATE_MASK == INACTIVE
    if complete and flows[flow + layout.Z_FLOW] >> CLOSE_SHIFT == 0:
        flows[flow + layout.Z_FLOW] |= (time_ns >> 20) << CLOSE_SHIFT
    return 0


# --- 6. holes ---------------------------------------------------------------------------------------------


@kernel
def zeek_is_clean(flags: int) -> int:
    """1 if an endpoint is established or closed from there: only then Zeek notes gaps."""
    state = flags & STATE_MASK
    return (
        1 if state == ESTABLISHED or (state == CLOSED and (flags >> PREVIOUS_SHIFT) & STATE_MASK == ESTABLISHED) else 0
    )


@kernel
def zeek_settle(flows: Int64s, x: int) -> int:
    """Join the octets above the hole to what is delivered if they touch it now."""
    above = flows[x + Z_ABOVE]
    if above and above >> ABOVE_SHIFT == 0:
        flows[x + Z_DELIVERED] = (flows[x + Z_DELIVERED] + (above & ABOVE_MASK)) & MASK
        flows[x + Z_ABOVE] = 0
    return 0


@kernel
def zeek_deliver(flows: Int64s, x: int, up_to: int) -> int:
    """Move the end of what is delivered on to `up_to`."""
    moved = (up_to - flows[x + Z_DELIVERED]) & MASK
    flows[x + Z_DELIVERED] = up_to & MASK
    above = flows[x + Z_ABOVE]
    if above:
        left = (above >> ABOVE_SHIFT) - moved
        length = above & ABOVE_MASK
        if left < 0:
            length += left
            left = 0
        flows[x + Z_ABOVE] = left << ABOVE_SHIFT | length if length > 0 else 0
    return zeek_settle(flows, x)


@kernel
def zeek_acknowledged(flows: Int64s, flow: int, y: int, x: int, ack: int) -> int:
    """What x's acknowledgment shows to be missing of the octets of y."""
    flags = flows[y + Z_FLAGS]
    if flags & HAS_FIN:
        fin = (flows[y + Z_START] + flows[y + Z_LAST_FIN]) & MASK
        if zeek_delta(ack, fin) > 0:
            ack = fin
    missing = zeek_delta(ack, flows[y + Z_DELIVERED])
    if missing <= 0:
        return 0
    if flows[flow + layout.Z_FLOW] & Z_PARTIAL and zeek_delta(ack, flows[y + Z_START]) <= 2:
        return 0  # the first acknowledgment of a connection whose begin was not captured
    counts = zeek_is_clean(flags) & zeek_is_clean(flows[x + Z_FLAGS])
    above = flows[y + Z_ABOVE]
    if counts:
        zeek_count(flows, flow, y, Z_FLAGS, GAPS_SHIFT, L_G)
        if above and (above >> ABOVE_SHIFT) + (above & ABOVE_MASK) < missing:
            zeek_count(flows, flow, y, Z_FLAGS, GAPS_SHIFT, L_G)
    return zeek_deliver(flows, y, ack)


@kernel
def zeek_payload(flows: Int64s, x: int, seq: int, length: int) -> int:
    """Put the payload in its place: it moves the delivered end on, fills a hole or leaves one."""
    if zeek_delta(seq, flows[x + Z_START]) < 0 and zeek_delta(seq, flows[x + Z_LAST]) < 0:
        return 0  # before the begin of what is known
    distance = zeek_delta(seq, flows[x + Z_DELIVERED])
    if distance <= 0:
        return zeek_deliver(flows, x, seq + length) if distance + length > 0 else 0
    end = distance + length
    above = flows[x + Z_ABOVE]
    if above:
        left = above >> ABOVE_SHIFT
        distance = min(distance, left)
        end = max(end, left + (above & ABOVE_MASK))
    if end <= ABOVE_MASK:
        flows[x + Z_ABOVE] = distance << ABOVE_SHIFT | (end - distance)
    return 0


# --- the segment ------------------------------------------------------------------------------------------


@kernel
def zeek_segment(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, from_first_sender: int) -> int:
    """Take one segment of a flow.

    x, y: first cells of the sender's and the receiver's endpoint block in `flows`; s: index of the segment's row;
    from_first_sender: 1 if the sender also sent the flow's first segment.  Returns 0.  Rows of KIND_QUOTED are not
    for this function; duplicates of a frame are, because Zeek takes them for retransmissions.
    """
    r = s * seg.STRIDE
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
    r = s * seg.STRIDE
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
    closes = zeek_step(flows, flow, x, y, flags, length)
    # 6. holes
    if flags & seg.ACK_FLAG and not fresh and zeek_delta(ack, flows[y + Z_START]) >= 0:
        zeek_acknowledged(flows, flow, y, x, ack)
    if length > 0 and not flags & seg.RST:
        zeek_payload(flows, x, (seq + 1) & MASK if flags & seg.SYN else seq, length)
    if closes:
        zeek_close(flows, flow, x, y, rows[r + seg.TIME])
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


@kernel
def zeek_update_acked(flows: Int64s, y: int, ack: int) -> int:
    """Keep an acknowledgment of octets that were not captured; others say no more than Z_LAST."""
    if zeek_delta(ack, flows[y + Z_LAST]) <= 0 or zeek_delta(ack, flows[y + Z_START]) < 0:
        return 0
    delta = zeek_delta(ack, flows[y + Z_ACKED])
    # an acknowledgment of 0 far away is rather a broken field than a large connection
    if delta > 0 and not (ack == 0 and delta > TOO_LARGE_JUMP):
        flows[y + Z_ACKED] = ack
    return 0


@kernel
def zeek_quick(flows: Int64s, x: int, y: int) -> int:
    """Set or clear QUICK on both endpoints."""
    for e in (x, y):
        state = flows[e + Z_FLAGS] & STATE_MASK
        if state not in (ESTABLISHED, PARTIAL) or flows[e + Z_DELIVERED] != flows[e + Z_LAST]:
            flows[x + Z_FLAGS] &= ~QUICK
            flows[y + Z_FLAGS] &= ~QUICK
            return 0
    flows[x + Z_FLAGS] |= QUICK
    flows[y + Z_FLAGS] |= QUICK
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
    n = flows[flow + layout.Z_FLOW] & LETTERS_MASK
    begun = 0
    for i in range(n):
        code = (flows[flow + layout.Z_HISTORY + i // LETTERS_PER_CELL] >> (5 * (i % LETTERS_PER_CELL))) & 31
        if begun:
            if code == L_R + UPPER:
                return 1
            if code in (L_H + UPPER, L_A + UPPER, L_F + UPPER, L_G + UPPER, L_I + UPPER, L_Q + UPPER):
                return 0
        elif code == L_S + UPPER:
            begun = 1
        elif i or code != L_FLIP:
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
    a_silent, b_silent = a in (INACTIVE, PARTIAL), b in (INACTIVE, PARTIAL)
    if b == RESET:
        if a in (SYN_SENT, SYN_ACK_SENT) or (a == RESET and zeek_is_empty(flows, o) and zeek_is_empty(flows, p)):
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
