"""Findings on public captures: without error, in bounded time, within the contract; silent where all is well."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

import observer
from observer import schema
from observer.findings.judging import Judging
from tests.findings.contract import faults

LEAST_CAPTURES = 500
SLOWEST_S = 1.0
"""For the findings of one of these captures (the largest has some thousand frames), on a busy machine."""


@pytest.fixture(scope="module")
def corpus(shared: Path) -> list[Path]:
    folder = shared / "corpus"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return sorted(path for path in folder.rglob("*") if path.is_file() and ".csv" not in path.name)


def test_every_public_capture_keeps_the_contract(corpus: list[Path]) -> None:
    read, broken, slow = 0, [], []
    codes: Counter[str] = Counter()
    for path in corpus:
        try:
            observation = observer.read(str(path))
        except observer.ObserverError:
            continue  # a list beside the captures
        read += 1
        for name in ("flows", "events"):
            observation.columns(name)
        begin = time.process_time()
        observation.columns("findings")
        if time.process_time() - begin > SLOWEST_S:
            slow.append((path.name, time.process_time() - begin))
        for verdict in Judging(observation).verdicts():
            codes[verdict.code] += 1
            broken += [(path.name, verdict, what) for what in faults(observation, verdict)]
        schema.validate("findings", observation.findings)
    assert read >= LEAST_CAPTURES
    assert not broken, "\n" + "\n".join(map(str, broken))
    assert not slow
    print(f"\n{read} captures: {dict(codes)}")
    assert len(codes) >= 10


def test_healthy_traffic_has_no_problem() -> None:
    """Captures of real programs; what they really contain (resets of a load tool, keep-alive races) is listed."""
    folders = [Path(name) for name in os.environ.get("OBSERVER_HEALTHY", "").split(os.pathsep) if name]
    if not folders:
        pytest.skip("OBSERVER_HEALTHY names no folders that tests/lab/healthy.py made")
    for folder in folders:
        for tap in ("client", "middle", "server"):
            findings = observer.read(str(folder / f"{tap}.pcap")).findings
            single = findings[findings.stream.notna()]
            told = Counter(zip(findings.severity, findings.grade, findings.code, findings.cause, strict=True))
            print(f"\n{folder.name} at the {tap}: " + "; ".join(f"{n} {' '.join(key)}" for key, n in told.items()))
            alarms = single[single.severity == "problem"]
            assert alarms.empty, (folder, tap, alarms.summary.tolist()[:5])
