"""What every test may ask for: the folders of captures, and settings that make runs repeat."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs a script in the background has it ignore Ctrl-C, and so would every process below.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]

# Machine code compiled by tests stays out of the user's cache.
os.environ.setdefault("OBSERVER_CACHE", str(REPOSITORY / ".pytest_cache"))

# A slow moment of a shared machine is no failure; in CI the same examples come every time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def captures() -> Path:
    """The captures that are part of the project."""
    return REPOSITORY / "captures"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The public captures and kernel truths beside the checkout, which are not part of it."""
    folder = Path(os.environ.get("OBSERVER_SHARED") or REPOSITORY.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there (OBSERVER_SHARED names another place)")
    return folder
