"""The socket view: what the applications' calls did, as far as the wire tells, as the table `calls`.

    transitions -> what each change of state means to a call (calls_words.py), for all connections at once
    marked cases -> what takes more than one change to tell (calls_cases.py), in the place of the former or beside it

Times are those at which the endpoint itself had the segment: the tap's time and half a round trip between the two,
where the handshake shows it.  `accept` and `recv` rows say from when on the call can return.

Never here: what a call means (calls_words.py), or how a row is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy

from observer.findings import calls_words as words
from observer.findings.calls_cases import LONG_TRIP, Row, calls_of, marker
from observer.findings.calls_words import Told
from observer.findings.judging import Judging
from observer.findings.source import Source
from observer.schema import CALLS, CERTAINTIES, ENDPOINTS, STATES, Coded, Columns

Array = Any

PART_ROWS: Final = 8192
"""Connections looked at at once: their rows stay in the caches."""
STEP_COLUMNS: Final = ("stream", "endpoint", "time", "frame", "from_state", "to_state", "certainty")
FLOW_COLUMNS: Final = (
    "version", "syn_count", "synack_count",
    *(f"{side}_{column}" for side in ENDPOINTS for column in ("rtt_ns", "unique_octets")),
)  # fmt: skip
RETRACTED: Final = CERTAINTIES.index("retracted")
SENT: Final = CERTAINTIES.index("sent")
ASSUMED: Final = CERTAINTIES.index("assumed")
NO_CALL: Final = -1
FRAME_BITS: Final = 36
"""A stream (28 bits) and a frame in one number."""
BARE_RESET: Final = "rcv_bare_rst"
"""A cause of calls_words.py: rcv_rst by a RST that no socket sent (CRITERIA.md, the two families of resets)."""
SYN_SENT, SYN_RECEIVED, ESTABLISHED, CLOSE_WAIT, UNKNOWN = map(
    STATES.index, ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT", "UNKNOWN")
)


def call_columns(source: Source, streams: Sequence[int] | None = None) -> Columns:
    """Raw columns of the table of calls, in time order; of these streams only, if any are given."""
    said = Sayings()
    ranges = _ranges(source.columns("flows").rows, streams)
    plain = _Plain(source, said)
    pieces = [piece for first, stop in ranges for piece in plain.rows(first, stop)]
    rows = [numpy.concatenate(column) for column in zip(*pieces, strict=True)] if pieces else [
        numpy.zeros(0, numpy.int64) for _ in range(6)
    ]  # fmt: skip
    special = list(_special(source, streams))
    rows = _merged(rows, special, said)
    order = numpy.lexsort((rows[1], rows[0], rows[3]))
    stream, endpoint, told, time, frame, certainty = (column[order] for column in rows)
    return Columns(
        "calls",
        len(stream),
        {
            "stream": stream,
            "endpoint": endpoint,
            "call": numpy.array(said.calls, numpy.int8)[told] if len(told) else told,
            "outcome": Coded(numpy.array(said.outcomes, numpy.int64)[told] if len(told) else told, said.outcome_names),
            "time": time,
            "frame": frame,
            "certainty": certainty,
            "summary": Coded(told, said.sentences),
        },
    )


def _ranges(count: int, streams: Sequence[int] | None) -> Iterator[tuple[int, int]]:
    if streams is None:
        yield from ((first, min(first + PART_ROWS, count)) for first in range(0, count, PART_ROWS))
    else:
        yield from ((stream, stream + 1) for stream in sorted(set(streams)))


class Sayings:
    """Every different (call, outcome, sentence) of a table, numbered.

    Attributes
    ----------
    calls, outcomes, sentences
        By number: code of the call, number of the outcome's name, the sentence.
    outcome_names
        By number of an outcome.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.outcomes: list[int] = []
        self.sentences: list[str] = []
        self.outcome_names: list[str] = []
        self._numbers: dict[Told, int] = {}

    def number(self, told: Told) -> int:
        """Its number, new ones next."""
        if told not in self._numbers:
            self._numbers[told] = len(self.calls)
            if told.outcome not in self.outcome_names:
                self.outcome_names.append(told.outcome)
            self.calls.append(CALLS.index(told.call))
            self.outcomes.append(self.outcome_names.index(told.outcome))
            self.sentences.append(told.sentence)
        return self._numbers[told]

    def of_sides(self, told: Told) -> list[int]:
        """Its numbers as said of the client and of the server."""
        return [
            self.number(told._replace(sentence=told.sentence.format(side=side, other=other)))
            for side, other in (ENDPOINTS, ENDPOINTS[::-1])
        ]


# --- plain connections, all at once ---------------------------------------------------------------------


