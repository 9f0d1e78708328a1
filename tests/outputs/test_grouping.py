"""Like findings are one group, and nothing is lost in it."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import output_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.findings.verdict import Verdict
from observer.outputs.display_filter import LENGTH, Place, filter_of
from observer.outputs.finding_rows import chosen_findings, concerned, rows_as_json, worst_severity
from observer.outputs.grouping import Group, group
from observer.schema import ENDPOINTS, GRADES, SEVERITIES, TABLES, from_columns


def groups(*verdicts: Verdict) -> list[Group]:
    return group(samples.findings(*verdicts))


def test_nothing_is_no_group() -> None:
    assert groups() == []


def test_one_listeners_findings_are_one() -> None:
    (one,) = groups(*(samples.verdict(stream=stream, frames=[stream, 100]) for stream in (8, 5, 7, 6)))
    assert (one.scope, one.server_addr, one.server_port) == ("listener", "10.0.1.9", 5001)
    assert (one.client_addr, one.client_port, one.clients, one.listeners) == ("10.0.1.2", None, 1, 1)
    assert one.streams == [5, 6, 7, 8] and one.example == 5 and one.findings == one.connections == 4
    assert one.filter == "tcp.stream in {5..8}" and one.filter_shows == "exactly"
    assert one.frames == [5, 100, 6, 7, 8] and one.frame_count == 5


def test_the_same_client_everywhere_is_one() -> None:
    (one,) = groups(*(samples.verdict("refused", i, server=(10 + i, 80 + i)) for i in range(20)))
    assert (one.scope, one.client_addr, one.server_addr, one.listeners) == ("client", "10.0.1.2", None, 20)


def test_the_same_host_with_many_ports_is_one() -> None:
    (one,) = groups(*(samples.verdict("refused", i, server=(9, i), client=(20 + i, 1)) for i in range(20)))
    assert (one.scope, one.server_addr, one.server_port, one.clients) == ("server", "10.0.1.9", None, 20)


def test_what_shares_nothing_is_one_when_it_is_much() -> None:
    def alone(count: int) -> list[Group]:
        return groups(*(samples.verdict(stream=i, client=(2 * i, 7), server=(2 * i + 1, 80)) for i in range(count)))

    assert [one.scope for one in alone(3)] == ["connection"] * 3
    (one,) = alone(4)
    assert (one.scope, one.clients, one.listeners, one.server_addr) == ("capture", 4, 4, None)


def test_what_is_spread_evenly_is_one_and_what_stands_out_is_another() -> None:
    even = [samples.verdict(stream=i, client=(i % 10, 1), server=(10 + i % 15, i)) for i in range(90)]
    (one,) = groups(*even)
    assert (one.scope, one.clients, one.findings) == ("capture", 10, 90)
    outstanding = [samples.verdict(stream=100 + i, client=(20, 1), server=(30, 80)) for i in range(10)]
    assert [(one.scope, one.findings) for one in groups(*even, *outstanding)] == [("capture", 90), ("listener", 10)]


@pytest.mark.parametrize(
    "other", [{"code": "half_open"}, {"severity": "warning"}, {"cause": "x"}, {"endpoint": "client"}]
)
def test_unlike_findings_stay_apart(other: dict[str, str]) -> None:
    assert len(groups(samples.verdict(stream=1), samples.verdict(**{"stream": 2, **other}))) == 2  # type: ignore[arg-type]


def test_grades_are_told_together_by_the_best() -> None:
    (one,) = groups(samples.verdict(stream=1, grade="suspected"), samples.verdict(stream=2, grade="confirmed"))
    assert one.grade == "confirmed" and one.grades == {"confirmed": 1, "suspected": 1} and one.example == 2


def test_times_of_a_group_span_all_of_it() -> None:
    first, second = samples.verdict(stream=1, begin=10, end=20), samples.verdict(stream=2, begin=5, end=50)
    (one,) = groups(first, second)
    assert (one.begin_ns, one.end_ns, one.lasting) == (5, 50, 0)
    (one,) = groups(first, samples.verdict(stream=2, begin=None, end=None))
    assert (one.begin_ns, one.end_ns, one.lasting) == (10, None, 1)


def population(**given: object) -> Verdict:
    facts = {"stream": None, "streams": [6, 5, 7], "frames": [1], "summary": "The queue was full."}
    return samples.verdict(**{"code": "accept_queue_overflow", **facts, **given})  # type: ignore[arg-type]


def test_a_population_takes_in_what_it_explains() -> None:
    told = groups(
        population(severity="warning"),
        samples.verdict(stream=5, severity="warning"),
        samples.verdict("half_open", stream=6, severity="info"),
        samples.verdict(stream=8, severity="warning"),
        samples.verdict("zero_window", stream=7, severity="problem"),
    )
    assert [(one.code, one.streams) for one in told] == [
        ("zero_window", [7]), ("accept_queue_overflow", [5, 6, 7]), ("half_established", [8]),
    ]  # fmt: skip
    assert told[1].absorbed == {"half_established": 1, "half_open": 1} and told[1].example == 6


def test_without_evidence_of_its_own_a_population_has_that_of_its_connections() -> None:
    (one,) = groups(population(frames=[]), samples.verdict(stream=5, frames=[44]))
    assert one.frames == [44]


def test_a_large_population_is_filtered_by_its_place() -> None:
    (one,) = groups(population(streams=list(range(1000))))
    assert (one.filter, one.filter_shows) == ("ip.addr eq 10.0.1.9 and tcp.port eq 5001", "more")
    (one,) = groups(population(streams=list(range(1000)), server=None))
    assert (one.filter, one.filter_shows) == ("tcp.stream in {0..999}", "exactly")


VERDICTS = st.lists(
    st.builds(
        samples.verdict,
        st.sampled_from(["half_established", "half_open", "reset_storm"]),
        st.none() | st.integers(0, 30),
        grade=st.sampled_from(GRADES),
        severity=st.sampled_from(SEVERITIES),
        endpoint=st.sampled_from([*ENDPOINTS, None]),
        cause=st.sampled_from([None, "a", "b"]),
        client=st.none() | st.tuples(st.integers(0, 4), st.integers(-1, 3)),
        server=st.none() | st.tuples(st.integers(0, 4), st.integers(-1, 3)),
        begin=st.none() | st.integers(0, 99),
        end=st.none() | st.integers(100, 199),
        frames=st.lists(st.integers(1, 9), unique=True).map(sorted),
        unknown=st.sampled_from([None, "the capture ends"]),
        streams=st.lists(st.integers(0, 30), max_size=5),
    ),
    max_size=60,
)


@given(VERDICTS)
def test_every_finding_is_told_exactly_once(verdicts: list[Verdict]) -> None:
    table = samples.findings(*verdicts)
    told = group(table)
    rows = [row for one in told for row in one.rows]
    assert len(set(rows)) == len(rows)
    counts = Counter(one.code for one in told for _ in one.rows)
    for one in told:
        counts.update(one.absorbed)
    assert counts == Counter(verdict.code for verdict in verdicts)
    severities = [SEVERITIES.index(one.severity) for one in told]
    assert severities == sorted(severities, reverse=True)
    frame = from_columns("findings", table)
    for one in told:
        mine = frame.iloc[one.rows]
        for name in ("code", "severity", "cause", "endpoint"):
            assert set(mine[name].astype(object).where(mine[name].notna(), None)) == {getattr(one, name)}
        for name in Place._fields:
            if getattr(one, name) is not None:
                assert set(mine[name]) == {getattr(one, name)}


def test_a_hundred_thousand_findings_are_grouped_at_once() -> None:
    verdicts = [samples.verdict(stream=i, client=(i % 50, i % 60000), server=(i % 40, i % 7)) for i in range(100_000)]
    table = samples.findings(*verdicts)
    begun = time.process_time()
    told = group(table)
    assert time.process_time() - begun < 5  # measured: 0.3 s; a quadratic way would take minutes
    assert sum(one.findings for one in told) == 100_000 and len(told) <= 9


# --- rows ---------------------------------------------------------------------------------------------------
def test_rows_as_json_are_the_table() -> None:
    table = samples.findings(population(), samples.verdict(stream=5, end=None, client=(1, 9)))
    rows = rows_as_json(table)
    assert [list(row) for row in rows] == [[*TABLES["findings"].names(), "streams", "filter"]] * 2
    assert rows[0]["stream"] is None and rows[0]["streams"] == [6, 5, 7] and rows[0]["filter"] == "tcp.stream in {5..7}"
    single = rows[1]
    assert (single["client_addr"], single["client_port"]) == ("2001:db8::1", 9)
    assert (single["begin"], single["end"]) == (samples.START_NS + 1_020_000_000, None)
    assert (single["grade"], single["frames"], single["cause"]) == ("confirmed", [31, 35, 39], None)


def test_findings_are_chosen_by_code_and_connection() -> None:
    table = samples.findings(population(), samples.verdict(stream=5), samples.verdict("half_open", stream=9))
    assert concerned(table, 12).nonzero()[0].tolist() == [5, 6, 7, 9]
    few = chosen_findings(table, ["half_open", "accept_queue_overflow"], concerned(table.take([0]), 12))
    assert [row["code"] for row in rows_as_json(few)] == ["accept_queue_overflow"]
    assert chosen_findings(table, ["reset_storm"], None).rows == 0
    assert worst_severity(table) == 2 and worst_severity(table.take([])) == -1


# --- filters ------------------------------------------------------------------------------------------------
@given(st.sets(st.integers(0, 200) | st.integers(2**31, 2**32), min_size=1, max_size=30))
def test_a_filter_shows_what_it_says(streams: set[int]) -> None:
    text, shows = filter_of(sorted(streams), Place())
    numbers = text.replace("tcp.stream in", "").replace("tcp.stream eq", "").strip(" {}").split(", ")
    shown: set[int] = set()
    for part in numbers:
        first, _, last = part.partition("..")
        shown |= set(range(int(first), int(last or first) + 1))
    assert shown <= streams and (shows == "some") == (shown != streams) and len(text) <= LENGTH


def test_wireshark_understands_the_filters(captures: Path) -> None:
    import shutil

    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    place = Place("10.0.1.2", None, "10.0.2.2", 5001)
    for streams, wanted in (([5], {5}), ([5, 6], {5, 6}), ([0, 3, 4, 5], {0, 3, 4, 5}), ([], set(range(9)))):
        command = ["tshark", "-r", str(captures / "accept-queue-full.pcap"), "-Y", filter_of(streams, place).text]
        told = subprocess.run([*command, "-Tfields", "-e", "tcp.stream"], capture_output=True, text=True, check=True)
        assert set(map(int, told.stdout.split())) == wanted
