"""The raw form of a table: flat arrays of plain integers, made when asked for, whole or in parts.

Never here: pandas or pyarrow; numpy is imported when first needed.  Sources: RFC 5952 (IPv6 addresses as text).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

if typing.TYPE_CHECKING:
    import numpy


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


SPARSE_ROWS: Final = 4096
"""Chosen rows further apart than this are made on their own."""

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
        return _gathered(made, chosen) if callable(made) else _rows(made, chosen)

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


def _gathered(made: Make, chosen: numpy.ndarray[Any, Any]) -> Raw:
    """Make chosen rows (ascending positions) without making all that lie between them."""
    import numpy

    if not len(chosen):
        return made(0, 0)
    runs = numpy.split(chosen, numpy.flatnonzero(numpy.diff(chosen) > SPARSE_ROWS) + 1)
    pieces = [_rows(made(int(run[0]), int(run[-1]) + 1), run - run[0]) for run in runs]
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], Coded):
        codes: list[Any] = []
        values: list[str] = []
        for piece in pieces:
            own = numpy.asarray(piece.codes)
            codes.append(numpy.where(own < 0, -1, own + len(values)))
            values += piece.values
        return Coded(numpy.concatenate(codes), values)
    if hasattr(pieces[0], "dtype"):
        return numpy.concatenate(pieces)
    return [value for piece in pieces for value in piece]
