"""Arrow tables as text, a column at a time: what CSV, JSON lines and Zeek's log share.

Never here: files.  Every function keeps the number and order of rows.
"""

from __future__ import annotations

import json
import typing
from typing import Any, BinaryIO

if typing.TYPE_CHECKING:
    import pyarrow


def texts_of(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    """Return any column as an array of text (large_string), with nulls where it has them."""
    import pyarrow

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(array, pyarrow.ChunkedArray):  # no chunks at all
        array = pyarrow.array([], array.type)
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pyarrow.types.is_timestamp(array.type):
        return _iso_times(array)
    if pyarrow.types.is_list(array.type):
        array = pyarrow.array([None if v is None else " ".join(map(str, v)) for v in array.to_pylist()])
    return array.cast(pyarrow.large_string())


def _iso_times(array: pyarrow.Array) -> pyarrow.Array:
    """Return times as ISO 8601 in UTC with nanoseconds, 30 characters each.

    Arrow's own cast takes six times as long and puts a blank between date and time.
    """
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    times = pc.fill_null(array.cast(pyarrow.int64()), 0).to_numpy()
    seconds, rest = numpy.divmod(times, 10**9)
    known, codes = numpy.unique(seconds, return_inverse=True)
    # "2026-11-21T02:12:03" of each second that occurs; years have four digits as long as ns fit into 64 bits
    heads = numpy.datetime_as_string(known.astype("M8[s]")).astype("S19").view(numpy.uint8).reshape(-1, 19)
    octets = numpy.empty((len(times), 30), numpy.uint8)
    octets[:, :19] = heads[codes]
    octets[:, 19] = ord(".")
    for place in range(28, 19, -1):
        rest, digit = numpy.divmod(rest, 10)
        octets[:, place] = digit + ord("0")
    octets[:, 29] = ord("Z")
    offsets = pyarrow.py_buffer(numpy.arange(len(times) + 1, dtype=numpy.int64) * 30)
    texts = pyarrow.Array.from_buffers(pyarrow.large_string(), len(times), [None, offsets, pyarrow.py_buffer(octets)])
    return (
        pc.if_else(array.is_valid(), texts, pyarrow.scalar(None, pyarrow.large_string())) if array.null_count else texts
    )


def plain_columns(batch: pyarrow.Table) -> pyarrow.Table:
    """Return the table with times, dictionaries and lists as text: what a CSV writer takes."""
    import pyarrow

    plain = {}
    for name, column in zip(batch.column_names, batch.itercolumns(), strict=True):
        kind = column.type
        simple = pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)
        plain[name] = column if simple else texts_of(column).cast(pyarrow.string())
    return pyarrow.table(plain)


def json_lines(batch: pyarrow.Table) -> pyarrow.Array:
    """Return one JSON object per row, each ending with a newline character (large_string)."""
    pieces: list[Any] = []
    for i, (name, column) in enumerate(zip(batch.column_names, batch.itercolumns(), strict=True)):
        pieces += [("{" if i == 0 else ",") + json.dumps(name) + ":", _json_values(column)]
    return join([*pieces, "}\n"], batch.num_rows)


def join(pieces: list[Any], rows: int) -> pyarrow.Array:
    """Join texts and arrays of text, row by row."""
    import pyarrow
    import pyarrow.compute as pc

    kind = pyarrow.large_string()
    if not rows:
        return pyarrow.array([], kind)
    scalars = [pyarrow.scalar(piece, kind) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*scalars, pyarrow.scalar("", kind))


def _json_values(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as pc

    kind = column.type
    if pyarrow.types.is_list(kind):
        values = pyarrow.array([json.dumps(value) for value in column.to_pylist()], pyarrow.large_string())
    elif pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind):
        values = texts_of(column)
    elif pyarrow.types.is_dictionary(kind):
        values = _json_dictionary(column)
    else:
        values = _quoted(texts_of(column))
    return pc.fill_null(values, "null")


def _json_dictionary(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    """Quote each value of a dictionary once."""
    import pyarrow

    array = column.combine_chunks()
    if isinstance(array, pyarrow.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pyarrow.array([], column.type)
    quoted = pyarrow.array([json.dumps(value) for value in array.dictionary.to_pylist()], pyarrow.large_string())
    return quoted.take(array.indices)


def _quoted(texts: pyarrow.Array) -> pyarrow.Array:
    """Quote texts for JSON: through Python only where a character needs escaping."""
    import pyarrow
    import pyarrow.compute as pc

    kind = pyarrow.large_string()
    if pc.any(pc.match_substring_regex(texts, r"[^ !#-\[\]-~]")).as_py():
        return pyarrow.array([None if v is None else json.dumps(v) for v in texts.to_pylist()], kind)
    quote = pyarrow.scalar('"', kind)
    return pc.binary_join_element_wise(quote, texts, quote, pyarrow.scalar("", kind))


def write_texts(file: BinaryIO, lines: pyarrow.Array) -> None:
    """Write the texts of an Arrow array, which end with newline characters, as they stand in memory."""
    if len(lines):
        import numpy

        offsets = numpy.frombuffer(lines.buffers()[1], numpy.int64)[lines.offset : lines.offset + len(lines) + 1]
        file.write(memoryview(lines.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
