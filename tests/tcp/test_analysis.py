"""Agreement of the analysis with Wireshark, and what it must do by itself."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import segments as seg
from observer.kernels import Interpreted
from observer.tcp import analysis, layout
from observer.tcp.layout import (
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
)
from tests.tcp import oracle
from tests.tcp.oracle import Conversations, Row, Segment, names

A, B = ("10.0.0.1", 40000), ("10.0.0.2", 80)
ISS_A, ISS_B = 5000, 70000
MS = 1_000_000
machine = functools.cache(oracle.Machine)


def life(*told: tuple[object, ...], first_ns: int = 10**18) -> list[Segment]:
    """(ms, "a" or "b", seq, ack, flags, length, further fields) with numbers relative to the ISS."""
    out = []
    for ms, who, seq, ack, flags, length, *more in told:
        src, dst, mine, theirs = (A, B, ISS_A, ISS_B) if who == "a" else (B, A, ISS_B, ISS_A)
        bits = sum({"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}[letter] for letter in str(flags))
        number = int(theirs + int(str(ack))) if bits & 16 else 0
        fields = dict(more[0]) if more else {}  # type: ignore[call-overload]
        time_ns = first_ns + int(float(str(ms)) * MS)
        out.append(Segment(time_ns, src, dst, mine + int(str(seq)), number, bits, length=int(str(length)), **fields))
    return out


HANDSHAKE: Sequence[tuple[object, ...]] = (
    (0, "a", 0, 0, "S", 0),
    (10, "b", 0, 1, "SA", 0),
    (20, "a", 1, 1, "A", 0),
)


def marks_of(segments: list[Segment], **settings_: int) -> list[int]:
    conversations = Conversations(Interpreted(), check=True, **settings_)  # type: ignore[arg-type]
    return [conversations.add(segment).marks for segment in segments]


SPURIOUS = MARK_RETRANSMISSION | MARK_SPURIOUS_RETRANSMISSION
FAST = MARK_RETRANSMISSION | MARK_FAST_RETRANSMISSION
TWO_SENT = [(30, "a", 1, 1, "PA", 100), (31, "a", 101, 1, "PA", 100)]
THREE_ACKS = [(40, "b", 1, 1, "A", 0), (41, "b", 1, 1, "A", 0), (42, "b", 1, 1, "A", 0)]
CASES: dict[str, tuple[list[tuple[object, ...]], int]] = {
    "data in order": ([(30, "a", 1, 1, "PA", 100)], 0),
    "data repeated late": ([(30, "a", 1, 1, "PA", 100), (300, "a", 1, 1, "PA", 100)], MARK_RETRANSMISSION),
    "last data repeated at once": ([(30, "a", 1, 1, "PA", 100), (31, "a", 1, 1, "PA", 100)], MARK_RETRANSMISSION),
    "acknowledged data repeated": (
        [(30, "a", 1, 1, "PA", 100), (40, "b", 1, 101, "A", 0), (50, "a", 1, 1, "PA", 100)],
        SPURIOUS,
    ),
    "hole filled within a round trip": ([(30, "a", 101, 1, "PA", 100), (35, "a", 1, 1, "PA", 100)], MARK_OUT_OF_ORDER),
    "hole filled late": ([(30, "a", 101, 1, "PA", 100), (60, "a", 1, 1, "PA", 100)], MARK_RETRANSMISSION),
    "hole": ([(30, "a", 101, 1, "PA", 100)], MARK_LOST_SEGMENT),
    "duplicate ACK": ([(30, "b", 1, 1, "A", 0), (31, "b", 1, 1, "A", 0)], MARK_DUPLICATE_ACK),
    "fast retransmission": (
        [*TWO_SENT, *THREE_ACKS, (50, "a", 1, 1, "PA", 100)],
        FAST,
    ),
    "zero window": ([(30, "b", 1, 1, "A", 0, {"window": 0})], MARK_ZERO_WINDOW),
    "zero window probe": ([(30, "b", 1, 1, "A", 0, {"window": 0}), (40, "a", 1, 1, "A", 1)], MARK_ZERO_WINDOW_PROBE),
    "answer to the probe": (
        [(30, "b", 1, 1, "A", 0, {"window": 0}), (40, "a", 1, 1, "A", 1), (50, "b", 1, 1, "A", 0, {"window": 0})],
        MARK_ZERO_WINDOW | MARK_ZERO_WINDOW_PROBE_ACK,
    ),
    "window opens": (
        [(30, "b", 1, 1, "A", 0, {"window": 0}), (40, "b", 1, 1, "A", 0, {"window": 900})],
        MARK_WINDOW_UPDATE,
    ),
    "window full": ([(30, "b", 1, 1, "A", 0, {"window": 200}), (40, "a", 1, 1, "PA", 200)], MARK_WINDOW_FULL),
    "keep-alive": ([(30, "a", 0, 1, "A", 0)], MARK_KEEP_ALIVE),
    "keep-alive of one octet": ([(30, "a", 1, 1, "PA", 9), (90, "a", 9, 1, "A", 1)], MARK_KEEP_ALIVE),
    "answer to a keep-alive": (
        [(30, "b", 1, 1, "A", 0), (40, "a", 0, 1, "A", 0), (50, "b", 1, 1, "A", 0)],
        MARK_KEEP_ALIVE_ACK,
    ),
    "acknowledgment of the unseen": ([(30, "b", 1, 500, "A", 0)], MARK_ACK_LOST_SEGMENT),
    "the unseen acknowledged again": ([(30, "b", 1, 500, "A", 0), (40, "b", 1, 600, "A", 0)], 0),
    "SYN repeated": ([(30, "a", 0, 0, "S", 0)], MARK_RETRANSMISSION),
    "FIN repeated": ([(30, "a", 1, 1, "FA", 0), (300, "a", 1, 1, "FA", 0)], MARK_RETRANSMISSION),
    "another SYN-ACK": ([(30, "b", 900, 1, "SA", 0)], MARK_REUSED_PORTS | MARK_LOST_SEGMENT),
    "new incarnation": ([(30, "a", 900, 0, "S", 0)], MARK_REUSED_PORTS),
    "RST anywhere": ([(30, "b", 900, 0, "R", 0)], 0),
}


@pytest.mark.parametrize("name", CASES)
def test_mark(name: str) -> None:
    told, expected = CASES[name]
    found = marks_of(life(*HANDSHAKE, *told))[-1]
    assert names(found) == names(expected)


@pytest.mark.skipif("4.0." not in oracle.tshark_version(), reason="needs tshark 4.0")
def test_cases_are_what_tshark_says() -> None:
    for name, (told, expected) in CASES.items():
        said = oracle.ask_tshark(life(*HANDSHAKE, *told))
        assert (name, names(said[-1].marks)) == (name, names(expected))


# --- the corpus ------------------------------------------------------------------------------------------


def why(row: Row, ours: int, last: dict[tuple[str, int], Segment]) -> str:
    """The known reason for a difference from Wireshark's word; empty if there is none."""
    segment = row.segment
    different = ours ^ row.said.marks
    if different == MARK_WINDOW_FULL:
        return "window scale: the table has no options"
    if segment.flags & 0x3F == 0 and segment.window == 0 and row.said.marks == 0:
        return "header length below 20 octets: Wireshark gives up before it prints marks"
    if different == MARK_REUSED_PORTS and row.said.marks & MARK_REUSED_PORTS and segment.flags & 18 == 18:
        return "second pass of tshark -2: it compares the SYN-ACK with a later one"
    peer = last.get(segment.dst)
    if different == SPURIOUS and peer and not peer.flags & 16 and peer.ack:
        return "acknowledgment number without the ACK flag: Wireshark believes it"
    if segment.seq == 0 and segment.ack == 0:
        return "sequence number 0: Wireshark takes it for unknown"
    return ""


