"""The state machine for people: the transition table as text, Markdown, or a Graphviz drawing.

Never here: the machine itself; it comes as data (the rows of tcp/states.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from observer.outputs.text import PLAIN_WIDTH, Line, plain, state_words, wrapped

SHARED: Final = 8
"""A row that holds alike for so many states is told once for all of them."""


class Row(Protocol):
    """One row of the machine: codes of states and event, then why and where it is written."""

    @property
    def state(self) -> int:
        """Give the state before."""

    @property
    def event(self) -> int:
        """Give the event."""

    @property
    def to(self) -> int:
        """Give the state after."""

    @property
    def reason(self) -> str:
        """Say why."""

    @property
    def source(self) -> str:
        """Say where that is written."""


class Cell(NamedTuple):
    """One line of the table, in words."""

    state: str
    event: str
    to: str
    reason: str
    source: str


def cells(rows: Sequence[Row], states: Sequence[str], events: Sequence[str]) -> list[Cell]:
    """Turn rows into words; what holds alike for many states becomes one line "any state"."""
    alike: dict[tuple[int, int, str], int] = {}
    for row in rows:
        key = (row.event, row.to, row.reason)
        alike[key] = alike.get(key, 0) + 1
    told: list[Cell] = []
    for row in rows:
        shared = alike[row.event, row.to, row.reason] >= SHARED
        state = "any other state" if shared else state_words(states[row.state])
        cell = Cell(state, events[row.event], state_words(states[row.to]), row.reason, row.source)
        if cell not in told:
            told.append(cell)
    order = [*map(state_words, states), "any other state"]
    return sorted(told, key=lambda cell: order.index(cell.state))


def render_states(
    rows: Sequence[Row],
    states: Sequence[str],
    events: Sequence[str],
    *,
    width: int = PLAIN_WIDTH,
) -> Iterator[Line]:
    """Lay the table out as lines, a paragraph for each state."""
    told = cells(rows, states, events)
    left = max(len(cell.event) for cell in told)
    right = max(len(cell.to) for cell in told)
    title = "What moves one endpoint from state to state. Anything that is not here changes nothing."
    for line in wrapped(title.split(), width, ""):
        yield plain(line, "title")
    state = ""
    for cell in told:
        if cell.state != state:
            state = cell.state
            yield ()
            yield plain(state, "name")
        begin = f"  {cell.event:<{left}}  -> {cell.to:<{right}}  "
        words = [*cell.reason.split(), f"({cell.source})"]
        for line in wrapped([begin + words[0], *words[1:]], width, " " * len(begin)):
            yield plain(line)


def markdown_states(rows: Sequence[Row], states: Sequence[str], events: Sequence[str]) -> Iterator[Line]:
    """Lay the table out as Markdown."""
    yield plain("| state | event | new state | why | source |")
    yield plain("|---|---|---|---|---|")
    for cell in cells(rows, states, events):
        yield plain(f"| {cell.state} | `{cell.event}` | {cell.to} | {cell.reason} | {cell.source} |")


def dot_states(rows: Sequence[Row], states: Sequence[str], events: Sequence[str]) -> Iterator[Line]:
    """Draw the machine for Graphviz; what leads from any state to CLOSED is left out, it would hide the rest."""
    yield plain("digraph tcp {")
    yield plain('  rankdir=TB; node [shape=box, style=rounded, fontname="sans-serif"]; edge [fontname="monospace"];')
    for cell in cells(rows, states, events):
        if cell.state != "any other state":
            yield plain(f'  "{cell.state}" -> "{cell.to}" [label="{cell.event}"];')
    yield plain("}")
