"""Finished tables out of raw columns: pandas DataFrames, Arrow tables, documentation, and the check of a table.

Never here: a column's name.  What is done depends on a column's kind alone.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from observer.errors import ObserverError
from observer.schema.declare import NULL_TIME, Column
from observer.schema.raw import Addresses, Coded, Columns, Raw
from observer.schema.tables import table as table_of

if typing.TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow


class Finished(NamedTuple):
    """One column between both forms: values and where they are null, or codes into texts."""

    values: Any
    null: Any  # array of bool, or None if nothing is
    texts: Sequence[str] | None = None  # then `values` are codes into these


def from_columns(name: str, columns: Columns) -> pandas.DataFrame:
    """Build the DataFrame of a table from its raw columns.

    Parameters
    ----------
    name
        A key of `TABLES`.
    columns
        Raw columns as `observer.schema` says.  Others than the table's are left out.

    Raises
    ------
    ObserverError
        If a column that cannot be null is missing.

    Examples
    --------
    >>> columns = Columns("events", 1, {"stream": [0], "endpoint": [1], "time": [10**9], "frame": [7],
    ...                                 "event": Coded([0], ["retransmission"])})
    >>> from_columns("events", columns).iloc[0].to_dict()["event"]
    'retransmission'
    """
    import pandas

    built = {column.name: _to_pandas(column, finished) for column, finished in _finish(name, columns)}
    return pandas.DataFrame(built, index=pandas.RangeIndex(columns.rows), copy=False)


def to_arrow(name: str, columns: Columns) -> pyarrow.Table:
    """Build the Arrow table of a table from its raw columns, without pandas.

    Enumerations, labels and addresses are dictionaries of the values that these rows have.
    """
    import pyarrow

    built = {column.name: _to_arrow(column, finished) for column, finished in _finish(name, columns)}
    return pyarrow.table(built)


# --- from raw to values, nulls and texts ------------------------------------------------------
def _finish(name: str, columns: Columns) -> Iterator[tuple[Column, Finished]]:
    spec = table_of(name)
    missing = [column.name for column in spec.columns if column.name not in columns and not column.nullable]
    if missing:
        raise ObserverError(f"raw table {name} lacks the columns {', '.join(missing)}")
    places = _addresses(spec.columns, columns)
    for column in spec.columns:
        if column.name not in columns:
            yield column, _nothing(column, columns.rows)
        elif column.kind == "address":
            yield column, places[column.name]
        else:
            yield column, _finish_one(column, columns[column.name])


def _nothing(column: Column, rows: int) -> Finished:
    import numpy

    texts = column.categories if column.kind in ("enum", "label", "address", "bits") else None
    if column.kind == "text":
        return Finished([None] * rows, None)
    fill = NULL_TIME if column.kind == "time" else -1
    return Finished(numpy.full(rows, fill, numpy.int64), numpy.ones(rows, bool), texts)


def _finish_one(column: Column, raw: Raw) -> Finished:
    import numpy

    kind = column.kind
    if kind == "text":
        return _finish_text(raw)
    if kind == "frames":
        return Finished(list(raw), None)
    if kind == "label":
        codes, values = raw
        return _compact(numpy.asarray(codes), values)
    values = numpy.asarray(raw)
    if kind == "bits":
        used, codes = numpy.unique(values, return_inverse=True)
        return _compact(codes, [_names(column, value) for value in used.tolist()])
    if kind == "enum":
        return Finished(values, values < 0, column.categories)
    if kind == "bool":
        return Finished(values != 0, None)
    if kind == "time":
        return Finished(numpy.ascontiguousarray(values, numpy.int64), values == NULL_TIME)
    return Finished(values, values < 0 if column.nullable else None)


def _names(column: Column, value: int) -> str:
    return ",".join(name for bit, name in (column.bits or {}).items() if value & bit)


def _finish_text(raw: Raw) -> Finished:
    import numpy

    if isinstance(raw, Coded):
        values = raw.values
        return Finished([None if code < 0 else values[code] for code in numpy.asarray(raw.codes).tolist()], None)
    if getattr(raw, "dtype", None) is not None and raw.dtype.kind == "S":
        return Finished(raw.astype("U").tolist(), None)
    return Finished(list(raw), None)


def _compact(codes: numpy.ndarray[Any, Any], values: Sequence[str]) -> Finished:
    """Keep only texts that these rows use, each once: a part of a table must not carry the texts of the whole."""
    import numpy

    used, inverse = numpy.unique(codes, return_inverse=True)
    null = codes < 0
    skip = int((used < 0).sum())
    position: dict[str, int] = {}
    new = [position.setdefault(values[code], len(position)) for code in used.tolist()[skip:]]
    translate = numpy.array([-1] * skip + new, numpy.int64)
    return Finished(translate[inverse] if len(codes) else codes, null, list(position))


def _addresses(spec: Sequence[Column], columns: Columns) -> dict[str, Finished]:
    """Finish all address columns on one list of texts, so that they can be compared with each other."""
    import numpy

    names = [column.name for column in spec if column.kind == "address" and column.name in columns]
    if not names:
        return {}
    raw = {name: numpy.asarray(columns[name], numpy.int64) for name in names}
    used = numpy.unique(numpy.concatenate(list(raw.values())))
    used = used[used >= 0]
    texts = (columns.addresses or Addresses.of([])).texts(used)
    done = {}
    for name, codes in raw.items():
        null = codes < 0
        done[name] = Finished(numpy.where(null, -1, numpy.searchsorted(used, codes)), null, texts)
    return done


# --- to pandas --------------------------------------------------------------------------------
def _to_pandas(column: Column, finished: Finished) -> Any:
    import numpy
    import pandas

    values, null, texts = finished
    if texts is not None:
        codes = numpy.where(null, -1, values) if null is not None else values
        kind = pandas.CategoricalDtype(pandas.Index(list(texts), dtype="str"), ordered=False)
        return pandas.Categorical.from_codes(codes.astype(numpy.int32), dtype=kind)
    if column.kind == "time":
        return pandas.DatetimeIndex(values.view("M8[ns]")).tz_localize("UTC")
    if column.kind == "text":
        return pandas.array(values, dtype="str")
    if column.kind == "frames":
        return pandas.Series(values, dtype="object").array
    if column.kind == "bool" or not column.nullable:
        return values.astype(column.dtype)
    kept = numpy.where(null, 0, values).astype(column.dtype.lower())
    return pandas.arrays.IntegerArray(kept, null)


# --- to Arrow ---------------------------------------------------------------------------------
def _to_arrow(column: Column, finished: Finished) -> pyarrow.Array:
    import numpy
    import pyarrow

    values, null, texts = finished
    if null is not None and not null.any():
        null = None
    if texts is not None:
        # one width per kind: all parts of a table must have the same Arrow schema
        width = numpy.int8 if column.kind == "enum" else numpy.int32
        codes = pyarrow.array(numpy.maximum(values, 0).astype(width), mask=null)
        return pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(list(texts), pyarrow.string()))
    if column.kind == "time":
        return pyarrow.array(values, mask=null).cast(pyarrow.timestamp("ns", "UTC"))
    if column.kind == "text":
        return pyarrow.array(values, pyarrow.string())
    if column.kind == "frames":
        return pyarrow.array(values, pyarrow.list_(pyarrow.int64()))
    if column.kind == "bool":
        return pyarrow.array(values)
    dtype = column.dtype.lower()
    kept = values.astype(dtype) if null is None else numpy.where(null, 0, values).astype(dtype)
    return pyarrow.array(kept, mask=null)


# --- documentation and check ------------------------------------------------------------------
class Line(NamedTuple):
    """One column's documentation: all texts."""

    name: str
    dtype: str
    unit: str
    doc: str
    values: str
    source: str


