"""What is watched live is what a reading of the saved capture tells afterwards: equal, not similar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest
from feed import FileFeed

import observer
from observer import kernels
from observer.watch import Change, Live, Watcher
from observer.watch.clock import Clock

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
ALL = sorted(path for path in CAPTURES.iterdir() if ".pcap" in path.name)
TABLES = ("flows", "transitions", "events", "findings", "resets", "calls", "population", "skipped")


def watched(path: Path, step: int, *, ticks: bool = True) -> Live:
    """Everything of a file through the live loop; the clock stands still between packets."""
    clock = Clock(steady=lambda: 0)
    live = Live(FileFeed(path, step), engine=kernels.Interpreted(), clock=clock)
    while not live.feed.finished:
        live.step()
        if ticks:
            live.tick()
    live.end()
    return live


def same(live: Live, path: Path) -> None:
    saved = observer.read(path, engine=kernels.Interpreted())
    for table in TABLES:
        now, then = getattr(live, table), getattr(saved, table)
        pandas.testing.assert_frame_equal(now, then, obj=table)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_same_tables_as_the_saved_capture(path: Path) -> None:
    same(watched(path, 7), path)


@pytest.mark.parametrize("name", ["accept-queue-full.pcap", "keepalive-timeout.pcap", "half-open-reconnect.pcap"])
def test_same_tables_with_a_tick_after_every_frame(name: str) -> None:
    same(watched(CAPTURES / name, 1), CAPTURES / name)


def test_findings_are_raised_once_and_then_followed() -> None:
    told: list[Change] = []

    class Notes(Watcher):
        def tick(self, live: Live, changes: Sequence[Change]) -> None:
            told.extend(changes)

        end = tick

    path = CAPTURES / "accept-queue-full.pcap"
    live = Live(FileFeed(path, 1), engine=kernels.Interpreted(), clock=Clock(steady=lambda: 0), watchers=[Notes()])
    while not live.feed.finished:
        live.step()
        live.tick()
    live.end()
    raised = [(change.row["code"], change.row["stream"]) for change in told if change.kind == "raised"]
    assert ("half_established", 5) in raised and len(raised) == len(set(raised))
    standing = {row["code"] for row in live.finding_rows()}
    assert standing == set(live.findings.code)
