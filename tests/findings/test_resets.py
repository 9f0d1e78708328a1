"""RST instead of FIN: each class with what triggers it, and its nearest neighbour."""

from __future__ import annotations

from itertools import pairwise

import pytest

from observer import segments as seg
from observer.findings.words import MILLISECOND
from tests.findings.telling import Found, Tale, found_in, siblings, together
from tests.tcp.segments import MASK


def exchanged(tale: Tale | None = None) -> Tale:
    """A request and its answer, all acknowledged, some time ago."""
    tale = (tale or Tale()).open()
    tale.server.data()
    tale.client.ack()
    tale.wait(1)
    return tale


def reset_of(tale: Tale) -> Found:
    return tale.one("reset_on_close")


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_live_socket_that_sent_no_fin(side: str) -> None:
    tale = exchanged()
    getattr(tale, side).reset()
    one = reset_of(tale)
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "warning", side, "linger_0")
    assert one.frames == [8]
    assert "unread" in one.unknown, "the alternative is named"
    assert tale.codes() == ["reset_on_close"]


def test_octets_that_had_just_come_may_lie_unread() -> None:
    tale = exchanged()
    tale.server.data()
    tale.client.reset()
    one = reset_of(tale)
    assert (one.endpoint, one.cause) == ("client", "unread_data")


def test_a_server_that_resets_in_place_of_an_answer_has_not_read() -> None:
    tale = exchanged()
    tale.client.data()
    tale.server.ack()
    tale.wait(1).server.reset()
    assert (reset_of(tale).endpoint, reset_of(tale).cause) == ("server", "unread_data")


def test_a_synack_cannot_lie_unread() -> None:
    """A connect scan: nobody sent an octet."""
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.client.reset()
    assert reset_of(tale).cause == "linger_0"


def test_octets_are_lost_unless_the_reset_acknowledges_them() -> None:
    tale = exchanged()
    tale.server.data()
    tale.client.reset()
    assert "not acknowledged" not in reset_of(tale).summary
    tale = exchanged()
    tale.server.data()
    tale.client.reset(ack=(tale.client.expects - 100) & MASK)
    assert "not acknowledged" in reset_of(tale).summary


def test_a_fin_answered_by_reset() -> None:
    tale = exchanged()
    tale.client.fin()
    tale.server.reset()
    one = reset_of(tale)
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "server", "after_peer_fin")
    assert one.frames == [8, 9]
    assert "later" not in one.summary
    tale = exchanged()
    tale.client.fin()
    tale.server.ack()
    tale.wait(10).server.reset()
    assert "10.0 s later" in reset_of(tale).summary


def test_a_reset_that_crossed_a_fin_does_not_answer_it() -> None:
    tale = exchanged()
    before = tale.client.next
    tale.client.fin()
    tale.server.reset(ack=before)
    one = reset_of(tale)
    assert (one.endpoint, one.cause) == ("server", "unread_data")
    assert "not acknowledged" not in one.summary, "a FIN has no octets"


def test_a_late_reset_says_what_octets_it_cost() -> None:
    for octets in (0, 100):
        tale = exchanged()
        before = tale.client.next
        tale.client.fin()
        if octets:
            tale.server.data(octets, ack=before)
        tale.server.fin(ack=before)
        tale.client.bare_reset(seq=before)
        one = reset_of(tale)
        assert (one.severity, one.cause) == ("info", "after_close")
        assert ("not acknowledged" in one.summary) == (octets > 0)


def test_octets_that_were_answered_do_not_lie_unread() -> None:
    tale = exchanged()
    tale.server.data()
    tale.client.data()
    tale.client.reset()
    one = reset_of(tale)
    assert (one.endpoint, one.cause) == ("client", "linger_0")


def test_a_live_socket_that_sent_fin_and_gives_up_waiting() -> None:
    """Nothing came after its FIN, so nothing drew the RST: the application ended the wait."""
    tale = exchanged()
    tale.client.fin()
    tale.server.ack()
    tale.wait(3).client.reset()
    one = reset_of(tale)
    assert (one.endpoint, one.cause) == ("client", "linger_0")
    tale = exchanged()
    tale.client.fin()
    tale.server.data()
    tale.client.reset()
    assert reset_of(tale).cause == "data_after_close", "octets came after its FIN"


def test_data_to_who_had_closed_both_halves() -> None:
    tale = exchanged()
    tale.server.fin()
    tale.client.ack()
    tale.wait(2).client.data()
    tale.server.bare_reset()
    one = reset_of(tale)
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "server", "data_after_close")
    assert one.frames == [8, 11]
    assert "2.0 s later" in one.summary and "a further send() fails" in one.summary
    assert "FIN-WAIT-2" in one.unknown
    tale = exchanged()
    tale.server.fin()
    tale.client.data()
    tale.client.fin()
    tale.server.bare_reset()
    one = reset_of(tale)
    assert "it was closing, too" in one.summary, "nobody sends any more"
    assert one.unknown is None, "no FIN-WAIT-2 expires so soon"


