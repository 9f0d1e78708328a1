"""One connection as a sequence diagram: time runs downwards, both endpoints' states as lanes, segments as arrows.

Never here: which rows there are (rows.py).  Sources: RFC 9293 3.5, figures 6 to 8, for the layout of such diagrams.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, Final

from observer.plots import style
from observer.plots.connection import AGAIN, ASSUMED, RETRACTED, TIMER, Change, Found, Told, other_words, segment_words
from observer.plots.rows import ARRIVAL, FIN, ROW, RST, START, SYN, Item
from observer.plots.subject import FlowSubject, numbers
from observer.plots.words import count, duration, octets, safe, state_words, utc
from observer.registry import Plot
from observer.schema import ENDPOINTS, STATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_IN: Final = 0.26
"""Height of a row on paper, inches: a line of small text and its arrow."""
WIDTH_IN: Final = 11.0
MAX_ROWS: Final = 40
"""Rows that fit on one page or screen and can be taken in."""
MAX_FINDINGS: Final = 4
TAIL: Final = 1.1
"""Room below the last row, for the states in which it ends."""
LINE: Final = 0.62
"""Height of a line of text above the lanes, in rows."""
WRAP: Final = 165
"""Characters of a line of text above the lanes."""
NOTE_WRAP: Final = 26
"""Characters of a line beside a lane."""
LEAST_IN: Final = 3.8
"""Height of a figure that has room for the label of its axis, inches."""
OTHER_WRAP: Final = 62
"""Characters of a line between the lanes."""
AGAIN_DASHES: Final = (0, (5, 2))
LOST_WORDS: Final = "nothing shows that it arrived: sent again unacknowledged, or retracted"

LANES: Final = ((0.17, 0.27), (0.73, 0.83))
"""Where the client's and the server's lane stand, in widths of the Axes; notes stand outside of them."""


def ladder(flow: FlowSubject, *, ax: Axes | None = None, max_rows: int = MAX_ROWS) -> Axes:
    """Draw one connection as a sequence diagram.

    Parameters
    ----------
    flow
        The connection: an `observer.flow.Flow`.
    ax
        Where to draw; default: a new figure as tall as needed.
    max_rows
        Longer connections are folded to about so many rows.
    """
    told = Told(flow, max_rows)
    head = _head_lines(told)
    top = -(1.6 + LINE * len(head))
    if ax is None:
        ax = style.new_axes(WIDTH_IN, max(LEAST_IN, 1.1 + ROW_IN * (told.scale.bottom - top + TAIL)))
    ax.set_xlim(0, 1)
    ax.set_ylim(told.scale.bottom + TAIL, top)
    style.finish(ax, told.title(), ylabel=f"seconds since its first packet, pauses folded\n({utc(told.begin_ns, 6)})")
    _head(ax, told, head, top)
    for side in (0, 1):
        _lane(ax, told, side)
        _notes(ax, told, side)
    used = {word for item in told.items for word in _item(ax, told, item)}
    _axis(ax, told)
    _legend(ax, told, used)
    return ax


def _head_lines(told: Told) -> list[tuple[str, str, int]]:
    """Return the lines above the lanes: text, severity, number of the finding (0: it goes on)."""
    lines: list[tuple[str, str, int]] = []
    for one in told.found[:MAX_FINDINGS]:
        for i, line in enumerate(textwrap.wrap(one.words, WRAP)):
            lines.append((safe(line), one.severity, 0 if i else one.number))
    if len(told.found) > MAX_FINDINGS:
        lines.append((f"and {count(len(told.found) - MAX_FINDINGS, 'finding')} more", "info", 0))
    return lines


def _head(ax: Axes, told: Told, lines: list[tuple[str, str, int]], top: float) -> None:
    """Write the findings, and who stands where."""
    for i, (words, severity, number) in enumerate(lines):
        y = top + LINE * (i + 0.5)
        if number:
            _badge(ax, 0.008, y, str(number), severity)
        ax.text(0.022, y, words, fontsize=style.SMALL + 0.5, va="center", color=style.INK)
    for side, (left, right) in enumerate(LANES):
        words = f"{ENDPOINTS[side]}\n{told.name(side)}"
        ax.text((left + right) / 2, -0.15, words, ha="center", va="bottom", fontsize=style.NORMAL, color=style.INK)


def _badge(ax: Axes, x: float, y: float, words: str, severity: str) -> None:
    """Mark evidence of a finding by its number."""
    colour = style.SEVERITY_COLOURS[severity]
    box = {"boxstyle": "round,pad=0.22", "facecolor": colour, "edgecolor": style.INK, "linewidth": 0.5}
    ax.text(x, y, words, fontsize=style.SMALL - 1, ha="center", va="center", color=style.text_on(colour), bbox=box,
            zorder=6, label="_evidence")  # fmt: skip


def _lane(ax: Axes, told: Told, side: int) -> None:
    """Colour an endpoint's lane by its state, in hindsight; what was retracted stands narrow beside it."""
    left, right = LANES[side]
    real = [change for change in told.changes[side] if change.certainty != RETRACTED]
    state = real[0].before if real else int(numbers(told.flow, f"{ENDPOINTS[side]}_state")[0])
    certainty, y = -1, 0.0
    for change in [*real, None]:
        stop = told.scale.bottom + TAIL - 0.2 if change is None else told.height(side, change)
        if stop - y > 0.05:
            _block(ax, (left, right), (y, stop), STATES[state], certainty)
        if change is not None:
            state, certainty, y = change.after, change.certainty, max(y, stop)
    inner = (right + 0.002, right + 0.014) if side == 0 else (left - 0.014, left - 0.002)
    for change in told.changes[side]:
        if change.certainty == RETRACTED:
            stop = told.scale.at(change.proof, change.time_ns, receiver=False)
            _strip(ax, inner, (told.height(side, change), max(stop, told.height(side, change) + 0.3)), change)


