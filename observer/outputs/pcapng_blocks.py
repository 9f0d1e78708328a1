"""Blocks of pcapng: made anew, or copied from another file with comments added to some packets.

Copying keeps every octet of every block, except that a section's length is set to "not told" (it would change) and
that packets get options.  Nothing but the block at hand is in memory.

Never here: which packets get which comments.  Source: draft-ietf-opsawg-pcapng-02, sections in parentheses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

SECTION: Final = 0x0A0D0D0A  # (4.1) the same in either byte order
INTERFACE: Final = 1  # (4.2)
PACKET: Final = 2  # (A) obsolete; laid out like the enhanced one as far as matters here
SIMPLE: Final = 3  # (4.4) has no options
ENHANCED: Final = 6  # (4.3)
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
LENGTH_NOT_TOLD: Final = b"\xff" * 8  # (4.1)
PACKET_HEADER: Final = 28  # (4.3) octets before the packet's data; how many those are stands at 20
OPT_END: Final = 0  # (3.5)
OPT_COMMENT: Final = 1
SHB_USERAPPL: Final = 4
IF_TSRESOL: Final = 9
IF_FCSLEN: Final = 13
COMMENT_OCTETS: Final = 1000
"""A comment is to be read in a line or two; the format would take 65,535."""
BLOCK_OCTETS: Final = 1 << 20
"""Blocks above this are copied in pieces, and never looked into; evidence frames are looked into whatever they are."""
PIECE_OCTETS: Final = 1 << 18

Fill = Callable[[memoryview], int]
"""Fills some of a memoryview; 0 at the end."""


class Mark(NamedTuple):
    """A packet that gets comments."""

    offset: int
    """Of its first octet in the file that is copied."""
    comments: Sequence[str]


# --- made anew ----------------------------------------------------------------------------------------------
def padded(octets: bytes) -> bytes:
    """Fill up to a multiple of four octets (3.1)."""
    return octets + bytes(-len(octets) % 4)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """Make an option (3.5)."""
    return struct.pack(order + "HH", code, len(value)) + padded(value)


def comments_as_options(comments: Sequence[str], order: str = "<") -> bytes:
    """Make an opt_comment of each text (3.5), cut at a whole character if it is too long."""
    cut = (text.encode("utf-8", "backslashreplace")[:COMMENT_OCTETS].decode("utf-8", "ignore") for text in comments)
    return b"".join(option(OPT_COMMENT, text.encode(), order) for text in cut)


def block(kind: int, body: bytes) -> bytes:
    """Make a block, little-endian (3.1)."""
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


def section(application: str) -> bytes:
    """Make a section header (4.1)."""
    head = struct.pack("<IHH", BYTE_ORDER_MAGIC, 1, 0) + LENGTH_NOT_TOLD
    return block(SECTION, head + option(SHB_USERAPPL, application.encode()) + option(OPT_END, b""))


def interface(link_type: int, snaplen: int, resolution: int, fcs_octets: int) -> bytes:
    """Make an interface description (4.2); resolution: n of 10^-n seconds."""
    options = option(IF_TSRESOL, bytes([resolution]))
    if fcs_octets:
        options += option(IF_FCSLEN, bytes([fcs_octets]))
    return block(INTERFACE, struct.pack("<HHI", link_type, 0, snaplen) + options + option(OPT_END, b""))


def packet(number: int, ticks: int, data: bytes, wire: int, comments: Sequence[str] = ()) -> bytes:
    """Make an enhanced packet (4.3) of an interface; ticks since 1970 in the interface's resolution."""
    options = comments_as_options(comments) + option(OPT_END, b"") if comments else b""
    head = struct.pack("<IIIII", number, ticks >> 32 & 0xFFFFFFFF, ticks & 0xFFFFFFFF, len(data), wire)
    return block(ENHANCED, head + padded(data) + options)


