"""The same judging again and again, as a live observation needs it: only what changed is looked at.

What was read of connections that did not change since the last look is taken from there, and what was said of those
that ended some time ago stands.  What depends on time, and on all connections together, is judged anew each time.

Never here: a criterion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy

from observer.findings.around import Crowd
from observer.findings.case import Case, Step
from observer.findings.judging import PART_ROWS, Judging
from observer.findings.source import Source
from observer.findings.survey import Spans
from observer.findings.table import columns_of
from observer.findings.verdict import Verdict
from observer.schema import ENDINGS, Columns

Array = Any

GAP: Final = 256
"""Connections between two that changed which are looked at too: one piece costs less than two."""
STANDS_NS: Final = 30_000_000_000
"""So long after its last segment, what was said of a connection that ended stands: its neighbours have shown by then
whether others of its listener work."""
OPEN: Final = ENDINGS.index("open")


class Memory:
    """What a look leaves for the next one.  Forget it when connections get other numbers."""

    def __init__(self) -> None:
        self.count = 0
        self.crowd: Crowd | None = None
        self.rows: dict[int, dict[str, int]] = {}
        self.steps: dict[int, tuple[list[Step], list[Step]]] = {}
        self.spans: dict[str, Spans] = {}
        self.verdicts: dict[int, list[tuple[str, Verdict]]] = {}


class Again(Judging):
    """Judges with what is known from the last time.

    Parameters
    ----------
    source
        The observation as it is now: the same connections under the same numbers, and new ones behind them.
    memory
        Of the last look; it is brought up to date.
    changed
        bool, for each connection of the last look at least: whether anything was seen of it since, or a timer ran out.
    """

    def __init__(self, source: Source, memory: Memory, changed: Array) -> None:
        count = source.columns("flows").rows
        self._memory = memory
        self._changed = numpy.ones(count, bool)
        known = min(memory.count, len(changed), count)
        self._changed[:known] = changed[:known]
        self._pieces = list(_pieces(self._changed))
        self._looked_at = numpy.zeros(count, bool)
        for start, stop in self._pieces:
            self._looked_at[start:stop] = True
        super().__init__(source)
        memory.count, memory.crowd, memory.rows, memory.steps = count, self.around.crowd, self._rows, self._steps
        memory.spans = self.spans

    def _parts(self, count: int) -> Iterator[tuple[int, int]]:
        return iter(self._pieces)

    def _recall_rows(self) -> dict[int, dict[str, int]]:
        return {stream: row for stream, row in self._memory.rows.items() if not self._looked_at[stream]}

    def _recall_steps(self) -> dict[int, tuple[list[Step], list[Step]]]:
        return {stream: steps for stream, steps in self._memory.steps.items() if not self._looked_at[stream]}

    def _recall_crowd(self, crowd: Crowd) -> None:
        if self._memory.crowd is not None:
            for new, old in zip(crowd, self._memory.crowd, strict=True):
                new[: len(old)] = old

    def _recall_spans(self, state: str) -> list[Spans]:
        if state not in self._memory.spans:
            return []
        spans = self._memory.spans[state]
        kept = ~self._looked_at[spans.stream]
        spans = Spans(*(column[kept] for column in spans))
        return [spans._replace(end=numpy.where(spans.still, self.source.end_ns, spans.end))]

    def _recall_verdicts(self, case: Case) -> list[tuple[str, Verdict]] | None:
        if self._looked_at[case.stream] or case.flow["ended"] == OPEN:
            return None
        if case.flow["last_time"] > self.source.end_ns - STANDS_NS:
            return None
        return self._memory.verdicts.get(case.stream)

    def _learn(self, case: Case, said: list[tuple[str, Verdict]]) -> None:
        self._memory.verdicts[case.stream] = said


def _pieces(changed: Array) -> Iterator[tuple[int, int]]:
    """Give runs of connections that hold all that changed: first, and the one behind the last."""
    places = numpy.flatnonzero(changed)
    if not len(places):
        return
    for run in numpy.split(places, numpy.flatnonzero(numpy.diff(places) > GAP) + 1):
        for start in range(int(run[0]), int(run[-1]) + 1, PART_ROWS):
            yield start, min(start + PART_ROWS, int(run[-1]) + 1)


def find_again(source: Source, memory: Memory, changed: Array) -> Columns:
    """Raw columns of the table of findings, as `table.find` makes them; parameters as of `Again`."""
    judging = Again(source, memory, changed)
    return columns_of(judging.verdicts(), judging.around.addresses)
