"""The steps of zeek.py: roles, sequence numbers, letters, the endpoints' machine, holes.

Never decides what a flow's result is.  Sources: as zeek.py.
"""

from __future__ import annotations

from observer import segments as seg
from observer.kernels import Int64s, kernel
from observer.tcp import layout
from observer.tcp.zeek_cells import (
    ABOVE_MASK,
    ABOVE_SHIFT,
    CLOSED,
    CONTROL,
    COUNT_MASK,
    DID_CLOSE,
    ESTABLISHED,
    GAPS_SHIFT,
    HAS_FIN,
    INACTIVE,
    L_A,
    L_D,
    L_F,
    L_FLIP,
    L_G,
    L_H,
    L_I,
    L_Q,
    L_R,
    L_S,
    L_T,
    LETTERS_MASK,
    LETTERS_PER_CELL,
    LIKELY_SERVERS,
    MASK,
    MAX_LETTERS,
    OPEN,
    ORIGINATOR,
    PARTIAL,
    PREVIOUS_SHIFT,
    QUICK,
    RESET,
    RETRANSMISSION_SHIFT,
    SEEN_ACK,
    SEEN_DATA,
    SEEN_FIN,
    SEEN_FIN_RST,
    SEEN_MULTI,
    SEEN_RST,
    SEEN_SYN,
    STATE_MASK,
    SYN_ACK_SENT,
    SYN_SENT,
    TIMER_MASK,
    TIMER_SHIFT,
    TIMER_UNITS,
    TOO_LARGE_JUMP,
    WAITING,
    Z_ABOVE,
    Z_ACKED,
    Z_CLOSED,
    Z_COUNTS,
    Z_DELIVERED,
    Z_FLAGS,
    Z_FULL,
    Z_LAST,
    Z_LAST_FIN,
    Z_LAST_RST,
    Z_LAST_SYN,
    Z_PARTIAL,
    Z_START,
)

# Functions return the letters that a segment adds, packed as in Z_HISTORY; they are appended once, at the end.

# --- small parts -----------------------------------------------------------------------------------------


@kernel
def zeek_delta(a: int, b: int) -> int:
    """Difference of two sequence numbers, -2**31 .. 2**31-1."""
    return ((a - b + 0x80000000) & MASK) - 0x80000000


@kernel
def zeek_enter(flags: int, state: int) -> int:
    """Z_FLAGS with another state; the one before is remembered."""
    if flags & STATE_MASK == state:
        return flags
    return (flags & ~63) | (flags & STATE_MASK) << PREVIOUS_SHIFT | state


@kernel
def zeek_counted(flows: Int64s, cell: int, shift: int, letter: int) -> int:
    """Count an event in 20 bits of a cell; its letter comes at 1, 10, 100 ... 1,000,000, else 0."""
    n = ((flows[cell] >> shift) & COUNT_MASK) + 1
    if n > COUNT_MASK:
        return 0
    flows[cell] += 1 << shift
    return letter if n in (1, 10, 100, 1000, 10000, 100000, 1000000) else 0


@kernel
def zeek_append(flows: Int64s, flow: int, letters: int) -> int:
    """Append packed letters to the history; beyond MAX_LETTERS only Z_FULL is set."""
    while letters:
        cell = flows[flow + layout.Z_FLOW]
        n = cell & LETTERS_MASK
        if n >= MAX_LETTERS:
            flows[flow + layout.Z_FLOW] = cell | Z_FULL
            return 0
        place = n // LETTERS_PER_CELL
        flows[flow + layout.Z_HISTORY + place] |= (letters & 31) << (5 * (n - place * LETTERS_PER_CELL))
        flows[flow + layout.Z_FLOW] = cell + 1
        letters >>= 5
    return 0


@kernel
def zeek_numbers(flows: Int64s, x: int, start: int, last: int) -> int:
    """Begin the sequence numbers of x: `start` is its (supposed) SYN."""
    flows[x + Z_START] = start & MASK
    flows[x + Z_ACKED] = start & MASK
    flows[x + Z_LAST] = last & MASK
    flows[x + Z_DELIVERED] = (start + 1) & MASK
    flows[x + Z_ABOVE] = 0
    return 0


# --- 1. roles, and whether the record is still this one ---------------------------------------------------


