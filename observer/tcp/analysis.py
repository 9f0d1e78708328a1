"""What Wireshark's TCP dissector says about each segment, and which segments need no analysis at all.

`analyse` gives the marks of `tcp.analysis.*` of Wireshark 4.0 (retransmission, out-of-order, duplicate ACK, zero
window, keep-alive, ...), `opens_stream` the boundaries of `tcp.stream`, `completeness_of` and `completeness` the
value of `tcp.completeness`.  They remember some cells per endpoint (`A_...` in layout.py) and never look back.

Plain segments
--------------
Nearly every segment of a healthy connection is *plain*: it has no marks, and only seven cells of its sender move.
A segment x -> y is plain if all of this holds (`is_plain` tests precisely this):

* flags: ACK, and none of SYN, FIN, RST; window not 0;
* both endpoints are STEADY: A_FLAGS (DOUBLED aside) is BASE_KNOWN | SENT | NEXT_KNOWN | ACKING, that is: no gap,
  no run of duplicate ACKs, its last segment no probe, no SYN, with ACK, and the handshake's round trip is settled;
* SEG.SEQ is x's A_NEXT, SEG.ACK is not beyond y's A_NEXT;
* without payload: SEG.ACK is beyond x's A_ACK;
* with payload: SEG.ACK is not before x's A_ACK (what x has acknowledged never goes back while segments are plain), y's
  window is not 0, and SEG.SEQ + SEG.LEN is beyond y's A_ACK and not exactly at the edge of that
  window.

Then (`plain` does precisely this) x's A_ACK, A_WINDOW, A_ACK_TIME, A_STAMP and A_SEEN become the segment's; with
payload A_NEXT and A_NEXT_TIME too.  Beside that the flow's COMPLETENESS gets 8 (payload) or 4 (none), as ever.

Where this differs from Wireshark
---------------------------------
* Wireshark takes the sequence number 0 for "not known yet".  Here flags say what is known, so shifting all sequence
  numbers changes no mark.  Only a RST with sequence number 0 keeps its special place: it is an answer from no socket
  (RFC 9293 3.10.7.1), so it says nothing about the sender's numbers, and does not move A_NEXT.
* Wireshark forgets to count a FIN once 10,000 segments of its sender are unacknowledged (one-way captures).
* MARK_DUPLICATE_FRAME is not Wireshark's: see `repeats_frame`.  Wireshark's own marks of such a frame are given too.

Never here: states, findings, counting.  Sources: Wireshark's documentation (User's Guide 7.5, TCP Analysis) and the
behaviour of tshark 4.0.17, which tests/tcp/test_analysis.py compares with; RFC 9293, 5681 (duplicate ACK), 7323.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.segments import (
    ACK,
    ACK_FLAG,
    FIN,
    FLAGS,
    HAS_SACK,
    HAS_SCALE,
    HAS_TIMESTAMPS,
    IP_ID,
    LENGTH,
    OPTIONS,
    RST,
    SACK_LEFT,
    SACK_RIGHT,
    SCALE,
    SEQ,
    SYN,
    TIME,
    TS_ECHO,
    TS_VALUE,
    WINDOW,
)
from observer.tcp.layout import (
    A_ACK,
    A_ACK_TIME,
    A_BASE,
    A_CONTIGUOUS,
    A_FLAGS,
    A_NEXT,
    A_NEXT_TIME,
    A_SCALE,
    A_SEEN,
    A_STAMP,
    A_WINDOW,
    FIRST_RTT,
    MARK_ACK_LOST_SEGMENT,
    MARK_DUPLICATE_ACK,
    MARK_DUPLICATE_FRAME,
    MARK_FAST_RETRANSMISSION,
    MARK_KEEP_ALIVE,
    MARK_KEEP_ALIVE_ACK,
    MARK_LOST_SEGMENT,
    MARK_OUT_OF_ORDER,
    MARK_RETRANSMISSION,
    MARK_REUSED_PORTS,
    MARK_SPURIOUS_RETRANSMISSION,
    MARK_WINDOW_FULL,
    MARK_WINDOW_UPDATE,
    MARK_ZERO_WINDOW,
    MARK_ZERO_WINDOW_PROBE,
    MARK_ZERO_WINDOW_PROBE_ACK,
    PREVIOUS,
    SYN_TIME,
)
from observer.tcp.sequence import MASK, add, gt, le, lt

# --- bits of A_FLAGS ----------------------------------------------------------------------------------
BASE_KNOWN: Final = 1  # A_BASE holds
SENT: Final = 2  # it has sent a segment: A_WINDOW, A_ACK_TIME and A_STAMP are those of its last one
NEXT_KNOWN: Final = 4  # A_NEXT and A_NEXT_TIME hold
ACKING: Final = 8  # its last segment had the ACK flag, A_ACK is an acknowledgment
GAP: Final = 16  # A_CONTIGUOUS holds and differs from A_NEXT; without this bit both are the same
SYN_WINDOW: Final = 32  # it sent a SYN and no ACK since: its last window is not scaled (RFC 7323 2.2)
RTT_PENDING: Final = 64  # when it last sent, a SYN had been seen and the handshake's round trip not yet measured
LAST_KEEP_ALIVE: Final = 128  # its last segment was a keep-alive
LAST_WINDOW_PROBE: Final = 256  # its last segment was a zero-window probe
DUPLICATES: Final = 512 | 1024  # duplicate ACKs in a row: none, one, two or more, or SILENCED
ONE_DUPLICATE: Final = 512
TWO_DUPLICATES: Final = 1024  # or more
SILENCED: Final = 512 | 1024  # the peer acknowledged octets that the capture lacks: do not say so again
DOUBLED: Final = 2048  # the capture holds an exact copy of one of its frames
STEADY: Final = BASE_KNOWN | SENT | NEXT_KNOWN | ACKING

# --- coding of A_SCALE --------------------------------------------------------------------------------
# 0: unknown.  Otherwise SCALE_KNOWN + shift count, with NOT_SCALED where scaling is not in use.  The cell's low six
# bits with SCALE_KNOWN flipped are how far to shift: 32 while unknown, which moves the window out of the low 32 bits.
SCALE_KNOWN: Final = 32
NOT_SCALED: Final = 64 | SCALE_KNOWN

CONTROL: Final = SYN | FIN | RST
FAST_NS: Final = 20_000_000  # Wireshark: a fast retransmission comes within 20 ms of the last duplicate ACK
REORDERED_NS: Final = 3_000_000  # Wireshark: out-of-order comes within 3 ms, or the handshake's round trip if known
OLDER_IDS: Final = 62  # how many identifications back A_SEEN remembers (it is a window as RFC 4303 3.4.3 has)
ALL_SEEN: Final = (1 << OLDER_IDS) - 1

FIRST_BITS: Final = 8  # where `completeness_of` keeps the bits that count only once a second segment has come


@kernel
def is_plain(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> bool:
    """Whether the segment is plain (see the head of this file): no marks, and `plain` is all that is to be done."""
    if (flows[x + A_FLAGS] | DOUBLED) != (STEADY | DOUBLED) or (flows[y + A_FLAGS] | DOUBLED) != (STEADY | DOUBLED):
        return False
    if (rows[s + FLAGS] & (CONTROL | ACK_FLAG)) != ACK_FLAG or rows[s + WINDOW] == 0:
        return False
    ack, length = rows[s + ACK], rows[s + LENGTH]
    if rows[s + SEQ] != flows[x + A_NEXT] or gt(ack, flows[y + A_NEXT]):
        return False
    if length == 0:
        return gt(ack, flows[x + A_ACK])
    if lt(ack, flows[x + A_ACK]):
        return False
    acked, window = flows[y + A_ACK], flows[y + A_WINDOW]
    end = rows[s + SEQ] + length
    edge = acked + (window << ((flows[y + A_SCALE] ^ SCALE_KNOWN) & 63))
    return window != 0 and gt(end & MASK, acked) and ((end - edge) & MASK) != 0


@kernel
def plain(flows: Int64s, x: int, rows: Int64s, s: int) -> None:
    """Everything a plain segment changes in the cells of this module."""
    flows[x + A_ACK] = rows[s + ACK]
    flows[x + A_WINDOW] = rows[s + WINDOW]
    flows[x + A_ACK_TIME] = rows[s + TIME]
    _number_seen(flows, x, _stamp(rows, s))
    if rows[s + LENGTH]:
        flows[x + A_NEXT] = (rows[s + SEQ] + rows[s + LENGTH]) & MASK
        flows[x + A_NEXT_TIME] = rows[s + TIME]


@kernel
def opens_stream(flows: Int64s, x: int, flags: int, seq: int) -> int:
    """1 if this segment opens a new tcp.stream although its endpoints have one already.

    x is the sender's block in the endpoints' latest conversation: only a SYN without ACK opens another one, and only
    with another sequence number than the one known for its sender.  A segment of unknown endpoints always opens one.
    """
    if (flags & (SYN | ACK_FLAG)) != SYN or (flows[x + A_FLAGS] & BASE_KNOWN) == 0:
        return 0
    return 1 if seq != flows[x + A_BASE] else 0


@kernel
def completeness_of(rows: Int64s, s: int, first: int) -> int:
    """What a segment adds (by |) to the flow's COMPLETENESS cell; `completeness` makes Wireshark's value of it.

    first: 0 for a later segment, 1 for the first of new endpoints, 2 for a first that `opens_stream` announced.
    """
    flags = rows[s + FLAGS]
    bits = 0
    if (flags & (SYN | ACK_FLAG)) == (SYN | ACK_FLAG):
        bits = 2
    elif flags & ACK_FLAG:
        bits = 8 if rows[s + LENGTH] else 4
    if (flags & (FIN | ACK_FLAG)) == (FIN | ACK_FLAG):
        bits |= 16
    if flags & RST:
        bits |= 32
    if first == 0:
        return bits
    opening = (flags & (SYN | ACK_FLAG)) == SYN
    if first == 2:
        return bits | 1
    if opening:
        return (9 if rows[s + LENGTH] else 1) | (bits << FIRST_BITS)
    return bits << FIRST_BITS


@kernel
def completeness(cell: int, segments: int) -> int:
    """Wireshark's tcp.completeness of a flow: its COMPLETENESS cell and how many segments it has."""
    return (cell | (cell >> FIRST_BITS)) & 63 if segments > 1 else cell & 63


