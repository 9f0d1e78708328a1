"""Segment rows for tests: readable builders, strategies for Hypothesis, and what a tracker made of them.

Rows are lists of `segments.STRIDE` ints; `pack` makes the flat array that the tracker takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy
from hypothesis import strategies as st

from observer import segments as seg
from observer.kernels import Engine
from observer.options import Options
from observer.segments import ACK_FLAG, FIN, PSH, RST, SYN
from observer.tcp import columns, layout
from observer.tcp.tracker import Tracker

MASK = 0xFFFFFFFF
BEGIN = 1_700_000_000 * 10**9
MS = 10**6
SECOND = 10**9
Address = tuple[int, int, int, int]
CLIENT: tuple[Address, int] = ((0, 0, 0, 0x0A000001), 40000)
SERVER: tuple[Address, int] = ((0, 0, 0, 0x0A000002), 80)


class Row(list[int]):
    """A row of cells that a failing test can print."""

    def __repr__(self) -> str:
        letters = "".join(letter for bit, letter in enumerate("FSRPAUEC") if self[seg.FLAGS] >> bit & 1) or "-"
        names = {seg.WINDOW: 1000, seg.TTL: 64, seg.OPTIONS: seg.FIRST_OF_FRAME, seg.KIND: 0}
        odd = " ".join(f"{cell}={self[cell]}" for cell, usual in names.items() if self[cell] != usual)
        ends = f"v{self[seg.VERSION]} {self[seg.SRC + 3] & 0xFF}:{self[seg.SRC_PORT]}"
        ends += f">{self[seg.DST + 3] & 0xFF}:{self[seg.DST_PORT]}"
        numbers = f"seq {self[seg.SEQ]} ack {self[seg.ACK]} len {self[seg.LENGTH]}"
        return f"<{self[seg.FRAME]} +{(self[seg.TIME] - BEGIN) / SECOND:.6f} {ends} {letters} {numbers} {odd}>"


def row(
    time: int, frame: int, source: tuple[Address, int], destination: tuple[Address, int], flags: int, seq: int,
    ack: int = 0, length: int = 0, **cells: int,
) -> list[int]:  # fmt: skip
    """One row; further cells by the names of observer/segments.py in small letters."""
    made = Row([0] * seg.STRIDE)
    made[seg.TIME], made[seg.FRAME], made[seg.VERSION] = time, frame, 4
    made[seg.SRC : seg.SRC + 4], made[seg.SRC_PORT] = source
    made[seg.DST : seg.DST + 4], made[seg.DST_PORT] = destination
    made[seg.SEQ], made[seg.ACK], made[seg.FLAGS], made[seg.LENGTH] = seq & MASK, ack & MASK, flags, length
    made[seg.WINDOW], made[seg.TTL], made[seg.OPTIONS] = 1000, 64, seg.FIRST_OF_FRAME
    for name, value in cells.items():
        made[getattr(seg, name.upper())] = value
    return made


def pack(rows: Sequence[Sequence[int]]) -> numpy.ndarray:
    """The flat array of some rows."""
    return numpy.array(rows, numpy.int64).reshape(-1) if len(rows) else numpy.zeros(0, numpy.int64)


# --- what a tracker makes of rows ------------------------------------------------------------------------


class Seen(NamedTuple):
    """Everything that is compared."""

    directions: list[tuple[int, int] | None]
    streams: list[tuple[int, ...]]
    transitions: list[tuple[int, ...]]


def feed(tracker: Tracker, rows: Sequence[Sequence[int]], chunks: Iterable[int] = ()) -> tuple[list[int], list[int]]:
    """Hand rows over in chunks of the given sizes, the rest at once; each row's stream cell and its marks."""
    streams, marks, first = [], [], 0
    for size in [*chunks, len(rows)]:
        part = rows[first : first + size]
        if part:
            cells = tracker.track(pack(part), len(part))[: len(part) * layout.MARK_STRIDE].reshape(
                -1, layout.MARK_STRIDE
            )
            streams += cells[:, layout.M_STREAM].tolist()
            marks += cells[:, layout.M_MARKS].tolist()
        first += size
    return streams, marks


def transitions_of(tracker: Tracker) -> list[tuple[int, ...]]:
    """stream, server, time, frame, from, to, cause, certainty, proof of each transition."""
    return [
        (who >> 1, who & 1, time, frame, states >> 8, states & 0xFF, cause, certainty, proof)
        for who, time, frame, states, cause, certainty, proof in tracker.transitions().tolist()
    ]


PER_SIDE = (columns.P_PACKETS, columns.P_OCTETS, columns.P_UNIQUE, columns.P_STATE, columns.P_CERTAINTY)


