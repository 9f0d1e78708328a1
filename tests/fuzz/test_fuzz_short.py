"""A short run of the fuzzer, and the mutations themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from checks import observe
from fuzz import Fuzzer, fuzz
from mutate import MUTATIONS, case
from seeds import ROOT, Seed, load_seeds

from observer import kernels


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    """The project's own captures: the same wherever the tests run."""
    return load_seeds([ROOT / "captures"])


def test_mutated_captures_break_no_promise(seeds: list[Seed], tmp_path: Path) -> None:
    fuzzer = Fuzzer(seeds, seed=20, save=tmp_path)
    done = fuzz(fuzzer, count=4000, seconds=20, first=0)
    assert fuzzer.failures == []
    assert done >= 200
    assert fuzzer.counts["segments"] > 1000
    assert fuzzer.counts["damaged"] > 20


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_deterministic_and_read(name: str, seeds: list[Seed]) -> None:
    indices = [index for index in range(400) if case(3, index, seeds)[0] == name][:5]
    assert indices
    engine = kernels.Interpreted()
    read = [observe(case(3, index, seeds)[1], engine) for index in indices]
    assert [case(3, index, seeds) for index in indices] == [case(3, index, seeds) for index in indices]
    assert any(observation is not None for observation in read)
