"""How pictures look: the same colour for a state everywhere, and helpers for figures and time axes.

Every colour comes with a hatch or a line style, so that pictures read in black and white.  A figure that a plot makes
itself comes from `new_axes`.

Never here: anything that looks at a table.  Sources: M. Okabe and K. Ito, "Color Universal Design" (2008), for the
palette; P. Tol, "Colour Schemes" (2021), for the two dark tones beside it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from observer.plots.words import safe, state_words, utc
from observer.schema import STATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLACK: Final = "#000000"
INK: Final = "#222222"
"""Text and axes."""
FAINT: Final = "#767676"
"""What is said by the way; 4.5 : 1 on white (WCAG 2.1, 1.4.3)."""
RULE: Final = "#D0D0D0"
HATCH_INK: Final = "#00000080"
"""Hatches and edges of areas: visible, and quieter than text."""
HATCH_POINTS: Final = 0.6
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
OLIVE: Final = "#8F8600"
WINE: Final = "#882255"

SMALL: Final = 7.0
NORMAL: Final = 8.5
LARGE: Final = 10.0
"""Sizes of text, points."""
TITLE_SHARE: Final = 0.85
"""Of the figure's width: what is left of it beside the labels of the vertical axis."""
BELOW_PT: Final = 36.0
"""From the bottom of an Axes to a legend below tick labels and axis label, points."""
EMPTY: Final = "observer-empty"
"""Id (matplotlib's gid) of an Axes that only says why there is nothing to see."""


class Look(NamedTuple):
    """How an area looks: its colour, and the hatch that tells it apart without colour."""

    colour: str
    hatch: str


STATE_LOOKS: Final[dict[str, Look]] = {
    "CLOSED": Look("#E4E4E4", ""),
    "LISTEN": Look("#FFFFFF", ".."),
    "SYN_SENT": Look(SKY, "///"),
    "SYN_RECEIVED": Look(ORANGE, "\\\\\\"),
    "ESTABLISHED": Look(GREEN, ""),
    "FIN_WAIT_1": Look(YELLOW, "--"),
    "FIN_WAIT_2": Look(OLIVE, "///"),
    "CLOSE_WAIT": Look(VERMILLION, "xxx"),
    "CLOSING": Look(WINE, "oo"),
    "LAST_ACK": Look(PURPLE, "|||"),
    "TIME_WAIT": Look(BLUE, ".."),
    "UNKNOWN": Look("#FFFFFF", "xx"),
}
"""By name of the state.  Neighbours in the life of a connection differ in hue and in lightness."""
STATE_COLOURS: Final[dict[str, str]] = {name: look.colour for name, look in STATE_LOOKS.items()}
STATE_HATCHES: Final[dict[str, str]] = {name: look.hatch for name, look in STATE_LOOKS.items()}

SEVERITY_LOOKS: Final[dict[str, Look]] = {
    "problem": Look(VERMILLION, "xxx"),
    "warning": Look(ORANGE, "///"),
    "info": Look(SKY, ".."),
}
SEVERITY_COLOURS: Final[dict[str, str]] = {name: look.colour for name, look in SEVERITY_LOOKS.items()}

ENDPOINT_COLOURS: Final[dict[str, str]] = {"client": BLUE, "server": VERMILLION}
ENDPOINT_LINES: Final[dict[str, str]] = {"client": "-", "server": "--"}
"""The two sides of a connection where they are drawn as lines."""

CYCLE: Final = (
    Look(BLUE, ""), Look(ORANGE, "///"), Look(GREEN, "..") , Look(PURPLE, "\\\\\\"), Look(SKY, "xx"),
    Look(VERMILLION, "--"), Look(OLIVE, "||"), Look(WINE, "oo"), Look(YELLOW, "++"), Look("#9A9A9A", ""),
)  # fmt: skip
"""Looks of things that have none of their own (hosts, services), in order."""


def text_on(colour: str) -> str:
    """Return the colour of text that reads on a background "#RRGGBB": black or white.

    Examples
    --------
    >>> text_on("#F0E442"), text_on("#0072B2")
    ('#000000', '#FFFFFF')
    """
    return BLACK if luminance(colour) > 0.179 else "#FFFFFF"  # where both contrast alike: sqrt(1.05 * 0.05) - 0.05


def luminance(colour: str) -> float:
    """Return the relative luminance of "#RRGGBB", 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def state_patch(name: str, label: str | None = None) -> Any:
    """Return the patch that stands for a state in a legend."""
    from matplotlib.patches import Patch

    return state_area(Patch(label=state_words(name) if label is None else safe(label)), name)


def state_area(patch: Any, name: str, *, unsure: bool = False) -> Any:
    """Give a patch the look of a state and return it; unsure: paler, with a broken edge."""
    look = STATE_LOOKS[name]
    patch.set(facecolor=look.colour, hatch=look.hatch, edgecolor=HATCH_INK, linewidth=0.6,
              linestyle="--" if unsure else "-", alpha=None)  # fmt: skip
    if unsure:
        patch.set_facecolor((*(int(look.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.5))
    if hasattr(patch, "set_hatch_linewidth"):  # matplotlib 3.10
        patch.set_hatch_linewidth(HATCH_POINTS)
    return patch


def states_in_order(names: Any) -> list[str]:
    """Return the states among these names, each once, in the order of a connection's life."""
    present = set(names)
    return [name for name in STATES if name in present]


