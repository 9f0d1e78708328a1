"""Some connections of an observation: their rows of every table, under their own numbers or counted anew from 0.

Pictures, and the count of states over time, look a connection up by its place in the table of flows: for them the
chosen connections are `renumbered`; the table of flows still names each by its number in Wireshark.

Never here: which connections are chosen (outputs.selection), or what a table means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy

from observer.errors import OptionError
from observer.outputs.finding_rows import chosen_findings, concerned
from observer.outputs.selection import Selection
from observer.schema import SEVERITIES, Coded, Columns

Array = Any

FAR: Final = 4096
"""Chosen connections further apart than this are asked for singly, not with all between them."""
WHOLE: Final = ("skipped",)
"""Tables that are not about connections."""


class Choice:
    """Which connections, and which findings about them.

    Parameters
    ----------
    selection
        By address, port, final state and time.
    codes
        Only these findings, and the connections that have them; none given: all.
    severity
        Only findings as bad as this, and the connections that have them; None: all.
    streams
        Only these connections; None: all.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        codes: Sequence[str] = (),
        severity: str | None = None,
        streams: Sequence[int] | None = None,
    ) -> None:
        selection.check()
        if severity is not None and severity not in SEVERITIES:
            raise OptionError(f"{severity!r} is no severity; there are {', '.join(SEVERITIES)}")
        self.selection = selection
        self.codes = tuple(codes)
        self.severity = severity
        self.streams = None if streams is None else sorted(set(streams))

    def mask(self, flows: Columns, findings: Callable[[], Columns], begin_ns: int) -> Array:
        """Return for each connection of the capture whether it is chosen: bool, shape (connections,)."""
        chosen = self.selection.mask(flows, begin_ns)
        if self.streams is not None:
            wrong = [stream for stream in self.streams if not 0 <= stream < flows.rows]
            if wrong:
                raise OptionError(f"there is no stream {wrong[0]}: the capture has {flows.rows}, numbered from 0")
            named = numpy.zeros(flows.rows, bool)
            named[self.streams] = True
            chosen &= named
        if self.codes or self.severity:
            chosen &= concerned(self.findings(findings(), chosen), flows.rows)
        return chosen

    def findings(self, findings: Columns, chosen: Array) -> Columns:
        """Return the findings that were asked for, about the chosen connections."""
        found = chosen_findings(findings, self.codes, chosen)
        if self.severity:
            found = found.take(numpy.asarray(found["severity"]) >= SEVERITIES.index(self.severity))
        return found

    def words(self, begin_ns: int) -> str:
        """Say it in words."""
        said = [self.selection.words(begin_ns)] if self.selection else []
        if self.codes:
            said.append(f"finding {' or '.join(self.codes)}")
        if self.severity:
            said.append(f"findings from severity {self.severity} on")
        if self.streams is not None:
            shown = ", ".join(map(str, self.streams[:8])) + (", …" if len(self.streams) > 8 else "")
            said.append(f"stream {shown}")
        return ", ".join(said) or "all"


def narrowed(columns: Columns, chosen: Array) -> Columns:
    """Return the rows of a table that are about the chosen connections (mask)."""
    if columns.table in WHOLE:
        return columns
    if columns.table == "flows":
        return columns.take(chosen)
    return columns.take(chosen[numpy.asarray(columns["stream"])])


def places_of(chosen: Array) -> Array:
    """Return for each connection its place among the chosen ones, -1 if it is not chosen."""
    places = numpy.cumsum(chosen) - 1
    places[~chosen] = -1
    return places


def renumbered(columns: Columns, places: Array) -> Columns:
    """Return a table whose connections are numbered by their places among the chosen ones; flows keep their numbers."""
    if columns.table in (*WHOLE, "flows"):
        return columns
    source: dict[str, Any] = {name: partial(_piece, columns, name) for name in columns}
    source["stream"] = lambda start, stop: _placed(columns.part(start, stop)["stream"], places)
    if "streams" in columns:
        source["streams"] = [
            None if members is None else [place for place in _placed(members, places).tolist() if place >= 0]
            for members in columns["streams"]
        ]
    return Columns(columns.table, columns.rows, source, columns.addresses)


def _piece(columns: Columns, name: str, start: int, stop: int) -> Any:
    return columns.part(start, stop)[name]


def _placed(streams: Any, places: Array) -> Array:
    """Places of streams; what has none (-1) keeps none."""
    numbers = numpy.asarray(streams, numpy.int64)
    return numpy.where(numbers < 0, -1, places[numbers]) if len(places) else numbers


def gathered_history(history: Callable[[int, int], Columns], streams: Array, places: Array) -> Columns:
    """Return the histories of these streams (ascending), renumbered, from what gives those of a range of streams."""
    runs = numpy.split(streams, numpy.flatnonzero(numpy.diff(streams) > FAR) + 1) if len(streams) else []
    pieces = []
    for run in runs:
        found = history(int(run[0]), int(run[-1]) + 1)
        pieces.append(renumbered(found.take(numpy.isin(found["stream"], run)), places))
    if not pieces:
        return history(0, 0)
    if len(pieces) == 1:
        return pieces[0]
    source = {name: _joined([piece[name] for piece in pieces]) for name in pieces[0]}
    return Columns(pieces[0].table, sum(piece.rows for piece in pieces), source, pieces[0].addresses)


def _joined(parts: list[Any]) -> Any:
    """Join pieces of a raw column; labels of all have the same list of texts."""
    if isinstance(parts[0], Coded):
        return Coded(numpy.concatenate([numpy.asarray(part.codes) for part in parts]), parts[0].values)
    return numpy.concatenate([numpy.asarray(part) for part in parts])
