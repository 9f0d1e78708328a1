"""What a capture says about its TCP connections, held as tables.

Never here: reading (observe), and nothing is decided here about TCP or about formats.  pandas is imported when a table
is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy

from observer import schema
from observer.capture import Damage, FileInfo
from observer.errors import ObserverError, OptionError
from observer.findings import call_columns, find, population_columns, reset_columns
from observer.options import Options
from observer.roles import Roles
from observer.tables import FlowTable, event_columns, history_columns, skipped_columns, transition_columns
from observer.tcp.tracker import Tracker
from observer.views import Tables, Views
from observer.wire import Decoder

if TYPE_CHECKING:
    import pandas

    from observer.flow import Flow, Kept
    from observer.outputs.summary import Summary

__all__ = ["CaptureInfo", "Observation", "Tables"]


@dataclass
class CaptureInfo:
    """What was captured.

    Attributes
    ----------
    files
        One entry for each file: name, format, link types, drop counts.
    frames
        Frames read.
    first_time_ns, last_time_ns
        Time stamps of the first and the latest frame, ns since 1970 UTC; None without frames.
    damages
        Where files were damaged or cut.
    interrupted
        Whether reading was ended by Ctrl-C; what had been read by then is all there.
    """

    files: list[FileInfo] = field(default_factory=list)
    frames: int = 0
    first_time_ns: int | None = None
    last_time_ns: int | None = None
    damages: list[Damage] = field(default_factory=list)
    interrupted: bool = False


class Observation(Views):
    """What a capture says about its TCP connections.

    Tables are pandas DataFrames, made when first asked for; `columns` gives the same without pandas.
    """

    def __init__(
        self,
        sources: Any,
        options: Options,
        capture: CaptureInfo,
        decoder: Decoder,
        tracker: Tracker,
        kept: Kept | None,
        *,
        again: Callable[[Collection[int]], Kept | None] | None = None,
    ) -> None:
        self.sources = sources
        self.options = options
        self.capture = capture
        self.decoder = decoder
        self.tracker = tracker
        self.kept = kept
        self._again = again
        self._columns: dict[str, schema.Columns] = {}

    def columns(self, table: str) -> schema.Columns:
        """The raw columns of a table, made when asked for.

        One of "flows", "transitions", "events", "skipped", "findings", "resets", "calls", "population".
        """
        if table not in self._columns:
            makers: dict[str, Callable[[], schema.Columns]] = {
                "flows": lambda: FlowTable(self).columns(),
                "transitions": lambda: transition_columns(self),
                "events": lambda: event_columns(self),
                "skipped": lambda: skipped_columns(self),
                "findings": lambda: find(self),
                "resets": lambda: reset_columns(self),
                "calls": lambda: call_columns(self),
                "population": lambda: population_columns(self),
            }
            if table not in makers:
                raise OptionError(f"there is no table {table!r} here; there are {', '.join(makers)}")
            self._columns[table] = makers[table]()
        return self._columns[table]

    def give(self, table: str, columns: schema.Columns) -> None:
        """Have a table that was made in another way."""
        self._columns[table] = columns

    def history(self, first: int, stop: int) -> schema.Columns:
        """Raw transitions of the streams first .. stop - 1, by stream and endpoint, see `findings.source.Source`."""
        return history_columns(self, first, stop)

    def summary(self, *, findings: schema.Columns | None = None, chosen: Any = None, selection: str = "") -> Summary:
        """Everything in numbers, see `Views.summary`."""
        from observer.outputs.summary import summarise

        return summarise(
            self.capture, self.segments, self.columns("skipped"), self.columns("flows"), quoted=self.quoted_frames,
            findings=self.columns("findings") if findings is None else findings, chosen=chosen, selection=selection,
        )  # fmt: skip

    @property
    def begin_ns(self) -> int:
        """Time of the first frame, ns since 1970; 0 without frames."""
        return self.capture.first_time_ns or 0

    @property
    def end_ns(self) -> int:
        """The latest time stamp, ns since 1970; 0 without frames."""
        return self.capture.last_time_ns or 0

    @property
    def lost_frames(self) -> int:
        """Frames that the capturing machine says it lost."""
        return sum((info.dropped_interface or 0) + (info.dropped_os or 0) for info in self.capture.files)

    def report(self, path: str | os.PathLike[str] = "report.html", *, made: str = "") -> Summary:
        """Write everything that people want to know into one self-contained HTML page.

        Parameters
        ----------
        path
            The file; a report of that name is replaced, anything else is not.
        made
            When it was made, in words; default: the page does not say, and is the same each time.

        Returns
        -------
        What was told, as `observer read` tells it.

        Raises
        ------
        OptionError
            The file cannot be written, or is no report.
        """
        from observer import __version__
        from observer.outputs.report import write_report
        from observer.plots.inline import Drawing

        sources = self.sources if isinstance(self.sources, list | tuple) else [self.sources]
        named = all(isinstance(source, str | os.PathLike) for source in sources)
        names = [os.fspath(source) for source in sources] if named else []
        drawing = Drawing(self, calls=lambda streams: call_columns(self, streams))
        return write_report(self, path, drawing=drawing, version=__version__, names=names, made=made)

    def packets(self, streams: Sequence[int]) -> pandas.DataFrame:
        """Segments of these streams in capture order, with both endpoints' states after each; reads the capture again.

        Raises
        ------
        ObserverError
            A stream that does not exist, or a source that cannot be read twice (a pipe).
        """
        from observer.flow import packet_columns

        return schema.from_columns("packets", packet_columns(self, streams))

    def keep(self, streams: Sequence[int]) -> None:
        """Keep the packets of these streams, with one more reading of the capture at most.

        Raises
        ------
        ObserverError
            A source that cannot be read twice (a pipe).
        """
        from observer.flow import keep

        keep(self, streams)

    def read_again(self, streams: Collection[int]) -> None:
        """Read the capture a second time and keep the packets of these streams."""
        if self._again is None:
            raise ObserverError("this observation has no capture behind it that could be read again")
        self.kept = self._again(streams)

    def flow(self, stream: int) -> Flow:
        """One connection: its packets, transitions and events."""
        from observer.flow import Flow

        if not 0 <= stream < self.tracker.stream_count:
            raise ObserverError(
                f"there is no stream {stream}: the capture has {self.tracker.stream_count}, numbered from 0"
            )
        return Flow(self, stream)

    @cached_property
    def addresses(self) -> tuple[Any, Any, Any]:
        """Distinct addresses and who has them, see `Tracker.addresses`."""
        return self.tracker.addresses()

    @cached_property
    def roles(self) -> Roles:
        """Who is client and who is server where the opening was not captured."""
        return Roles(self.tracker, lambda: self.addresses[2])

    # --- counts ------------------------------------------------------------------------------------------

    @property
    def segments(self) -> int:
        """TCP segments that belong to a flow."""
        return self.tracker.segment_count

    @property
    def quoted_frames(self) -> int:
        """Frames that hold no segment but an ICMP error that quotes one (an event of its flow)."""
        return self.decoder.quoted_frames

    @property
    def skipped_reasons(self) -> Sequence[Any]:
        """Why frames gave no segment, most frequent first (see wire.reasons)."""
        return list(self.decoder.skipped)

    def file_of(self, frames: Any) -> schema.Coded:
        """In which file frames stand; null where files were merged frame by frame."""
        files = self.capture.files
        names = [info.name for info in files]
        codes = numpy.full(len(frames), -1, numpy.int64)
        at = 1
        for number, info in enumerate(files):
            if info.frames and info.first_frame == at:
                codes[(frames >= at) & (frames < at + info.frames)] = number
            at += info.frames
        return schema.Coded(codes, names)

    _repr_pretty_ = Views._repr_pretty_  # IPython takes the nearest class's, be it this or __repr__

    def __repr__(self) -> str:
        return (
            f"<Observation: {self.capture.frames:,} frames, {self.segments:,} segments, "
            f"{self.tracker.stream_count:,} connections>"
        )
