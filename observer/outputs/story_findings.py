"""What was found of a connection, at the head of its story; its evidence is marked at the frames.

Never here: what findings have in common (see `grouping`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from observer.outputs.findings_text import STYLES, title_of
from observer.outputs.grouping import Group
from observer.outputs.text import Line, clean, plain, wrapped

MARK: Final = "*"
"""Stands behind the number of an evidence frame."""
LEGEND: Final = f"{MARK} evidence of a finding above"


def evidence_of(groups: Sequence[Group]) -> frozenset[int]:
    """Return the frames of evidence of findings of the connection itself."""
    return frozenset(frame for one in groups if not one.population for frame in one.frames)


def render_head(groups: Sequence[Group], width: int) -> Iterator[Line]:
    """Lay out the findings of one connection, and of which populations it is a part."""
    if not groups:
        yield plain("  no findings", "good")
    margin = " " * 11
    for one in groups:
        title = f"part of {title_of(one)}" if one.population else one.title
        first, *more = wrapped([f"{margin}{one.grade}", "", *clean(title).split(" ")], width, margin)
        yield ((f"  {one.severity.upper():<9}", STYLES[one.severity]), (first[len(margin) :], "name"))
        for line in more:
            yield plain(line, "name")
        texts = [] if one.population else [one.summary]
        texts += [f"Remedy: {one.remedy}"] * bool(texts and one.remedy and one.severity != "info")
        for text in texts:
            for line in wrapped([margin + clean(text).split(" ")[0], *clean(text).split(" ")[1:]], width, margin):
                yield plain(line, "good" if text.startswith("Remedy") else "")
