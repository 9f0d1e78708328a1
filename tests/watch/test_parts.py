"""Tables on disk while a capture goes on: whole files, each connection once, nothing lost by a crash but the latest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest
from feed import FileFeed

import observer
from observer import kernels
from observer.errors import CaptureError, OptionError
from observer.watch import Change, Live
from observer.watch.clock import Clock
from observer.watch.parts import KEPT, Parts, load

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
PILE = CAPTURES / "time-wait-pileup.pcap.gz"


class Often(Parts):
    """Writes at every tick."""

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        super().tick(live, changes)
        self.write(live)


def parts(folder: Path, complaints: list[str] | None = None, **options: int) -> Often:
    told = complaints if complaints is not None else []
    return Often(folder, steady_ns=lambda: 0, complain=told.append, **options)  # type: ignore[arg-type]


def watch(
    path: Path, step: int, writer: Parts, *, ticks: int = 10**6, clock: Clock | None = None, **options: int
) -> Live:
    clock = clock or Clock(steady=lambda: 0)
    live = Live(
        FileFeed(path, step), engine=kernels.Interpreted(), clock=clock, watchers=[writer],
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    while not live.feed.finished and ticks:
        live.step()
        live.tick()
        ticks -= 1
    return live


def same(folder: Path, live: Live) -> None:
    for table in KEPT:
        stored, now = load(folder, table).drop(columns="run"), getattr(live, table)
        assert sorted(map(str, stored.astype(str).values.tolist())) == sorted(
            map(str, now[stored.columns].astype(str).values.tolist())
        ), table
        kinds = {name: str(kind) for name, kind in stored.dtypes.items()}
        assert kinds == {name: str(kind) for name, kind in now[stored.columns].dtypes.items()}


def test_what_is_stored_is_what_is_known(tmp_path: Path) -> None:
    writer, passed = parts(tmp_path), [0]
    live = watch(CAPTURES / "reset-on-close.pcap", 9, writer, clock=Clock(steady=lambda: passed[0]))
    assert writer.written == 0  # what has just ended may go on
    passed[0] = 100 * 10**9
    live.tick()
    assert writer.written == live.connections > 0
    live.end()
    same(tmp_path, live)


def test_it_is_so_after_every_writing(tmp_path: Path) -> None:
    live = watch(CAPTURES / "port-reuse.pcap", 5, parts(tmp_path), ticks=6)
    same(tmp_path, live)  # no end: as after a crash
    live.end()
    same(tmp_path, live)


def test_findings_are_lines_that_are_there_at_once(tmp_path: Path) -> None:
    live = watch(CAPTURES / "accept-queue-full.pcap", 10, parts(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert {line["code"] for line in lines} >= {"half_established", "accept_queue_overflow"}
    assert all(line["run"] == 1 and line["change"] in ("raised", "changed", "ended", "withdrawn") for line in lines)
    live.end()


def test_starting_again_is_the_next_run(tmp_path: Path) -> None:
    for run in (1, 2):
        live = watch(CAPTURES / "refused.pcap", 50, parts(tmp_path))
        live.end()
        assert sorted(load(tmp_path, "flows").run.unique()) == list(range(1, run + 1))
    assert len(load(tmp_path, "flows", run=2)) * 2 == len(load(tmp_path, "flows"))
    assert len(pandas.read_parquet(tmp_path / "flows")) == len(load(tmp_path, "flows"))


def test_what_is_forgotten_was_written(tmp_path: Path) -> None:
    live = watch(PILE, 20, parts(tmp_path), limit=40)
    live.end()
    assert live.forgotten + live.evicted > 0
    flows = load(tmp_path, "flows")
    assert flows.stream.tolist() == list(range(live.connections))
    whole = observer.read(PILE).flows
    for column in ("client_port", "first_time", "first_frame"):
        assert flows[column].tolist() == whole[column].tolist()


def test_a_part_is_never_touched_again(tmp_path: Path) -> None:
    live = watch(PILE, 40, parts(tmp_path), limit=40, ticks=20)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/part-*.parquet")}
    assert before
    while not live.feed.finished:
        live.step()
        live.tick()
    live.end()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_the_oldest_parts_go_first(tmp_path: Path) -> None:
    live = watch(PILE, 20, parts(tmp_path, keep_octets=200_000), limit=40)
    live.end()
    numbers = sorted(int(path.stem[5:]) for path in (tmp_path / "flows" / "run=0001").glob("part-*"))
    assert numbers and numbers[0] > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    every = [*tmp_path.glob("*/*/part-*.parquet")]
    assert sum(path.stat().st_size for path in every) <= 200_000


def test_a_folder_that_is_gone_is_told_once_and_nothing_fails(tmp_path: Path) -> None:
    import shutil

    complaints: list[str] = []
    folder = tmp_path / "out"
    live = watch(CAPTURES / "refused.pcap", 4, parts(folder, complaints), ticks=2)
    shutil.rmtree(folder)
    while not live.feed.finished:
        live.step()
        live.tick()
    live.end()
    assert len(complaints) == 1 and str(folder) in complaints[0]


def test_bad_folders_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write into"):
        parts(tmp_path / "file")
    with pytest.raises(CaptureError, match="no parts"):
        load(tmp_path, "flows")
    with pytest.raises(OptionError, match="flows, transitions, events"):
        load(tmp_path, "findings")
