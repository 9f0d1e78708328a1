"""The kernels against the slow tracker of reference.py, on sequences that Hypothesis invents.

OBSERVER_EXAMPLES sets how many (default 150 for each property; thousands for a long run).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given, settings, target
from hypothesis import strategies as st

from observer import segments as seg
from observer.kernels import Checked, Compiled, Engine, Interpreted
from observer.options import Options
from observer.tcp import tracker as tracker_module
from observer.tcp.fold import SPARE_ENTRIES
from observer.tcp.layout import G_EVENTS, G_LOG
from observer.tcp.states import ACKNOWLEDGED, CLOSED, RETRACTED, TRANSITIONS, UNKNOWN
from observer.tcp.tracker import Tracker
from tests.tcp import reference
from tests.tcp.segments import BEGIN, CLIENT, MASK, SERVER, Seen, feed, pack, sequences, track, transitions_of
from tests.tcp.segments import row as line

EXAMPLES = int(os.environ.get("OBSERVER_EXAMPLES", "150"))
OPTIONS = Options()
MACHINE = {(row.state, row.event): row.to for row in TRANSITIONS}
Rows = list[list[int]]


@pytest.fixture(scope="module")
def compiled() -> Engine:
    return Compiled()


@pytest.fixture(scope="module")
def checked() -> Engine:
    return Checked()


def as_seen(told: reference.Reference) -> Seen:
    """The reference's result in the tracker's shape."""
    streams = []
    for connection in told.connections:
        sides = [
            cell
            for end in (connection.client, connection.server)
            for cell in (end.packets, end.octets, end.unique, end.state, end.certainty)
        ]
        previous = connection.previous.number if connection.previous else -1
        streams.append((int(connection.swapped), previous, *sides, connection.ended))
    return Seen(told.directions, streams, [tuple(row) for row in told.transitions()])


@settings(max_examples=4 * EXAMPLES)
@given(sequences)
def test_reference_and_kernels_agree(rows: Rows) -> None:
    seen, marks = track(rows, Interpreted(), OPTIONS)
    told = as_seen(reference.run(rows, marks, OPTIONS))
    assert seen.directions == told.directions
    assert seen.transitions == told.transitions
    assert seen.streams == told.streams


@settings(max_examples=2 * EXAMPLES)
@given(rows=sequences, chunks=st.lists(st.integers(1, 7), max_size=20))
def test_speeds_and_chunks_agree(compiled: Engine, checked: Engine, rows: Rows, chunks: list[int]) -> None:
    expected = track(rows, Interpreted(), OPTIONS)
    assert track(rows, Interpreted(), OPTIONS, chunks) == expected
    assert track(rows, compiled, OPTIONS, chunks) == expected
    assert track(rows, checked, OPTIONS) == expected
    # finished flows are packed away, and taken out again where more of them comes
    assert track(rows, Interpreted(), OPTIONS, chunks, ring=1) == expected
    assert track(rows, checked, OPTIONS, chunks, ring=1) == expected


def shifted(rows: Rows, octets: int) -> Rows:
    """The same segments with all sequence numbers moved on."""
    moved = []
    for row in rows:
        copy = type(row)(row)
        for cell in (seg.SEQ, seg.ACK, seg.SACK_LEFT, seg.SACK_RIGHT):
            copy[cell] = (row[cell] + octets) & MASK
        moved.append(copy)
    return moved


@settings(max_examples=EXAMPLES)
@given(rows=sequences, octets=st.one_of(st.integers(0, MASK), st.sampled_from((1 << 31, MASK, (1 << 31) - 1))))
def test_only_distances_between_sequence_numbers_matter(compiled: Engine, rows: Rows, octets: int) -> None:
    moved = shifted(rows, octets)
    # a RST with sequence number 0 is told apart: it answers from no socket (RFC 9293 3.10.7.1)
    assume(not any(row[seg.FLAGS] & seg.RST and row[seg.SEQ] == 0 for row in [*rows, *moved]))
    assert track(moved, compiled, OPTIONS)[0] == track(rows, compiled, OPTIONS)[0]


@settings(max_examples=EXAMPLES)
@given(rows=sequences)
def test_transitions_chain_up_to_the_final_states(compiled: Engine, rows: Rows) -> None:
    seen, _ = track(rows, compiled, OPTIONS)
    for stream, cells in enumerate(seen.streams):
        for server, final in ((0, cells[5]), (1, cells[10])):
            told = [row for row in seen.transitions if row[:2] == (stream, server)]
            live = [row for row in told if row[7] != RETRACTED]
            assert told[: len(live)] == live, "retracted ones stand behind"
            states = [row[4] for row in live] + [final]
            assert [row[5] for row in live] == states[1:]
            assert states[0] in (CLOSED, UNKNOWN) or not live
            assert all(MACHINE[row[4], row[6]] == row[5] for row in live)
            assert [row[2] for row in live] == sorted(row[2] for row in live)
            assert all(row[8] > 0 for row in told if row[7] in (ACKNOWLEDGED, RETRACTED))


@settings(max_examples=EXAMPLES)
@given(rows=sequences)
def test_no_segment_makes_more_entries_than_there_is_room_for(rows: Rows) -> None:
    tracker = Tracker(Interpreted(), OPTIONS)
    g, most = tracker.g, 0
    for row in rows:
        log, events = int(g[G_LOG]), int(g[G_EVENTS])
        feed(tracker, [row])
        most = max(most, int(g[G_LOG]) - log)
        assert g[G_LOG] - log <= tracker_module.LOG_PER_SEGMENT
        assert g[G_EVENTS] - events <= tracker_module.EVENTS_PER_SEGMENT
    target(float(most), label="entries")
    log = int(g[G_LOG])
    tracker.finish()
    assert g[G_LOG] - log <= 2 * tracker.flow_count
    alone = Tracker(Interpreted(), OPTIONS)
    feed(alone, rows[-1:])
    alone.finish(int(rows[-1][seg.TIME]) + 600 * 10**9)
    assert len(transitions_of(alone)) <= tracker_module.SPARE_ENTRIES_PER_STREAM <= SPARE_ENTRIES
    assert len(alone.event_rows()) <= tracker_module.LONE_EVENTS


def test_checks_are_on(checked: Engine) -> None:
    """Without room the checked kernels say so: the properties above rest on that."""
    tracker = Tracker(checked, OPTIONS)
    rows = [line(BEGIN + number, number + 1, CLIENT, SERVER, seg.SYN, number) for number in range(600)]
    tracker.streams.reserve = lambda _rows: False  # type: ignore[method-assign]
    with pytest.raises(IndexError):
        tracker.track(pack(rows), len(rows))
