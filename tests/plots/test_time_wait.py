"""TIME-WAIT: lines are what each holder had at once; the ports that are left, and when none will be."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from observer.options import Options
from observer.plots import style
from observer.plots.stretches import most_at_once, stretches
from observer.plots.time_wait import INTERVALS, LINES, time_wait
from observer.schema import STATES
from tests.plots.conversation import Conversation, words_of
from tests.plots.crowd import ACK, CLOSED, FIN, OPENING, Line, Step, captured, crowd

BY_SERVER = (*OPENING, Step(0.05, 1, FIN | ACK), Step(0.07, 0, FIN | ACK), Step(0.09, 1, ACK))


class Choosing:
    """An observation with other options."""

    def __init__(self, observation: Any, options: Options) -> None:
        self._observation = observation
        self.options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observation, name)


def pile(connections: int, *, every_s: float = 0.05, steps: tuple[Step, ...] = CLOSED) -> Any:
    """One client opens and closes connections to one service, again and again."""
    return captured([Line(k * every_s, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), steps) for k in range(connections)])


def lines(ax: Any) -> dict[str, Any]:
    """The holders' lines by label."""
    return {line.get_label(): line for line in ax.get_lines() if not str(line.get_label()).startswith("_")}


def labels_of(ax: Any) -> list[str]:
    return list(lines(ax))


def held(observation: Any) -> Any:
    found = stretches(observation)
    return found.take(numpy.flatnonzero(found.state == STATES.index("TIME_WAIT")))


@pytest.mark.parametrize(
    ("steps", "who"), [(CLOSED, "client 10.0.0.1 for 10.9.0.1:80"), (BY_SERVER, "server 10.9.0.1:80")]
)
def test_the_line_is_that_of_who_closed_first(steps: tuple[Step, ...], who: str) -> None:
    observation = pile(50, steps=steps)
    found = held(observation)
    (label,) = lines(ax := time_wait(observation))
    line = lines(ax)[label]
    assert label.startswith(f"{who}: at most {most_at_once(found.begin, found.end)}")
    assert line.get_drawstyle() == "steps-post"
    for seconds in (0.7, 1.5, 2.2):
        at = observation.begin_ns + round(seconds * 1e9)
        there = int(((found.begin <= at) & (at < found.end)).sum())
        x, y = numpy.asarray(line.get_xdata()), numpy.asarray(line.get_ydata())
        assert y[numpy.searchsorted(x, seconds, "right") - 1] == there
    assert "connections in TIME-WAIT" in ax.get_ylabel() and "UTC" in ax.get_xlabel()
    assert "50 of 50 connections" in ax.get_title(loc="left")


def test_holders_are_told_apart() -> None:
    both = [Line(0.05 * k, (f"10.0.0.{k % 2}", 20_000 + k), ("10.9.0.1", 80), CLOSED) for k in range(60)]
    ax = time_wait(captured(both))
    labels = sorted(lines(ax))
    assert [label.split(":")[0] for label in labels] == ["client 10.0.0.0 for 10.9.0.1", "client 10.0.0.1 for 10.9.0.1"]
    looks = {(line.get_color(), line.get_linestyle()) for line in lines(ax).values()}
    assert len({colour for colour, _ in looks}) == 2


def test_ports_and_when_none_is_left_are_told() -> None:
    """20 connections a second and 200 ports: after 10 s none is left."""
    options = Options(ephemeral_ports=(20_000, 20_199))
    ax = time_wait(Choosing(pile(100), options))
    said = " ".join(words_of(ax))
    assert "200 ports of one client for one service" in said
    assert "of 200 ports" in said
    assert "no port left" in said and "end of the capture" in said
    left = next(words for words in words_of(ax) if "no port left" in words)
    seconds = float(left.split("no port left ")[1].split(" s")[0])
    assert seconds == pytest.approx(5, rel=0.05), "100 are held at the end; 100 more take 5 s"


def test_a_rate_that_stays_below_is_told_as_such() -> None:
    options = Options(time_wait_s=2, ephemeral_ports=(20_000, 20_199))
    said = " ".join(words_of(time_wait(Choosing(pile(150), options))))
    assert "never more than" in said and "no port left" not in said


def test_a_servers_time_wait_takes_no_ports() -> None:
    options = Options(ephemeral_ports=(20_000, 20_199))
    said = " ".join(words_of(time_wait(Choosing(pile(100, steps=BY_SERVER), options))))
    assert "no port left" not in said and "of 200 ports" not in said


def test_nothing_is_projected_from_a_few() -> None:
    assert not any("/s:" in words for words in words_of(time_wait(pile(5))))


def test_many_holders_are_drawn_as_few_lines() -> None:
    observation = crowd(900, clients=90, services=60)
    ax = time_wait(observation)
    assert 1 <= len(lines(ax)) <= LINES
    assert all(len(line.get_xdata()) <= 2 * INTERVALS + 4 for line in ax.get_lines())
    found = held(observation)
    assert f"at most {most_at_once(found.begin, found.end):,} at once" in ax.get_title(loc="left")


def test_who_holds_a_pile_up_is_named_however_many_do() -> None:
    """Thirty clients, each of them with a thirtieth of all: together where that is little, named where it is much."""
    talks = [Line(0.01 * k, (f"10.0.0.{k % 30}", 20_000 + k), ("10.9.0.1", 80), CLOSED) for k in range(900)]
    observation = captured(talks)
    assert any("all clients together (30" in label for label in labels_of(time_wait(observation)))
    piled = time_wait(Choosing(observation, Options(time_wait_pileup=25)))
    assert all(label.startswith("client 10.0.0.") for label in labels_of(piled))
    assert f"{30 - LINES} holders more not drawn" in piled.get_title(loc="left")


def test_none_is_said() -> None:
    assert time_wait(Conversation().opening().read()).get_gid() == style.EMPTY
