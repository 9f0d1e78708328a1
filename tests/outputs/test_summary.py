"""The summary's numbers, counted again in the obvious way, and how they are shown."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy
import output_samples as samples
import pytest

from observer import schema
from observer.outputs import summary as module
from observer.outputs.summary import Summary, summarise
from observer.outputs.terminal import render_summary
from observer.schema import Coded, Columns


def capture(**given: Any) -> SimpleNamespace:
    file = SimpleNamespace(name="a.pcap", format="pcap", compression="", link_types=[1], frames=9)
    facts = {
        "files": [file], "damages": [], "frames": 9, "first_time_ns": samples.START_NS,
        "last_time_ns": samples.START_NS + 12_200_000_000, "interrupted": False,
    }  # fmt: skip
    return SimpleNamespace(**{**facts, **given})


def skipped(*rows: tuple[str, bool, int]) -> Columns:
    names = [row[0] for row in rows]
    return Columns("skipped", len(rows), {
        "reason": Coded(numpy.arange(len(rows)), names), "explanation": Coded(numpy.arange(len(rows)), names),
        "damage": numpy.array([row[1] for row in rows]), "frames": numpy.array([row[2] for row in rows]),
        "octets": numpy.array([row[2] * 60 for row in rows]),
    })  # fmt: skip


def lines(summary: Summary, **options: Any) -> list[str]:
    return ["".join(text for text, _ in line) for line in render_summary(summary, **options)]


@pytest.fixture(params=[70_000, 64])
def part_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "PART_ROWS", request.param)
    return int(request.param)


def test_counts_equal_those_of_pandas(part_rows: int) -> None:
    flows = samples.flows(1000)
    frame = schema.from_columns("flows", flows)
    told = summarise(capture(), 77, skipped(), flows)
    assert told.connections == told.connections_in_capture == 1000
    assert told.ended == frame.ended.value_counts().to_dict()
    assert told.client_states == frame.client_state.value_counts().to_dict()
    keys = collections.Counter(
        zip(
            frame.ended, frame.client_state, frame.client_certainty == "assumed", frame.server_state,
            frame.server_certainty == "assumed", strict=True,
        )
    )  # fmt: skip
    assert {tuple(outcome)[:5]: outcome.connections for outcome in told.outcomes} == keys
    for outcome in told.outcomes[:20]:
        row = frame.iloc[outcome.example]
        assert (row.ended, row.client_state, row.server_state) == (
            outcome.ended, outcome.client_state, outcome.server_state,
        )  # fmt: skip
    assert told.client_octets == frame.client_octets.sum()
    assert told.packets == int(frame.client_packets.sum()) + int(frame.server_packets.sum())
    assert told.opening_not_seen == (frame.roles != "seen").sum()
    known = frame.handshake_ns.dropna().sort_values(ascending=False)
    assert [shake.handshake_ns for shake in told.slowest_handshakes] == known[:5].tolist()
    assert told.handshakes == len(known)


def test_listeners_are_the_busiest(part_rows: int) -> None:
    ports = [80] * 500 + [443] * 300 + list(range(1000, 1200))
    flows = samples.flows(1000, server_port=ports, server_addr=[3] * 1000)
    told = summarise(capture(), 1, skipped(), flows)
    assert [(listener.port, listener.connections) for listener in told.listeners[:2]] == [(80, 500), (443, 300)]
    assert told.listener_count == 202
    assert told.listeners[0].clients == len(set(flows["client_addr"][:500].tolist()))
    assert told.listeners[1].client_octets == flows["client_octets"][500:800].sum()


def test_chosen_connections_only() -> None:
    flows = samples.flows(1000)
    mask = numpy.zeros(1000, bool)
    mask[[5, 800]] = True
    told = summarise(capture(), 1, skipped(), flows, chosen=mask, selection="port 80")
    assert told.connections == 2 and told.connections_in_capture == 1000
    assert {outcome.example for outcome in told.outcomes} == {5, 800}
    assert "  2 of 1,000 connections chosen: port 80" in lines(told)


def test_damage_decides_on_the_exit_status() -> None:
    flows = samples.flows(1)
    assert not summarise(capture(), 1, skipped(("udp", False, 5)), flows).damaged
    assert summarise(capture(), 1, skipped(("cut_tcp", True, 5)), flows).damaged
    assert summarise(capture(interrupted=True), 1, skipped(), flows).damaged
    hurt = SimpleNamespace(file="a.pcap", offset=24, frame=1, message="the file ends")
    assert summarise(capture(damages=[hurt]), 1, skipped(), flows).damaged


def test_json_has_its_documented_keys() -> None:
    told = json.loads(json.dumps(summarise(capture(), 1, skipped(("udp", False, 5)), samples.flows(20)).as_json()))
    assert list(told) == [
        "files", "frames", "first_time_ns", "last_time_ns", "interrupted", "damages", "skipped", "segments",
        "quoted",
        "selection", "connections_in_capture", "connections", "client_octets", "server_octets", "retransmitted",
        "packets", "opening_not_seen", "one_direction", "tap", "tap_share", "outcomes", "ended", "client_states",
        "server_states", "listeners", "listener_count", "handshakes", "handshake_median_ns", "slowest_handshakes",
        "finding_groups", "findings", "undecodable_frames", "damaged",
    ]  # fmt: skip
    assert told["skipped"] == [{"reason": "udp", "explanation": "udp", "frames": 5, "octets": 300, "damage": False}]
    assert told["outcomes"][0]["connections"] >= 1


def test_page_says_what_was_captured() -> None:
    told = summarise(capture(), 83, skipped(("udp", False, 5), ("cut_tcp", True, 1)), samples.flows(9))
    page = lines(told, command=["a.pcap"])
    assert page[0] == "a.pcap   pcap, Ethernet"
    assert page[1] == "  2026-11-21 02:12:03 UTC, 12.2 s, 9 frames"
    assert page[2].startswith("  83 TCP segments in 9 connections; 1 frame could not be decoded")
    assert page[4] == "Frames without TCP   6 of 9" and page[5].split()[:2] == ["1", "cut_tcp"]
    assert any(line.startswith("Next: observer explain a.pcap ") for line in page)


def test_nothing_from_the_capture_acts_on_the_terminal() -> None:
    file = SimpleNamespace(name="\x1b[31mx", format="pcap", compression="", link_types=[1], frames=9)
    hurt = SimpleNamespace(file="\x1b]0;x\x07", offset=0, frame=0, message="\u202etxt")
    told = summarise(capture(files=[file], damages=[hurt]), 1, skipped(("\x1b[2J", True, 1)), samples.flows(3))
    assert all(line.isprintable() for line in lines(told, command=["\x1b[31mx"]))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit(width: int) -> None:
    files = [
        SimpleNamespace(name=f"dir/{i}.pcap", format="pcapng", compression="gzip", link_types=[1, 276, 9999], frames=3,
                        dropped_os=4) for i in range(9)
    ]  # fmt: skip
    hurt = [SimpleNamespace(file="a.pcap", offset=10**6, frame=10**6, message="the file ends " * 9)] * 7
    reasons = [(f"reason_{i}", i % 2 == 0, i + 1) for i in range(12)]
    told = summarise(capture(files=files, damages=hurt), 1, skipped(*reasons), samples.flows(3000), selection="x")
    page = lines(told, width=width, command=["a.pcap"])
    assert [line for line in page if len(line) > max(width, 75)] == []
    assert any("other combinations" in line for line in page)


def test_an_empty_capture_has_a_page() -> None:
    told = summarise(capture(frames=0, first_time_ns=None, last_time_ns=None, files=[]), 0, skipped(), samples.flows(0))
    assert "  no TCP segments; nothing was captured" in lines(told)


def test_no_pandas_and_no_rich_for_a_summary() -> None:
    code = (
        "import observer.outputs.summary, observer.outputs.terminal, sys;"
        "print([m for m in ('pandas', 'pyarrow', 'rich', 'numba', 'scapy') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
