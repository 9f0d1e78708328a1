"""Pictures are drawn without a screen, and every figure is closed after its test."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Close what a test has drawn."""
    from matplotlib import pyplot

    yield
    pyplot.close("all")
