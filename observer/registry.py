"""How a finding, an output or a plot is found without being wired in.

A module-level constant of one of the classes below, in a module of the package that belongs to the class, is all it
takes: the CLI's choices, the documentation and the contract tests ask `collect`.

Never here: anything particular to one finding, output or plot.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from observer.errors import OptionError

if typing.TYPE_CHECKING:
    import pyarrow

T = TypeVar("T", bound="Registered")


class Registered(Protocol):
    """What every registered constant has."""

    package: ClassVar[str]
    """The package whose modules are searched."""
    word: ClassVar[str]
    """What one is called, in messages."""

    @property
    def name(self) -> str:
        """Return the name that people choose it by."""


class Sink(Protocol):
    """A table file that is being written."""

    def write(self, batch: pyarrow.Table) -> None:
        """Append rows; every batch has the columns of the table's schema."""

    def close(self) -> None:
        """Write what remains and close the file."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A file format for tables.

    Attributes
    ----------
    name
        As in `--format`.
    doc
        One sentence.
    tables
        Names of the tables that it can write; empty: all.
    filename
        Gives the name of the file for a table.
    open
        Opens a new file at a path for a table, by name.
    """

    package: ClassVar[str] = "observer.outputs"
    word: ClassVar[str] = "format"
    name: str
    doc: str
    filename: Callable[[str], str]
    open: Callable[[Path, str], Sink]
    tables: Sequence[str] = ()


def collect(kind: type[T]) -> dict[str, T]:
    """Find all constants of a class in the modules of its package, by name, in order of module and line.

    Raises
    ------
    OptionError
        If two have the same name.

    Examples
    --------
    >>> "csv" in collect(Writer)
    True
    """
    found: dict[str, T] = {}
    package = importlib.import_module(kind.package)
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{kind.package}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, kind) and found.setdefault(value.name, value) is not value:
                raise OptionError(f"two {kind.word}s are called {value.name!r}")
    return found


def choose(kind: type[T], names: Sequence[str]) -> list[T]:
    """Return the constants of these names, each once, or raise OptionError naming those that there are."""
    known = collect(kind)
    chosen: dict[str, Any] = {}
    for name in names:
        if name not in known:
            raise OptionError(f"{kind.word} {name!r} is unknown; there are {', '.join(known)}")
        chosen[name] = known[name]
    return list(chosen.values())