@kernel
def analyse(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, duplicate_ns: int) -> int:
    """The MARK_ bits of a segment x -> y; the endpoints' cells move on.

    flow, x, y: first cell of the flow, of the sender's and of the receiver's block.  s: first cell of the row.
    duplicate_ns: within which time a copy of a frame is looked for; -1: never.
    """
    flags = rows[s + FLAGS]
    marks = repeats_frame(flows, x, y, rows, s, duplicate_ns)
    if flags & SYN:
        marks |= _opening(flows, flow, x, y, rows, s)
    _learn_base(flows, x, y, rows, s)
    marks |= _window_marks(flows, x, y, rows, s)
    marks |= _acknowledgment_marks(flows, x, y, rows, s, marks)
    if rows[s + LENGTH] or flags & (SYN | FIN):
        marks |= _sequence_marks(flows, flow, x, y, rows, s, marks)
    _move_next(flows, x, rows, s, marks)
    _remember(flows, flow, x, y, rows, s, marks)
    return marks


@kernel
def repeats_frame(flows: Int64s, x: int, y: int, rows: Int64s, s: int, duplicate_ns: int) -> int:
    """MARK_DUPLICATE_FRAME if the capture holds this very frame already (two taps, a SPAN port), else 0.

    It says so only of a segment that brings nothing new, at most duplicate_ns after the sender's last one, and

    1. equal to that last one in all but its time to live, as far as `_stamp`, acknowledgment and window tell, with an
       IPv4 identification: a retransmission or a second duplicate ACK is a packet with one of its own (RFC 6864 4.3;
       stacks that do not number their atomic datagrams, as 4.1 allows, send 0);
    2. or, with identification 0 or IPv6, equal likewise, timestamps and SACK included, no RST, and the peer silent
       since: duplicate ACKs and resets are provoked, one by one (where the peer cannot be seen, this is said only of
       segments that take sequence space); or the peer has acknowledged it since, so that nobody repeats it so soon;
       or a SYN or RST, once a copy was found in this flow: a second one would say nothing new;
    3. or, once a copy was found in this flow, with one of the last OLDER_IDS identifications of this sender that have
       indeed been seen: copies from a second tap arrive some packets late, between others and out of order.

    The time to live does not matter: it differs where the taps have a router between them.
    """
    flags = flows[x + A_FLAGS]
    age = rows[s + TIME] - flows[x + A_ACK_TIME]
    if (flags & (SENT | NEXT_KNOWN)) != (SENT | NEXT_KNOWN) or age < 0 or age > duplicate_ns:
        return 0
    end = add(rows[s + SEQ], rows[s + LENGTH] + (1 if rows[s + FLAGS] & (SYN | FIN) else 0))
    ack, number = rows[s + ACK], rows[s + IP_ID]
    if gt(end, flows[x + A_NEXT]):
        return 0
    if flows[x + A_STAMP] == _stamp(rows, s) and flows[x + A_ACK] == ack and flows[x + A_WINDOW] == rows[s + WINDOW]:
        if number:
            return MARK_DUPLICATE_FRAME
        visible = flows[y + A_FLAGS] & SENT
        silent = flows[y + A_ACK_TIME] < flows[x + A_ACK_TIME] if visible else end != rows[s + SEQ]
        if flows[y + A_FLAGS] & ACKING and end != rows[s + SEQ] and not lt(flows[y + A_ACK], end):
            silent = True
        if rows[s + FLAGS] & RST or (rows[s + FLAGS] & SYN and not silent):
            silent = flags & DOUBLED != 0
        if silent:
            return MARK_DUPLICATE_FRAME
    if flags & DOUBLED and number:
        back = (flows[x + A_STAMP] - number) & 0xFFFF
        if back < OLDER_IDS and (flows[x + A_SEEN] >> back) & 1:
            return MARK_DUPLICATE_FRAME
    return 0


