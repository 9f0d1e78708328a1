"""Whether the other side is still there: what triggers each finding, and its nearest innocent neighbour."""

from __future__ import annotations

import pytest

from observer.options import Options
from observer.segments import ACK_FLAG, FIN, PSH
from tests.findings.telling import Tale, at_port, found_in, together
from tests.tcp.segments import BEGIN, SECOND

BACKOFF_S = (0.2, 0.4, 0.8, 1.6, 3.2)


def in_vain(tale: Tale, side: str = "client", repeats: int = 5, what: str = "data") -> Tale:
    """Octets (or FIN) that nothing answers."""
    end = getattr(tale, side)
    getattr(end, what)(lost=True)
    for seconds in BACKOFF_S[:repeats]:
        tale.wait(seconds)
        end.again(lost=True)
    return tale


def elsewhere(tale: Tale) -> Tale:
    """Another connection of the same capture, alive until after the tale."""
    other = at_port(Tale(client_iss=9), 50_000)
    other.open()
    other.now = tale.now + SECOND
    other.client.data()
    other.server.ack()
    return other


# --- send_timeout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
def test_data_in_vain(side: str) -> None:
    tale = in_vain(Tale().open(), side)
    one = tale.one("send_timeout")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "problem", side, "peer_silent")
    assert one.end is None and "still trying" in one.summary
    assert "repeated 5 times" in one.summary
    assert one.frames[-1] == tale.frame
    tale.wait(30)
    one = tale.one("send_timeout")
    assert one.grade == "confirmed" and one.end is not None and "ETIMEDOUT" in one.summary


def test_fewer_repeats_are_not_yet_a_time_out() -> None:
    assert not {"send_timeout", "half_open"} & set(in_vain(Tale().open(), repeats=2).codes())


def test_the_slightest_sign_of_the_peer_is_an_answer() -> None:
    tale = in_vain(Tale().open(), repeats=3)
    tale.server.ack(ack=tale.client.iss + 1)  # a duplicate ACK: it lives
    tale.wait(1.6).client.again(lost=True)
    assert not {"send_timeout", "half_open"} & set(tale.codes())


def test_a_fin_in_vain_is_no_problem_of_an_application() -> None:
    tale = in_vain(Tale().open(), what="fin")
    one = tale.one("send_timeout")
    assert (one.severity, one.endpoint) == ("warning", "client")
    assert "close()" in one.summary and "its FIN was repeated 5 times" in one.summary
    assert one.frames == list(range(tale.frame - 4, tale.frame + 1)), "each repeat is evidence"
    assert tale.one("half_open").grade == "suspected"


def test_octets_repeated_with_their_fin_are_not_the_fin_alone() -> None:
    tale = Tale().open()
    tale.client.data(lost=True)
    tale.client.fin(lost=True)
    for seconds in BACKOFF_S:
        tale.wait(seconds).client.send(FIN | ACK_FLAG | PSH, tale.client.next - 101, 100, lost=True)
    assert "the same octets were repeated" in tale.one("send_timeout").summary


def test_data_into_a_closed_window_is_no_time_out() -> None:
    tale = Tale().open()
    tale.client.data(1000)
    tale.server.ack(window=0)
    for seconds in BACKOFF_S:
        tale.wait(seconds).client.data(1, lost=True)
        tale.client.next -= 1
    assert "send_timeout" not in tale.codes()


def test_a_tap_without_other_traffic_may_have_missed_the_answers() -> None:
    tale = in_vain(Tale().open())
    assert "tap itself" in tale.one("send_timeout").unknown
    (one,) = [one for one in found_in(together(tale, elsewhere(tale))) if one.code == "send_timeout"]
    assert "tap itself" not in one.unknown


# --- keepalive_timeout --------------------------------------------------------------------------------------------


def probes(tale: Tale, count: int, interval_s: float = 5) -> Tale:
    for _ in range(count):
        tale.wait(interval_s).client.keepalive(lost=True)
    return tale


def test_keepalives_in_vain_then_a_reset() -> None:
    tale = probes(Tale().open(), 3)
    tale.wait(5).client.reset(lost=True)
    one = tale.one("keepalive_timeout")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "problem", "client", "peer_silent")
    assert one.frames == [6, 7, 8, 9]
    assert "3 keepalive probes 5.0 s apart" in one.summary
    assert one.end == one.begin + 15_030_000_000
    assert "reset_on_close" not in tale.codes(), "the same RST is told once"


def test_a_reset_long_after_answered_probes_is_a_close() -> None:
    tale = Tale().open()
    for _ in range(4):
        tale.wait(5).client.keepalive()
        tale.server.ack()
    tale.wait(5).client.reset()
    assert tale.codes() == ["reset_on_close"]