def _block(ax: Axes, x: tuple[float, float], y: tuple[float, float], name: str, certainty: int) -> None:
    """Draw one stay in a state: paler with a broken edge while it is only assumed."""
    from matplotlib.patches import Rectangle

    look = style.STATE_LOOKS[name]
    unsure = certainty == ASSUMED
    patch = style.state_area(
        Rectangle((x[0], y[0]), x[1] - x[0], y[1] - y[0], zorder=2, label=f"_state {name}"), name, unsure=unsure
    )
    ax.add_patch(patch)
    if y[1] - y[0] < 0.5:
        return
    words = state_words(name) + {ASSUMED: "?", TIMER: " (timer)"}.get(certainty, "")
    plain = not look.hatch and not unsure
    box = None if plain else {"boxstyle": "round,pad=0.12", "facecolor": "#FFFFFF", "edgecolor": "none", "alpha": 0.85}
    ax.text((x[0] + x[1]) / 2, min(y[0] + 0.5, (y[0] + y[1]) / 2), words, fontsize=style.SMALL, ha="center",
            va="center", color=style.text_on(look.colour) if plain else style.BLACK, bbox=box, zorder=4)  # fmt: skip


def _strip(ax: Axes, x: tuple[float, float], y: tuple[float, float], change: Change) -> None:
    """Draw a stay that was believed and then retracted."""
    from matplotlib.patches import Rectangle

    name = STATES[change.after]
    colour = style.STATE_COLOURS[name]
    patch = Rectangle((x[0], y[0]), x[1] - x[0], y[1] - y[0], facecolor=colour, alpha=0.5, zorder=3)
    patch.set(edgecolor=style.INK, linewidth=0.7, linestyle=":", label=f"_retracted {name}")
    ax.add_patch(patch)


def _notes(ax: Axes, told: Told, side: int) -> None:
    """Write beside the lane what the application's calls did, and what was retracted."""
    free = 0.0
    x, align = (LANES[0][0] - 0.008, "right") if side == 0 else (LANES[1][1] + 0.008, "left")
    for wanted, words, slant in told.notes(side):
        lines = textwrap.wrap(words, NOTE_WRAP)
        y = max(wanted, free)
        above = "center_baseline" if len(lines) == 1 else "top"
        ax.text(x, y, "\n".join(map(safe, lines)), fontsize=style.SMALL, ha=align, va=above, style=slant,
                color=style.INK, linespacing=1.05)  # fmt: skip
        free = y + 0.5 * len(lines) + 0.1


