"""Resets: every one is in a bar of its service, its class, its side and its time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import observer
from observer.plots import style
from observer.plots.resets import HALF, INTERVALS, SERVICES, resets
from tests.plots.conversation import Conversation
from tests.plots.crowd import OPENING, RESET, RST, Line, Step, captured, crowd


def bars(ax: Any) -> list[tuple[int, str, str, float, float]]:
    """Service (row), side, class, begin and height of each bar."""
    found = []
    for container in ax.containers:
        for bar in container:
            middle = bar.get_y() + bar.get_height() / 2
            service = round(middle)
            side = "server" if middle < service else "client"  # the axis runs downwards
            found.append((service, side, container.get_label(), bar.get_x(), abs(bar.get_height())))
    return found


def highest(ax: Any) -> list[int]:
    """What the highest bar of each service stands for."""
    told = [text.get_text() for text in ax.texts if text.get_text().startswith("highest bar")]
    return [int(words.split(": ")[1].replace(",", "")) for words in told]


def tally(ax: Any) -> Counter[tuple[str, str]]:
    """How many resets the bars stand for, by side and class."""
    full = highest(ax)
    counted: Counter[tuple[str, str]] = Counter()
    for service, side, name, _, height in bars(ax):
        counted[side, name] += round(height / HALF * full[service])
    return counted


def test_bars_are_the_table() -> None:
    observation = crowd(200, services=4)
    ax = resets(observation)
    table = observation.resets
    wanted = Counter(zip(table.endpoint.astype(str), table["class"].astype(str), strict=True))
    assert tally(ax) == wanted
    assert ax.get_title(loc="left").startswith(f"{len(table)} resets of {table.stream.nunique()} connections, of 200")
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {f"{name} ({number})" for name, number in table["class"].astype(str).value_counts().items()}


def test_both_sides_are_told_apart() -> None:
    by_client = (*OPENING, Step(0.5, 0, RST | 16))
    lines = [Line(k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), RESET if k % 3 else by_client) for k in range(9)]
    ax = resets(captured(lines))
    sides = Counter(side for side, *_ in tally(ax).elements())
    assert sides == {"server": 6, "client": 3}
    assert "server 6, client 3" in ax.get_yticklabels()[0].get_text()


def test_bars_stand_at_their_time() -> None:
    lines = [Line(begin, ("10.0.0.1", 20_000), ("10.9.0.1", 80), RESET) for begin in (0,)]
    lines.append(Line(99, ("10.0.0.1", 20_001), ("10.9.0.1", 80), RESET))
    observation = captured(lines)
    span = (observation.end_ns - observation.begin_ns) / 1e9
    starts = sorted(begin for *_, begin, _ in bars(resets(observation)))
    for begin, wanted in zip(starts, (0.5, span), strict=True):
        assert begin <= wanted <= begin + 1.01 * span / INTERVALS


def test_what_is_rare_is_put_together() -> None:
    lines = [Line(k, ("10.0.0.1", 20_000 + k), (f"10.9.0.{k}", 80), RESET) for k in range(SERVICES + 5)]
    ax = resets(captured(lines))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == SERVICES + 1
    assert labels[-1].startswith("5 other services\n5 resets in 5 connections")


@pytest.mark.parametrize("name", ["accept-queue-full.pcap", "refused.pcap", "injected-reset.pcap"])
def test_classes_are_named_as_in_the_table(name: str, captures: Path) -> None:
    observation = observer.read(captures / name)
    named = {text.get_text().rsplit(" (", 1)[0] for text in resets(observation).get_legend().get_texts()}
    assert named == set(observation.resets["class"].astype(str))


def test_none_is_said() -> None:
    assert resets(Conversation().opening().read()).get_gid() == style.EMPTY
