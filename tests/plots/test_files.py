"""Pictures by name, and as files: all there, whole, the same each time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import observer
from observer.errors import OptionError
from observer.plots import draw, draw_all
from observer.plots.files import worst_streams
from observer.plots.style import offscreen
from observer.registry import Plot, collect
from tests.plots.conversation import Conversation, queue_full


def test_every_picture_can_be_drawn_and_labels_itself() -> None:
    observation = queue_full().read()
    plots = collect(Plot)
    assert {"ladder", "sequence", "states"} <= set(plots)
    for plot in plots.values():
        assert plot.title and plot.doc.endswith(".")
        with offscreen():
            ax = (observation.flow(0) if plot.scope == "flow" else observation).plot(plot.name)
        assert ax.get_title(loc="left") or ax.get_title(), plot.name


def test_documentation_names_every_picture_and_its_options() -> None:
    from observer.flow import Flow
    from observer.observation import Observation
    from observer.plots.files import offered

    for plot in collect(Plot).values():
        words = (Flow if plot.scope == "flow" else Observation).plot.__doc__ or ""
        about = words[words.index(f'"{plot.name}"') :]
        assert all(option in about for option in offered(plot)), plot.name


def test_names_are_checked_against_what_is_drawn() -> None:
    observation = Conversation().opening().read()
    with pytest.raises(OptionError, match="one connection"):
        observation.plot("ladder")
    with pytest.raises(OptionError, match="whole observation"):
        observation.flow(0).plot("states")
    with pytest.raises(OptionError, match="there are"):
        draw("pie", observation)


def test_worst_findings_one_of_each_kind(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    findings = observation.findings[observation.findings.stream.notna()]
    kinds = findings.drop_duplicates(["code", "cause", "endpoint"])
    streams = worst_streams(observation, 6)
    assert streams == list(dict.fromkeys(kinds.stream.astype(int)))[:6]
    assert worst_streams(Conversation().opening().closing().read(), 6) == []


def test_all_pictures_as_files(tmp_path: Path, captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    drawn = draw_all(observation, tmp_path / "new", formats=("png", "svg"))
    assert drawn.missing == []
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in drawn.files)
    stems = {path.stem for path in drawn.files}
    assert stems >= {plot.name for plot in collect(Plot).values() if plot.scope == "observation"}
    assert any(stem.startswith("ladder-") for stem in stems)
    for path in drawn.files:
        begin = path.read_bytes()[:200]
        assert begin.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in begin, path


def test_the_same_capture_gives_the_same_file(tmp_path: Path, captures: Path) -> None:
    texts = []
    for name in ("one", "two"):
        observation = observer.read(captures / "half-close.pcap")
        drawn = draw_all(observation, tmp_path / name, formats=("svg",), names=["states"])
        texts.append(drawn.files[0].read_text())
    assert texts[0] == texts[1]
    assert "ESTABLISHED" in texts[0], "words stay words in SVG"


def test_nothing_stays_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OptionError, match=r"cannot write into .*No space"):
        draw_all(Conversation().opening().read(), tmp_path, formats=("png",), names=["states"])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="xyz"):
        draw_all(Conversation().opening().read(), tmp_path, formats=("xyz",), names=["states"])


def test_a_pipe_gives_what_it_can(tmp_path: Path, captures: Path) -> None:
    source = io.BytesIO((captures / "accept-queue-full.pcap").read_bytes())
    observation = observer.read(source)
    drawn = draw_all(observation, tmp_path, formats=("png",), names=["states", "ladder"])
    assert [path.name for path in drawn.files] == ["states.png"]
    assert len(drawn.missing) == 1 and "pipe" in drawn.missing[0]
