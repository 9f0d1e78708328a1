"""What pictures ask of the observation and of the connection that they draw: any object with these members will do.

Never here: drawing.  The real ones are `observer.observation.Observation` and `observer.flow.Flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy

from observer.schema import Coded, Columns

if TYPE_CHECKING:
    import pandas

    from observer.options import Options

Ints = Any
"""int64, one-dimensional."""


class Rule(Protocol):
    """One row of the state machine: codes into `schema.STATES`, and a code of an event."""

    @property
    def state(self) -> int:
        """Give the state before."""

    @property
    def event(self) -> int:
        """Give the event."""

    @property
    def to(self) -> int:
        """Give the state after."""


class Machine(Protocol):
    """The state machine as data."""

    @property
    def rules(self) -> Sequence[Rule]:
        """Give its rows."""

    @property
    def events(self) -> Sequence[str]:
        """Give the names of its events by code, as in the column `cause` of the transitions."""


class FlowSubject(Protocol):
    """One connection."""

    stream: int

    def columns(self, table: str) -> Columns:
        """Return raw columns of "flows", "packets", "transitions", "events" or "calls" for it alone."""

    @property
    def observation(self) -> ObservationSubject:
        """Give the observation that it belongs to."""


class ObservationSubject(Protocol):
    """All connections of a capture."""

    options: Options

    def columns(self, table: str) -> Columns:
        """Return raw columns: see `Observation.columns`.  Preferred to DataFrames: it is faster."""

    def flow(self, stream: int) -> FlowSubject:
        """Return one connection."""

    def keep(self, streams: Sequence[int]) -> None:
        """Keep the packets of these streams, with one more reading of the capture at most."""

    @property
    def machine(self) -> Machine:
        """Give the state machine that drives both endpoints."""

    @property
    def begin_ns(self) -> int:
        """Give the time of the first frame, ns since 1970 UTC; 0 without frames."""

    @property
    def end_ns(self) -> int:
        """Give the latest time stamp, ns since 1970 UTC; 0 without frames."""

    @property
    def flows(self) -> pandas.DataFrame:
        """Give the table of connections."""

    @property
    def findings(self) -> pandas.DataFrame:
        """Give the table of findings."""


def numbers(columns: Columns, name: str) -> Ints:
    """Return a raw column of plain integers as int64; a nullable column that is not there is -1 throughout.

    Examples
    --------
    >>> numbers(Columns("events", 2, {"frame": [3, 4]}), "frame").tolist()
    [3, 4]
    """
    if name not in columns:
        return numpy.full(columns.rows, -1, numpy.int64)
    return numpy.asarray(columns[name], numpy.int64)


def texts(columns: Columns, name: str) -> list[str]:
    """Return a raw column of texts or labels as str, "" for null.

    Examples
    --------
    >>> texts(Columns("events", 2, {"event": Coded([0, -1], ["reset"])}), "event")
    ['reset', '']
    """
    if name not in columns:
        return [""] * columns.rows
    raw = columns[name]
    if isinstance(raw, Coded):
        return [raw.values[code] if code >= 0 else "" for code in numpy.asarray(raw.codes).tolist()]
    if getattr(raw, "dtype", None) is not None and raw.dtype.kind == "S":
        return list(raw.astype("U").tolist())
    return ["" if text is None else str(text) for text in raw]


def address(columns: Columns, name: str, row: int) -> str:
    """Return one address as text, "" for null."""
    code = int(numbers(columns, name)[row])
    return columns.addresses.text(code) if columns.addresses is not None and code >= 0 else ""