# --- half_open ----------------------------------------------------------------------------------------------------


def test_a_bare_reset_to_data_shows_a_lost_connection() -> None:
    tale = Tale().open()
    tale.wait(300).client.data()
    tale.server.bare_reset()
    one = tale.one("half_open")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "problem", "client", "peer_rebooted")
    assert "300 s of idleness" in one.summary
    assert one.frames == [7]
    assert tale.codes() == ["half_open"]


def test_a_bare_reset_to_a_probe_shows_it_too() -> None:
    tale = Tale().open()
    tale.wait(300).server.keepalive()
    tale.client.bare_reset()
    one = tale.one("half_open")
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "server", "peer_rebooted")


def test_a_host_that_kept_others_has_not_restarted() -> None:
    tale = Tale().open()
    tale.wait(300).client.data()
    tale.server.bare_reset()
    other = at_port(Tale(client_iss=9), 50_000).wait(-1)
    other.open()
    for _ in range(40):
        other.wait(10).client.data()
        other.server.data()
    found = [one for one in found_in(together(tale, other)) if one.code == "half_open"]
    assert [(one.grade, one.severity, one.cause) for one in found] == [("probable", "warning", "forgotten")]


def test_who_had_closed_has_lost_nothing() -> None:
    tale = Tale().open()
    tale.server.fin()
    tale.client.ack()
    tale.wait(1).client.data()
    tale.server.bare_reset()
    assert "half_open" not in tale.codes()
    assert tale.one("reset_on_close").cause == "data_after_close"


def test_a_reset_from_a_live_socket_shows_no_loss() -> None:
    tale = Tale().open()
    tale.wait(300).client.data()
    tale.server.reset()
    assert "half_open" not in tale.codes()


def test_silence_is_probable_while_the_tap_works() -> None:
    tale = in_vain(Tale().open())
    assert tale.one("half_open").grade == "suspected", "nothing shows that the tap still worked"
    found = {one.code: one for one in found_in(together(tale, elsewhere(tale))) if one.stream == 0}
    one = found["half_open"]
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "problem", "client", "peer_vanished")
    assert one.begin == BEGIN + 40_000_000, "since the lost side's last segment"


def test_probes_in_vain_show_a_vanished_peer() -> None:
    tale = probes(Tale().open(), 3)
    tale.wait(5).client.reset(lost=True)
    one = tale.one("half_open")
    assert (one.endpoint, one.cause) == ("client", "peer_vanished")
    assert "noticed and gave up" in one.summary


def test_idleness_alone_is_no_evidence() -> None:
    tale = Tale().open()
    tale.client.data()
    tale.server.ack()
    tale.wait(7200)
    assert not tale.codes()


def test_a_reset_that_never_arrived() -> None:
    tale = Tale().open()
    tale.server.reset(lost=True)
    for _ in range(3):
        tale.wait(1).client.data(lost=True)
    one = tale.one("half_open")
    assert (one.grade, one.endpoint, one.cause) == ("suspected", "client", "reset_lost")


def test_a_reset_that_is_on_its_way_is_not_lost() -> None:
    """It crosses octets in flight, or is challenged because octets before it were lost (RFC 5961 3.2)."""
    for challenged in (False, True):
        tale = Tale().open()
        old = tale.client.expects
        if challenged:
            tale.server.data(lost=True)
        tale.server.reset(lost=True)
        tale.wait(0.03)
        if challenged:
            tale.client.ack(ack=old)
        else:
            tale.client.data(ack=old)
        tale.server.bare_reset(seq=old)
        assert "half_open" not in tale.codes()
        assert tale.one("reset_on_close").endpoint == "server"


def test_who_may_have_closed_before_the_capture_has_lost_nothing() -> None:
    """The capture begins in mid-stream, and this side sends no octets: its FIN may have passed before."""
    for octets in (0, 100):
        tale = Tale()
        tale.client.next += 1
        tale.server.next += 1
        tale.client.expects, tale.server.expects = tale.server.next, tale.client.next
        tale.client.data()
        if octets:
            tale.server.data(octets)
        tale.server.ack()
        tale.wait(5).client.data()
        tale.server.bare_reset()
        assert ("half_open" in tale.codes()) == (octets > 0)


def test_a_synack_without_its_syn_may_be_the_last_of_many() -> None:
    """The capture begins between the repeats of a server that never took the handshake's ACK."""
    for whole in (True, False):
        tale = Tale()
        tale.client.syn(unseen=not whole)
        tale.server.synack()
        tale.client.ack()
        tale.wait(7).client.data()
        tale.server.bare_reset()
        assert ("half_open" in tale.codes()) == whole


