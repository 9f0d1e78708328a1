"""How often the observer's verdicts are right, by grade: ``cd tests && python -m lab.score FOLDER ... [--soak SEED]``.

Each FOLDER holds client.pcap, middle.pcap, server.pcap and truth.json, as ``python -m lab`` and ``lab.healthy`` leave
them; a file NAME.truth.json stands for a kernel-truth scenario. ``--soak`` plays new soaks first, so that grades are
calibrated on connections that nobody has seen. Prints what is missing, false or forbidden, then for each grade and
severity how many findings were right. The exit status is 1 where a confirmed problem is false or something that must be
found is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer

from . import soak
from .expected import Expectation, expected_findings, judge
from .sockets import name

TAPS = ("client", "middle", "server")


def captures(place: Path) -> tuple[Path, dict[str, Path]]:
    """The truth file of a folder or of a kernel-truth scenario, and its captures."""
    if place.is_dir():
        return place / "truth.json", {tap: place / f"{tap}.pcap" for tap in TAPS}
    stem = place.name.removesuffix(".truth.json")
    return place, {tap: place.with_name(f"{stem}.{tap}.pcap") for tap in TAPS}


def findings(capture: Path) -> list[dict[str, Any]]:
    """The observer's findings in the form that ``judge`` takes, with severity and grade."""
    table = observer.read(capture).findings
    columns = ["code", "severity", "grade", "stream", "endpoint", "cause", "summary"]
    columns += ["client_addr", "client_port", "server_addr", "server_port"]
    told = table[columns].astype(object).where(table[columns].notna(), None)
    rows = told.to_dict("records")
    for row in rows:
        ends = ((row[f"{role}_addr"], row[f"{role}_port"]) for role in ("client", "server"))
        row["flow"] = None if row["stream"] is None else ">".join(name(end) for end in ends)
    return rows


def score(place: Path) -> Iterator[tuple[str, str, str]]:
    """(verdict, grade and severity, sentence) of everything that was found or missed at the three taps of one run."""
    truth_file, taps = captures(place)
    truth = json.loads(truth_file.read_text())
    for tap, capture in taps.items():
        expected, rows = expected_findings(truth, tap), findings(capture)
        judged = judge(expected, rows)
        where = f"{place.name.removesuffix('.truth.json')} at the {tap}"
        for one in expected.must:
            missed = one in judged.missing
            yield ("missing" if missed else "found"), "", f"{where}: {_words(one)}"
        for one in judged.wrong_cause:
            yield "wrong cause", "", f"{where}: {_words(one)}, cause {'/'.join(sorted(one.causes))}"
        for verdict, indices in (
            ("right", judged.right),
            ("forbidden", judged.forbidden),
            ("false", judged.unexplained),
        ):
            for index in indices:
                row = rows[index]
                told = f"{where}: {row['code']} ({row['cause']}) of {row['endpoint']}, {row['flow']}: {row['summary']}"
                yield verdict, f"{row['grade']} {row['severity']}", told


def _words(one: Expectation) -> str:
    return f"{' or '.join(sorted(one.codes))} of {'/'.join(sorted(one.endpoints)) or 'any'}, {one.flow}: {one.why}"


def report(places: list[Path], *, examples: int) -> int:
    """Print the score of these runs; 1 where it is not good enough."""
    counts: Counter[tuple[str, str]] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    for place in places:
        for verdict, kind, sentence in score(place):
            counts[verdict, kind] += 1
            if verdict not in ("found", "right") and not kind.endswith("info"):  # information is no alarm
                family = (verdict, place.name)
                shown[family] += 1
                if shown[family] <= examples:
                    print(f"{verdict:12} {kind:20} {sentence}")
    found, missing = counts["found", ""], counts["missing", ""]
    print(f"\nrecall: {found} of {found + missing} that must be found; wrong cause: {counts['wrong cause', '']}")
    for kind in sorted({kind for _, kind in counts if kind}):
        right = counts["right", kind]
        wrong = counts["false", kind] + counts["forbidden", kind]
        print(f"{kind:20} {right:6} of {right + wrong:6} right: {100 * right / (right + wrong):.2f} %")
    wrong = sum(counts[verdict, "confirmed problem"] for verdict in ("false", "forbidden"))
    return 1 if missing or wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.score", description="Score findings against the truth.")
    parser.add_argument("places", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--soak", type=int, nargs="*", default=[], metavar="SEED", help="play these soaks and score them"
    )
    parser.add_argument("--examples", type=int, default=4, help="lines per run and kind of error")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="obslab-score-") as work:
        places = list(options.places)
        for seed in options.soak:
            folder = Path(work, f"soak_{seed}")
            soak(folder, seed=seed, ipv6=bool(seed % 2)).write_truth(folder / "truth.json")
            places.append(folder)
        return report(places, examples=options.examples)


if __name__ == "__main__":
    sys.exit(main())
