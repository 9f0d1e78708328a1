"""The same frames give the same tables: whatever engine, chunk, container, pipe or cut they come through."""

from __future__ import annotations

import functools
import gzip
import io
import random
from pathlib import Path
from typing import Any

import build
import numpy as np
import pytest
from reading import read as read_frames

import observer
from observer import kernels, observe
from observer.capture import open_capture
from observer.schema import Addresses, Coded, Columns

TABLES = ("flows", "transitions", "events", "skipped", "findings", "calls")
NAMED_AFTER_FILES = ("file",)
FOLDER = Path(__file__).resolve().parents[2] / "captures"
OWN = sorted(path for path in FOLDER.iterdir() if ".pcap" in path.name)
CHUNKS = [(1 << 20, 1), (1 << 20, 3), (40_000, 17), (70_000, 4096), (300_000, 64)]
"""(octets of the buffer, records of a chunk)."""

Tables = dict[str, dict[str, Any]]


def plain(column: Any, addresses: Addresses | None, kind: str) -> Any:
    """A raw column as values that do not depend on how texts and addresses were numbered."""
    if isinstance(column, Coded):
        codes = np.asarray(column.codes).tolist()
        return [None if code < 0 else column.values[code] for code in codes]
    if kind == "address" and addresses is not None:
        return [addresses.text(int(code)) for code in np.asarray(column)]
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def tables_of(sources: Any, **how: Any) -> Tables:
    """All tables of a capture, as plain lists."""
    observation = observer.read(sources, **how)
    found: Tables = {}
    for name in TABLES:
        columns: Columns = observation.columns(name)
        found[name] = {
            key: plain(columns[key], columns.addresses, "address" if key.endswith("_addr") else "")
            for key in columns
            if key not in NAMED_AFTER_FILES
        }
    found["counts"] = {"frames": observation.capture.frames, "segments": observation.segments}
    return found


@functools.cache
def engines() -> dict[str, kernels.Engine]:
    return {"compiled": kernels.Compiled(), "checked": kernels.Checked()}


def frames_of(path: Path) -> tuple[list[build.Frame], int]:
    """The frames of a capture with one link type, and that link type."""
    got = read_frames(path).frames
    (link,) = {one.link for one in got}
    return [build.Frame(one.time_ns, one.octets, one.wire) for one in got], link


class Dribble(io.RawIOBase):
    """A binary stream that gives some octets at a time, as a pipe does."""

    def __init__(self, octets: bytes, seed: int) -> None:
        self._rest = io.BytesIO(octets)
        self._chance = random.Random(seed)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        part = self._rest.read(min(len(into), self._chance.choice((1, 2, 7, 24, 100, 1000))))
        into[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_engines_and_chunks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plainly = tables_of(str(path), engine=kernels.Interpreted())
    assert plainly["counts"]["frames"] > 0
    for name, engine in engines().items():
        assert tables_of(str(path), engine=engine) == plainly, name
    for octets, records in CHUNKS:
        small = functools.partial(open_capture, buffer_octets=octets, records_max=records)
        monkeypatch.setattr(observe, "open_capture", small)
        assert tables_of(str(path), engine=engines()["checked"]) == plainly, (octets, records)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_containers_pipes_and_cuts(path: Path, tmp_path: Path) -> None:
    frames, link = frames_of(path)
    engine = engines()["compiled"]
    plainly = tables_of(str(path), engine=engine)
    forms = {
        "nanoseconds.pcap": build.pcap(frames, nano=True, link=link),
        "swapped.pcap": build.pcap(frames, nano=True, link=link, order=">"),
        "same.pcapng": build.pcapng(frames, link=link),
        "swapped.pcapng": build.pcapng(frames, link=link, order=">"),
    }
    forms["same.pcap.gz"] = gzip.compress(forms["nanoseconds.pcap"])
    for name, octets in forms.items():
        (tmp_path / name).write_bytes(octets)
        assert tables_of(str(tmp_path / name), engine=engine) == plainly, name
        assert tables_of(io.BufferedReader(Dribble(octets, len(octets))), engine=engine) == plainly, name
    middle = len(frames) // 2
    parts = [str(tmp_path / name) for name in ("first.pcap", "second.pcapng")]
    Path(parts[0]).write_bytes(build.pcap(frames[:middle], nano=True, link=link))
    Path(parts[1]).write_bytes(build.pcapng(frames[middle:], link=link))
    assert tables_of(parts, engine=engine) == plainly
    assert tables_of(parts[::-1], engine=engine) == plainly


def test_public_captures(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth public capture: interpreted, checked, and a few records at a time."""
    if not (shared / "corpus").is_dir():
        pytest.skip(f"{shared / 'corpus'} is not there")
    paths = sorted(path for part in (shared / "corpus").iterdir() if part.is_dir() for path in part.iterdir())[::5]
    frames = 0
    for path in paths:
        plainly = tables_of(str(path), engine=kernels.Interpreted())
        assert tables_of(str(path), engine=engines()["checked"]) == plainly, path.name
        with monkeypatch.context() as patched:
            few = functools.partial(open_capture, records_max=5)
            patched.setattr(observe, "open_capture", few)
            assert tables_of(str(path), engine=engines()["compiled"]) == plainly, path.name
        frames += plainly["counts"]["frames"]
    print(f"\n{len(paths)} public captures, {frames} frames: the same tables three ways")
    assert frames > 5000
