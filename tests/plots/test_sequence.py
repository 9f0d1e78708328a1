"""The time-sequence graph: sequence space without wraps, both conventions, and no more ink than a screen holds."""

from __future__ import annotations

import time
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.errors import OptionError
from observer.plots.rows import Cells
from observer.plots.sequence import COLUMNS, gathered, sequence, series, unwrapped
from tests.plots.conversation import MARK, Conversation, MadeFlow, labelled, queue_full, words_of


def bars(ax: Any, label: str) -> list[tuple[float, float, float]]:
    """Vertical bars of a collection: x, low, high."""
    found = labelled(ax, label)
    return [(part[0][0], part[0][1], part[1][1]) for one in found for part in one.get_segments()]


@given(st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=50), st.integers(-100, 100))
def test_unwrapping_gives_back_every_path(steps: list[int], first: int) -> None:
    path = first + numpy.cumsum(numpy.array([0, *steps], numpy.int64))
    assert unwrapped(path % 2**32).tolist() == path.tolist()


def test_segments_stand_where_their_octets_are() -> None:
    talk = Conversation().opening().send(0, "PA", 100).send(1, "A").send(0, "PA", 50).send(1, "A")
    ax = sequence(talk.read().flow(0))
    assert [(low, high) for _, low, high in bars(ax, "_segments")] == [(0, 1), (1, 101), (101, 151)]
    assert [x for x, *_ in bars(ax, "_segments")] == pytest.approx([0, 30, 50], abs=1e-3)
    assert "milliseconds" in ax.get_xlabel() and "UTC" in ax.get_xlabel()
    assert "octets" in ax.get_ylabel()
    assert "3 segments, 150 B, 0 sent again" not in ax.get_title(loc="left")
    assert "4 segments, 150 B, 0 sent again" in ax.get_title(loc="left")


@pytest.mark.parametrize("style", ["tcptrace", "wireshark"])
def test_what_is_sent_again_is_told_apart(style: str) -> None:
    ax = sequence(queue_full().read().flow(0), style=style)
    assert len(bars(ax, "_again")) == 4
    assert len(labelled(ax, "_R")) == (4 if style == "tcptrace" else 0)
    assert "sent again" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert next(words for words in words_of(ax) if words.startswith("RST")) == "RST by server"


def test_acknowledgments_and_window_are_staircases() -> None:
    ax = sequence(MadeFlow(10), side="client")  # type: ignore[arg-type]
    lines = {line.get_label(): line for line in ax.get_lines()}
    acks = lines["acknowledged"].get_ydata()
    assert acks.tolist() == [100, 200, 300, 400, 500]
    assert lines["acknowledged"].get_drawstyle() == "steps-post"
    window = next(line for label, line in lines.items() if label.startswith("receive window"))
    assert (window.get_ydata() - acks).tolist() == [5000] * 5
    assert "cut" in window.get_label(), "5000 octets of window would dwarf 500 octets of data"


def test_wrap_of_the_sequence_space_is_not_a_cliff() -> None:
    count = 20
    seq = (2**32 - 500 + numpy.arange(count) // 2 * 100) % 2**32
    cells = Cells.of(MadeFlow(count, seq=numpy.where(numpy.arange(count) % 2 == 0, seq, 1)).columns("packets"))
    one = series(cells, numpy.full(count, -1), numpy.full(count, -1), 0)
    assert numpy.diff(one.low).tolist() == [100] * 9


def test_selective_acknowledgments_and_closed_windows_are_marked() -> None:
    count = 12
    odd = numpy.arange(count) % 2 == 1
    flow = MadeFlow(
        count,
        sack_left=numpy.where(odd, 2000, -1),
        sack_right=numpy.where(odd, 2100, -1),
        window=numpy.where(odd, 0, 5000),
        label=numpy.where(odd, MARK["duplicate_ack"], 0),
    )
    ax = sequence(flow)  # type: ignore[arg-type]
    assert {(low, high) for _, low, high in bars(ax, "_sack")} == {(2000, 2100)}
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"selectively acknowledged", "window closed", "duplicate ACK"} <= set(legend)


def test_the_side_that_sent_more_is_shown_unless_told() -> None:
    flow = Conversation().opening().send(1, "PA", 500).send(0, "A").read().flow(0)
    assert "server" in sequence(flow).get_ylabel()
    assert "client" in sequence(flow, side="client").get_ylabel()


@pytest.mark.parametrize("wrong", [{"style": "stevens"}, {"side": "middle"}])
def test_wrong_choices_name_the_right_ones(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="there are"):
        sequence(MadeFlow(2), **wrong)  # type: ignore[arg-type]


def test_many_segments_are_drawn_together() -> None:
    begin = time.process_time()
    ax = sequence(MadeFlow(500_000))  # type: ignore[arg-type]
    ax.figure.canvas.draw()
    assert time.process_time() - begin < 5
    drawn = bars(ax, "_segments")
    assert 100 < len(drawn) <= COLUMNS
    assert min(low for _, low, _ in drawn) == 0
    assert max(high for *_, high in drawn) == 250_000 * 100
    assert any("in one" in text.get_text() for text in ax.get_legend().get_texts())


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_gathering_loses_no_octet(rows: list[tuple[int, int]]) -> None:
    times, low = (numpy.array(part, numpy.int64) for part in zip(*rows, strict=True))
    middle, lowest, highest = gathered(times, low, low + 10, 8)
    assert len(middle) <= 8 and (numpy.diff(middle) > 0).all()
    assert lowest.min() == low.min() and highest.max() == low.max() + 10


def test_only_syns_or_one_direction_can_be_drawn() -> None:
    for talk in (Conversation().send(0, "S"), Conversation().send(1, "PA", 10), Conversation().send(0, "R")):
        for side in ("client", "server"):
            ax = sequence(talk.read().flow(0), side=side)
            assert numpy.isfinite(ax.get_ylim()).all()
