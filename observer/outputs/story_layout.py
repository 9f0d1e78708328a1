"""Lines of a story in columns: time, client's state, frame and segment as an arrow, server's state, notes.

Never here: what is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from observer.outputs.text import Line, plain, wrapped


class Entry(NamedTuple):
    """One line of the story."""

    time: str
    client: str
    frame: str
    words: str
    toward_server: bool | None  # None: no segment
    server: str
    notes: list[str]
    quiet: bool


def layout(entries: list[Entry], width: int) -> Iterator[Line]:
    """Lay the lines out in columns; notes stand beside a line where there is room, under it otherwise."""
    real = [entry for entry in entries if entry.client]
    time = max([len("time s"), *(len(entry.time) for entry in real)])
    client = max([len("client"), *(len(entry.client) for entry in real)])
    server = max([len("server"), *(len(entry.server) for entry in real)])
    frame = max([len("frame"), *(len(entry.frame) for entry in real)])
    longest = max([20, *(len(entry.words) for entry in real if entry.toward_server is not None)])
    room = width - (time + client + frame + server)
    gap = "  " if longest + 4 + 10 <= room else " "
    words = max(25, min(longest + 8, room - 5 * len(gap)))
    head = gap + gap.join(
        [f"{'time s':>{time}}", f"{'client':<{client}}", f"{'frame':>{frame}}", " " * words, "server"]
    )
    yield plain(head, "dim")
    for each in entries:
        entry = each
        if not entry.client:
            begin, indent = f"{gap}{entry.time:>{time}}{gap}", " " * (time + 2 * len(gap))
            for text in wrapped([begin + entry.words.split(" ")[0], *entry.words.split(" ")[1:]], width, indent):
                yield plain(text, "dim")
            continue
        entry = _fitted(entry, words if entry.frame else frame + len(gap) + words)
        middle = _arrow(entry, words)
        left = f"{gap}{entry.time:>{time}}{gap}"
        right = f"{gap}{entry.frame:>{frame}}{gap}{middle:<{words}}{gap}"
        if not entry.frame:  # a timer: its words may begin where frame numbers stand
            right = f"{gap}{entry.words:<{frame + len(gap) + words}}{gap}"
        length = len(left) + client + len(right) + server
        style = "" if entry.quiet else "state"
        notes = "; ".join(entry.notes)
        line = [(left, "dim"), (f"{entry.client:<{client}}", style), (right, ""), (f"{entry.server:<{server}}", style)]
        beside = notes and length + 2 + len(notes) <= width
        yield [*line, ("  " + notes, "")] if beside else line
        if notes and not beside:
            indent = " " * (len(left) + client + frame + 2 * len(gap))
            for text in wrapped([indent + notes.split(" ")[0], *notes.split(" ")[1:]], width, indent):
                yield plain(text, "warning")


def _fitted(entry: Entry, width: int) -> Entry:
    """Move words that do not fit into their column to the notes."""
    if entry.toward_server is None:
        return entry if len(entry.words) <= width else entry._replace(words="", notes=[entry.words, *entry.notes])
    words = entry.words
    rest: list[str] = []
    while len(words) + 3 > width and " " in words:
        words, _, last = words.rpartition(" ")
        rest.insert(0, last)
    if rest and rest[0].isdigit():  # a number stays with its name
        words, _, last = words.rpartition(" ")
        rest.insert(0, last)
    return entry._replace(words=words, notes=[" ".join(rest), *entry.notes]) if rest else entry


def _arrow(entry: Entry, width: int) -> str:
    """Draw a segment from side to side."""
    if entry.toward_server is None:
        return entry.words
    dashes = "-" * (width - len(entry.words) - 2)
    return f"{entry.words} {dashes}>" if entry.toward_server else f"<{dashes} {entry.words}"
