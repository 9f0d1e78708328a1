"""From tables on: findings lead to connections and packets, and a choice of connections behaves as a whole does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas
import pytest

import observer
from observer import schema
from observer.views import Selected

TABLES = ("flows", "transitions", "events", "findings", "resets", "calls", "population", "skipped")


@pytest.fixture(scope="module")
def full(captures: Path) -> observer.Observation:
    return observer.read(captures / "accept-queue-full.pcap")


@pytest.fixture(scope="module")
def mixed(captures: Path) -> observer.Observation:
    names = ("refused.pcap", "ipv6.pcap", "reset-on-close.pcap", "keepalive-timeout.pcap", "half-close.pcap")
    return observer.read([captures / name for name in names])


@pytest.mark.parametrize("table", TABLES)
def test_a_choice_of_all_has_the_same_tables(mixed: observer.Observation, table: str) -> None:
    pandas.testing.assert_frame_equal(getattr(mixed.filter(), table), getattr(mixed, table))


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_a_choice_are_valid_and_of_the_chosen_alone(mixed: observer.Observation, table: str) -> None:
    chosen = mixed.filter(port=5001)
    frame = getattr(chosen, table)
    schema.validate(table, frame)
    if table not in ("population", "skipped"):
        named = set(frame["stream"].dropna().astype(int))
        assert named <= set(mixed.flows.query("server_port == 5001 or client_port == 5001").stream)
        whole = getattr(mixed, table)
        assert len(frame) == whole["stream"].isin(named).sum()


def test_population_of_a_choice_is_that_of_a_capture_of_it_alone(captures: Path, mixed: observer.Observation) -> None:
    alone = observer.read(captures / "reset-on-close.pcap")
    same = mixed.flows.client_port == alone.flows.client_port[0]
    stream = int(mixed.flows.stream[same].iloc[0])
    assert stream != 0
    got, wanted = mixed.filter(streams=stream).population, alone.population
    for part in ("endpoint", "state", "count"):
        assert got[part].astype(str).tolist() == wanted[part].astype(str).tolist()


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"host": "2001:db8::/32"}, "version == 6"),
        ({"port": [5001, 80]}, "server_port == 5001"),
        (
            {"state": ("client:closed", "TIME-WAIT")},
            "client_state in ('CLOSED', 'TIME_WAIT') or server_state == 'TIME_WAIT'",
        ),
        ({"streams": [0, 2]}, "stream in (0, 2)"),
        ({"streams": 1}, "stream == 1"),
    ],
)
def test_chooses_what_was_asked_for(mixed: observer.Observation, asked: dict[str, object], wanted: str) -> None:
    expected = mixed.flows.query(wanted).stream.tolist()
    assert expected
    assert mixed.filter(**asked).flows.stream.tolist() == expected  # type: ignore[arg-type]


def test_choosing_by_finding_keeps_these_findings_alone(full: observer.Observation) -> None:
    chosen = full.filter(finding="half_established_reset")
    assert set(chosen.findings["code"]) == {"half_established_reset"}
    assert chosen.flows.stream.tolist() == sorted(chosen.findings.stream)
    assert 0 < len(chosen.flows) < len(full.flows)


def test_choosing_by_severity_is_from_it_on(mixed: observer.Observation) -> None:
    problems, warnings = mixed.filter(severity="problem"), mixed.filter(severity="warning")
    assert set(problems.findings.severity) == {"problem"}
    assert set(warnings.findings.severity) == {"problem", "warning"}
    assert set(problems.flows.stream) < set(warnings.flows.stream)


def test_times_may_be_of_any_kind(full: observer.Observation) -> None:
    third = full.flows.first_time.iloc[2]
    seconds = (third - full.flows.first_time.iloc[0]).total_seconds() + 0.0001
    wanted = full.flows.query("first_time <= @third").stream.tolist()
    for until in (
        third,
        third.isoformat(),
        timedelta(seconds=seconds),
        f"+{seconds}",
        f"{third.value / 1e9 + 1e-4:.6f}",
    ):
        assert full.filter(until=until).flows.stream.tolist() == wanted


def test_choices_within_choices(mixed: observer.Observation) -> None:
    inner = mixed.filter(port=5001).filter(severity="warning")
    both = mixed.filter(port=5001, severity="warning")
    assert inner.flows.stream.tolist() == both.flows.stream.tolist()
    assert inner.findings["code"].tolist() == both.findings["code"].tolist()


def test_population_finding_of_a_choice_is_everybodys(full: observer.Observation) -> None:
    member = int(full.filter(finding="accept_queue_overflow").flows.stream.iloc[0])
    findings = full.filter(streams=member).findings
    assert "accept_queue_overflow" in findings["code"].tolist()


def test_a_choice_of_none_is_told(full: observer.Observation) -> None:
    none = full.filter(host="192.0.2.1")
    assert len(none.flows) == len(none.findings) == len(none.population) == 0
    assert "0 of 9" in none.explain()
    assert "0 of 9 connections chosen" in none._repr_html_()


@pytest.mark.parametrize(
    "asked",
    [
        {"state": "OPEN"}, {"host": "nowhere"}, {"port": 70000}, {"finding": "ghost"}, {"severity": "bad"},
        {"streams": 9}, {"streams": [-1]}, {"since": "noon"},
    ],
)  # fmt: skip
def test_what_does_not_exist_is_misuse(full: observer.Observation, asked: dict[str, object]) -> None:
    with pytest.raises(observer.OptionError):
        full.filter(**asked)  # type: ignore[arg-type]


def test_flow_outside_of_the_choice_is_an_error(full: observer.Observation) -> None:
    chosen = full.filter(streams=5)
    assert chosen.flow(5).stream == 5
    with pytest.raises(observer.ObserverError, match="not among"):
        chosen.flow(4)


@pytest.mark.parametrize("name", ["states", "lanes", "population", "time_wait", "resets", "handshake", "matrix"])
def test_every_picture_can_be_drawn_of_a_choice(mixed: observer.Observation, name: str) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.usetex": False}):
        ax = Figure().add_subplot()
        assert mixed.filter(streams=[1, 3, 5]).plot(name, ax=ax) is ax


def test_lanes_of_a_choice_have_the_numbers_of_wireshark(mixed: observer.Observation) -> None:
    from matplotlib.figure import Figure

    ax = mixed.filter(streams=[1, 3]).plot("lanes", ax=Figure().add_subplot())
    labels = [label.get_text().split()[0] for label in ax.get_yticklabels()]
    assert sorted(labels) == ["1", "3"]


# --- findings -----------------------------------------------------------------------------------------------
def test_finding_leads_to_its_connection_and_packets(full: observer.Observation) -> None:
    number = int(full.findings.index[full.findings["code"] == "half_established_reset"][0])
    found = full.finding(number)
    assert found.flow.stream == full.findings.stream[number] == full.flow_of(number).stream
    marked = found.packets.loc[found.packets.evidence, "frame"].tolist()
    assert marked == sorted(full.findings.frames[number])
    assert f"stream {found.flow.stream}" in found.explain()
    assert found.row.summary in " ".join(found.explain().split())


def test_rows_lead_to_findings_from_any_part_of_the_table(full: observer.Observation) -> None:
    some = full.findings[full.findings["code"] == "half_established"]
    for _, row in some.iterrows():
        assert full.finding(row).number == row.name
        assert full.flow_of(row).stream == row.stream


def test_population_finding_names_its_connections(full: observer.Observation) -> None:
    found = full.finding(0)
    assert found.row.isna()["stream"]
    assert found.flow.stream in found.streams
    assert set(found.packets.stream) == set(found.streams)


@pytest.mark.parametrize("wrong", ["half_open", None, True, 2.5])
def test_a_finding_is_named_by_number_or_row(full: observer.Observation, wrong: object) -> None:
    with pytest.raises(observer.OptionError):
        full.finding(wrong)


def test_a_row_of_another_table_is_misuse(full: observer.Observation) -> None:
    with pytest.raises(observer.OptionError):
        full.finding(full.flows.iloc[0])
    with pytest.raises(observer.OptionError):
        full.filter(finding="half_established").finding(full.findings.iloc[0])


def test_a_number_too_high_is_an_error(full: observer.Observation) -> None:
    with pytest.raises(observer.ObserverError, match="no finding"):
        full.finding(len(full.findings))


def test_representations(full: observer.Observation) -> None:
    chosen = full.filter(streams=5)
    assert isinstance(chosen, Selected)
    assert repr(chosen).startswith("<Selected: 1 of 9")
    assert repr(full.finding(1)).startswith("<Found 1: problem half_established")
    assert str(full.explain()).startswith(full.capture.files[0].name)
