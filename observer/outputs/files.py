"""Tables as files: CSV, Parquet, JSON lines, and Zeek's conn.log and notice.log.

Rows go from raw columns through Arrow in batches, so memory does not grow with the table; each batch is made once
for all formats.  A file appears under its name only when it is whole.

Never here: what a table means; pandas.  Sources: RFC 4180 (CSV), jsonlines.org, Zeek's log header (Zeek book, "Zeek
Log Formats"), scripts/base/protocols/conn/main.zeek.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from observer.errors import OptionError
from observer.outputs.arrow_text import json_lines, plain_columns, write_texts
from observer.outputs.zeek import LOGS, ZeekSink
from observer.registry import Sink, Writer
from observer.schema import TABLES, Columns, to_arrow

if typing.TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

BATCH_ROWS: Final = 100_000
"""Rows made and written at once: some 30 MB of a flow table."""


class CsvSink:
    """RFC 4180 with a header line, lines end as on Unix; times ISO 8601 in UTC, with ns; null is the empty field."""

    def __init__(self, path: Path, table: str) -> None:
        self._file = path.open("wb")
        self._file.write((",".join(TABLES[table].names()) + "\n").encode())

    def write(self, batch: pyarrow.Table) -> None:
        """Append rows."""
        import pyarrow.csv

        plain = plain_columns(batch)
        # Arrow quotes every text or none; where no text needs quotes the file is easier on people's eyes without.
        quoting = "needed" if _needs_quotes(plain) else "none"
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=quoting)
        pyarrow.csv.write_csv(plain, self._file, options)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _needs_quotes(batch: pyarrow.Table) -> bool:
    import pyarrow
    import pyarrow.compute as pc

    for column in batch.itercolumns():
        if pyarrow.types.is_string(column.type) and pc.any(pc.match_substring_regex(column, '[",\r\n]')).as_py():
            return True
    return False


class ParquetSink:
    """Parquet with dictionaries for enumerations, labels and addresses, compressed with zstd."""

    def __init__(self, path: Path, table: str) -> None:
        self._path = path
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def write(self, batch: pyarrow.Table) -> None:
        """Append rows as a row group."""
        import pyarrow.parquet

        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, batch.schema, compression="zstd")
        self._writer.write_table(batch)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


class JsonLinesSink:
    """One JSON object per line; null columns are null; times as in CSV; lists of frames as arrays."""

    def __init__(self, path: Path, table: str) -> None:
        self._file = path.open("wb")

    def write(self, batch: pyarrow.Table) -> None:
        """Append rows."""
        write_texts(self._file, json_lines(batch))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


CSV: Final = Writer(
    name="csv", doc="comma-separated values, RFC 4180", filename=lambda table: f"{table}.csv", open=CsvSink
)
PARQUET: Final = Writer(
    name="parquet", doc="Apache Parquet", filename=lambda table: f"{table}.parquet", open=ParquetSink
)
JSON_LINES: Final = Writer(
    name="jsonl", doc="JSON, one object per line", filename=lambda table: f"{table}.jsonl", open=JsonLinesSink
)
ZEEK: Final = Writer(
    name="zeek",
    doc="Zeek's conn.log (connections) and notice.log (findings)",
    filename=lambda table: f"{LOGS[table][0]}.log",
    open=ZeekSink,
    tables=tuple(LOGS),
)


def write_tables(
    tables: Mapping[str, Columns], folder: Path, writers: Iterable[Writer], *, batch_rows: int = BATCH_ROWS
) -> list[Path]:
    """Write tables in some formats into a folder, which is made if need be.

    Parameters
    ----------
    tables
        Raw columns by table name.
    folder
        Where to write.  Files of the same names are replaced, each at the moment its successor is whole.
    writers
        Formats.
    batch_rows
        Rows made at once.

    Returns
    -------
    list of Path
        The files, in the order of the tables.

    Raises
    ------
    OptionError
        If the folder cannot be made or written to.
    """
    writers = list(writers)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            path for name, columns in tables.items() for path in _write_one(name, columns, folder, writers, batch_rows)
        ]
    except OSError as error:
        raise OptionError(f"cannot write into {folder}: {error.strerror or error}") from error


def _write_one(name: str, columns: Columns, folder: Path, writers: Sequence[Writer], batch_rows: int) -> list[Path]:
    chosen = [writer for writer in writers if not writer.tables or name in writer.tables]
    if not chosen:
        return []
    paths = [folder / writer.filename(name) for writer in chosen]
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part.unlink, missing_ok=True)
        sinks: list[Any] = []
        for writer, part in zip(chosen, parts, strict=True):
            sink: Sink = writer.open(part, name)
            sinks.append(sink)
            stack.callback(sink.close)
        for rows in columns.parts(batch_rows):
            batch = to_arrow(name, rows)
            for sink in sinks:
                sink.write(batch)
        for sink, part, path in zip(sinks, parts, paths, strict=True):
            sink.close()
            part.replace(path)
    return paths