def result(tracker: Tracker, streams: Sequence[int]) -> Seen:
    """What the tracker says of everything it was fed."""
    table = tracker.flow_rows(0, tracker.stream_count)
    told = []
    for cells in table.tolist():
        sides = [cells[side + cell] for side in (columns.O_CLIENT, columns.O_SERVER) for cell in PER_SIDE]
        told.append((cells[columns.O_SWAPPED], cells[columns.O_PREVIOUS], *sides, cells[columns.O_ENDED]))
    directions = [(cell >> 1, cell & 1) if cell >= 0 else None for cell in streams]
    return Seen(directions, told, transitions_of(tracker))


def track(
    rows: Sequence[Sequence[int]], engine: Engine, options: Options, chunks: Iterable[int] = (), ring: int | None = None
) -> tuple[Seen, list[int]]:
    """What the kernels make of rows; and Wireshark's marks of each.

    With `ring` finished flows are packed as soon as that many others have finished.
    """
    tracker = Tracker(engine, options)
    if ring is not None:
        tracker.g[layout.G_RING_SIZE] = ring
    streams, marks = feed(tracker, rows, chunks)
    tracker.finish()
    return result(tracker, streams), marks


# --- strategies ------------------------------------------------------------------------------------------

FLAG_SETS = (
    SYN, SYN | ACK_FLAG, ACK_FLAG, ACK_FLAG, ACK_FLAG | PSH, FIN | ACK_FLAG, FIN | ACK_FLAG, RST, RST | ACK_FLAG,
    FIN, SYN | FIN, SYN | RST, 0, SYN | ACK_FLAG | FIN, PSH,
)  # fmt: skip
STEPS_NS = (
    1000,
    MS,
    10 * MS,
    250 * MS,
    SECOND,
    1100 * MS,
    1400 * MS,
    2 * SECOND,
    4 * SECOND,
    61 * SECOND,
    0,
    -SECOND,
    -MS,
)
ADDRESSES: tuple[Address, ...] = (
    (0, 0, 0, 0x0A000001),
    (0, 0, 0, 0x0A000002),
    (0x20010DB8, 0, 0, 1),
    (0x20010DB8, 0, 0, 2),
)
BASES = (1000, MASK - 1, 0, 0x7FFFFFFE)


def ends_of(pair: int) -> tuple[tuple[Address, int], tuple[Address, int], int]:
    """The two ends of one of four pairs, and the version of IP."""
    if pair == 0:
        return CLIENT, SERVER, 4
    if pair == 1:
        return (ADDRESSES[0], 40001), (ADDRESSES[1], 80), 4
    if pair == 2:
        return (ADDRESSES[2], 40000), (ADDRESSES[3], 80), 6
    return (ADDRESSES[0], 80), (ADDRESSES[0], 80), 4  # an end that talks to itself


@st.composite
def wild(draw: st.DrawFn, most: int = 24) -> list[list[int]]:
    """Segments without any sense: every flag, small numbers, time in leaps."""
    base = draw(st.sampled_from(BASES))
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from((0, 0, 0, 0, 1, 2, 3)),
                st.integers(0, 1),
                st.sampled_from(FLAG_SETS),
                st.integers(0, 4),
                st.integers(0, 4),
                st.sampled_from((0, 0, 0, 1, 2, 100)),
                st.sampled_from(STEPS_NS),
                st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5)),
            ),
            min_size=1,
            max_size=most,
        )
    )
    rows, time = [], BEGIN
    for frame, (pair, back, flags, seq, ack, length, step, oddity) in enumerate(steps, 1):
        time += step
        ends = ends_of(pair)
        source, destination = (ends[1], ends[0]) if back else (ends[0], ends[1])
        cells = {"version": ends[2]}
        cells |= ({}, {"window": 0}, {"ttl": 63}, QUOTED, SACKED, {"options": seg.CUT_HEADER})[oddity]
        made = row(time, frame, source, destination, flags, base + seq, base + ack, length, **cells)
        if oddity == 4:
            made[seg.SACK_LEFT], made[seg.SACK_RIGHT] = base & MASK, (base + 1) & MASK
        rows.append(made)
    return rows


QUOTED = {"kind": seg.KIND_QUOTED, "icmp_type": 3, "icmp_code": 1}
SACKED = {"options": seg.HAS_SACK | seg.FIRST_OF_FRAME}


@dataclass
class Host:
    """One end that behaves, for the realistic strategy."""

    end: tuple[Address, int]
    iss: int
    next: int = 0
    expects: int = 0
    fin: bool = False
    echo: int = 0
    sent: list[tuple[int, int, int]] = field(default_factory=list)


