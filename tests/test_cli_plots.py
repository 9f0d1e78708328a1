"""`observer read --plots`: pictures as files (in SVG words stay words); misuse and pipes are told in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import observer
from observer.cli import main
from observer.plots.files import worst_streams
from observer.registry import Plot, collect

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {name for name, plot in collect(Plot).items() if plot.scope == "observation"}


def stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_all_pictures_and_the_ladders_of_the_worst_are_drawn(
    captures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = captures / "accept-queue-full.pcap"
    assert main(["read", str(file), "-o", str(tmp_path / "out"), "--plots"]) == 0
    folder = tmp_path / "out" / "plots"
    ladders = {f"ladder-{stream}" for stream in worst_streams(observer.read(file), 6)}
    assert ladders and stems(folder) == WHOLE | ladders
    for stem in WHOLE | ladders:
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"{stem}.svg").getroot().tag.endswith("}svg")
    told = capsys.readouterr()
    assert "Findings" in told.out
    line = next(line for line in told.err.splitlines() if line.startswith("observer: drew "))
    assert all(stem in line for stem in WHOLE | ladders) and line.endswith("(png, svg)")
    assert (tmp_path / "out" / "flows.csv").is_file()


def test_formats_can_be_chosen(captures: Path, tmp_path: Path) -> None:
    arguments = ["read", str(captures / "half-close.pcap"), "-o", str(tmp_path), "--plots", "--plot-format", "PNG, pdf"]
    assert main(arguments) == 0
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".png", ".pdf"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plots"], "--plots needs -o DIR"),
        (["-o", "out", "--plot-format", "png"], "it needs --plots"),
        (["-o", "out", "--plots", "--plot-format", "bmp"], "cannot be written as 'bmp'; there are png, svg, pdf"),
        (["-o", "out", "--plots", "--plot-format", ""], "there are png, svg, pdf"),
    ],
)
def test_misuse_is_said_before_anything_is_read(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["read", "not-there.pcap", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and "not-there" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(
    captures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plots").write_text("in the way")
    assert main(["read", str(captures / "half-close.pcap"), "-o", str(tmp_path), "--plots"]) == 2
    assert "cannot write into" in capsys.readouterr().err


def test_of_a_pipe_all_but_ladders_is_drawn(captures: Path, tmp_path: Path) -> None:
    file = captures / "accept-queue-full.pcap"
    arguments = ["read", "-", "-o", str(tmp_path), "--plots", "--plot-format", "png"]
    done = subprocess.run(
        [sys.executable, "-m", "observer", *arguments], input=file.read_bytes(), capture_output=True, check=False,
        cwd=ROOT, env={**os.environ, "MPLBACKEND": "qtagg", "DISPLAY": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert stems(tmp_path / "plots") == WHOLE
    assert b"did not draw ladders" in done.stderr and b"save it to a file" in done.stderr


def test_only_chosen_connections_are_drawn(captures: Path, tmp_path: Path) -> None:
    file = captures / "accept-queue-full.pcap"
    code = "half_established"
    found = observer.read(file).findings
    streams = sorted({int(stream) for stream in found[found.code == code].stream.dropna()})
    arguments = ["read", str(file), "-o", str(tmp_path), "--plots", "--plot-format", "svg", "--finding", code]
    assert main(arguments) == 0
    words = "".join(ElementTree.parse(tmp_path / "plots" / "lanes.svg").getroot().itertext())
    assert f"States of {len(streams)} connections" in words
    assert all(f"{stream}  10." in words for stream in streams), "named as in Wireshark"
    ladders = {int(stem.split("-")[1]) for stem in stems(tmp_path / "plots") if stem.startswith("ladder-")}
    assert ladders and ladders <= set(streams)


def test_nothing_matches_and_is_drawn_as_nothing(captures: Path, tmp_path: Path) -> None:
    arguments = ["read", str(captures / "half-close.pcap"), "-o", str(tmp_path), "--plots", "--host", "192.0.2.1"]
    assert main(arguments) == 0
    assert stems(tmp_path / "plots") == WHOLE


def test_an_empty_capture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "empty.pcap"
    file.write_bytes(bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 01000000"))
    assert main(["read", str(file), "-o", str(tmp_path / "out"), "--plots"]) == 0
    assert stems(tmp_path / "out" / "plots") == WHOLE


def test_without_it_nothing_is_drawn_and_matplotlib_stays_away(captures: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from observer.cli import main; "
        f"main(['read', {str(captures / 'half-close.pcap')!r}, '-o', {str(tmp_path)!r}]); "
        "sys.exit('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert not (tmp_path / "plots").exists()


def test_several_files_are_one_capture(captures: Path, tmp_path: Path) -> None:
    files = [str(captures / name) for name in ("half-close.pcap", "refused.pcap")]
    assert main(["read", *files, "-o", str(tmp_path), "--plots", "--plot-format", "svg"]) == 0
    total = sum(len(observer.read(file).flows) for file in files)
    words = "".join(ElementTree.fromstring((tmp_path / "plots" / "lanes.svg").read_text()).itertext())
    assert f"States of {total} connections" in words
