"""Finished flows, packed small: a busy capture holds few open connections and very many closed ones.

A flow whose endpoints are both CLOSED or in TIME-WAIT is put into a ring.  When G_RING_SIZE others have been put
there after it and it is still finished, its row of 1024 octets and its log entries are packed without loss into some
400 octets at the end of `log`, and row and entries are used again.  So what the kernels work on stays in the
caches, and memory stays small: new memory is what a large capture's time went into (in virtual machines 1 to 5 ms
for each MiB).  A segment that comes later makes the row again (`revive`), exactly as it was; then it stays a row, so
that hostile captures cannot make the same flow go in and out.

What is packed: first two maps of the words that are not 0, then those words.  A cell is combined (XOR) with
another that is usually the same, so most words are 0; cells of which 32 bits are used stand two in a word.  A row with
a larger value there, or with a long log, is not packed.

Never here: which endpoint is in which state.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel, prefetch
from observer.tcp import layout as c
from observer.tcp import zeek_cells as z
from observer.tcp.evidence import LOG_BLOCK, LOG_FRAME, LOG_LINK, LOG_PROOF, LOG_STRIDE, LOG_TIME
from observer.tcp.flowtable import begin_flow, blank_flow, pack, take_row
from observer.tcp.states import CLOSED, TIME_WAIT

LOW: Final = 0xFFFFFFFF
HEAD: Final = 4  # words before the packed ones: two maps, and what the log of each endpoint looks like
ENTRIES_MAX: Final = 24
"""A flow with more log entries is not packed: bounds the room that packing and reading need."""
PACKED_MAX: Final = 48
"""Rows of `log` that a packed flow takes at most: HEAD + WIDE + NARROW / 2 + 4 * ENTRIES_MAX words, 4 in a row."""
AHEAD: Final = 6
"""Streams between asking the memory for one's packed flow and reading it: some microseconds."""
USUAL_LINES: Final = 7
"""Cache lines that most packed flows take."""
DELTA_TIME: Final = 1 << 33  # 8.6 s: a log entry that soon after the one before it is one word (two with a proof)
DELTA_FRAME: Final = 1 << 17

_NONE: Final = -1