@pytest.mark.skipif(not oracle.PACKETS.exists(), reason="needs ../shared/corpus")
@pytest.mark.parametrize("engine", [Interpreted, machine], ids=["interpreted", "machine"])
def test_agrees_with_wireshark_on_the_corpus(engine: type[Interpreted]) -> None:
    right, ours_only, theirs_only, reasons = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    headers = streams = 0
    for capture, rows in oracle.captures():
        conversations, last = Conversations(engine(), check=engine is Interpreted), dict[tuple[str, int], Segment]()
        quoted = {row.said.stream for row in rows if row.quoted}
        number: dict[int, int] = {}
        completeness: dict[int, int] = {}
        for row in rows:
            if row.quoted:
                continue
            said = conversations.add(row.segment, length_known=row.length_known)
            assert number.setdefault(row.said.stream, said.stream) == said.stream, (capture, row.frame)
            assert quoted or said.stream == row.said.stream, (capture, row.frame)
            completeness[row.said.stream] = row.completeness
            headers += 1
            for bit, name in oracle.MARK_NAMES.items():
                right[name] += bool(said.marks & row.said.marks & bit)
                ours_only[name] += bool(said.marks & ~row.said.marks & bit)
                theirs_only[name] += bool(~said.marks & row.said.marks & bit)
            if said.marks != row.said.marks:
                reason = why(row, said.marks, last)
                assert reason, (capture, row.frame, names(row.said.marks), names(said.marks))
                reasons[reason] += 1
            last[row.segment.src] = row.segment
        for stream, value in completeness.items():
            assert stream in quoted or conversations.completeness(number[stream]) == value, (capture, stream)
            streams += stream not in quoted
    print(f"\n{headers} segments, stream number 100 %; {streams} streams, completeness 100 %")
    for name in oracle.MARK_NAMES.values():
        print(f"{name:26} both {right[name]:5}  only here {ours_only[name]:4}  only Wireshark {theirs_only[name]:3}")
        wrong = ours_only[name] + theirs_only[name]
        assert name == "window_full" or wrong <= 0.0005 * headers
    print(*(f"{count:4} {reason}" for reason, count in reasons.most_common()), sep="\n")
    assert headers > 40_000