@kernel
def zeek_is_flipped(flags: int, src_port: int, dst_port: int) -> int:
    """1 if the sender of a flow's first segment is taken for the responder, by its port."""
    if flags & (seg.SYN | seg.ACK_FLAG) == seg.SYN or src_port not in LIKELY_SERVERS:
        return 0
    if dst_port not in LIKELY_SERVERS:
        return 1
    # both ports are plausible: the smaller one is the server's, but a SYN-ACK may be a scan and changes nothing
    return 1 if not flags & seg.SYN and src_port < dst_port else 0


@kernel
def zeek_is_reuse(flows: Int64s, o: int, p: int, flags: int, seq: int, from_p: int) -> int:
    """1 if Zeek takes a segment with SYN for the begin of another connection on the same ports.

    o, p: originator and responder; from_p: the responder sent it.
    """
    o_state, p_state = flows[o + Z_FLAGS] & STATE_MASK, flows[p + Z_FLAGS] & STATE_MASK
    if flags & seg.ACK_FLAG and o_state != INACTIVE:
        return 0
    if p_state == INACTIVE and (o_state == INACTIVE or (from_p and o_state == SYN_SENT)):
        # nothing but wrong checksums so far; or both open at once, which Zeek's machine knows and its test does not
        return 0
    if flows[o + Z_FLAGS] & flows[p + Z_FLAGS] & DID_CLOSE:
        return 1
    if seq == flows[(p if flags & seg.ACK_FLAG else o) + Z_START]:
        return 0
    # SYN-ACK and SYN in the wrong order are one handshake
    return 0 if o_state == SYN_ACK_SENT and p_state == INACTIVE and seq == flows[p + Z_START] else 1


@kernel
def zeek_ends(flows: Int64s, flow: int, x: int, y: int, flags: int, seq: int, time_ns: int) -> int:
    """1 if Zeek would put this segment into another record."""
    own = flows[x + Z_FLAGS]
    if flags & seg.SYN:
        if own & ORIGINATOR:
            if zeek_is_reuse(flows, x, y, flags, seq, 0):
                return 1
        elif zeek_is_reuse(flows, y, x, flags, seq, 1):
            return 1
    cell = flows[flow + layout.Z_FLOW]
    began = cell >> TIMER_SHIFT
    if not began or (time_ns >> 20) - began < TIMER_UNITS:
        return 0
    if cell & Z_CLOSED:
        return 1
    if not WAITING >> (own & STATE_MASK) & 1 or flows[y + Z_FLAGS] & STATE_MASK != INACTIVE:
        return 0
    # the attempt was given up; a repeated SYN begins a record that looks the same
    flows[flow + layout.Z_FLOW] = cell & TIMER_MASK | (time_ns >> 20) << TIMER_SHIFT
    return 1 if flags & seg.SYN == 0 else 0


@kernel
def zeek_flip(flows: Int64s, flow: int, x: int, y: int) -> int:
    """Exchange originator and responder."""
    flows[x + Z_FLAGS] ^= ORIGINATOR
    flows[y + Z_FLAGS] ^= ORIGINATOR
    flows[flow + layout.Z_FLOW] &= ~Z_PARTIAL
    return 0


# --- 3. sequence numbers ----------------------------------------------------------------------------------


@kernel
def zeek_corrects(flags: int, same: int) -> int:
    """1 if a SYN of an endpoint that has spoken before begins its numbers again; same: it has the known number."""
    state = flags & STATE_MASK
    if state == RESET:
        # what a RST told before the SYN may have been forged
        return 1 if (flags >> PREVIOUS_SHIFT) & STATE_MASK == INACTIVE else 0
    return 0 if state == CLOSED or (same and WAITING >> state & 1) else 1


@kernel
def zeek_last(flows: Int64s, x: int, flags: int, end: int, length: int) -> int:
    """Move the sender's highest octet on; the letter of a retransmission if payload does not."""
    delta = zeek_delta(end, flows[x + Z_LAST])
    if flags & (seg.SYN | seg.RST) and (delta > TOO_LARGE_JUMP or delta < -TOO_LARGE_JUMP):
        return 0
    if flags & seg.FIN and flows[x + Z_LAST] == (flows[x + Z_START] + 1) & MASK:
        flows[x + Z_LAST] = end
        return 0
    if flows[x + Z_FLAGS] & STATE_MASK == RESET:
        return 0
    if delta > 0:
        flows[x + Z_LAST] = end
        return 0
    return zeek_counted(flows, x + Z_COUNTS, RETRANSMISSION_SHIFT, L_T) if length > 0 else 0


# --- 4. letters -------------------------------------------------------------------------------------------


