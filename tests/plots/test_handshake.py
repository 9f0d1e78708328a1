"""Openings: shares of all, times of those that are known, and each step counted."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from observer.errors import OptionError
from observer.plots import style
from observer.plots.handshake import LISTENERS, POINTS, handshake
from tests.plots.conversation import Conversation, words_of
from tests.plots.crowd import OPEN, OPENING, UNANSWERED, Line, captured, crowd


def curves(ax: Any) -> dict[str, tuple[Any, Any]]:
    """Times (ms) and shares (%) by the first word of the label."""
    shown = [line for line in ax.get_lines() if ": median" in str(line.get_label())]
    return {str(line.get_label()).split(":")[0]: (line.get_xdata(), line.get_ydata()) for line in shown}


def test_a_share_is_of_all_openings_that_were_captured() -> None:
    lines = [Line(k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), OPEN if k < 6 else UNANSWERED) for k in range(10)]
    ax = handshake(captured(lines), part="times")
    times, shares = curves(ax)["connect"]
    assert shares[-1] == pytest.approx(60)
    assert times == pytest.approx(numpy.full(len(times), 21), abs=0.01)
    assert curves(ax)["round trip tap to server"][0][0] == pytest.approx(20, abs=0.01)
    assert curves(ax)["round trip tap to client"][0][0] == pytest.approx(1, abs=0.01)
    assert "10 openings, 6 completed (60 %)" in ax.get_title(loc="left")
    assert "milliseconds" in ax.get_xlabel() and "%" in ax.get_ylabel()


def test_curves_are_those_of_the_table() -> None:
    observation = crowd(400)
    times, shares = curves(handshake(observation, part="times"))["connect"]
    known = observation.flows.handshake_ns.dropna().astype("int64").to_numpy() / 1e6
    opened = int((observation.flows.syn_count > 0).sum())
    assert len(times) <= POINTS and (numpy.diff(times) >= 0).all()
    for time in numpy.unique(times):
        assert shares[times == time].max() == pytest.approx((known <= time).sum() / opened * 100)


def bars(ax: Any) -> dict[str, int]:
    """Openings that took each step."""
    labels = [label.get_text() for label in ax.get_yticklabels()]
    return dict(zip(labels, [bar.get_width() for bar in ax.patches], strict=True))


def test_steps_are_counted() -> None:
    kinds = [OPEN, OPEN, UNANSWERED, OPENING[:2], OPENING[:3]]
    lines = [Line(5 * k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), kind) for k, kind in enumerate(kinds)]
    ax = handshake(captured(lines), part="steps")
    assert bars(ax) == {
        "SYN": 5, "SYN sent again": 0, "SYN-ACK": 4, "SYN-ACK sent again": 0, "ACK: completed": 3, "data followed": 2,
    }  # fmt: skip
    assert any("80 %" in words for words in words_of(ax))


def test_repeats_are_counted_and_their_time_marked() -> None:
    talk = Conversation().send(0, "S").wait(1).send(0, "S", again=True).send(1, "SA").send(0, "A")
    observation = talk.read()
    counted = bars(handshake(observation, part="steps"))
    assert counted["SYN sent again"] == counted["SYN"] == 1
    assert any("SYN again" in words for words in words_of(handshake(observation, part="times")))


def test_the_slowest_listeners_are_named() -> None:
    lines = []
    for number in range(LISTENERS + 4):
        slow = tuple(step._replace(at_s=step.at_s * (1 + number)) for step in OPENING)
        lines += [Line(k, ("10.0.0.1", 20_000 + k + 100 * number), (f"10.9.0.{number}", 80), slow) for k in range(6)]
    ax = handshake(captured(lines), part="listeners")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [f"10.9.0.{number}:80 (6)" for number in range(LISTENERS + 3, 3, -1)]
    assert f"Slowest {LISTENERS} of {LISTENERS + 4} listeners" in ax.get_title(loc="left")
    middles = next(line for line in ax.get_lines() if line.get_label() == "median").get_xdata()
    assert middles[0] == pytest.approx(21 * (LISTENERS + 4), rel=0.01)


def test_all_parts_make_one_figure() -> None:
    ax = handshake(crowd(60))
    assert len(ax.figure.axes) == 3
    assert {axes.get_title(loc="left").split(" ")[0] for axes in ax.figure.axes} >= {"60", "How"}


def test_times_that_are_alike_have_numbers_at_their_axis() -> None:
    ax = handshake(crowd(30, services=1), part="times")
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert high >= 10 * low
    shown = [label.get_text() for label in ax.get_xticklabels() if label.get_text()]
    assert len(shown) >= 2 and not any("$" in words or "\\" in words for words in shown)


def test_what_was_never_answered_has_no_times() -> None:
    observation = captured([Line(k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), UNANSWERED) for k in range(3)])
    assert handshake(observation, part="times").get_gid() == style.EMPTY
    assert handshake(observation, part="listeners").get_gid() == style.EMPTY


def test_connections_that_were_already_open_are_left_out() -> None:
    assert handshake(Conversation().send(0, "PA", 10).send(1, "A").read()).get_gid() == style.EMPTY


def test_an_unknown_part_names_those_that_there_are() -> None:
    with pytest.raises(OptionError, match="there are times, steps, listeners"):
        handshake(crowd(3), part="middle")  # type: ignore[arg-type]
