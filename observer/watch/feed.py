"""What a live observation asks of whatever hands it frames.

Never here: a feed.  There are `capture.live.open_live` and `capture.live_pipe.open_growing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from observer.kernels import Engine

if TYPE_CHECKING:
    from observer.capture import Chunk, FileInfo


class Feed(Protocol):
    """Where chunks come from: `capture.live.open_live`, `capture.live_pipe.open_growing`."""

    files: list[FileInfo]
    damages: list[Any]

    @property
    def finished(self) -> bool:
        """Whether no more will come."""

    @property
    def frames(self) -> int:
        """Frames handed over so far."""

    def poll(self, timeout_s: float) -> Chunk | None:
        """Return what has come, waiting for it up to this long; the chunk is valid until the next call."""

    def statistics(self) -> Sequence[Any]:
        """Return counts of each interface, and write them into `files`."""

    def notices(self) -> Sequence[Any]:
        """Return what happened to the interfaces since the last call."""

    def relieved(self) -> AbstractContextManager[None]:
        """Let work in the block take long without losing frames; no poll in it."""

    def use(self, engine: Engine) -> None:
        """Run kernels another way."""

    def close(self) -> None:
        """Release what is open."""
