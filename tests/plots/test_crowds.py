"""All pictures of whole captures: bounded, labelled, nothing cut, nothing on each other, texts that act on nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import observer
from observer.errors import OptionError
from observer.plots import draw, style
from observer.registry import Plot, collect
from observer.schema import STATES, Coded, Columns
from tests.plots.conversation import queue_full, words_of
from tests.plots.crowd import clipped, crowd, empty, long_addresses, on_each_other, one

WHOLE = [name for name, plot in collect(Plot).items() if plot.scope == "observation"]
MOST_ARTISTS = 2500
"""Of a picture with its axes, ticks and texts; 1,500 connections have some 20,000 changes of state."""


@pytest.fixture(scope="module")
def many() -> Any:
    return crowd(1500)


MAKERS: dict[str, Callable[[], Any]] = {
    "empty": empty, "one": one, "queue full": lambda: queue_full().read(), "long addresses": long_addresses,
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", MAKERS)
def test_small_captures_are_drawn(name: str, kind: str) -> None:
    ax = draw(name, MAKERS[kind]())
    assert ax.get_title(loc="left")
    assert clipped(ax) == []
    if ax.axison:
        assert ax.get_xlabel() or ax.get_ylabel()


@pytest.mark.parametrize("name", ["ladder", "sequence"])
@pytest.mark.parametrize("stream", [0, 1, 3])
def test_one_connection_of_long_addresses_is_drawn(name: str, stream: int) -> None:
    assert clipped(draw(name, long_addresses().flow(stream))) == []


@pytest.mark.parametrize("name", WHOLE)
def test_many_connections_are_drawn_together(name: str, many: Any) -> None:
    ax = draw(name, many, **({"listener": "all"} if name == "population" else {}))
    assert len(ax.figure.findobj()) < MOST_ARTISTS
    assert "1,500" in " ".join(words_of(ax)), "says how many"
    assert clipped(ax) == []


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"states"}))
def test_no_text_lies_on_another(name: str, many: Any, captures: Path) -> None:
    for observation in (many, observer.read(captures / "accept-queue-full.pcap")):
        assert on_each_other(draw(name, observation)) == []


@pytest.mark.parametrize("name", WHOLE)
def test_the_users_axes_are_drawn_into(name: str) -> None:
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    before = pyplot.get_fignums()
    for observation in (queue_full().read(), empty()):
        figure = Figure(figsize=(9, 5))
        mine = figure.add_subplot()
        assert draw(name, observation, ax=mine) is mine
        assert figure.axes == [mine]
    assert pyplot.get_fignums() == before, "no figure beside the user's"


@pytest.mark.parametrize("name", WHOLE)
def test_an_option_that_is_not_there_names_those_that_are(name: str) -> None:
    with pytest.raises(OptionError, match=f"(?s){name}.*colour.*(there are|there is none)"):
        draw(name, one(), colour="red")


class Hostile:
    """An observation whose texts try to be mathematics, and to act."""

    TEXT = "$\\frac{a}$\x1b[31m\u202e_b^"

    def __init__(self, observation: Any) -> None:
        self._observation = observation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observation, name)

    def columns(self, table: str) -> Columns:
        columns = self._observation.columns(table)
        source = {name: self._bad(name, columns[name]) for name in columns}
        return Columns(table, columns.rows, source, columns.addresses)

    def _bad(self, name: str, raw: Any) -> Any:
        if name in ("code", "class", "cause", "summary") and isinstance(raw, Coded):
            return Coded(raw.codes, [self.TEXT + text for text in raw.values])
        return raw


@pytest.mark.parametrize("name", WHOLE)
def test_texts_act_on_nothing(name: str, captures: Path) -> None:
    subject = Hostile(observer.read(captures / "accept-queue-full.pcap"))
    ax = draw(name, subject)
    ax.figure.canvas.draw()  # type: ignore[attr-defined]
    for text in ax.figure.findobj(match=lambda artist: hasattr(artist, "_preprocess_math")):
        words, is_mathematics = text._preprocess_math(text.get_text())  # type: ignore[attr-defined]
        assert not is_mathematics
        assert words.replace("\n", "").isprintable()


def test_a_state_looks_alike_in_all_pictures() -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_hex

    observation = queue_full().read()
    for name in ("lanes", "population"):
        areas = {area.get_label(): area for area in draw(name, observation).findobj(PolyCollection)}
        known = set(areas) & set(STATES)
        assert {"SYN_RECEIVED", "ESTABLISHED"} <= known
        for state in known:
            assert to_hex(areas[state].get_facecolor()[0]).upper() == style.STATE_COLOURS[state]
            assert (areas[state].get_hatch() or "") == style.STATE_HATCHES[state]


def test_colours_of_grouped_lanes_are_those_of_the_states(many: Any) -> None:
    image = draw("lanes", many).images[0].get_array()
    shown = {tuple(colour) for colour in numpy.unique(numpy.asarray(image).reshape(-1, 3), axis=0).tolist()}
    known = {(255, 255, 255)}
    for colour in style.STATE_COLOURS.values():
        parts = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        known |= {parts, tuple(part // 2 for part in parts)}
    assert shown <= known
