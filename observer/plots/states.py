"""The state machine of RFC 9293 as a diagram, with the transitions of a capture counted on its arrows.

The arrows are the rows of the machine, which the caller hands over or the observation knows; only where the boxes stand
is decided here.  What leads from any state to CLOSED alike (RST, ICMP, time-out, replacement) is told beside the state:
as arrows it would hide the rest.

Never here: a transition.  Sources: RFC 9293 3.3.2, figure 5, for the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import style
from observer.plots.subject import Machine, ObservationSubject, numbers
from observer.plots.words import count, safe, state_words
from observer.registry import Plot
from observer.schema import CERTAINTIES, ENDPOINTS, STATES, Coded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACES: Final = {
    "CLOSED": (5.0, 0.3), "LISTEN": (1.3, 1.2), "UNKNOWN": (0.7, 4.7), "SYN_RECEIVED": (2.4, 2.8),
    "SYN_SENT": (7.6, 2.8), "ESTABLISHED": (5.0, 4.7), "FIN_WAIT_1": (2.4, 6.4), "CLOSE_WAIT": (7.6, 6.4),
    "FIN_WAIT_2": (1.1, 8.4), "CLOSING": (4.9, 8.4), "LAST_ACK": (7.6, 8.4), "TIME_WAIT": (2.7, 10.2),
    "END": (7.6, 10.2),
}  # fmt: skip
"""Centres of the boxes, x to the right, y downwards, as in figure 5; END is CLOSED once more, where lives end."""
EARLY: Final = ("CLOSED", "LISTEN", "UNKNOWN", "SYN_RECEIVED", "SYN_SENT")
"""What leads from these back to CLOSED goes to the upper box."""
LABELS_AT: Final = {
    ("LISTEN", "SYN_SENT"): 0.7, ("UNKNOWN", "SYN_SENT"): 0.76, ("SYN_RECEIVED", "FIN_WAIT_1"): 0.36,
    ("FIN_WAIT_2", "END"): 0.72,
}  # fmt: skip
"""Where words stand on arrows whose middle is taken, as a share of their length."""
ASIDE: Final = {"UNKNOWN": "below", "TIME_WAIT": "below", "SYN_RECEIVED": "left"}
"""Where the words about a state stand if arrows leave it to the right, where they stand as a rule."""
BOX: Final = (1.75, 0.62)
SHARED: Final = 8
"""An event that leads to the same state from so many states is told beside them, not drawn."""
GAP: Final = 0.11
"""Between the client's and the server's arrow."""
BEND: Final = 0.28
"""How much two arrows between the same two states bend apart, as a share of their length."""
BENDS: Final = {("SYN_RECEIVED", "CLOSE_WAIT"): 0.42}
"""What would run through a box on a straight line."""
RETRACTED: Final = CERTAINTIES.index("retracted")


class Edge(NamedTuple):
    """What leads from one state to another: the events, and how often each side went there."""

    before: str
    after: str
    events: tuple[str, ...]
    counts: tuple[int, int]


class Counted(NamedTuple):
    """The transitions of a capture by (from, to, cause), for client and server; final states; rows left out."""

    steps: dict[tuple[str, str, str], tuple[int, int]]
    final: dict[str, tuple[int, int]]
    connections: int
    retracted: int


def counted(subject: ObservationSubject) -> Counted:
    """Count what happened, in hindsight: retracted transitions are left out."""
    table = subject.columns("transitions")
    kept = numbers(table, "certainty") != RETRACTED
    coded: Coded = table["cause"]
    causes = numpy.asarray(coded.codes, numpy.int64)
    size = len(coded.values) + 1
    key = numbers(table, "from_state") * len(STATES) + numbers(table, "to_state")
    key = (key * size + causes + 1) * 2 + numbers(table, "endpoint")
    steps: dict[tuple[str, str, str], tuple[int, int]] = {}
    tallies = numpy.bincount(key[kept])
    for place in numpy.flatnonzero(tallies).tolist():
        rest, side = divmod(place, 2)
        pair, cause = divmod(rest, size)
        name = (STATES[pair // len(STATES)], STATES[pair % len(STATES)], coded.values[cause - 1] if cause else "")
        both = steps.get(name, (0, 0))
        steps[name] = _plus(both, (int(tallies[place]), 0) if side == 0 else (0, int(tallies[place])))
    flows = subject.columns("flows")
    ends = [numpy.bincount(numbers(flows, f"{side}_state"), minlength=len(STATES)) for side in ENDPOINTS]
    final = {name: (int(ends[0][code]), int(ends[1][code])) for code, name in enumerate(STATES)}
    return Counted(steps, final, flows.rows, int((~kept).sum()))


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def edges(machine: Machine, happened: Counted | None) -> tuple[list[Edge], list[Edge]]:
    """Return the arrows to draw, and what is told beside the states (only if it happened)."""
    rows = [(STATES[rule.state], STATES[rule.to], machine.events[rule.event]) for rule in machine.rules]
    alike: dict[tuple[str, str], int] = {}
    for _, after, event in rows:
        alike[after, event] = alike.get((after, event), 0) + 1
    steps = happened.steps if happened else {}
    for row in steps:  # what the machine does not have would be an error of the observer: it must not be hidden
        if row not in rows:
            rows.append(row)
    together: dict[tuple[str, str], Edge] = {}
    beside: list[Edge] = []
    for before, after, event in rows:
        counts = steps.get((before, after, event), (0, 0))
        if alike.get((after, event), 0) >= SHARED:
            beside += [Edge(before, after, (event,), counts)] * (sum(counts) > 0)
            continue
        known = together.get((before, after), Edge(before, after, (), (0, 0)))
        events = (*known.events, event) if event not in known.events else known.events
        together[before, after] = known._replace(events=events, counts=_plus(known.counts, counts))
    return list(together.values()), beside


def states(
    subject: ObservationSubject | None = None, *, ax: Axes | None = None, machine: Machine | None = None
) -> Axes:
    """Draw the state machine, with the counts of a capture on its arrows.

    Parameters
    ----------
    subject
        The observation whose transitions are counted; None: the machine alone.
    ax
        Where to draw; default: a new figure.
    machine
        The rows to draw; default: the observation's.

    Raises
    ------
    OptionError
        If there is neither an observation nor a machine.
    """
    machine = machine or (subject.machine if subject is not None else None)
    if machine is None:
        raise OptionError("the state diagram needs an observation, or the rows of the machine: states(machine=...)")
    happened = counted(subject) if subject is not None else None
    drawn, beside = edges(machine, happened)
    ax = ax or style.new_axes(11.0, 10.5)
    ax.set_xlim(-0.4, 10.4)
    ax.set_ylim(10.9, -0.3)
    ax.set_axis_off()
    title = "The state machine of one endpoint (RFC 9293)"
    if happened:
        title += f" in {count(happened.connections, 'connection')}: transitions of clients and servers"
        title += f", {happened.retracted:,} retracted left out" * bool(happened.retracted)
    ax.set_title(title, fontsize=style.LARGE, loc="left", color=style.INK)
    for edge in drawn:
        _edge(ax, edge, drawn, with_counts=happened is not None)
    for name in (*STATES, "END"):
        _box(ax, name, happened, [edge for edge in beside if edge.before == name])
    _legend(ax, with_counts=happened is not None)
    return ax


def _side_text(counts: tuple[int, int]) -> str:
    return "   ".join(f"{word[0].upper()} {n:,}" for word, n in zip(ENDPOINTS, counts, strict=True) if n)


def _box(ax: Axes, name: str, happened: Counted | None, beside: Sequence[Edge]) -> None:
    """Draw a state: how many endpoints ended in it, and what led from it to CLOSED as from any state."""
    from matplotlib.patches import FancyBboxPatch

    real = "CLOSED" if name == "END" else name
    x, y = PLACES[name]
    patch = FancyBboxPatch((x - BOX[0] / 2, y - BOX[1] / 2), *BOX, boxstyle="round,pad=0,rounding_size=0.14", zorder=4)
    patch.set_label(f"_state {name}")
    ax.add_patch(style.state_area(patch, real))
    final = happened.final.get(real, (0, 0)) if happened and name != "CLOSED" else (0, 0)
    white = {"boxstyle": "round,pad=0.15", "facecolor": "#FFFFFF", "edgecolor": "none", "alpha": 0.88}
    words = state_words(real) + (f"\nend: {_side_text(final)}" if any(final) else "")
    ax.text(x, y, words, ha="center", va="center", fontsize=style.NORMAL - 0.8, color=style.BLACK, bbox=white, zorder=5,
            linespacing=1.2)  # fmt: skip
    if beside:
        lines = "\n".join(f"→ CLOSED  {safe(edge.events[0])}  {_side_text(edge.counts)}" for edge in beside)
        quiet = {**white, "boxstyle": "square,pad=0.15", "alpha": 0.8}
        dx, dy = BOX[0] / 2, BOX[1] / 2
        where, align, above = {
            "right": ((x + dx + 0.08, y), "left", "center"),
            "left": ((x - dx - 0.08, y), "right", "center"),
            "below": ((x - dx, y + dy + 0.08), "left", "top"),
        }[ASIDE.get(name, "right")]
        ax.text(*where, lines, ha=align, va=above, fontsize=style.SMALL, color=style.INK, zorder=6, linespacing=1.25,
                label="_beside", bbox=quiet)  # fmt: skip


def _edge(ax: Axes, edge: Edge, drawn: Sequence[Edge], *, with_counts: bool) -> None:
    """Draw an arrow, or one for each side that went there; widths tell how often."""
    end = "END" if edge.after == "CLOSED" and edge.before not in EARLY else edge.after
    start, stop = numpy.array(PLACES[edge.before]), numpy.array(PLACES[end])
    both_ways = any((other.before, other.after) == (end, edge.before) for other in drawn)
    bend = BENDS.get((edge.before, end), BEND if both_ways else 0.0)
    across = numpy.array([stop[1] - start[1], start[0] - stop[0]])
    across = across / max(1e-9, float(numpy.hypot(*across)))
    sides = [side for side in (0, 1) if edge.counts[side]]
    for side in sides or [-1]:
        shift = across * GAP * ((side * 2 - 1) if len(sides) == 2 else 0)
        _arrow(ax, (start, stop), shift, bend, side, edge.counts[side] if side >= 0 else 0)
    t = LABELS_AT.get((edge.before, end), 0.5)
    control = (start + stop) / 2 + across * bend * float(numpy.hypot(*(stop - start)))  # as matplotlib's arc3 has it
    at = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * stop
    _label(ax, at, edge, with_counts=with_counts)


def _arrow(ax: Axes, centres: tuple[Any, Any], shift: Any, bend: float, side: int, times: int) -> None:
    """Draw one arrow between two boxes, from edge to edge; side -1: nobody went there."""
    from matplotlib.patches import FancyArrowPatch, Rectangle

    width = 0.6 + 0.8 * float(numpy.log10(1 + times)) if times else 0.6
    colour = style.ENDPOINT_COLOURS[ENDPOINTS[side]] if side >= 0 else style.FAINT
    ends = [Rectangle((x - BOX[0] / 2, y - BOX[1] / 2), *BOX, transform=ax.transData) for x, y in centres]
    ax.add_patch(
        FancyArrowPatch(
            tuple(centres[0] + shift), tuple(centres[1] + shift), connectionstyle=f"arc3,rad={-bend}", arrowstyle="-|>",
            mutation_scale=9 + 1.5 * width, linewidth=width, color=colour, patchA=ends[0], patchB=ends[1],
            linestyle=(0, (4, 1.5)) if side == 1 else "-", alpha=1.0 if side >= 0 else 0.6, zorder=2,
            label=f"_edge {ENDPOINTS[side] if side >= 0 else 'none'}",
        )
    )  # fmt: skip


def _label(ax: Axes, at: Any, edge: Edge, *, with_counts: bool) -> None:
    """Write at an arrow what happened, and how often."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker

    used = any(edge.counts)
    colour = style.INK if used or not with_counts else style.FAINT
    rows: list[Any] = [
        TextArea(safe(event), textprops={"fontsize": style.SMALL, "color": colour}) for event in edge.events
    ]
    parts: list[Any] = [
        TextArea(f"{word[0].upper()} {times:,}",
                 textprops={"fontsize": style.SMALL + 0.5, "color": style.ENDPOINT_COLOURS[word], "weight": "bold"})
        for word, times in zip(ENDPOINTS, edge.counts, strict=True) if times
    ]  # fmt: skip
    if parts:
        rows.append(HPacker(children=parts, pad=0, sep=5))
    box = AnnotationBbox(VPacker(children=rows, align="center", pad=0, sep=1), tuple(at), frameon=True, pad=0.12,
                         bboxprops={"edgecolor": "none", "alpha": 0.85})  # fmt: skip
    box.set_zorder(3)
    ax.add_artist(box)


def _legend(ax: Axes, *, with_counts: bool) -> None:
    """Explain the arrows."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=style.FAINT, label="nobody went there", linewidth=0.8)] if with_counts else []
    for side, word in enumerate(ENDPOINTS):
        handles += [
            Line2D([], [], color=style.ENDPOINT_COLOURS[word], linewidth=2, linestyle=(0, (4, 1.5)) if side else "-",
                   label=f"{word[0].upper()}: {word}s, width by number (logarithmic); end: in which state they ended")
        ] * with_counts  # fmt: skip
    words = "From any state RST, ICMP error, time-out or a new connection may lead to CLOSED"
    handles.append(Line2D([], [], linestyle="", label=f"{words}{': told beside it' * with_counts}"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.0), ncols=2, frameon=False,
              fontsize=style.SMALL + 0.5)  # fmt: skip


STATE_DIAGRAM: Final = Plot(
    name="states",
    title="state diagram",
    doc="The state machine of RFC 9293, with this capture's transitions counted on its arrows.",
    scope="observation",
    draw=states,
)
