"""How a table is declared: columns, their kinds, every enumeration.  Raw forms of the kinds: see `observer.schema`.

Never here: data.  Sources: RFC 9293 3.3.2 (states), Wireshark's and Zeek's documentation where a column says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from observer.errors import OptionError

Kind = Literal["int", "bool", "time", "address", "enum", "bits", "label", "text", "frames"]

NULL_TIME: Final = -(2**63)
"""No time: what numpy and pandas call NaT."""

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
def int_column(name: str, dtype: str, doc: str, unit: str = "", source: str = "") -> Column:
    """Declare a whole number; a dtype with a capital letter is nullable."""
    return Column(name=name, kind="int", dtype=dtype, unit=unit, doc=doc, source=source, nullable=dtype[0].isupper())


def bool_column(name: str, doc: str, source: str = "") -> Column:
    return Column(name=name, kind="bool", dtype="bool", doc=doc, source=source)


def time_column(name: str, doc: str, nullable: bool = False, source: str = "") -> Column:
    return Column(
        name=name, kind="time", dtype="datetime64[ns, UTC]", unit="UTC", doc=doc, source=source, nullable=nullable
    )


def address_column(name: str, doc: str, nullable: bool = False) -> Column:
    return Column(name=name, kind="address", dtype="category", doc=doc, nullable=nullable)


def enum_column(name: str, categories: tuple[str, ...], doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(
        name=name, kind="enum", dtype="category", doc=doc, source=source, categories=categories, nullable=nullable
    )


def bits_column(name: str, bits: Mapping[int, str], doc: str, source: str = "") -> Column:
    return Column(name=name, kind="bits", dtype="category", doc=doc, source=source, bits=bits)


def label_column(name: str, doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(name=name, kind="label", dtype="category", doc=doc, source=source, nullable=nullable)


def text_column(name: str, doc: str, source: str = "", nullable: bool = False) -> Column:
    return Column(name=name, kind="text", dtype="str", doc=doc, source=source, nullable=nullable)


def each(column: Column) -> list[Column]:
    """Declare a column for the client and the same for the server: `{}` in its texts stands for the endpoint."""
    return [
        replace(column, name=column.name.format(side), doc=column.doc.format(side, other))
        for side, other in (("client", "server"), ("server", "client"))
    ]
