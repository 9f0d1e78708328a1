"""Reads pcapng files: sections in either byte order, interfaces, the three kinds of packet blocks, statistics.

A block that is wrong in itself but whose two lengths agree is reported and passed over; where the lengths do
not agree the file cannot be read on.  Source: draft-ietf-opsawg-pcapng-02 (section numbers below).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy

from observer.capture.chunk import MAX_LISTED, Interface
from observer.capture.reader import DAMAGES_MAX, LENGTH_MAX, FileReader
from observer.capture.scan import (
    BAD_CAPTURED,
    BAD_INTERFACE,
    BAD_LENGTH,
    BAD_TRAILER,
    IF_FACTOR,
    IF_FACTOR2,
    IF_LINK,
    IF_OFFSET,
    IF_SNAPLEN,
    IF_STRIDE,
    IF_UNIT,
    INTERFACE,
    LARGE,
    LIMIT,
    LITTLE,
    NEED,
    PASSED,
    QUIET,
    SECTION,
    STATISTICS,
    TIME_MAX,
    UNIT_BINARY,
    UNIT_DIVIDE,
    UNIT_MULTIPLY,
    scan_pcapng,
)
from observer.kernels import Bound, Engine

DESCRIPTIONS_MAX: Final = 65536
"""Sections and interfaces of a file, together; a file made of them alone must not be read for hours."""
TOO_MANY: Final = f"more than {DESCRIPTIONS_MAX} sections and interfaces"
OPTIONS_MAX: Final = 1000
"""Options looked at in a block."""
TEXT_MAX: Final = 1000
"""Characters kept of any text in the file."""

# 4.1 and 4.2, table of options; 3.5 for opt_endofopt
OPT_END: Final = 0
SHB_HARDWARE: Final = 2
SHB_OS: Final = 3
SHB_USERAPPL: Final = 4
IF_NAME: Final = 2
IF_DESCRIPTION: Final = 3
IF_TSRESOL: Final = 9
IF_FCSLEN: Final = 13
IF_TSOFFSET: Final = 14
ISB_IFRECV: Final = 4
ISB_IFDROP: Final = 5
ISB_OSDROP: Final = 7

Counts = tuple[int | None, int | None, int | None]


def text(value: bytes) -> str:
    """Text of an option; octets that are no UTF-8 stand as ``\\xNN``, what follows a zero is left out."""
    return value[: 4 * TEXT_MAX].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")[:TEXT_MAX]


def unit_of(resolution: int) -> tuple[int, int, int]:
    """Kernel cells UNIT, FACTOR, FACTOR2 for an if_tsresol octet (4.2): 10^-n, or 2^-n with the top bit.

    Examples
    --------
    >>> unit_of(9) == (UNIT_MULTIPLY, 1, 1), unit_of(0x80 | 20) == (UNIT_BINARY, 20, 1)
    (True, True)
    """
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return UNIT_BINARY, exponent, 1
    if exponent <= 9:
        return UNIT_MULTIPLY, 10 ** (9 - exponent), 1
    # 2^64 units of 10^-29 s are less than 1 ns: any larger divisor gives 0 as well
    exponent = min(exponent, 29) - 9
    first = min(exponent, 9)
    return UNIT_DIVIDE, 10**first, 10 ** min(exponent - first, 11)


class PcapngReader(FileReader):
    """Reads a pcapng file; its source's head tells that it is one."""

    _room: numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]
    _order: Literal["little", "big"] = "little"

    def begin(self) -> None:
        """The kernel stops at the first section by itself."""
        self._cells[LIMIT] = LENGTH_MAX
        self._room = numpy.zeros(4 * IF_STRIDE, numpy.int64)
        self._interfaces = 0  # of the section
        self._descriptions = 0
        self._counts: dict[int, Counts] = {}

    def bound(self, engine: Engine) -> Bound:
        """See FileReader."""
        table = self._room[: self._interfaces * IF_STRIDE]
        return engine.bind(scan_pcapng, self.workspace.octets, self._state, table, self.workspace.records)

    def settle(self, status: int) -> None:
        """See FileReader."""
        total = self._integer(4, 4)
        if status == SECTION:
            self._section()
        elif status == INTERFACE:
            self._interface(total)
        elif status == STATISTICS:
            self._statistics(total)
        elif status == LARGE:
            self.consume(total)
        elif status == BAD_INTERFACE:
            self._pass_over(total, "a frame of an interface that the file does not describe is left out")
        elif status == BAD_CAPTURED:
            self._pass_over(total, "a frame that claims to be longer than its block is left out")
        else:
            what = {
                BAD_LENGTH: f"a block cannot have a length of {total}",
                BAD_TRAILER: "a block ends with another length than it begins with",
            }[status]
            self.damage(0, f"{what}: the rest of the file cannot be read")
            self.finish()

    def _integer(self, position: int, size: int) -> int:
        return int.from_bytes(self.octets(position, size), self._order)

    def _pass_over(self, total: int, message: str) -> None:
        self.damage(0, message)
        self.consume(total)
        self._cells[QUIET] = self._damaged >= DAMAGES_MAX

    def finish(self) -> None:
        """See FileReader."""
        self._damaged += self._cells[PASSED]
        self._cells[PASSED] = 0
        super().finish()

    def unfinished(self, octets: int) -> str:
        """See FileReader."""
        if self._skip:
            return "the file is cut: it ends inside a block"
        if self._base + self._start == 0:
            return f"the file is cut: it ends after {octets} octets, inside the section header"
        if octets < 12:
            return f"the file is cut: it ends after {octets} octets of a block"
        return f"the file is cut: of a block of {self._cells[NEED]} octets {octets} are there; it is left out"

    # --- section header block, 4.1 -----------------------------------------------------------------------

    def _section(self) -> None:
        magic = self.octets(8, 4)
        if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
            self.damage(0, "a section header without byte order: the rest of the file cannot be read")
            self.finish()
            return
        self._order = "little" if magic[0] == 0x4D else "big"
        total = self._integer(4, 4)
        if total < 28 or total & 3 or total > LENGTH_MAX:
            self.damage(0, f"a section header cannot have a length of {total}: the rest of the file cannot be read")
            self.finish()
            return
        if self.wait_for(total):
            return
        same = self._integer(total - 4, 4) == total
        if not same or self._too_many():
            what = TOO_MANY if same else "a section header ends with another length than it begins with"
            self.damage(0, f"{what}: the rest of the file cannot be read")
            self.finish()
            return
        major, minor = self._integer(12, 2), self._integer(14, 2)
        if major != 1:
            self.damage(12, f"pcapng version {major}.{minor} is unknown; the section was read as version 1.0")
        self._cells[LITTLE] = self._order == "little"
        for code, value in self._options(24, total):
            if code == SHB_HARDWARE:
                self.info.hardware = self.info.hardware or text(value)
            elif code == SHB_OS:
                self.info.operating_system = self.info.operating_system or text(value)
            elif code == SHB_USERAPPL:
                self.info.application = self.info.application or text(value)
        self._interfaces = 0
        self._counts = {}
        self.consume(total)
        self.use(self._engine)

    def _too_many(self) -> bool:
        self._descriptions += 1
        return self._descriptions > DESCRIPTIONS_MAX

    def _options(self, position: int, total: int) -> Iterator[tuple[int, bytes]]:
        """Options of the block at hand (3.5), as far as they are whole."""
        block = self.octets(position, total - 4 - position)
        at = 0
        for _ in range(OPTIONS_MAX):
            code, length = (int.from_bytes(block[at + i : at + i + 2], self._order) for i in (0, 2))
            if code == OPT_END:  # or no more octets
                return
            if at + 4 + length > len(block):
                self.damage(position + at, "an option is longer than its block; it is left out")
                return
            yield code, block[at + 4 : at + 4 + length]
            at += 4 + (length + 3 & ~3)

    # --- interface description block, 4.2 ----------------------------------------------------------------

    def _interface(self, total: int) -> None:
        if total < 20:
            self._pass_over(total, "an interface description is too short")
            return
        if self._too_many():
            self.damage(0, f"{TOO_MANY}: the rest of the file is not read")
            self.finish()
            return
        interface = Interface(self._integer(8, 2), snaplen=self._integer(12, 4))
        resolution = 6  # 4.2: microseconds unless told
        for code, value in self._options(16, total):
            if code == IF_NAME:
                interface.name = text(value)
            elif code == IF_DESCRIPTION:
                interface.description = text(value)
            elif code == IF_TSRESOL and len(value) == 1:
                resolution = value[0]
                exponent = resolution & 0x7F
                interface.resolution = f"2^-{exponent}" if resolution & 0x80 else f"1e-{exponent}"
            elif code == IF_TSOFFSET and len(value) == 8:
                interface.offset_s = int.from_bytes(value, self._order, signed=True)
            elif code == IF_FCSLEN and len(value) == 1:
                interface.fcs_octets = value[0]
        self._describe(interface, resolution)
        self.consume(total)
        self.use(self._engine)

    def _describe(self, interface: Interface, resolution: int) -> None:
        row = self._interfaces * IF_STRIDE
        if row == len(self._room):
            self._room = numpy.concatenate((self._room, numpy.zeros_like(self._room)))
        room = self._room
        room[row + IF_LINK] = interface.link_type
        room[row + IF_SNAPLEN] = interface.snaplen
        room[row + IF_UNIT], room[row + IF_FACTOR], room[row + IF_FACTOR2] = unit_of(resolution)
        room[row + IF_OFFSET] = min(max(interface.offset_s * 1_000_000_000, -TIME_MAX), TIME_MAX)
        self._interfaces += 1
        info = self.info
        info.saw_link_type(interface.link_type)
        info.snaplen = max(info.snaplen, interface.snaplen)
        if interface.fcs_octets:
            info.note(f"each frame ends with {interface.fcs_octets} octets of frame check sequence")
        if len(info.interfaces) < MAX_LISTED:
            info.interfaces.append(interface)

    # --- interface statistics block, 4.6 -----------------------------------------------------------------

    def _statistics(self, total: int) -> None:
        number = self._integer(8, 4)
        if total < 24 or number >= self._interfaces:
            self._pass_over(total, "statistics of an interface that the file does not describe are left out")
            return
        found: dict[int, int] = {}
        for code, value in self._options(20, total):
            if code in (ISB_IFRECV, ISB_IFDROP, ISB_OSDROP) and len(value) == 8:
                found[code] = int.from_bytes(value, self._order)
        # each block counts from the beginning of the capture: a later one takes the place of an earlier
        before = self._counts.get(number, (None, None, None))
        now: Counts = (found.get(ISB_IFRECV), found.get(ISB_IFDROP), found.get(ISB_OSDROP))
        info = self.info
        info.received = _replaced(info.received, before[0], now[0])
        info.dropped_interface = _replaced(info.dropped_interface, before[1], now[1])
        info.dropped_os = _replaced(info.dropped_os, before[2], now[2])
        self._counts[number] = (
            before[0] if now[0] is None else now[0],
            before[1] if now[1] is None else now[1],
            before[2] if now[2] is None else now[2],
        )
        self.consume(total)


def _replaced(total: int | None, before: int | None, now: int | None) -> int | None:
    """A sum over interfaces after one of them told a new count.

    Examples
    --------
    >>> _replaced(10, 4, 5), _replaced(None, None, 3), _replaced(7, 7, None)
    (11, 3, 7)
    """
    if now is None:
        return total
    return (total or 0) - (before or 0) + now
