"""Connections as Zeek's conn.log, findings as its notice.log: tab-separated, with Zeek's header lines.

What Zeek has and a TCP observer has not (service, missed octets, IP octets, tunnels, which hosts are local) is unset.
Times go to microseconds, as Zeek's do.

Never here: what conn_state and history mean; they come with the flows.
Sources: Zeek book, "Zeek Log Formats"; scripts/base/protocols/conn/main.zeek; src/threading/formatters/Ascii.cc.
"""

from __future__ import annotations

import hashlib
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from observer.outputs.arrow_text import join, texts_of, write_texts
from observer.outputs.zeek_notice import NOTICE_FIELDS, notice_lines

if typing.TYPE_CHECKING:
    import pyarrow

FIELDS: Final = (
    ("ts", "time"), ("uid", "string"), ("id.orig_h", "addr"), ("id.orig_p", "port"), ("id.resp_h", "addr"),
    ("id.resp_p", "port"), ("proto", "enum"), ("service", "string"), ("duration", "interval"),
    ("orig_bytes", "count"), ("resp_bytes", "count"), ("conn_state", "string"), ("local_orig", "bool"),
    ("local_resp", "bool"), ("missed_bytes", "count"), ("history", "string"), ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"), ("resp_pkts", "count"), ("resp_ip_bytes", "count"), ("tunnel_parents", "set[string]"),
)  # fmt: skip
Fields = tuple[tuple[str, str], ...]
UNSET: Final = "-"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ZeekSink:
    """Writes conn.log or notice.log, from the header lines to #close."""

    def __init__(self, path: Path, table: str) -> None:
        self._file = path.open("wb")
        self._open = True
        name, fields, self._lines = LOGS[table]
        lines = [
            "#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", f"#unset_field\t{UNSET}",
            f"#path\t{name}", f"#open\t{_now()}", "#fields\t" + "\t".join(name for name, _ in fields),
            "#types\t" + "\t".join(kind for _, kind in fields),
        ]  # fmt: skip
        self._file.write(("\n".join(lines) + "\n").encode())

    def write(self, batch: pyarrow.Table) -> None:
        """Append connections or findings."""
        write_texts(self._file, self._lines(batch))

    def close(self) -> None:
        """Write the last line and close the file."""
        if self._open:
            self._open = False
            self._file.write(f"#close\t{_now()}\n".encode())
            self._file.close()


def zeek_lines(flows: pyarrow.Table) -> pyarrow.Array:
    """Return one line of conn.log for each row of the flow table."""
    values = _values(flows)
    pieces: list[Any] = []
    for i, (name, _) in enumerate(FIELDS):
        pieces += ["\t"] * (i > 0) + [values.get(name, UNSET)]
    return join([*pieces, "\n"], flows.num_rows)


LOGS: Final[dict[str, tuple[str, Fields, Callable[[Any], Any]]]] = {
    "flows": ("conn", FIELDS, zeek_lines),
    "findings": ("notice", NOTICE_FIELDS, notice_lines),
}
"""Zeek's name, fields and lines for each table that it has."""


def _values(flows: pyarrow.Table) -> dict[str, Any]:
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    first = flows["first_time"].cast(pyarrow.int64()).to_numpy()
    last = flows["last_time"].cast(pyarrow.int64()).to_numpy()
    # Zeek leaves duration and octets unset where no time passed (conn/main.zeek, set_conn)
    instant = pyarrow.array(last <= first)

    def unset(array: pyarrow.Array) -> pyarrow.Array:
        return pc.if_else(instant, pyarrow.scalar(UNSET, pyarrow.large_string()), array)

    ids = flows["community_id"].to_pylist()
    uids = [uid(*key) for key in zip(ids, first.tolist(), flows["stream"].to_pylist(), strict=True)]
    return {
        "ts": _seconds(first),
        "uid": pyarrow.array(uids, pyarrow.large_string()),
        "id.orig_h": texts_of(flows["client_addr"]),
        "id.orig_p": texts_of(flows["client_port"]),
        "id.resp_h": texts_of(flows["server_addr"]),
        "id.resp_p": texts_of(flows["server_port"]),
        "proto": "tcp",
        "duration": unset(_seconds(numpy.maximum(last - first, 0))),
        "orig_bytes": unset(texts_of(flows["client_unique_octets"])),
        "resp_bytes": unset(texts_of(flows["server_unique_octets"])),
        "conn_state": texts_of(flows["conn_state"]),
        "history": _empty_marked(texts_of(flows["history"])),
        "orig_pkts": texts_of(flows["client_packets"]),
        "resp_pkts": texts_of(flows["server_packets"]),
    }


def _empty_marked(texts: pyarrow.Array) -> pyarrow.Array:
    """Say "(empty)" for texts without characters."""
    import pyarrow
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(texts, ""), pyarrow.scalar("(empty)", pyarrow.large_string()), texts)


def _seconds(nanoseconds: Any) -> pyarrow.Array:
    """Return seconds with six decimals, as text."""
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    kind = pyarrow.large_string()
    whole, rest = numpy.divmod(nanoseconds, 10**9)
    decimals = pc.utf8_lpad(pyarrow.array(rest // 1000).cast(kind), 6, "0")
    return pc.binary_join_element_wise(pyarrow.array(whole).cast(kind), decimals, pyarrow.scalar(".", kind))


def uid(community_id: str, first_time_ns: int, stream: int) -> str:
    """Return a connection's unique id in Zeek's form: the same for the same capture, whenever it is read.

    Examples
    --------
    >>> uid("1:abc", 0, 0)[0], len(uid("1:abc", 0, 0))
    ('C', 18)
    """
    digest = hashlib.blake2b(f"{community_id} {first_time_ns} {stream}".encode(), digest_size=13).digest()
    number = int.from_bytes(digest, "big")
    letters = ["C"]
    for _ in range(17):
        number, digit = divmod(number, 62)
        letters.append(ALPHABET[digit])
    return "".join(letters)


def _now() -> str:
    return time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