# --- made-up lives ----------------------------------------------------------------------------------------


def touches_zero(segment: Segment) -> bool:
    """Whether Wireshark may take one of the segment's numbers for "unknown"."""
    return 0 in (segment.seq, (segment.seq + segment.length) & 0xFFFFFFFF) or bool(
        segment.flags & 16 and not segment.ack
    )


@pytest.mark.skipif("4.0." not in oracle.tshark_version(), reason="needs tshark 4.0")
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_tshark_on_storms(seed: int) -> None:
    sent = oracle.storm(Random(seed), 1500)
    said = oracle.ask_tshark(sent)
    conversations = Conversations(Interpreted(), check=True)
    zero, found = set(), Counter[str]()
    for segment, theirs in zip(sent, said, strict=True):
        ours = conversations.add(segment)
        if touches_zero(segment):
            zero.add(theirs.stream)
        assert ours.stream == theirs.stream
        assert theirs.stream in zero or names(ours.marks) == names(theirs.marks), segment
        found.update(name for bit, name in oracle.MARK_NAMES.items() if theirs.marks & bit)
    assert all(found[name] for name in oracle.MARK_NAMES.values()), found
    assert len(zero) < 20


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_initial_sequence_numbers_do_not_matter(seed: int, client: int, server: int) -> None:
    sent = [segment for segment in oracle.storm(Random(seed), 3) if not (segment.flags & 4 and segment.seq == 0)]
    plain, moved = Conversations(Interpreted()), Conversations(Interpreted(), check=True)
    server_end = ("192.168.0.1", 80)
    shifted = oracle.shifted(sent, server, client, server_end)
    for before, after in zip(sent, shifted, strict=True):
        if after.flags & 4 and after.seq == 0:
            return  # a RST with number 0 is from no socket; see the head of analysis.py
        one, two = plain.add(before), moved.add(after)
        assert (one.stream, names(one.marks)) == (two.stream, names(two.marks))


def test_interpreted_and_compiled_agree() -> None:
    one, two = (Conversations(engine, duplicate_ns=MS) for engine in (Interpreted(), machine()))
    for segment in oracle.storm(Random(7), 300):
        assert one.add(segment) == two.add(segment)
    for left, right in zip(one.flows, two.flows, strict=True):
        np.testing.assert_array_equal(left, right)


def test_ordinary_life_is_plain() -> None:
    conversations = Conversations(Interpreted(), check=True)
    for segment in life(*HANDSHAKE, (25, "a", 1, 1, "PA", 50), (30, "b", 1, 51, "A", 0)):
        conversations.add(segment)
    flow, row = conversations.flows[0], conversations.row
    for segment in life((40, "b", 1, 51, "PA", 400), (41, "b", 401, 51, "PA", 400), (50, "a", 51, 801, "A", 0)):
        conversations._fill(segment)
        x, y = (layout.CLIENT, layout.SERVER) if segment.src == A else (layout.SERVER, layout.CLIENT)
        assert analysis.is_plain(flow, x, y, row, 0)
        analysis.plain(flow, x, row, 0)


# --- frames that the capture has twice ---------------------------------------------------------------------

DATA = (30, "a", 1, 1, "PA", 100, {"ip_id": 7})


