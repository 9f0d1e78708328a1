"""State lanes of many connections: both endpoints of each over time, the client's above the server's.

Few connections get a pair of lanes each.  Many are drawn in groups: a pair of lanes for each group, in which the height
of a colour is how many of the group were in that state, in proportion to the most that the group ever had at once.

Never here: how states are inferred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import places, style
from observer.plots.places import Worst
from observer.plots.stretches import Stretches, averages, most_at_once, span_ns, stretches
from observer.plots.subject import numbers
from observer.plots.words import count, duration, safe
from observer.registry import Plot
from observer.schema import ENDPOINTS, STATES, Columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.plots.subject import ObservationSubject

Array = Any
Order = Literal["start", "server", "duration", "finding"]

ORDERS: Final = ("start", "server", "duration", "finding")
SMALLEST: Final = 0.42
"""Height of one endpoint's lane; a connection's two lanes and the gap below them are 1 high."""
GROUPS: Final = 16
"""Groups at most: more would be too low to read."""
INTERVALS: Final = 700
"""Intervals of time that groups are averaged over: about a pixel each."""
PIXELS: Final = 20
"""Pixels of an endpoint's lane of a group, from top to bottom, if there are as many groups as there may be."""
LETTER_IN: Final = 0.066
"""Width of a letter of a label, inches."""
LOW_IN, HIGH_IN = 0.42, 0.84
"""Height on paper of a group, inches: of many, and of a few."""
LABELLED: Final = 45
"""Connections that have a label each, at most."""


class Group(NamedTuple):
    """Connections that share a pair of lanes."""

    label: str
    streams: Array


def lanes(subject: ObservationSubject, *, ax: Axes | None = None, order: Order = "start", most: int = 40) -> Axes:
    """Draw both endpoints' states of all connections over time.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    order
        From top to bottom by "start", by "server" (the busiest first), by "duration" (the longest first), or by
        "finding" (the worst first).
    most
        Connections that get lanes of their own, at most; more are drawn in groups.

    Raises
    ------
    OptionError
        There is no such order.
    """
    if order not in ORDERS:
        raise OptionError(f"lanes cannot be in order of {order!r}; there are {', '.join(ORDERS)}")
    flows = subject.columns("flows")
    few = flows.rows <= most
    title = f"States of {count(flows.rows, 'connection')}, client above server"
    if not flows.rows:
        return style.empty(style.new_axes(10.0, 3.0) if ax is None else ax, title, "no connection in this capture")
    clock = style.clock(*span_ns(subject))
    found = stretches(subject)
    worst = places.worst_by_stream(subject)
    if few:
        if ax is None:
            longest = max(len(name) for name in _names(flows, numpy.arange(flows.rows)))
            ax = style.new_axes(max(10.0, 7.2 + LETTER_IN * longest), 1.9 + 0.26 * max(flows.rows, 4))
        _draw_each(ax, subject, found, _ranked(subject, order, worst), worst, clock)
    else:
        groups = _groups(subject, order, worst)
        if ax is None:
            ax = style.new_axes(10.0, 1.9 + max(LOW_IN * len(groups), min(HIGH_IN * len(groups), LOW_IN * GROUPS / 2)))
        _draw_groups(ax, subject, found, groups, clock)
    ax.set_xlim(clock.of(numpy.array(span_ns(subject))))
    style.finish(ax, f"{title}, by {order}", xlabel=clock.label())
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    present = style.states_in_order(STATES[code] for code in numpy.unique(found.state).tolist())
    style.legend(ax, [style.state_patch(name) for name in present], place="below", columns=6)
    return ax


# --- order --------------------------------------------------------------------------------------------------


def _keys(subject: ObservationSubject, order: Order, worst: dict[int, Worst]) -> tuple[Array, ...]:
    """Sorting keys of all connections, the first one first."""
    flows = subject.columns("flows")
    first = numbers(flows, "first_time")
    if order == "start":
        return (first,)
    if order == "duration":
        return (first - numbers(flows, "last_time"), first)
    if order == "server":
        server = places.listeners(flows)
        _, place, often = numpy.unique(server, return_inverse=True, return_counts=True)
        return (-often[place], server, first)
    rank = numpy.full(flows.rows, len(places.SEVERITY_RANKS) * 1000)
    codes = sorted({one.code for one in worst.values()})
    for stream, one in worst.items():
        rank[stream] = one.rank * 1000 + codes.index(one.code)
    return (rank, first)


def _ranked(subject: ObservationSubject, order: Order, worst: dict[int, Worst]) -> Array:
    """All connections in order."""
    return numpy.lexsort(_keys(subject, order, worst)[::-1])


def _groups(subject: ObservationSubject, order: Order, worst: dict[int, Worst]) -> list[Group]:
    """Groups in order: of one server, of one finding, or of equally many neighbours in the order."""
    flows = subject.columns("flows")
    ranked = _ranked(subject, order, worst)
    if order == "server":
        key, label = places.listeners(flows), lambda code: places.listener_text(flows, code)
    elif order == "finding":
        names = sorted({one.code for one in worst.values()})
        key = numpy.full(flows.rows, -1)
        for stream, one in worst.items():
            key[stream] = names.index(one.code)
        label = lambda code: names[code] if code >= 0 else "no finding"  # noqa: E731
    else:
        return [_chunk(flows, order, part) for part in numpy.array_split(ranked, min(GROUPS, len(ranked)))]
    return _runs(key, ranked, label)


