"""Memory stays bounded, and what stays is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from feed import FileFeed

import observer
from observer import kernels
from observer.watch import Live, loop
from observer.watch.clock import Clock

CAPTURES = Path(__file__).resolve().parents[2] / "captures"


def paths(names: str | list[str]) -> list[Path]:
    return [CAPTURES / name for name in ([names] if isinstance(names, str) else names)]


def watched(names: str | list[str], limit: int) -> Live:
    live = Live(
        FileFeed(paths(names), 10), engine=kernels.Interpreted(), clock=Clock(steady=lambda: 0), limit=limit
    )  # fmt: skip
    while not live.feed.finished:
        live.step()
        live.tick()
    return live


def test_a_flood_is_given_up_before_those_that_talk() -> None:
    both_captures = ["accept-queue-full.pcap", "syn-flood.pcap"]
    live = watched(both_captures, 60)
    whole = observer.read(paths(both_captures)).flows
    kept = live.flows
    assert len(kept) <= 60 + 60 // loop.BURST
    assert live.evicted > 0 and live.connections == len(kept) + live.evicted + live.forgotten
    talking = whole[(whole.client_state == "ESTABLISHED") & (whole.server_state == "ESTABLISHED")]
    assert 0 < len(talking) < 60
    ends = ["client_addr", "client_port", "server_addr", "server_port"]
    both = talking.astype({"client_addr": str, "server_addr": str}).merge(
        kept.astype({"client_addr": str, "server_addr": str}), on=ends, suffixes=("", "_kept")
    )
    assert len(both) == len(talking)
    for column in ("client_state", "server_state", "first_frame", "client_packets", "server_packets"):
        assert both[column].astype(str).tolist() == both[f"{column}_kept"].astype(str).tolist()
    live.end()


def test_findings_of_forgotten_connections_stay_known() -> None:
    live = watched("syn-flood.pcap", 150)
    assert live.evicted > 0
    assert "syn_flood" in {row["code"] for row in live.finding_rows()}
    live.end()


def test_old_events_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "EVENTS_EACH", 1)
    whole = observer.read(CAPTURES / "zero-window.pcap").events
    live = watched("zero-window.pcap", 5)
    kept = live.events
    assert live.evicted == 0 < live.dropped_events
    assert 0 < len(kept) == len(whole) - live.dropped_events
    assert kept.frame.min() > whole.frame.min() and kept.frame.max() == whole.frame.max()
    live.end()
