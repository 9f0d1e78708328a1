"""Findings as Zeek's notice.log: one notice for each finding.

Notices have no uid here (a finding does not know its connection's first segment): join them with conn.log by addresses
and ports.  A population's notice has src and dst only.

Never here: what a finding means.
Sources: Zeek book, "Zeek Log Formats"; scripts/base/frameworks/notice/main.zeek; src/threading/formatters/Ascii.cc.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Final

from observer.outputs.arrow_text import texts_of

if typing.TYPE_CHECKING:
    import pyarrow

NOTICE_FIELDS: Final = (
    ("ts", "time"), ("uid", "string"), ("id.orig_h", "addr"), ("id.orig_p", "port"), ("id.resp_h", "addr"),
    ("id.resp_p", "port"), ("fuid", "string"), ("file_mime_type", "string"), ("file_desc", "string"),
    ("proto", "enum"), ("note", "enum"), ("msg", "string"), ("sub", "string"), ("src", "addr"), ("dst", "addr"),
    ("p", "port"), ("n", "count"), ("peer_descr", "string"), ("actions", "set[enum]"),
    ("email_dest", "set[string]"), ("suppress_for", "interval"),
)  # fmt: skip


def notice_lines(findings: pyarrow.Table) -> pyarrow.Array:
    """Return one line of notice.log for each row of the table of findings."""
    import pyarrow

    begins = findings["begin"].cast(pyarrow.int64()).to_pylist()
    names = ("code", "grade", "cause", "summary", "stream", "client_addr", "client_port", "server_addr", "server_port")
    columns = [texts_of(findings[name]).to_pylist() for name in names]
    lines = [_line(begin, dict(zip(names, row, strict=True))) for begin, *row in zip(begins, *columns, strict=True)]
    return pyarrow.array(lines, pyarrow.large_string())


def _line(begin: int | None, row: Mapping[str, Any]) -> str:
    about = [row["grade"], row["cause"], f"tcp.stream eq {row['stream']}" if row["stream"] is not None else None]
    values = {
        "ts": None if begin is None else f"{begin // 10**9}.{begin % 10**9 // 1000:06d}",
        "proto": "tcp",
        "note": "TCP::" + "_".join(part.capitalize() for part in row["code"].split("_")),
        "msg": row["summary"],
        "sub": ", ".join(text for text in about if text),
        "src": row["client_addr"],
        "dst": row["server_addr"],
        "p": row["server_port"],
        "actions": "Notice::ACTION_LOG",
    }
    if row["stream"] is not None:
        for name, column in (("orig_h", "client_addr"), ("orig_p", "client_port"), ("resp_h", "server_addr")):
            values[f"id.{name}"] = row[column]
        values["id.resp_p"] = row["server_port"]
    return "\t".join(escaped(values.get(name)) for name, _ in NOTICE_FIELDS) + "\n"


def escaped(text: str | None) -> str:
    r"""Return a value as Zeek writes it: `-` if unset, characters that would break the line as \xNN.

    Examples
    --------
    >>> escaped(None), escaped("a\tb"), escaped("-")
    ('-', 'a\\x09b', '\\x2d')
    """
    if text is None:
        return "-"
    if text == "-":
        return r"\x2d"
    return "".join(f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 or c == "\\" else c for c in text)
