"""From tables to verdicts: who is looked at, and that cases say what the tables say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy

import observer
from observer import schema
from observer.findings.case import Case
from observer.findings.judging import Judging
from observer.findings.table import columns_of
from observer.findings.verdict import Verdict, clean_frames
from observer.registry import Finding, Wake
from tests.findings.telling import Tale, observe, siblings, together


def looks(seen: list[int], *, wakes: tuple[Wake, ...] = ()) -> Finding:
    """A finding that writes down whom it was asked about."""

    def judge(case: Case) -> Iterator[Verdict]:
        seen.append(case.stream)
        return iter(())

    return Finding(
        name="looks", title="x", definition="x", source="x", severity="info", remedy="x", wakes=wakes, judge=judge
    )


def reset(tale: Tale) -> None:
    tale.open()
    tale.server.reset()


def plain(tale: Tale) -> None:
    tale.open()


def test_only_connections_with_a_waking_event_are_looked_at() -> None:
    tales = [*siblings(3, plain), *siblings(2, reset, first_port=50_000), *siblings(2, plain, first_port=60_000)]
    ends = [tale.client.end[1] for tale in tales]
    observation = together(*tales)
    seen: list[int] = []
    Judging(observation, [looks(seen, wakes=(Wake("reset"),))]).verdicts()
    ports = observation.flows.client_port.tolist()
    assert sorted(ports[stream] for stream in seen) == ends[3:5]


def test_a_wake_may_want_a_detail() -> None:
    tale = Tale().open()
    tale.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8):
        tale.wait(seconds).client.again(lost=True)

    def seen(least: int) -> list[int]:
        found: list[int] = []
        Judging(tale.observation(), [looks(found, wakes=(Wake("unanswered", least),))]).verdicts()
        return found

    assert seen(3) == [0]
    assert seen(4) == []


def test_every_connection_is_a_case_on_demand() -> None:
    observation = together(*siblings(4, plain))
    assert [case.stream for case in Judging(observation, everything=True).cases()] == [0, 1, 2, 3]
    assert not list(Judging(observation).cases()), "and none, where nothing is notable"


def test_a_case_says_what_the_tables_say(captures: Path) -> None:
    for name in (
        "half-open-reconnect.pcap",
        "data-after-close.pcap",
        "accept-queue-full.pcap",
        "simultaneous-close.pcap",
    ):
        observation = observer.read(str(captures / name))
        moves, events, flows = observation.transitions, observation.events, observation.flows
        for case in Judging(observation, everything=True).cases():
            mine = moves[(moves.stream == case.stream)]
            for end in case.ends:
                rows = mine[mine.endpoint == end.name]
                kept = rows[rows.certainty != "retracted"]
                assert [step.to_state for step in end.steps] == kept.to_state.tolist()
                assert [step.frame for step in end.steps] == kept.frame.fillna(-1).astype(int).tolist()
                assert len(end.withdrawn) == len(rows) - len(kept)
                assert end.state == flows[f"{end.name}_state"][case.stream]
                assert end.packets == flows[f"{end.name}_packets"][case.stream]
                told = events[(events.stream == case.stream) & (events.endpoint == end.name)]
                assert [note.event for note in end.notes] == told.event.tolist()
            assert [note.frame for note in case.notes] == events[events.stream == case.stream].frame.tolist()


def test_the_state_before_a_frame(captures: Path) -> None:
    tale = Tale().open()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    (case,) = Judging(tale.observation(), everything=True).cases()
    assert [case.client.before(frame) for frame in (1, 2, 3, 6, 7, 8)] == [
        "CLOSED", "SYN_SENT", "ESTABLISHED", "ESTABLISHED", "FIN_WAIT_1", "TIME_WAIT",
    ]  # fmt: skip


# --- the table ----------------------------------------------------------------------------------------------------


def test_worst_first_then_populations_then_surest_then_earliest() -> None:
    def verdict(severity: str, stream: int | None, grade: str, begin: int) -> Verdict:
        return Verdict(
            code="x", severity=severity, grade=grade, summary="x", remedy="x", stream=stream, begin=begin, frames=[1]
        )

    rows = [
        verdict("info", 1, "confirmed", 1),
        verdict("problem", 5, "suspected", 1),
        verdict("problem", 4, "confirmed", 9),
        verdict("problem", 3, "confirmed", 2),
        verdict("problem", None, "suspected", 99),
        verdict("warning", 2, "confirmed", 1),
    ]
    columns = columns_of(rows, None)
    assert numpy.asarray(columns["stream"]).tolist() == [-1, 3, 4, 5, 2, 1]


def test_nulls_stay_nulls() -> None:
    tale = Tale()
    for seconds in (0, 1, 2):
        tale.wait(seconds).client.syn(lost=True)
    table = observe(tale.rows, end_ns=tale.now).findings
    schema.validate("findings", table)
    assert table.end.isna().all()
    assert table.stream.tolist() == [0]


def test_frames_are_cleaned() -> None:
    assert clean_frames(9, None, 0, -1, 3, 9) == [3, 9]
