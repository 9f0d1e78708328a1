"""Packing finished flows changes nothing: the same captures, with everything packed at once and with nothing packed."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from observer import kernels
from observer.observe import read
from observer.tcp import archive, layout
from observer.tcp.tracker import Tracker

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*.pcap*"))


def test_every_cell_is_packed_once_and_in_time() -> None:
    rules = archive.packing_rules()
    for part in (rules[: archive.WIDE], rules[archive.WIDE :]):
        done: set[int] = set()
        for rule in part:
            if rule >> 16:
                assert rule >> 8 & 0xFF in done, "unpacking needs the cell it is combined with"
            done.add(rule & 0xFF)
    assert archive.NARROW % 2 == 0
    assert layout.G_PACK + len(rules) <= layout.G_RING


def packed(tracker: Tracker) -> int:
    return int((tracker.streams.cells[layout.S_FLOW :: layout.STREAM_STRIDE] < 0).sum())


def test_packed_flows_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    for path in CAPTURES:
        tables = []
        for size in (layout.RING_MAX, 1):
            monkeypatch.setattr("observer.tcp.tracker.RING_MAX", size)
            tracker = read(path, engine=kernels.Interpreted()).tracker
            rows = tracker.flow_rows(0, tracker.stream_count).copy()
            tables.append((rows[:, :29], rows[:, 32:46], rows[:, 48:62], tracker.transitions(), tracker.event_rows()))
            assert size == 1 or packed(tracker) == 0
        count += packed(tracker)
        for one, other in zip(*tables, strict=True):
            assert numpy.array_equal(one, other), path.name
    assert count > 0
