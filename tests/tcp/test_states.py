"""The state machine, cell by cell, and each transition driven by segments.

`TABLE` was written by hand from RFC 9293 (figure 5 and 3.10) and the table of events in INFERENCE.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from observer.segments import FIN, PSH, SYN
from observer.tcp import states
from observer.tcp.states import EVENTS, STATES, TRANSITIONS, transition_array
from tests.tcp.talk import Talk

# One column per event; a dot: nothing changes.
TABLE = """
               snd   snd     rcv  rcv     rcv_ack  mid     snd  rcv  rcv_ack  snd  rcv         give         re-
               syn   synack  syn  synack  of_syn   stream  fin  fin  of_fin   rst  rst   icmp  up    expire placed
CLOSED         SS    SR      .    .       .        .       .    .    .        .    .     .     .     .      .
LISTEN         SS    SR      .    .       .        .       .    .    .        .    .     .     .     .      .
SYN_SENT       .     SR      SR   ES      .        .       .    .    .        CL   CL    CL    CL    .      CL
SYN_RECEIVED   .     .       .    .       ES       .       F1   CW   .        CL   CL    CL    CL    CL     CL
ESTABLISHED    .     .       .    .       .        .       F1   CW   .        CL   CL    CL    CL    .      CL
FIN_WAIT_1     .     .       .    .       .        .       .    CG   F2       CL   CL    CL    CL    .      CL
FIN_WAIT_2     .     .       .    .       .        .       .    TW   .        CL   CL    CL    CL    CL     CL
CLOSE_WAIT     .     .       .    .       .        .       LA   .    .        CL   CL    CL    CL    .      CL
CLOSING        .     .       .    .       .        .       .    .    TW       CL   CL    CL    CL    .      CL
LAST_ACK       .     .       .    .       .        .       .    .    CL       CL   CL    CL    CL    .      CL
TIME_WAIT      .     .       .    .       .        .       .    .    .        CL   CL    CL    CL    CL     CL
UNKNOWN        SS    SR      .    .       .        ES      F1   .    .        CL   CL    CL    CL    .      CL
"""
SHORT = {
    "SS": "SYN_SENT", "SR": "SYN_RECEIVED", "ES": "ESTABLISHED", "F1": "FIN_WAIT_1", "F2": "FIN_WAIT_2",
    "CW": "CLOSE_WAIT", "CG": "CLOSING", "LA": "LAST_ACK", "TW": "TIME_WAIT", "CL": "CLOSED",
}  # fmt: skip
ROWS = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()[2:]}
CELLS = [
    (state, event, SHORT.get(to, state)) for state in ROWS for event, to in zip(EVENTS[1:], ROWS[state], strict=True)
]


def test_names_and_codes() -> None:
    assert list(ROWS) == list(STATES)
    assert len(EVENTS) == states.EVENT_COUNT
    for names in (STATES, EVENTS[1:], states.CERTAINTIES):
        for code, name in enumerate(names, 1 if names == EVENTS[1:] else 0):
            assert getattr(states, name.upper()) == code


@pytest.mark.parametrize(("state", "event", "to"), CELLS)
def test_cell(state: str, event: str, to: str) -> None:
    table = transition_array()
    at = STATES.index(state) * states.EVENT_COUNT
    assert STATES[table[at + EVENTS.index(event)]] == to
    assert table[at] == STATES.index(state), "event 0 is none"


def test_each_row_has_its_reason_and_source() -> None:
    assert len({(row.state, row.event) for row in TRANSITIONS}) == len(TRANSITIONS)
    assert all(row.reason and row.source and row.state != row.to for row in TRANSITIONS)


# --- by segments ------------------------------------------------------------------------------------------


def opening(talk: Talk) -> None:
    talk.client.syn()
    talk.server.synack()


def to_established(talk: Talk) -> None:
    talk.open()


def to_fin_wait_1(talk: Talk) -> None:
    talk.open().client.fin(lost=True)


def to_fin_wait_2(talk: Talk) -> None:
    talk.open().client.fin()
    talk.server.ack()


def to_close_wait(talk: Talk) -> None:
    talk.open().server.fin()
    talk.client.ack()


def to_closing(talk: Talk) -> None:
    """The client's FIN crosses the server's."""
    to_fin_wait_1(talk)
    talk.server.fin()


def to_last_ack(talk: Talk) -> None:
    to_close_wait(talk)
    talk.client.fin(lost=True)


def to_time_wait(talk: Talk) -> None:
    to_fin_wait_2(talk)
    talk.server.fin()
    talk.client.ack()


def to_syn_sent(talk: Talk) -> None:
    talk.client.syn(lost=True)


def backs_off(talk: Talk) -> None:
    """The client's last segment again after 1, 2 and 4 s, and silence."""
    for seconds in (1, 2, 4):
        talk.wait(seconds).client.again(lost=True)
    talk.wait(60)


def waits_and_resets(talk: Talk) -> None:
    talk.wait(70).server.data()
    talk.client.bare_reset()


def fast_open_fin(talk: Talk) -> None:
    """With Fast Open a server may go on before its SYN is acknowledged (RFC 7413 4.2)."""
    talk.client.send(SYN | PSH, 1000, 100)
    talk.server.synack(ack=1101)
    talk.server.fin()


CLIENT_DRIVES: dict[str, Callable[[Talk], object]] = {
    "SYN_SENT": to_syn_sent,
    "ESTABLISHED": to_established,
    "FIN_WAIT_1": to_fin_wait_1,
    "FIN_WAIT_2": to_fin_wait_2,
    "CLOSE_WAIT": to_close_wait,
    "CLOSING": to_closing,
    "LAST_ACK": to_last_ack,
    "TIME_WAIT": to_time_wait,
}
"""How the client comes to each state."""

