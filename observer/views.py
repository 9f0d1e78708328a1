"""Tables as DataFrames, and what leads on from them: pictures, one finding, one connection, a choice of connections.

Never here: reading captures, or anything decided about TCP.  pandas is imported when a table is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy

from observer import schema
from observer.errors import ObserverError
from observer.findings import population_columns
from observer.narrowing import Choice, gathered_history, narrowed, places_of, renumbered
from observer.options import Options
from observer.tcp.states import MACHINE, Machine

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from observer.finding import Found
    from observer.flow import Flow
    from observer.outputs.html import Told
    from observer.outputs.summary import Summary

Texts = str | Iterable[str]
Numbers = int | Iterable[int]
"""One, or several."""


def _all_of(some: Any) -> tuple[Any, ...]:
    """Return one or several as a tuple."""
    return (some,) if isinstance(some, str) or not isinstance(some, Iterable) else tuple(some)


class Tables:
    """The tables of an observation as DataFrames, each made when first asked for from its raw `columns`.

    Rows are numbered from 0; a connection is named by the column `stream`.
    """

    def columns(self, table: str) -> schema.Columns:
        """Return the raw columns of a table."""
        raise NotImplementedError

    @cached_property
    def flows(self) -> pandas.DataFrame:
        """One row per connection incarnation, numbered as Wireshark's tcp.stream."""
        return schema.from_columns("flows", self.columns("flows"))

    @cached_property
    def transitions(self) -> pandas.DataFrame:
        """One row per change of an endpoint's state, in time order; leave out retracted ones to fold in hindsight."""
        return schema.from_columns("transitions", self.columns("transitions"))

    @cached_property
    def events(self) -> pandas.DataFrame:
        """Everything else that is notable."""
        return schema.from_columns("events", self.columns("events"))

    @cached_property
    def skipped(self) -> pandas.DataFrame:
        """Every frame that gave no segment, counted by reason, and every damage of a file."""
        return schema.from_columns("skipped", self.columns("skipped"))

    @cached_property
    def findings(self) -> pandas.DataFrame:
        """What is wrong, or worth knowing: one row per finding, the worst first."""
        return schema.from_columns("findings", self.columns("findings"))

    @cached_property
    def resets(self) -> pandas.DataFrame:
        """Every RST: who sent it, its class, from a live socket or none, accepted or not."""
        return schema.from_columns("resets", self.columns("resets"))

    @cached_property
    def calls(self) -> pandas.DataFrame:
        """The socket view: what the applications' calls did, as far as the wire tells."""
        return schema.from_columns("calls", self.columns("calls"))

    @cached_property
    def population(self) -> pandas.DataFrame:
        """Number of endpoints in each state over time, for each listener and each host: one row per change."""
        return schema.from_columns("population", self.columns("population"))

    @property
    def machine(self) -> Machine:
        """The state machine that drives both endpoints, as data."""
        return MACHINE

    def plot(self, name: str, *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a picture of all connections.

        Parameters
        ----------
        name
            "lanes": both ends' states over time (order, most); "population": how many were in each state (listener,
            host, endpoint); "time_wait": TIME-WAIT against the ports that are left; "resets": by class and service;
            "handshake": how openings went (part); "matrix": who talks to whom (most); "states": the state machine
            with counts (machine).
        ax
            Where to draw; default: a new figure.
        options
            What that plot offers, in parentheses above; help(observer.plots.lanes.lanes) explains those of "lanes".

        Returns
        -------
        The matplotlib Axes, to change or to save: ``obs.plot("lanes").figure.savefig("lanes.png")``.

        Raises
        ------
        OptionError
            There is no such plot, or it has no such option.
        """
        from observer.plots import draw

        return draw(name, self, ax=ax, **options)


class Views(Tables):
    """What leads on from tables: one connection, one finding, a choice of connections, what a notebook shows.

    Needs the members that raise NotImplementedError here.
    """

    options: Options

    def flow(self, stream: int) -> Flow:
        """One connection: its packets, transitions and events."""
        raise NotImplementedError

    def packets(self, streams: Sequence[int]) -> pandas.DataFrame:
        """Segments of these streams in capture order."""
        raise NotImplementedError

    def keep(self, streams: Sequence[int]) -> None:
        """Keep the packets of these streams, with one more reading of the capture at most."""
        raise NotImplementedError

    def history(self, first: int, stop: int) -> schema.Columns:
        """Raw transitions of the streams first .. stop - 1, by stream and endpoint, see `findings.source.Source`."""
        raise NotImplementedError

    def summary(self, *, findings: schema.Columns | None = None, chosen: Any = None, selection: str = "") -> Summary:
        """Everything in numbers: what `observer read --json` prints.

        Parameters
        ----------
        findings
            Which findings to tell; default: all.
        chosen
            Which connections (mask); default: all.
        selection
            How they were chosen, in words.
        """
        raise NotImplementedError

    @property
    def begin_ns(self) -> int:
        """Time of the first frame, ns since 1970; 0 without frames."""
        raise NotImplementedError

    @property
    def end_ns(self) -> int:
        """The latest time stamp, ns since 1970; 0 without frames."""
        raise NotImplementedError

    @property
    def lost_frames(self) -> int:
        """Frames that the capturing machine says it lost."""
        raise NotImplementedError

    def finding(self, number: Any) -> Found:
        """One finding: its connection, its packets with the evidence marked, its story.

        number: its row in `findings`, as a number or as the row itself (`obs.findings.iloc[0]`).
        """
        from observer.finding import Found, number_of

        return Found(self, number_of(number, self.columns("findings")))

    def flow_of(self, finding: Any) -> Flow:
        """The connection of a finding (its number, or its row); of a population, the first that it names."""
        return self.finding(finding).flow

    def filter(
        self,
        *,
        host: Texts = (),
        port: Numbers = (),
        state: Texts = (),
        since: Any = None,
        until: Any = None,
        finding: Texts = (),
        severity: str | None = None,
        streams: Numbers | None = None,
    ) -> Selected:
        """Narrow everything at once: the same tables, pictures and representations, of some connections.

        Several values of one kind mean any of them, several kinds mean all of them.  Numbers of connections stay those
        of Wireshark.  The population is counted anew; findings about populations stay as they were made, of everybody,
        if a chosen connection is among theirs.

        Parameters
        ----------
        host, port, state
            Address or prefix, port, final state (also client:STATE, server:STATE), of either side.
        since, until
            A connection is chosen if any of it lies between: ISO 8601 (UTC unless it says otherwise), a datetime or
            Timestamp, seconds since 1970, or "+seconds" (or a timedelta) after the capture's begin.
        finding
            Codes: only these findings, and the connections that they concern.
        severity
            Only findings as bad as this ("info", "warning", "problem"), and the connections that they concern.
        streams
            Only these connections.

        Raises
        ------
        OptionError
            What does not exist: a state, a finding, a stream.
        """
        from observer.narrowing import Choice
        from observer.outputs.selection import Selection, as_moment
        from observer.registry import Finding, choose

        selection = Selection(
            hosts=_all_of(host), ports=_all_of(port), states=_all_of(state),
            since=as_moment(since), until=as_moment(until),
        )  # fmt: skip
        codes = [one.name for one in choose(Finding, _all_of(finding))]
        named = None if streams is None else [int(stream) for stream in _all_of(streams)]
        return Selected(self, Choice(selection, codes=codes, severity=severity, streams=named))

    def explore(self) -> Any:
        """An explorer for notebooks: choose a finding or a connection; see its ladder, time-sequence graph and story.

        Without ipywidgets, or outside of a notebook, what can be seen without choosing.
        """
        from observer.outputs.explorer import explore

        return explore(self)

    def explain(self, *, width: int = 80) -> Told:
        """What `observer read` prints: what is wrong, and what happened, as text that prints well."""
        from observer.outputs.html import summary_text

        return summary_text(self.summary(), width=width)

    def _repr_html_(self) -> str:
        from observer.outputs.html import observation_html

        summary = self.summary()
        example = next((one.example for one in summary.finding_groups if one.example is not None), None)
        if example is None:
            return observation_html(summary)
        head = f'<div class="o-head">The worst of them: obs.flow({example})</div>'
        return observation_html(summary, picture=head + self.flow(example).picture_html())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else str(self.explain()))


class Selected(Views):
    """Some connections of an observation: its tables, pictures and representations, of these alone.

    Attributes
    ----------
    base
        All of them.
    chosen
        bool, shape (connections of the capture,).
    words
        How they were chosen.
    """

    def __init__(self, base: Views, choice: Choice) -> None:
        # of a choice within a choice: only what both chose
        self.base: Views = base.base if isinstance(base, Selected) else base
        self.options = self.base.options
        self._choices: list[Choice] = [*base._choices, choice] if isinstance(base, Selected) else [choice]
        self._columns: dict[str, schema.Columns] = {}
        flows, begin_ns = self.base.columns("flows"), self.base.begin_ns
        self.chosen = choice.mask(flows, lambda: base.columns("findings"), begin_ns)
        if isinstance(base, Selected):
            self.chosen &= base.chosen
        self.words = "; ".join(one.words(begin_ns) for one in self._choices)

    def columns(self, table: str) -> schema.Columns:
        """The raw columns of a table, of the chosen connections; "skipped" is that of the whole capture."""
        if table not in self._columns:
            if table == "findings":
                made = self.base.columns(table)
                for choice in self._choices:
                    made = choice.findings(made, self.chosen)
            elif table == "population":
                made = population_columns(self.numbered)
            else:
                made = narrowed(self.base.columns(table), self.chosen)
            self._columns[table] = made
        return self._columns[table]

    @cached_property
    def numbered(self) -> Numbered:
        """The same with connections numbered from 0, as pictures need it."""
        return Numbered(self)

    def flow(self, stream: int) -> Flow:
        """One connection, by its number in Wireshark.

        Raises
        ------
        ObserverError
            It is not among the chosen ones.
        """
        if not (0 <= stream < len(self.chosen) and self.chosen[stream]):
            raise ObserverError(f"stream {stream} is not among those chosen ({self.words})")
        return self.base.flow(stream)

    def packets(self, streams: Sequence[int] | None = None) -> pandas.DataFrame:
        """Segments of these streams (default: of all chosen ones) in capture order; reads the capture again."""
        chosen = numpy.flatnonzero(self.chosen).tolist() if streams is None else streams
        return self.base.packets(chosen)

    def keep(self, streams: Sequence[int]) -> None:
        """Keep the packets of these streams, with one more reading of the capture at most."""
        self.base.keep(streams)

    def history(self, first: int, stop: int) -> schema.Columns:
        """Raw transitions of the streams first .. stop - 1 that are chosen."""
        found = self.base.history(first, stop)
        return found.take(self.chosen[numpy.asarray(found["stream"])])

    def summary(self, *, findings: schema.Columns | None = None, chosen: Any = None, selection: str = "") -> Summary:
        """The chosen connections in numbers, and the capture that they are of."""
        mask = self.chosen if chosen is None else chosen & self.chosen
        found = self.columns("findings") if findings is None else findings
        return self.base.summary(findings=found, chosen=mask, selection=selection or self.words)

    @property
    def begin_ns(self) -> int:
        """Time of the capture's first frame, ns since 1970."""
        return self.base.begin_ns

    @property
    def end_ns(self) -> int:
        """The capture's latest time stamp, ns since 1970."""
        return self.base.end_ns

    @property
    def lost_frames(self) -> int:
        """Frames that the capturing machine says it lost."""
        return self.base.lost_frames

    def plot(self, name: str, *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a picture of the chosen connections, see `Tables.plot`."""
        from observer.plots import draw

        return draw(name, self.numbered, ax=ax, **options)

    _repr_pretty_ = Views._repr_pretty_  # IPython takes the nearest class's, be it this or __repr__

    def __repr__(self) -> str:
        return f"<Selected: {int(self.chosen.sum()):,} of {len(self.chosen):,} connections: {self.words}>"


class Numbered(Tables):
    """Chosen connections numbered from 0: for pictures and counts, which look a connection up by its place."""

    def __init__(self, selected: Selected) -> None:
        self._selected = selected
        self.options = selected.options
        self._streams = numpy.flatnonzero(selected.chosen)
        self._places = places_of(selected.chosen)

    def columns(self, table: str) -> schema.Columns:
        """The raw columns of a table; of flows, the column stream is still the number in Wireshark."""
        columns = self._selected.columns(table)
        return columns if table == "population" else renumbered(columns, self._places)

    def flow(self, stream: int) -> Flow:
        """One connection, by its place."""
        return self._selected.flow(int(self._streams[stream]))

    def keep(self, streams: Sequence[int]) -> None:
        """Keep the packets of the connections at these places."""
        self._selected.keep([int(self._streams[stream]) for stream in streams])

    def history(self, first: int, stop: int) -> schema.Columns:
        """Raw transitions of the connections at the places first .. stop - 1."""
        return gathered_history(self._selected.base.history, self._streams[first:stop], self._places)

    @property
    def begin_ns(self) -> int:
        """Time of the capture's first frame, ns since 1970."""
        return self._selected.begin_ns

    @property
    def end_ns(self) -> int:
        """The capture's latest time stamp, ns since 1970."""
        return self._selected.end_ns

    @property
    def lost_frames(self) -> int:
        """Frames that the capturing machine says it lost."""
        return self._selected.lost_frames
