"""From an observation's tables to its findings: which connections are worth a look, and who looks at them.

    events, flows -> marked connections -> cases -> judges -> verdicts
    flows, transitions -> crowd, spans -> surveys -> verdicts -> table

Flows and transitions are gone through once each, a part at a time, so memory does not grow with them beyond a few
octets for each connection.  Plain connections cost a few vectorised comparisons.

Never here: a criterion (each stands with its finding).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy

from observer.findings import around as near
from observer.findings.around import ADDRESS_SHIFT, Around, Crowd
from observer.findings.case import Case, Note, Step
from observer.findings.source import Source
from observer.findings.survey import SPAN_STATES, Marks, Spans, Survey
from observer.findings.verdict import Verdict
from observer.registry import Finding, collect
from observer.schema import CERTAINTIES, ENDPOINTS, STATES, Coded, Columns

Array = Any
Judge = Callable[[Case], Iterable[Verdict]]

PART_ROWS: Final = 8192
"""Connections looked at at once: their rows stay in the caches."""
PART_CASES: Final = 256
"""Marked connections whose events are looked up at once."""
SIDE_COLUMNS: Final = (
    "packets", "octets", "unique_octets", "retransmitted", "zero_windows", "keepalives", "rtt_ns", "state",
    "certainty", "last_time",
)  # fmt: skip
FLOW_COLUMNS: Final = (
    "client_addr", "client_port", "server_addr", "server_port", "roles", "version", "first_time", "last_time",
    "first_frame", "last_frame", "syn_count", "synack_count", "handshake_ns", "timestamps", "fast_open",
    "closed_first", "ended", "rst_sender", "time_wait_holder", "tap", "tap_grade", "completeness",
    "previous_stream",
    *(f"{side}_{column}" for side in ENDPOINTS for column in SIDE_COLUMNS),
)  # fmt: skip
"""Columns of `flows` that a case has, as raw numbers."""
STEP_COLUMNS: Final = (
    "stream", "endpoint", "time", "frame", "from_state", "to_state", "certainty", "proof_frame",
)  # fmt: skip
"""Columns of `transitions` that a step is made from, beside its cause."""
NOTE_COLUMNS: Final = ("time", "frame", "endpoint", "event", "value", "facts", "number", "gap", "data_gap", "own_gap")
"""Columns of `events` that a note is made from, documented and others."""
RETRACTED: Final = CERTAINTIES.index("retracted")


class Judging:
    """One pass over a source: everything that findings, calls and populations are made from.

    Parameters
    ----------
    source
        The observation.
    findings
        Which ones; default: all that are registered.
    everything
        Whether every connection becomes a case, not only those that are marked.
    """

    def __init__(self, source: Source, findings: Sequence[Finding] | None = None, *, everything: bool = False) -> None:
        self.source = source
        self.findings = list(collect(Finding).values()) if findings is None else list(findings)
        self.flows = source.columns("flows")
        self._everything = everything
        self._notes = _Notes(source)
        marked = self._notes.marked(self.findings, self.flows.rows)
        self._rows: dict[int, dict[str, int]] = self._recall_rows()
        self._lone_parts: set[int] = set()  # where nothing but single segments is: a flood has no histories
        self.around = self._look_over_flows(marked)
        self._rows = dict(sorted(self._rows.items()))
        self._steps: dict[int, tuple[list[Step], list[Step]]] = self._recall_steps()
        self.spans = self._look_over_histories()

    def cases(self) -> Iterator[Case]:
        """The marked connections, in order of their numbers."""
        streams = list(self._rows)
        for start in range(0, len(streams), PART_CASES):
            part = streams[start : start + PART_CASES]
            for stream, notes in zip(part, self._notes.of(part), strict=True):
                yield Case(stream, self._rows[stream], self._steps.get(stream, ([], [])), notes, self.around)

    def verdicts(self) -> list[Verdict]:
        """All that there is to find, in no particular order."""
        found: dict[str, list[Verdict]] = {finding.name: [] for finding in self.findings}
        judges: dict[frozenset[str], list[tuple[Finding, Judge]]] = {}
        for case in self.cases():
            known = self._recall_verdicts(case)
            if known is None:
                known = []
                said = frozenset([note.event for note in case.notes])
                if said not in judges:  # few combinations of events, many connections
                    judges[said] = self._judges(said)
                for finding, judge in judges[said]:
                    for verdict in judge(case):
                        self._complete(verdict, finding, case)
                        known.append((finding.name, verdict))
                self._learn(case, known)
            for name, verdict in known:
                found[name].append(verdict)
        survey = Survey(self.around, self.spans, found, self.flows, self._notes.of_event)
        for finding in self.findings:
            if finding.survey is not None:
                for verdict in finding.survey(survey):
                    self._complete(verdict, finding, None)
                    found[finding.name].append(verdict)
        return [verdict for verdicts in found.values() for verdict in verdicts]

    def _judges(self, said: frozenset[str]) -> list[tuple[Finding, Judge]]:
        """Who looks at a connection of which these events were noted."""
        return [
            (finding, finding.judge)
            for finding in self.findings
            if finding.judge is not None
            and (finding.wakes_flows is not None or not said.isdisjoint(wake.event for wake in finding.wakes))
        ]

    def _complete(self, verdict: Verdict, finding: Finding, case: Case | None) -> None:
        verdict.code = finding.name
        verdict.severity = verdict.severity or finding.severity
        verdict.remedy = verdict.remedy or finding.remedy
        if case is not None:
            verdict.stream = case.stream
            verdict.client = (case.flow["client_addr"], case.flow["client_port"])
            verdict.server = (case.flow["server_addr"], case.flow["server_port"])

    # --- what `again.Again` does in another way ----------------------------------------------------------

    def _parts(self, count: int) -> Iterator[tuple[int, int]]:
        """Which connections to look at, some at a time: first, and the one behind the last."""
        for start in range(0, count, PART_ROWS):
            yield start, min(start + PART_ROWS, count)

    def _recall_rows(self) -> dict[int, dict[str, int]]:
        """Give the rows of marked connections that are not looked at."""
        return {}

    def _recall_steps(self) -> dict[int, tuple[list[Step], list[Step]]]:
        """Give their steps."""
        return {}

    def _recall_crowd(self, crowd: Crowd) -> None:
        """Write what is known of connections that are not looked at."""

    def _recall_spans(self, state: str) -> list[Spans]:
        """Give the stretches of connections that are not looked at."""
        return []

    def _recall_verdicts(self, case: Case) -> list[tuple[str, Verdict]] | None:
        """Give what was said of a connection, by code, if it need not be judged again."""
        return None

    def _learn(self, case: Case, said: list[tuple[str, Verdict]]) -> None:
        """Take notice of what was said of a connection."""

    # --- one pass over the flows -------------------------------------------------------------------------

    def _look_over_flows(self, marked: Array) -> Around:
        """Fill the crowd, and keep the rows of marked connections."""
        options = self.source.options
        wakers = [finding.wakes_flows for finding in self.findings if finding.wakes_flows is not None]
        count = self.flows.rows
        crowd = Crowd(
            *(numpy.empty(count, kind) for kind in (*(numpy.int64,) * 4, numpy.uint8, numpy.uint8, numpy.uint16))
        )
        self._recall_crowd(crowd)
        copies = self._notes.copies(count)
        for start, stop in self._parts(count):
            read = _Read(self.flows.part(start, stop))
            for side, number in copies.items():
                read[f"{side}_packets"] = read[f"{side}_packets"] - number[start:stop]
            mask = marked[start:stop]
            for waker in wakers:
                mask |= waker(read, options)
            _join(crowd, start, stop, read)
            rows = numpy.arange(stop - start) if self._everything else numpy.flatnonzero(mask)
            if not len(rows) and (read["client_packets"] + read["server_packets"] <= 1).all():
                self._lone_parts.add(start)
            if len(rows):
                lists = (read[name][rows].tolist() for name in FLOW_COLUMNS)
                for row, values in zip(rows.tolist(), zip(*lists, strict=True), strict=True):
                    self._rows[start + row] = dict(zip(FLOW_COLUMNS, values, strict=True))
        source = self.source
        return Around(
            crowd, options, begin_ns=source.begin_ns, end_ns=source.end_ns, lost_frames=source.lost_frames,
            addresses=self.flows.addresses, noted=self._notes.noted,
        )  # fmt: skip

    # --- one pass over the transitions -------------------------------------------------------------------

    def _look_over_histories(self) -> dict[str, Spans]:
        """Stretches in some states of all connections, and all steps of the marked ones."""
        count = self.flows.rows
        marked = numpy.zeros(count, bool)
        marked[list(self._rows)] = True
        pieces = {state: self._recall_spans(state) for state in SPAN_STATES}
        for start, stop in self._parts(count):
            if start in self._lone_parts:
                continue
            part = self.source.history(start, stop)
            if not part.rows:
                continue
            read = _Read(part)
            live = read["certainty"] != RETRACTED
            for state in SPAN_STATES:
                pieces[state].append(_stretches(read, live, STATES.index(state), self.source.end_ns))
            self._keep_steps(read, part["cause"], marked)
        return {state: _joined(found) for state, found in pieces.items()}

    def _keep_steps(self, read: Mapping[str, Array], causes: Coded, marked: Array) -> None:
        rows = numpy.flatnonzero(marked[read["stream"]])
        if not len(rows):
            return
        columns = {name: read[name][rows].tolist() for name in STEP_COLUMNS}
        steps = map(
            Step, columns["time"], columns["frame"], map(STATES.__getitem__, columns["from_state"]),
            map(STATES.__getitem__, columns["to_state"]),
            map(causes.values.__getitem__, numpy.asarray(causes.codes)[rows].tolist()),
            map(CERTAINTIES.__getitem__, columns["certainty"]), columns["proof_frame"],
        )  # fmt: skip
        for stream, endpoint, step in zip(columns["stream"], columns["endpoint"], steps, strict=True):
            if stream not in self._steps:
                self._steps[stream] = ([], [])
            self._steps[stream][endpoint].append(step)


class _Read(dict[str, Array]):
    """Columns of a part, each read when first asked for: most parts need few."""

    def __init__(self, part: Columns) -> None:
        super().__init__()
        self._part = part

    def __missing__(self, name: str) -> Array:
        self[name] = values = numpy.asarray(self._part[name])
        return values


class _Notes:
    """Events by connection."""

    def __init__(self, source: Source) -> None:
        columns = source.columns("events")
        self._stream = numpy.asarray(columns["stream"])
        events: Coded = columns["event"]
        self._names = events.values
        self._codes = numpy.asarray(events.codes)
        self._value = numpy.asarray(columns["value"])
        facts: Coded = columns["facts"]
        self._facts = [frozenset(text.split(",")) if text else frozenset() for text in facts.values]
        self._columns = {name: numpy.asarray(columns[name]) for name in NOTE_COLUMNS if name not in ("event", "facts")}
        self._columns |= {"event": self._codes, "facts": numpy.asarray(facts.codes)}
        self._order: Array | None = None

    def marked(self, findings: Iterable[Finding], count: int) -> Array:
        """Which connections have an event that wakes a finding: bool, shape (count,)."""
        wanted: dict[str, int] = {}
        for finding in findings:
            for wake in finding.wakes:
                wanted[wake.event] = min(wake.least, wanted.get(wake.event, wake.least))
        never = numpy.iinfo(numpy.int64).max
        least = numpy.full(len(self._names), never, numpy.int64)
        for code, name in enumerate(self._names):
            least[code] = wanted.get(name, never)
        mask = numpy.zeros(count, bool)
        if len(self._stream):
            mask[self._stream[(self._value >= least[self._codes]) & (least[self._codes] != never)]] = True
        return mask

    def copies(self, count: int) -> dict[str, Array]:
        """By side: frames of each connection that the capture has twice, which no endpoint sent; {}: there are none."""
        doubled = numpy.flatnonzero(self._codes == self._code("duplicate_frame"))
        if not len(doubled):
            return {}
        stream, endpoint = self._stream[doubled], self._columns["endpoint"][doubled]
        return {
            side: numpy.bincount(stream[endpoint == number], minlength=count)
            for number, side in enumerate(ENDPOINTS)
        }  # fmt: skip

    def _code(self, name: str) -> int:
        return list(self._names).index(name) if name in self._names else -1

    def of_event(self, name: str) -> Marks:
        """All events of one name."""
        rows = numpy.flatnonzero(self._codes == self._code(name))
        columns = self._columns
        return Marks(columns["time"][rows], columns["frame"][rows], columns["value"][rows], self._stream[rows])

    def noted(self, event: str) -> tuple[Array, Array]:
        """Streams and times of all events of this name, in the order of the capture."""
        if event not in self._names:
            return numpy.zeros(0, numpy.int64), numpy.zeros(0, numpy.int64)
        rows = numpy.flatnonzero(self._codes == list(self._names).index(event))
        return self._stream[rows], self._columns["time"][rows]

    def of(self, streams: Sequence[int]) -> Iterator[list[Note]]:
        """Events of each of these connections, in the order of the capture."""
        if self._order is None:
            # by stream; within a stream the capture's order stays
            self._order = numpy.argsort(self._stream, kind="stable")
            self._sorted = self._stream[self._order]
        lows = numpy.searchsorted(self._sorted, streams, "left").tolist()
        highs = numpy.searchsorted(self._sorted, streams, "right").tolist()
        pieces = [self._order[low:high] for low, high in zip(lows, highs, strict=True)]
        rows = numpy.concatenate(pieces) if pieces else self._order[:0]
        read = {name: self._columns[name][rows].tolist() for name in NOTE_COLUMNS}
        read["endpoint"] = map(ENDPOINTS.__getitem__, read["endpoint"])
        read["event"] = map(self._names.__getitem__, read["event"])
        read["facts"] = map(self._facts.__getitem__, read["facts"])
        notes = map(Note, *read.values())
        for piece in pieces:
            yield list(itertools.islice(notes, len(piece)))


def _join(crowd: Crowd, start: int, stop: int, read: Mapping[str, Array]) -> None:
    """Write what is kept of every connection."""
    crowd.client[start:stop] = read["client_addr"].astype(numpy.int64) << ADDRESS_SHIFT | read["client_port"]
    crowd.server[start:stop] = read["server_addr"].astype(numpy.int64) << ADDRESS_SHIFT | read["server_port"]
    crowd.first[start:stop] = read["first_time"]
    crowd.last[start:stop] = read["last_time"]
    crowd.client_state[start:stop] = read["client_state"]
    crowd.server_state[start:stop] = read["server_state"]
    # of the server's segments, its SYN-ACKs and one RST aside
    server_own = read["server_packets"] - read["synack_count"] > (read["rst_sender"] == 1)
    # of the client's, its SYNs and one RST (0: client, 2: both)
    client_own = read["client_packets"] - read["syn_count"] > ((read["rst_sender"] & 1) == 0)
    bits = numpy.zeros(stop - start, crowd.bits.dtype)
    for bit, holds in (
        (near.SAW_SYN, read["syn_count"] > 0),
        (near.SAW_SYNACK, read["synack_count"] > 0),
        (near.COMPLETED, read["handshake_ns"] > 0),
        (near.SERVER_SPOKE, server_own),
        (near.SERVER_SENT, read["server_octets"] > 0),
        (near.CLIENT_SENT, read["client_octets"] > 0),
        (near.CLOSED_BY_RESET, read["ended"] == 1),
        (near.CLIENT_CLOSED_FIRST, read["closed_first"] == 0),
        (near.SERVER_CLOSED_FIRST, read["closed_first"] == 1),
        (near.MIDSTREAM, (read["syn_count"] == 0) & (read["synack_count"] == 0)),
        (near.SYN_REPEATED, read["syn_count"] > 1),
        (near.SYNACK_REPEATED, read["synack_count"] > 1),
        (near.CLIENT_SPOKE, client_own),
        (near.RESET_BY_SERVER, read["rst_sender"] >= 1),
    ):
        bits |= holds * crowd.bits.dtype.type(bit)
    crowd.bits[start:stop] = bits


def _joined(found: Sequence[Spans]) -> Spans:
    if not found:
        return Spans(*(numpy.zeros(0, kind) for kind in (int, numpy.int8, int, int, bool, int)))
    return Spans(*(numpy.concatenate(column) for column in zip(*found, strict=True)))


def _stretches(read: Mapping[str, Array], live: Array, state: int, end_ns: int) -> Spans:
    """Stretches in one state: from the live step into it to the endpoint's next one."""
    into = numpy.flatnonzero((read["to_state"] == state) & live)
    after = into + 1
    inside = after < len(live)
    follows = numpy.zeros(len(into), bool)
    follows[inside] = (
        live[after[inside]]
        & (read["stream"][after[inside]] == read["stream"][into[inside]])
        & (read["endpoint"][after[inside]] == read["endpoint"][into[inside]])
    )
    end = numpy.full(len(into), end_ns, numpy.int64)
    end[follows] = read["time"][after[follows]]
    return Spans(
        read["stream"][into], read["endpoint"][into].astype(numpy.int8), read["time"][into], end, ~follows,
        read["frame"][into],
    )  # fmt: skip