def _item(ax: Axes, told: Told, item: Item) -> set[str]:
    """Draw one row; returns what the legend must explain."""
    channel = (LANES[0][1] + LANES[1][0]) / 2
    if item.pause_ns:
        ax.text(channel, item.y - 0.4, f"· · ·  {duration(item.pause_ns)}  · · ·", ha="center", va="center",
                fontsize=style.SMALL, color=style.FAINT, label="_pause")  # fmt: skip
    if item.is_segment:
        return _arrow(ax, told, item)
    if item.is_fold:
        _fold(ax, told, item)
        return set()
    lines = textwrap.wrap(other_words(told, item.frame, item.time_ns), OTHER_WRAP)
    ax.text(channel, item.y + ROW / 2, "\n".join(lines), ha="center", va="center", fontsize=style.SMALL, style="italic",
            color=style.INK, linespacing=1.05, label="_timer")  # fmt: skip
    marks = told.marks(item.frame)
    if marks:
        _badge(ax, LANES[0][1] + 0.024, item.y + ROW / 2, _numbers(marks), marks[0].severity)
    return {"evidence"} if marks else set()


def _arrow(ax: Axes, told: Told, item: Item) -> set[str]:
    """Draw a segment: from its sender downwards to its receiver."""
    cells, i = told.cells, item.first
    side, again = int(cells.direction[i]), bool(int(cells.label[i]) & AGAIN)
    sign = 1 if side == 0 else -1
    begin, end = LANES[side][1 - side] + 0.004 * sign, LANES[1 - side][side] - 0.004 * sign
    y0, y1 = item.y + START, item.y + ARRIVAL
    retracted = any(change.frame == item.frame and change.certainty == RETRACTED for change in told.changes[1 - side])
    lost = retracted or bool(told.unanswered[i])
    if lost:
        end, y1 = begin + 0.9 * (end - begin), y0 + 0.9 * (y1 - y0)
        ax.plot([end], [y1], marker="x", color=style.VERMILLION, markersize=6, markeredgewidth=1.6, zorder=5,
                label="_lost")  # fmt: skip
    reset = bool(int(cells.flags[i]) & RST)
    quiet = not (int(cells.length[i]) or int(cells.flags[i]) & (SYN | FIN | RST))
    colour = style.VERMILLION if reset or again else style.FAINT if quiet else style.INK
    look = {"arrowstyle": "-" if lost else "-|>", "color": colour, "linewidth": 1.6 if reset else 0.7 if quiet else 1.1,
            "linestyle": AGAIN_DASHES if again else "-", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}  # fmt: skip
    ax.annotate("", xy=(end, y1), xytext=(begin, y0), arrowprops=look, zorder=3, label="_segment")
    words_colour = style.FAINT if quiet and not int(cells.label[i]) else style.INK
    ax.text((LANES[0][1] + LANES[1][0]) / 2, item.y + (START + ARRIVAL) / 2 - 0.06, segment_words(cells, i),
            ha="center", va="bottom", fontsize=style.SMALL, color=words_colour, zorder=5, rotation=_slope(sign),
            rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    marks = told.marks(item.frame)
    if marks:
        _badge(ax, begin + 0.02 * sign, y0 + 0.05, _numbers(marks), marks[0].severity)
    signs = {"again": again, "lost": lost, "evidence": bool(marks)}
    return {name for name, there in signs.items() if there}


def _numbers(marks: list[Found]) -> str:
    return ",".join(str(one.number) for one in marks)


def _slope(sign: int) -> float:
    """Return the angle of an arrow in the Axes' own units, so that its words run along it; sign: 1 to the right."""
    return math.degrees(math.atan2((ARRIVAL - START) * sign, LANES[1][0] - LANES[0][1]))


def _fold(ax: Axes, told: Told, item: Item) -> None:
    """Draw many segments as one band that counts them."""
    from matplotlib.patches import Rectangle

    x0, x1 = LANES[0][1] + 0.01, LANES[1][0] - 0.01
    y0, y1 = item.y + 0.25, item.y + item.height - 0.05
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor="#F4F4F4", edgecolor=style.FAINT, linewidth=0.6,
                           linestyle=(0, (2, 2)), zorder=1, label="_fold"))  # fmt: skip
    part = slice(item.first, item.last + 1)
    direction, length = told.cells.direction[part], told.cells.length[part]
    sent = [f"{arrow} {octets(int(length[direction == side].sum()))} in {int((direction == side).sum()):,}"
            for side, arrow in ((0, "→"), (1, "←"))]  # fmt: skip
    span = int(told.cells.time[item.last] - told.cells.time[item.first])
    total = item.last - item.first + 1
    lines = [f"{total:,} segments, {octets(int(length.sum()))}, in {duration(max(0, span))}", "   ".join(sent)]
    again = int(((told.cells.label[part] & AGAIN) != 0).sum())
    lines[1] += f"   {again:,} sent again" * bool(again)
    frames = set(told.cells.frame[part].tolist()) if told.found else set()
    proved = [one for one in told.found if not frames.isdisjoint(one.frames)]
    lines[1] += f"   proves finding {_numbers(proved)}" * bool(proved)
    for k, line in enumerate(lines):
        ax.text((x0 + x1) / 2, y0 + (y1 - y0) * (0.3 + 0.42 * k), line, ha="center", va="center",
                fontsize=style.SMALL, color=style.INK)  # fmt: skip