def _rules() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells of a row, each with the cell that it usually equals: those of 64 bits, and those of 32."""
    client, server = c.CLIENT, c.SERVER
    wide = [(c.LAST_TIME, _NONE), (c.Z_FLOW, _NONE), *((c.Z_HISTORY + i, _NONE) for i in range(4))]
    for x in (client, server):
        wide += [
            (x + c.A_ACK_TIME, c.LAST_TIME), (x + c.A_NEXT_TIME, x + c.A_ACK_TIME),
            (x + c.E_DATA_TIME, x + c.A_NEXT_TIME),
            (x + c.E_OPEN_FIRST, c.LAST_TIME if x == client else client + c.E_OPEN_FIRST),
            (x + c.E_OPEN_LAST, x + c.E_OPEN_FIRST), (x + c.E_CANDIDATE_TIME, _NONE), (x + c.E_END_TIME, _NONE),
            (x + c.E_ZERO_TIME, _NONE), (x + c.E_RETX_TIME, _NONE), (x + c.E_RETX_GAP, _NONE),
            (x + c.E_SPARE, _NONE if x == client else client + c.E_OPEN_FIRST),
            (x + c.A_STAMP, _NONE), (x + c.A_SEEN, _NONE),
            (x + c.E_FLAGS, _NONE), (x + c.E_TRAITS, _NONE), (x + c.E_OPENINGS, _NONE), (x + c.E_COUNTS, _NONE),
            (x + c.E_COUNTS_2, _NONE), (x + c.E_COUNTS_3, _NONE), (x + z.Z_COUNTS, _NONE), (x + z.Z_ABOVE, _NONE),
            (x + c.Z_FLAGS, _NONE),
        ]  # fmt: skip
    narrow = [(c.FLOW_FLAGS, _NONE), (c.LAST_FRAME, _NONE), (c.COMPLETENESS, _NONE), (c.FIRST_RTT, _NONE),
              (c.RTT_CLIENT, _NONE), (c.RTT_SERVER, _NONE)]  # fmt: skip
    for x in (client, server):
        narrow += [(x + c.A_NEXT, _NONE), (x + c.E_ISS, _NONE), (x + c.A_WINDOW, _NONE), (x + c.E_OCTETS, _NONE),
                   (x + c.E_PACKETS, _NONE), (x + c.A_FLAGS, _NONE), (x + c.E_DATA_FRAME, c.LAST_FRAME),
                   (x + c.E_OPEN_FRAME, c.LAST_FRAME), (x + z.Z_LAST_FIN, _NONE), (x + c.E_STATE, _NONE)]  # fmt: skip
    # what is usually the same as something above, so that the words are 0
    for x, y in ((client, server), (server, client)):
        narrow += [(x + c.A_ACK, y + c.A_NEXT), (x + c.E_ACKED, x + c.A_ACK), (x + c.A_CONTIGUOUS, x + c.A_NEXT),
                   (x + c.E_SND_MAX, x + c.A_NEXT), (x + c.E_CONTIGUOUS, x + c.E_SND_MAX), (x + z.Z_LAST, x + c.A_NEXT),
                   (x + z.Z_DELIVERED, x + z.Z_LAST), (x + c.A_BASE, x + c.E_ISS), (x + z.Z_START, x + c.E_ISS),
                   (x + c.E_UNIQUE, x + c.E_OCTETS), (x + c.A_SCALE, client + c.A_SCALE if x == server else _NONE),
                   (x + c.E_FIN, _NONE)]  # fmt: skip
    for x in (client, server):
        narrow += [(x + z.Z_ACKED, _NONE), (x + z.Z_LAST_SYN, _NONE), (x + z.Z_LAST_RST, _NONE),
                   (x + c.E_RETX_COUNT, _NONE), (x + c.E_RETX_SEQ, _NONE), (x + c.E_CANDIDATE_FRAME, _NONE),
                   (x + c.E_ISLAND, _NONE), (x + c.E_ISLAND + 1, _NONE)]  # fmt: skip
    return wide, narrow


WIDE: Final = 50  # cells of 64 bits
NARROW: Final = 66  # cells of 32 bits


def packing_rules() -> list[int]:
    """What stands in g from G_PACK on: cell | the cell that it usually equals << 8 | 1 << 16 if there is one.

    Cells that `begin_flow` fills from the stream's row, and the places of log entries, are not among them.
    """
    wide, narrow = _rules()
    made = {c.FLOW_KEY, c.FLOW_PORTS, c.STREAM, c.PREVIOUS}
    for x in (c.CLIENT, c.SERVER):
        made |= {x + c.E_LOG, x + c.E_TAIL, x + c.E_DEAD, x + c.E_FIRST}
    packed = [cell for cell, _ in wide + narrow]
    if (len(wide), len(narrow)) != (WIDE, NARROW) or sorted([*packed, *made]) != list(range(c.FLOW_STRIDE)):
        raise AssertionError("every cell of a flow must be packed once")
    return [cell | (like << 8 | 1 << 16 if like >= 0 else 0) for cell, like in wide + narrow]


@kernel
def is_finished(flows: Int64s, flow: int) -> bool:
    """Whether nothing more is to be expected of the connection."""
    return flows[flow + c.CLIENT + c.E_STATE] in (CLOSED, TIME_WAIT) and flows[flow + c.SERVER + c.E_STATE] in (
        CLOSED,
        TIME_WAIT,
    )


@kernel
def retire(streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, g: Int64s, flow: int, tag: int) -> int:
    """If the flow is finished, put it into the ring, and pack what it takes the place of."""
    if not is_finished(flows, flow) or flows[flow + c.FLOW_FLAGS] & (c.FLOW_QUEUED | c.FLOW_KEPT):
        return 0
    flows[flow + c.FLOW_FLAGS] |= c.FLOW_QUEUED
    at = g[c.G_RING_NEXT]
    place = c.G_RING + at * c.RING_STRIDE
    oldest, old_tag = g[place] - 1, g[place + 1]
    g[place] = flow + 1
    g[place + 1] = tag
    g[c.G_RING_NEXT] = (at + 1) % g[c.G_RING_SIZE]
    if oldest >= 0:
        flows[oldest + c.FLOW_FLAGS] &= ~c.FLOW_QUEUED
        if is_finished(flows, oldest):
            archive(streams, slots, flows, log, g, oldest, old_tag)
        fetch_next(streams, slots, flows, log, g)
    return 0


@kernel
def fetch_next(streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, g: Int64s) -> int:
    """Ask the memory for what the next two to be packed need: it is long out of the caches."""
    later = g[c.G_RING + (g[c.G_RING_NEXT] + 1) % g[c.G_RING_SIZE] * c.RING_STRIDE] - 1
    for line in range(c.FLOW_STRIDE // c.LINE):
        prefetch(flows, later + line * c.LINE)
    place = c.G_RING + g[c.G_RING_NEXT] * c.RING_STRIDE
    flow = g[place] - 1
    if flow >= 0:  # its row is there by now
        prefetch(slots, g[place + 1] & g[c.G_MASK])
        prefetch(streams, flows[flow + c.STREAM] * c.STREAM_STRIDE)
        prefetch(streams, flows[flow + c.STREAM] * c.STREAM_STRIDE + c.LINE)
        fetch_log(flows, log, flow + c.CLIENT)
        fetch_log(flows, log, flow + c.SERVER)
    return 0


@kernel
def fetch_log(flows: Int64s, log: Int64s, x: int) -> int:
    """Ask the memory for the first and the last block of an endpoint's log: mostly there are no others."""
    first, last = (flows[x + c.E_FIRST] & LOW) * LOG_STRIDE, flows[x + c.E_TAIL] * LOG_STRIDE
    prefetch(log, first)
    prefetch(log, first + 2 * LOG_STRIDE)
    prefetch(log, last)
    prefetch(log, last - 2 * LOG_STRIDE)
    return 0


