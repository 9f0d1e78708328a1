"""One look for a state everywhere, told apart without colour and by colour-blind people; texts that act on nothing."""

from __future__ import annotations

from itertools import combinations

import numpy
import pytest

from observer.plots import style
from observer.plots.style import CYCLE, ENDPOINT_COLOURS, STATE_LOOKS, clock, luminance, new_axes, offscreen, text_on
from observer.plots.words import safe
from observer.schema import SEVERITIES, STATES
from tests.plots.conversation import BEGIN_S

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# severity 1.0, on linear RGB.
BLIND = {
    "none": numpy.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = numpy.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, blind: str) -> numpy.ndarray:
    """CIE 1976 L*a*b* of "#RRGGBB" as people with that vision see it (D65)."""
    parts = numpy.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = numpy.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ numpy.clip(numpy.array(BLIND[blind]) @ linear, 0, 1) / numpy.array([0.9505, 1.0, 1.089])
    f = numpy.where(xyz > 0.008856, numpy.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return numpy.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_state_and_severity_has_a_look() -> None:
    assert tuple(STATE_LOOKS) == STATES
    assert set(style.SEVERITY_LOOKS) == set(SEVERITIES)
    assert len(set(STATE_LOOKS.values())) == len(STATES)


@pytest.mark.parametrize("blind", BLIND)
@pytest.mark.parametrize("looks", [list(STATE_LOOKS.values()), list(CYCLE)], ids=["states", "cycle"])
def test_looks_are_told_apart_by_everybody(looks: list[style.Look], blind: str) -> None:
    for one, other in combinations(looks, 2):
        far = float(numpy.linalg.norm(lab(one.colour, blind) - lab(other.colour, blind)))
        assert far >= 10 or one.hatch != other.hatch, (one, other, far)


def test_looks_are_told_apart_in_black_and_white() -> None:
    for one, other in combinations(STATE_LOOKS.values(), 2):
        lightness = abs(lab(one.colour, "none")[0] - lab(other.colour, "none")[0])
        assert lightness >= 8 or one.hatch != other.hatch, (one, other, lightness)


@pytest.mark.parametrize("colour", [*style.STATE_COLOURS.values(), *style.SEVERITY_COLOURS.values()])
def test_text_on_a_colour_can_be_read(colour: str) -> None:
    light, dark = sorted((luminance(colour), luminance(text_on(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2.1, 1.4.3"


@pytest.mark.parametrize("colour", [style.INK, style.FAINT])
def test_text_on_white_can_be_read(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_sides_differ_in_colour_and_line() -> None:
    assert len(set(ENDPOINT_COLOURS.values())) == len(set(style.ENDPOINT_LINES.values())) == 2


@pytest.mark.parametrize("text", ["$x^2$", "a$b", r"\frac$1$", "\x1b[31mred", "a\u202eb", "x" * 5000])
def test_texts_of_a_capture_are_drawn_as_they_stand(text: str) -> None:
    with offscreen():
        ax = new_axes(3, 2)
    ax.set_title(safe(text))
    drawn = ax.title
    words, is_mathematics = drawn._preprocess_math(drawn.get_text())
    assert is_mathematics is False
    assert words.isprintable() and len(words) < 2000
    assert words.count("$") == min(text.count("$"), 300)
    ax.figure.draw_without_rendering()


def test_clock_counts_from_its_origin() -> None:
    begin = int(BEGIN_S) * 10**9
    one = clock(begin, begin + 10 * 10**9)
    assert one.of(numpy.array([begin, begin + 2_500_000_000])).tolist() == [0.0, 2.5]
    assert one.label() == "seconds since the first packet (2026-11-18 11:06:40.000000 UTC)"


def test_offscreen_figures_are_unknown_to_pyplot() -> None:
    from matplotlib import pyplot

    with offscreen():
        hidden = new_axes()
    shown = new_axes()
    assert hidden.figure not in [pyplot.figure(number) for number in pyplot.get_fignums()]
    assert shown.figure.number in pyplot.get_fignums()  # type: ignore[union-attr]
