"""`observer interfaces` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="the loopback interface is called lo on Linux")


def run(*words: str) -> str:
    command = [sys.executable, "-m", "observer", "interfaces", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@linux
def test_listed() -> None:
    assert any(line.startswith("lo ") for line in run().splitlines())


@linux
def test_json() -> None:
    entries = {entry["name"]: entry for entry in map(json.loads, run("--json").splitlines())}
    assert entries["lo"]["loopback"] is True
    assert isinstance(entries["lo"]["capture"], bool)
    assert bool(entries["lo"]["obstacle"]) is not entries["lo"]["capture"]
