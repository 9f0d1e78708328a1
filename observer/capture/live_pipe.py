"""A capture that comes down a pipe while it is made, with a poll that waits no longer than it may.

    ssh host tcpdump -U -w - | observer live -r -

The readers of files do the work; this only sees to it that they never wait.  When nothing is there, reading is given
up by an exception that leaves the reader as it was, and goes on at the next poll.  Never here: formats.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from observer.capture.chunk import Chunk, Damage, FileInfo
from observer.capture.live_watch import InterfaceStatistics, LiveNotice, State
from observer.capture.opening import Capture, open_capture
from observer.capture.source import PIPE_OCTETS, check_path, displayed, standard_input
from observer.errors import CaptureError
from observer.kernels import Engine


class NothingYetError(BaseException):
    """The pipe is empty; its writer still has it open.

    As Ctrl-C does, it must pass through readers that take every Exception for damage.
    """


class Growing:
    """A binary file whose reads never wait: NothingYetError instead.  Made for RawFile, which asks for read1.

    Until the capture's header is read, everything is kept, so that a reader that gave up can begin again.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.ended = False
        self._descriptor = descriptor
        self._kept: bytearray | None = bytearray()
        self._at = 0
        self._fifo = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._came = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        """What can be waited on."""
        return self._descriptor

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Never, not even where it is a file that grows."""
        return False

    def read1(self, size: int) -> bytes:
        """Some octets; none at the end; NothingYetError if there are none yet."""
        if self._kept is not None and self._at < len(self._kept):
            octets = bytes(self._kept[self._at : self._at + size])
        else:
            octets = self._read(size)
            if self._kept is not None:
                self._kept += octets
        self._at += len(octets)
        return octets

    read = read1

    def _read(self, size: int) -> bytes:
        if self.ended:
            return b""
        if not self.wait(0):
            raise NothingYetError
        try:
            octets = os.read(self._descriptor, min(size, PIPE_OCTETS))
        except BlockingIOError:
            raise NothingYetError from None
        if not octets and self._fifo and not self._came and not self._hung_up():
            raise NothingYetError  # a named pipe that nobody has opened for writing yet
        self._came = True
        self.ended = not octets
        return octets

    def _hung_up(self) -> bool:
        return any(events & select.POLLHUP for _, events in self._poll.poll(0))

    def wait(self, timeout_s: float) -> bool:
        """Whether there is something to read, the end included, after at most this time."""
        return bool(self._poll.poll(max(timeout_s, 0) * 1000))

    def begin_again(self) -> None:
        """Let the next read give the first octets once more."""
        self._at = 0

    def forget(self) -> None:
        """Keep nothing from now on."""
        if self._kept is not None and self._at >= len(self._kept):
            self._kept = None


class GrowingCapture:
    """Frames of a growing capture; made by `open_growing`.  The same attributes and methods as LiveCapture."""

    octets_total = None

    def __init__(self, growing: Growing, *, closes: bool) -> None:
        self.finished = False
        self._growing = growing
        self._closes = closes
        self._capture: Capture = open_capture(growing)
        self.damages: list[Damage] = self._capture.damages
        self.files: list[FileInfo] = self._capture.files

    @property
    def frames(self) -> int:
        """Handed over so far."""
        return self._capture.frames

    @property
    def octets_read(self) -> int:
        """Octets of the pipe that were consumed."""
        return self._capture.octets_read

    @property
    def link_types(self) -> list[int]:
        """LINKTYPE_ numbers known so far."""
        return self.files[0].link_types if self.files else []

    def poll(self, timeout_s: float) -> Chunk | None:
        """The next frames, or None if none came within the time; see LiveCapture.poll.

        Raises
        ------
        CaptureError
            What comes down the pipe is no capture.
        """
        deadline = time.monotonic() + timeout_s
        while not self.finished:
            try:
                chunk = next(self._capture, None)
            except NothingYetError:
                if not self.files:  # the header is not there yet
                    self._growing.begin_again()
            else:
                self._growing.forget()
                self.finished = chunk is None
                return chunk
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._growing.wait(left)
        return None

    @contextmanager
    def relieved(self) -> Iterator[None]:
        """See LiveCapture: here the pipe's writer waits, or drops frames and says so."""
        yield

    def descriptors(self) -> list[int]:
        """See LiveCapture."""
        return [] if self.finished else [self._growing.fileno()]

    def statistics(self) -> list[InterfaceStatistics]:
        """One entry: what the capture says about itself."""
        info = self.files[0] if self.files else FileInfo(self._growing.name)
        link_type = info.link_types[0] if info.link_types else 0
        state: State = "ended" if self.finished else "capturing"
        counts = (info.received, info.dropped_os, info.dropped_interface)
        return [InterfaceStatistics(info.name, link_type, state, self.frames, *counts, 0)]

    def notices(self) -> list[LiveNotice]:
        """Nothing happens to a pipe but its end."""
        return []

    def use(self, engine: Engine) -> None:
        """As `Capture.use`."""
        self._capture.use(engine)

    def close(self) -> None:
        """Close the pipe if it was opened here."""
        self.finished = True
        self._capture.close()
        if self._closes:
            self._closes = False
            os.close(self._growing.fileno())

    def __enter__(self) -> GrowingCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_growing(source: Any) -> GrowingCapture:
    """Follow a capture that is still being written.

    Parameters
    ----------
    source
        ``-`` for standard input, the path of a named pipe or file, or an open binary file that has a descriptor
        and of which nothing was read yet.

    Raises
    ------
    CaptureError
        It cannot be opened.  That it is no capture turns out in `poll`.
    """
    if isinstance(source, str) and source == "-":
        return GrowingCapture(Growing(standard_input().fileno(), "standard input"), closes=False)
    if isinstance(source, str | os.PathLike):
        check_path(Path(source))
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CaptureError(f"{displayed(source)}: cannot be opened ({error.strerror})") from None
        return GrowingCapture(Growing(descriptor, displayed(source)), closes=True)
    try:
        return GrowingCapture(Growing(source.fileno(), "open file"), closes=False)
    except (AttributeError, OSError, ValueError):
        raise CaptureError("what is followed must be '-', a path or an open file with a descriptor") from None
