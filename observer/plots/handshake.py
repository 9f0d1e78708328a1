"""Openings: how long they took on each side of the tap, what was repeated, how far they came, and at which listeners.

Only connections whose SYN was captured are counted.

Never here: what makes a failed opening a finding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import places, style
from observer.plots.subject import numbers
from observer.plots.words import count, duration, safe
from observer.registry import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.plots.subject import ObservationSubject

Array = Any
Part = Literal["times", "steps", "listeners"]

PARTS: Final = ("times", "steps", "listeners")
MILLISECOND: Final = 1_000_000
SHORTEST_MS: Final = 0.001
"""What took less is drawn there: most captures count microseconds."""
FEW_DECADES: Final = 2
"""Up to so many there are numbers between those of the decades."""
POINTS: Final = 1500
"""Points of a curve at most."""
RTO_MS: Final = (1000, 3000, 7000, 15000)
"""When a SYN is sent again: first after 1 s, then after twice as long each time (RFC 6298 2.1 and 5.5)."""
LISTENERS: Final = 10
"""Listeners that are named: the slowest."""
ENOUGH: Final = 5
"""Handshakes that a listener needs for a comparison, if any listener has as many."""
COMPLETE: Final = 1 | 2 | 4
"""SYN, SYN-ACK and ACK in the column `completeness`, as Wireshark counts."""


class Openings(NamedTuple):
    """One element for each connection whose SYN was captured.

    total_ns, client_ns, server_ns
        Connect time, and smallest round trip between the tap and each side; -1: not known.
    syns, synacks
        Segments of the opening, repeats included.
    completed, data
        Whether the client's ACK passed; whether octets followed.
    listener
        See `places.listeners`.
    """

    total_ns: Array
    client_ns: Array
    server_ns: Array
    syns: Array
    synacks: Array
    completed: Array
    data: Array
    listener: Array


def handshake(subject: ObservationSubject, *, ax: Axes | None = None, part: Part | None = None) -> Axes:
    """Draw how the openings of all connections went.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    part
        "times": shares of openings that took no longer than so long; "steps": how far they came, and repeats;
        "listeners": the slowest.  Default: a figure with all three, or the times if `ax` is given.

    Returns
    -------
    The Axes; of several the one with the times.

    Raises
    ------
    OptionError
        There is no such part.
    """
    if part is not None and part not in PARTS:
        raise OptionError(f"openings have no part {part!r}; there are {', '.join(PARTS)}")
    openings = _openings(subject)
    if not len(openings.syns):
        ax = style.new_axes(10.0, 3.0) if ax is None else ax
        return style.empty(ax, "Openings: none", "no SYN was captured: the connections were already open")
    if ax is None and part is None:
        ax = style.new_axes(11.0, 7.0)
        figure = ax.figure
        ax.remove()
        axes = figure.subplot_mosaic(
            [["times", "times"], ["steps", "listeners"]], height_ratios=[3, 2], width_ratios=[2, 3]
        )
        _steps(axes["steps"], openings)
        _listeners(axes["listeners"], subject, openings)
        return _times(axes["times"], openings)
    ax = style.new_axes(9.0, 4.5) if ax is None else ax
    if part == "steps":
        return _steps(ax, openings)
    return _listeners(ax, subject, openings) if part == "listeners" else _times(ax, openings)


def _openings(subject: ObservationSubject) -> Openings:
    flows = subject.columns("flows")
    rows = numpy.flatnonzero(numbers(flows, "syn_count") > 0)

    def own(name: str) -> Array:
        return numbers(flows, name)[rows]

    return Openings(
        total_ns=own("handshake_ns"),
        client_ns=own("client_rtt_ns"),
        server_ns=own("server_rtt_ns"),
        syns=own("syn_count"),
        synacks=own("synack_count"),
        completed=own("completeness") & COMPLETE == COMPLETE,
        data=own("client_unique_octets") + own("server_unique_octets") > 0,
        listener=places.listeners(flows)[rows],
    )


# --- how long -----------------------------------------------------------------------------------------------


def _times(ax: Axes, openings: Openings) -> Axes:
    """Draw for each time the share of openings that took no longer; a curve that ends below 100 %: the rest failed."""
    whole = len(openings.syns)
    if not any((values >= 0).any() for values in openings[:3]):
        return style.empty(ax, f"{count(whole, 'opening')}, 0 completed", "no SYN was answered: there are no times")
    lines = (
        ("connect: first SYN to ACK", openings.total_ns, style.BLACK, "-", 1.8),
        ("round trip tap to client", openings.client_ns, style.ENDPOINT_COLOURS["client"],
         style.ENDPOINT_LINES["client"], 1.4),
        ("round trip tap to server", openings.server_ns, style.ENDPOINT_COLOURS["server"],
         style.ENDPOINT_LINES["server"], 1.4),
    )  # fmt: skip
    shortest, longest = float("inf"), 0.0
    for words, values, colour, dashes, width in lines:
        known = numpy.sort(values[values >= 0]) / MILLISECOND
        if not len(known):
            continue
        shortest, longest = min(shortest, float(known[0])), max(longest, float(known[-1]))
        at = numpy.unique(numpy.linspace(0, len(known) - 1, POINTS).round().astype(numpy.int64))
        median = duration(int(numpy.median(known) * MILLISECOND))
        slow = duration(int(numpy.quantile(known, 0.99) * MILLISECOND))
        ax.plot(
            known[at].clip(min=SHORTEST_MS), (at + 1) / whole * 100, color=colour, linestyle=dashes, linewidth=width,
            drawstyle="steps-post", label=f"{words}: median {median}, 99 % in {slow}, {len(known):,} known",
        )  # fmt: skip
    _decades(ax, shortest, longest)
    _mark_repeats(ax, longest)
    ax.set_ylim(0, 104)
    done = int((openings.total_ns >= 0).sum())
    style.finish(
        ax, f"{count(whole, 'opening')}, {done:,} completed ({_share(done, whole)})",
        xlabel="milliseconds (logarithmic)", ylabel="share of all openings, %", grid="both",
    )  # fmt: skip
    style.legend(ax, ax.get_legend_handles_labels()[0], place="below")
    return ax


def _decades(ax: Axes, shortest_ms: float, longest_ms: float) -> None:
    """Scale by whole decades, so that there are numbers at the axis even if all took nearly as long."""
    from matplotlib.ticker import FuncFormatter

    begin = math.floor(math.log10(max(0.9 * shortest_ms, SHORTEST_MS)))  # a curve must not lie on the axis
    end = max(begin + 1, math.ceil(math.log10(max(longest_ms, SHORTEST_MS))))
    ax.set_xscale("log")
    ax.set_xlim(10.0**begin, 10.0**end)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    between = (2, 5) if end - begin <= FEW_DECADES else ()
    ax.xaxis.set_minor_formatter(
        FuncFormatter(
            lambda value, _: f"{value:g}" if round(value / 10 ** math.floor(math.log10(value))) in between else ""
        )
    )
    ax.tick_params(which="minor", labelsize=style.SMALL + 0.5, labelcolor=style.FAINT)


def _mark_repeats(ax: Axes, longest_ms: float) -> None:
    """Mark the times that only an opening takes whose SYN or SYN-ACK was sent again."""
    for number, at in enumerate(RTO_MS):
        if at <= longest_ms * 1.2:
            ax.axvline(at, color=style.FAINT, linewidth=0.8, linestyle=":")
            ax.annotate(
                f"SYN again\n({at / 1000:g} s)" if number == 0 else f"{at / 1000:g} s", (at, 0.02),
                xycoords=ax.get_xaxis_transform(), xytext=(-2, 0), textcoords="offset points", ha="right", va="bottom",
                fontsize=style.SMALL, color=style.FAINT,
            )  # fmt: skip


# --- how far ------------------------------------------------------------------------------------------------


def _steps(ax: Axes, openings: Openings) -> Axes:
    """Draw how many openings reached each step, and how many needed repeats."""
    whole = len(openings.syns)
    answered = openings.synacks > 0
    bars = (
        ("SYN", whole, style.STATE_LOOKS["SYN_SENT"]),
        ("SYN sent again", int((openings.syns > 1).sum()), style.SEVERITY_LOOKS["warning"]),
        ("SYN-ACK", int(answered.sum()), style.STATE_LOOKS["SYN_RECEIVED"]),
        ("SYN-ACK sent again", int((openings.synacks > 1).sum()), style.SEVERITY_LOOKS["warning"]),
        ("ACK: completed", int(openings.completed.sum()), style.STATE_LOOKS["ESTABLISHED"]),
        ("data followed", int((openings.completed & openings.data).sum()), style.STATE_LOOKS["ESTABLISHED"]),
    )
    for row, (_, number, look) in enumerate(bars):
        ax.barh(
            row, number, height=0.72, facecolor=look.colour, hatch=look.hatch or None, edgecolor=style.HATCH_INK,
            linewidth=0.5,
        )  # fmt: skip
        ax.annotate(
            f"{number:,} ({_share(number, whole)})", (number, row), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=style.SMALL, color=style.INK,
        )  # fmt: skip
    ax.set_yticks(range(len(bars)), [words for words, _, _ in bars])
    ax.set_ylim(len(bars) - 0.5, -0.5)
    ax.set_xlim(0, whole * 1.38)
    _thousands(ax)
    style.finish(ax, "How far they came", xlabel="openings")
    return ax


def _share(part: int, whole: int) -> str:
    """Return a share in per cent, never rounded up to all.

    Examples
    --------
    >>> _share(49_705, 49_708), _share(7, 7)
    ('99.9 %', '100 %')
    """
    return "100 %" if part == whole else f"{part * 1000 // whole / 10:g} %"


def _thousands(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.xaxis.set_major_locator(style.whole_numbers(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


# --- where --------------------------------------------------------------------------------------------------


def _listeners(ax: Axes, subject: ObservationSubject, openings: Openings) -> Axes:
    """Draw connect times at the slowest listeners: from the median to 95 %, by the median."""
    rows = numpy.flatnonzero(openings.total_ns >= 0)
    if not len(rows):
        return style.empty(ax, "Slowest listeners", "no opening was completed")
    rows = rows[numpy.lexsort((openings.total_ns[rows], openings.listener[rows]))]
    values = openings.total_ns[rows] / MILLISECOND
    known, first, often = numpy.unique(openings.listener[rows], return_index=True, return_counts=True)
    middle = values[first + (often - 1) // 2]
    slow = values[first + numpy.minimum((often * 0.95).astype(numpy.int64), often - 1)]
    enough = numpy.flatnonzero(often >= (ENOUGH if often.max() >= ENOUGH else 1))
    slowest = enough[numpy.argsort(-middle[enough], kind="stable")][:LISTENERS]
    failed = numpy.array([int((openings.listener == known[at]).sum()) - int(often[at]) for at in slowest])
    at = numpy.arange(len(slowest))
    ax.hlines(at, middle[slowest], slow[slowest], color=style.FAINT, linewidth=2.5)
    ax.plot(middle[slowest], at, "o", color=style.BLACK, markersize=5, label="median")
    ax.plot(slow[slowest], at, "|", color=style.BLACK, markersize=9, label="95 % took no longer")
    flows = subject.columns("flows")
    names = [
        f"{safe(places.listener_text(flows, int(known[one])))} ({often[one]:,}" + f", {lost:,} not" * (lost > 0) + ")"
        for one, lost in zip(slowest.tolist(), failed.tolist(), strict=True)
    ]
    ax.set_yticks(at, names)
    ax.set_ylim(len(slowest) - 0.4, -0.6)
    ax.set_xlim(0, float(slow[slowest].max()) * 1.08)
    more = f" of {len(known):,}" if len(known) > len(slowest) else ""
    title = f"Slowest {len(slowest)}{more} listeners" if len(known) > 1 else "Listener"
    style.finish(
        ax, f"{title} (openings completed)", xlabel="connect time, median to 95 %, milliseconds", grid="x",
    )  # fmt: skip
    return ax


HANDSHAKE: Final = Plot(
    name="handshake",
    title="handshake",
    doc="Connect times and round trips on each side of the tap, repeats, completion, the slowest listeners.",
    scope="observation",
    draw=handshake,
)