@kernel
def archive(streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, g: Int64s, flow: int, tag: int) -> int:
    """Pack a flow and give its row back; where it cannot be packed it stays a row for good.  tag: hash of its ends."""
    stream = flows[flow + c.STREAM]
    r = stream * c.STREAM_STRIDE
    entries = entries_of(flows, log, flow + c.CLIENT) + entries_of(flows, log, flow + c.SERVER)
    place = g[c.G_LOG]
    at = place * LOG_STRIDE
    used = pack_row(flows, log, g, flow, at) if entries <= ENTRIES_MAX else 0
    if not used:
        flows[flow + c.FLOW_FLAGS] |= c.FLOW_KEPT
        return 0
    used = pack_log(streams, flows, log, g, r, flow + c.CLIENT, at + 2, used)
    used = pack_log(streams, flows, log, g, r, flow + c.SERVER, at + 3, used)
    g[c.G_LOG] = (used + LOG_STRIDE - 1) // LOG_STRIDE
    g[c.G_PACKED_ENTRIES] += entries + 2  # 2: timers may still end both sides
    # the stream has no row any more, and its slot, if it has not been given to a later stream, says so
    streams[r + c.S_FLOW] = -(place + 1)
    own = tag << 32 | c.SLOT_FLOW | (flow // c.FLOW_STRIDE + 1)
    slot = tag & g[c.G_MASK]
    while slots[slot] and slots[slot] != own:
        slot = (slot + 1) & g[c.G_MASK]
    if slots[slot]:
        slots[slot] = tag << 32 | (stream + 1)
    # the row is empty, but for the next free one's number
    blank_flow(flows, flow)
    flows[flow] = g[c.G_FREE_ROW]
    g[c.G_FREE_ROW] = flow // c.FLOW_STRIDE + 1
    return 0


@kernel
def entries_of(flows: Int64s, log: Int64s, x: int) -> int:
    """Log entries of an endpoint, live and retracted; no more than just above ENTRIES_MAX are counted."""
    count = 0
    at = flows[x + c.E_FIRST] & LOW
    while at and count <= ENTRIES_MAX:
        count += 1
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    at = flows[x + c.E_DEAD] & LOW
    while at and count <= ENTRIES_MAX:
        count += 1
        at = log[(at - 1) * LOG_STRIDE + LOG_LINK] >> 16
    return count


@kernel
def pack_row(flows: Int64s, log: Int64s, g: Int64s, flow: int, at: int) -> int:
    """Pack a row's cells into `log` from cell `at` on; returns the next free cell, or 0: a value has no room."""
    used = at + HEAD
    present, over = 0, 0
    for i in range(WIDE):
        rule = g[c.G_PACK + i]
        value = flows[flow + (rule & 0xFF)] ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
        log[used] = value
        there = 1 if value else 0
        used += there
        present |= there << i
    log[at] = present
    present = 0
    for i in range(WIDE, WIDE + NARROW, 2):
        rule = g[c.G_PACK + i]
        low = flows[flow + (rule & 0xFF)] ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
        rule = g[c.G_PACK + i + 1]
        high = flows[flow + (rule & 0xFF)] ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
        over |= (low | high) >> 32
        value = pack(high & LOW, low & LOW)
        log[used] = value
        there = 1 if value else 0
        used += there
        present |= there << ((i - WIDE) >> 1)
    log[at + 1] = present
    return 0 if over else used


@kernel
def unpack_row(flows: Int64s, log: Int64s, g: Int64s, flow: int, at: int) -> int:
    """Write the packed cells into a row; returns the cell behind what was read."""
    used = at + HEAD
    present = log[at]
    for i in range(WIDE):
        rule = g[c.G_PACK + i]
        there = present >> i & 1
        value = log[used] & -there
        used += there
        flows[flow + (rule & 0xFF)] = value ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
    present = log[at + 1]
    for i in range(WIDE, WIDE + NARROW, 2):
        there = present >> ((i - WIDE) >> 1) & 1
        value = log[used] & -there
        used += there
        rule = g[c.G_PACK + i]
        flows[flow + (rule & 0xFF)] = (value & LOW) ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
        rule = g[c.G_PACK + i + 1]
        flows[flow + (rule & 0xFF)] = (value >> 32 & LOW) ^ (flows[flow + (rule >> 8 & 0xFF)] & -(rule >> 16))
    return used


@kernel
def pack_log(
    streams: Int64s, flows: Int64s, log: Int64s, g: Int64s, r: int, x: int, head: int, used: int
) -> int:  # fmt: skip
    """Pack an endpoint's log entries, and give them back; returns the next free cell.

    The word at `head` says how many live and retracted ones there are, and which of the live ones folding starts at,
    seals it, and is the newest.
    """
    time, frame = streams[r + c.S_TIME], streams[r + c.S_FRAME]
    first, seal = flows[x + c.E_FIRST] & LOW, flows[x + c.E_FIRST] >> 32
    live, starts, seals, ends, dead = 0, 0, 0, 0, 0
    at = first
    while at:
        live += 1
        starts = live if at == flows[x + c.E_LOG] else starts
        seals = live if at == seal else seals
        ends = live if at == flows[x + c.E_TAIL] else ends
        used = pack_entry(log, at, time, frame, used)
        cell = (at - 1) * LOG_STRIDE
        time, frame = log[cell + LOG_TIME], log[cell + LOG_FRAME]
        at = free_entry(log, g, at)
    at = flows[x + c.E_DEAD] & LOW
    while at:
        dead += 1
        used = pack_entry(log, at, time, frame, used)
        cell = (at - 1) * LOG_STRIDE
        time, frame = log[cell + LOG_TIME], log[cell + LOG_FRAME]
        at = free_entry(log, g, at)
    log[head] = live | dead << 8 | starts << 16 | seals << 24 | ends << 32
    return used


@kernel
def free_entry(log: Int64s, g: Int64s, entry: int) -> int:
    """Give an entry's (+ 1) block back if it is the block's first; returns the next entry in the chain."""
    cell = (entry - 1) * LOG_STRIDE + LOG_LINK
    following = log[cell] >> 16
    if (entry - 1) % LOG_BLOCK == 0:
        log[cell] = g[c.G_FREE_BLOCK]
        g[c.G_FREE_BLOCK] = entry
    return following


@kernel
def pack_entry(log: Int64s, entry: int, time: int, frame: int, used: int) -> int:
    """Pack one log entry (+ 1), by what it is later than `time` and `frame`; returns the next free cell.

    One word: time << 30 | frame << 13 | the link's low 11 bits << 2 | form.  Form 1: the proof's frame follows.
    Form 2: time, frame and proof follow as they are.
    """
    cell = (entry - 1) * LOG_STRIDE
    later, further = log[cell + LOG_TIME] - time, log[cell + LOG_FRAME] - frame
    link, proof = log[cell + LOG_LINK], log[cell + LOG_PROOF]
    code = (link & 0x7FF) << 2
    if 0 <= later < DELTA_TIME and 0 <= further < DELTA_FRAME:
        log[used] = later << 30 | further << 13 | code | (1 if proof else 0)
        log[used + 1] = proof
        return used + (2 if proof else 1)
    log[used] = code | 2
    log[used + 1] = log[cell + LOG_TIME]
    log[used + 2] = log[cell + LOG_FRAME]
    log[used + 3] = proof
    return used + 4


@kernel
def unpack_log(streams: Int64s, flows: Int64s, log: Int64s, g: Int64s, r: int, x: int, head: int, used: int) -> int:
    """Make an endpoint's log entries again, behind all others; returns the cell behind what was read."""
    time, frame = streams[r + c.S_TIME], streams[r + c.S_FRAME]
    counts = log[head]
    live, dead, base = counts & 0xFF, counts >> 8 & 0xFF, g[c.G_LOG]
    for number in range(1, live + dead + 1):
        word = log[used]
        used += 1
        proof = 0
        if word & 2:
            time, frame, proof = log[used], log[used + 1], log[used + 2]
            used += 3
        else:
            time += word >> 30
            frame += word >> 13 & DELTA_FRAME - 1
            if word & 1:
                proof = log[used]
                used += 1
        cell = (base + number - 1) * LOG_STRIDE
        following = 0 if number == live or number == live + dead else base + number + 1
        log[cell + LOG_TIME] = time
        log[cell + LOG_FRAME] = frame
        log[cell + LOG_PROOF] = proof
        log[cell + LOG_LINK] = following << 16 | word >> 2 & 0x7FF
    g[c.G_LOG] = base + live + dead
    starts, seals, ends = counts >> 16 & 0xFF, counts >> 24 & 0xFF, counts >> 32 & 0xFF
    flows[x + c.E_LOG] = base + starts if starts else 0
    flows[x + c.E_TAIL] = base + ends if ends else 0
    flows[x + c.E_DEAD] = base + live + 1 if dead else 0
    flows[x + c.E_FIRST] = (base + 1 if live else 0) | (base + seals if seals else 0) << 32
    return used


@kernel
def unpack(streams: Int64s, flows: Int64s, log: Int64s, g: Int64s, stream: int, flow: int) -> int:
    """Make the row of a packed flow again, in a row that may hold anything."""
    r = stream * c.STREAM_STRIDE
    at = (-streams[r + c.S_FLOW] - 1) * LOG_STRIDE
    flows[flow + c.FLOW_KEY] = 0
    begin_flow(streams, flows, flow, stream)
    used = unpack_row(flows, log, g, flow, at)
    used = unpack_log(streams, flows, log, g, r, flow + c.CLIENT, at + 2, used)
    unpack_log(streams, flows, log, g, r, flow + c.SERVER, at + 3, used)
    return 0


@kernel
def ask_for_history(streams: Int64s, log: Int64s, stream: int) -> int:
    """Ask the memory for a packed flow: going through all streams waits for little else."""
    packed = stream * c.STREAM_STRIDE + c.S_FLOW
    at = (-streams[packed] - 1) * LOG_STRIDE if packed < len(streams) else 0
    for line in range(USUAL_LINES):
        prefetch(log, at + line * c.LINE)
    return 0


@kernel
def row_of(streams: Int64s, flows: Int64s, log: Int64s, g: Int64s, stream: int) -> int:
    """First cell of a stream's row, made again if it was packed; -1: only one segment, or forgotten (negative)."""
    if stream < 0:
        return -1
    number = streams[stream * c.STREAM_STRIDE + c.S_FLOW]
    if number > 0:
        return (number - 1) * c.FLOW_STRIDE
    if number == 0:
        return -1
    flow = take_row(flows, g)
    unpack(streams, flows, log, g, stream, flow)
    flows[flow + c.FLOW_FLAGS] |= c.FLOW_KEPT
    streams[stream * c.STREAM_STRIDE + c.S_FLOW] = flow // c.FLOW_STRIDE + 1
    return flow


@kernel
def revive(streams: Int64s, slots: Int64s, flows: Int64s, log: Int64s, g: Int64s, at: int) -> int:
    """A segment came for the packed flow in slot `at`: make its row again."""
    flow = row_of(streams, flows, log, g, (slots[at] & c.SLOT_NUMBER) - 1)
    slots[at] = slots[at] >> 32 << 32 | c.SLOT_FLOW | (flow // c.FLOW_STRIDE + 1)
    return flow