def _axis(ax: Axes, told: Told) -> None:
    """Write time and frame of each row at the axis."""
    span = max((item.time_ns for item in told.items), default=0) - told.begin_ns
    digits = 6 if span < 1000 * 10**9 else 3
    ticks, labels = [], []
    widest = max(5, len(str(max((item.frame for item in told.items), default=0))) + 1)
    for item in told.items:
        ticks.append(item.y + (START if item.is_segment else item.height / 2))
        seconds = f"{(item.time_ns - told.begin_ns) / 1e9:.{digits}f}"
        frame = f"#{item.frame}" if item.frame >= 0 else "timer"
        if item.is_fold:
            frame = f"#{item.frame}+"
        labels.append(f"{seconds}  {frame:>{widest}}")
    ax.set_yticks(ticks, labels, fontsize=style.SMALL, family="monospace")
    ax.set_xticks([])
    ax.tick_params(axis="y", length=2)
    ax.spines["bottom"].set_visible(False)


def _legend(ax: Axes, told: Told, used: set[str]) -> None:
    """Explain the signs that occur."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if "again" in used:
        handles.append(Line2D([], [], color=style.VERMILLION, linestyle=AGAIN_DASHES, label="sent again"))
    if "lost" in used:
        handles.append(Line2D([], [], color=style.VERMILLION, marker="x", linestyle="", label=LOST_WORDS))
    changes = told.changes[0] + told.changes[1]
    if any(change.certainty == ASSUMED for change in changes):
        handles.append(Patch(facecolor="#FFFFFF", edgecolor=style.INK, linestyle="--", label="? assumed, not proved"))
    if any(change.certainty == RETRACTED for change in changes):
        handles.append(Patch(facecolor="#FFFFFF", edgecolor=style.INK, linestyle=":", label="assumed, then retracted"))
    if "evidence" in used:
        handles.append(Line2D([], [], color=style.VERMILLION, marker="s", linestyle="", label="frame proves finding n"))
    if handles:
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(handles), frameon=False,
                  fontsize=style.SMALL, borderaxespad=0.2)  # fmt: skip


LADDER: Final = Plot(
    name="ladder",
    title="sequence diagram",
    doc="One connection: both endpoints' states as lanes over time, segments as arrows, findings and calls beside.",
    scope="flow",
    draw=ladder,
)
