"""The tables of a report: connections, findings, resets; of large ones only the most telling rows, and it says so.

A cell is a text, a number, or a text with the number by which it is sorted.  Every text is cleaned of characters that
act or hide.

Never here: markup, pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy

from observer.outputs.text import clean, count, duration, endpoint, octets, state_words
from observer.schema import ENDINGS, NULL_TIME, SEVERITIES, TABLES, Coded, Columns

Ints = Any
Cell = str | int | tuple[str, int]

ROWS: Final = 2000
"""Rows of one table: some 0.3 MB of connections, 1 MB of findings."""
LONGEST: Final = 400
"""Characters of one cell."""
PART_ROWS: Final = 8192
"""Connections looked at at once: the whole table is never in memory."""
BADLY: Final = tuple(ENDINGS.index(name) for name in ("reset", "timeout"))
FRAMES: Final = 5
"""Frame numbers in a cell."""
EVERYTHING: Final = "observer read -o DIR writes all of them"


class Head(NamedTuple):
    """A column: its title, its kind (text, list, number, state, severity, stream, long), and what it means."""

    title: str
    kind: str
    doc: str = ""


class Sheet(NamedTuple):
    """A table of the page.

    Attributes
    ----------
    key
        Its id.
    title
        Its heading.
    heads, rows
        Columns and cells.
    left_out
        A sentence about the rows that are not here; "" if all are.
    """

    key: str
    title: str
    heads: list[Head]
    rows: list[list[Cell]]
    left_out: str


FLOW_HEADS: Final = [
    Head("stream", "stream", "Number of the connection, as in the Wireshark filter tcp.stream eq N"),
    Head("findings", "list", "Codes of what was found, the worst first"),
    Head("client", "text"),
    Head("server", "text"),
    Head("client state", "state", "State of the client at the end; ? assumed"),
    Head("server state", "state", "State of the server at the end; ? assumed"),
    Head("ended", "text", "How it ended, and who closed or reset first"),
    Head("began s", "number", "Seconds since the first frame"),
    Head("lasted", "number"),
    Head("segments", "number", "Segments of both sides"),
    Head("sent", "number", "Payload of the client, retransmissions included"),
    Head("received", "number", "Payload of the server, retransmissions included"),
    Head("again", "number", "Segments that either side sent again"),
    Head("handshake", "number", "From the first SYN to the ACK of the SYN-ACK, as the tap saw it"),
]
FINDING_HEADS: Final = [
    Head("severity", "severity"),
    Head("grade", "text", "How sure"),
    Head("code", "text"),
    Head("stream", "stream", "Number of the connection; empty: a population"),
    Head("what", "long"),
    Head("client", "text"),
    Head("server", "text"),
    Head("side", "text", "The endpoint at fault or concerned"),
    Head("begin s", "number", "Seconds since the first frame"),
    Head("lasted", "number", "Empty: it had not ended"),
    Head("frames", "list", "The first frames of evidence"),
]
RESET_HEADS: Final = [
    Head("stream", "stream"),
    Head("time s", "number", "Seconds since the first frame"),
    Head("frame", "number"),
    Head("in the name of", "text", "The endpoint whose address it carries"),
    Head("class", "text", "What kind of reset it is"),
    Head("from", "text", "A live socket, or none"),
    Head("accepted", "text", "Whether its receiver can have accepted it (RFC 5961)"),
    Head("facts", "long"),
    Head("what speaks for forgery", "long"),
]


def values(columns: Columns, name: str) -> list[Any]:
    """Return a raw column as Python objects: texts of labels, enumerations and addresses, None for null."""
    spec = TABLES[columns.table].column(name)
    if name not in columns:
        return [None] * columns.rows
    raw = columns[name]
    if isinstance(raw, Coded):
        return [raw.values[code] if code >= 0 else None for code in numpy.asarray(raw.codes).tolist()]
    if spec.kind in ("text", "frames"):
        return list(raw)
    numbers = numpy.asarray(raw).tolist()
    if spec.kind == "address":
        texts = columns.addresses.texts([max(number, 0) for number in numbers]) if columns.addresses else []
        return [text if number >= 0 else None for text, number in zip(texts, numbers, strict=True)]
    if spec.kind == "enum":
        return [spec.categories[number] if number >= 0 else None for number in numbers]
    if spec.kind == "time":
        return [None if number == NULL_TIME else number for number in numbers]
    return [None if number < 0 else number for number in numbers]


def _sheet(key: str, title: str, heads: list[Head], rows: list[list[Cell]], left_out: str) -> Sheet:
    """Make a table without the columns that are empty throughout."""
    used = [at for at in range(len(heads)) if any(row[at] != "" for row in rows)]
    return Sheet(key, title, [heads[at] for at in used], [[row[at] for at in used] for row in rows], left_out)


def shown(text: str | None) -> str:
    """Return a text as a cell shows it."""
    text = clean(text or "")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def place(address: str | None, port: int | None) -> str:
    """Return address and port, as far as they are known."""
    if address is None:
        return ""
    return address if port is None else endpoint(address, port)


def since(time_ns: int | None, begin_ns: int) -> Cell:
    """Return seconds since the first frame."""
    return "" if time_ns is None else (f"{(time_ns - begin_ns) / 1e9:.6f}", time_ns - begin_ns)


def span(span_ns: int | None) -> Cell:
    """Return a span of time."""
    return "" if span_ns is None else (duration(span_ns), span_ns)


# --- connections ---------------------------------------------------------------------------------------------
def flow_sheet(flows: Columns, findings: Columns, begin_ns: int, most: int = ROWS) -> Sheet:
    """Return the connections; of many those with findings, then those that ended badly, were repaired, or lasted."""
    severity = worst_of(findings, flows.rows)
    order = telling(flows, severity, most)
    ordered = numpy.sort(order)
    taken = flows.take(ordered)
    position: Ints = numpy.searchsorted(ordered, order)
    names = (
        "stream", "client_addr", "client_port", "server_addr", "server_port", "first_time", "last_time", "ended",
        "closed_first", "rst_sender", "client_state", "client_certainty", "server_state", "server_certainty",
        "client_packets", "server_packets", "client_octets", "server_octets", "client_retransmitted",
        "server_retransmitted", "handshake_ns",
    )  # fmt: skip
    made = {name: values(taken, name) for name in names}
    codes = codes_of(findings, made["stream"])
    rows = []
    for at in position.tolist():
        one = {name: made[name][at] for name in names}
        rows.append(_flow_row(one, codes.get(one["stream"], []), begin_ns))
    rest = flows.rows - len(rows)
    left_out = (
        f"The {count(len(rows), 'connection')} that tell most of {flows.rows:,}: those with findings, then those that "
        f"were reset or given up, those with most retransmissions, the longest. {EVERYTHING}." if rest else ""
    )  # fmt: skip
    return _sheet("connections", "Connections", FLOW_HEADS, rows, left_out)


def _flow_row(one: dict[str, Any], codes: list[str], begin_ns: int) -> list[Cell]:
    return [
        one["stream"],
        ", ".join(codes),
        place(one["client_addr"], one["client_port"]),
        place(one["server_addr"], one["server_port"]),
        *(state_words(one[f"{side}_state"]) + "?" * (one[f"{side}_certainty"] == "assumed")
          for side in ("client", "server")),
        _ending(one),
        since(one["first_time"], begin_ns),
        span(one["last_time"] - one["first_time"]),
        one["client_packets"] + one["server_packets"],
        *((octets(one[name]), one[name]) for name in ("client_octets", "server_octets")),
        one["client_retransmitted"] + one["server_retransmitted"],
        span(one["handshake_ns"]),
    ]  # fmt: skip


def _ending(one: dict[str, Any]) -> str:
    words = {"fin": "closed", "reset": "reset", "timeout": "given up", "open": "open"}[one["ended"]]
    if one["ended"] == "reset":
        return f"reset by {one['rst_sender']}" if one["rst_sender"] is not None else words
    who = one["closed_first"]
    if who is None:
        return words
    if one["ended"] == "fin":
        return f"{words}, both at once" if who == "both" else f"{words}, {who} first"
    return f"{words}, {who} closed"


def worst_of(findings: Columns, connections: int) -> Ints:
    """Return for each connection 1 + the worst severity of what concerns it, 0 without findings: int8."""
    worst = numpy.zeros(connections, numpy.int8)
    if not findings.rows:
        return worst
    stream, severity = (numpy.asarray(findings[name], numpy.int64) for name in ("stream", "severity"))
    single = stream >= 0
    numpy.maximum.at(worst, stream[single], (severity[single] + 1).astype(numpy.int8))
    for row in numpy.flatnonzero(~single).tolist():
        members = numpy.asarray(findings["streams"][row] or (), numpy.int64)
        worst[members] = numpy.maximum(worst[members], severity[row] + 1)
    return worst


def codes_of(findings: Columns, streams: Sequence[int]) -> dict[int, list[str]]:
    """Return the codes of what concerns these connections, the worst first, each once."""
    wanted = numpy.asarray(streams, numpy.int64)
    found: dict[int, dict[str, None]] = {}
    if not findings.rows:
        return {}
    stream, code = numpy.asarray(findings["stream"], numpy.int64), findings["code"]
    codes = numpy.asarray(code.codes).tolist()
    for row in numpy.flatnonzero(numpy.isin(stream, wanted) | (stream < 0)).tolist():
        concerned = [int(stream[row])]
        if stream[row] < 0:
            concerned = wanted[numpy.isin(wanted, numpy.asarray(findings["streams"][row] or (), numpy.int64))].tolist()
        for one in concerned:
            found.setdefault(one, {})[code.values[codes[row]]] = None
    return {one: list(names) for one, names in found.items()}


def telling(flows: Columns, severity: Ints, most: int) -> Ints:
    """Return the positions of the connections that tell most, those first: at most `most`."""
    bad, again, lasted = (numpy.empty(flows.rows, kind) for kind in (bool, numpy.int64, numpy.int64))
    start = 0
    for part in flows.parts(PART_ROWS):
        rows = slice(start, start + part.rows)
        start += part.rows
        bad[rows] = numpy.isin(numpy.asarray(part["ended"]), BADLY)
        again[rows] = part["client_retransmitted"]
        again[rows] += numpy.asarray(part["server_retransmitted"])
        lasted[rows] = numpy.asarray(part["last_time"]) - numpy.asarray(part["first_time"])
    return numpy.lexsort((-lasted, -again, ~bad, -severity))[:most]  # of equals the earlier first


# --- findings and resets -------------------------------------------------------------------------------------
def finding_sheet(findings: Columns, begin_ns: int, most: int = ROWS) -> Sheet:
    """Return the findings, the worst first; of many some of each code."""
    taken = findings.take(some_of_each(findings["code"], findings.rows, most)) if findings.rows else findings
    names = ("severity", "grade", "code", "stream", "client_addr", "client_port", "server_addr", "server_port",
             "endpoint", "begin", "end", "frames", "summary")  # fmt: skip
    rows: list[list[Cell]] = []
    for cells in zip(*(values(taken, name) for name in names), strict=True):
        severity, grade, code, stream, client, client_port, server, server_port, side, begin, end, frames, what = cells
        rows.append([
            (severity, len(SEVERITIES) - SEVERITIES.index(severity)), grade, code, "" if stream is None else stream,
            shown(what), place(client, client_port), place(server, server_port), side or "", since(begin, begin_ns),
            span(None if begin is None or end is None else end - begin), _frames(frames or []),
        ])  # fmt: skip
    rest = findings.rows - len(rows)
    left_out = f"{len(rows):,} of {findings.rows:,} findings, some of each code. {EVERYTHING}." if rest else ""
    return _sheet("finding-list", "All findings", FINDING_HEADS, rows, left_out)


def reset_sheet(resets: Columns, begin_ns: int, most: int = ROWS) -> Sheet:
    """Return the resets in the order of the capture; of many some of each class."""
    taken = resets.take(some_of_each(resets["class"], resets.rows, most)) if resets.rows else resets
    names = ("stream", "time", "frame", "endpoint", "class", "from_socket", "acceptable", "facts", "votes")
    rows: list[list[Cell]] = [
        [stream, since(time_ns, begin_ns), frame, side or "", kind or "", "a live socket" if socket else "no socket",
         "yes" if accepted else "no", _facts(facts), shown(votes)]
        for stream, time_ns, frame, side, kind, socket, accepted, facts, votes in zip(
            *(values(taken, name) for name in names), strict=True
        )
    ]  # fmt: skip
    rest = resets.rows - len(rows)
    left_out = f"{len(rows):,} of {resets.rows:,} resets, some of each class. {EVERYTHING}." if rest else ""
    return _sheet("reset-list", "Resets", RESET_HEADS, rows, left_out)


def _facts(names: str | None) -> str:
    return shown(", ".join(name.replace("_", " ") for name in (names or "").split()))


def some_of_each(kinds: Coded, rows: int, most: int) -> Ints:
    """Return at most `most` positions, ascending: of each kind the first, as many of each as there is room for.

    Examples
    --------
    >>> some_of_each(Coded(numpy.array([0, 0, 0, 0, 1]), ["a", "b"]), 5, 3).tolist()
    [0, 1, 4]
    """
    codes = numpy.asarray(kinds.codes, numpy.int64)
    by_kind = numpy.argsort(codes, kind="stable")
    ordered = codes[by_kind]
    begins = numpy.flatnonzero(numpy.concatenate(([True], ordered[1:] != ordered[:-1])))
    rank = numpy.empty(rows, numpy.int64)
    rank[by_kind] = numpy.arange(rows) - numpy.repeat(begins, numpy.diff(numpy.append(begins, rows)))
    return numpy.sort(numpy.argsort(rank, kind="stable")[:most])


def _frames(frames: Sequence[int]) -> Cell:
    if not frames:
        return ""
    more = f" and {len(frames) - FRAMES:,} more" if len(frames) > FRAMES else ""
    return ", ".join(map(str, frames[:FRAMES])) + more, int(frames[0])
