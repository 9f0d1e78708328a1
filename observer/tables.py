"""From the tracker's arrays to the raw columns that schema.py describes: nothing is computed before it is asked for.

Never here: rules about TCP, and pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from observer.schema import Addresses, Coded, Columns
from observer.wire.reasons import REASONS

if TYPE_CHECKING:
    from observer.observation import Observation
    from observer.tcp.tracker import Tracker

Array = Any

NO_DETAIL: Final = -(2**63)


class FlowTable:
    """The table of flows, made from the tracker's rows a block at a time."""

    def __init__(self, observation: Observation) -> None:
        self._tracker: Tracker = observation.tracker
        self._observation = observation
        words, versions, self._codes = observation.addresses
        self._addresses = Addresses(words, versions)
        self._roles = observation.roles
        self._block: tuple[int, int, Array] | None = None

    def columns(self) -> Columns:
        """All columns of the table, lazily."""
        return Columns("flows", self._tracker.stream_count, self._source(), self._addresses)

    def _rows(self, start: int, stop: int) -> Array:
        """The tracker's rows of these streams; the last block asked for is kept."""
        if self._block is None or self._block[:2] != (start, stop):
            self._block = (start, stop, self._tracker.flow_rows(start, stop))
        return self._block[2]

    def _cell(self, cell: int) -> Callable[[int, int], Array]:
        return lambda start, stop: self._rows(start, stop)[:, cell].copy()  # the tracker uses the memory again

    def _source(self) -> Mapping[str, Any]:
        import numpy

        from observer.tcp import columns as c

        cell, rows = self._cell, self._rows
        source: dict[str, Any] = {
            "stream": numpy.arange,
            "client_addr": lambda start, stop: self._end(start, stop, server=False),
            "server_addr": lambda start, stop: self._end(start, stop, server=True),
            "client_port": lambda start, stop: self._port(start, stop, server=False),
            "server_port": lambda start, stop: self._port(start, stop, server=True),
            "community_id": self._community_ids,
            "version": cell(c.O_VERSION),
            "roles": self._role_codes,
            "first_time": cell(c.O_FIRST_TIME),
            "last_time": cell(c.O_LAST_TIME),
            "first_frame": cell(c.O_FIRST_FRAME),
            "last_frame": cell(c.O_LAST_FRAME),
            "syn_count": cell(c.O_SYNS),
            "synack_count": cell(c.O_SYNACKS),
            "handshake_ns": cell(c.O_HANDSHAKE),
            "sack": cell(c.O_SACK),
            "timestamps": cell(c.O_TIMESTAMPS),
            "ecn": cell(c.O_ECN),
            "fast_open": cell(c.O_FAST_OPEN),
            "closed_first": self._side(c.O_CLOSED_FIRST),
            "ended": cell(c.O_ENDED),
            "rst_sender": self._side(c.O_RST_SENDER),
            "time_wait_holder": self._side(c.O_TIME_WAIT),
            "tap": self._side(c.O_TAP, (2, 1, 0)),
            "tap_grade": cell(c.O_TAP_GRADE),
            "completeness": cell(c.O_COMPLETENESS),
            "conn_state": lambda start, stop: rows(start, stop)[:, c.O_CONN_STATE] - 1,  # CONN_STATES counts from 1
            "history": self._histories,
            "previous_stream": cell(c.O_PREVIOUS),
            "encapsulation": cell(c.O_ENCAPSULATION),
            "file": lambda start, stop: self._observation.file_of(rows(start, stop)[:, c.O_FIRST_FRAME]),
        }
        for side, block in (("client", c.O_CLIENT), ("server", c.O_SERVER)):
            for name, offset in (
                ("packets", c.P_PACKETS), ("octets", c.P_OCTETS), ("unique_octets", c.P_UNIQUE),
                ("retransmitted", c.P_RETRANSMITTED), ("out_of_order", c.P_OUT_OF_ORDER),
                ("duplicate_acks", c.P_DUPLICATE_ACKS), ("zero_windows", c.P_ZERO_WINDOWS),
                ("keepalives", c.P_KEEPALIVES), ("rtt_ns", c.P_RTT), ("mss", c.P_MSS), ("window_scale", c.P_SCALE),
                ("state", c.P_STATE), ("certainty", c.P_CERTAINTY), ("last_time", c.P_LAST_TIME),
            ):  # fmt: skip
                source[f"{side}_{name}"] = self._of_side(block, offset)
        return source

    def _swapped(self, start: int, stop: int) -> Array | None:
        """Which streams have their sides the other way round than the tracker took them; None: none has."""
        return None if self._roles.swapped is None else self._roles.swapped[start:stop]

    def _of_side(self, block: int, offset: int) -> Callable[[int, int], Array]:
        """A cell of the client's or the server's block."""
        import numpy

        from observer.tcp.columns import O_CLIENT, O_SERVER

        other = O_CLIENT + O_SERVER - block

        def make(start: int, stop: int) -> Array:
            rows, swapped = self._rows(start, stop), self._swapped(start, stop)
            if swapped is None:
                return rows[:, block + offset].copy()
            return numpy.where(swapped, rows[:, other + offset], rows[:, block + offset])

        return make

    def _side(self, cell: int, turned: tuple[int, ...] = (1, 0, 2)) -> Callable[[int, int], Array]:
        """A cell that names a side (-1: none); `turned`: what each code becomes with the sides turned."""
        import numpy

        table = numpy.array([*turned, -1], numpy.int64)

        def make(start: int, stop: int) -> Array:
            values, swapped = self._rows(start, stop)[:, cell].copy(), self._swapped(start, stop)
            return values if swapped is None else numpy.where(swapped, table[values], values)

        return make

    def _role_codes(self, start: int, stop: int) -> Array:
        """How the roles are known."""
        import numpy

        from observer.roles import BY_LISTENER
        from observer.tcp.columns import O_ROLES

        codes = self._rows(start, stop)[:, O_ROLES].copy()
        told = self._roles.told
        return codes if told is None else numpy.where(told[start:stop], BY_LISTENER, codes)

    def _port(self, start: int, stop: int, *, server: bool) -> Array:
        """Ports of one side."""
        from observer.tcp.columns import O_PORTS

        ports, swapped = self._rows(start, stop)[:, O_PORTS], self._swapped(start, stop)
        if swapped is None:
            return ports & 0xFFFF if server else ports >> 16
        return ports >> ((swapped == server) * 16) & 0xFFFF

    def _end(self, start: int, stop: int, *, server: bool) -> Array:
        """Address codes of one side."""
        import numpy

        from observer.tcp.columns import O_SWAPPED

        pair = self._codes[start:stop]
        first_is_server = self._rows(start, stop)[:, O_SWAPPED] != 0
        swapped = self._swapped(start, stop)
        if swapped is not None:
            first_is_server = first_is_server ^ swapped
        return numpy.where(first_is_server == server, pair[:, 0], pair[:, 1])

    def _histories(self, start: int, stop: int) -> Coded:
        import numpy

        from observer.tcp.columns import O_HISTORY
        from observer.tcp.zeek import zeek_histories

        cells = numpy.ascontiguousarray(self._rows(start, stop)[:, O_HISTORY : O_HISTORY + 4])
        if not len(cells):
            return Coded(numpy.zeros(0, numpy.int64), [])
        # one void item a row sorts some ten times quicker than unique(axis=0)
        _, first, codes = numpy.unique(cells.view("V32").ravel(), return_index=True, return_inverse=True)
        return Coded(codes, zeek_histories(cells[first]))

    def _community_ids(self, start: int, stop: int) -> list[str]:
        import numpy

        from observer.tcp.community_id import community_ids

        ends = numpy.stack([self._end(start, stop, server=False), self._end(start, stop, server=True)])
        used, places = numpy.unique(ends, return_inverse=True)
        packed = [
            _address_octets(words, version)
            for words, version in zip(
                self._addresses.words[used].tolist(), self._addresses.versions[used].tolist(), strict=True
            )
        ]
        clients, servers = places.reshape(2, -1).tolist()
        client_ports = self._port(start, stop, server=False).tolist()
        server_ports = self._port(start, stop, server=True).tolist()
        return list(
            community_ids(
                (packed[client], packed[server], client_port, server_port)
                for client, server, client_port, server_port in zip(
                    clients, servers, client_ports, server_ports, strict=True
                )
            )
        )


