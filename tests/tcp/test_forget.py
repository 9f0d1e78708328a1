"""Forgetting connections, and looking at the time: neither changes anything of what is told of the others."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import segments as seg
from observer.kernels import Checked, Compiled, Engine, Interpreted
from observer.tcp import layout
from tests.tcp.forgetting import Disturbed, assert_kept, assert_same, leave_alone, rows_of, run, tables
from tests.tcp.segments import pack, sequences
from tests.tcp.test_reference import EXAMPLES

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*.pcap*"))
Rows = list[list[int]]


@pytest.fixture(scope="module")
def compiled() -> Engine:
    return Compiled()


@pytest.fixture(scope="module")
def checked() -> Engine:
    return Checked()


def kernel_truth(shared: Path) -> list[Path]:
    paths = sorted((shared / "kernel-truth").glob("*.pcap*"))
    if not paths:
        pytest.skip(f"{shared} has no kernel-truth")
    return paths


# --- what disturbs -------------------------------------------------------------------------------------------


def keep_all(disturbed: Disturbed, _done: int) -> None:
    disturbed.forget(numpy.ones(disturbed.tracker.stream_count, bool))


class Forgetful:
    """Forgets what is finished, and some others by chance."""

    def __init__(self, seed: int, share: float) -> None:
        self.random, self.share = random.Random(seed), share

    def __call__(self, disturbed: Disturbed, _done: int) -> None:
        tracker = disturbed.tracker
        finished = tracker.summary().is_finished
        chance = numpy.array([self.random.random() < self.share for _ in finished], bool)
        disturbed.forget(~(finished & (self.random.random() < 0.5)) & ~chance)


class Ticks:
    """Tells the tracker the time behind each batch: the latest that no later segment contradicts."""

    def __init__(self, rows: numpy.ndarray) -> None:
        later = numpy.minimum.accumulate(rows[::-1, seg.TIME])[::-1]
        self.until = [*later.tolist(), None]

    def __call__(self, disturbed: Disturbed, done: int) -> None:
        if self.until[done] is not None:
            disturbed.tracker.finish(self.until[done])
            disturbed.tracker.summary(self.until[done])
            tables(disturbed.tracker)  # reading is no disturbance either


def check_capture(path: Path, engine: Engine, batch: int) -> None:
    rows = rows_of(path)
    calm = run(rows, engine, len(rows) or 1, leave_alone).tracker
    assert_same(run(rows, engine, batch, Ticks(rows)).tracker, calm, path.name)
    for ring in (layout.RING_MAX, 1):
        assert_same(run(rows, engine, batch, keep_all, ring=ring).tracker, calm, path.name)
        for seed in range(2):
            assert_kept(run(rows, engine, batch, Forgetful(seed, 0.2), ring=ring), calm, f"{path.name} {seed}")


# --- over captures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_own_captures(path: Path, compiled: Engine) -> None:
    rows = len(rows_of(path))
    check_capture(path, compiled, max(7, rows // 25))


def test_kernel_truth_captures(shared: Path, compiled: Engine) -> None:
    for path in kernel_truth(shared):
        check_capture(path, compiled, max(5, len(rows_of(path)) // 40))


# --- over sequences that Hypothesis invents ---------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, 2, layout.RING_MAX)))
def test_keeping_all_changes_nothing(rows: Rows, batch: int, ring: int, compiled: Engine, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    for engine in (Interpreted(), compiled, checked):
        assert_same(run(table, engine, batch, keep_all, ring=ring).tracker, expected)


@settings(max_examples=2 * EXAMPLES)
@given(
    rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, 2, layout.RING_MAX)), seed=st.integers(0, 99),
    share=st.sampled_from((0.0, 0.1, 0.5)),
)  # fmt: skip
def test_others_are_told_as_ever(rows: Rows, batch: int, ring: int, seed: int, share: float, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    plain = run(table, Interpreted(), batch, Forgetful(seed, share), ring=ring)
    assert_kept(plain, expected)
    fast = run(table, checked, batch, Forgetful(seed, share), ring=ring)
    assert fast.forgotten == plain.forgotten
    assert_same(fast.tracker, plain.tracker)


@settings(max_examples=2 * EXAMPLES)
@given(rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, layout.RING_MAX)))
def test_looking_at_the_time_changes_nothing(rows: Rows, batch: int, ring: int, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    for engine in (Interpreted(), checked):
        assert_same(run(table, engine, batch, Ticks(table), ring=ring).tracker, expected)
