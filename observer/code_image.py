"""Machine code as a file that the system maps into memory: no linker, and no llvmlite once it is made.

`link` lays an object file's sections out one behind the other and resolves what they say of each other, which by the
translator's choice of code (position-independent, everything within 2 GiB) is nothing but distances.  `load` maps the
result and gives the entries' addresses.  Importing llvmlite and letting it link took 45 of the 170 ms in which a run
starts.

Only for ELF objects of x86-64 that need nothing from outside; for anything else `link` gives None, and
kernels.py lets llvmlite load the object.
Sources: System V ABI (gABI) chapters 4 and 5, object files; AMD64 supplement, table 4.10 (relocations).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

MAGIC: Final = b"observer code image 1\n"
PAGE: Final = 4096  # of x86-64: where the code begins, behind the index of entries
ELF_X86_64: Final = b"\x7fELF\x02\x01\x01"  # gABI: class 64 bit, little-endian, version 1
MACHINE_X86_64: Final = 62
SECTION_SYMBOLS: Final = 2  # SHT_SYMTAB
SECTION_RELOCATIONS: Final = 4  # SHT_RELA
SECTION_EMPTY: Final = 8  # SHT_NOBITS
WRITE: Final = 1  # SHF_WRITE
ALLOCATE: Final = 2  # SHF_ALLOC
DISTANCES: Final = (2, 4)  # R_X86_64_PC32, R_X86_64_PLT32: symbol + addend - place, in 32 bits


class Section(NamedTuple):
    """A section header (gABI 4)."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class UnlinkableError(Exception):
    """The object needs more than is done here."""


def link(code: bytes, entries: Iterable[str]) -> bytes | None:
    """An image of an object file, to be written to a file for `load`; None if it cannot be made.

    Parameters
    ----------
    code
        The object file.
    entries
        Names of the symbols whose addresses `load` gives.
    """
    try:
        return _linked(code, list(entries))
    except (UnlinkableError, struct.error, LookupError, ValueError, StopIteration):
        return None


def _linked(code: bytes, entries: list[str]) -> bytes:
    if code[:7] != ELF_X86_64 or struct.unpack_from("<H", code, 18)[0] != MACHINE_X86_64:
        raise UnlinkableError
    start, count = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<H", code, 60)[0]
    sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", code, start + 64 * i)) for i in range(count)]
    image, places = _laid_out(code, sections)
    table = next(section for section in sections if section.kind == SECTION_SYMBOLS)
    symbols = [_symbol(code, sections, table, i) for i in range(table.size // 24)]
    for section in sections:
        if section.kind == SECTION_RELOCATIONS and section.info in places:
            _resolve(code, section, places, symbols, image)
    known = {name: places[number] + value for name, number, value in symbols if number in places}
    index = "".join(f"{name} {known[name]}\n" for name in entries).encode()
    head = MAGIC + struct.pack("<I", len(index)) + index
    return head + bytes(-len(head) % PAGE) + image


def _laid_out(code: bytes, sections: list[Section]) -> tuple[bytearray, dict[int, int]]:
    """The sections that are wanted in memory, one behind the other, and where each begins."""
    image, places = bytearray(), {}
    for number, section in enumerate(sections):
        if not section.flags & ALLOCATE or not section.size:
            continue
        if section.flags & WRITE or section.kind == SECTION_EMPTY:
            raise UnlinkableError
        image += bytes(-len(image) % max(section.alignment, 1))
        places[number] = len(image)
        image += code[section.offset : section.offset + section.size]
    return image, places


def _symbol(code: bytes, sections: list[Section], table: Section, number: int) -> tuple[str, int, int]:
    """Name, section and value of a symbol (gABI 4, Elf64_Sym)."""
    name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", code, table.offset + 24 * number)
    begin = sections[table.link].offset + name
    return code[begin : code.index(b"\0", begin)].decode(), section, value


def _resolve(
    code: bytes, section: Section, places: dict[int, int], symbols: list[tuple[str, int, int]], image: bytearray
) -> None:
    """Write the distances that a section of relocations (gABI 4, Elf64_Rela) asks for."""
    for at in range(section.offset, section.offset + section.size, 24):
        offset, info, addend = struct.unpack_from("<QQq", code, at)
        _, target, value = symbols[info >> 32]
        if info & 0xFFFFFFFF not in DISTANCES or target not in places:
            raise UnlinkableError
        place = places[section.info] + offset
        struct.pack_into("<i", image, place, places[target] + value + addend - place)


class Image(NamedTuple):
    """Code in memory; it stays there as long as `memory` is kept."""

    addresses: dict[str, int]
    memory: Any


def load(path: Path) -> Image | None:
    """Map an image that `link` made; None if it is none, or code may not be run from this folder."""
    import numpy

    if not hasattr(mmap, "PROT_EXEC"):
        return None
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
    except (OSError, ValueError):
        return None
    if memory[: len(MAGIC)] != MAGIC:
        return None
    begin = len(MAGIC) + 4
    end = begin + struct.unpack_from("<I", memory, len(MAGIC))[0]
    octets = numpy.frombuffer(memory, numpy.uint8)
    base = int(octets.__array_interface__["data"][0]) + end + -end % PAGE
    lines = [line.split() for line in memory[begin:end].decode().splitlines()]
    return Image({name: base + int(offset) for name, offset in lines}, octets)