# --- half_open_reconnect ------------------------------------------------------------------------------------------


def reconnected(tale: Tale) -> Tale:
    """RFC 9293 3.5.1, figure 9."""
    old_next = tale.client.next
    tale.wait(5).client.syn(new=True, lost=True)
    tale.server.ack(ack=old_next)
    tale.client.bare_reset(seq=old_next)
    return tale


def test_a_reconnect_meets_its_old_self() -> None:
    tale = reconnected(Tale().open())
    tale.wait(1).client.syn()
    tale.server.iss = tale.server.next = 900_000
    tale.server.synack()
    tale.client.ack()
    one = tale.one("half_open_reconnect", 1)
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "problem", "server", "peer_restarted")
    assert one.frames == [6, 7, 8], "the SYN, the challenge ACK, the RST"
    assert not tale.codes(0)


def test_a_port_reused_after_time_wait_is_no_reconnect() -> None:
    tale = Tale().open()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    tale.wait(1).client.syn(new=True)
    tale.server.iss = tale.server.next = 900_000
    tale.server.synack()
    tale.client.ack()
    assert not tale.codes(0) and not tale.codes(1)


# --- zero_window --------------------------------------------------------------------------------------------------


def closed(tale: Tale, seconds: float, *, probes: int = 0) -> Tale:
    """The server closes its window for so long."""
    tale.client.data(1000)
    tale.server.ack(window=0)
    for _ in range(probes):
        tale.wait(seconds / (probes + 1)).client.keepalive()
        tale.server.ack(window=0)
    tale.wait(seconds / (probes + 1))
    return tale


def test_a_window_closed_for_long() -> None:
    tale = closed(Tale().open(), 4, probes=3)
    tale.server.ack(window=1000)
    tale.client.data()
    tale.server.ack()
    one = tale.one("zero_window")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "warning", "server", "reader_slow")
    assert 4 * SECOND < one.end - one.begin < 4.2 * SECOND
    assert "closed for 4." in one.summary and "3 probes" in one.summary
    assert "(1 probe)" in closed(Tale().open(), 4, probes=1).one("zero_window").summary
    assert "keepalive_probe" not in tale.told(), "told apart by the last window announced"


def test_a_window_that_never_opens_is_a_problem() -> None:
    tale = closed(Tale().open(), 30, probes=3)
    one = tale.one("zero_window")
    assert (one.severity, one.end) == ("problem", None)
    assert tale.codes() == ["zero_window"], "the peer lives: no dead peer"


def test_the_threshold_is_an_option() -> None:
    def told(options: Options) -> list[str]:
        tale = closed(Tale(options=options).open(), 0.5)
        tale.server.ack(window=1000)
        tale.client.data()
        return tale.codes()

    assert told(Options()) == ["zero_window"]
    assert not told(Options(zero_window_s=1.0))


def test_a_reset_has_no_window() -> None:
    """RFC 9293 3.10.7.1: the window of a RST says nothing."""
    tale = Tale().open()
    tale.client.reset(window=0)
    tale.wait(5)
    assert "zero_window" not in tale.codes()


def test_a_reset_with_another_ttl_confirms_no_lost_connection() -> None:
    """Two segments are no baseline that could call it forged, and yet a router's RST looks so."""
    for hops, grade in ((0, "confirmed"), (1, "probable")):
        tale = Tale().open()
        tale.wait(5).client.data()
        tale.server.bare_reset(ttl=tale.server.ttl - hops)
        assert tale.one("half_open").grade == grade


def test_a_reset_within_a_second_may_follow_a_close_that_was_lost() -> None:
    """No host restarts so soon: its FIN or RST may have been lost before the tap."""
    tale = Tale().open()
    tale.wait(0.3).client.data()
    tale.server.bare_reset()
    assert tale.one("half_open").grade == "probable"


def test_a_server_of_whom_only_the_synack_was_seen_resets_later() -> None:
    """Not at once, so no full accept queue: what it had said meanwhile was lost, or it never had the connection."""
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.client.data(lost=True)
    tale.wait(0.5).client.again()
    tale.server.bare_reset()
    one = tale.one("half_open")
    assert (one.grade, one.endpoint) == ("suspected", "client")
    assert tale.codes() == ["half_open"]


def test_a_server_that_resets_the_close_of_a_client_it_never_answered_lost_nothing() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.wait(0.5).client.fin()
    tale.server.bare_reset()
    assert "half_open" not in tale.codes()