@kernel
def zeek_letter(flows: Int64s, x: int, flags: int, relative: int, length: int) -> int:
    """The letter of the segment's flags and payload, in lower case, or 0 if it is not noted again."""
    own = flows[x + Z_FLAGS]
    control = flags & CONTROL
    last = 0
    if control == 0:
        seen, letter = SEEN_ACK, L_A
        if length:
            seen, letter = SEEN_DATA, L_D
        elif not flags & seg.ACK_FLAG:
            return 0
    elif control == seg.SYN:
        seen, letter, last = SEEN_SYN, L_S, Z_LAST_SYN
        if flags & seg.ACK_FLAG:
            letter = L_H
    elif control == seg.FIN:
        seen, letter, last = SEEN_FIN, L_F, Z_LAST_FIN
        relative = (relative + length) & MASK
    elif control == seg.RST:
        seen, letter, last = SEEN_RST, L_R, Z_LAST_RST
    else:
        seen, letter = SEEN_MULTI, L_Q
        if control & seg.FIN and control & seg.RST:
            seen, letter = SEEN_FIN_RST, L_I
    flows[x + Z_FLAGS] = own | seen
    if last:
        # SYN, FIN and RST again at another sequence number than the last
        before = flows[x + last]
        flows[x + last] = relative
        if relative != before:
            return letter
    return 0 if own & seen else letter


# --- 5. the endpoints' machine ----------------------------------------------------------------------------


@kernel
def zeek_from_inactive(flows: Int64s, flow: int, x: int, y: int, flags: int, length: int) -> int:
    """The sender's first segment; the letter of a flip or 0."""
    own, other = flows[x + Z_FLAGS], flows[y + Z_FLAGS]
    originator, peer, flip = own & ORIGINATOR, other & STATE_MASK, 0
    if flags & seg.SYN:
        if originator:
            own = zeek_enter(own, SYN_ACK_SENT if flags & seg.ACK_FLAG else SYN_SENT)
        else:
            if not flags & seg.ACK_FLAG and peer == SYN_ACK_SENT:
                flip = L_FLIP  # SYN-ACK and SYN were captured in the wrong order
            if flip or peer == SYN_SENT:
                other = zeek_enter(other, ESTABLISHED)
            own = zeek_enter(own, ESTABLISHED)
    if flags & seg.FIN:
        own = zeek_enter(own, CLOSED)
    if flags & seg.RST:
        own = zeek_enter(own, RESET)
    if own & STATE_MASK == INACTIVE:
        if flags & seg.ACK_FLAG and peer == ESTABLISHED:
            flows[flow + layout.Z_FLOW] &= ~Z_PARTIAL
            own = zeek_enter(own, ESTABLISHED)
        elif originator or length or peer != SYN_SENT:
            # (some acknowledge a SYN before they send their own: no partial connection)
            own = zeek_enter(own, PARTIAL)
    flows[x + Z_FLAGS] = own
    flows[y + Z_FLAGS] = other
    if flip:
        zeek_flip(flows, flow, x, y)
    return flip


@kernel
def zeek_step(flows: Int64s, x: int, y: int, flags: int) -> int:
    """One step of the machine of a sender that has spoken before."""
    own, other = flows[x + Z_FLAGS], flows[y + Z_FLAGS]
    state, peer = own & STATE_MASK, other & STATE_MASK
    if state == RESET:
        return 0
    if state == CLOSED:
        if flags & seg.RST and peer != CLOSED:  # a RST after both FINs is an ordinary end
            flows[x + Z_FLAGS] = zeek_enter(own, RESET)
        return 0
    if flags & seg.FIN and (WAITING >> state & 1 or not flags & seg.RST):
        own = zeek_enter(own, CLOSED)
        if OPEN >> state & 1 and peer == RESET and (other >> PREVIOUS_SHIFT) & STATE_MASK == CLOSED:
            flows[y + Z_FLAGS] = zeek_enter(other, CLOSED)  # FIN, then RST, then the other FIN: an ordinary end
    elif flags & (seg.SYN | seg.ACK_FLAG) == seg.SYN and state == PARTIAL and peer == INACTIVE:
        own = zeek_enter(own, SYN_SENT)
    if flags & seg.RST:
        own = zeek_enter(own, RESET)
    flows[x + Z_FLAGS] = own
    return 0


