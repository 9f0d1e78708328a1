"""Closes that never finish: what triggers each finding, and its nearest innocent neighbour."""

from __future__ import annotations

from functools import partial

import pytest

from observer.options import Options
from tests.findings.telling import Tale, found_in, siblings, together
from tests.tcp.segments import SECOND


def end_of_file(side: str = "server", options: Options | None = None) -> Tale:
    """The peer of `side` has closed, and its FIN is acknowledged."""
    tale = Tale(options=options).open()
    tale.server.data()
    tale.client.ack()
    closer, leaker = (tale.client, tale.server) if side == "server" else (tale.server, tale.client)
    closer.fin()
    leaker.ack()
    return tale


# --- close_wait_leak ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(("held_s", "grade", "severity"), [(10, "suspected", "warning"), (90, "probable", "problem")])
def test_end_of_file_and_no_close(side: str, held_s: int, grade: str, severity: str) -> None:
    tale = end_of_file(side)
    tale.wait(held_s)
    one = tale.one("close_wait_leak")
    assert (one.grade, one.severity, one.endpoint, one.cause) == (grade, severity, side, "not_closed")
    assert one.frames == [8, 9] and one.end is None
    assert "the capture ends" in one.unknown


def test_the_threshold_is_an_option() -> None:
    assert not end_of_file().wait(1).codes()
    assert "close_wait_leak" not in end_of_file(options=Options(close_wait_s=20)).wait(10).codes()


def test_a_half_close_that_is_in_use_is_no_leak() -> None:
    tale = end_of_file()
    for _ in range(20):
        tale.wait(2).server.data()
        tale.client.ack()
    assert "close_wait_leak" not in tale.codes()


def test_a_late_close_is_no_leak() -> None:
    tale = end_of_file()
    tale.wait(30).server.fin()
    tale.client.ack()
    assert "close_wait_leak" not in tale.codes()


def test_a_fin_that_may_not_have_arrived_is_no_leak() -> None:
    tale = Tale().open()
    tale.client.fin(lost=True)
    tale.wait(90)
    assert "close_wait_leak" not in tale.codes()


def test_a_close_that_the_capture_missed_is_no_leak() -> None:
    """The server's last segment shows that it has sent one octet more than was seen: its FIN."""
    tale = Tale().open()
    tale.server.fin(unseen=True)
    tale.client.ack()
    tale.client.fin()
    tale.server.ack()
    tale.wait(120)
    assert "close_wait_leak" not in tale.codes()


def test_who_was_reset_since_leaks_nothing() -> None:
    """Also where it goes on sending, so that the RST cannot have arrived yet (or the taps' clocks differ)."""
    tale = Tale().open()
    tale.client.fin()
    tale.server.ack()
    tale.client.bare_reset(lost=True)
    tale.wait(0.1).server.data()
    tale.wait(120)
    assert "close_wait_leak" not in tale.codes()


def test_who_sends_instead_of_closing_draws_a_reset() -> None:
    tale = end_of_file()
    tale.wait(70).server.data()
    tale.client.bare_reset()
    one = tale.one("close_wait_leak")
    assert (one.grade, one.severity, one.endpoint) == ("probable", "problem", "server")
    assert one.end is not None and one.frames[-1] == tale.frame
    assert "drew a RST" in one.summary


def caught_closing(tale: Tale, *, octets: int) -> None:
    """The capture begins in the middle of a close: the client's FIN may have passed before."""
    tale.client.next += 1
    tale.server.next += 1
    tale.client.expects, tale.server.expects = tale.server.next, tale.client.next
    if octets:
        tale.client.data(octets)
    tale.server.ack()
    tale.server.fin()
    tale.client.ack()


def test_who_may_have_closed_before_the_capture_leaks_nothing() -> None:
    for octets in (0, 100):
        tale = Tale()
        caught_closing(tale, octets=octets)
        tale.wait(90)
        told = {"close_wait_leak", "fin_wait_2_expired"}
        assert set(tale.codes()) & told == (told if octets else set()), "no octets are sent behind a FIN"


def test_a_busy_capture_that_begins_among_closes_has_no_pile_up() -> None:
    for octets in (0, 100):
        tales = siblings(110, partial(caught_closing, octets=octets), apart_s=0.001)
        found = found_in(together(*tales, end_ns=tales[-1].now + 90 * SECOND))
        told = {one.code for one in found if one.stream is None}
        assert told == ({"close_wait_pileup", "fin_wait_2_pileup"} if octets else set())


# --- fin_wait_2_expired -------------------------------------------------------------------------------------------


def test_a_fin_wait_2_that_had_expired_shows_itself() -> None:
    tale = end_of_file()
    tale.wait(70).server.data()
    tale.client.bare_reset()
    one = tale.one("fin_wait_2_expired")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "warning", "client", "peer_keeps_open")
    assert one.frames == [9, 11]
    assert 70 * SECOND <= one.end - one.begin < 71 * SECOND


def test_nobody_shows_it() -> None:
    tale = end_of_file()
    tale.wait(90)
    one = tale.one("fin_wait_2_expired")
    assert (one.grade, one.severity, one.end) == ("suspected", "info", None)


def test_a_short_fin_wait_2_is_ordinary() -> None:
    tale = end_of_file()
    tale.wait(30).server.fin()
    tale.client.ack()
    assert not tale.codes()


def test_data_to_who_had_just_closed_is_no_expiry() -> None:
    tale = end_of_file()
    tale.wait(0.5).server.data()
    tale.client.bare_reset()
    assert tale.codes() == ["reset_on_close"]