DRIVES: dict[tuple[str, str], tuple[str, Callable[[Talk], object]]] = {
    ("CLOSED", "snd_syn"): ("client", to_syn_sent),
    ("CLOSED", "snd_synack"): ("server", opening),
    ("SYN_SENT", "snd_synack"): ("client", lambda t: (to_syn_sent(t), t.client.synack(ack=50_001))),
    ("SYN_SENT", "rcv_syn"): ("client", lambda t: (to_syn_sent(t), t.server.syn())),
    ("SYN_SENT", "rcv_synack"): ("client", opening),
    ("SYN_SENT", "rcv_rst"): ("client", lambda t: (t.client.syn(), t.server.send(20, 0))),
    ("SYN_SENT", "icmp"): ("client", lambda t: (to_syn_sent(t), t.client.is_quoted())),
    ("SYN_RECEIVED", "rcv_ack_of_syn"): ("server", lambda t: (opening(t), t.client.ack())),
    ("SYN_RECEIVED", "snd_fin"): ("server", fast_open_fin),
    ("SYN_RECEIVED", "rcv_fin"): ("server", lambda t: (opening(t), t.client.send(FIN, 1001))),
    ("SYN_RECEIVED", "snd_rst"): ("server", lambda t: (opening(t), t.server.reset())),
    ("SYN_RECEIVED", "rcv_rst"): ("server", lambda t: (opening(t), t.client.bare_reset())),
    ("SYN_RECEIVED", "expire"): ("server", lambda t: (opening(t), t.wait(5))),
    ("SYN_RECEIVED", "replaced"): ("server", lambda t: (opening(t), t.client.syn(new=True), t.server.synack())),
    ("UNKNOWN", "snd_syn"): ("client", lambda t: (t.server.synack(ack=1001), t.client.syn())),
    ("UNKNOWN", "snd_synack"): ("server", lambda t: (t.client.data(), t.server.synack())),
    ("UNKNOWN", "midstream"): ("client", lambda t: t.client.data()),
    ("UNKNOWN", "replaced"): ("client", lambda t: (t.server.data(ack=1), t.server.data(ack=1), t.client.syn(new=True))),
    ("ESTABLISHED", "snd_fin"): ("client", to_fin_wait_1),
    ("ESTABLISHED", "rcv_fin"): ("client", to_close_wait),
    ("FIN_WAIT_1", "rcv_fin"): ("client", to_closing),
    ("FIN_WAIT_1", "rcv_ack_of_fin"): ("client", to_fin_wait_2),
    ("FIN_WAIT_2", "rcv_fin"): ("client", to_time_wait),
    ("FIN_WAIT_2", "expire"): ("client", lambda t: (to_fin_wait_2(t), waits_and_resets(t))),
    ("CLOSE_WAIT", "snd_fin"): ("client", to_last_ack),
    ("CLOSING", "rcv_ack_of_fin"): ("client", lambda t: (to_closing(t), t.server.ack(ack=t.client.next))),
    ("LAST_ACK", "rcv_ack_of_fin"): ("client", lambda t: (to_last_ack(t), t.server.ack(ack=t.client.next))),
    ("TIME_WAIT", "expire"): ("client", lambda t: (to_time_wait(t), t.wait(61))),
}


def gives_up(state: str, talk: Talk) -> None:
    """What the client repeats in vain: its SYN, its FIN, or data where it has neither outstanding."""
    CLIENT_DRIVES[state](talk)
    if state in ("ESTABLISHED", "CLOSE_WAIT"):
        talk.client.data(lost=True)
    backs_off(talk)


def is_replaced(state: str, talk: Talk) -> None:
    """A SYN with a new number; of one segment alone no old incarnation is kept."""
    CLIENT_DRIVES[state](talk)
    if state == "SYN_SENT":
        talk.client.again()
    talk.client.syn(new=True)


for _state, _drive in CLIENT_DRIVES.items():
    DRIVES[_state, "snd_rst"] = "client", lambda t, drive=_drive: (drive(t), t.client.reset())
    DRIVES[_state, "replaced"] = "client", partial(is_replaced, _state)
    if _state != "SYN_SENT":
        DRIVES[_state, "rcv_rst"] = "client", lambda t, drive=_drive: (drive(t), t.server.reset())
    if _state not in ("FIN_WAIT_2", "TIME_WAIT"):
        DRIVES[_state, "give_up"] = "client", partial(gives_up, _state)

UNREACHED = {
    "LISTEN": "a listener is never seen",
    "icmp": "hard errors count in SYN_SENT only (RFC 1122 4.2.3.9)",
    "UNKNOWN snd_fin": "a FIN speaks first",
    "UNKNOWN snd_rst": "nothing is claimed of an endpoint that only resets",
    "UNKNOWN rcv_rst": "nothing is claimed of an endpoint that was never seen",
    "UNKNOWN give_up": "it would have to speak first",
    "SYN_RECEIVED give_up": "expiry tells that",
    "FIN_WAIT_2 give_up": "nothing is outstanding",
    "TIME_WAIT give_up": "expiry tells that",
}
LIVE = [(STATES[row.state], EVENTS[row.event], STATES[row.to]) for row in TRANSITIONS]


@pytest.mark.parametrize(("state", "event", "to"), LIVE)
def test_transition_by_segments(state: str, event: str, to: str) -> None:
    if (state, event) not in DRIVES:
        assert {state, event, f"{state} {event}"} & set(UNREACHED)
        return
    side, drive = DRIVES[state, event]
    talk = Talk()
    drive(talk)
    told = [(STATES[line[4]], EVENTS[line[6]], STATES[line[5]]) for line in talk.rows_of(side)]
    assert (state, event, to) in told, told