class _Events:
    """What the plain view needs of the events: ICMP errors, and resets that no socket sent, by stream and frame."""

    def __init__(self, source: Source) -> None:
        self._columns = source.columns("events")
        names: Coded = self._columns["event"]
        self._names, self._codes = list(names.values), numpy.asarray(names.codes)
        stream, frame, value = self._of("icmp_error")
        places = zip(stream.tolist(), frame.tolist(), strict=True)
        self._icmp = dict(zip(places, value.tolist(), strict=True))
        stream, frame, from_socket = self._of("reset")
        forged = _keys(*self._of("reset_forged")[:2])
        bare = _keys(stream, frame)[from_socket == 0]
        self._bare = bare[~numpy.isin(bare, forged)]

    def _of(self, name: str) -> tuple[Array, Array, Array]:
        """Streams, frames and details of all events of a name."""
        number = self._names.index(name) if name in self._names else NO_CALL
        rows = numpy.flatnonzero(self._codes == number)
        stream, frame, value = (numpy.asarray(self._columns[part])[rows] for part in ("stream", "frame", "value"))
        return stream, frame, value

    def bare_resets(self, stream: Array, frame: Array) -> Array:
        """Which of these segments are a RST that no socket sent: bool."""
        return numpy.isin(_keys(stream, frame), self._bare)

    def icmp(self, stream: int, frame: int, version: int) -> Told:
        """What connect() does when such an error answers its SYN."""
        kind, code = divmod(self._icmp[stream, frame], 256)
        errno = words.errno_of_icmp(version, kind, code)
        return Told("connect", errno, words.UNREACHABLE.format(errno=errno, kind=kind, code=code))


def _keys(stream: Array, frame: Array) -> Array:
    """One number for each pair."""
    return stream.astype(numpy.int64) << FRAME_BITS | frame


class _Table:
    """`calls_words` as arrays: numbers of sayings by (opener, cause, state before, endpoint)."""

    def __init__(self, said: Sayings, causes: Sequence[str]) -> None:
        known = [*causes, BARE_RESET]
        shape = (2, len(known), len(STATES), len(ENDPOINTS))
        self.slots = [numpy.full(shape, NO_CALL, numpy.int64) for _ in range(2)]
        for opener in (0, 1):
            rows = words.BY_CHANGE | (words.BY_CHANGE_OF_OPENER if opener else {})
            for (cause, state), tolds in rows.items():
                for slot, told in zip(self.slots, tolds, strict=False):
                    slot[opener, known.index(cause), STATES.index(state)] = said.of_sides(told)
        self.still = {STATES.index(state): said.of_sides(told) for state, told in words.STILL.items()}
        self.sends, self.receives = (numpy.array(said.of_sides(told)) for told in (words.SENDS, words.RECEIVES))
        self.icmp, self.fin, self.reset = (causes.index(name) for name in ("icmp", "rcv_fin", "rcv_rst"))
        self.bare = len(causes)
        self.arriving = numpy.array([cause.startswith("rcv_") for cause in known], bool)


Rows = tuple[Array, Array, Array, Array, Array, Array]
"""stream, endpoint, number of the saying, time, frame, certainty."""


class _Plain:
    """Rows from single changes of state, for all connections of a part at once."""

    def __init__(self, source: Source, said: Sayings) -> None:
        self._source = source
        self._flows = source.columns("flows")
        self._said = said
        self._events = _Events(source)
        self._table: _Table | None = None

    def rows(self, first: int, stop: int) -> Iterator[Rows]:
        """Rows of the streams first .. stop - 1."""
        step, flow, table = self._steps(first, stop)
        if not len(step["stream"]):
            return
        ends = step["stream"] * 2 + step["endpoint"]
        opens = (step["from_state"] == SYN_SENT) & (step["to_state"] == SYN_RECEIVED)
        opener = numpy.isin(ends, ends[opens]).astype(numpy.int64)
        meaning = numpy.where(
            (step["cause"] == table.reset) & self._events.bare_resets(step["stream"], step["frame"]),
            table.bare, step["cause"],
        )  # fmt: skip
        for slot in table.slots:
            told = slot[opener, meaning, step["from_state"], step["endpoint"]]
            chosen = numpy.flatnonzero(told != NO_CALL)
            yield _rows(step, chosen, told[chosen])
        chosen = numpy.flatnonzero((step["cause"] == table.icmp) & (step["from_state"] == SYN_SENT))
        columns = (step["stream"], step["frame"], flow["version"])
        keys = zip(*(values[chosen].tolist() for values in columns), strict=True)
        told = numpy.array([self._said.number(self._events.icmp(*key)) for key in keys], numpy.int64)
        yield _rows(step, chosen, told)
        yield from _lasting(step, flow, ends, opener, table)

    def _steps(self, first: int, stop: int) -> tuple[dict[str, Array], dict[str, Array], _Table]:
        """Live steps by stream and endpoint, each one's columns of flows, and the words as arrays."""
        part = self._source.history(first, stop)
        causes: Coded = part["cause"]
        self._table = self._table or _Table(self._said, list(causes.values))
        read = {name: numpy.asarray(part[name]) for name in STEP_COLUMNS} | {"cause": numpy.asarray(causes.codes)}
        live = numpy.flatnonzero(read["certainty"] != RETRACTED)
        live = live[numpy.argsort(read["stream"][live] * 2 + read["endpoint"][live], kind="stable")]
        step = {name: values[live] for name, values in read.items()}
        flows = self._flows.part(first, stop)
        flow = {name: numpy.asarray(flows[name])[step["stream"] - first] for name in FLOW_COLUMNS}
        step["time"] = step["time"] + numpy.where(self._table.arriving[step["cause"]], _way(step["endpoint"], flow), 0)
        return step, flow, self._table


