"""The table of calls equals what the applications' own record says of the same sockets, wherever the tap can know it.

At least 99 of 100 calls at each tap: outcome, and time within one round trip (CRITERIA.md, "The socket view").  The
kernel's own states say from when on accept() could return, or never, also where no application called it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from observer import Options
from observer.tcp.layout import RULES
from tests.findings.call_record import Tally, acceptable, tally_of
from tests.tcp.kernel_truth import Case, own_captures, three_taps

LEAST_PERCENT = 99.0
MOST_UNSEEN = 0.02
"""Share of the calls that may be left to what a tap cannot know."""


@pytest.fixture
def given(shared: Path) -> list[Case]:
    folder = shared / "kernel-truth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return three_taps(folder)


@pytest.fixture
def own(captures: Path) -> list[Case]:
    return own_captures(captures)


def check(total: Tally, least: int) -> None:
    assert total.right >= least
    assert total.share >= LEAST_PERCENT, total.mistakes
    assert total.unseen <= MOST_UNSEEN * (total.right + total.wrong + total.unseen), total.unseen


@pytest.mark.parametrize("tap", ["client", "middle", "server"])
def test_the_view_is_the_applications_own(given: list[Case], tap: str) -> None:
    check(tally_of((case for case in given if case.tap == tap), f"kernel-truth, {tap}"), 200)


def test_the_view_is_the_applications_own_in_the_projects_captures(own: list[Case]) -> None:
    check(tally_of(own, "captures"), 280)


def test_accept_can_return_when_the_kernel_is_established(given: list[Case], own: list[Case]) -> None:
    total = tally_of([*given, *own], "accept() possible", acceptable)
    assert total.right >= 140
    assert total.share >= LEAST_PERCENT, total.mistakes


def test_the_comparison_finds_a_view_without_inference(given: list[Case]) -> None:
    """A machine that takes "seen" for "received" is found out by the very same comparison."""
    textbook = Options(without_rules=frozenset(RULES))
    total = tally_of(given, "accept() possible, without inference", lambda case: acceptable(case, options=textbook))
    assert total.share < LEAST_PERCENT
