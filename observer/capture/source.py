"""Octets of one capture, wherever they come from: file, pipe, standard input, open file, compressed or not.

Every read returns as soon as anything is there, so that a pipe is followed as it grows.  Nothing of isal or
zstandard is imported before a compressed capture is met.  Never here: what the octets mean.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from observer.capture.inflate import Gzip, Inflated, StreamDamageError, Zstd
from observer.capture.signatures import HEAD_OCTETS, compression_of
from observer.errors import CaptureError

PIPE_OCTETS: Final = 65536
"""What a pipe holds on Linux (pipe(7))."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One capture that was asked for: a path, standard input, an open binary file or octets."""

    name: str
    """For people; octets of a path that are no UTF-8 stand as ``\\xNN``."""
    path: Path | None = None
    file: Any = None
    """A binary file, if path is None."""

    def is_regular(self) -> bool:
        """Whether it is a file on disk: read without waiting, and again if need be."""
        return self.path is not None and self.path.is_file()


def displayed(path: str | os.PathLike[str]) -> str:
    """A path as valid text.

    Examples
    --------
    >>> displayed("a\\udcff.pcap")
    'a\\\\xff.pcap'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_path(path: Path) -> None:
    """Raise CaptureError if a path cannot be a capture, before anything is opened."""
    name = displayed(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CaptureError(f"{name}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise CaptureError(f"{name}: cannot be opened ({_reason(error)})") from None
    if stat.S_ISDIR(mode):
        raise CaptureError(f"{name}: is a directory; name the captures in it, for example {name.rstrip('/')}/*.pcap")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise CaptureError(f"{name}: is a socket or a disk; name a capture file or a pipe")
    if stat.S_ISREG(mode) and not os.access(path, os.R_OK):
        raise CaptureError(f"{name}: may not be read by this user; change its permissions or use sudo")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


class RawFile:
    """A binary file read in pieces; counts the octets."""

    def __init__(self, spec: Spec) -> None:
        self.name = spec.name
        self.octets_read = 0
        self._path = spec.path
        self._begin: int | None = None
        try:
            if spec.path is not None:
                self._file: Any = spec.path.open("rb", buffering=0)
            else:
                self._file = spec.file
        except OSError as error:
            remedy = "merge some of the files first" if error.errno == 24 else "check the file and its permissions"
            raise CaptureError(f"{self.name}: cannot be opened ({_reason(error)}); {remedy}") from None
        if spec.path is None:
            self._begin = _position(self._file)
        # Of a buffered pipe, readinto waits until the view is full, and readinto1 waits even if something is
        # buffered; only read1 does not.
        self._into = getattr(self._file, "readinto", None)
        self._read = getattr(self._file, "read1", None) if spec.path is None and self._begin is None else None

    def octets_total(self) -> int | None:
        """Size of the file, None if it is no regular one."""
        try:
            if isinstance(self._file, io.BytesIO):
                return len(self._file.getbuffer()) - (self._begin or 0)
            status = os.fstat(self._file.fileno())
            return status.st_size - (self._begin or 0) if stat.S_ISREG(status.st_mode) else None
        except (OSError, AttributeError, ValueError, io.UnsupportedOperation):
            return None

    def readinto(self, view: memoryview, /) -> int:
        """Fill some of the view; 0 at the end.  Raises StreamDamageError if reading fails."""
        while True:
            try:
                if self._read or not self._into:
                    piece = (self._read or self._file.read)(min(len(view), PIPE_OCTETS))
                    size = None if piece is None else len(piece)
                    view[: size or 0] = piece or b""
                else:
                    size = self._into(view)
            except (OSError, ValueError) as error:
                raise StreamDamageError(f"reading failed ({_reason(error)})") from None
            except TypeError as error:
                raise CaptureError(f"{self.name}: is not open for reading octets; open it in mode 'rb'") from error
            if size is not None:
                self.octets_read += size
                return int(size)
            self._wait()

    def _wait(self) -> None:
        """A file in non-blocking mode has nothing yet."""
        import select

        select.select([self._file], [], [])

    def read(self, size: int, /) -> bytes:
        """Some octets as soon as there are any; none at the end."""
        octets = bytearray(size)
        with memoryview(octets) as view:
            length = self.readinto(view)
        return bytes(octets[:length])

    def again(self) -> RawFile | None:
        """The same octets from the beginning, without counting; None if that cannot be."""
        if self._path is not None:
            return RawFile(Spec(self.name, path=self._path)) if self._path.is_file() else None
        if self._begin is None:
            return None
        try:
            self._file.seek(self._begin)
        except (OSError, ValueError):
            return None
        return RawFile(Spec(self.name, file=_Borrowed(self._file)))

    def close(self) -> None:
        """Close what was opened here; a file of the caller's stays open."""
        if self._path is not None:
            self._file.close()