def _rows(step: Mapping[str, Array], chosen: Array, told: Array, certainty: Array | None = None) -> Rows:
    """Rows with the time, frame and, if no other is given, certainty of the chosen steps."""
    sure = step["certainty"][chosen] if certainty is None else certainty
    stream, endpoint, time, frame = (step[name][chosen] for name in ("stream", "endpoint", "time", "frame"))
    return stream, endpoint, told, time, frame, sure


def _lasting(
    step: Mapping[str, Array], flow: Mapping[str, Array], ends: Array, opener: Array, table: _Table
) -> Iterator[Rows]:
    """Rows of calls that can go on from a change on: waiting at the capture's end, sending, receiving."""
    last = numpy.ones(len(ends), bool)
    last[:-1] = ends[1:] != ends[:-1]
    for state, numbers in table.still.items():
        mask = last & (step["to_state"] == state)
        if state == SYN_RECEIVED:
            mask &= opener == 0
        chosen = numpy.flatnonzero(mask)
        yield _rows(step, chosen, numpy.array(numbers)[step["endpoint"][chosen]])
    up = numpy.isin(step["from_state"], (SYN_SENT, SYN_RECEIVED, UNKNOWN))
    up &= numpy.isin(step["to_state"], (ESTABLISHED, CLOSE_WAIT))
    is_server = step["endpoint"] == 1
    own: Array = numpy.where(is_server, flow["server_unique_octets"], flow["client_unique_octets"])
    peers: Array = numpy.where(is_server, flow["client_unique_octets"], flow["server_unique_octets"])
    chosen = numpy.flatnonzero(up & (own > 0))
    yield _rows(step, chosen, table.sends[step["endpoint"][chosen]], numpy.full(len(chosen), SENT))
    chosen = numpy.flatnonzero(up & (peers > 0))
    # whoever has the FIN has all octets before it; without one nothing is known but that they passed
    fins = numpy.flatnonzero(step["cause"] == table.fin)
    at = numpy.searchsorted(ends[fins], ends[chosen])
    known = numpy.zeros(len(chosen), bool)
    known[at < len(fins)] = ends[fins[at[at < len(fins)]]] == ends[chosen[at < len(fins)]]
    sure = numpy.full(len(chosen), ASSUMED)
    sure[known] = step["certainty"][fins[at[known]]]
    yield _rows(step, chosen, table.receives[step["endpoint"][chosen]], sure)


def _way(endpoint: Array, flow: Mapping[str, Array]) -> Array:
    """ns from the tap to each endpoint: half the smallest round trip, 0 where it is not known, as `after` does."""
    trip: Array = numpy.where(endpoint == 1, flow["server_rtt_ns"], flow["client_rtt_ns"])
    once = (flow["syn_count"] == 1) & (flow["synack_count"] == 1)
    return numpy.where(once & (trip > 0) & (trip < LONG_TRIP), trip // 2, 0)


# --- what takes more to tell ----------------------------------------------------------------------------


def _special(source: Source, streams: Sequence[int] | None) -> Iterator[tuple[int, Row]]:
    """Rows of marked connections, with their streams."""
    wanted = None if streams is None else frozenset(streams)
    for case in Judging(source, [marker()]).cases():
        if wanted is None or case.stream in wanted:
            yield from ((case.stream, row) for row in calls_of(case))


def _merged(rows: Sequence[Array], special: Iterable[tuple[int, Row]], said: Sayings) -> list[Array]:
    """Plain rows without those that a special one replaces, then the special ones."""
    special = list(special)
    if not special:
        return list(rows)
    numbers = [said.number(row.told) for _, row in special]
    ends = [stream * 2 + ENDPOINTS.index(row.endpoint) for stream, row in special]
    replaced = {
        (end * len(CALLS) + CALLS.index(call)) * 64 + said.outcome_names.index(outcome)
        for end, (_, row) in zip(ends, special, strict=True)
        for call, outcome in row.instead
        if outcome in said.outcome_names
    }
    kind = numpy.array(said.calls)[rows[2]] * 64 + numpy.array(said.outcomes)[rows[2]]
    keys = (rows[0] * 2 + rows[1]) * len(CALLS) * 64 + kind
    kept = ~numpy.isin(keys, numpy.array(sorted(replaced), numpy.int64))
    more = (
        [stream for stream, _ in special], [end & 1 for end in ends], numbers, [row.time for _, row in special],
        [row.frame for _, row in special], [CERTAINTIES.index(row.certainty) for _, row in special],
    )  # fmt: skip
    return [numpy.concatenate([old[kept], numpy.array(new, numpy.int64)]) for old, new in zip(rows, more, strict=True)]
