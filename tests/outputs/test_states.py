"""The printed state machine says every row of the table, and nothing else."""

from __future__ import annotations

import pytest

from observer.outputs.states import cells, dot_states, markdown_states, render_states
from observer.outputs.text import state_words
from observer.tcp.states import EVENTS, STATES, TRANSITIONS


def test_every_row_is_told() -> None:
    told = cells(TRANSITIONS, STATES, EVENTS)
    pairs = {(cell.state, cell.event, cell.to) for cell in told}
    for row in TRANSITIONS:
        event, to = EVENTS[row.event], state_words(STATES[row.to])
        assert (state_words(STATES[row.state]), event, to) in pairs or ("any other state", event, to) in pairs
    assert len(told) <= len(TRANSITIONS)


@pytest.mark.parametrize("width", [70, 80, 120])
def test_text_fits_and_names_sections(width: int) -> None:
    page = ["".join(text for text, _ in line) for line in render_states(TRANSITIONS, STATES, EVENTS, width=width)]
    assert all(len(line) <= width for line in page)
    assert "SYN-RECEIVED" in page and any("RFC 9293 3.10.7.4" in line for line in page)


def test_markdown_and_drawing() -> None:
    table = ["".join(text for text, _ in line) for line in markdown_states(TRANSITIONS, STATES, EVENTS)]
    assert all(line.count("|") == 6 for line in table)
    drawing = ["".join(text for text, _ in line) for line in dot_states(TRANSITIONS, STATES, EVENTS)]
    assert drawing[0] == "digraph tcp {" and drawing[-1] == "}"
    assert '  "SYN-SENT" -> "ESTABLISHED" [label="rcv_synack"];' in drawing
