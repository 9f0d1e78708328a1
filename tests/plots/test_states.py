"""The state diagram: every row of the machine is drawn or told, and counts are those of the transitions."""

from __future__ import annotations

import io
from typing import Any

import pytest

import observer
from observer.errors import OptionError
from observer.plots.states import PLACES, SHARED, counted, edges, states
from observer.schema import STATES
from observer.tcp.states import EVENTS, MACHINE, TRANSITIONS
from tests.plots.conversation import Conversation, labelled, queue_full, words_of


def labels(ax: Any) -> list[str]:
    """Texts at arrows, which stand in boxes of their own."""
    from matplotlib.offsetbox import TextArea

    return [area.get_text() for area in ax.findobj(TextArea)]


def test_every_row_of_the_machine_is_drawn_or_shared() -> None:
    drawn, beside = edges(MACHINE, None)
    shown = {(edge.before, edge.after, event) for edge in drawn for event in edge.events}
    shared = [row for row in TRANSITIONS if (STATES[row.state], STATES[row.to], EVENTS[row.event]) not in shown]
    assert shared and not beside
    for row in shared:
        like = [other for other in TRANSITIONS if (other.event, other.to) == (row.event, row.to)]
        assert len(like) >= SHARED and STATES[row.to] == "CLOSED"
    assert set(STATES) < set(PLACES)


def test_counts_are_those_of_the_table(captures: Any) -> None:
    observation = observer.read(captures / "simultaneous-close.pcap")
    table = observation.transitions[observation.transitions.certainty != "retracted"]
    happened = counted(observation)
    for (before, after, cause), both in happened.steps.items():
        rows = table[(table.from_state == before) & (table.to_state == after) & (table.cause == cause)]
        assert both == ((rows.endpoint == "client").sum(), (rows.endpoint == "server").sum())
    assert sum(map(sum, happened.steps.values())) == len(table)
    drawn, beside = edges(MACHINE, happened)
    assert sum(sum(edge.counts) for edge in [*drawn, *beside]) == len(table), "every transition is on the picture"


def test_retracted_ones_are_left_out_and_said() -> None:
    observation = queue_full().read()
    happened = counted(observation)
    assert happened.retracted == 1
    assert ("SYN_RECEIVED", "ESTABLISHED", "rcv_ack_of_syn") not in happened.steps
    assert "1 retracted left out" in states(observation).get_title(loc="left")


def test_both_sides_have_their_arrows_and_numbers() -> None:
    talks = Conversation()
    for port in range(40000, 40003):
        one = Conversation(port).opening().closing()
        talks.packets += one.packets
    observation = talks.read()
    ax = states(observation)
    assert len(labelled(ax, "_edge client")) and len(labelled(ax, "_edge server"))
    for happened in ("snd_syn", "rcv_synack", "snd_fin", "rcv_fin"):
        assert happened in labels(ax)
    assert labels(ax).count("C 3") >= 4 and labels(ax).count("S 3") >= 4
    assert "3 connections" in ax.get_title(loc="left")
    assert any("end:" in words and "C 3" in words for words in words_of(ax))
    widths = {patch.get_linewidth() for patch in labelled(ax, "_edge none")}
    assert widths and max(widths) < min(patch.get_linewidth() for patch in labelled(ax, "_edge client"))


def test_resets_are_told_beside_their_state() -> None:
    ax = states(Conversation().opening().send(1, "RA").read())
    told = [text.get_text() for text in labelled(ax, "_beside")]
    assert any("snd_rst  S 1" in words for words in told)
    assert any("rcv_rst  C 1" in words for words in told)


def test_the_machine_alone() -> None:
    ax = states(machine=MACHINE)
    assert len(labelled(ax, "_state ")) == len(STATES) + 1
    assert "snd_syn" in labels(ax) and not any(text.startswith(("C ", "S ")) for text in labels(ax))
    with pytest.raises(OptionError, match="machine"):
        states()


def test_a_transition_that_the_machine_lacks_is_not_hidden() -> None:
    happened = counted(Conversation().opening().read())._replace(steps={("LISTEN", "CLOSING", "odd"): (2, 0)})
    drawn, _ = edges(MACHINE, happened)
    assert [edge.counts for edge in drawn if (edge.before, edge.after) == ("LISTEN", "CLOSING")] == [(2, 0)]


def test_an_empty_capture_can_be_drawn() -> None:
    header = bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 01000000")
    assert "0 connections" in states(observer.read(io.BytesIO(header))).get_title(loc="left")
