"""Whoever is told what a live observation sees: files, terminal, metrics.

Never here: one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from observer.capture import Chunk
    from observer.watch.announce import Change
    from observer.watch.loop import Live


class Watcher:
    """Does nothing with anything: to be inherited from.  All are called from the loop's thread, one after another."""

    def take(self, chunk: Chunk) -> None:
        """Frames came; they are valid until this returns."""

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        """Timers and findings were looked at."""

    def forget(self, live: Live, keep: Any) -> None:
        """There are too many connections: the tables still hold all, and will hold only these (bool) of them."""

    def forgot(self, kept: Any) -> None:
        """The tracker now holds only these of its connections: int64, their numbers before, ascending."""

    def end(self, live: Live, changes: Sequence[Change]) -> None:
        """It is over: these were the last changes."""
