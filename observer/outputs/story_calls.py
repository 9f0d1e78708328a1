"""What both applications' socket calls did, for a connection's story: a few words beside the lines, sentences below.

Never here: what a call did; that is the table `calls`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy

from observer.outputs.story_sides import ASSUMED, Moment
from observer.outputs.text import Line, clean, plain, wrapped
from observer.schema import ENDPOINTS, NULL_TIME, Coded, Columns

SENTENCES: Final = 8
"""Sentences told of each side unless everything is asked for; the first and the last matter most."""
ORDINARY: Final = ("send() returns as soon as", "recv() returns what")
"""How sentences begin that hold for every connection: told below, not beside the lines."""


class Call(NamedTuple):
    """One row of the table, of calls that share their outcome and their reason."""

    endpoint: int
    names: tuple[str, ...]
    outcome: str
    time_ns: int
    frame: int
    assumed: bool
    sentence: str

    @property
    def words(self) -> str:
        """The sentence without its reasons."""
        return re.split(r": |; | \(", self.sentence, maxsplit=1)[0].rstrip(".")

    @property
    def moment(self) -> Moment:
        """What tells of it: the frame, or the instant of a timer."""
        return self.endpoint, self.frame, self.time_ns if self.frame < 0 else 0

    @property
    def ordinary(self) -> bool:
        """Whether it says what holds for every connection."""
        return self.outcome == "ok" and self.sentence.startswith(ORDINARY)


def calls_of(calls: Columns) -> list[Call]:
    """Return the rows, those of recv() and send() that fail alike as one."""
    names = ("endpoint", "call", "time", "frame", "certainty")
    raw = [numpy.asarray(calls.get(name, numpy.full(calls.rows, -1))).tolist() for name in names]
    categories = _categories("call")
    found: list[Call] = []
    for endpoint, call, time_ns, frame, certainty, outcome, text in zip(
        *raw, _texts(calls["outcome"]), _texts(calls["summary"]), strict=True
    ):
        name = categories[call]
        one = Call(endpoint, (name,), outcome, time_ns, frame, certainty == ASSUMED, clean(text))
        before = found[-1] if found else None
        if before is not None and _alike(before, one):
            together = f"{before.names[0]}() and {name}() fail" + one.sentence.removeprefix(f"{name}() fails")
            found[-1] = before._replace(names=(*before.names, name), sentence=together)
        else:
            found.append(one)
    return found


def _categories(name: str) -> Sequence[str]:
    from observer.schema import table

    return table("calls").column(name).categories


def _alike(before: Call, one: Call) -> bool:
    """Whether two calls of an endpoint fail for the same reason at the same moment."""
    same = before[:1] + before[2:5] == one[:1] + one[2:5] and len(before.names) == 1
    rests = [call.sentence.removeprefix(f"{call.names[0]}() fails") for call in (before, one)]
    return same and rests[0] == rests[1] and rests[0] != before.sentence


def render_calls(
    calls: Sequence[Call], times: Mapping[int, str], width: int, *, everything: bool = False
) -> Iterator[Line]:
    """Lay the sentences out by endpoint; times: how each instant (ns) is written."""
    if not calls:
        return
    yield plain("What the applications' calls did, as far as the wire tells", "title")
    longest = max(len(text) for text in times.values())
    for number, side in enumerate(ENDPOINTS):
        mine = [call for call in calls if call.endpoint == number]
        cut = 0 if everything or len(mine) <= SENTENCES + 1 else len(mine) - SENTENCES
        for i, call in enumerate(mine):
            if cut and SENTENCES // 2 <= i < SENTENCES // 2 + cut:
                if i == SENTENCES // 2:
                    yield plain(f"          {'...':>{longest}}  {cut:,} more (--all)", "dim")
                continue
            begin = f"  {side if i == 0 else '':<6}  {times.get(call.time_ns, ''):>{longest}}  "
            words = f"{call.sentence}{' (assumed)' if call.assumed else ''}".split(" ")
            for line in wrapped([begin + words[0], *words[1:]], width, " " * len(begin)):
                yield plain(line)


def known_times(calls: Sequence[Call]) -> list[int]:
    """Return the instants of calls that have one."""
    return [call.time_ns for call in calls if call.time_ns != NULL_TIME]


def _texts(raw: Any) -> list[str]:
    if isinstance(raw, Coded):
        return [raw.values[code] if code >= 0 else "" for code in numpy.asarray(raw.codes).tolist()]
    return [str(text) for text in raw]
