"""Words and numbers for people: cleaned names, quantities with units, times, lines with styles.

What a capture holds (file names, comments) never reaches a terminal as it stands: `clean` shows control, bidirectional
and invisible characters as escapes.

Never here: what is said.  Sources: Unicode general categories; ISO 8601; SI prefixes.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

if typing.TYPE_CHECKING:
    from rich.text import Text

Span = tuple[str, str]
"""A text and the name of its style ("" for none)."""
Line = Sequence[Span]

PLAIN_WIDTH: Final = 80
"""Columns that are enough where there is no terminal to ask."""
WIDEST: Final = 120
"""Longer lines are hard to read, however wide the terminal is."""
STYLES: Final = {
    "title": "bold", "dim": "dim", "good": "green", "warning": "yellow", "problem": "bold red", "state": "cyan",
    "name": "bold",
}  # fmt: skip


def clean(text: str) -> str:
    r"""Show characters that could act on a terminal, or hide, as escapes.

    Examples
    --------
    >>> clean("a\x1b[31mb\u202ec")
    'a\\x1b[31mb\\u202ec'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def state_words(name: str) -> str:
    """Return a state as RFC 9293 spells it: TIME_WAIT is TIME-WAIT."""
    return name.replace("_", "-")


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count(1, "frame"), count(12041, "frame"), count(2, "reply", "replies")
    ('1 frame', '12,041 frames', '2 replies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def octets(number: int) -> str:
    """Return a number of octets with a prefix: three digits say enough.

    Examples
    --------
    >>> octets(0), octets(999), octets(1500), octets(4_300_000_000)
    ('0 B', '999 B', '1.5 kB', '4.3 GB')
    """
    value, prefixes = float(number), iter(("", "k", "M", "G", "T", "P"))
    prefix = next(prefixes)
    while value >= 999.5 and prefix != "P":
        value, prefix = value / 1000, next(prefixes)
    return f"{number} B" if not prefix else f"{value:.3g} {prefix}B"


def percent(part: int, whole: int) -> str:
    """Return a share with as many digits as say something.

    Examples
    --------
    >>> percent(1, 3), percent(2, 300), percent(1, 10**6), percent(0, 0)
    ('33 %', '0.7 %', '<0.1 %', '0 %')
    """
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "<0.1 %"
    return f"{share:.1f} %" if 0 < share < 9.95 else f"{share:.0f} %"


def duration(nanoseconds: int) -> str:
    """Return a span of time in the unit in which people say it.

    Examples
    --------
    >>> duration(21_600_000), duration(12_200_000_000), duration(7_500_000_000_000), duration(0)
    ('21.6 ms', '12.2 s', '2 h 5 min', '0 s')
    """
    if nanoseconds < 0:
        return "-" + duration(-nanoseconds)
    for limit, unit, divisor in ((1_000, "ns", 1), (999_500, "us", 1_000), (999_500_000, "ms", 1_000_000)):
        if 0 < nanoseconds < limit:
            return f"{nanoseconds / divisor:.3g} {unit}"
    seconds = nanoseconds / 1e9
    if seconds < 119.95:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 120 and seconds < 7170:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds < 600 else f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def utc(time_ns: int, digits: int = 0) -> str:
    """Return an instant as date and time in UTC.

    Examples
    --------
    >>> utc(1_795_227_123_123_456_789), utc(1_795_227_123_123_456_789, 6)
    ('2026-11-21 02:12:03 UTC', '2026-11-21 02:12:03.123456 UTC')
    """
    from datetime import datetime, timedelta

    seconds, rest = divmod(time_ns, 10**9)
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    fraction = f".{rest:09d}"[: digits + 1] if digits else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} UTC"


def endpoint(address: str, port: int) -> str:
    """Return address and port, an IPv6 address in brackets (RFC 5952 6)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def wrapped(items: Iterable[str], width: int, indent: str = "  ", separator: str = " ") -> list[str]:
    """Break items, never inside one, into lines of at most `width` columns; lines after the first are indented."""
    lines: list[str] = []
    mark = len(separator.rstrip())  # stands at the end of a broken line
    for item in items:
        if lines and len(lines[-1]) + len(separator) + len(item) + mark <= width:
            lines[-1] += separator + item
        elif lines:
            lines[-1] += separator.rstrip()
            lines.append(indent + item)
        else:
            lines.append(item)
    return lines


def plain(text: str, style: str = "") -> Line:
    """Make a line of one style."""
    return ((text, style),)


def terminal_width(file: TextIO) -> int:
    """Return how many columns to use: the terminal's or COLUMNS, 80 without either."""
    import os
    import shutil

    if not (file.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return PLAIN_WIDTH
    return max(40, min(shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, WIDEST))


def show(lines: Iterable[Line], file: TextIO | None = None) -> None:
    """Print lines: in colour on a terminal, as plain text elsewhere (NO_COLOR is honoured by rich)."""
    file = file or sys.stdout
    if not file.isatty():
        # surrogates cannot get here (see clean), but the locale may be ASCII
        encoding = file.encoding or "utf-8"
        text = "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)
        file.write(text.encode(encoding, "replace").decode(encoding))
        file.flush()
        return
    from rich.console import Console

    console = Console(file=file, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(_rich(line))


def _rich(line: Line) -> Text:
    from rich.text import Text

    text = Text()
    for part, style in line:
        text.append(part, STYLES.get(style, ""))
    return text
