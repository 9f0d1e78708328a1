"""Resets over time: in a band for each service how many of each class, by the server above and by the client below.

Never here: what class a reset is of (the table `resets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.plots import places, style
from observer.plots.stretches import span_ns
from observer.plots.subject import numbers
from observer.plots.words import count, duration, safe
from observer.registry import Plot
from observer.schema import ENDPOINTS, Coded, Columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.plots.subject import ObservationSubject

Array = Any

SERVICES: Final = 10
"""Services that have a band each, those with the most resets; the others share one."""
CLASSES: Final = 9
"""Classes that have a colour each, the most frequent ones; the others share one."""
INTERVALS: Final = 120
"""Intervals of time: a bar each."""
SERVER: Final = ENDPOINTS.index("server")
OTHERS: Final = "other classes"


class Counts(NamedTuple):
    """How many resets there were.

    number
        int64, shape (services, endpoints, classes, INTERVALS).
    services, classes
        Their names, those with the most resets first.
    connections
        For each service, of how many connections.
    """

    number: Array
    services: list[str]
    classes: list[str]
    connections: list[int]


def resets(subject: ObservationSubject, *, ax: Axes | None = None) -> Axes:
    """Draw the resets of each service over time, by class and by who sent them.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    """
    table = subject.columns("resets")
    if not table.rows:
        if ax is None:
            ax = style.new_axes(10.0, 3.0)
        return style.empty(ax, "Resets over time: none", "no RST in this capture")
    counts = _counts(subject, table)
    if ax is None:
        ax = style.new_axes(10.0, 2.6 + 0.75 * len(counts.services))
    clock = style.clock(*span_ns(subject))
    begin, end = (clock.of(edge) for edge in span_ns(subject))
    _bars(ax, counts, numpy.linspace(begin, end, INTERVALS + 1))
    _label(ax, counts)
    ax.set_xlim(begin, end)
    reset = len(numpy.unique(numbers(table, "stream")))
    title = f"{count(table.rows, 'reset')} of {count(reset, 'connection')}, of {subject.columns('flows').rows:,} in all"
    style.finish(
        ax,
        f"{title}; by the server above, by the client below each line",
        xlabel=clock.label(),
        ylabel=f"resets per {duration(round((span_ns(subject)[1] - span_ns(subject)[0]) / INTERVALS))}, by service",
    )
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    totals = counts.number.sum(axis=(0, 1, 3)).tolist()
    named = enumerate(zip(counts.classes, totals, strict=True))
    patches = [_patch(number, name, total) for number, (name, total) in named]
    style.legend(ax, patches, place="below", columns=3, title="class of reset")
    return ax


# --- numbers ------------------------------------------------------------------------------------------------


def _counts(subject: ObservationSubject, table: Columns) -> Counts:
    flows = subject.columns("flows")
    listeners = places.listeners(flows)
    service, connections = listeners[numbers(table, "stream")], listeners
    known, of_service = numpy.unique(service, return_inverse=True)
    services, kept = _most_frequent(of_service, SERVICES)
    names = [places.listener_text(flows, int(known[number])) for number in kept]
    own = [int((connections == known[number]).sum()) for number in kept]
    if len(kept) < len(known):
        names.append(f"{len(known) - len(kept):,} other services")
        own.append(int(numpy.isin(connections, known).sum()) - sum(own))
    coded = table["class"]
    assert isinstance(coded, Coded)
    classes, shown = _most_frequent(numpy.asarray(coded.codes), CLASSES)
    labels = [str(coded.values[number]) for number in shown]
    if int(classes.max()) == len(shown):
        labels.append(OTHERS)
    begin, end = span_ns(subject)
    at = (numbers(table, "time") - begin) / (end - begin) * INTERVALS
    interval = numpy.clip(at.astype(numpy.int64), 0, INTERVALS - 1)
    shape = (len(names), len(ENDPOINTS), len(labels), INTERVALS)
    cells = numpy.ravel_multi_index((services, numbers(table, "endpoint"), classes, interval), shape)
    number = numpy.bincount(cells, minlength=int(numpy.prod(shape))).reshape(shape)
    return Counts(number, names, labels, own)


def _most_frequent(codes: Array, most: int) -> tuple[Array, list[int]]:
    """Number codes anew by how often they occur, the rest beyond `most` as one; and the old numbers of those kept.

    Examples
    --------
    >>> _most_frequent(numpy.array([5, 7, 7, 9, 7, 9]), 1)
    (array([1, 0, 0, 1, 0, 1]), [7])
    """
    distinct, place, often = numpy.unique(codes, return_inverse=True, return_counts=True)
    order = numpy.argsort(-often, kind="stable")
    rank = numpy.empty(len(order), numpy.int64)
    rank[order] = numpy.arange(len(order))
    return numpy.minimum(rank[place], most), distinct[order[:most]].tolist()


# --- drawing ------------------------------------------------------------------------------------------------


def _bars(ax: Axes, counts: Counts, edges: Array) -> None:
    """Stack the classes in each service's band, in proportion to its fullest interval."""
    widths = numpy.diff(edges)
    both = counts.number.sum(axis=2)
    full = both.max(axis=(1, 2)).clip(min=1)
    for number in range(len(counts.classes)):
        below = counts.number[:, :, :number].sum(axis=2)
        for side in range(len(ENDPOINTS)):
            own = counts.number[:, side, number]
            service, interval = numpy.nonzero(own)
            if not len(service):
                continue
            up = -1 if side == SERVER else 1  # the axis runs downwards
            scale = up * HALF / full[service]
            bars = ax.bar(
                edges[interval], own[service, interval] * scale, width=widths[interval], align="edge",
                bottom=service + below[service, side, interval] * scale, label=counts.classes[number],
            )  # fmt: skip
            for bar in bars:
                _dress(bar, number)
    for line in range(len(counts.services)):
        ax.axhline(line, color=style.INK, linewidth=0.6)
    ax.set_ylim(len(counts.services) - 0.5, -0.5)


def _label(ax: Axes, counts: Counts) -> None:
    """Name the services, and say how many resets the highest bar stands for."""
    by_side = counts.number.sum(axis=(2, 3))
    names = []
    for name, connections, (client, server) in zip(counts.services, counts.connections, by_side.tolist(), strict=True):
        names.append(
            f"{safe(name)}\n{count(client + server, 'reset')} in {count(connections, 'connection')}\n"
            f"server {server:,}, client {client:,}"
        )
    ax.set_yticks(range(len(names)), names)
    full = counts.number.sum(axis=2).max(axis=(1, 2)).tolist()
    for service, most in enumerate(full):
        ax.annotate(
            f"highest bar: {most:,}", (1, service), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=style.SMALL, color=style.FAINT,
        )  # fmt: skip


def _patch(number: int, name: str, total: int) -> Any:
    from matplotlib.patches import Patch

    return _dress(Patch(label=f"{safe(name)} ({total:,})"), number)


def _dress(patch: Any, number: int) -> Any:
    look = style.CYCLE[number]
    patch.set(facecolor=look.colour, hatch=look.hatch, edgecolor=style.HATCH_INK, linewidth=0.3)
    return patch


HALF: Final = 0.44
"""Height of the fullest interval of one side, of a band of 1."""

RESETS: Final = Plot(
    name="resets",
    title="resets",
    doc="Resets of each service over time, by class and by who sent them.",
    scope="observation",
    draw=resets,
)