def _address_octets(words: Sequence[int], version: int) -> bytes:
    if version == 4:
        return int(words[3]).to_bytes(4, "big")
    return b"".join(int(word).to_bytes(4, "big") for word in words)


def transition_columns(observation: Observation, streams: Sequence[int] | None = None) -> Columns:
    """The table of transitions, in time order; of these streams only, if any are given."""
    import numpy

    from observer.tcp import fold

    tracker = observation.tracker
    if streams is None:
        rows = tracker.transitions()
    else:
        parts = [tracker.transitions(stream, stream + 1) for stream in streams]
        rows = numpy.concatenate(parts) if parts else tracker.transitions(0, 0)
    return _transition_columns(observation, rows[numpy.argsort(rows[:, fold.T_TIME], kind="stable")])


def history_columns(observation: Observation, first: int, stop: int) -> Columns:
    """Transitions of the streams first .. stop - 1, by stream and endpoint (see `findings.source`)."""
    return _transition_columns(observation, observation.tracker.transitions(first, stop))


def _transition_columns(observation: Observation, rows: Array) -> Columns:
    from observer.tcp import fold
    from observer.tcp.states import EVENTS

    # made when asked for: findings need few of them of all connections, and the rest of some
    source = {
        "stream": lambda start, stop: rows[start:stop, fold.T_WHO] >> 1,
        "endpoint": lambda start, stop: observation.roles.sides(
            rows[start:stop, fold.T_WHO] >> 1, rows[start:stop, fold.T_WHO] & 1
        ),
        "time": rows[:, fold.T_TIME],
        "frame": rows[:, fold.T_FRAME],
        "from_state": lambda start, stop: rows[start:stop, fold.T_STATES] >> 8,
        "to_state": lambda start, stop: rows[start:stop, fold.T_STATES] & 0xFF,
        "cause": Coded(rows[:, fold.T_CAUSE], EVENTS),
        "certainty": rows[:, fold.T_CERTAINTY],
        "proof_frame": rows[:, fold.T_PROOF],
    }
    return Columns("transitions", len(rows), source)


