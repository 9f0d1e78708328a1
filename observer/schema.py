"""Every table's columns as data: name, type, unit, meaning, source.  Tables are documented, built and checked from it.

Two forms of a table meet here.  The *raw* form is what the observation holds: a `Columns`, a mapping from column
name to flat numpy arrays of plain integers, made when asked for, in parts if need be.  The *finished* form is what
people get: a pandas DataFrame (`from_columns`) or an equivalent Arrow table (`to_arrow`, used by the writers).

What the raw form holds for each kind of column (`Column.kind`); strided views are welcome everywhere:

=========  =====================================================================================================
kind       raw form
=========  =====================================================================================================
`int`      any integer array; nullable columns: every negative value is null
`bool`     any integer or bool array, 0 is false
`time`     int64, ns since 1970 UTC; NULL_TIME (the smallest int64) is null (numpy's and pandas' NaT)
`address`  integer codes into `Columns.addresses`; -1 is null
`enum`     integer codes into `Column.categories`; -1 is null
`bits`     integer whose bits are the keys of `Column.bits`; the finished form joins their names by `,`; 0 is ""
`label`    `Coded(codes, values)`: integer codes into a list of texts that belongs to this capture; -1 is null
`text`     a sequence of str (None is null), or a numpy array of fixed-width ASCII (dtype S), or a `Coded`
`frames`   a sequence of lists of frame numbers
=========  =====================================================================================================

A nullable column that the raw form lacks altogether is null throughout; any other must be there.

Never here: anything computed about connections; pandas, pyarrow and numpy are imported when first needed.
Sources: DESIGN.md's promised names, RFC 9293 3.3.2 (states), Wireshark's and Zeek's documentation where a column says so.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from observer.errors import ObserverError, OptionError
from observer.segments import ENCAPSULATIONS

if typing.TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

Kind = Literal["int", "bool", "time", "address", "enum", "bits", "label", "text", "frames"]

NULL_TIME: Final = -(2**63)

# --- enumerations: a code is the position of its name -----------------------------------------------------
STATES: Final = (
    "CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT",
    "CLOSING", "LAST_ACK", "TIME_WAIT", "UNKNOWN",
)  # fmt: skip
"""RFC 9293 3.3.2, then UNKNOWN: the opening was not captured and nothing yet tells."""
CERTAINTIES: Final = ("none", "sent", "acknowledged", "assumed", "timer", "retracted")
"""How a state is known.  none: nothing has happened yet; timer: it follows from the clock of a stack profile."""
ENDPOINTS: Final = ("client", "server")
SIDES: Final = ("client", "server", "both")
ENDINGS: Final = ("fin", "reset", "timeout", "open")
ROLES: Final = ("seen", "syn_ack", "listener", "port", "first")
TAPS: Final = ("client", "middle", "server")
GRADES: Final = ("confirmed", "probable", "suspected")
SEVERITIES: Final = ("info", "warning", "problem")
CONN_STATES: Final = (
    "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH",
)  # fmt: skip
"""Zeek, scripts/base/protocols/conn/main.zeek."""
CALLS: Final = ("connect", "accept", "send", "recv")

FLAGS: Final[dict[int, str]] = {
    1: "FIN", 2: "SYN", 4: "RST", 8: "PSH", 16: "ACK", 32: "URG", 64: "ECE", 128: "CWR", 256: "AE",
}  # fmt: skip
"""RFC 9293 3.1; AE: RFC 9768."""
MARKS: Final[dict[int, str]] = {
    1: "retransmission", 2: "fast_retransmission", 4: "spurious_retransmission", 8: "out_of_order",
    16: "duplicate_ack", 32: "zero_window", 64: "zero_window_probe", 128: "zero_window_probe_ack", 256: "window_full",
    512: "window_update", 1024: "keep_alive", 2048: "keep_alive_ack", 4096: "lost_segment", 8192: "ack_lost_segment",
    16384: "reused_ports", 32768: "duplicate_frame",
}  # fmt: skip
"""Names of Wireshark's tcp.analysis.* where it has them; the same bits as in tcp/layout.py."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name, kind, dtype
        Its name; its raw form (see the module); its pandas dtype (capital first letter: nullable).
    unit
        Unit of the values, "" if they have none.
    doc
        One sentence for people who read the table.
    source
        Where the meaning is defined.
    categories, bits
        The possible values of an `enum`, the names of the bits of `bits`.
    nullable
        Whether values may be missing; then the whole raw column may be.
    """

    name: str
    kind: Kind
    dtype: str
    unit: str = ""
    doc: str = ""
    source: str = ""
    categories: tuple[str, ...] = ()
    bits: Mapping[int, str] | None = None
    nullable: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: what a row is, and its columns in order."""

    name: str
    doc: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Return the column of that name, or raise OptionError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise OptionError(f"table {self.name} has no column {name!r}; it has {', '.join(self.names())}")

    def names(self) -> list[str]:
        """Return the column names in order."""
        return [column.name for column in self.columns]