@kernel
def _stamp(rows: Int64s, s: int) -> int:
    """What tells a segment from the sender's other ones, in one number: identification, sequence number, flags, length.

    Without identification, timestamps and SACK edges are folded in: duplicate ACKs differ in them or are provoked.
    """
    number, mixed = rows[s + IP_ID], rows[s + SEQ] ^ ((rows[s + FLAGS] & 0xFF) << 24)
    if number == 0:
        if rows[s + OPTIONS] & HAS_TIMESTAMPS:
            mixed ^= rows[s + TS_VALUE] ^ rows[s + TS_ECHO]
        if rows[s + OPTIONS] & HAS_SACK:
            mixed ^= rows[s + SACK_LEFT] ^ rows[s + SACK_RIGHT]
    return number | ((mixed & MASK) << 16) | ((rows[s + LENGTH] & 0x3FFF) << 48)


@kernel
def _number_seen(flows: Int64s, x: int, stamp: int) -> None:
    """Moves A_STAMP and A_SEEN on; a late segment with an older identification only leaves its bit."""
    ahead = (stamp - flows[x + A_STAMP]) & 0xFFFF
    seen = flows[x + A_SEEN]
    if ahead < OLDER_IDS:
        flows[x + A_SEEN] = ((seen & (ALL_SEEN >> ahead)) << ahead) | 1
    elif 0x10000 - ahead < OLDER_IDS:
        flows[x + A_SEEN] = seen | (1 << (0x10000 - ahead))
        return
    else:
        flows[x + A_SEEN] = 1
    flows[x + A_STAMP] = stamp


