"""Agreement of the whole read path with the kernel, at three taps, and what each inference rule adds to it.

INFERENCE.md's measure: at instants every 10 ms, away from the kernel's own transitions and outside what the tap cannot
know, the folded transitions give the kernel's state for at least 99.9 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from observer import Options
from observer.tcp.layout import RULES
from tests.tcp import kernel_truth
from tests.tcp.kernel_truth import TAPS, Case, Score

LEAST_PERCENT = 99.9
TEXTBOOK_PERCENT = 92.0
"""A machine that takes "seen" for "received" reaches less than this here, 83 % in INFERENCE.md's 73 scenarios."""

FAMILIES = {
    "opening": ("retract_synack", "sticky", "synack_expiry", "stateless", "never_established", "echo"),
    "closing": ("closing", "fin_lost", "fin_contiguous", "fin_insert", "last_ack_lost", "time_wait"),
    "ends": ("rst_window", "rst_retract", "rst_forged", "challenge", "icmp", "give_up", "alive"),
}
"""Rules that stand in for each other where one is missing."""

Scores = Mapping[str, Mapping[str, Score]]


@pytest.fixture
def own(captures: Path) -> list[Case]:
    return kernel_truth.own_captures(captures)


@pytest.fixture
def given(shared: Path) -> list[Case]:
    folder = shared / "kernel-truth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return kernel_truth.three_taps(folder)


def scores_of(cases: list[Case], options: Options | None = None) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for case in cases:
        found.setdefault(case.name, {})[case.tap] = case.compare(options=options)
    return found


def sum_of(scores: Scores) -> Score:
    total = Score()
    for by_tap in scores.values():
        for score in by_tap.values():
            total.add(score)
    return total


def wrong(scores: Scores, name: str) -> int:
    return sum(score.wrong for score in scores[name].values())


def check(scores: Scores, title: str, least_instants: int) -> None:
    print(f"\n{title}: percent of instants, and instants")
    sums = kernel_truth.table(scores)
    for tap, score in sums.items():
        assert score.share >= LEAST_PERCENT, (tap, score.mistakes.most_common(5))
    assert sum(score.instants for score in sums.values()) >= least_instants


def test_the_kernel_agrees_on_its_truths(given: list[Case]) -> None:
    assert {case.tap for case in given} == set(TAPS)
    check(scores_of(given), "kernel-truth", 80_000)


def test_the_kernel_agrees_on_the_projects_captures(own: list[Case]) -> None:
    assert len(own) >= 25
    check(scores_of(own), "captures", 30_000)


def test_what_each_rule_gains(own: list[Case], given: list[Case]) -> None:
    cases = own + given
    complete = scores_of(cases)
    whole = sum_of(complete)
    bare = sum_of(scores_of(cases, Options(without_rules=frozenset(RULES))))
    losses: dict[str, tuple[int, list[str]]] = {}
    for name, rules in [*((rule, (rule,)) for rule in RULES), *FAMILIES.items()]:
        scores = scores_of(cases, Options(without_rules=frozenset(rules)))
        hurt = [scenario for scenario in scores if wrong(scores, scenario) > wrong(complete, scenario)]
        losses[f"all of {name}" if name in FAMILIES and len(rules) > 1 else name] = (
            sum_of(scores).wrong - whole.wrong,
            hurt,
        )
    print(f"\nall rules {whole.share:.3f} % of {whole.instants} instants; without any (textbook) {bare.share:.2f} %")
    print("without one rule, or without all of a kind, instants lost:")
    for rule, (lost, hurt) in sorted(losses.items(), key=lambda item: -item[1][0]):
        if lost:
            print(f"  {rule:18} {lost:6}  {100 * lost / whole.instants:7.3f} %  in {', '.join(hurt[:4])}")
    idle = [rule for rule, (lost, _) in losses.items() if not lost]
    print(f"nothing on these captures, proved by unit tests alone: {', '.join(idle) or 'none'}")
    assert bare.share <= TEXTBOOK_PERCENT
    assert whole.share >= LEAST_PERCENT
    assert all(lost >= 0 for lost, _ in losses.values()), "a rule that does harm"
    assert sum(lost > 0 for lost, _ in losses.values()) >= 8
    assert sorted(rule for rules in FAMILIES.values() for rule in rules) == sorted(RULES)
