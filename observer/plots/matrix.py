"""Who talks to whom: clients against services, coloured by the worst finding, sized by the number of connections.

The busiest clients and services have a row and a column each, the others share one.  Findings about all of a service or
of a client stand beside the matrix.

Never here: how bad a finding is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import places, style
from observer.plots.places import PORT_BITS
from observer.plots.subject import numbers, texts
from observer.plots.words import count, safe
from observer.registry import Plot
from observer.schema import SEVERITIES, Columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.plots.subject import ObservationSubject

Array = Any

NONE: Final = -1
"""No finding; other codes are positions in SEVERITIES."""
LEAST_SIDE: Final = 0.28
"""Side of the smallest square, of a cell of 1: as long as a severity needs to be seen."""
MOST_SIDE: Final = 0.94
NUMBERED: Final = 26
"""Up to so many columns numbers are legible in the cells."""


class Matrix(NamedTuple):
    """What the cells show.

    number, bad, severity
        int64, shape (clients, services): connections, those with findings, and the worst severity of one.
    clients, services
        Their names, the busiest first.
    whole_client, whole_service
        Worst severity of a finding about all of one, and its code ("": none); of a client with a service it is that
        of their cell.
    known
        How many clients and services there are.
    about_all
        How many findings there are about many connections: of a service, a client, or a client with a service.
    """

    number: Array
    bad: Array
    severity: Array
    clients: list[str]
    services: list[str]
    whole_client: list[tuple[int, str]]
    whole_service: list[tuple[int, str]]
    known: tuple[int, int]
    about_all: int


def matrix(subject: ObservationSubject, *, ax: Axes | None = None, most: int = 20) -> Axes:
    """Draw the number of connections of each client to each service, coloured by their worst finding.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    most
        Clients and services that have a row or a column of their own, at most; those with findings go before others.

    Raises
    ------
    OptionError
        `most` is below 1.
    """
    if most < 1:
        raise OptionError(f"a matrix of {most} clients shows nothing; give 1 or more")
    flows = subject.columns("flows")
    if not flows.rows:
        ax = style.new_axes(8.0, 3.0) if ax is None else ax
        return style.empty(ax, "Clients and services: none", "no connection in this capture")
    cells = _matrix(subject, flows, most)
    if ax is None:
        ax = style.new_axes(*_size_in(cells))
    _squares(ax, cells)
    _whole(ax, cells)
    _axes(ax, cells)
    style.finish(ax, _title(cells), ylabel="client")
    ax.set_xlabel("service (server address and port)", fontsize=style.NORMAL, color=style.INK, loc="left")
    for spine in ax.spines.values():
        spine.set_visible(False)
    _legend(ax)
    return ax


# --- numbers ------------------------------------------------------------------------------------------------


def _by_stream(subject: ObservationSubject, rows: int) -> Array:
    """Worst severity of a finding of each connection itself."""
    findings = subject.columns("findings")
    stream, severity = numbers(findings, "stream"), numbers(findings, "severity")
    worst = numpy.full(rows, NONE)
    own = stream >= 0
    numpy.maximum.at(worst, stream[own], severity[own])
    return worst


def _matrix(subject: ObservationSubject, flows: Columns, most: int) -> Matrix:
    worst = _by_stream(subject, flows.rows)
    findings = subject.columns("findings")
    service_of = numbers(findings, "server_addr") << PORT_BITS | numbers(findings, "server_port")
    client_of = numbers(findings, "client_addr")
    crowd = numbers(findings, "stream") < 0
    services = numpy.where(crowd & (numbers(findings, "server_addr") >= 0), service_of, NONE)
    clients = numpy.where(crowd, client_of, NONE)
    rows = _chosen(numbers(flows, "client_addr"), worst, clients, most)
    columns = _chosen(places.listeners(flows), worst, services, most)
    pairs = (clients != NONE) & (services != NONE)
    shape = (len(rows.kept) + (rows.others > 0), len(columns.kept) + (columns.others > 0))
    cell = rows.place * shape[1] + columns.place
    number = numpy.bincount(cell, minlength=shape[0] * shape[1])
    bad = numpy.bincount(cell[worst > NONE], minlength=shape[0] * shape[1])
    severity = numpy.full(shape[0] * shape[1], NONE)
    numpy.maximum.at(severity, cell, worst)
    of_pair = rows.places_of(clients[pairs]) * shape[1] + columns.places_of(services[pairs])
    numpy.maximum.at(severity, of_pair, numbers(findings, "severity")[pairs])
    clients, services = numpy.where(pairs, NONE, clients), numpy.where(pairs, NONE, services)
    return Matrix(
        number.reshape(shape), bad.reshape(shape), severity.reshape(shape),
        _names([places.host_text(flows, code) for code in rows.kept], rows.others, "client"),
        _names([places.listener_text(flows, code) for code in columns.kept], columns.others, "service"),
        _of_whole(findings, clients, rows.kept), _of_whole(findings, services, columns.kept),
        (len(rows.kept) + rows.others, len(columns.kept) + columns.others), int(crowd.sum()),
    )  # fmt: skip


class Chosen(NamedTuple):
    """Which of many values are shown: those kept, how many others there are, and the place of each connection."""

    kept: list[int]
    others: int
    place: Array

    def places_of(self, values: Array) -> Array:
        """Return the places of some of the values; of one that is not kept, that of the others."""
        at = {value: place for place, value in enumerate(self.kept)}
        last = len(self.kept) if self.others else len(self.kept) - 1
        return numpy.array([at.get(value, last) for value in values.tolist()], numpy.int64)


def _chosen(keys: Array, worst: Array, whole: Array, most: int) -> Chosen:
    """Keep the busiest, those with the worst findings first, in order of the number of connections."""
    known, place, often = numpy.unique(keys, return_inverse=True, return_counts=True)
    badness = numpy.full(len(known), NONE)
    numpy.maximum.at(badness, place, worst)
    badness[numpy.isin(known, whole)] = len(SEVERITIES)
    # a third of the places is for the worst, whatever their number of connections
    by_number = numpy.argsort(-often, kind="stable")
    by_badness = numpy.lexsort((-often, -badness))[: most // 3]
    kept = dict.fromkeys(one for one in by_badness.tolist() if badness[one] > NONE)
    for one in by_number.tolist():
        if len(kept) >= most:
            break
        kept.setdefault(one)
    ordered = sorted(kept, key=lambda one: -often[one])
    at = numpy.full(len(known), len(ordered))
    at[ordered] = numpy.arange(len(ordered))
    return Chosen(known[ordered].tolist(), len(known) - len(ordered), at[place])


def _names(texts_: list[str], others: int, noun: str) -> list[str]:
    names = [safe(text) for text in texts_]
    return [*names, count(others, f"other {noun}")] if others else names


def _of_whole(findings: Columns, whole: Array, kept: list[int]) -> list[tuple[int, str]]:
    """Worst finding about all of each of those kept; findings come the worst first."""
    severity, codes = numbers(findings, "severity").tolist(), texts(findings, "code")
    found: dict[int, tuple[int, str]] = {}
    for row in numpy.flatnonzero(whole >= 0).tolist():
        found.setdefault(int(whole[row]), (severity[row], codes[row]))
    return [found.get(one, (NONE, "")) for one in kept]


# --- drawing ------------------------------------------------------------------------------------------------


def _look(severity: int) -> style.Look:
    return style.Look(NO_FINDING, "") if severity == NONE else style.SEVERITY_LOOKS[SEVERITIES[severity]]


def _squares(ax: Axes, cells: Matrix) -> None:
    """One square for each pair that has connections; its area grows with the logarithm of their number."""
    from matplotlib.collections import PolyCollection

    rows, columns = numpy.nonzero(cells.number)
    number, severity = cells.number[rows, columns], cells.severity[rows, columns]
    full = numpy.log1p(number.max())
    half = (LEAST_SIDE + (MOST_SIDE - LEAST_SIDE) * numpy.sqrt(numpy.log1p(number) / full)) / 2
    for code in numpy.unique(severity).tolist():
        own = numpy.flatnonzero(severity == code)
        x, y, h = columns[own], rows[own], half[own]
        corners = numpy.stack([
            numpy.stack([x - h, x + h, x + h, x - h], axis=1), numpy.stack([y - h, y - h, y + h, y + h], axis=1)
        ], axis=2)  # fmt: skip
        look = _look(code)
        ax.add_collection(
            PolyCollection(
                list(corners), facecolors=look.colour, edgecolors=style.HATCH_INK, hatch=look.hatch or None,
                linewidths=0.4, label=_words(code),
            )
        )  # fmt: skip
    if len(cells.services) <= NUMBERED:
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            words, bad = _short(int(cells.number[row, column])), int(cells.bad[row, column])
            hatched = cells.severity[row, column] != NONE
            ax.text(
                column, row, f"{_short(bad)}/{words}" if bad else words, ha="center", va="center",
                fontsize=style.SMALL - 0.5, color=style.BLACK,
                bbox={"facecolor": "#FFFFFF", "linewidth": 0, "pad": 0.6} if hatched else None,
            )  # fmt: skip


def _whole(ax: Axes, cells: Matrix) -> None:
    """Mark findings about all of a service above its column, about all of a client right of its row."""
    last = len(cells.services) - 0.5
    above = [(column, ABOVE, one) for column, one in enumerate(cells.whole_service)]
    beside = [(last - ABOVE - 0.5, row, one) for row, one in enumerate(cells.whole_client)]
    for (x, y, (severity, _)), marker in [(one, "v") for one in above] + [(one, "<") for one in beside]:
        if severity != NONE:
            ax.plot(
                x, y, marker=marker, markersize=8, color=_look(severity).colour, markeredgecolor=style.INK,
                markeredgewidth=0.5, clip_on=False,
            )  # fmt: skip


def _axes(ax: Axes, cells: Matrix) -> None:
    height, width = cells.number.shape
    services = _with_codes(cells.services, cells.whole_service)
    ax.set_xticks(range(width), services, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(height), _with_codes(cells.clients, cells.whole_client))
    ax.set_xlim(-0.5, max(width, LEAST_COLUMNS) - 0.5 + (0.6 if any(code for _, code in cells.whole_client) else 0))
    ax.set_ylim(height - 0.5, ABOVE - 0.4 if any(code for _, code in cells.whole_service) else -0.5)
    ax.hlines(numpy.arange(height + 1) - 0.5, -0.5, width - 0.5, color=style.RULE, linewidth=0.4, zorder=0)
    ax.vlines(numpy.arange(width + 1) - 0.5, -0.5, height - 0.5, color=style.RULE, linewidth=0.4, zorder=0)
    ax.tick_params(which="both", length=0)


def _size_in(cells: Matrix) -> tuple[float, float]:
    """Width and height of a figure that has room for the cells and their labels, inches."""
    clients = max(len(name) for name in [*cells.clients, *(code for _, code in cells.whole_client)])
    services = max(len(name) for name in [*cells.services, *(code for _, code in cells.whole_service)])
    width = 2.2 + LETTER_IN * clients + 0.5 * max(len(cells.services), LEAST_COLUMNS)
    return width, 1.2 + 0.65 * LETTER_IN * services + 0.34 * (len(cells.clients) + 1)  # 0.65: they slope by 40 degrees


def _title(cells: Matrix) -> str:
    words = f"{count(int(cells.number.sum()), 'connection')} of {count(cells.known[0], 'client')} to "
    words += f"{count(cells.known[1], 'service')}; {int(cells.bad.sum()):,} with findings"
    return words + f"; {count(cells.about_all, 'finding')} about many at once" * (cells.about_all > 0)


def _with_codes(names: list[str], whole: list[tuple[int, str]]) -> list[str]:
    codes = [code for _, code in whole] + [""] * (len(names) - len(whole))
    return [f"{name}\n{safe(code)}" if code else name for name, code in zip(names, codes, strict=True)]


def _legend(ax: Axes) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=_look(code).colour, hatch=_look(code).hatch or None, edgecolor=style.HATCH_INK, linewidth=0.4,
              label=_words(code))
        for code in (*reversed(range(len(SEVERITIES))), NONE)
    ]  # fmt: skip
    style.legend(ax, handles, title="worst finding\n(n/m: n of m connections)")


def _words(severity: int) -> str:
    return "no finding" if severity == NONE else SEVERITIES[severity]


def _short(number: int) -> str:
    """Write a number in at most four characters.

    Examples
    --------
    >>> _short(999), _short(1500), _short(48_211), _short(3_200_000)
    ('999', '1.5k', '48k', '3.2M')
    """
    for prefix in ("", "k", "M"):
        if number < 1000:
            return f"{number:g}{prefix}" if number < 10 or not prefix else f"{number:.0f}{prefix}"
        number = round(number / 1000, 1) if number < 10_000 else round(number / 1000)  # type: ignore[assignment]
    return f"{number:g}G"


ABOVE: Final = -0.8
"""Where the mark of a whole service stands: above the first row."""
LEAST_COLUMNS: Final = 10
"""Room for so many columns even if there are fewer, so that a square is one."""
LETTER_IN: Final = 0.066
"""Width of a letter of a label, inches."""
NO_FINDING: Final = "#CFD8DC"
"""Quiet, and lighter than every severity."""

MATRIX: Final = Plot(
    name="matrix",
    title="flow matrix",
    doc="Connections of each client to each service, coloured by their worst finding.",
    scope="observation",
    draw=matrix,
)