def test_a_copy_is_told_from_a_retransmission() -> None:
    copy = life(*HANDSHAKE, DATA, (30.1, *DATA[1:]))
    again = life(*HANDSHAKE, DATA, (30.1, *DATA[1:6], {"ip_id": 8}))
    late = life(*HANDSHAKE, DATA, (230, *DATA[1:]))
    assert marks_of(copy, duplicate_ns=MS)[-1] == MARK_DUPLICATE_FRAME | MARK_RETRANSMISSION
    assert marks_of(copy)[-1] == MARK_RETRANSMISSION
    assert marks_of(again, duplicate_ns=MS)[-1] == MARK_RETRANSMISSION
    assert marks_of(late, duplicate_ns=MS)[-1] == MARK_RETRANSMISSION


@pytest.mark.parametrize("fields", [{"ip_id": 9}, {"ts": 77}, {}])
def test_every_segment_captured_twice(fields: dict[str, int]) -> None:
    told = [*HANDSHAKE, (30, "a", 1, 1, "PA", 100), (40, "b", 1, 101, "A", 0), (50, "b", 1, 101, "PA", 10)]
    once = [replace(segment, **fields) for segment in life(*told, (60, "a", 101, 11, "FA", 0))]
    twice = [copy for segment in once for copy in (segment, replace(segment, time_ns=segment.time_ns + 20_000))]
    found = marks_of(twice, duplicate_ns=MS)
    assert found[::2] == [0] * len(once)
    assert [marks & MARK_DUPLICATE_FRAME for marks in found[1::2]] == [MARK_DUPLICATE_FRAME] * len(once)


def test_copies_some_packets_late() -> None:
    told = [(30 + i / 100, "a", 1 + 100 * i, 1, "PA", 100, {"ip_id": 20 + i}) for i in range(6)]
    syn = (0, "a", 0, 0, "S", 0, {"ip_id": 3})
    first = life(syn, (0.1, *syn[1:]), *HANDSHAKE[1:], *told)
    late = [replace(segment, time_ns=first[-1].time_ns + 10_000) for segment in first[-6:]]
    found = marks_of(first + late, duplicate_ns=MS)
    assert all(marks & MARK_DUPLICATE_FRAME for marks in found[-6:])


def test_a_late_original_in_a_doubled_capture_is_no_copy() -> None:
    syn = (0, "a", 0, 0, "S", 0, {"ip_id": 3})
    told = [(30 + i / 100, "a", 1 + 100 * i, 1, "PA", 100, {"ip_id": 20 + i}) for i in (0, 2, 1)]
    segments = life(syn, (0.1, *syn[1:]), *HANDSHAKE[1:], *told)
    segments.append(replace(segments[-1], time_ns=segments[-1].time_ns + 10_000))
    assert [marks & MARK_DUPLICATE_FRAME != 0 for marks in marks_of(segments, duplicate_ns=MS)[-2:]] == [False, True]


def test_duplicate_acks_of_a_stack_without_identification_are_no_copies() -> None:
    told = [(30, "a", 1, 1, "PA", 100), (31, "a", 201, 1, "PA", 100), (31.1, "b", 1, 101, "A", 0, {"ts": 5})]
    told += [(31.15, "a", 301, 1, "PA", 100), (31.2, "b", 1, 101, "A", 0, {"ts": 5})]
    assert marks_of(life(*HANDSHAKE, *told), duplicate_ns=MS)[-1] == MARK_DUPLICATE_ACK


def test_acks_of_late_retransmissions_echo_other_timestamps() -> None:
    told = [(30, "a", 1, 1, "PA", 100), (330, "a", 1, 1, "PA", 100), (800, "b", 1, 101, "A", 0, {"ts": 5, "echo": 30})]
    told += [(800.2, "b", 1, 101, "A", 0, {"ts": 5, "echo": 330})]
    assert marks_of(life(*HANDSHAKE, *told), duplicate_ns=MS)[-1] == MARK_DUPLICATE_ACK


@pytest.mark.parametrize("fields", [{}, {"ts": 77}])
def test_copies_that_were_answered_before_they_came(fields: dict[str, int]) -> None:
    """Without identifications, and the copies come behind the answer: SYN, SYN-ACK and data all the same."""
    told = [(0, "a", 0, 0, "S", 0), (0.01, "b", 0, 1, "SA", 0), (0.02, "a", 0, 0, "S", 0), (0.03, "a", 1, 1, "PA", 9)]
    told += [(0.04, "b", 0, 1, "SA", 0), (0.05, "b", 1, 10, "A", 0), (0.06, "a", 1, 1, "PA", 9)]
    found = marks_of([replace(segment, **fields) for segment in life(*told)], duplicate_ns=MS)
    assert [marks & MARK_DUPLICATE_FRAME != 0 for marks in found] == [False, False, True, False, True, False, True]


