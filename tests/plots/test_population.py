"""Population: what is stacked is what the transitions say, servers above and clients below; findings are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

import observer
from observer.errors import OptionError
from observer.plots.population import EPISODES, INTERVALS, _gathered, population
from observer.plots.stretches import stretches
from observer.schema import STATES
from tests.plots.conversation import Conversation, words_of
from tests.plots.crowd import CLOSED, OPEN, Line, captured, crowd


def heights(ax: Any, seconds: float, *, below: bool) -> dict[str, int]:
    """How many endpoints of each state are drawn at an instant, above or below the line."""
    found: dict[str, int] = {}
    levels = [(k + 0.5) * (-1 if below else 1) for k in range(100)]
    for area in ax.collections:
        if area.get_label() in STATES:
            inside = [any(path.contains_point((seconds, level)) for path in area.get_paths()) for level in levels]
            found[area.get_label()] = found.get(area.get_label(), 0) + sum(inside)
    return {name: height for name, height in found.items() if height}


def there(observation: Any, seconds: float, side: int) -> dict[str, int]:
    got = stretches(observation)
    at = observation.begin_ns + round(seconds * 1e9)
    alive = (got.begin <= at) & (at < got.end) & (got.endpoint == side)
    codes, often = numpy.unique(got.state[alive], return_counts=True)
    return {STATES[code]: int(number) for code, number in zip(codes, often, strict=True)}


@pytest.mark.parametrize("seconds", [0.3, 2.0, 5.0, 9.5])
def test_stacks_are_the_states_of_that_instant(captures: Path, seconds: float) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    ax = population(observation, listener="all")
    assert heights(ax, seconds, below=False) == there(observation, seconds, 1)
    assert heights(ax, seconds, below=True) == there(observation, seconds, 0)


def test_one_side_alone_stands_above_the_line(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    ax = population(observation, endpoint="client")
    assert heights(ax, 5.0, below=False) == there(observation, 5.0, 0)
    assert ax.get_ylabel() == "client endpoints at once"


def test_findings_of_populations_are_marked_from_begin_to_end(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    about = observation.findings[observation.findings.stream.isna()]
    assert len(about)
    ax = population(observation)
    marks = {line.get_label(): line for line in ax.get_lines() if str(line.get_label()).startswith("finding ")}
    assert set(marks) == {f"finding {code}" for code in about.code[:EPISODES]}
    assert len(marks) == about.code.nunique()
    begin = (about.begin.iloc[0].value - observation.begin_ns) / 1e9
    assert marks[f"finding {about.code.iloc[0]}"].get_xdata()[0] == pytest.approx(begin)
    assert any(about.code.iloc[0] in words for words in words_of(ax))


def test_like_findings_share_a_mark() -> None:
    """Eight clients pile up TIME-WAIT for one service, one after the other."""
    lines = [Line(0.02 * k, (f"10.0.0.{k // 60}", 20_000 + k), ("10.9.0.1", 80), CLOSED) for k in range(8 * 60)]
    observation = captured(lines, options=observer.Options(time_wait_pileup=50))
    about = observation.findings[observation.findings.stream.isna()]
    assert about.code.tolist() == ["time_wait_pileup"] * 8
    ax = population(observation)
    (mark,) = [line for line in ax.get_lines() if line.get_label() == "finding time_wait_pileup"]
    assert mark.get_xdata()[0] == pytest.approx((about.begin.min().value - observation.begin_ns) / 1e9)
    assert any("8 of them" in words for words in words_of(ax))


def test_a_threshold_is_drawn_where_it_is_near() -> None:
    lines = [Line(0.01 * k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), OPEN) for k in range(40)]
    observation = captured(lines)
    assert not any("threshold" in words for words in words_of(population(observation)))
    from tests.plots.crowd import ACK, FIN, OPENING, Step

    half = (*OPENING, Step(0.05, 1, ACK), Step(0.2, 0, FIN | ACK), Step(0.22, 1, ACK))
    piling = captured([line._replace(steps=half) for line in lines])
    told = [words for words in words_of(population(piling)) if "threshold" in words]
    assert told and f"{observer.Options().pileup:,}" in told[0] and "Options.pileup" in told[0]


def test_a_listener_or_a_host_can_be_chosen() -> None:
    observation = crowd(60, clients=3, services=2)
    flows = observation.flows
    server = str(flows.server_addr.iloc[0])
    own = int((flows.server_addr.astype(str) == server).sum())
    assert f"{own} connections to {server}:80" in population(observation, listener=(server, 80)).get_title(loc="left")
    client = str(flows.client_addr.iloc[0])
    ax = population(observation, host=client)
    assert f"of the host {client}" in ax.get_title(loc="left")
    mine = (flows.client_addr.astype(str) == client).sum()
    assert sum(heights(ax, 0.55, below=True).values()) <= mine
    assert heights(ax, 0.55, below=False) == {}, "it serves nobody"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"listener": ("10.9.0.2", 81)}, "no connection"),
        ({"listener": ("10.9.9.9", 80)}, "no connection"),
        ({"host": "192.0.2.1"}, "no connection"),
        ({"host": "localhost$"}, "no address"),
        ({"host": "10.0.0.1", "listener": ("10.9.0.2", 80)}, "one of both"),
        ({"endpoint": "middle"}, "there are client, server"),
    ],
)
def test_misuse_is_said(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        population(crowd(6), **wrong)


def test_an_interval_shows_its_fullest_instant() -> None:
    """One state; it rises by 3 and falls by 2 again and again, far oftener than there are intervals."""
    steps = 20_000
    time = numpy.arange(steps, dtype=numpy.int64) * 1000
    change = numpy.where(numpy.arange(steps) % 2 == 0, 3, -2)
    got = _gathered(time, numpy.full(steps, 4), change, 0, int(time[-1]))
    assert len(got.times) <= INTERVALS
    assert got.most == int(numpy.cumsum(change).max())
    assert (numpy.diff(got.times) > 0).all()


def test_nothing_but_closed_is_said() -> None:
    from observer.plots import style

    ax = population(Conversation().send(0, "R").read())
    assert ax.get_gid() == style.EMPTY or ax.collections
