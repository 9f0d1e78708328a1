"""How far reading has come: a bar with rate and remaining time, on a terminal or in a notebook, for what takes longer
than a second.

Never here: the reading itself; it calls the object a few times per second.  This is the only output that looks at the
clock.
"""

from __future__ import annotations

import sys
import time
import typing
from importlib import import_module
from types import TracebackType
from typing import Any, Final, TextIO

from observer.outputs.text import octets

if typing.TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_S: Final = 1.0
"""What is done within this time needs no bar."""


class ProgressBar:
    """A callable (octets read, octets in all or None, frames) that draws on standard error.

    Without a terminal, or for short work, nothing is drawn.  A context manager: at its end the bar is removed.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._begun = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, octets_read: int, octets_total: int | None, frames: int) -> None:
        """Tell how far reading is."""
        spent = time.monotonic() - self._begun
        if self._bar is None and (spent < PATIENCE_S or not self._file.isatty()):
            return
        if self._bar is None:
            self._start(octets_total)
        bar, task = self._bar, self._task
        if bar is not None and task is not None:
            words = f"{frames / max(spent, 1e-9):,.0f} frames/s"
            bar.update(task, completed=octets_read, total=octets_total, frames=f"{frames:,} frames", rate=words)

    def _start(self, octets_total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(bar_width=20),
            DownloadColumn(),
            TextColumn("{task.fields[frames]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=self._file),
            transient=True,
        )
        self._task = self._bar.add_task("", total=octets_total, frames="", rate="")
        self._bar.start()


class NotebookBar:
    """The same callable for notebooks: one output that is updated, and emptied at the end."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown: Any = None

    def __enter__(self) -> NotebookBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.update({"text/plain": "", "text/html": ""}, raw=True)

    def __call__(self, octets_read: int, octets_total: int | None, frames: int) -> None:
        """Tell how far reading is."""
        spent = time.monotonic() - self._begun
        if self._shown is None and spent < PATIENCE_S:
            return
        words = f"{octets(octets_read)}" + (f" of {octets(octets_total)}" if octets_total else "")
        words += f", {frames:,} frames, {frames / max(spent, 1e-9):,.0f} frames/s"
        share = f' value="{octets_read}" max="{octets_total}"' if octets_total else ""
        bundle = {"text/plain": words, "text/html": f"<progress{share}></progress> {words}"}
        if self._shown is None:
            display: Any = import_module("IPython.display")
            self._shown = display.display(bundle, raw=True, display_id=True)
        else:
            self._shown.update(bundle, raw=True)


def bar() -> ProgressBar | NotebookBar:
    """Return the bar that can be seen here: in a notebook's cell, or on standard error."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return NotebookBar() if hasattr(shell, "kernel") else ProgressBar()
