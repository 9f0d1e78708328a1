"""Tables on disk while a capture goes on: parts that appear whole, and are never touched again.

    DIR/flows/run=0001/part-000001.parquet   connections that are over, each once; transitions and events of the same
    DIR/flows/run=0001/open.parquet          those that were not over at the last writing, replaced each time
    DIR/findings.jsonl                       one line for each change, with its run, flushed at once

Each file is written under another name, brought to the disk (fsync) and renamed, so readers never see half of one and a
crash loses at most what came since the last writing.  Starting again in the same folder is the next run.  Any
Parquet reader takes a table's folder as one table; `load` also leaves out what stands twice: a connection that a crash
left in both a part and open.parquet, or to which segments came after it was written.

Never here: what the tables hold.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer.errors import CaptureError, OptionError
from observer.outputs.files import PARQUET
from observer.schema import TABLES, Columns, to_arrow
from observer.watch.announce import Change
from observer.watch.room import OVER_S
from observer.watch.watcher import Watcher

if TYPE_CHECKING:
    import pandas

    from observer.watch.loop import Live

Array = Any

KEPT: Final = ("flows", "transitions", "events")
"""Tables that are written while a capture goes on."""
EVERY_S: Final = 5.0
"""Between two writings: what a crash may lose."""
SHARE: Final = 0.1
"""Of all time, at most this much is spent writing; where that takes long, it is done more seldom."""
MANY: Final = 50_000
"""Connections that are over and not written yet, from which on one does not wait."""
BLOCK: Final = 8192
"""Connections of which transitions are made at once."""
LATEST: Final = b"observer.latest_part"
"""In a file's metadata: the part that was the latest when it was written (a part: itself)."""
RUN: Final = re.compile(r"run=(\d{4,})")
PART: Final = re.compile(r"part-(\d{6,})\.parquet")


class Parts(Watcher):
    """Writes the tables of a live observation into a folder as they settle.

    Parameters
    ----------
    folder
        Made if it is not there; what earlier runs wrote stays.
    every_s
        Seconds between two writings.
    keep_octets, keep_s
        The oldest parts go when all of them are larger, or older than that; None: never.
    complain
        Told in a sentence when something cannot be written; it is tried again at the next writing.
    steady_ns
        Measures what passes.

    Raises
    ------
    OptionError
        The folder cannot be made or written into.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steady_ns: Callable[[], int],
        complain: Callable[[str], None],
        every_s: float = EVERY_S,
        keep_octets: int | None = None,
        keep_s: float | None = None,
    ) -> None:
        self.folder = folder
        self.written = 0
        """Connections in parts."""
        self._steady_ns = steady_ns
        self._complain = complain
        self._every_ns = round(every_s * 1e9)
        self._keep_octets = keep_octets
        self._keep_s = keep_s
        self._next_ns = steady_ns() + self._every_ns
        self._done: Array = numpy.zeros(0, bool)  # of the tracker's streams: stands in a part as it is
        self._number = 0
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.run = 1 + max((int(found[1]) for name in _names(folder) if (found := RUN.fullmatch(name))), default=0)
            for table in KEPT:
                self._place(table).mkdir(parents=True)
            self._findings = (folder / "findings.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise OptionError(f"cannot write into {folder}: {error.strerror or error}") from error

    def _place(self, table: str) -> Path:
        return self.folder / table / f"run={self.run:04}"

    # --- as a watcher -------------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Write at the next tick, whenever the last writing was."""
        self._next_ns = 0

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        """Write what is new of findings, and tables when it is time."""
        self._tell(live, changes)
        if self._steady_ns() >= self._next_ns:
            self.write(live)

    def forget(self, live: Live, keep: Array) -> None:
        """Write what will be forgotten: what is over, and what was given up as it stands."""
        self._settle(live, ~keep)

    def forgot(self, kept: Array) -> None:
        """Take over the numbers that the tracker counts in now."""
        known = kept[kept < len(self._done)]
        self._done = self._done[known]

    def end(self, live: Live, changes: Sequence[Change]) -> None:
        """Write everything as it ended."""
        self._tell(live, changes)
        self.write(live)
        self._findings.close()

    # --- writing ------------------------------------------------------------------------------------------

    def _tell(self, live: Live, changes: Sequence[Change]) -> None:
        if not changes:
            return
        lines = [
            json.dumps({"run": self.run, "change": change.kind, "seen": live.end_ns, **change.row})
            for change in changes
        ]
        try:
            self._findings.write("\n".join(lines) + "\n")
            self._findings.flush()
        except OSError as error:
            self._say(f"findings cannot be written: {error.strerror or error}")

    def write(self, live: Live) -> None:
        """Write connections that are over as the next part, and the others as they are now."""
        begin = self._steady_ns()
        self._settle(live)
        cost = self._steady_ns() - begin
        self._next_ns = begin + max(self._every_ns, round(cost / SHARE))

    def _settle(self, live: Live, also: Array | None = None) -> None:
        """Write a part of what is over, or named (bool) beside, and what is left as open."""
        changed = live.take_changed("parts")
        observation, summary = live.view()
        done = numpy.zeros(len(changed), bool)
        done[: len(self._done)] = self._done
        done &= ~changed
        settled = summary.is_finished & (summary.last_time <= live.end_ns - round(OVER_S * 1e9)) & ~done
        if also is not None:
            settled |= also & ~done
        try:
            if settled.any():
                self._number += 1
                self._write(live, observation, settled, f"part-{self._number:06}.parquet")
                self.written += int(settled.sum())
                done |= settled
            self._write(live, observation, ~done, "open.parquet")
            self._trim()
        except OSError as error:
            self._say(f"tables cannot be written into {self.folder}: {error.strerror or error}; trying again later")
            self._done = done & ~settled
            return
        self._failed = False
        self._done = done

    def _say(self, sentence: str) -> None:
        """Complain once for a row of failures."""
        if not self._failed:
            self._complain(sentence)
        self._failed = True

    def _write(self, live: Live, observation: Any, chosen: Array, name: str) -> None:
        streams = numpy.flatnonzero(chosen)
        for table, pieces in (
            ("flows", [observation.columns("flows").take(streams)]),
            ("transitions", _histories(observation, chosen)),
            ("events", [_of_streams(observation.columns("events"), chosen)]),
        ):  # fmt: skip
            renumbered = (live.numbering.columns(piece) for piece in pieces)
            _write_parquet(self._place(table) / name, table, renumbered, self._number)

    # --- limits -------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Remove the oldest parts, of this run or earlier ones, while there is too much."""
        if self._keep_octets is None and self._keep_s is None:
            return
        parts = sorted(_parts(self.folder / "flows"))
        sizes = {part: self._size(*part) for part in parts}
        total = sum(size for size, _ in sizes.values())
        newest = max((stamp for _, stamp in sizes.values()), default=0.0)
        for part in parts[:-1]:
            size, stamp = sizes[part]
            too_large = self._keep_octets is not None and total > self._keep_octets
            too_old = self._keep_s is not None and newest - stamp > self._keep_s
            if not too_large and not too_old:
                return
            for table in KEPT:
                _part_path(self.folder / table, *part).unlink(missing_ok=True)
            total -= size

    def _size(self, run: int, part: int) -> tuple[int, float]:
        """Return octets of a part in all tables, and when it was written."""
        octets, stamp = 0, 0.0
        for table in KEPT:
            with suppress(FileNotFoundError):
                status = _part_path(self.folder / table, run, part).stat()
                octets, stamp = octets + status.st_size, max(stamp, status.st_mtime)
        return octets, stamp


