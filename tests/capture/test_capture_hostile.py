"""Arbitrary octets, arbitrary mutations: no exception but CaptureError, and all that stands before the damage."""

from __future__ import annotations

import gzip
from typing import Any

import build
import numpy
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reading import Result, read

from observer.capture import open_capture
from observer.errors import CaptureError
from observer.kernels import Checked, Interpreted
from observer.segments import RECORD_STRIDE

FRAMES = build.frames(12)
SECTIONS = (
    build.shb(opts=[(2, b"hardware"), (4, b"application")])
    + build.idb(opts=[(2, b"eth0")], tsresol=9, tsoffset=5)
    + build.idb(tsresol=0x94, link=101, snaplen=40)
    + build.epb(b"a" * 61, 1 << 61, opts=[(2, b"abcd")])
    + build.epb(b"b" * 50, 1 << 50, interface=1)
    + build.spb(b"c" * 47)
    + build.opb(b"d" * 33, 1 << 40, interface=1)
    + build.block(0x0BAD, b"custom")
    + build.isb(opts=[(4, 10), (5, 3)])
    + build.pcapng(FRAMES[:4], order=">")
)
VALID = [
    build.pcap(FRAMES),
    build.pcap(FRAMES, order=">", nano=True) + build.pcap(FRAMES[:3]),
    build.pcap(FRAMES, kuznetzov=True),
    build.pcap(FRAMES, version=(2, 3), swapped=True),
    SECTIONS,
    gzip.compress(SECTIONS),
    zstandard.ZstdCompressor(write_checksum=True).compress(build.pcap(FRAMES)),
]
CHECKED = Checked()


def rows(octets: bytes, **settings: Any) -> tuple[list[list[int]], list[str]]:
    """Everything that was found; None if it is no capture."""
    found: list[list[int]] = []
    base = 0
    with open_capture(octets, **settings) as capture:
        for chunk in capture:
            records = numpy.array(chunk.records[: chunk.count * RECORD_STRIDE]).reshape(-1, RECORD_STRIDE)
            for record in records.tolist():
                octets_of = chunk.octets[record[0] : record[0] + record[1]].tobytes()
                found.append([*record[1:], hash(octets_of)])
        base += 1
    return found, [str(one) for one in capture.damages]


def try_to_read(octets: bytes) -> Result | None:
    try:
        return read(octets)
    except CaptureError as error:
        assert str(error).startswith("octets in memory: is no pcap")
        return None


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """A valid capture, where its first change stands, and the changed capture."""
    valid = draw(st.sampled_from(VALID))
    octets = bytearray(valid)
    first = len(octets)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "delete", "lie", "splice"]))
        first = min(first, at)
        if kind == "flip" and at < len(octets):
            octets[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del octets[at:]
        elif kind == "insert":
            octets[at:at] = draw(st.binary(max_size=20))
        elif kind == "delete":
            del octets[at : at + draw(st.integers(1, 40))]
        elif kind == "lie":
            value = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 12, 65535, 262145]))
            at &= ~3
            first = min(first, at)
            octets[at : at + 4] = value.to_bytes(4, draw(st.sampled_from(["little", "big"])))
        else:
            other = draw(st.sampled_from(VALID))
            octets[at:] = other[draw(st.integers(0, len(other))) :]
    return valid, first, bytes(octets)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_mutations(case: tuple[bytes, int, bytes]) -> None:
    valid, first, octets = case
    result = try_to_read(octets)
    if result is None or valid[:1] not in (build.pcap([])[:1], b"\n", b"\xa1") or first < 24:
        return
    # every frame whose octets all stand before the change is there
    whole = read(valid[:first]).frames
    assert result.frames[: len(whole)] == whole


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", *(one[:28] for one in VALID)]))
@example(b"", b"")
def test_arbitrary_octets(octets: bytes, head: bytes) -> None:
    result = try_to_read(head + octets)
    assert result is None or len(result.frames) <= len(octets)


@settings(max_examples=150, deadline=None)
@given(mutated(), st.sampled_from([64, 200, 1 << 20]), st.sampled_from([1, 2, 4096]))
def test_engines_and_chunks_agree(case: tuple[bytes, int, bytes], buffer_octets: int, records_max: int) -> None:
    octets = case[2]
    try:
        interpreted = rows(octets, engine=Interpreted())
    except CaptureError:
        with pytest.raises(CaptureError):
            rows(octets, engine=CHECKED)
        return
    assert rows(octets, engine=CHECKED) == interpreted
    assert rows(octets, engine=Interpreted(), buffer_octets=buffer_octets, records_max=records_max) == interpreted


def test_engine_changes_between_chunks() -> None:
    for octets in VALID:
        whole = rows(octets)
        found = []
        with open_capture(octets, records_max=1) as capture:
            for i, chunk in enumerate(capture):
                found.append(chunk.records[:RECORD_STRIDE].tolist()[1:])
                capture.use(CHECKED if i % 2 else Interpreted())
        assert found == [one[:-1] for one in whole[0]]


def test_compiled_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine code that people run, not only numba's checked variant."""
    from observer import kernels
    from observer.capture import scan

    entries = {name: one for name, one in kernels.ENTRIES.items() if one.__module__ == scan.__name__}
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "ENTRIES", entries)
        patch.setattr(kernels, "cache_folder", lambda: None)  # a part of the kernels must not be kept as the whole
        compiled = kernels.Compiled()
    for octets in VALID:
        for size in range(24, len(octets), 7):
            cut = octets[:size]
            assert rows(cut, engine=compiled) == rows(cut)