def event_columns(observation: Observation, streams: Sequence[int] | None = None) -> Columns:
    """The table of events, in the order of the capture; of these streams only, if any are given.

    Beside the documented columns: `value` (the detail as a number), and of resets `facts` (their names with commas
    between), `number`, `gap`, `data_gap`, `own_gap` (see `findings.case.Note`).
    """
    import numpy

    from observer.tcp import events as e

    rows = observation.tracker.event_rows()
    if streams is not None:
        rows = rows[numpy.isin(rows[:, e.EV_WHO] >> 1, numpy.asarray(list(streams), numpy.int64))]
    rows = rows[numpy.argsort(rows[:, e.EV_FRAME], kind="stable")]
    source = {
        "stream": rows[:, e.EV_WHO] >> 1,
        "endpoint": observation.roles.sides(rows[:, e.EV_WHO] >> 1, rows[:, e.EV_WHO] & 1),
        "time": rows[:, e.EV_TIME],
        "frame": rows[:, e.EV_FRAME],
        "event": Coded(rows[:, e.EV_CODE], [name for name, _ in e.EVENT_NAMES]),
        "detail": lambda start, stop: _details(rows[start:stop]),  # dear, and findings never ask for it
        # beside the table's columns, for findings
        "value": rows[:, e.EV_DETAIL],
        **_reset_facts(rows),
    }
    return Columns("events", len(rows), source)


def _reset_facts(rows: Array) -> dict[str, Any]:
    """What resets look like, of all events."""
    import numpy

    from observer.tcp import events as e

    is_reset = rows[:, e.EV_CODE] == e.RESET
    cells = numpy.where(is_reset, rows[:, e.EV_FACTS], 0)
    used, places = numpy.unique(cells[is_reset] & ((1 << e.RST_NUMBER) - 1), return_inverse=True)
    names = [",".join(name for bit, name in e.RST_FACTS.items() if bits & bit) for bits in used.tolist()]
    codes = numpy.zeros(len(rows), numpy.int64)  # 0: none
    codes[is_reset] = places + 1
    return {
        "facts": Coded(codes, ["", *names]),
        "number": cells >> e.RST_NUMBER,
        "gap": numpy.where(is_reset, rows[:, e.EV_GAP], -1),
        "data_gap": numpy.where(is_reset, rows[:, e.EV_DATA_GAP], -1),
        "own_gap": numpy.where(is_reset, rows[:, e.EV_OWN_GAP], -1),
    }