def test_resets_of_the_other_side_are_not_its_evidence() -> None:
    tale = exchanged()
    tale.client.reset()
    tale.wait(0.001).server.reset()
    assert reset_of(tale).frames == [8]


def test_a_late_reset_after_both_closed_does_no_harm() -> None:
    tale = exchanged()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    tale.wait(0.001).server.bare_reset()
    assert {one.severity for one in tale.found()} <= {"info", "warning"}
    assert reset_of(tale).cause in ("after_close", "time_wait_assassination")


def test_a_reset_into_time_wait_is_suspected_to_end_it() -> None:
    tale = exchanged()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    tale.wait(5).server.reset()
    one = reset_of(tale)
    assert (one.grade, one.cause) == ("suspected", "time_wait_assassination")


def test_a_reset_that_was_challenged_counts_from_its_first() -> None:
    """The octets before it were lost before the tap: out of the window, asked back, and sent again without socket."""
    tale = exchanged()
    old = tale.client.expects
    tale.server.data(unseen=True, lost=True)
    tale.server.reset(lost=True)
    tale.wait(0.03).client.ack(ack=old)
    tale.server.bare_reset(seq=old)
    one = reset_of(tale)
    assert (one.endpoint, one.cause, one.frames) == ("server", "linger_0", [8, 10])
    assert "half_open" not in tale.codes()


def test_a_reset_out_of_the_window_that_nobody_repeats_ends_nothing() -> None:
    tale = exchanged()
    tale.server.data(unseen=True, lost=True)
    tale.server.reset(lost=True)
    tale.wait(0.03).client.ack()
    tale.client.data()
    assert "reset_on_close" not in tale.codes()


def test_a_reset_without_ack_that_answers_nothing() -> None:
    tale = exchanged()
    tale.server.ack()
    tale.server.data(lost=True)
    tale.server.bare_reset(seq=tale.server.next)
    one = reset_of(tale)
    assert (one.grade, one.cause) == ("suspected", "bare_abort")


def test_an_orderly_close_is_nothing() -> None:
    tale = exchanged()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    assert not tale.codes()


# --- together -----------------------------------------------------------------------------------------------------


def burst(tell_more: bool, count: int = 5) -> list[Found]:
    """Connections of one listener that it resets within 40 ms."""

    def tell(tale: Tale) -> None:
        tale.client.syn()
        tale.server.synack()
        tale.client.ack()
        tale.client.data()
        tale.server.ack()
        if tell_more:
            tale.server.data()
            tale.client.ack()

    tales = siblings(count, tell, apart_s=1)
    for number, tale in enumerate(tales):
        tale.now = tales[-1].now + number * 5 * MILLISECOND
        tale.server.reset()
    return [one for one in found_in(together(*tales)) if one.code == "reset_on_close"]


def test_a_listener_that_was_closed_had_never_answered() -> None:
    assert {(one.endpoint, one.cause) for one in burst(tell_more=False)} == {("server", "listener_closed")}


def test_a_process_that_ended_resets_all_it_had() -> None:
    assert {(one.endpoint, one.cause) for one in burst(tell_more=True)} == {("server", "process_gone")}


def test_two_resets_are_no_burst() -> None:
    assert not {one.cause for one in burst(tell_more=True, count=2)} & {"process_gone", "listener_closed"}


def test_a_process_whose_others_live_on_is_not_gone() -> None:
    def busy(tale: Tale) -> None:
        exchanged(tale)

    tales = siblings(12, busy)
    end = tales[-1].now
    for number, tale in enumerate(tales[:3]):
        tale.now = end + number * 5 * MILLISECOND
        tale.server.reset()
    for tale in tales[3:]:
        tale.now = end + 500 * MILLISECOND
        tale.client.data()
        tale.server.data()
    causes = {one.cause for one in found_in(together(*tales)) if one.code == "reset_on_close"}
    assert causes == {"linger_0"}


def test_a_listener_that_takes_new_connections_between_its_resets_lives() -> None:
    """One at a time, each reset after its answer, the next begun a moment later: never two that could end together."""

    def tell(tale: Tale) -> None:
        tale.open().client.data()
        tale.server.data()
        tale.server.reset()

    tales = siblings(6, tell, apart_s=0.08)
    assert all(a.rows[-1][seg.TIME] < b.rows[0][seg.TIME] for a, b in pairwise(tales))
    assert {one.cause for one in found_in(together(*tales)) if one.code == "reset_on_close"} == {"linger_0"}
