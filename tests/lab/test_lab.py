"""The laboratory live: what the kernel says happened is in the captures, and nothing is left behind.

OBSERVER_LAB_SLOW=1 plays every scenario, the whole TIME-WAIT included (seven minutes); the default takes one.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import SCENARIOS, Lab, healthy, missing, net, programs, run, soak
from .expected import expected_calls, expected_findings
from .frames import ACK, FIN, RST, SYN, Frame
from .soak import BEHAVIOURS, plans
from .truth import Poll, timeline

live = pytest.mark.usefixtures("laboratory")


@pytest.fixture(scope="module")
def laboratory() -> None:
    """Skip, and say why, where this machine cannot hold a laboratory."""
    if lacks := missing():
        pytest.skip(lacks)


def states(lab: Lab, role: str, flow: str | None = None) -> list[str]:
    """The kernel's states of one endpoint in order, without the brackets between polls."""
    ends = lab.truth["states"][flow or next(iter(lab.truth["states"]))]
    return [row[2] for row in ends[role] if row[2] != "UNKNOWN"]


def sent(lab: Lab, vantage: str, role: str) -> list[Frame]:
    address = lab.network.addresses[role]
    return [frame for frame in lab.frames[vantage] if frame.source[0] in address and frame.flags >= 0]


def entered(lab: Lab, role: str, state: str) -> float:
    rows: list[list[Any]] = next(iter(lab.truth["states"].values()))[role]
    return float(next(row[0] for row in rows if row[2] == state))