def _details(rows: Array) -> Coded:
    """The detail of each event as text."""
    import numpy

    from observer.tcp import events as e

    told = numpy.array(["detail:" in meaning for _, meaning in e.EVENT_NAMES])
    codes = rows[:, e.EV_CODE]
    details = numpy.where(told[codes], rows[:, e.EV_DETAIL], NO_DETAIL)
    unique, inverse = numpy.unique(details, return_inverse=True)
    texts = ["" if value == NO_DETAIL else str(value) for value in unique.tolist()]
    labels = inverse.astype(numpy.int64)
    labels[details == NO_DETAIL] = -1
    for row in numpy.flatnonzero(codes == e.ICMP_ERROR).tolist():
        texts.append(_icmp_text(rows[row]))
        labels[row] = len(texts) - 1
    return Coded(labels, texts)


def _icmp_text(row: Array) -> str:
    from observer.tcp import events as e

    kind, code = divmod(int(row[e.EV_DETAIL]), 256)
    high, low = int(row[e.EV_ADDRESS]), int(row[e.EV_ADDRESS + 1])
    mask = 0xFFFFFFFF
    version = 6 if high else 4
    reporter = Addresses([[high >> 32 & mask, high & mask, low >> 32 & mask, low & mask]], [version]).text(0)
    return f"type {kind} code {code} from {reporter}"


REASON_DOCS: Final = {reason.name: reason.doc for reason in REASONS.values()}
UNDECODED: Final = frozenset({
    "cut_link", "bad_link", "cut_encapsulation", "bad_encapsulation", "cut_ip", "bad_ip", "cut_tcp", "bad_tcp",
    "fragment_incomplete", "too_deep", "unknown_link",
})  # fmt: skip
"""Reasons for which a frame that may hold TCP could not be decoded: damage, not other traffic."""


def skipped_columns(observation: Observation) -> Columns:
    """The table of what was not decoded: frames by reason, then every damage of a file."""
    names, reasons, explanations, damage, frames, octets, first, last, offsets = ([] for _ in range(9))  # type: ignore[var-annotated]
    for entry in observation.skipped_reasons:
        names.append(None)
        reasons.append(entry.reason)
        doc = REASON_DOCS[entry.reason]
        explanations.append(f"{doc.rstrip('.')}: {entry.detail}." if entry.detail else doc)
        damage.append(int(entry.reason in UNDECODED))
        frames.append(entry.count)
        octets.append(-1)
        first.append(entry.first_frame)
        last.append(entry.last_frame)
        offsets.append(-1)
    for hurt in observation.capture.damages:
        names.append(hurt.file)
        reasons.append("damaged file")
        explanations.append(hurt.message)
        damage.append(1)
        frames.append(0)
        octets.append(-1)
        first.append(hurt.frame)
        last.append(hurt.frame)
        offsets.append(hurt.offset)
    import numpy

    source = {
        "file": _coded(names), "reason": _coded(reasons), "explanation": _coded(explanations),
        "damage": numpy.array(damage, numpy.int64), "frames": numpy.array(frames, numpy.int64),
        "octets": numpy.array(octets, numpy.int64), "first_frame": numpy.array(first, numpy.int64),
        "last_frame": numpy.array(last, numpy.int64), "offset": numpy.array(offsets, numpy.int64),
    }  # fmt: skip
    return Columns("skipped", len(reasons), source)


def _coded(texts: Sequence[str | None]) -> Coded:
    import numpy

    values: dict[str, int] = {}
    codes = [-1 if text is None else values.setdefault(text, len(values)) for text in texts]
    return Coded(numpy.array(codes, numpy.int64), list(values))