class _Borrowed:
    """A file of the caller's that is read a second time."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def _position(file: Any) -> int | None:
    try:
        return int(file.tell()) if file.seekable() else None
    except (OSError, AttributeError, ValueError):
        return None


class _Prefixed:
    """A RawFile whose first octets were read already."""

    def __init__(self, head: bytes, raw: RawFile) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._raw.read(size)

    def again(self) -> RawFile | None:
        return self._raw.again()

    def close(self) -> None:
        self._raw.close()


class Source:
    """The octets of a capture, decompressed.

    Attributes
    ----------
    head
        The first octets, at most HEAD_OCTETS; `readinto` goes on behind them.
    compression
        ``gzip``, ``zstd`` or nothing.
    readinto
        Fills some of a memoryview as soon as anything is there; 0 at the end; raises StreamDamageError.
    """

    def __init__(self, spec: Spec) -> None:
        self.name = spec.name
        self._raw = RawFile(spec)
        self._damage: StreamDamageError | None = None
        self.readinto = self._raw.readinto
        head = self._first(4)
        self.compression = compression_of(head)
        if self.compression:
            prefixed = _Prefixed(head, self._raw)
            inflated: Inflated = Gzip(prefixed) if self.compression == "gzip" else Zstd(prefixed)
            self.readinto = inflated.readinto
            if self._raw.octets_total() is not None:
                self._inflated = inflated.readinto
                self.readinto = self._many
            head = b""
        self.head = head + self._first(HEAD_OCTETS - len(head))
        if self._met_damage():
            self.readinto = self._raise

    def _met_damage(self) -> bool:
        return self._damage is not None

    def _first(self, size: int) -> bytes:
        """So many octets, less at the end or before a damage, which is raised by the next read."""
        octets = bytearray(size)
        length = 0
        with memoryview(octets) as view:
            try:
                while length < size and (got := self.readinto(view[length:])):
                    length += got
            except StreamDamageError as damage:
                self._damage = damage
        return bytes(octets[:length])

    def _many(self, view: memoryview, /) -> int:
        """Several blocks of a compressed file at once; a pipe gives each as it comes."""
        length = 0
        while length <= len(view) // 2:
            try:
                got = self._inflated(view[length:])
            except StreamDamageError as damage:
                if not length:
                    raise
                self._damage, self.readinto = damage, self._raise
                break
            if not got:
                break
            length += got
        return length

    def _raise(self, _: memoryview, /) -> int:
        raise self._damage or StreamDamageError("reading failed")

    @property
    def octets_read(self) -> int:
        """Octets taken from the file, compressed if it is."""
        return self._raw.octets_read

    def octets_total(self) -> int | None:
        """Octets of the file, compressed if it is; None if not known."""
        return self._raw.octets_total()

    def close(self) -> None:
        """Close the file if it was opened here."""
        self._raw.close()


def standard_input() -> Any:
    """Standard input as a binary file."""
    file = getattr(sys.stdin, "buffer", sys.stdin)
    if file is None or getattr(file, "closed", False):
        raise CaptureError("standard input is closed; pipe a capture into it or name a file")
    try:
        if file.isatty():
            raise CaptureError(
                "standard input is a terminal; pipe a capture into it: tcpdump -U -w - | observer read -"
            )
    except AttributeError:
        pass
    return file