ACTIONS = (
    "syn", "synack", "ack", "ack", "data", "data", "fin", "fin", "rst", "bare", "again", "again", "again", "keepalive",
    "old", "close", "open", "new", "copy", "probe", "quote", "hole",
)  # fmt: skip


def emit(host: Host, peer: Host, action: str) -> tuple[int, int, int, int] | None:
    """flags, seq, ack, length of what a host sends; its own record moves on."""
    if action == "new":
        host.iss = (host.iss + 70000) & MASK
        host.next, host.fin, host.expects, host.sent = host.iss, False, 0, []
        action = "syn"
    ack = host.expects
    if action in ("syn", "synack"):
        host.next = (host.iss + 1) & MASK
        if action == "synack":
            host.expects = ack = peer.next
        return remember(
            host, (SYN if action == "syn" else SYN | ACK_FLAG, host.iss, ack if action == "synack" else 0, 0)
        )
    if action in ("data", "probe", "hole"):
        length = 100 if action != "probe" else 1
        seq = (host.next + (100 if action == "hole" else 0)) & MASK
        host.next = host.next if action == "hole" else (host.next + length) & MASK
        return remember(host, (ACK_FLAG | PSH, seq, ack, length))
    if action == "fin" and not host.fin:
        host.fin = True
        host.next = (host.next + 1) & MASK
        return remember(host, (FIN | ACK_FLAG, host.next - 1 & MASK, ack, 0))
    if action in ("again", "copy", "fin") and host.sent:
        flags, seq, _, length = host.sent[-1]
        return flags, seq, ack if flags & ACK_FLAG else 0, length
    if action == "rst":
        return RST | ACK_FLAG, host.next, ack, 0
    if action == "bare":
        return RST, peer.expects, 0, 0
    if action == "keepalive":
        return ACK_FLAG, host.next - 1 & MASK, ack, 0
    if action == "old":
        return ACK_FLAG, host.next, ack - 100 & MASK, 0
    return ACK_FLAG, host.next, ack, 0


def remember(host: Host, made: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    host.sent.append(made)
    return made


@st.composite
def realistic(draw: st.DrawFn, most: int = 40) -> list[list[int]]:
    """Two connections whose ends keep to their numbers, over a path that loses, repeats and delays."""
    base = draw(st.sampled_from(BASES))
    opening = draw(st.sampled_from((0, 1, 2, 3, 4)))
    stamped = draw(st.booleans())
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from((0, 0, 0, 2)),
                st.integers(0, 1),
                st.sampled_from(ACTIONS),
                st.sampled_from(
                    (MS, 10 * MS, 10 * MS, 250 * MS, SECOND, 2 * SECOND, 4 * SECOND, 70 * SECOND, 0, -5 * MS)
                ),
                st.sampled_from((0, 0, 0, 0, 1, 2, 3)),
            ),
            max_size=most,
        )
    )
    greeting = [(0, 0, "syn", MS, 0), (0, 1, "synack", 10 * MS, 0), (0, 0, "ack", 10 * MS, 0), (0, 1, "data", MS, 0)]
    hosts = {pair: (Host(ends_of(pair)[0], base), Host(ends_of(pair)[1], base + 50000 & MASK)) for pair in (0, 2)}
    rows: list[list[int]] = []
    time = BEGIN
    for pair, back, action, step, fate in [*greeting[:opening], *steps]:
        time += step
        host, peer = hosts[pair][back], hosts[pair][1 - back]
        made = emit(host, peer, action)
        if made is None or fate == 1:
            continue  # lost before the tap
        flags, seq, ack, length = made
        cells = {"version": ends_of(pair)[2], "ip_id": 0 if action == "copy" else len(rows) + 1, "ttl": 60 + back}
        cells |= {"close": {"window": 0}, "quote": QUOTED}.get(action, {})
        if action == "bare":
            cells["ttl"] += back
        if stamped:
            cells |= {"options": seg.HAS_TIMESTAMPS, "ts_value": time // MS & MASK, "ts_echo": host.echo}
        rows.append(row(time, len(rows) + 1, host.end, peer.end, flags, seq, ack, length, **cells))
        if fate != 2 and not flags & RST:  # 2: lost behind the tap
            arrived = seq + length + bool(flags & SYN) + bool(flags & FIN) & MASK
            if flags & SYN or (arrived - peer.expects) & MASK < 1 << 31:
                peer.expects, peer.echo = arrived, time // MS & MASK
    return rows or [row(BEGIN, 1, CLIENT, SERVER, SYN, base)]


sequences = st.one_of(wild(), realistic())
