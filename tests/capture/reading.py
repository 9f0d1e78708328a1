"""Reads a capture into a list of what was delivered, checking every promise of Chunk on the way."""

from __future__ import annotations

from typing import Any, NamedTuple

from observer.capture import Capture, Damage, FileInfo, open_capture
from observer.segments import RECORD_STRIDE


class Got(NamedTuple):
    octets: bytes
    time_ns: int
    wire: int
    link: int


class Result(NamedTuple):
    frames: list[Got]
    damages: list[Damage]
    files: list[FileInfo]
    capture: Capture


def drain(capture: Capture) -> list[Got]:
    """All further frames; asserts that records lie inside their chunk and are numbered in order."""
    found: list[Got] = []
    number = capture.frames
    for chunk in capture:
        assert 0 < chunk.count <= len(chunk.records) // RECORD_STRIDE
        assert 0 <= chunk.size <= len(chunk.octets)
        for row in range(chunk.count):
            offset, captured, wire, time_ns, link, frame = (
                int(cell) for cell in chunk.records[row * RECORD_STRIDE : (row + 1) * RECORD_STRIDE]
            )
            number += 1
            assert frame == number
            assert 0 <= captured <= wire
            assert 0 <= offset <= offset + captured <= chunk.size
            assert 0 <= time_ns < 1 << 62
            assert 0 <= link < 1 << 16
            found.append(Got(chunk.octets[offset : offset + captured].tobytes(), time_ns, wire, link))
        assert capture.frames == number
    return found


def read(sources: Any, **settings: Any) -> Result:
    with open_capture(sources, **settings) as capture:
        found = drain(capture)
        return Result(found, capture.damages, capture.files, capture)


def expected(some: list[Any], link: int = 1) -> list[Got]:
    """What frames of `build` should come out as."""
    return [Got(one[1], one[0], (one[2] if len(one) > 2 and one[2] is not None else len(one[1])), link) for one in some]