def test_a_synack_that_a_repeated_syn_asked_for_is_no_copy() -> None:
    told = [(0, "a", 0, 0, "S", 0, {"ip_id": 3}), (0.01, "b", 0, 1, "SA", 0), (0.02, "a", 0, 0, "S", 0, {"ip_id": 4})]
    assert not marks_of(life(*told, (0.03, "b", 0, 1, "SA", 0)), duplicate_ns=MS)[-1] & MARK_DUPLICATE_FRAME


def test_a_synack_behind_the_copy_of_its_syn_is_a_copy() -> None:
    syn, synack = (0, "a", 0, 0, "S", 0, {"ip_id": 3000}), (0.01, "b", 0, 1, "SA", 0)
    found = marks_of(life(syn, synack, (0.02, *syn[1:]), (0.03, *synack[1:])), duplicate_ns=MS)
    assert [marks & MARK_DUPLICATE_FRAME != 0 for marks in found] == [False, False, True, True]


def test_a_reset_in_a_doubled_capture_is_a_copy() -> None:
    syn = (0, "a", 0, 0, "S", 0, {"ip_id": 3000})
    resets = [(30, "a", 1, 1, "RA", 0), (30.1, "a", 1, 1, "RA", 0)]
    found = marks_of(life(syn, (0.1, *syn[1:]), *HANDSHAKE[1:], *resets), duplicate_ns=MS)
    assert found[-1] & MARK_DUPLICATE_FRAME
    assert not found[-2] & MARK_DUPLICATE_FRAME


def test_resets_and_constant_identifications_are_no_copies() -> None:
    resets = [(30, "a", 1, 1, "RA", 0), (30.1, "a", 1, 1, "RA", 0)]
    assert marks_of(life(*HANDSHAKE, *resets), duplicate_ns=MS)[-1] == 0
    constant = {"ip_id": 1}
    told = [(0, "a", 0, 0, "S", 0, constant), (0.3, "a", 0, 0, "R", 0, constant)]
    assert marks_of(life(*told), duplicate_ns=MS) == [0, 0]


# --- streams and completeness ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(0, "a", 0, 0, "S", 0)], 1),
        ([(0, "a", 0, 0, "S", 5)], 9),
        ([(0, "a", 1, 1, "A", 5)], 0),
        ([(0, "a", 1, 1, "A", 5), (1, "b", 1, 6, "A", 0)], 12),
        ([(0, "a", 1, 1, "FA", 5), (1, "b", 1, 7, "RA", 0)], 8 | 16 | 4 | 32),
        ([*HANDSHAKE], 7),
        ([*HANDSHAKE, (30, "a", 1, 0, "F", 5)], 7),
    ],
)
def test_completeness(told: list[tuple[object, ...]], expected: int) -> None:
    conversations = Conversations(Interpreted())
    for segment in life(*told):
        conversations.add(segment)
    assert conversations.completeness(0) == expected


def test_only_a_syn_with_another_number_opens_a_stream() -> None:
    told = [*HANDSHAKE, (30, "a", 0, 0, "S", 0), (31, "b", 900, 1, "SA", 0), (32, "a", 800, 1, "R", 0)]
    told += [(40, "a", 1000, 0, "S", 0), (41, "b", 0, 1001, "SA", 0), (42, "a", 1000, 0, "SF", 0)]
    conversations = Conversations(Interpreted())
    assert [conversations.add(segment).stream for segment in life(*told)] == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_the_kernels_of_the_head_of_the_file_use_no_other_cells() -> None:
    conversations = Conversations(Interpreted(), duplicate_ns=MS)
    for segment in oracle.storm(Random(3), 200):
        conversations.add(segment)
    mine = {layout.COMPLETENESS, layout.FIRST_RTT, layout.SYN_TIME, layout.PREVIOUS}
    for block in (layout.CLIENT, layout.SERVER):
        cells = "FLAGS NEXT CONTIGUOUS ACK WINDOW NEXT_TIME ACK_TIME BASE SCALE STAMP SEEN"
        mine |= {block + getattr(layout, "A_" + cell) for cell in cells.split()}
    touched = set(np.flatnonzero(np.abs(np.array(conversations.flows)).sum(axis=0)).tolist())
    assert touched <= mine
    assert len(conversations.row) == seg.STRIDE