def _names(folder: Path) -> list[str]:
    return [path.name for table in KEPT if (folder / table).is_dir() for path in (folder / table).iterdir()]


def _parts(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield run and number of each part of a table."""
    for path in folder.glob("run=*/part-*.parquet"):
        run, part = RUN.fullmatch(path.parent.name), PART.fullmatch(path.name)
        if run and part:
            yield int(run[1]), int(part[1])


def _part_path(folder: Path, run: int, part: int) -> Path:
    return folder / f"run={run:04}" / f"part-{part:06}.parquet"


def _histories(observation: Any, chosen: Array) -> Iterator[Columns]:
    """Yield transitions of the chosen connections, some connections at a time."""
    blocks = numpy.unique(numpy.flatnonzero(chosen) // BLOCK).tolist() or [0]
    for block in blocks:
        part = observation.history(block * BLOCK, min((block + 1) * BLOCK, len(chosen)))
        yield _of_streams(part, chosen)


def _of_streams(columns: Columns, chosen: Array) -> Columns:
    return columns.take(chosen[numpy.asarray(columns["stream"], numpy.int64)])


def _write_parquet(path: Path, table: str, pieces: Iterator[Columns], number: int) -> None:
    """Write a table, bring it to the disk, and only then give it its name; `number`: of the latest part so far."""
    part = path.with_name(f".{path.name}.part")
    try:
        sink = PARQUET.open(part, table)
        try:
            for piece in pieces:
                rows = to_arrow(table, piece)
                sink.write(rows.replace_schema_metadata({**(rows.schema.metadata or {}), LATEST: str(number)}))
        finally:
            sink.close()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(folder: str | Path, table: str, *, run: int | None = None) -> pandas.DataFrame:
    """Read a table that `observer live -o` wrote, also while it goes on writing.

    Parameters
    ----------
    folder
        As given to -o.
    table
        flows, transitions or events.
    run
        Only this run; default: all, told apart by the column `run`.

    Returns
    -------
    DataFrame: the table's columns and `run`; each connection once, as it was written last.

    Raises
    ------
    CaptureError
        There is no such table.
    """
    import pandas
    import pyarrow.parquet

    if table not in KEPT:
        raise OptionError(f"live tables are {', '.join(KEPT)}; there is no {table!r}")
    place = Path(folder) / table
    frames = []
    for path in sorted(place.glob("run=*/*.parquet")):
        number = RUN.fullmatch(path.parent.name)
        if number is None or path.name.startswith(".") or (run is not None and int(number[1]) != run):
            continue
        read = pyarrow.parquet.read_table(path, partitioning=None)
        # open.parquet is newer than the part that was the latest then, and older than all parts after it
        order = 2 * int((read.schema.metadata or {}).get(LATEST, 0)) + (PART.fullmatch(path.name) is None)
        # integers with nulls as objects: as floats they would lose digits
        frames.append(read.to_pandas(integer_object_nulls=True).assign(run=int(number[1]), _order=order))
    if not frames:
        raise CaptureError(f"{place}: no parts of a live observation are here")
    whole = pandas.concat(frames, ignore_index=True)
    latest = whole.groupby(["run", "stream"])["_order"].transform("max")
    whole = whole[whole["_order"] == latest].drop(columns="_order")
    whole = whole.astype({column.name: column.dtype for column in TABLES[table].columns if column.kind != "frames"})
    by = ["run", "stream"] if table == "flows" else ["run", "frame"]
    ordered: pandas.DataFrame = whole.sort_values(by, kind="stable").reset_index(drop=True)
    return ordered