def _runs(key: Array, ranked: Array, label: Any) -> list[Group]:
    """Neighbours with the same key; if there are too many groups, the last one holds the rest."""
    begins = numpy.flatnonzero(numpy.diff(key[ranked], prepend=key[ranked[0]] - 1))
    parts = numpy.split(ranked, begins[1:])
    kept = parts if len(parts) <= GROUPS else parts[: GROUPS - 1]
    groups = [Group(safe(label(int(key[part[0]]))), part) for part in kept]
    if len(kept) < len(parts):
        rest = numpy.concatenate(parts[len(kept) :])
        groups.append(Group(f"{len(parts) - len(kept):,} others", rest))
    return groups


def _chunk(flows: Any, order: Order, part: Array) -> Group:
    first = numbers(flows, "first_time")[part]
    if order == "duration":
        lasted = numbers(flows, "last_time")[part] - first
        label = f"of {_between(int(lasted.min()), int(lasted.max()))}"
    else:
        begin = int(numbers(flows, "first_time").min())
        label = f"begun {_between(int(first.min()) - begin, int(first.max()) - begin)}"
    return Group(label, part)


def _between(low_ns: int, high_ns: int) -> str:
    """Say a range of times in the unit of the larger one.

    Examples
    --------
    >>> _between(0, 35_000_000_000), _between(80_000, 1_250_000)
    ('0 to 35 s', '0.08 to 1.25 ms')
    """
    number, unit = duration(high_ns).split(" ")
    low = low_ns * float(number) / high_ns if high_ns else 0.0
    return f"{low:.3g} to {number} {unit}"


# --- each connection ----------------------------------------------------------------------------------------


def _draw_each(
    ax: Axes, subject: ObservationSubject, found: Stretches, ranked: Array, worst: dict[int, Worst], clock: style.Clock
) -> None:
    row = numpy.empty(len(ranked), numpy.int64)
    row[ranked] = numpy.arange(len(ranked))
    top = row[found.stream] + found.endpoint * SMALLEST
    left, right = clock.of(found.begin), clock.of(found.end)
    for code in numpy.unique(found.state).tolist():
        rows = numpy.flatnonzero(found.state == code)
        _bars(ax, STATES[code], left[rows], right[rows], top[rows])
    for at in range(1, len(ranked)):
        ax.axhline(at - (1 - 2 * SMALLEST) / 2, color=style.RULE, linewidth=0.4, zorder=0)
    ax.set_ylim(len(ranked) - 0.05, -0.1)
    if len(ranked) <= LABELLED:
        _label_each(ax, subject, ranked, worst)
    else:
        ax.set_yticks([])
        ax.set_ylabel("connections", fontsize=style.NORMAL, color=style.INK)


def _bars(ax: Axes, state: str, left: Array, right: Array, top: Array) -> None:
    """Add one collection of bars for all stretches in a state."""
    from matplotlib.collections import PolyCollection

    corners = numpy.stack([
        numpy.stack([left, left, right, right], axis=1),
        numpy.stack([top, top + SMALLEST, top + SMALLEST, top], axis=1),
    ], axis=2)  # fmt: skip
    bars = style.state_area(PolyCollection(list(corners), label=state), state)
    if not style.STATE_HATCHES[state]:
        bars.set_edgecolor(style.STATE_COLOURS[state])  # so that the shortest are still seen
    ax.add_collection(bars)


def _names(flows: Columns, streams: Array) -> list[str]:
    """Labels of connections; the server is left out where all have the same."""
    return places.flow_texts(flows, streams, server=len(numpy.unique(places.listeners(flows))) > 1)


def _label_each(ax: Axes, subject: ObservationSubject, ranked: Array, worst: dict[int, Worst]) -> None:
    flows = subject.columns("flows")
    middles = numpy.arange(len(ranked)) + SMALLEST
    servers = numpy.unique(places.listeners(flows))
    ax.set_yticks(middles, _names(flows, ranked))
    if len(servers) == 1:
        only = places.listener_text(flows, int(servers[0]))
        ax.set_ylabel(f"stream and client, all to {only}", fontsize=style.NORMAL, color=style.INK)
    else:
        ax.set_ylabel("stream, client > server", fontsize=style.NORMAL, color=style.INK)
    for middle, stream in zip(middles.tolist(), ranked.tolist(), strict=True):
        if stream in worst:
            one = worst[stream]
            ax.annotate(
                safe(one.code) + f" +{one.more}" * (one.more > 0), (1, middle), xycoords=("axes fraction", "data"),
                xytext=(6, 0), textcoords="offset points", ha="left", va="center", fontsize=style.SMALL,
                color=style.INK,
                bbox={"boxstyle": "round,pad=0.15", "linewidth": 0.9, "facecolor": "#FFFFFF",
                      "edgecolor": style.SEVERITY_COLOURS[one.severity]},
            )  # fmt: skip


