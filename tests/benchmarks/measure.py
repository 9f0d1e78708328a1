"""Runs one command on one processor and says what it cost.

The measuring process imports little on purpose: the peak memory that wait4 tells of a child includes the moment
between fork and exec, in which the child is as large as its parent.
Sources: getrusage(2), wait4(2), sched_setaffinity(2).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROCESSOR = 0


class Cost(NamedTuple):
    """What a command cost: seconds and KiB."""

    wall_s: float
    user_s: float
    sys_s: float
    peak_kib: int


class CommandFailedError(Exception):
    """The command could not be measured."""


def warm(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def pinned(command: Sequence[str]) -> list[str]:
    """The command bound to one processor, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        return ["taskset", "-c", str(PROCESSOR), *command]
    return list(command)


def cost(
    command: Sequence[str],
    *,
    timeout_s: float = 600,
    environment: dict[str, str] | None = None,
    statuses: Sequence[int] = (0,),
) -> Cost:
    """Run a command to its end, its output thrown away; raise CommandFailedError if it fails or takes too long."""
    begin = time.perf_counter()
    with subprocess.Popen(
        pinned(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    ) as process:
        assert process.stderr is not None
        stopper = threading.Timer(timeout_s, process.kill)
        stopper.start()
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin
        stopper.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        if wall_s >= timeout_s:
            raise CommandFailedError(f"took longer than {timeout_s:g} s: {' '.join(command)}")
        tail = said.decode("utf-8", "replace").strip()[-300:]
        raise CommandFailedError(f"status {process.returncode} of {' '.join(command)}: {tail}")
    peak = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return Cost(wall_s, usage.ru_utime, usage.ru_stime, peak)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median and range, like '1.31 s (1.29-1.40)'."""
    return f"{median(values):.3g}{unit} ({min(values):.3g}-{max(values):.3g})"
