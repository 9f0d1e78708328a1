"""How a finding, an output or a plot is found without being wired in.

A module-level constant of one of the classes below, in a module of the package that belongs to the class, is all it
takes: the CLI's choices, the documentation and the contract tests ask `collect`.

Never here: anything particular to one finding, output or plot.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from observer.errors import OptionError

if typing.TYPE_CHECKING:
    import pyarrow
    from matplotlib.axes import Axes

    from observer.findings.case import Case
    from observer.findings.survey import Survey
    from observer.findings.verdict import Verdict
    from observer.options import Options

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


class Wake(NamedTuple):
    """An event that makes a connection worth a finding's look: its name, and from which detail on."""

    event: str
    least: int = 0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong, or worth knowing: what it means, and how it is told.

    Attributes
    ----------
    name
        Its code, as in `--finding` and in the column `code`.
    title
        A few words, as people say it.
    definition
        One or two sentences: what it means, exactly.
    source
        Where the criteria come from: RFC and section, or "measured on Linux".
    severity
        problem, warning or info; a verdict may say otherwise of a single case.
    remedy
        What an engineer does about it, one or two sentences.
    causes
        Each cause that it tells apart, and what that means.
    wakes
        Events that make a connection worth looking at.
    wakes_flows
        The same from the columns of flows: given raw columns (arrays by name, of some rows) and the options, a mask.
    judge
        Looks at one connection; yields verdicts.
    survey
        Looks at all connections together, and at what was found of single ones; yields verdicts.
    """

    package: ClassVar[str] = "observer.findings"
    word: ClassVar[str] = "finding"
    name: str
    title: str
    definition: str
    source: str
    severity: str
    remedy: str
    causes: Mapping[str, str] = field(default_factory=dict)
    wakes: Sequence[Wake] = ()
    wakes_flows: Callable[[Mapping[str, Any], Options], Any] | None = None
    judge: Callable[[Case], Iterable[Verdict]] | None = None
    survey: Callable[[Survey], Iterable[Verdict]] | None = None


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture: how it is chosen, and the function that draws it.

    Attributes
    ----------
    name
        As in `--plots` and in file names.
    title
        A few words.
    doc
        One sentence: what it shows.
    scope
        "flow": drawn of one connection (`Flow`); "observation": of all (`Observation`).
    draw
        ``draw(subject, *, ax=None, **options) -> Axes``; see `observer.plots`.
    """

    package: ClassVar[str] = "observer.plots"
    word: ClassVar[str] = "plot"
    name: str
    title: str
    doc: str
    scope: Literal["flow", "observation"]
    draw: Callable[..., Axes]


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
