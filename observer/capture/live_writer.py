"""Frames into a pcapng file as they come: nanoseconds, each chunk in the file before `write` returns.

What a crash leaves is a readable file: only whole blocks are written, and where the disk is full, what was begun is
taken back.  Never here: frames' meaning, deciding when to rotate.

Source: draft-ietf-opsawg-pcapng-02 (section numbers below).
"""

from __future__ import annotations

import contextlib
import os
import platform
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy

from observer.capture import live_code as code
from observer.capture.chunk import Chunk, FileInfo, Int64Array, Interface, OctetArray
from observer.errors import CaptureError
from observer.segments import RECORD_LINK, RECORD_STRIDE

SECTION_BLOCK: Final = 0x0A0D0D0A
INTERFACE_BLOCK: Final = 1
STATISTICS_BLOCK: Final = 5
BYTE_ORDER: Final = 0x1A2B3C4D

# options: 3.5 and the tables of 4.1, 4.2 and 4.6
OPT_END: Final = 0
SHB_OS: Final = 3
SHB_USERAPPL: Final = 4
IF_NAME: Final = 2
IF_TSRESOL: Final = 9
ISB_IFRECV: Final = 4
ISB_IFDROP: Final = 5
ISB_OSDROP: Final = 7
NANOSECONDS: Final = b"\x09"  # if_tsresol: 10^-9


def block(kind: int, body: bytes) -> bytes:
    """A block (3.1) in this machine's byte order; the body must be padded."""
    total = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + total + body + total


def options(*some: tuple[int, bytes]) -> bytes:
    """Options (3.5), empty ones left out."""
    packed = b"".join(
        struct.pack("=HH", number, len(value)) + value + bytes(-len(value) % 4) for number, value in some if value
    )
    return packed + struct.pack("=HH", OPT_END, 0) if packed else b""


class PcapngWriter:
    """Writes a pcapng file; `rotate` goes on in another.

    Parameters
    ----------
    path
        The file; one that is there already is written over.
    info
        Of the capture: its interfaces are described in the file, and its counts at the file's end.
    application
        Noted as what wrote the file.
    compiled
        Build blocks with machine code; else with Python, some hundred times slower.

    Raises
    ------
    CaptureError
        A file cannot be opened or written; what was written before stays whole.
    """

    def __init__(
        self, path: str | os.PathLike[str], info: FileInfo, *, application: str = "observer", compiled: bool = True
    ) -> None:
        self.frames = 0
        """Written, to all files."""
        self._info = info
        self._application = application
        self._blocks = code.blocks(compiled=compiled)
        self._out: OctetArray = numpy.empty(1 << 20, numpy.uint8)
        self._descriptor = -1
        self._open(Path(path))

    def _open(self, path: Path) -> None:
        self.path = path
        self.octets = 0
        """Of the present file."""
        self._known: list[tuple[str, int]] = []  # interfaces that the file describes: name and link type
        self._numbers: dict[tuple[int, int], int] = {}
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o640)  # frames hold what others must not read
        except OSError as error:
            raise CaptureError(f"{path}: cannot be written ({error.strerror}); name another file") from None
        system = f"{platform.system()} {platform.release()}".encode()
        said = options((SHB_OS, system), (SHB_USERAPPL, self._application.encode()))
        self._append(block(SECTION_BLOCK, struct.pack("=IHHq", BYTE_ORDER, 1, 0, -1) + said))
        for interface in self._info.interfaces:
            self._describe(interface)

    def _describe(self, interface: Interface) -> int:
        """Describe an interface (4.2); its number in the file."""
        named = options((IF_NAME, interface.name.encode()), (IF_TSRESOL, NANOSECONDS))
        head = struct.pack("=HHI", interface.link_type, 0, interface.snaplen)
        self._append(block(INTERFACE_BLOCK, head + named))
        self._known.append((interface.name, interface.link_type))
        return len(self._known) - 1

    def write(self, chunk: Chunk) -> None:
        """Append a chunk's frames; they are in the file when this returns."""
        numbers = self._interfaces_of(chunk)
        size = code.blocks_octets(chunk.records, chunk.count)
        if size > len(self._out):
            self._out = numpy.empty(2 * size, numpy.uint8)
        written = self._blocks(chunk.octets, chunk.records, numbers, chunk.count, self._out)
        self._append(self._out[:written].data)
        self.frames += chunk.count

    def _interfaces_of(self, chunk: Chunk) -> Int64Array:
        """The file's number of each frame's interface.

        A live chunk tells it; in others it is not known which interface a frame is of, only its link type.
        """
        links = chunk.records[RECORD_LINK : chunk.count * RECORD_STRIDE : RECORD_STRIDE]
        given: Int64Array | None = getattr(chunk, "interfaces", None)
        keys = links if given is None else given << 16 | links
        if (keys == keys[0]).all():
            return numpy.full(chunk.count, self._number(int(keys[0]), live=given is not None))
        distinct, places = numpy.unique(keys, return_inverse=True)
        return numpy.array([self._number(int(key), live=given is not None) for key in distinct])[places]

    def _number(self, key: int, *, live: bool) -> int:
        place, link = (key >> 16, key & 0xFFFF) if live else (-1, key)
        if (place, link) not in self._numbers:
            interface = Interface(link)
            if 0 <= place < len(self._info.interfaces):
                interface = self._info.interfaces[place]
            else:
                found = [one for one in self._info.interfaces if one.link_type == link]
                interface = found[0] if len(found) == 1 else interface
            named = (interface.name, interface.link_type)
            number = self._known.index(named) if named in self._known else self._describe(interface)
            self._numbers[place, link] = number
        return self._numbers[place, link]

    def _append(self, octets: bytes | memoryview) -> None:
        """Write everything, or nothing of it."""
        view = memoryview(octets)
        at = 0
        try:
            while at < len(view):
                at += os.write(self._descriptor, view[at:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.octets)
                os.lseek(self._descriptor, self.octets, os.SEEK_SET)
            raise CaptureError(
                f"{self.path}: cannot be written any further ({error.strerror}); what was written before is whole"
            ) from None
        self.octets += at

    def _end(self) -> None:
        """Note the interfaces' counts (4.6) and close the file."""
        info, descriptor = self._info, self._descriptor
        if descriptor < 0:
            return
        counts = ((ISB_IFRECV, info.received), (ISB_IFDROP, info.dropped_interface), (ISB_OSDROP, info.dropped_os))
        told = options(*((number, struct.pack("=Q", count)) for number, count in counts if count is not None))
        try:
            if told and len(self._known) == 1:  # the counts are those of all interfaces together
                now = time.time_ns()
                self._append(block(STATISTICS_BLOCK, struct.pack("=III", 0, now >> 32, now & 0xFFFFFFFF) + told))
        finally:
            self._descriptor = -1
            os.close(descriptor)

    def rotate(self, path: str | os.PathLike[str]) -> None:
        """Close the file and go on in another; if that cannot be opened, nothing more can be written."""
        self._end()
        self._open(Path(path))

    def close(self) -> None:
        """Close the file."""
        self._end()

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