# --- groups -------------------------------------------------------------------------------------------------


def _draw_groups(
    ax: Axes, subject: ObservationSubject, found: Stretches, groups: list[Group], clock: style.Clock
) -> None:
    """One image for all: for each group some rows of pixels for the clients, as many for the servers."""
    of_stream = numpy.empty(subject.columns("flows").rows, numpy.int64)
    for number, group in enumerate(groups):
        of_stream[group.streams] = number
    begin, end = span_ns(subject)
    edges = numpy.linspace(begin, end, INTERVALS + 1)
    lane = of_stream[found.stream] * len(ENDPOINTS) + found.endpoint
    mean = averages(
        found.begin, found.end, lane * len(STATES) + found.state,
        groups=len(groups) * len(ENDPOINTS) * len(STATES), edges=edges,
    ).reshape(len(groups), len(ENDPOINTS), len(STATES), INTERVALS)  # fmt: skip
    left, right = clock.of(begin), clock.of(end)
    ax.imshow(
        _picture(mean), extent=(left, right, len(groups), 0), aspect="auto", interpolation="nearest", origin="upper"
    )
    for number in range(len(groups) + 1):
        ax.axhline(number, color=style.INK, linewidth=0.5)
        if number < len(groups):
            ax.axhline(number + 0.5, color=style.FAINT, linewidth=0.3)
    labels = []
    for number, group in enumerate(groups):
        own = numpy.flatnonzero(lane >> 1 == number)
        alive = _alive(found.take(own))
        labels.append(f"{group.label}\n{count(len(group.streams), 'connection')}, {alive:,} at once")
    ax.set_ylim(len(groups), 0)
    ax.set_yticks(numpy.arange(len(groups)) + 0.5, labels)
    ax.set_ylabel(
        "groups of connections; height of a colour:\nhow many of the group are in that state",
        fontsize=style.NORMAL, color=style.INK,
    )  # fmt: skip


def _alive(found: Stretches) -> int:
    """Most connections of which the same endpoint was in some state at once."""
    who = found.stream << 1 | found.endpoint
    # stretches of one endpoint follow each other: it is alive from the first to the last of those without a gap
    begins = numpy.append(True, (who[1:] != who[:-1]) | (found.begin[1:] != found.end[:-1]))[: len(who)]
    ends = numpy.append(begins[1:], True)[: len(who)]
    side, begin, end = found.endpoint[begins], found.begin[begins], found.end[ends]
    return max(most_at_once(begin[side == one], end[side == one]) for one in range(len(ENDPOINTS)))


def _picture(mean: Array) -> Array:
    """RGB of all lanes.

    Parameters
    ----------
    mean
        float64, shape (groups, endpoints, states, intervals): endpoints in each state.

    Returns
    -------
    uint8, shape (groups * endpoints * pixels, intervals, 3): more pixels where there are few groups.
    """
    from matplotlib.colors import to_rgb

    colours = (numpy.array([to_rgb(style.STATE_COLOURS[name]) for name in STATES] + [(1.0, 1.0, 1.0)]) * 255).round()
    groups, ends, _, intervals = mean.shape
    full = mean.sum(axis=2).max(axis=(1, 2)).clip(min=1e-12)[:, None, None, None]
    # from the bottom of a lane upwards: what is a state's share ends at its place in the running sum
    pixels = PIXELS * max(1, GROUPS // groups)
    tops = numpy.cumsum(mean, axis=2) / full * pixels
    levels = (numpy.arange(pixels)[::-1] + 0.5)[None, None, :, None]
    code = numpy.zeros((groups, ends, pixels, intervals), numpy.int64)
    for state in range(len(STATES)):
        code += levels >= tops[:, :, None, state, :]
    picture: Array = colours.astype(numpy.uint8)[code]
    picture[_texture(code)] //= 2
    return picture.reshape(groups * ends * pixels, intervals, 3)


def _texture(code: Array) -> Array:
    """Which pixels of an image of states are darker, so that states are told apart without colour, as by hatches."""
    down, right = numpy.arange(code.shape[-2])[:, None], numpy.arange(code.shape[-1])[None, :]
    patterns = {
        "/": (down + right) % 6 == 0, "\\": (down - right) % 6 == 0, "-": (down % 5 == 2) & (right >= 0),
        "|": (right % 6 == 0) & (down >= 0), ".": (down % 5 == 2) & (right % 6 == 0),
        "x": ((down + right) % 8 == 0) | ((down - right) % 8 == 0), "o": (down % 6 < 2) & (right % 6 < 2),
    }  # fmt: skip
    darker = numpy.zeros(code.shape, bool)
    for number, name in enumerate(STATES):
        if style.STATE_HATCHES[name]:
            darker |= (code == number) & patterns[style.STATE_HATCHES[name][0]]
    return darker


LANES: Final = Plot(
    name="lanes",
    title="state lanes",
    doc="Both endpoints' states of all connections over time, in groups where they are many.",
    scope="observation",
    draw=lanes,
)
