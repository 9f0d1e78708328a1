"""The ladder: rows, folds and pauses; lanes in hindsight; every word in its place."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy
import pytest

import observer
from observer.plots.connection import call_words, segment_words
from observer.plots.ladder import LANES, ladder
from observer.plots.rows import ARRIVAL, DECISIVE, START, Cells, Other, Scale, chosen, items, unanswered, weights
from observer.plots.style import offscreen
from tests.plots.conversation import MARK, Conversation, MadeFlow, labelled, queue_full, words_of


def cells_of(flow: Any) -> Cells:
    return Cells.of(flow.columns("packets"))


def lane(ax: Any, side: int) -> list[tuple[str, float, float]]:
    """States of a lane from above: name, begin, end."""
    blocks = [patch for patch in labelled(ax, "_state ") if abs(patch.get_x() - LANES[side][0]) < 1e-9]
    spans = [(patch.get_label()[7:], patch.get_y(), patch.get_y() + patch.get_height()) for patch in blocks]
    return sorted(spans, key=lambda span: span[1])


def test_orderly_life_has_every_state_in_order() -> None:
    ax = ladder(Conversation().opening().send(0, "PA", 10).send(1, "A").closing().read().flow(0))
    assert [name for name, *_ in lane(ax, 0)] == [
        "CLOSED", "SYN_SENT", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT"]  # fmt: skip
    assert [name for name, *_ in lane(ax, 1)] == [
        "CLOSED", "SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSED"]  # fmt: skip
    for side in (0, 1):
        blocks = lane(ax, side)
        assert all(above[2] == pytest.approx(below[1]) for above, below in pairwise(blocks))
    assert len(labelled(ax, "_segment")) == 9


def test_sender_changes_where_its_arrow_leaves_and_receiver_where_it_arrives() -> None:
    flow = Conversation().opening().read().flow(0)
    blocks = {(side, name): begin for side in (0, 1) for name, begin, _ in lane(ladder(flow), side)}
    cells = cells_of(flow)
    rows = items(cells, numpy.ones(3, bool), [])
    assert blocks[0, "SYN_SENT"] == pytest.approx(rows[0].y + START)
    assert blocks[1, "SYN_RECEIVED"] == pytest.approx(rows[1].y + START)
    assert blocks[0, "ESTABLISHED"] == pytest.approx(rows[1].y + ARRIVAL)
    assert blocks[1, "ESTABLISHED"] == pytest.approx(rows[2].y + ARRIVAL)


def test_retracted_assumption_stands_beside_the_lane_not_in_it() -> None:
    ax = ladder(queue_full().read().flow(0))
    assert "ESTABLISHED" not in [name for name, *_ in lane(ax, 1)]
    assert len(labelled(ax, "_retracted ESTABLISHED")) == 1
    assert any("ESTABLISHED: retracted by" in words.replace("\n", " ") for words in words_of(ax))
    assert labelled(ax, "_lost")


def test_findings_and_calls_are_told_where_they_belong() -> None:
    observation = queue_full().read()
    ax = ladder(observation.flow(0))
    words = [text.replace("\n", " ") for text in words_of(ax)]
    for summary in observation.findings[observation.findings.stream == 0].summary:
        assert any(text in summary for text in words if len(text) > 30), summary
    assert any("connect()" in text for text in words)
    assert any("ECONNRESET" in text for text in words)
    assert labelled(ax, "_evidence")


def test_axis_says_unit_and_origin() -> None:
    ax = ladder(Conversation().opening().read().flow(0))
    assert "seconds" in ax.get_ylabel() and "UTC" in ax.get_ylabel()
    assert len(ax.get_yticklabels()) == 3
    assert "#2" in ax.get_yticklabels()[1].get_text()
    assert "stream 0: 10.0.0.1:40000" in ax.get_title(loc="left") and "3 segments" in ax.get_title(loc="left")


def test_words_along_arrows_do_not_turn_over() -> None:
    ax = ladder(Conversation().opening().read().flow(0))
    turned = [text for text in ax.texts if text.get_transform_rotates_text() and "seq" in text.get_text()]
    assert turned
    for text in turned:
        assert (text.get_rotation() + 90) % 360 < 180, "upside down"


@pytest.mark.parametrize("segments", [10, 1000, 200_000])
def test_long_transfers_are_folded_and_nothing_is_lost(segments: int) -> None:
    flow = MadeFlow(segments)
    begin = time.process_time()
    ax = ladder(flow, max_rows=40)  # type: ignore[arg-type]
    assert time.process_time() - begin < 5
    arrows = len(labelled(ax, "_segment"))
    assert arrows <= 40
    folded = [int(words.split(" segments")[0].replace(",", "")) for words in words_of(ax)
              if " segments, " in words and not words.startswith("stream")]  # fmt: skip
    assert arrows + sum(folded) == segments
    assert len(folded) == len(labelled(ax, "_fold"))


def test_what_is_decisive_keeps_its_row() -> None:
    flow = MadeFlow(5000)
    cells = cells_of(flow)
    weight = weights(cells, {2500})
    shown = chosen(weight, 20)
    assert shown[2499] and weight[2499] == DECISIVE
    placed = items(cells, shown, [])
    assert sum(item.last - item.first + 1 for item in placed) == 5000
    assert [item.first for item in placed] == sorted(item.first for item in placed)
    assert all(above.y + above.height <= below.y + 1e-9 for above, below in pairwise(placed))


def test_too_many_decisive_ones_show_begin_and_end() -> None:
    weight = numpy.full(1000, DECISIVE)
    shown = chosen(weight, 20)
    assert shown[0] and shown[999] and 10 <= shown.sum() <= 20


def test_like_segments_beyond_the_fourth_are_folded_but_the_last() -> None:
    talk = Conversation().opening().send(0, "PA", 46)
    for _ in range(9):
        talk.wait(1).send(0, "PA", 46, again=True)
    ax = ladder(talk.read().flow(0))
    told = [words for words in words_of(ax) if "len 46" in words]
    assert len(told) == 5
    assert any(words.startswith("5 segments") for words in words_of(ax))


def test_timers_and_strangers_have_rows_in_order() -> None:
    cells = cells_of(MadeFlow(4))
    times = cells.time.tolist()
    placed = items(cells, numpy.ones(4, bool), [Other(-1, times[1] + 1), Other(-1, times[3] + 10**9)])
    assert [(item.first, item.last) for item in placed] == [(0, 0), (1, 1), (2, 1), (2, 2), (3, 3), (4, 3)]
    scale = Scale(placed, cells)
    assert placed[1].y < scale.at(-1, times[1] + 1, receiver=False) < placed[3].y + START
    assert placed[-1].pause_ns > 0


def test_pauses_are_marked() -> None:
    ax = ladder(Conversation().opening().send(0, "PA", 5).wait(60).send(1, "PA", 5).closing().read().flow(0))
    assert [text.get_text() for text in labelled(ax, "_pause")] == ["· · ·  60 s  · · ·"]


@pytest.mark.parametrize(("acked", "expected"), [(False, True), (True, False)])
def test_only_what_nobody_acknowledged_is_called_unanswered(acked: bool, expected: bool) -> None:
    talk = Conversation().opening().send(0, "PA", 50)
    if acked:
        talk.send(1, "A")
    flow = talk.wait(1).send(0, "PA", 50, again=True).read().flow(0)
    assert bool(unanswered(cells_of(flow))[3]) is expected


def test_words_of_a_segment() -> None:
    cells = cells_of(MadeFlow(2, label=numpy.array([MARK["retransmission"] | MARK["fast_retransmission"], 0])))
    assert segment_words(cells, 0) == "seq 0 ack 1 len 100  · fast retransmission"
    assert segment_words(cells, 1) == "ACK 100"
    assert call_words("EPIPE", several=False) == " fails: EPIPE"


def test_every_capture_of_the_project_can_be_drawn(captures: Any) -> None:
    paths = sorted(captures.glob("*.pcap*"))
    assert len(paths) >= 20
    for path in paths:
        flow = observer.read(path).flow(0)
        with offscreen():
            ax = flow.plot()
        assert labelled(ax, "_segment")


def test_draws_into_the_users_axes() -> None:
    from matplotlib.figure import Figure

    mine = Figure().add_subplot()
    assert Conversation().opening().read().flow(0).plot(ax=mine) is mine