# --- figures and axes -----------------------------------------------------------------------------------------
_OFFSCREEN: ContextVar[bool] = ContextVar("observer_plots_offscreen", default=False)


@contextmanager
def offscreen() -> Iterator[None]:
    """Make figures that no window and no notebook knows of, for files."""
    token = _OFFSCREEN.set(True)
    try:
        yield
    finally:
        _OFFSCREEN.reset(token)


def new_axes(width_in: float = 9.0, height_in: float = 5.0) -> Axes:
    """Make a figure with one Axes; sizes in inches."""
    if _OFFSCREEN.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width_in, height_in), layout="constrained").add_subplot()
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width_in, height_in), layout="constrained")[1]


def finish(ax: Axes, title: str, *, xlabel: str = "", ylabel: str = "", grid: str = "") -> None:
    """Set title and labels (safe already, or passed through `safe`), text sizes, quiet spines, and a grid.

    grid: "x", "y", "both" or "" for none.
    """
    ax.set_title(fitted(ax, title), fontsize=LARGE, loc="left", color=INK)
    if xlabel:
        ax.set_xlabel(xlabel, fontsize=NORMAL, color=INK)
    if ylabel:
        ax.set_ylabel(ylabel, fontsize=NORMAL, color=INK)
    ax.tick_params(labelsize=SMALL + 0.5, colors=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if grid:
        ax.set_axisbelow(True)
        ax.grid(axis=grid, color=RULE, linewidth=0.5)  # type: ignore[arg-type]


def fitted(ax: Axes, title: str) -> str:
    """Break a title into lines that fit into the figure: two IPv6 addresses may be longer than it is wide."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(size=LARGE)
    width_pt = TextToPath().get_text_width_height_descent(title.replace(r"\$", "$"), font, False)[0]
    room_pt = TITLE_SHARE * ax.figure.get_figwidth() * 72  # type: ignore[union-attr]
    if width_pt <= room_pt:
        return title
    letters = max(30, int(len(title) * room_pt / width_pt))
    return "\n".join(textwrap.wrap(title, letters, break_long_words=False, break_on_hyphens=False))


def empty(ax: Axes, title: str, words: str) -> Axes:
    """Say in an Axes why there is nothing to see; its id is `EMPTY` then."""
    ax.set_gid(EMPTY)
    ax.set_axis_off()
    ax.set_title(fitted(ax, title), fontsize=LARGE, loc="left", color=INK)
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", fontsize=NORMAL, color=FAINT)
    return ax


def whole_numbers(most: int = 8) -> Any:
    """Return a locator of ticks at whole, round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True)


class Clock(NamedTuple):
    """A time axis: its origin, and the unit in which it counts.

    Attributes
    ----------
    begin_ns
        What counts as 0, ns since 1970 UTC.
    unit_ns
        Length of the unit.
    unit
        Its name, plural.
    """

    begin_ns: int
    unit_ns: int
    unit: str

    def of(self, time_ns: Any) -> Any:
        """Return times (ns since 1970; a number or an array) as positions on the axis."""
        return (time_ns - self.begin_ns) / self.unit_ns

    def label(self, since: str = "the first packet") -> str:
        """Return the label of the axis, with the origin in UTC."""
        return f"{self.unit} since {since} ({utc(self.begin_ns, 6)})"


def clock(begin_ns: int, end_ns: int) -> Clock:
    """Choose the unit for a span: seconds as a rule, smaller or larger ones where seconds would not be read.

    Examples
    --------
    >>> clock(0, 12 * 10**9).unit, clock(0, 5 * 10**6).unit, clock(0, 10**14).unit
    ('seconds', 'milliseconds', 'hours')
    """
    span = end_ns - begin_ns
    for limit, unit_ns, unit in (
        (10**6, 10**3, "microseconds"), (10**8, 10**6, "milliseconds"), (2 * 3600 * 10**9, 10**9, "seconds"),
        (4 * 86_400 * 10**9, 3600 * 10**9, "hours"),
    ):  # fmt: skip
        if span < limit:
            return Clock(begin_ns, unit_ns, unit)
    return Clock(begin_ns, 86_400 * 10**9, "days")


def legend(ax: Axes, handles: Any, *, columns: int = 1, title: str = "", place: str = "right") -> None:
    """Put a legend beside the Axes ("right"), or under it ("below"): never over the data."""
    if not handles:
        return
    from matplotlib.transforms import ScaledTranslation

    under_label = ax.transAxes + ScaledTranslation(0, -BELOW_PT / 72, ax.figure.dpi_scale_trans)
    places: dict[str, dict[str, Any]] = {
        "right": {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)},
        "below": {"loc": "upper left", "bbox_to_anchor": (0.0, 0.0), "bbox_transform": under_label},
    }
    made = ax.legend(
        handles=handles, fontsize=SMALL + 0.5, frameon=False, ncols=columns, title=title or None, handlelength=1.8,
        handleheight=1.1, borderaxespad=0.0, **places[place],
    )  # fmt: skip
    made.set_alignment("left")
    made.get_title().set_fontsize(SMALL + 0.5)
