"""Expectations are drawn from a truth file as the definitions say, and judged without mercy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .expected import expected_calls, expected_findings, judge

SHARED = Path(os.environ.get("OBSERVER_SHARED", Path(__file__).parents[3] / "shared"))
TRUTHS = sorted((SHARED / "kernel-truth").glob("*.truth.json"))
FLOW = "10.0.1.2:40000>10.0.2.2:80"
CLIENT, SERVER = ["10.0.1.2", 40000], ["10.0.2.2", 80]


def call(role: str, kind: str, begin: float, **more: Any) -> dict[str, Any]:
    local, remote = (CLIENT, SERVER) if role == "client" else (SERVER, CLIENT)
    row = {"t0": begin, "t1": begin + 0.5, "role": role, "sid": f"{role}1", "call": kind, "args": "", "ret": None}
    return row | {"err": None, "local": local, "remote": remote} | more


def truth(**more: Any) -> dict[str, Any]:
    lived = [[0.0, 1.0, "CLOSED", "init"], [1.0, 9.0, "ESTABLISHED", "tp"], [9.0, 20.0, "CLOSED", "tp"]]
    return {"states": {FLOW: {"client": lived, "server": lived}}, "calls": [], "resets": []} | more


def reset(role: str, reason: str, **more: Any) -> dict[str, Any]:
    row = {"flow": FLOW, "endpoint": role, "t": 9.0, "kind": "sent", "reason": reason, "state": "CLOSED"}
    return row | {"vantages": ["client", "middle", "server"]} | more


def finding(code: str, endpoint: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "flow": FLOW, "endpoint": endpoint, "cause": None} | more


def test_calls_belong_to_connections_and_say_how_they_ended() -> None:
    rows = [
        call("server", "accept", 1.0, remote=None, ret="ok", sid="listener"),
        call("server", "accepted", 1.5, args="listener", ret="ok"),
        call("client", "connect", 1.0),
        call("client", "send", 2.0, ret=40),
        call("server", "recv", 2.0, ret="40 bytes"),
        call("server", "recv", 3.0, ret="EOF"),
        call("client", "recv", 4.0, err="ECONNRESET"),
        call("client", "recv", 5.0, err="EAGAIN"),
        call("client", "close", 6.0),
    ]
    found = [(one.endpoint, one.call, one.outcome, one.octets) for one in expected_calls(truth(calls=rows))]
    assert found == [
        ("server", "accept", "ok", None),
        ("client", "connect", "ok", None),
        ("client", "send", "ok", 40),
        ("server", "recv", "ok", 40),
        ("server", "recv", "eof", None),
        ("client", "recv", "ECONNRESET", None),
        ("client", "recv", "blocked", None),
    ]
    assert {one.flow for one in expected_calls(truth(calls=rows))} == {FLOW}


def test_a_finding_without_a_reason_is_unexplained() -> None:
    judged = judge(expected_findings(truth(), "middle"), [finding("reset_on_close", "client")])
    assert (judged.right, judged.unexplained) == ([], [0])


def test_the_kernels_reset_excuses_its_sender_only() -> None:
    expected = expected_findings(truth(resets=[reset("client", "TCP_STATE")]), "middle")
    rows = [
        finding("reset_on_close", "client"),
        finding("reset_on_close", "server"),
        finding("injected_reset", "client"),
    ]
    assert judge(expected, rows).right == [0]
    assert judge(expected, rows).unexplained == [1, 2]


def test_a_soak_must_find_the_resets_that_the_tap_saw() -> None:
    seen = truth(resets=[reset("client", "TCP_STATE", vantages=["client"])], must_from_kernel=True)
    assert [one.codes for one in expected_findings(seen, "client").must] == [{"reset_on_close"}]
    assert expected_findings(seen, "server").must == []
    assert judge(expected_findings(seen, "client"), [finding("reset_on_close", "server")]).missing


def test_a_vanished_peer_makes_half_open_true() -> None:
    lived = [[0.0, 1.0, "CLOSED", "init"], [1.0, 9.0, "ESTABLISHED", "tp"], [9.0, 20.0, "CLOSED", "tp"]]
    believes = [[0.0, 1.0, "CLOSED", "init"], [1.0, 20.0, "ESTABLISHED", "tp"]]
    expected = expected_findings(truth(states={FLOW: {"client": believes, "server": lived}}), "middle")
    rows = [finding("half_open", "client"), finding("half_open", "server")]
    assert judge(expected, rows).right == [0]


def test_what_must_not_be_found_is_forbidden_even_if_true() -> None:
    leak = {"flow": FLOW, "label": "close_wait_leak", "why": "the server is still sending"}
    waits = [[0.0, 1.0, "ESTABLISHED", "tp"], [1.0, 20.0, "CLOSE_WAIT", "tp"]]
    held = truth(states={FLOW: {"client": waits, "server": waits}})
    assert judge(expected_findings(held, "client"), [finding("close_wait_leak", "server")]).right == [0]
    judged = judge(
        expected_findings(held | {"must_not_find": [leak]}, "client"), [finding("close_wait_leak", "server")]
    )
    assert judged.forbidden == [0]


def test_causes_that_look_alike_are_accepted_and_others_named() -> None:
    row = {"flow": FLOW, "label": "rst_close", "endpoint": "client", "cause": "linger0", "level": "must"}
    expected = expected_findings(truth(must_find=[row | {"vantages": ["client"]}]), "client")
    assert not judge(expected, [finding("reset_on_close", "client", cause="unread_data")]).wrong_cause
    assert judge(expected, [finding("reset_on_close", "client", cause="process_gone")]).wrong_cause
    assert expected_findings(truth(must_find=[row | {"vantages": ["client"]}]), "server").must == []


def test_other_readings_that_the_wire_allows_will_do() -> None:
    row = {"flow": FLOW, "label": "send_timeout", "endpoint": "both", "level": "must", "vantages": ["client"]}
    expected = expected_findings(truth(must_find=[row | {"or": ["half_established"]}]), "client")
    assert not judge(expected, [finding("half_established", "server")]).missing
    assert judge(expected, [finding("half_open", "server")]).missing


@pytest.mark.skipif(not TRUTHS, reason="kernel-truth is not beside the checkout (OBSERVER_SHARED)")
@pytest.mark.parametrize("path", TRUTHS, ids=lambda path: path.name.partition(".")[0])
def test_kernel_truth_files_are_read(path: Path) -> None:
    given = json.loads(path.read_text())
    calls = expected_calls(given)
    assert calls
    assert {one.flow for one in calls} <= set(given["states"])
    for vantage in given["first_packet"]:
        found = expected_findings(given, vantage)
        named = [row for row in given["must_find"] if row["level"] == "must" and vantage in row["vantages"]]
        assert len(found.must) + len(found.events) >= len(named)
