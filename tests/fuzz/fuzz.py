"""Takes mutated captures through the whole read path and reports every broken promise.

    python tests/fuzz/fuzz.py --count 200000 --seed 1            # as many cases, however long that takes
    python tests/fuzz/fuzz.py --seconds 600 --seed 2             # as many as there is time for
    python tests/fuzz/fuzz.py --seed 1 --only 4711               # one case again, with its traceback

Most cases run compiled with bounds checks; one in eight also runs interpreted, and both must give the same tables;
one in twenty also builds the DataFrames.  Promised: no exception but CaptureError, no hang, no growth of memory,
frames = frames with segments + frames with quotations + skipped.  A failing input is kept under --save.

Memory is looked at every STEP cases: the peak of resident memory in that time (Linux: VmHWM) may not exceed what it was
after the warm-up by more than PEAK_MIB.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from checks import BrokenError, TooSlowError, check_counts, check_tables, observe, same
from mutate import MUTATIONS, case
from seeds import Seed, load_seeds

from observer import kernels

STEP = 500
WARM_UP = 2000
PEAK_MIB = 160


def peak_kib(*, reset: bool = False) -> int:
    """The peak of resident memory since the last reset, 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    if reset:
        gc.collect()
        with contextlib.suppress(OSError):  # 5: reset the peak (proc(5), clear_refs)
            Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1])


class Fuzzer:
    """Runs cases and counts what came of them."""

    def __init__(self, seeds: list[Seed], seed: int, save: Path) -> None:
        self.seeds, self.seed, self.save = seeds, seed, save
        self.checked = kernels.Checked()
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest_s, self.slowest = 0.0, -1

    def run(self, index: int, data: bytes) -> None:
        """One case; raises what went wrong."""
        observation = observe(data, self.checked)
        if observation is None:
            self.counts["refused as no capture"] += 1
            return
        self.counts["frames"] += observation.capture.frames
        self.counts["segments"] += observation.segments
        self.counts["flows"] += observation.tracker.stream_count
        self.counts["damaged"] += bool(observation.capture.damages)
        check_counts(observation)
        if index % 8 == 0:
            again = observe(data, kernels.Interpreted())
            if again is None:
                raise BrokenError("refused when interpreted only")
            same(observation, again)
        if index % 20 == 0:
            check_tables(observation)

    def guarded(self, index: int) -> None:
        name, data = case(self.seed, index, self.seeds)
        begin = time.monotonic()
        try:
            self.run(index, data)
        except KeyboardInterrupt:
            raise
        except (Exception, TooSlowError) as error:
            self.fail(index, name, data, error)
        took_s = time.monotonic() - begin
        if took_s > self.slowest_s:
            self.slowest_s, self.slowest = took_s, index

    def fail(self, index: int, name: str, data: bytes, error: BaseException) -> None:
        self.save.mkdir(parents=True, exist_ok=True)
        path = self.save / f"{name}-{self.seed}-{index}.pcap"
        path.write_bytes(data)
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        if line not in [one.partition(" | ")[0] for one in self.failures]:
            print(f"FAILED: --seed {self.seed} --only {index} ({name}), kept as {path}", flush=True)
            traceback.print_exception(error)
        self.failures.append(f"{line} | {index} {name}: {str(error)[:100]}")


def replay(arguments: argparse.Namespace, seeds: list[Seed]) -> int:
    name, data = case(arguments.seed, arguments.only, seeds)
    path = arguments.save / f"{name}-{arguments.seed}-{arguments.only}.pcap"
    arguments.save.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"{name}: {len(data)} octets in {path}")
    Fuzzer(seeds, arguments.seed, arguments.save).run(0, data)  # 0: with every check
    print("passed")
    return 0


def fuzz(fuzzer: Fuzzer, count: int, seconds: float, first: int) -> int:
    """Run cases until there were `count` or time is up; returns how many there were."""
    begin = time.monotonic()
    peak, bound = 0, 0
    done = 0
    while done < count and time.monotonic() - begin < seconds:
        fuzzer.guarded(first + done)
        done += 1
        if done % STEP == 0:
            peak = peak_kib(reset=True)
            if done == WARM_UP:
                bound = peak + PEAK_MIB * 1024
            elif done > WARM_UP and bound and peak > bound:
                fuzzer.failures.append(f"memory | {peak} KiB at case {first + done}, {bound} promised")
                bound = peak
            if done % (STEP * 20) == 0:
                rate = done / (time.monotonic() - begin)
                print(f"{done:,} cases, {rate:.0f}/s, {len(fuzzer.failures)} failed, {peak >> 10} MiB", flush=True)
    return done


def report(fuzzer: Fuzzer, done: int, took_s: float) -> None:
    print(f"{done:,} captures in {took_s:.0f} s ({done / took_s:.0f}/s), {len(MUTATIONS)} kinds of mutation of "
          f"{len(fuzzer.seeds)} captures, seed {fuzzer.seed}")  # fmt: skip
    print("  " + ", ".join(f"{number:,} {what}" for what, number in fuzzer.counts.items()))
    print(f"  slowest {fuzzer.slowest_s:.2f} s (case {fuzzer.slowest}), peak memory {peak_kib() >> 10} MiB")
    kinds = Counter(one.partition(" | ")[0] for one in fuzzer.failures)
    print(f"  {len(fuzzer.failures)} failed" + (":" if kinds else ""))
    for kind, number in kinds.most_common():
        example = next(one for one in fuzzer.failures if one.startswith(kind + " | "))
        print(f"    {number} x {example}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, default=None, metavar="CASE")
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()) / "observer-fuzz")
    arguments = parser.parse_args()
    seeds = load_seeds()
    if arguments.only is not None:
        return replay(arguments, seeds)
    count: Any = arguments.count or (sys.maxsize if arguments.seconds else 200_000)
    fuzzer = Fuzzer(seeds, arguments.seed, arguments.save)
    begin = time.monotonic()
    done = 0
    with contextlib.suppress(KeyboardInterrupt):
        done = fuzz(fuzzer, count, arguments.seconds or float("inf"), arguments.first)
    report(fuzzer, done, max(time.monotonic() - begin, 1e-9))
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    os.environ.setdefault("OBSERVER_CACHE", str(Path(tempfile.gettempdir()) / "observer-fuzz-cache"))
    sys.exit(main())
