"""The progress bar appears on a terminal, for long work, and nowhere else."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import pytest

import observer
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


class Shown:
    """What a notebook's display hands back."""

    def __init__(self, bundle: dict[str, str]) -> None:
        self.bundles = [bundle]

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.bundles.append(bundle)


def test_notebook_bar_is_one_output_that_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Shown] = []

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Shown:
        assert raw and display_id
        shown.append(Shown(bundle))
        return shown[-1]

    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    with progress.NotebookBar() as bar:
        bar(500_000, 1_000_000, 1234)
        bar(1_000_000, None, 2468)
    assert len(shown) == 1
    first, second, last = shown[0].bundles
    assert 'value="500000" max="1000000"' in first["text/html"]
    assert "1,234 frames" in first["text/plain"]
    assert "<progress></progress>" in second["text/html"]
    assert set(last.values()) == {""}


def test_notebook_bar_leaves_short_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 3600.0)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with progress.NotebookBar() as bar:
        bar(1, 2, 3)


def test_the_bar_fits_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert isinstance(progress.bar(), progress.ProgressBar)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert isinstance(progress.bar(), progress.NotebookBar)


def test_reading_shows_a_bar_if_asked(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "bar", lambda: progress.ProgressBar(file))
    whole = observer.read(captures / "zero-window.pcap", progress=True)
    assert f"{whole.capture.frames} frames" in file.getvalue()
    silent = Terminal()
    monkeypatch.setattr(progress, "bar", lambda: progress.ProgressBar(silent))
    observer.read(captures / "zero-window.pcap", progress=False)
    assert not silent.getvalue()
