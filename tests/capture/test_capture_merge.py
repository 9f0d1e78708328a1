"""Several files as one: rotated, overlapping, pipes among them, damage in one of them."""

from __future__ import annotations

import heapq
import io
import os
import random
from pathlib import Path

import build
import pytest
from build import Frame
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Got, expected, read

from observer.capture import merge


def oracle(files: list[list[Frame]]) -> list[Got]:
    """As mergecap: of the frames at the head of each file always the earliest, the first file among equals."""
    found: list[Got] = []
    rest = [expected(some)[::-1] for some in files]
    while any(rest):
        place = min((i for i, one in enumerate(rest) if one), key=lambda i: (rest[i][-1].time_ns, i))
        found.append(rest[place].pop())
    return found


def write(folder: Path, files: list[list[Frame]]) -> list[Path]:
    paths = [folder / f"{i}.pcap" for i in range(len(files))]
    for path, some in zip(paths, files, strict=True):
        path.write_bytes(build.pcap(some, nano=True))
    return paths


def test_rotated_files_run_in_order_whatever_their_names(tmp_path: Path) -> None:
    some = build.frames(300)
    paths = write(tmp_path, [some[200:], some[:100], some[100:200]])
    result = read(paths)
    assert result.frames == expected(some)
    assert [(Path(one.name).name, one.first_frame, one.frames) for one in result.files] == [
        ("1.pcap", 1, 100),
        ("2.pcap", 101, 100),
        ("0.pcap", 201, 100),
    ]
    assert result.capture.octets_read == result.capture.octets_total == sum(path.stat().st_size for path in paths)


def test_rotated_files_are_handed_through_without_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge.Merged, "_merge", None)
    some = build.frames(300)
    assert read(write(tmp_path, [some[:150], some[150:]])).frames == expected(some)


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=2, max_size=5),
    buffer_octets=st.sampled_from([64, 300, 1 << 20]),
    records_max=st.sampled_from([1, 3, 4096]),
)
def test_any_times_are_merged_as_mergecap_does(times: list[list[int]], buffer_octets: int, records_max: int) -> None:
    files = [[Frame(t, bytes([i, k])) for k, t in enumerate(one)] for i, one in enumerate(times)]
    sources = [io.BytesIO(build.pcap(some, nano=True)) for some in files]
    result = read(sources, buffer_octets=buffer_octets, records_max=records_max)
    assert result.frames == oracle(files)
    assert result.damages == []
    for info, i in ((one, int(result.frames[one.first_frame - 1].octets[0])) for one in result.files if one.frames):
        assert result.frames[info.first_frame - 1] == expected(files[i])[0]
        assert info.frames == len(files[i])


def test_large_files_that_overlap(tmp_path: Path) -> None:
    rng = random.Random(1)
    files: list[list[Frame]] = [[], [], []]
    for i in range(9000):
        files[rng.randrange(3)].append(Frame(i * 1000, i.to_bytes(4, "big") + bytes(rng.randrange(1500))))
    files[1] = files[1][1000:]
    everything = list(heapq.merge(*files))
    result = read(write(tmp_path, files))
    assert result.frames == expected(everything)


def test_a_damaged_file_among_others(tmp_path: Path) -> None:
    some = build.frames(300)
    paths = write(tmp_path, [some[:100], some[100:200], some[200:]])
    paths[1].write_bytes(paths[1].read_bytes()[:-5])
    (tmp_path / "empty.pcap").write_bytes(b"")
    result = read([*paths, tmp_path / "empty.pcap"])
    assert result.frames == expected(some[:199] + some[200:])
    assert [(Path(one.file).name, one.frame) for one in result.damages] == [("empty.pcap", 1), ("1.pcap", 100)]


def test_pipes_among_files(tmp_path: Path) -> None:
    some = build.frames(90)
    paths = write(tmp_path, [some[::3], some[1::3]])
    reading, writing = os.pipe()
    os.write(writing, build.pcapng(some[2::3]))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert read([*paths, file]).frames == expected(some)


def test_link_types_stay_with_their_frames(tmp_path: Path) -> None:
    first, second = (
        build.frames(5, step_ns=2000),
        build.frames(5, step_ns=2000, start_ns=1_700_000_000 * build.SECOND + 1000),
    )
    result = read([build.pcap(first, link=1), build.pcapng(second, link=101)])
    assert [one.link for one in result.frames] == [1, 101] * 5


def test_many_files_do_not_stay_open(tmp_path: Path) -> None:
    files = [build.frames(2, start_ns=i * build.SECOND) for i in range(1500)]
    result = read(write(tmp_path, files))
    assert len(result.frames) == 3000
