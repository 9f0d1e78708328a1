"""A capture with its findings as packet comments, for Wireshark: every evidence frame says what it is evidence of.

A pcapng file is copied block by block; a pcap file becomes pcapng with the same frames, times and link types.  The new
file appears under its name only when it is whole.

Never here: reading captures (chunks and octets are handed in), or what is evidence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import numpy

from observer.errors import OptionError
from observer.outputs.pcapng_blocks import Copier, Fill, Mark, interface, packet, section
from observer.outputs.text import clean
from observer.schema import GRADES, Columns
from observer.segments import (
    RECORD_CAPTURED,
    RECORD_FRAME,
    RECORD_LINK,
    RECORD_OFFSET,
    RECORD_STRIDE,
    RECORD_TIME,
    RECORD_WIRE,
)

COMMENTS: Final = 4
"""Comments of a frame: further findings are counted in one more."""


class Chunk(Protocol):
    """Frames as the capture's reader gives them, see `capture.chunk.Chunk`."""

    octets: Any
    records: Any
    count: int
    base: int


class Input(NamedTuple):
    """A capture that is read a second time.

    chunks
        Its frames.
    info
        What is known of the file: `format`, `interfaces`.
    head, fill
        Its octets, decompressed: the first ones, and what reads on behind them.
    """

    chunks: Iterable[Chunk]
    info: Any
    head: bytes
    fill: Fill


class Annotated(NamedTuple):
    """What was written."""

    commented: int
    """Frames with comments of ours."""
    uncommented: int
    """Evidence frames whose blocks cannot have comments (simple packet blocks)."""


class Comments:
    """Comments by frame; texts are made when they are asked for."""

    def __init__(self, findings: Columns) -> None:
        names = findings["code"]
        self._names = [names.values[code] for code in numpy.asarray(names.codes).tolist()]
        self._grades = numpy.asarray(findings["grade"]).tolist()
        self._summaries: Sequence[str] = findings["summary"]
        self._rows: dict[int, list[int]] = {}
        for row, frames in enumerate(findings["frames"]):
            for frame in frames:
                self._rows.setdefault(frame, []).append(row)
        self.frames = numpy.array(sorted(self._rows), numpy.int64)

    def of(self, frame: int) -> list[str]:
        """Return the comments of a frame, the worst finding's first."""
        rows = self._rows.get(frame, [])
        texts = [self._text(row) for row in rows[:COMMENTS]]
        return texts + [f"and {len(rows) - COMMENTS} more findings"] * (len(rows) > COMMENTS)

    def _text(self, row: int) -> str:
        return clean(f"{self._names[row]} ({GRADES[self._grades[row]]}): {self._summaries[row]}")


def annotate(given: Input, comments: Comments, path: Path, *, application: str) -> Annotated:
    """Write a capture with comments.

    Parameters
    ----------
    given
        The capture.
    comments
        What to say at which frame.
    path
        The new file; replaced if it is there, at the moment when the new one is whole.
    application
        Who wrote it, for the header of a converted file.

    Raises
    ------
    OptionError
        If the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as out:
            if given.info.format == "pcapng":
                copier = Copier(given.fill, given.head, out, _marks(given.chunks, comments))
                copier.copy()
                done = Annotated(copier.commented, copier.uncommented)
            else:
                done = _convert(given, comments, out, application)
        part.replace(path)
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return done


def _table(chunk: Chunk) -> Any:
    return chunk.records[: chunk.count * RECORD_STRIDE].reshape(-1, RECORD_STRIDE)


def _chosen(frames: Any, comments: Comments) -> Any:
    """Return which of these frames (ascending) have comments, as positions."""
    low, high = numpy.searchsorted(comments.frames, (int(frames[0]), int(frames[-1]) + 1))
    return numpy.searchsorted(frames, comments.frames[low:high])


def _marks(chunks: Iterable[Chunk], comments: Comments) -> Iterator[Mark]:
    """Tell where in the file evidence frames stand, reading on only as far as it is asked."""
    last = int(comments.frames[-1]) if len(comments.frames) else 0
    for chunk in chunks if last else ():
        rows = _table(chunk)
        for at in _chosen(rows[:, RECORD_FRAME], comments).tolist():
            yield Mark(chunk.base + int(rows[at, RECORD_OFFSET]), comments.of(int(rows[at, RECORD_FRAME])))
        if int(rows[-1, RECORD_FRAME]) >= last:
            return


def _convert(given: Input, comments: Comments, out: BinaryIO, application: str) -> Annotated:
    """Write a pcap file's frames as pcapng; a further pcap file behind it is a further interface."""
    out.write(section(application))
    numbers: dict[tuple[int, int], int] = {}
    commented = 0
    for chunk in given.chunks:
        rows = _table(chunk)
        told = {int(rows[at, RECORD_FRAME]) for at in _chosen(rows[:, RECORD_FRAME], comments).tolist()}
        commented += len(told)
        source = given.info.interfaces[-1]
        fine = source.resolution == "1e-9" or bool((rows[:, RECORD_TIME] % 1000).any())
        link, resolution = int(rows[0, RECORD_LINK]), 9 if fine else 6
        if (link, resolution) not in numbers:
            numbers[link, resolution] = len(numbers)
            out.write(interface(link, source.snaplen, resolution, source.fcs_octets))
        texts = {frame: comments.of(frame) for frame in told}
        _write_frames(chunk, numbers[link, resolution], 10 ** (9 - resolution), texts, out)
    if not numbers:  # no frames: the link type is all that there is to say
        for source in given.info.interfaces[:1]:
            out.write(interface(source.link_type, source.snaplen, 6, source.fcs_octets))
    return Annotated(commented, 0)


def _write_frames(chunk: Chunk, number: int, unit_ns: int, texts: Mapping[int, Sequence[str]], out: BinaryIO) -> None:
    octets = memoryview(chunk.octets)
    columns = (RECORD_FRAME, RECORD_TIME, RECORD_OFFSET, RECORD_CAPTURED, RECORD_WIRE)
    pieces = []
    for frame, time_ns, offset, captured, wire in _table(chunk)[:, columns].tolist():
        data = bytes(octets[offset : offset + captured])
        pieces.append(packet(number, time_ns // unit_ns, data, wire, texts.get(frame, ())))
    out.write(b"".join(pieces))
