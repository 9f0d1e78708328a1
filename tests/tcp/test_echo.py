"""What echoed timestamps prove (RFC 7323 4.3), told as conversations; and when a request's timer has surely fired."""

from __future__ import annotations

import pytest

from observer import segments as seg
from observer.options import Options
from tests.tcp.talk import Talk

MS = 10**6
WITHOUT = Options(without_rules=frozenset({"echo"}))
STAMPS = seg.FIRST_OF_FRAME | seg.HAS_TIMESTAMPS


def stamp(value: int, echo: int = 0) -> dict[str, int]:
    return {"options": STAMPS, "ts_value": value, "ts_echo": echo}


def synack_lost_before_the_tap(echo: int, second: int = 2000, **talk_with: Options) -> Talk:
    """The client's SYN is repeated after a second; which of both the SYN-ACK answers, its echo tells."""
    talk = Talk(**talk_with)
    talk.client.syn(**stamp(1000))
    talk.server.synack(unseen=True, lost=True, **stamp(7000, 1000))
    talk.wait(0.98).client.syn(**stamp(second))
    talk.server.synack(**stamp(8000, echo))
    talk.client.ack(**stamp(2010, 8000))
    talk.client.data(**stamp(2020, 8000))
    talk.server.ack(**stamp(8020, 2020))
    return talk


def test_a_synack_that_echoes_the_first_syn_answers_the_first() -> None:
    talk = synack_lost_before_the_tap(echo=1000)
    assert talk.history("server") == "SYN_RECEIVED acknowledged, ESTABLISHED acknowledged"
    assert talk.when("server", "SYN_RECEIVED") == 0
    assert talk.history("client") == "SYN_SENT sent, ESTABLISHED acknowledged"
    assert talk.when("client", "ESTABLISHED") == 1010 * MS


@pytest.mark.parametrize(
    "talk",
    [
        synack_lost_before_the_tap(echo=2000),
        synack_lost_before_the_tap(echo=1000, second=1000),
        synack_lost_before_the_tap(echo=1000, options=WITHOUT),
    ],
    ids=["echoes the second", "a clock that stands still", "rule off"],
)
def test_otherwise_it_is_taken_for_the_answer_to_the_second(talk: Talk) -> None:
    assert talk.history("server") == "SYN_RECEIVED sent, ESTABLISHED acknowledged"
    assert talk.when("server", "SYN_RECEIVED") == 1010 * MS


def fin_repeated(echo: int, **talk_with: Options) -> Talk:
    """Both close at once but for a moment; the server's FIN is repeated before the client acknowledges it."""
    talk = Talk(**talk_with).open()
    talk.client.fin(**stamp(100, 50))
    talk.server.ack(**stamp(60, 100))
    talk.server.fin(**stamp(70, 100))
    talk.wait(0.2).server.again(**stamp(300, 100))
    talk.client.ack(**stamp(400, echo))
    return talk


def test_an_ack_that_echoes_the_first_fin_was_lost_once() -> None:
    assert fin_repeated(echo=70).when("client", "TIME_WAIT") == 70 * MS


@pytest.mark.parametrize(
    "talk", [fin_repeated(echo=300), fin_repeated(echo=70, options=WITHOUT)], ids=["second", "off"]
)
def test_otherwise_the_first_fin_was_lost(talk: Talk) -> None:
    assert talk.when("client", "TIME_WAIT") == 280 * MS


def test_an_acknowledgment_in_a_lost_fin_is_lost_with_it() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.fin(lost=True)  # acknowledges the client's FIN, too
    talk.wait(0.2).server.again()
    talk.client.expects = talk.server.next
    talk.client.ack()
    assert talk.when("client", "FIN_WAIT_2") == talk.when("client", "TIME_WAIT") == 270 * MS


def test_first_data_does_not_move_the_instant_of_acceptance() -> None:
    """The server repeats its SYN-ACK, the client answers and sends data once: the answer was enough."""
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack(lost=True)
    talk.wait(1).server.synack()
    talk.client.ack()
    talk.wait(0.05).client.data()
    talk.server.ack()
    assert talk.when("server", "ESTABLISHED") == 1040 * MS


def test_repeated_data_moves_it() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack(lost=True)
    talk.wait(1).server.synack()
    talk.client.ack(lost=True)
    talk.client.data(lost=True)
    talk.wait(0.3).client.again()
    talk.server.expects = talk.client.next
    talk.server.ack()
    assert talk.when("server", "ESTABLISHED") == 1360 * MS


def test_a_request_ends_when_its_timer_has_surely_fired() -> None:
    """Each repeat starts the next timer, 40 ms late here; Linux's timer wheel adds a sixteenth at most."""
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack(lost=True)
    talk.wait(1.01).server.synack()
    talk.client.ack(lost=True)
    talk.wait(20)
    assert talk.when("server", "CLOSED") == (1040 + 2000 + 125) * MS


@pytest.mark.parametrize(("waited_s", "taken_ms"), [(0.9, 910), (0.99, 0), (1.05, 0)])
def test_a_first_synack_as_late_as_a_repeat_is_one(waited_s: float, taken_ms: int) -> None:
    """One SYN, and the answer comes when a server that had answered at once would repeat itself."""
    talk = Talk()
    talk.client.syn()
    talk.wait(waited_s).server.synack()
    talk.client.ack()
    talk.client.data()
    talk.server.ack()
    assert talk.when("server", "SYN_RECEIVED") == taken_ms * MS


@pytest.mark.parametrize(
    ("echo", "options", "entered"),
    [(7000, Options(), 10), (8000, Options(), 1020), (8000, WITHOUT, 10)],
    ids=["the first", "the second", "rule off"],
)
def test_an_ack_tells_which_synack_arrived(echo: int, options: Options, entered: int) -> None:
    talk = Talk(options=options)
    talk.client.syn(**stamp(1000))
    talk.server.synack(**stamp(7000, 1000))
    talk.wait(1).server.synack(**stamp(8000, 1000))
    talk.client.ack(**stamp(2000, echo))
    assert talk.when("client", "ESTABLISHED") == entered * MS
    assert talk.history("client") == "SYN_SENT sent, ESTABLISHED acknowledged"


def test_an_acknowledgment_alone_brings_no_fin() -> None:
    """The FIN was lost: the sender's later bare ACK does not carry it, only its repeat does."""
    talk = Talk().open()
    talk.server.data()
    talk.client.ack()
    talk.client.fin(lost=True)
    talk.wait(0.1).server.data()
    talk.client.ack()
    talk.wait(0.1).client.again()
    talk.server.ack()
    assert talk.when("server", "CLOSE_WAIT") == 300 * MS
    assert talk.retracted("server") == "rcv_fin"