@kernel
def zeek_close(flows: Int64s, flow: int, x: int, y: int, time_ns: int) -> int:
    """Note that the sender closed, and when the close became complete."""
    own, peer = flows[x + Z_FLAGS], flows[y + Z_FLAGS]
    if own & DID_CLOSE:
        return 0
    flows[x + Z_FLAGS] = own | DID_CLOSE
    if own & STATE_MASK == RESET or peer & DID_CLOSE or peer & STATE_MASK == INACTIVE:
        cell = flows[flow + layout.Z_FLOW]
        if not cell & Z_CLOSED:
            flows[flow + layout.Z_FLOW] = cell & TIMER_MASK | (time_ns >> 20) << TIMER_SHIFT | Z_CLOSED
    return 0


# --- 6. holes ---------------------------------------------------------------------------------------------


@kernel
def zeek_is_clean(flags: int) -> int:
    """1 if an endpoint is established or closed from there: only then Zeek notes gaps."""
    if flags & STATE_MASK == CLOSED:
        flags >>= PREVIOUS_SHIFT
    return 1 if flags & STATE_MASK == ESTABLISHED else 0


@kernel
def zeek_deliver(flows: Int64s, x: int, up_to: int) -> int:
    """Move the end of what is delivered on to `up_to`, and past the octets above the hole if they touch it."""
    moved = (up_to - flows[x + Z_DELIVERED]) & MASK
    above = flows[x + Z_ABOVE]
    if above:
        left = (above >> ABOVE_SHIFT) - moved
        length = above & ABOVE_MASK
        if left <= 0:
            if left + length > 0:
                up_to += left + length
            above = 0
        else:
            above = left << ABOVE_SHIFT | length
        flows[x + Z_ABOVE] = above
    flows[x + Z_DELIVERED] = up_to & MASK
    return 0


@kernel
def zeek_acknowledged(flows: Int64s, flow: int, x: int, y: int, ack: int) -> int:
    """Letters for what x's acknowledgment shows to be missing of the octets of y, in lower case."""
    flags, start = flows[y + Z_FLAGS], flows[y + Z_START]
    if flags & HAS_FIN and zeek_delta(ack, start + flows[y + Z_LAST_FIN]) > 0:
        ack = (start + flows[y + Z_LAST_FIN]) & MASK  # a FIN is no octet
    missing = zeek_delta(ack, flows[y + Z_DELIVERED])
    if missing <= 0:
        return 0
    if flows[flow + layout.Z_FLOW] & Z_PARTIAL and zeek_delta(ack, start) <= 2:
        return 0  # the first acknowledgment of a connection whose begin was not captured
    letters = 0
    if zeek_is_clean(flags) and zeek_is_clean(flows[x + Z_FLAGS]):
        above = flows[y + Z_ABOVE]
        letters = zeek_counted(flows, y + Z_FLAGS, GAPS_SHIFT, L_G)
        if above and (above >> ABOVE_SHIFT) + (above & ABOVE_MASK) < missing:
            second = zeek_counted(flows, y + Z_FLAGS, GAPS_SHIFT, L_G)
            letters = letters << 5 | second if second else letters
    zeek_deliver(flows, y, ack)
    return letters


@kernel
def zeek_payload(flows: Int64s, x: int, seq: int, length: int) -> int:
    """Put the payload in its place: it moves the delivered end on, fills a hole or leaves one."""
    distance = zeek_delta(seq, flows[x + Z_DELIVERED])
    if distance <= 0:
        if zeek_delta(seq, flows[x + Z_START]) < 0 and zeek_delta(seq, flows[x + Z_LAST]) < 0:
            return 0  # before the begin of what is known
        if distance + length > 0:
            zeek_deliver(flows, x, seq + length)
        return 0
    end = distance + length
    above = flows[x + Z_ABOVE]
    if above:
        left = above >> ABOVE_SHIFT
        end = max(end, left + (above & ABOVE_MASK))
        distance = min(distance, left)
    if end <= ABOVE_MASK:
        flows[x + Z_ABOVE] = distance << ABOVE_SHIFT | (end - distance)
    return 0


@kernel
def zeek_quick(flows: Int64s, x: int, y: int) -> int:
    """Set or clear QUICK on both endpoints."""
    a, b = flows[x + Z_FLAGS] & ~QUICK, flows[y + Z_FLAGS] & ~QUICK
    whole = flows[x + Z_DELIVERED] == flows[x + Z_LAST] and flows[y + Z_DELIVERED] == flows[y + Z_LAST]
    if whole and OPEN >> (a & STATE_MASK) & OPEN >> (b & STATE_MASK) & 1:
        a, b = a | QUICK, b | QUICK
    flows[x + Z_FLAGS] = a
    flows[y + Z_FLAGS] = b
    return 0