def document(name: str) -> list[Line]:
    """Document a table's columns, one line each."""
    lines = []
    for column in table_of(name).columns:
        values = ", ".join(column.categories or (column.bits or {}).values())
        if column.nullable and "null" not in column.doc:
            values = f"{values}; may be null" if values else "may be null"
        lines.append(Line(column.name, column.dtype, column.unit, column.doc, values, column.source))
    return lines


def markdown(name: str) -> str:
    """Document a table as Markdown: its sentence and a table of its columns.

    Examples
    --------
    >>> print(markdown("events").splitlines()[0])
    ### events
    """
    spec = table_of(name)
    rows = [f"### {name}", "", spec.doc, "", "| column | type | unit | meaning | source |", "|---|---|---|---|---|"]
    for line in document(name):
        meaning = f"{line.doc} ({line.values})" if line.values else line.doc
        rows.append(f"| `{line.name}` | {line.dtype} | {line.unit} | {meaning} | {line.source} |")
    return "\n".join(rows) + "\n"


def validate(name: str, frame: pandas.DataFrame) -> None:
    """Check that a DataFrame is what the schema says of the table.

    Raises
    ------
    ObserverError
        With a sentence for everything that differs.
    """
    wrong = []
    spec = table_of(name)
    for column in spec.columns:
        if column.name not in frame:
            wrong.append(f"column {column.name} is missing")
            continue
        wrong += _differences(column, frame[column.name])
    wrong += [f"column {extra} is not declared" for extra in frame.columns if extra not in spec.names()]
    if wrong:
        raise ObserverError(f"table {name}: " + "; ".join(wrong))


def _differences(column: Column, series: pandas.Series[Any]) -> Iterator[str]:
    dtype = str(series.dtype)
    if dtype != column.dtype and not (column.dtype == "str" and dtype in ("object", "string")):
        yield f"column {column.name} is {dtype}, not {column.dtype}"
    elif column.categories and tuple(series.cat.categories) != column.categories:
        yield f"column {column.name} has other values than {', '.join(column.categories)}"
    if not column.nullable and series.isna().any():
        yield f"column {column.name} has nulls"