@live
def test_orderly_close(tmp_path: Path) -> None:
    lab = run("client_closes_first", tmp_path)
    opening = ["CLOSED", "SYN_SENT", "ESTABLISHED"]
    assert states(lab, "client") == [*opening, "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"]
    assert states(lab, "server") == ["CLOSED", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSED"]
    fin = next(frame for frame in sent(lab, "client", "client") if frame.flags & FIN)
    assert fin.time_ns / 1e9 == pytest.approx(entered(lab, "client", "FIN_WAIT1"), abs=0.005), "one clock for all"
    assert {vantage: len(found) for vantage, found in lab.frames.items()} == dict.fromkeys(lab.frames, 11)


@live
def test_delay_makes_a_simultaneous_close(tmp_path: Path) -> None:
    lab = run("simultaneous_close", tmp_path)
    assert states(lab, "client")[-3:] == states(lab, "server")[-3:] == ["FIN_WAIT1", "CLOSING", "TIME_WAIT"]
    syn = [next(f for f in lab.frames[vantage] if f.flags == SYN).time_ns for vantage in ("client", "middle", "server")]
    assert 0.009 < (syn[1] - syn[0]) / 1e9 < 0.03, "half the delay lies before the middle"
    assert 0.019 < (syn[2] - syn[0]) / 1e9 < 0.05


@live
def test_calls_are_recorded_with_their_errors(tmp_path: Path) -> None:
    lab = run("linger0_server", tmp_path)
    failed = [(row["role"], row["call"], row["err"]) for row in lab.truth["calls"] if row["err"]]
    assert failed == [("client", "recv", "ECONNRESET")]
    assert states(lab, "client")[-2:] == ["ESTABLISHED", "CLOSED"]
    reset = sent(lab, "server", "server")[-1]
    assert reset.flags == RST | ACK
    assert lab.truth["must_find"][0]["endpoint"] == "server"


@live
def test_what_the_router_drops_was_seen_in_the_middle_only(tmp_path: Path) -> None:
    lab = run("loss_recovered", tmp_path)
    lost = len(sent(lab, "middle", "client")) - len(sent(lab, "server", "client"))
    assert lost >= 4
    assert states(lab, "client")[-1] == "TIME_WAIT"


@live
def test_half_established_is_what_the_kernel_says(tmp_path: Path) -> None:
    lab = run("abort_on_overflow", tmp_path)
    victims = [row["flow"] for row in lab.truth["must_find"] if row["label"] == "accept_overflow_reset"]
    assert len(victims) == 3
    told = {row["flow"] for row in lab.truth["resets"] if row["reason"] == "LISTENER"}
    assert told == set(victims), "the RST of a listener is told from a forged one"
    for flow in victims:
        assert states(lab, "client", flow) == ["CLOSED", "SYN_SENT", "ESTABLISHED", "CLOSED"]
        assert "ESTABLISHED" not in states(lab, "server", flow)


@live
def test_nothing_is_left_behind_even_after_a_failure(tmp_path: Path) -> None:
    names = []
    with pytest.raises(ZeroDivisionError), Lab("broken", "fails in the middle", tmp_path) as lab:
        names = list(lab.network.names.values())
        lab.pair()
        raise ZeroDivisionError
    assert names
    assert not [name for name in names if (net.NETNS / name).exists()]
    assert not list(Path("/sys/kernel/tracing/instances").glob(f"{net.PREFIX}-{names[0].split('-')[1]}*"))


@live
def test_clean_removes_what_a_killed_run_left() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"{net.PREFIX}-{ended.pid}-client"
    net.Namespace(name)
    assert name in net.clean()
    assert not (net.NETNS / name).exists()


@live
def test_any_scenario_runs_over_ipv6(tmp_path: Path) -> None:
    lab = run("linger0_client", tmp_path, ipv6=True)
    (flow,) = lab.truth["states"]
    assert flow.startswith("[2001:db8:1::2]:")
    assert states(lab, "server") == ["CLOSED", "SYN_RECV", "ESTABLISHED", "CLOSED"]


@live
def test_reordering_loses_nothing(tmp_path: Path) -> None:
    lab = run("reordering", tmp_path)
    data = [f.seq for f in sent(lab, "server", "client") if f.payload_octets > 1000]
    assert data != sorted(data, key=lambda seq: (seq - data[0]) & 0xFFFFFFFF), "some came late"
    assert len(sent(lab, "client", "client")) == len(sent(lab, "server", "client"))


@live
def test_soak_plays_every_connection(tmp_path: Path) -> None:
    lab = soak(tmp_path, seed=7, connections=40)
    assert len(lab.truth["states"]) == 40
    assert len(sent(lab, "middle", "client")) > len(sent(lab, "server", "client")), "the path loses"
    last = {states(lab, "client", flow)[-1] for flow in lab.truth["states"]}
    assert {"TIME_WAIT", "CLOSED"} <= last


@live
def test_two_laboratories_at_once_share_nothing() -> None:
    first, second = net.Network(), net.Network()
    try:
        assert not {*first.names.values()} & {*second.names.values()}
        ours, theirs = ({a for pair in lab.addresses.values() for a in pair} for lab in (first, second))
        assert not ours & theirs
    finally:
        first.close()
        second.close()


@live
def test_each_reset_is_told_with_its_reason(tmp_path: Path) -> None:
    lab = run("data_after_close", tmp_path / "late")
    (sent_row,) = (row for row in lab.truth["resets"] if row["kind"] == "sent")
    assert (sent_row["endpoint"], sent_row["vantages"]) == ("server", ["client", "middle", "server"])
    assert sent_row["reason"] in ("TCP_TIMEWAIT_SOCKET", "NO_SOCKET", "LISTENER"), "no live socket sent it"
    assert [row["endpoint"] for row in lab.truth["resets"] if row["kind"] == "accepted"] == ["client"]
    forged = run("injected_reset", tmp_path / "forged").truth["resets"]
    assert {(row["reason"], *row["vantages"]) for row in forged if row["kind"] == "sent"} == {
        ("forged", "client", "middle")
    }


@live
def test_a_blind_reset_changes_no_state(tmp_path: Path) -> None:
    lab = run("blind_reset", tmp_path)
    assert states(lab, "client")[-1] == "TIME_WAIT"
    assert [row["kind"] for row in lab.truth["resets"]] == ["sent", "sent"], "seen twice, accepted never"


@live
def test_a_cancelled_connect_resets(tmp_path: Path) -> None:
    lab = run("connect_cancelled", tmp_path)
    assert states(lab, "client") == ["CLOSED", "SYN_SENT", "CLOSED"]
    assert sent(lab, "server", "client")[-1].flags == RST


@live
def test_every_call_of_a_soak_belongs_to_a_connection(tmp_path: Path) -> None:
    assert {plan.behaviour for plan in plans(seed=9, connections=60)} == set(BEHAVIOURS), "choose another seed"
    lab = soak(tmp_path, seed=9, connections=60)
    calls = expected_calls(lab.truth)
    assert {call.flow for call in calls} == set(lab.truth["states"])
    established = {flow for flow in lab.truth["states"] if "ESTABLISHED" in states(lab, "server", flow)}
    assert {call.flow for call in calls if call.call == "accept"} == established
    outcomes = {call.outcome for call in calls}
    assert {"ok", "eof", "ECONNRESET", "ECONNREFUSED"} <= outcomes
    must = {code for tap in lab.frames for one in expected_findings(lab.truth, tap).must for code in one.codes}
    assert {"reset_on_close", "half_open", "refused"} <= must


@live
@pytest.mark.parametrize("loss_percent", [0, 1])
def test_healthy_traffic_of_real_programs(tmp_path: Path, loss_percent: int) -> None:
    if lacking := [tool for tool in ("nginx", "ab", "curl") if not programs.shutil.which(tool)]:
        pytest.skip(f"healthy traffic needs {', '.join(lacking)}")
    found = healthy.play(tmp_path, connections=100, loss_percent=loss_percent, only=("ab", "curl"))
    assert found["connections"] >= 200
    assert all(set(row["statuses"]) == {0} for row in found["steps"]), "every program says that all is well"
    assert not expected_findings(found, "middle").must
    aborts = sum(
        count
        for row in found["steps"]
        for counted in row["counters"].values()
        for name, count in counted.items()
        if name.startswith("TCPAbort")
    )
    assert aborts == sum(row["reason"].startswith("TCP_ABORT") for row in found["resets"]), "two records of the kernel"


@live
@pytest.mark.skipif("OBSERVER_LAB_SLOW" not in os.environ, reason="takes minutes: set OBSERVER_LAB_SLOW=1")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_plays(tmp_path: Path, name: str) -> None:
    lab = run(name, tmp_path)
    expectations = [*lab.truth["must_find"], *lab.truth["must_not_find"], *lab.truth["cannot_be_known"]]
    assert {row["flow"] for row in expectations} - {None} <= set(lab.truth["states"])
    assert {call.flow for call in expected_calls(lab.truth)} <= set(lab.truth["states"])
    if name == "time_wait_full":
        waits = [row for ends in lab.truth["states"].values() for row in ends["client"] if row[2] == "TIME_WAIT"]
        assert waits[0][1] - waits[0][0] == pytest.approx(60, rel=0.06), "TCP_TIMEWAIT_LEN, and timers run late"


def test_every_scenario_says_what_it_is_about() -> None:
    assert len(SCENARIOS) >= 30
    for chosen in SCENARIOS.values():
        assert re.fullmatch(r"[A-Za-z0-9(].{30,}\.", chosen.about), chosen.name
        assert 0 <= chosen.delay_s < 1


def test_a_poll_brackets_what_has_no_tracepoint() -> None:
    polls = [Poll(100, 112, "SYN_RECV"), Poll(300, 312, "CLOSED")]
    rows = [(span.begin_ns, span.end_ns, span.state) for span in timeline(0, 500, [], polls, [])]
    expected = [(0, 100, "CLOSED"), (100, 112, "UNKNOWN"), (112, 300, "SYN_RECV"), (300, 312, "UNKNOWN")]
    assert rows == [*expected, (312, 500, "CLOSED")]
