"""How often the observer is right, by tap and grade: ``python -m tests.findings.calibrate FOLDER ... [--soak SEED]``.

A FOLDER is one run of the laboratory (client.pcap, middle.pcap, server.pcap, truth.json), a folder of such runs, or
kernel-truth.  ``--soak`` plays new soaks first (root, Linux), so that grades are calibrated on connections that nobody
has seen.  For each tap it shows

    found     what must be found at this tap, with the right endpoint; then with the right cause
    grades    for each grade the findings that the kernel's record explains, of all with this grade
    problems  findings of severity problem that nothing explains
    states    instants at which both endpoints' states are the kernel's, outside what cannot be known
    calls     calls of the applications' own record with the same outcome, in time

and what differs.  The exit status is 1 where the bounds of issue 3 are not met.  Never loosens what a truth says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.findings import call_record, truths
from tests.lab import soak
from tests.tcp import kernel_truth
from tests.tcp.kernel_truth import TAPS, Case, Score

GRADES = ("confirmed", "probable", "suspected")
LEAST_PROBABLE = 95.0
LEAST_STATES = 99.9
LEAST_CALLS = 99.0
EXAMPLES = 6
"""Differences shown of each kind and capture."""
MOST_FOR_STATES = kernel_truth.EVERY
"""Connections: larger crowds are compared by their findings only."""


@dataclass
class Tap:
    """What came of all captures of one tap."""

    captures: int = 0
    must: int = 0
    missing: int = 0
    wrong_cause: int = 0
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    states: Score = field(default_factory=Score)
    calls: call_record.Tally = field(default_factory=call_record.Tally)
    differences: list[tuple[str, str]] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Read one capture and compare all that its truth file tells."""
        if lost := case.truth.get("dropped", {}).get(case.tap):
            self.differences.append(
                ("not compared", f"{case.name} at the {case.tap}: tcpdump itself lost {lost} frames")
            )
            return
        self.captures += 1
        self._findings(case)
        if 0 < len(case.truth.get("states", ())) < MOST_FOR_STATES:
            self._states(case)
            calls = call_record.compare(case)
            self.calls.add(calls)
            self._differ("call", case, calls.mistakes)

    def _findings(self, case: Case) -> None:
        held = truths.hold_file(case.truth, case.tap, case.capture)
        self.must += len(held.must)
        self.missing += len(held.missing)
        self.wrong_cause += len(held.wrong_cause)
        self.wrong.update(row["grade"] for row in held.wrong)
        self.right.update(row["grade"] for row in held.rows if row not in held.wrong)
        self.problems += len(held.wrong_of(severity="problem"))
        self._differ("missing", case, held.missing)
        self._differ("wrong cause", case, held.wrong_cause)
        self._differ("not so", case, map(truths.line, held.wrong))

    def _states(self, case: Case) -> None:
        score = case.compare()
        self.states.add(score)
        self._differ("state", case, (
            f"{connection} {side}: kernel {theirs}, observer {ours}, {count} instants"
            for (connection, side, theirs, ours), count in score.mistakes.most_common()
        ))  # fmt: skip

    def _differ(self, kind: str, case: Case, what: Iterable[object]) -> None:
        family = f"{kind}: {case.name} at the {case.tap}"
        self.differences += [(family, str(one)) for one in what]

    def precision(self, grade: str) -> float:
        """Percent of the findings of a grade that are right."""
        count = self.right[grade] + self.wrong[grade]
        return 100 * self.right[grade] / count if count else 100.0

    def fails(self) -> list[str]:
        """Which bounds are not met."""
        checks = {
            "recall": self.missing + self.wrong_cause == 0,
            "confirmed": self.wrong["confirmed"] == 0,
            "probable": self.precision("probable") >= LEAST_PROBABLE,
            "problems": self.problems == 0,
            "states": self.states.share >= LEAST_STATES,
            "calls": self.calls.share >= LEAST_CALLS,
        }
        return [name for name, met in checks.items() if not met]

    def row(self) -> str:
        """One line of the table."""
        cells = [f"{self.captures:4}", f"{self.must - self.missing:5}/{self.must:<5} {self.wrong_cause:3} wrong cause"]
        for grade in GRADES:
            cells.append(f"{self.right[grade]:5}/{self.right[grade] + self.wrong[grade]:<5}")
        states, calls = self.states, self.calls
        cells += [f"{self.problems:4}", f"{states.share:8.3f} % of {states.instants:7} ({states.unseen} unseen)"]
        cells.append(f"{calls.share:7.2f} % of {calls.right + calls.wrong:6} ({calls.unseen} unseen)")
        return "  ".join(cells)


def cases_in(places: Iterable[Path]) -> list[Case]:
    """The captures with a truth in these folders; healthy runs, which have no states, included."""
    found: list[Case] = []
    for place in places:
        runs = [place] if (place / "truth.json").is_file() else sorted(one.parent for one in place.glob("*/truth.json"))
        for run in runs:
            found += [Case(run.name, tap, run / f"{tap}.pcap", run / "truth.json") for tap in TAPS]
        found += kernel_truth.three_taps(place)
    return found


def calibrate(cases: Iterable[Case]) -> dict[str, Tap]:
    """Compare these captures, tap by tap."""
    taps = {tap: Tap() for tap in TAPS}
    for case in cases:
        taps[case.tap].add(case)
    return taps


def show(taps: dict[str, Tap]) -> int:
    """Print the table and every difference; 1 where a bound is not met."""
    print(
        f"{'tap':8}capt  must be found              {''.join(f'{grade:13}' for grade in GRADES)}problems  states, calls"
    )
    for name, tap in taps.items():
        print(f"{name:8}{tap.row()}")
    for tap in taps.values():
        shown: Counter[str] = Counter()
        for family, difference in tap.differences:
            shown[family] += 1
            if shown[family] <= EXAMPLES:
                print(f"{family}: {difference}")
        for family, count in shown.items():
            if count > EXAMPLES:
                print(f"{family}: {count - EXAMPLES} more")
    broken = {name: tap.fails() for name, tap in taps.items() if tap.fails()}
    print(f"not met: {broken}" if broken else "all bounds of issue 3 are met")
    return int(bool(broken))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.findings.calibrate", description="Score against the truth.")
    parser.add_argument("places", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--soak", type=int, nargs="*", default=[], metavar="SEED", help="play these first")
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--loss", type=int, default=2, metavar="PERCENT")
    parser.add_argument("--ipv6", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="obslab-calibrate-") as work:
        places = list(options.places)
        for seed in options.soak:
            places.append(Path(work, f"soak_{seed}"))
            lab = soak(
                places[-1],
                seed=seed,
                connections=options.connections,
                loss_percent=options.loss,
                ipv6=options.ipv6,
            )
            lab.write_truth(places[-1] / "truth.json")
        return show(calibrate(cases_in(places)))


if __name__ == "__main__":
    sys.exit(main())
