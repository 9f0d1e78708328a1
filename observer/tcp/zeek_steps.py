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
    L_W,
    LETTERS_MASK,
    LETTERS_PER_CELL,
    LIKELY_HIGH,
    LIKELY_LOW,
    MASK,
    MAX_LETTERS,
    ORIGINATOR,
    PARTIAL,
    PREVIOUS_SHIFT,
    QUICK,
    RESET,
    RETRANSMISSION_SHIFT,
    SEEN,
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
    UPPER,
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
    Z_OVER,
    Z_PARTIAL,
    Z_START,
    Z_STARTED,
    ZERO_WINDOW_SHIFT,
)

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
    if n == 1 or n == 10 or n == 100 or (n % 1000 == 0 and (n == 1000 or n == 10000 or n == 100000 or n == 1000000)):
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
    if port < 128:
        # bits of a word stand for ports 0..63 and 64..127
        return (LIKELY_LOW if port < 64 else LIKELY_HIGH) >> (port & 63) & 1
    if port < 1024:
        if port == 443 or port == 445 or port == 135 or port == 139 or port == 143 or port == 389 or port == 502:
            return 1
        if port == 563 or port == 585 or port == 587 or port == 614 or port == 631 or port == 636:
            return 1
        return 1 if 989 <= port <= 995 and port != 991 and port != 994 else 0
    if port == 8080 or port == 8000 or port == 8888 or port == 3306 or port == 3389 or port == 5432 or port == 6379:
        return 1
    if 6666 <= port <= 6669 or port == 5222 or port == 5223 or port == 5269 or port == 3128 or port == 3268:
        return 1
    return 1 if port == 1080 or port == 1434 or port == 1883 or port == 2811 or port == 20000 else 0


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
    r = s  # the index of the row's first cell, as everywhere in tcp/
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
    if x == p and p_state == INACTIVE and o_state == SYN_SENT:
        return 0  # both open at once (or the SYN-ACK): Zeek's machine knows it, its test for reuse does not
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
    r = s  # the index of the row's first cell, as everywhere in tcp/
    cell, flags = flows[flow + layout.Z_FLOW], rows[r + seg.FLAGS]
    over = flags & seg.SYN != 0 and zeek_is_reuse(flows, x, y, flags, rows[r + seg.SEQ]) != 0
    began = cell >> TIMER_SHIFT
    if not over and began and (rows[r + seg.TIME] >> 20) - began >= TIMER_UNITS:
        state = flows[x + Z_FLAGS] & STATE_MASK
        if cell & Z_CLOSED:
            over = True
        elif (state == SYN_SENT or state == SYN_ACK_SENT) and flows[y + Z_FLAGS] & STATE_MASK == INACTIVE:
            # the attempt was given up; a repeated SYN begins a record that looks the same
            over = flags & seg.SYN == 0
            zeek_start_timer(flows, flow, rows[r + seg.TIME])
    if over:
        flows[flow + layout.Z_FLOW] |= Z_OVER
        flows[x + Z_FLAGS] &= ~QUICK
        flows[y + Z_FLAGS] &= ~QUICK
        return 1
    return 0


@kernel
def zeek_start_timer(flows: Int64s, flow: int, time_ns: int) -> int:
    """Keep the time from which 5 s are counted."""
    cell = flows[flow + layout.Z_FLOW]
    flows[flow + layout.Z_FLOW] = cell & TIMER_MASK | (time_ns >> 20) << TIMER_SHIFT
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
    if (state == SYN_SENT or state == SYN_ACK_SENT) and seq == flows[x + Z_START]:
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
    r = s  # the index of the row's first cell, as everywhere in tcp/
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
    if state == SYN_SENT or state == SYN_ACK_SENT:
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
    if complete and not flows[flow + layout.Z_FLOW] & Z_CLOSED:
        zeek_start_timer(flows, flow, time_ns)
        flows[flow + layout.Z_FLOW] |= Z_CLOSED
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
    a, b = flows[x + Z_FLAGS] & ~QUICK, flows[y + Z_FLAGS] & ~QUICK
    i, j = a & STATE_MASK, b & STATE_MASK
    open_ = (i == ESTABLISHED or i == PARTIAL) and (j == ESTABLISHED or j == PARTIAL)
    if open_ and flows[x + Z_DELIVERED] == flows[x + Z_LAST] and flows[y + Z_DELIVERED] == flows[y + Z_LAST]:
        a, b = a | QUICK, b | QUICK
    flows[x + Z_FLAGS] = a
    flows[y + Z_FLAGS] = b
    return 0
