"""TIME-WAIT over time by holder, against the ports that its client has for the service, and when none will be left.

A client that holds TIME-WAIT cannot use the port again for the same service for 2 MSL (RFC 9293 3.4.2), so each line of
a client is one tuple space (client address, server address and port).  A server's line is one listener's.

Never here: what makes a pile-up a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.plots import places, style
from observer.plots.stretches import Stretches, most_at_once, span_ns, stretches
from observer.plots.subject import numbers
from observer.plots.words import count, duration, safe
from observer.registry import Plot
from observer.schema import ENDPOINTS, STATES, Columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.options import Options
    from observer.plots.subject import ObservationSubject

Array = Any
Scale = Callable[[Any], Any]

LINES: Final = 6
"""Holders that have a line each, at most."""
CANDIDATES: Final = 200
"""Holders whose peaks are compared: those that entered TIME-WAIT most often."""
INTERVALS: Final = 900
"""Points of a line: of each interval the highest number."""
SECOND: Final = 1_000_000_000
RATE_NS: Final = 10 * SECOND
"""The present rate is that of so long before the end of the capture."""
SMALL_SHARE: Final = 0.05
"""Of all that there were at once; where no holder has so many, nor a pile-up, all holders of a side are one line."""
SHARE_SHOWN: Final = 0.01
"""Share of the ports from which on there is an axis of it."""
SURE: Final = 20
"""Connections that must have entered TIME-WAIT of late before a rate is gone by."""
LIMIT_SHOWN: Final = 0.1
"""Share of the ports from which on all of them are shown: below, the line would lie on the axis."""
WORDS: Final = {"client": "pairs of client and service", "server": "listeners"}
CLIENT: Final = ENDPOINTS.index("client")


class Holder(NamedTuple):
    """Whose TIME-WAIT it is.

    label
        Holder and service, as text.
    rows
        Of the stretches.
    space
        Whether its ports are those of one client for one service, so that they can run out.
    alone
        Whether it is one holder, not all of a side.
    """

    label: str
    rows: Array
    most: int
    space: bool
    alone: bool = True


class Outlook(NamedTuple):
    """What comes after the capture if nothing changes: positions of the line, and in how long no port is left."""

    times: Array
    held: Array
    rate: float
    most: float
    full_ns: int | None


def time_wait(subject: ObservationSubject, *, ax: Axes | None = None) -> Axes:
    """Draw how many connections each holder had in TIME-WAIT over time, and what comes at the present rate.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    """
    if ax is None:
        ax = style.new_axes(10.0, 4.8)
    found = stretches(subject)
    found = found.take(numpy.flatnonzero(found.state == STATES.index("TIME_WAIT")))
    if not len(found.stream):
        return style.empty(ax, "TIME-WAIT over time: none", "no endpoint was in TIME-WAIT")
    holders, others = _holders(subject.columns("flows"), found, subject.options.time_wait_pileup)
    begin, end = span_ns(subject)
    outlooks = [_outlook(found.take(one.rows), (begin, end), subject.options) if one.space else None for one in holders]
    until = max([end, *(int(one.times[-1]) for one in outlooks if one is not None)])
    clock = style.clock(begin, until)
    low, high = subject.options.ephemeral_ports
    ports = high - low + 1
    for number, (holder, outlook) in enumerate(zip(holders, outlooks, strict=True)):
        _line(ax, found.take(holder.rows), holder, number, ports, clock, (begin, end))
        if outlook is not None:
            _project(ax, outlook, number, clock)
    _limits(ax, holders, outlooks, ports, subject.options)
    if until > end:
        ax.axvline(clock.of(end), color=style.FAINT, linewidth=0.8, linestyle=":")
        _note(ax, "end of the capture", clock.of(end), 0.99, align="right", under=True)
    ax.set_xlim(clock.of(begin), clock.of(until))
    rest = f"; {count(others, 'holder')} more not drawn" if others else ""
    passed = f"{len(numpy.unique(found.stream)):,} of {count(subject.columns('flows').rows, 'connection')}"
    title = f"TIME-WAIT in {passed}: at most {most_at_once(found.begin, found.end):,} at once{rest}"
    style.finish(ax, title, xlabel=clock.label(), ylabel="connections in TIME-WAIT", grid="y")
    handles = ax.get_legend_handles_labels()[0]
    style.legend(ax, handles, place="below", title="who holds TIME-WAIT, since it closed first")
    return ax


# --- numbers ------------------------------------------------------------------------------------------------


def _holders(flows: Columns, found: Stretches, many: int) -> tuple[list[Holder], int]:
    """Return those with the highest peaks, and how many others there are; many: what one alone must never hold."""
    listeners = places.listeners(flows)
    known = numpy.unique(listeners)
    place = numpy.searchsorted(known, listeners[found.stream])
    client = numpy.where(found.endpoint == CLIENT, numbers(flows, "client_addr")[found.stream] + 1, 0)
    keys, of_row, often = numpy.unique(client * len(known) + place, return_inverse=True, return_counts=True)
    likely = numpy.argsort(-often, kind="stable")[:CANDIDATES]
    order = numpy.argsort(of_row, kind="stable")
    ends = numpy.cumsum(often)
    rows_of = {key: order[ends[key] - often[key] : ends[key]] for key in likely.tolist()}
    most = {key: most_at_once(found.begin[rows], found.end[rows]) for key, rows in rows_of.items()}
    best = sorted(most, key=lambda key: -most[key])[:LINES]
    holders = []
    for key in best:
        who, listener = divmod(int(keys[key]), len(known))
        server = places.listener_text(flows, int(known[listener]))
        label = f"client {places.host_text(flows, who - 1)} for {server}" if who else f"server {server}"
        holders.append(Holder(label, rows_of[key], most[key], who > 0))
    if holders[0].most < min(many, SMALL_SHARE * most_at_once(found.begin, found.end)):
        return _together(found, keys // len(known) > 0, of_row), 0
    return holders, len(keys) - len(best)


def _together(found: Stretches, is_client: Array, of_row: Array) -> list[Holder]:
    """All holders of each side, where none has much of it all; is_client: of each holder."""
    sides = []
    for end, side in enumerate(ENDPOINTS):
        rows = numpy.flatnonzero(found.endpoint == end)
        if len(rows):
            many = int((is_client == (end == CLIENT))[numpy.unique(of_row[rows])].sum())
            label = f"all {side}s together ({many:,} {WORDS[side]})"
            sides.append(Holder(label, rows, most_at_once(found.begin[rows], found.end[rows]), False, False))
    return sides


def _series(found: Stretches, begin: int, end: int) -> tuple[Array, Array]:
    """Times and how many there were from each on; of many the highest of each interval."""
    times = numpy.concatenate([found.begin, found.end[~found.still]])
    change = numpy.ones(len(times), numpy.int64)
    change[len(found.begin) :] = -1
    order = numpy.argsort(times, kind="stable")
    times, held = times[order], numpy.cumsum(change[order])
    if len(times) > 2 * INTERVALS:
        width = max((end - begin) / INTERVALS, 1)
        interval = numpy.clip(((times - begin) / width).astype(numpy.int64), 0, INTERVALS - 1)
        first = numpy.flatnonzero(numpy.diff(interval, prepend=-1))
        times, held = times[first], numpy.maximum.reduceat(held, first)
    return numpy.concatenate([[begin], times, [end]]), numpy.concatenate([[0], held, held[-1:]])


def _outlook(found: Stretches, span: tuple[int, int], options: Options) -> Outlook | None:
    """Continue a line at the present rate, no longer than the capture lasted; None: no rate is sure."""
    begin, end = span
    lasts = round(options.profile().time_wait_s * SECOND)
    # connections that live long before they close enter late: what was before the first is no part of the rate
    window = min(RATE_NS, end - begin, max(SECOND, end - int(found.begin.min())))
    recent = int((found.begin > end - window).sum())
    brief = end - begin < SECOND and len(found.begin) < options.time_wait_pileup
    if recent < SURE or brief or int(found.begin.max()) + SECOND < end:
        return None
    rate = recent * SECOND / window
    entered = numpy.sort(found.begin[found.still])

    def held(ahead: Array) -> Array:
        left = numpy.searchsorted(entered, end + ahead - lasts, "right")
        return len(entered) - left + rate * ahead / SECOND

    ahead = numpy.linspace(0, lasts, 6001)
    size = options.ephemeral_ports[1] - options.ephemeral_ports[0] + 1
    full = numpy.flatnonzero(held(ahead) >= size)
    full_ns = int(ahead[full[0]]) if len(full) else None
    shown = numpy.linspace(0, min(end - begin, lasts if full_ns is None else full_ns), 201)
    return Outlook(end + shown.astype(numpy.int64), held(shown), rate, float(held(ahead).max()), full_ns)


# --- drawing ------------------------------------------------------------------------------------------------


def _line(
    ax: Axes, own: Stretches, holder: Holder, number: int, ports: int, clock: style.Clock, span: tuple[int, int]
) -> None:
    times, held = _series(own, *span)
    share = f" = {_percent(holder.most / ports)} of {ports:,} ports" if holder.space else ""
    ax.plot(
        clock.of(times), held, drawstyle="steps-post", color=style.CYCLE[number].colour, linewidth=1.8,
        linestyle=_dashes(number), label=f"{safe(holder.label)}: at most {holder.most:,}{share}",
    )  # fmt: skip


def _dashes(number: int) -> Any:
    """Line styles that tell lines apart without colour."""
    return ("-", (0, (6, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2, 1, 2, 1, 2)))[number]


def _project(ax: Axes, outlook: Outlook, number: int, clock: style.Clock) -> None:
    colour = style.CYCLE[number].colour
    ax.plot(clock.of(outlook.times), outlook.held, color=colour, linewidth=1.0, linestyle=(0, (1, 2)))
    last, held = clock.of(int(outlook.times[-1])), float(outlook.held[-1])
    at = f"at {outlook.rate:,.0f}/s" if outlook.rate >= 10 else f"at {outlook.rate:.2g}/s"
    if outlook.full_ns is None:
        words = f"{at}: never more than {outlook.most:,.0f}"
    else:
        words = f"{at}: no port left {duration(outlook.full_ns)} after the end of the capture"
    if outlook.full_ns is not None and outlook.times[-1] - outlook.times[0] >= outlook.full_ns:
        ax.plot([last], [held], marker="X", markersize=7, color=colour, markeredgecolor=style.BLACK)
    if number < 2:  # more would lie on each other
        ax.annotate(
            words, (last, held), xytext=(-6, 5), textcoords="offset points", ha="right", va="bottom",
            fontsize=style.SMALL, color=style.INK, bbox={"facecolor": "#FFFFFFCC", "linewidth": 0, "pad": 0.8},
        )  # fmt: skip


def _limits(ax: Axes, holders: list[Holder], outlooks: list[Outlook | None], ports: int, options: Options) -> None:
    """Scale, the size of the tuple space, and from how many on it is a pile-up."""
    from matplotlib.ticker import FuncFormatter

    drawn = [float(one.held.max()) for one in outlooks if one is not None]
    most = max([float(one.most) for one in holders] + drawn)
    of_clients = max([float(one.most) for one in holders if one.space] + drawn, default=0.0)
    whole = of_clients >= LIMIT_SHOWN * ports
    ax.set_ylim(0, max(most, ports if whole else 0, 1) * 1.12)  # 1: it may have been for no time at all
    ax.yaxis.set_major_locator(style.whole_numbers())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for level, align, words in (  # on the right the projection ends at the ports, on the left lines begin to pile up
        (ports, "left", f"{ports:,} ports of one client for one service (Options.ephemeral_ports)"),
        (options.time_wait_pileup, "right", f"pile-up from {options.time_wait_pileup:,} on (Options.time_wait_pileup)"),
    ):
        if holders[0].alone and level <= ax.get_ylim()[1]:
            ax.axhline(level, color=style.BLACK, linewidth=1.0, linestyle=(0, (4, 2)))
            _note(ax, words, 0.005 if align == "left" else 0.995, level, align=align)
    if of_clients >= SHARE_SHOWN * ports:
        scales: tuple[Scale, Scale] = (lambda held: held * 100 / ports, lambda share: share * ports / 100)
        right = ax.secondary_yaxis("right", functions=scales)
        right.set_ylabel(f"share of a client's {ports:,} ports, %", fontsize=style.NORMAL, color=style.INK)
        right.tick_params(labelsize=style.SMALL + 0.5, colors=style.INK)


def _note(ax: Axes, words: str, x: float, y: float, *, align: str, under: bool = False) -> None:
    """Write on a line; under: on a vertical one, x in its coordinates; else on a horizontal one, y in its."""
    transform = ax.get_xaxis_transform() if under else ax.get_yaxis_transform()
    ax.annotate(
        words, (x, y), xycoords=transform, xytext=(3 if align == "left" else -3, -2 if under else 2),
        textcoords="offset points", ha=align, va="top" if under else "bottom", fontsize=style.SMALL, color=style.FAINT,
        bbox={"facecolor": "#FFFFFFCC", "linewidth": 0, "pad": 0.8},
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"


TIME_WAIT: Final = Plot(
    name="time_wait",
    title="TIME-WAIT",
    doc="TIME-WAIT over time by holder, against the ports that a client has, and when none will be left.",
    scope="observation",
    draw=time_wait,
)
