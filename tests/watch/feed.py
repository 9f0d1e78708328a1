"""A feed that hands a file's frames over a few at a time, as an interface would, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from observer import kernels
from observer.capture import Chunk, open_capture
from observer.segments import RECORD_STRIDE


class FileFeed:
    """Frames of a file, `step` at a time."""

    def __init__(self, path: Path | list[Path], step: int) -> None:
        self._capture = open_capture(path, engine=kernels.Interpreted())
        self.files = self._capture.files
        self.damages = self._capture.damages
        self.frames = 0
        self.finished = False
        self._parts = self._split(step)

    def _split(self, step: int) -> Iterator[Chunk]:
        for chunk in self._capture:
            records = numpy.asarray(chunk.records).copy()
            octets = numpy.asarray(chunk.octets).copy()
            for first in range(0, chunk.count, step):
                count = min(step, chunk.count - first)
                yield replace(chunk, octets=octets, records=records[first * RECORD_STRIDE :], count=count)

    def poll(self, timeout_s: float) -> Chunk | None:
        part = next(self._parts, None)
        if part is None:
            self.finished = True
            return None
        self.frames += part.count
        return part

    def statistics(self) -> list[Any]:
        return []

    def notices(self) -> list[Any]:
        return []

    def relieved(self) -> nullcontext[None]:
        return nullcontext()

    def use(self, engine: kernels.Engine) -> None:
        self._capture.use(engine)

    def close(self) -> None:
        self._capture.close()
