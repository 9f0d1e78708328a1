"""README.md is true: its commands run and print what stands there, its Python runs, its lists are complete.

After a change of the output:  OBSERVER_UPDATE_README=1 python -m pytest tests/test_readme.py
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from observer.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Command(NamedTuple):
    """A command of a console block and what is said to follow; a line ``...`` stands for any lines."""

    command: str
    output: str


def blocks(language: str) -> list[str]:
    return [text for found, text in FENCE.findall(README.read_text()) if found == language]


def commands(block: str) -> list[Command]:
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [Command(*part.partition("\n")[::2]) for part in parts]


SETUP = [command for block in blocks("console")[:2] for command in commands(block)]
TOUR = [command for block in blocks("console")[2:] for command in commands(block)]


def run(command: str, folder: Path) -> str:
    """What a command of the tour prints, without what it says to standard error."""
    name, *arguments = shlex.split(command)
    assert name == "observer"
    (folder / "captures").symlink_to(ROOT / "captures")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "observer", *arguments],
        capture_output=True, text=True, check=False, cwd=folder, timeout=600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_begins_with_two_commands() -> None:
    """.ci/run runs them; here only their form is looked at."""
    install, test = SETUP
    assert install.command.startswith("python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/observer read ")
    capture = install.command.split("observer read ")[1].split()[0]
    assert (ROOT / capture).is_file()
    assert test.command.startswith(".venv/bin/pip install '.[test]' && .venv/bin/python -m pytest")


@pytest.mark.parametrize("command", TOUR, ids=lambda command: command.command)
def test_command_prints_what_stands_there(command: Command, tmp_path: Path) -> None:
    got = run(command.command, tmp_path)
    if os.environ.get("OBSERVER_UPDATE_README") and "..." not in command.output.splitlines():
        text = README.read_text()
        README.write_text(text.replace(f"$ {command.command}\n{command.output}", f"$ {command.command}\n{got}", 1))
        return
    wanted = re.sub(r"^\.\.\.$", "...", command.output, flags=re.MULTILINE)
    flags = doctest.ELLIPSIS if "..." in command.output.splitlines() else 0
    assert doctest.OutputChecker().check_output(wanted, got, flags), f"wanted:\n{wanted}\ngot:\n{got}"


def test_findings_are_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is what `observer findings --markdown` prints."""
    assert main(["findings", "--markdown"]) == 0
    wanted = capsys.readouterr().out
    text = README.read_text()
    begin = text.index(wanted.split("\n", 1)[0])
    there = text[begin : text.index("\n\n", begin) + 1]
    if os.environ.get("OBSERVER_UPDATE_README"):
        README.write_text(text.replace(there, wanted, 1))
        return
    assert there == wanted, "run: OBSERVER_UPDATE_README=1 python -m pytest tests/test_readme.py"


def test_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    space: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), space)
    printed = capsys.readouterr().out
    assert "SYN_RECEIVED" in printed
    assert "conn_state" in printed
    assert "half_established" in printed and "ECONNRESET" in printed


def test_architecture_names_every_part() -> None:
    listing = next(text for text in blocks("") if text.startswith("observer/\n"))
    named = set(re.findall(r"^  (\S+)", listing, re.MULTILINE))
    there = {path.name + ("/" if path.is_dir() else "") for path in (ROOT / "observer").iterdir()}
    there -= {"__init__.py", "__main__.py", "__pycache__/", "py.typed"}
    assert named == there


def test_dependencies_are_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [re.split(r"[<>=\[]", dependency)[0] for dependency in project["dependencies"]]
    section = README.read_text().split("## Dependencies")[1].split("\n## ")[0]
    explained = re.findall(r"^\| (\S+) \|", section, re.MULTILINE)
    assert sorted(explained[1:]) == sorted(wanted)


def test_extras_are_explained() -> None:
    """Every extra is named, and every package of it but what types and times the tests."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    said = README.read_text().split("## Dependencies")[1].split("\nExtras: ")[1].split("\n\n")[0].lower()
    for extra, packages in extras.items():
        assert f"`{extra}`" in said
        for package in packages:
            name = re.split(r"[<>=\[]", package)[0].lower()
            assert name in said or name in ("pytest-cov", "pytest-timeout", "pandas-stubs", "dask"), name


def test_paths_exist() -> None:
    for path in re.findall(r"`((?:tests|captures|notebooks|\.ci)/[\w./-]*)`", README.read_text()):
        assert (ROOT / path).exists(), path
