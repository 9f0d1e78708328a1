"""The progress bar appears on a terminal, for long work, and nowhere else."""

from __future__ import annotations

import io

import pytest

from observer.outputs import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_short_work_draws_nothing() -> None:
    file = Terminal()
    with progress.ProgressBar(file) as bar:
        bar(10, 100, 5)
    assert file.getvalue() == ""


def test_no_terminal_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    file = io.StringIO()
    with progress.ProgressBar(file) as bar:
        bar(10, 100, 5)
    assert file.getvalue() == ""


@pytest.mark.parametrize("total", [100_000_000, None])
def test_rate_and_frames(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    file = Terminal()
    with progress.ProgressBar(file) as bar:
        bar(10, total, 5)
        bar(50_000_000, total, 1_234_567)
    assert "1,234,567 frames" in file.getvalue() and "frames/s" in file.getvalue()
