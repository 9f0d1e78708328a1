"""Judging only what changed says the same, at every moment, as judging everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from watch.feed import FileFeed

from observer import kernels, read
from observer.findings import find
from observer.outputs.finding_rows import rows_as_json
from observer.watch import Change, Live, Watcher
from observer.watch.clock import Clock

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
ALL = sorted(path for path in CAPTURES.iterdir() if ".pcap" in path.name)
STEPS = 40
"""Looks at each capture."""


class Compare(Watcher):
    """Judges everything at each tick."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        self.ticks += 1
        observation = live.view()[0]
        assert told(live.finding_rows()) == told(rows_as_json(find(observation)))


def told(rows: Sequence[Any]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_tick_says_what_a_whole_look_says(path: Path) -> None:
    compare = Compare()
    feed = FileFeed(path, max(1, read(path).capture.frames // STEPS))
    live = Live(feed, engine=kernels.Interpreted(), clock=Clock(steady=lambda: 0), watchers=[compare])
    while not feed.finished:
        live.step()
        live.tick()
    live.end()
    assert compare.ticks > 2
