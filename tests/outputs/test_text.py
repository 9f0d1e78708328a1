"""Words and numbers for people."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.outputs import text


@given(st.text())
def test_nothing_that_acts_on_a_terminal_comes_through(anything: str) -> None:
    cleaned = text.clean(anything)
    assert cleaned.isprintable()
    assert text.clean(cleaned) == cleaned


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\u200b", "\udc80", "\r\n", "\x00"])
def test_controls_are_shown(bad: str) -> None:
    assert bad not in text.clean("a" + bad) and "\\" in text.clean("a" + bad)


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (0, "0 s"), (1, "1 ns"), (999, "999 ns"), (1_500, "1.5 us"), (999_499, "999 us"), (999_500, "1 ms"),
        (999_600_000, "1 s"), (12_200_000_000, "12.2 s"), (125 * 10**9, "2 min 5 s"), (3_000 * 10**9, "50 min"),
        (7_200 * 10**9, "2 h 0 min"), (400_000 * 10**9, "4 d 15 h"), (-1_500, "-1.5 us"),
    ],
)  # fmt: skip
def test_duration(nanoseconds: int, words: str) -> None:
    assert text.duration(nanoseconds) == words


@given(st.integers(0, 10**19))
def test_octets_have_three_digits(number: int) -> None:
    value, unit = text.octets(number).split()
    assert (unit in {"B", "kB", "MB", "GB", "TB", "PB"} and "e" not in value) or number >= 10**18


def test_times_before_1970_are_times() -> None:
    assert text.utc(-1, 9) == "1969-12-31 23:59:59.999999999 UTC"


@given(st.lists(st.text("abc", min_size=1, max_size=30)), st.integers(31, 80), st.sampled_from([" ", ", ", "; "]))
def test_wrapped_lines_fit_and_keep_everything(items: list[str], width: int, separator: str) -> None:
    lines = text.wrapped(items, width, "", separator)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "").replace(separator.strip(), "") == "".join(items)


def test_plain_text_without_a_terminal() -> None:
    file = io.StringIO()
    text.show([(("a", "title"), ("b  ", "problem")), ()], file)
    assert file.getvalue() == "ab\n\n"


def test_an_ascii_locale_gets_ascii() -> None:
    octets = io.BytesIO()
    file = io.TextIOWrapper(octets, encoding="ascii")
    text.show([text.plain("caf\u00e9")], file)
    assert octets.getvalue() == b"caf?\n"


def test_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    text.show([text.plain("[bold]x[/bold] 12", "problem")], file)
    assert "\x1b[" in file.getvalue() and "[bold]x[/bold] 12" in file.getvalue()