# --- how columns are declared -------------------------------------------------------------------------------
def _int(name: str, dtype: str, doc: str, unit: str = "", source: str = "") -> Column:
    """Declare a whole number; a dtype with a capital letter is nullable."""
    return Column(name=name, kind="int", dtype=dtype, unit=unit, doc=doc, source=source, nullable=dtype[0].isupper())


def _bool(name: str, doc: str, source: str = "") -> Column:
    return Column(name=name, kind="bool", dtype="bool", doc=doc, source=source)


def _time(name: str, doc: str, nullable: bool = False, source: str = "") -> Column:
    return Column(
        name=name, kind="time", dtype="datetime64[ns, UTC]", unit="UTC", doc=doc, source=source, nullable=nullable
    )


def _address(name: str, doc: str, nullable: bool = False) -> Column:
    return Column(name=name, kind="address", dtype="category", doc=doc, nullable=nullable)


def _enum(name: str, categories: tuple[str, ...], doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(
        name=name, kind="enum", dtype="category", doc=doc, source=source, categories=categories, nullable=nullable
    )


def _bits(name: str, bits: Mapping[int, str], doc: str, source: str = "") -> Column:
    return Column(name=name, kind="bits", dtype="category", doc=doc, source=source, bits=bits)


def _label(name: str, doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(name=name, kind="label", dtype="category", doc=doc, source=source, nullable=nullable)


def _text(name: str, doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(name=name, kind="text", dtype="str", doc=doc, source=source, nullable=nullable)


def _each(column: Column) -> list[Column]:
    """Declare a column for the client and the same for the server: `{}` in its texts stands for the endpoint."""
    return [
        replace(column, name=column.name.format(side), doc=column.doc.format(side, other))
        for side, other in (("client", "server"), ("server", "client"))
    ]


_STREAM: Final = _int(
    "stream", "uint32", "Number of the connection, as in the Wireshark filter tcp.stream eq N", "", "Wireshark"
)
_STREAM_OR_NULL: Final = replace(_STREAM, dtype="UInt32", nullable=True, doc="Number of the connection, if it is one")
_PLACE: Final = (
    _address("client_addr", "Client, if the row concerns one", nullable=True),
    _int("client_port", "UInt16", "Its port"),
    _address("server_addr", "Server, if the row concerns one", nullable=True),
    _int("server_port", "UInt16", "Its port"),
)
_ZEEK: Final = "Zeek conn.log"
_SHARK: Final = "Wireshark"

FLOWS: Final = Table(
    name="flows",
    doc="One row per connection incarnation, in order of `stream`.",
    columns=(
        _STREAM,
        _text("community_id", "Community ID, version 1, seed 0", "github.com/corelight/community-id-spec"),
        _address("client_addr", "Address of the active opener (who sent the SYN)"),
        _int("client_port", "uint16", "Port of the client"),
        _address("server_addr", "Address of the passive opener"),
        _int("server_port", "uint16", "Port of the server"),
        _int("version", "uint8", "Version of the innermost IP header: 4 or 6"),
        _enum(
            "roles",
            ROLES,
            "How client and server were told apart: the SYN was seen, or inferred from a SYN-ACK, from the same "
            "listener in other connections, from the better-known port, or from who spoke first",
        ),
        _time("first_time", "Time of the first segment"),
        _time("last_time", "Time of the last segment"),
        _int("first_frame", "int64", "Number of the frame with the first segment", "", _SHARK),
        _int("last_frame", "int64", "Number of the frame with the last segment", "", _SHARK),
        *_each(_int("{}_packets", "uint32", "Segments sent by the {}", "segments")),
        *_each(_int("{}_octets", "int64", "Payload sent by the {}, retransmissions included", "octets")),
        *_each(_int("{}_unique_octets", "int64", "Payload sent by the {}, each octet counted once", "octets")),
        *_each(_int("{}_retransmitted", "uint32", "Segments that the {} sent again", "segments", _SHARK)),
        *_each(_int("{}_out_of_order", "uint32", "Segments of the {} out of order at the tap", "segments", _SHARK)),
        *_each(_int("{}_duplicate_acks", "uint32", "Duplicate ACKs sent by the {}", "segments", _SHARK)),
        *_each(_int("{}_zero_windows", "uint32", "Segments in which the {} announced window 0", "segments", _SHARK)),
        *_each(_int("{}_keepalives", "uint32", "Keepalive probes sent by the {}", "segments", _SHARK)),
        _int("syn_count", "uint32", "SYNs of the opening, repeats included", "segments"),
        _int("synack_count", "uint32", "SYN-ACKs of the opening, repeats included", "segments"),
        _int(
            "handshake_ns",
            "Int64",
            "Connect time as the tap saw it: from the first SYN (repeats cost time, too) to the segment that first "
            "acknowledged the SYN-ACK; null if the handshake was not seen or not completed",
            "ns",
        ),
        *_each(_int("{}_rtt_ns", "Int64", "Smallest round trip between the tap and the {}", "ns")),
        *_each(_int("{}_mss", "UInt16", "Maximum segment size that the {} announced", "octets", "RFC 9293 3.7.1")),
        *_each(_int("{}_window_scale", "UInt8", "Window shift that the {} announced", "bits", "RFC 7323 2.2")),
        _bool("sack", "Selective acknowledgment agreed by both", "RFC 2018"),
        _bool("timestamps", "Timestamps agreed by both", "RFC 7323 3"),
        _bool("ecn", "Explicit congestion notification agreed by both", "RFC 3168 6.1.1"),
        _bool("fast_open", "The SYN carried data under TCP Fast Open, or asked for a cookie", "RFC 7413"),
        *_each(_enum("{}_state", STATES, "State of the {} at the end", "RFC 9293 3.3.2")),
        *_each(_enum("{}_certainty", CERTAINTIES, "How the state of the {} is known")),
        _enum("closed_first", SIDES, "Who sent the first FIN, or both at once; null: nobody", nullable=True),
        _enum(
            "ended",
            ENDINGS,
            "How it ended: fin (both closed), reset, timeout (given up without a word), open (it had not ended)",
        ),
        _enum("rst_sender", SIDES, "Who sent a RST that was accepted; null: nobody", "RFC 5961 3", nullable=True),
        _enum(
            "time_wait_holder", SIDES, "Who is, or was, in TIME-WAIT; null: nobody", "RFC 9293 3.4.2", nullable=True
        ),
        _enum("tap", TAPS, "Where the capture was made, as far as this connection tells", nullable=True),
        _enum("tap_grade", GRADES, "How sure `tap` is", nullable=True),
        _int("completeness", "uint8", "Sum of 1 SYN, 2 SYN-ACK, 4 ACK, 8 data, 16 FIN, 32 RST", "", _SHARK),
        _enum("conn_state", CONN_STATES, "Summary of the connection in Zeek's words", _ZEEK),
        _label("history", "What happened, one letter each, upper case by the originator", _ZEEK),
        _int("previous_stream", "UInt32", "The connection before it on the same addresses and ports; null: none"),
        _bits("encapsulation", ENCAPSULATIONS, "Everything between the frame and the innermost IP header"),
        _label("file", "File of the first segment", nullable=True),
    ),
)

TRANSITIONS: Final = Table(
    name="transitions",
    doc="One row per change of one endpoint's state, in time order; leave out retracted rows to fold in hindsight.",
    columns=(
        _STREAM,
        _enum("endpoint", ENDPOINTS, "Whose state changed"),
        _time("time", "When"),
        _int("frame", "Int64", "The frame that tells; null: a timer", "", _SHARK),
        _enum("from_state", STATES, "State before", "RFC 9293 3.3.2"),
        _enum("to_state", STATES, "State after", "RFC 9293 3.3.2"),
        _label("cause", "The event, as `observer states` lists it"),
        _enum(
            "certainty",
            CERTAINTIES,
            "sent: the endpoint itself sent it; acknowledged: something it sent later proves it; assumed: it passed "
            "the tap and nothing yet shows that it arrived; timer: a clock ran out; retracted: contradicted later",
        ),
        _int("proof_frame", "Int64", "The later frame that proved or retracted it", "", _SHARK),
    ),
)

EVENTS: Final = Table(
    name="events",
    doc="Everything notable that happened to a connection, in time order.",
    columns=(
        _STREAM,
        _enum("endpoint", ENDPOINTS, "The endpoint concerned: as a rule the sender", nullable=True),
        _time("time", "When"),
        _int("frame", "Int64", "The frame; null: a timer", "", _SHARK),
        _label("event", "What happened"),
        _label("detail", "More about it", nullable=True),
    ),
)

SKIPPED: Final = Table(
    name="skipped",
    doc="Every frame that yielded no segment, counted by reason, and every damage of a file.",
    columns=(
        _label("file", "The file", nullable=True),
        _label("reason", "Short name of the reason"),
        _label("explanation", "The reason as a sentence"),
        _bool("damage", "Whether something that should have been decoded could not be (ARP or UDP is no damage)"),
        _int("frames", "int64", "Frames skipped for this reason; 0: damage between frames", "frames"),
        _int("octets", "int64", "Their length on the wire", "octets"),
        _int("first_frame", "Int64", "The first of them", "", _SHARK),
        _int("last_frame", "Int64", "The last of them", "", _SHARK),
        _int("offset", "Int64", "Where in the file the damage begins", "octets"),
    ),
)

PACKETS: Final = Table(
    name="packets",
    doc="Segments of chosen connections in capture order, with both endpoints' states after each, in hindsight.",
    columns=(
        _STREAM,
        _int("frame", "int64", "Number of the frame", "", _SHARK),
        _time("time", "Time of the frame"),
        _enum("direction", ENDPOINTS, "Who sent it"),
        _int("seq", "uint32", "Sequence number relative to the sender's first", "octets", _SHARK),
        _int("ack", "UInt32", "Acknowledgment relative to the receiver's first; null without ACK flag", "octets"),
        _int("length", "int64", "Payload", "octets"),
        _int("window", "int64", "Window, scaled where the scale is known", "octets", "RFC 7323 2.2"),
        _bits("flags", FLAGS, "Flags", "RFC 9293 3.1"),
        _bits("label", MARKS, "What the sequence analysis says", _SHARK),
        *_each(_enum("{}_state", STATES, "State of the {} after it", "RFC 9293 3.3.2")),
        *_each(_enum("{}_certainty", CERTAINTIES, "How that state is known")),
        _int("mss", "UInt16", "Maximum segment size option", "octets", "RFC 9293 3.7.1"),
        _int("sack_left", "UInt32", "Left edge of the first SACK block, relative", "octets", "RFC 2018"),
        _int("sack_right", "UInt32", "Right edge of the first SACK block, relative", "octets", "RFC 2018"),
        _int("ts_value", "UInt32", "Timestamp value", "", "RFC 7323 3"),
        _int("ts_echo", "UInt32", "Timestamp echo reply", "", "RFC 7323 3"),
        _int("ttl", "UInt8", "Time to live or hop limit", "hops"),
    ),
)

FINDINGS: Final = Table(
    name="findings",
    doc="What is wrong, or worth knowing: one row per finding, the worst first.",
    columns=(
        _label("code", "Code of the finding"),
        _enum("severity", SEVERITIES, "How bad it is"),
        _enum("grade", GRADES, "How sure it is"),
        _STREAM_OR_NULL,
        _enum("endpoint", ENDPOINTS, "The endpoint at fault or concerned", nullable=True),
        *_PLACE,
        _label("cause", "The likeliest cause", nullable=True),
        _time("begin", "When it began", nullable=True),
        _time("end", "When it ended; null: it had not", nullable=True),
        Column(name="frames", kind="frames", dtype="object", doc="Frame numbers of the evidence", source=_SHARK),
        _text("summary", "One sentence a person understands"),
        _text("remedy", "What to do about it", nullable=True),
        _text("unknown", "What this tap cannot tell", nullable=True),
    ),
)

SOCKET_CALLS: Final = Table(
    name="calls",
    doc="What the applications' socket calls did, as far as the wire tells.",
    columns=(
        _STREAM,
        _enum("endpoint", ENDPOINTS, "Whose call"),
        _enum("call", CALLS, "The call"),
        _label("outcome", "ok, eof, blocked, or the name of an errno", "POSIX"),
        _time("time", "When it returned, or began to block", nullable=True),
        _int("frame", "Int64", "The frame that tells", "", _SHARK),
        _enum("certainty", CERTAINTIES, "How that is known"),
        _text("summary", "One sentence a person understands"),
    ),
)

POPULATION: Final = Table(
    name="population",
    doc="Number of endpoints in each state over time, one row per change.",
    columns=(
        _time("time", "From when on"),
        _label("scope", "listener (address and port) or host (address)"),
        _address("addr", "The host or the listener's address"),
        _int("port", "UInt16", "The listener's port; null for hosts"),
        _enum("endpoint", ENDPOINTS, "Which side of the connections is counted"),
        _enum("state", STATES, "The state", "RFC 9293 3.3.2"),
        _int("count", "int64", "Endpoints in that state", "endpoints"),
    ),
)

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (FLOWS, TRANSITIONS, EVENTS, SKIPPED, PACKETS, FINDINGS, SOCKET_CALLS, POPULATION)
}


def table(name: str) -> Table:
    """Return the table of that name, or raise OptionError."""
    if name not in TABLES:
        raise OptionError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    return TABLES[name]


# --- the raw form ---------------------------------------------------------------------------------------------
class Coded(NamedTuple):
    """Texts of which each value is kept once: integer codes (-1 null) into `values`."""

    codes: Any
    values: Sequence[str]


class Addresses:
    """The addresses of an observation, turned into text only when somebody reads them.

    Parameters
    ----------
    words
        uint32 or int64, shape (n, 4): most significant word first; IPv4 stands in the last (as in segments.py).
    versions
        integers, shape (n,): 4 or 6.

    Examples
    --------
    >>> Addresses.of(["10.0.0.1", "2001:db8::1"]).texts([1, 0])
    ['2001:db8::1', '10.0.0.1']
    """

    def __init__(self, words: Any, versions: Any) -> None:
        self.words = words
        self.versions = versions
        self._all: list[str] | None = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> Addresses:
        """Build the store from addresses as text."""
        import ipaddress

        import numpy

        parsed = [ipaddress.ip_address(text) for text in texts]
        words = [[int(address) >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)] for address in parsed]
        versions = numpy.array([address.version for address in parsed], numpy.uint8)
        return cls(numpy.array(words, numpy.uint32).reshape(-1, 4), versions)

    def __len__(self) -> int:
        return len(self.versions)

    def text(self, code: int) -> str:
        """Return one address as text (RFC 5952 for IPv6)."""
        return self.texts([code])[0]

    def texts(self, codes: Any = None) -> list[str]:
        """Return the addresses of these codes as text, of all if none are given."""
        import numpy

        if codes is None:
            if self._all is None:
                self._all = self.texts(numpy.arange(len(self)))
            return self._all
        codes = numpy.asarray(codes, numpy.int64)
        return [
            _text_of(version, row)
            for version, row in zip(
                numpy.asarray(self.versions)[codes].tolist(), numpy.asarray(self.words)[codes].tolist(), strict=True
            )
        ]


def _text_of(version: int, row: list[int]) -> str:
    """Return an address as text: four 32-bit words."""
    if version == 4:
        word = row[3]
        return f"{word >> 24}.{word >> 16 & 255}.{word >> 8 & 255}.{word & 255}"
    import ipaddress

    return str(ipaddress.IPv6Address(row[0] << 96 | row[1] << 64 | row[2] << 32 | row[3]))


Raw = Any
"""An array, a `Coded` or a sequence: see the module's table of kinds."""
Make = Callable[[int, int], Raw]
"""Makes rows start .. stop of a raw column."""


class Columns(Mapping[str, Raw]):
    """The raw form of a table: columns made when they are asked for, whole or in parts.

    Parameters
    ----------
    table
        Name of the table.
    rows
        Number of rows.
    source
        For each column either its raw form (all rows) or a function (start, stop) -> raw form of those rows.
        Functions are called each time: what is costly is made in parts and never kept.
    addresses
        What `address` codes refer to.

    Examples
    --------
    >>> import numpy
    >>> columns = Columns("flows", 3, {"stream": lambda start, stop: numpy.arange(start, stop)})
    >>> columns["stream"].tolist(), columns.part(1, 3)["stream"].tolist(), "tap" in columns
    ([0, 1, 2], [1, 2], False)
    """

    def __init__(
        self, table: str, rows: int, source: Mapping[str, Raw | Make], addresses: Addresses | None = None
    ) -> None:
        self.table = table
        self.rows = rows
        self.addresses = addresses
        self._source = source
        self._start = 0
        self._chosen: numpy.ndarray[Any, Any] | None = None

    def __getitem__(self, name: str) -> Raw:
        made = self._source[name]
        start, stop, chosen = self._start, self._start + self.rows, self._chosen
        if chosen is None:
            return made(start, stop) if callable(made) else _rows(made, slice(start, stop))
        chosen = chosen[start:stop]
        if not callable(made):
            return _rows(made, chosen)
        if not len(chosen):
            return made(0, 0)
        low, high = int(chosen.min()), int(chosen.max()) + 1
        return _rows(made(low, high), chosen - low)

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __contains__(self, name: object) -> bool:
        return name in self._source

    def part(self, start: int, stop: int) -> Columns:
        """Return rows start .. stop as Columns; nothing is computed yet."""
        stop = max(start, min(stop, self.rows))
        part = Columns(self.table, stop - start, self._source, self.addresses)
        part._start, part._chosen = self._start + start, self._chosen
        return part

    def parts(self, rows: int) -> Iterator[Columns]:
        """Yield all rows in parts of at most that many; a table without rows is one empty part."""
        for start in range(0, max(self.rows, 1), rows):
            yield self.part(start, start + rows)

    def take(self, indices: Any) -> Columns:
        """Return these rows (ascending positions or a mask of bools) as Columns; nothing is computed yet."""
        import numpy

        indices = numpy.asarray(indices)
        if indices.dtype == bool:
            indices = numpy.flatnonzero(indices)
        if self._chosen is not None:
            indices = self._chosen[self._start : self._start + self.rows][indices]
        else:
            indices = indices + self._start
        taken = Columns(self.table, len(indices), self._source, self.addresses)
        taken._chosen = indices
        return taken


def _rows(raw: Raw, index: Any) -> Raw:
    """Return chosen rows of a raw column: a slice or an array of positions."""
    if isinstance(raw, Coded):
        import numpy

        return Coded(numpy.asarray(raw.codes)[index], raw.values)
    if hasattr(raw, "dtype") or isinstance(index, slice):
        return raw[index]
    return [raw[int(i)] for i in index]