# --- copied -------------------------------------------------------------------------------------------------
class Copier:
    """Copies a pcapng file up to its first block that cannot be.

    Attributes
    ----------
    commented
        Packets that got their comments.
    uncommented
        Packets that could not: simple packet blocks have no options.
    """

    def __init__(self, fill: Fill, head: bytes, out: BinaryIO, marks: Iterator[Mark]) -> None:
        self.commented = 0
        self.uncommented = 0
        self._fill = fill
        self._out = out
        self._marks = marks
        self._mark = next(marks, None)
        self._buffer = bytearray(head)
        self._base = 0  # offset in the file of the buffer's first octet
        self._order = "<"

    def copy(self) -> None:
        """Copy everything."""
        while self._need(12):
            self._copy_run()
            if not self._need(12):
                return
            total = self._length()
            if total < 12 or total & 3:
                return
            if total > BLOCK_OCTETS and not self._is_marked(total):
                if not self._copy_in_pieces(total):
                    return
                continue
            if not self._need(total) or self._integer(total - 4) != total:
                return
            self._out.write(self._rewritten(total))
            self._drop(total)

    def _copy_run(self) -> None:
        """Copy whole blocks in the buffer that need no closer look, at once."""
        size = len(self._buffer)
        limit = size if self._mark is None else min(size, self._mark.offset - self._base)
        head, tail = struct.Struct(self._order + "II").unpack_from, struct.Struct(self._order + "I").unpack_from
        at = 0
        while at + 12 <= limit:
            kind, total = head(self._buffer, at)
            stop = at + total
            if kind == SECTION or total < 12 or total & 3 or stop > limit or tail(self._buffer, stop - 4)[0] != total:
                break
            at = stop
        if at:
            self._out.write(memoryview(self._buffer)[:at].tobytes())
            self._drop(at)

    def _need(self, size: int) -> bool:
        """Whether so many octets are in the buffer, after reading if need be."""
        while len(self._buffer) < size:
            piece = bytearray(max(PIECE_OCTETS, size - len(self._buffer)))
            with memoryview(piece) as view:
                got = self._fill(view)
            if not got:
                return False
            self._buffer += piece[:got]
        return True

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._base += size

    def _integer(self, at: int) -> int:
        value: int = struct.unpack_from(self._order + "I", self._buffer, at)[0]
        return value

    def _length(self) -> int:
        """Return the length of the block at hand; a section header says in which byte order."""
        if struct.unpack_from("<I", self._buffer)[0] == SECTION:
            self._order = "<" if struct.unpack_from("<I", self._buffer, 8)[0] == BYTE_ORDER_MAGIC else ">"
        return self._integer(4)

    def _is_marked(self, total: int) -> bool:
        return self._mark is not None and self._mark.offset < self._base + total

    def _copy_in_pieces(self, total: int) -> bool:
        """Copy a long block; if its end is missing, take back what was written of it."""
        begin, left = self._out.tell(), total
        while left:
            if not self._need(1):
                self._out.seek(begin)
                self._out.truncate()
                return False
            size = min(left, len(self._buffer))
            self._out.write(memoryview(self._buffer)[:size].tobytes())
            self._drop(size)
            left -= size
        return True

    def _rewritten(self, total: int) -> bytes:
        octets = bytes(memoryview(self._buffer)[:total])
        kind = self._integer(0)
        if kind == SECTION and total >= 28:
            return octets[:16] + LENGTH_NOT_TOLD + octets[24:]
        if not self._is_marked(total):
            return octets
        comments: list[str] = []
        while self._mark is not None and self._is_marked(total):
            comments += self._mark.comments
            self._mark = next(self._marks, None)
        if kind not in (ENHANCED, PACKET):
            self.uncommented += 1
            return octets
        self.commented += 1
        at = PACKET_HEADER + (self._integer(20) + 3 & ~3)
        rest = octets[at:-4]
        options = comments_as_options(comments, self._order) + (rest or option(OPT_END, b"", self._order))
        size = struct.pack(self._order + "I", at + len(options) + 4)
        return octets[:4] + size + octets[8:at] + options + size
