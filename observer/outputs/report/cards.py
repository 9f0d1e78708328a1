"""Findings as cards of a report: what, where, who, since when, on which frames, and what to do.

Never here: which findings belong together (see `outputs.grouping`), markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from observer.outputs.findings_text import absorbed_words, grades_words, sentence, when_words
from observer.outputs.grouping import Group
from observer.outputs.report.facts import heading
from observer.outputs.text import count
from observer.registry import Finding, collect

CARDS: Final = 24
"""Groups that are told in full."""
SHORT: Final = 60
"""Groups that are told in a line after those."""
LADDERS: Final = 6
"""Connections of which the ladder is drawn: some 50 kB and a third of a second each."""
FRAMES: Final = 12
"""Frame numbers of evidence that are named."""


class Card(NamedTuple):
    """A group of findings in words.

    Attributes
    ----------
    number
        Of the card on the page, from 1.
    severity, grade, code, title
        What, where, and how sure.
    text
        The worst one's sentence.
    more
        Sentences about cause, what it explains, grades.
    who, when
        The endpoint concerned; begin and end, relative and absolute.
    frames
        Evidence, in words.
    filter, filter_note
        Wireshark's display filter, and what it shows beside.
    remedy, unknown
        What to do, and what this tap cannot tell.
    definition, source
        What the code means in general, and where its criteria come from.
    connections
        How many connections are concerned.
    example
        The worst one; None: no connection is named.
    ladder
        Whether its picture stands in this card; other cards of the same example refer to it.
    """

    number: int
    severity: str
    grade: str
    code: str
    title: str
    text: str
    more: list[str]
    who: str
    when: str
    frames: str
    filter: str
    filter_note: str
    remedy: str
    unknown: list[str]
    definition: str
    source: str
    connections: int
    example: int | None
    ladder: bool


def cards(groups: Sequence[Group], begin_ns: int, drawn: Sequence[int]) -> list[Card]:
    """Turn groups of findings, the worst first, into cards.

    Parameters
    ----------
    groups
        From `grouping.group`.
    begin_ns
        Time of the first frame, for relative times.
    drawn
        Connections of which there is a ladder.
    """
    known = collect(Finding)
    made: list[Card] = []
    placed: set[int] = set()
    for number, one in enumerate(groups, 1):
        here = one.example in drawn and one.example not in placed
        if here and one.example is not None:
            placed.add(one.example)
        made.append(_card(number, one, begin_ns, known.get(one.code), ladder=here))
    return made


def _card(number: int, one: Group, begin_ns: int, kind: Finding | None, *, ladder: bool) -> Card:
    of_many = one.findings > 1 and one.example is not None and not one.population
    shows = {"some": "shows the first of them", "more": "shows others of the same hosts and ports, too"}
    more = [f"Cause: {sentence(one.cause_meaning)}"] if one.cause_meaning else []
    return Card(
        number=number,
        severity=one.severity,
        grade=one.grade,
        code=one.code,
        title=heading(one),
        text=(f"Stream {one.example}: " if of_many else "") + one.summary,
        more=[text for text in (*more, absorbed_words(one), grades_words(one)) if text],
        who=f"{one.endpoint} side" if one.endpoint else "",
        when=" ".join(when_words(one._replace(endpoint=None), begin_ns)),
        frames=_frames(one),
        filter=one.filter,
        filter_note=shows.get(one.filter_shows, "") if one.streams else "",
        remedy=one.remedy or "",
        unknown=[sentence(text) for text in one.unknown],
        definition=kind.definition if kind else "",
        source=kind.source if kind else "",
        connections=one.connections,
        example=one.example,
        ladder=ladder,
    )


def _frames(one: Group) -> str:
    named = sorted(one.frames[:FRAMES])
    if not named:
        return ""
    more = one.frame_count - len(named)
    rest = f" and {more:,} more" if more > 0 else ""
    return ("frame " if one.frame_count == 1 else "frames ") + ", ".join(map(str, named)) + rest


def to_draw(groups: Sequence[Group]) -> list[int]:
    """Return the connections whose ladders are worth drawing: the worst of each kind, then of each place."""
    kinds: set[tuple[str, str | None, str | None]] = set()
    first: list[int] = []
    further: list[int] = []
    for one in groups[:CARDS]:
        if one.example is None:
            continue
        kind = (one.code, one.cause, one.endpoint)
        (further if kind in kinds else first).append(one.example)
        kinds.add(kind)
    return list(dict.fromkeys(first + further))[:LADDERS]


def rest_words(groups: Sequence[Group]) -> str:
    """Say how many groups are not told at all; "" if all are."""
    rest = groups[CARDS + SHORT :]
    if not rest:
        return ""
    findings = count(sum(one.findings for one in rest), "further finding")
    return f"{findings} in {count(len(rest), 'group')} are not told here: observer read -o DIR writes all of them."