@kernel
def _opening(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int) -> int:
    """A SYN: is the stream a new incarnation, is it repeated, does a SYN-ACK contradict an earlier one?"""
    known = flows[x + A_FLAGS]
    if rows[s + FLAGS] & ACK_FLAG:
        if known & BASE_KNOWN and rows[s + SEQ] != flows[x + A_BASE]:
            flows[x + A_BASE] = rows[s + SEQ]
            return MARK_REUSED_PORTS
        return 0
    if (known | flows[y + A_FLAGS]) == 0:
        return MARK_REUSED_PORTS if flows[flow + PREVIOUS] else 0
    if known & BASE_KNOWN and rows[s + SEQ] == flows[x + A_BASE] and known & GAP:
        # An answer from no socket may have moved A_NEXT to where the peer's acknowledgment pointed (RFC 9293 3.10.7.1).
        flows[x + A_NEXT] = flows[x + A_CONTIGUOUS]
        flows[x + A_FLAGS] = known & ~GAP
    return 0


@kernel
def _learn_base(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> None:
    """Base sequence numbers: the ISN, or one before the first number seen or acknowledged."""
    if (flows[x + A_FLAGS] & BASE_KNOWN) == 0:
        flows[x + A_BASE] = rows[s + SEQ] if rows[s + FLAGS] & SYN else add(rows[s + SEQ], -1)
        flows[x + A_FLAGS] |= BASE_KNOWN
    if (flows[y + A_FLAGS] & BASE_KNOWN) == 0 and rows[s + FLAGS] & ACK_FLAG:
        flows[y + A_BASE] = add(rows[s + ACK], -1)
        flows[y + A_FLAGS] |= BASE_KNOWN


@kernel
def _window_marks(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> int:
    """Windows, probes, keep-alives, duplicate ACKs, and a gap before the segment."""
    seq, length, window, flags = rows[s + SEQ], rows[s + LENGTH], rows[s + WINDOW], rows[s + FLAGS]
    mine, theirs = flows[x + A_FLAGS], flows[y + A_FLAGS]
    known, ahead = mine & NEXT_KNOWN, seq - flows[x + A_NEXT]
    if length == 1 and known and ahead == 0 and theirs & SENT and flows[y + A_WINDOW] == 0:
        return MARK_ZERO_WINDOW_PROBE
    marks = MARK_LOST_SEGMENT if known and gt(seq, flows[x + A_NEXT]) and (flags & RST) == 0 else 0
    if flags & CONTROL:
        return marks
    if window == 0:
        marks |= MARK_ZERO_WINDOW
    if length <= 1 and known and (ahead & MASK) == MASK:
        marks |= MARK_KEEP_ALIVE
    if length:
        return marks | _window_full(flows, y, add(seq, length))
    if known == 0 or ahead != 0 or flows[x + A_ACK] != rows[s + ACK]:
        return marks
    if ((mine & ACKING) != 0) != ((flags & ACK_FLAG) != 0):
        return marks  # an acknowledgment number of 0 is none without the flag
    if window != flows[x + A_WINDOW]:
        return marks | (MARK_WINDOW_UPDATE if window else 0)
    if window == 0:
        return marks | (MARK_ZERO_WINDOW_PROBE_ACK if theirs & LAST_WINDOW_PROBE else 0)
    return marks | (MARK_KEEP_ALIVE_ACK if theirs & LAST_KEEP_ALIVE else MARK_DUPLICATE_ACK)


@kernel
def _window_full(flows: Int64s, y: int, end: int) -> int:
    """Payload up to the very edge of the receiver's window, where its scale is known."""
    theirs = flows[y + A_FLAGS]
    if (theirs & SENT) == 0 or flows[y + A_SCALE] == 0:
        return 0
    shift = 0 if theirs & SYN_WINDOW else (flows[y + A_SCALE] ^ SCALE_KNOWN) & 63
    return MARK_WINDOW_FULL if ((flows[y + A_ACK] + (flows[y + A_WINDOW] << shift) - end) & MASK) == 0 else 0


@kernel
def _acknowledgment_marks(flows: Int64s, x: int, y: int, rows: Int64s, s: int, marks: int) -> int:
    """Counts duplicate ACKs; an acknowledgment of octets that the capture lacks is marked once."""
    mine = flows[x + A_FLAGS]
    if marks & MARK_DUPLICATE_ACK:
        run = mine & DUPLICATES
        run = ONE_DUPLICATE if run in (0, SILENCED) else TWO_DUPLICATES
        flows[x + A_FLAGS] = (mine & ~DUPLICATES) | run
    elif rows[s + ACK] != flows[x + A_ACK]:
        flows[x + A_FLAGS] = mine & ~DUPLICATES
    theirs = flows[y + A_FLAGS]
    if (theirs & NEXT_KNOWN) == 0 or (rows[s + FLAGS] & ACK_FLAG) == 0:
        return 0
    contiguous = flows[y + A_CONTIGUOUS] if theirs & GAP else flows[y + A_NEXT]
    if not gt(rows[s + ACK], contiguous):
        return 0
    if lt(contiguous, flows[y + A_NEXT]):
        flows[y + A_FLAGS] = theirs & ~GAP
        return MARK_ACK_LOST_SEGMENT
    flows[y + A_FLAGS] = theirs | SILENCED
    return MARK_ACK_LOST_SEGMENT if (theirs & DUPLICATES) == 0 else 0


@kernel
def _sequence_marks(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, marks: int) -> int:
    """Retransmission of four kinds, for a segment that takes sequence space."""
    if marks & MARK_KEEP_ALIVE:
        return 0
    seq, length, time = rows[s + SEQ], rows[s + LENGTH], rows[s + TIME]
    mine, theirs, expected = flows[x + A_FLAGS], flows[y + A_FLAGS], flows[x + A_NEXT]
    if length and theirs & ACKING and le(add(seq, length), flows[y + A_ACK]):
        return MARK_RETRANSMISSION | MARK_SPURIOUS_RETRANSMISSION
    if (mine & NEXT_KNOWN) == 0 or not lt(seq, expected):
        return 0
    if length > 1 and add(seq, 1) == expected:
        return 0  # a probe's octet sent again, with new ones behind it
    since_ack = time - flows[y + A_ACK_TIME]
    if theirs & TWO_DUPLICATES and flows[y + A_ACK] == seq and 0 <= since_ack < FAST_NS:
        return MARK_RETRANSMISSION | MARK_FAST_RETRANSMISSION
    end = add(seq, length + (1 if rows[s + FLAGS] & (SYN | FIN) else 0))
    limit = flows[flow + FIRST_RTT]
    if limit == 0:
        limit = REORDERED_NS
    since_next = time - flows[x + A_NEXT_TIME]
    if end != expected and since_next >= 0 and (since_next < limit or limit < 0):
        return MARK_OUT_OF_ORDER
    return MARK_RETRANSMISSION


@kernel
def _move_next(flows: Int64s, x: int, rows: Int64s, s: int, marks: int) -> None:
    """A_NEXT, its time, and the end of what was seen without a gap."""
    seq, length, flags = rows[s + SEQ], rows[s + LENGTH], rows[s + FLAGS]
    if marks & MARK_ZERO_WINDOW_PROBE or (flags & RST and seq == 0 and length == 0):
        return
    mine, expected = flows[x + A_FLAGS], flows[x + A_NEXT]
    contiguous = flows[x + A_CONTIGUOUS] if mine & GAP else expected
    joins = seq == contiguous or (mine & NEXT_KNOWN) == 0
    end = add(seq, length + (1 if flags & (SYN | FIN) else 0))
    if (mine & NEXT_KNOWN) == 0 or gt(end, expected):
        expected = end
        flows[x + A_NEXT] = end
        flows[x + A_NEXT_TIME] = rows[s + TIME]
    if joins:
        contiguous = expected
    flows[x + A_CONTIGUOUS] = contiguous
    flows[x + A_FLAGS] = ((mine | GAP) if contiguous != expected else (mine & ~GAP)) | NEXT_KNOWN


@kernel
def _remember(flows: Int64s, flow: int, x: int, y: int, rows: Int64s, s: int, marks: int) -> None:
    """What later segments are compared with: the sender's last segment, the window scale, the round trip."""
    flags = rows[s + FLAGS]
    mine = (flows[x + A_FLAGS] & ~(ACKING | RTT_PENDING | LAST_KEEP_ALIVE | LAST_WINDOW_PROBE)) | SENT
    if flags & ACK_FLAG:
        mine |= ACKING
        if (flags & SYN) == 0:
            mine &= ~SYN_WINDOW
            if flows[flow + FIRST_RTT] == 0 and flows[flow + SYN_TIME]:
                flows[flow + FIRST_RTT] = rows[s + TIME] - flows[flow + SYN_TIME]
    if flags & SYN:
        mine |= SYN_WINDOW
        if (flags & ACK_FLAG) == 0:
            flows[flow + SYN_TIME] = rows[s + TIME]
        _learn_scale(flows, x, y, rows, s)
    if flows[flow + SYN_TIME] and flows[flow + FIRST_RTT] == 0:
        mine |= RTT_PENDING
    if marks & MARK_KEEP_ALIVE:
        mine |= LAST_KEEP_ALIVE
    if marks & MARK_ZERO_WINDOW_PROBE:
        mine |= LAST_WINDOW_PROBE
    if marks & MARK_DUPLICATE_FRAME:
        mine |= DOUBLED
        flows[y + A_FLAGS] |= DOUBLED
    else:
        _number_seen(flows, x, _stamp(rows, s))
    flows[x + A_FLAGS] = mine
    flows[x + A_ACK] = rows[s + ACK]
    flows[x + A_WINDOW] = rows[s + WINDOW]
    flows[x + A_ACK_TIME] = rows[s + TIME]


@kernel
def _learn_scale(flows: Int64s, x: int, y: int, rows: Int64s, s: int) -> None:
    """Windows are scaled only if both SYNs offer it (RFC 7323 2.2); one without the option settles it for both."""
    if rows[s + OPTIONS] & HAS_SCALE:
        flows[x + A_SCALE] = SCALE_KNOWN + rows[s + SCALE]
    if flows[x + A_SCALE] == 0:
        flows[x + A_SCALE] = NOT_SCALED
        flows[y + A_SCALE] = NOT_SCALED
    elif rows[s + FLAGS] & ACK_FLAG and flows[y + A_SCALE] == NOT_SCALED:
        flows[x + A_SCALE] = NOT_SCALED
