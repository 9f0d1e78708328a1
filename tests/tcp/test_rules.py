"""One conversation for each rule of INFERENCE.md and each confusion of CRITERIA.md that must not happen."""

from __future__ import annotations

import pytest

from observer.options import Options
from observer.tcp import columns
from tests.tcp.talk import Talk

HALF = "SYN_SENT sent, ESTABLISHED acknowledged"
OPENED = "SYN_RECEIVED sent, ESTABLISHED acknowledged"
SECOND = 10**9
MS = 10**6


# --- opening ----------------------------------------------------------------------------------------------


def test_handshake() -> None:
    talk = Talk().open()
    assert talk.history("client") == HALF
    assert talk.history("server") == OPENED
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


def test_an_ack_that_passed_is_only_assumed_to_have_arrived() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    assert talk.history("client") == "SYN_SENT sent, ESTABLISHED assumed"
    talk.client.ack()
    assert talk.history("client") == HALF
    assert talk.history("server") == "SYN_RECEIVED sent, ESTABLISHED assumed"


def test_a_repeated_syn_takes_the_synack_back() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack(lost=True)
    talk.wait(1).client.syn()
    assert talk.retracted("client") == "rcv_synack"
    assert talk.history("client") == "SYN_SENT sent"
    talk.server.synack()
    talk.client.ack()
    assert talk.history("client") == HALF
    assert talk.when("client", "ESTABLISHED") == 1030 * MS
    assert talk.streams == 1


def test_a_repeated_syn_ends_a_time_out() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    for seconds in (1, 2, 4):
        talk.wait(seconds).client.syn(lost=True)
    talk.wait(30)
    assert talk.history("client") == "SYN_SENT sent, CLOSED timer"
    talk.client.syn()
    talk.server.synack()
    assert talk.retracted("client") == "give_up"
    assert talk.history("client") == "SYN_SENT sent, ESTABLISHED assumed"


def test_simultaneous_open() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    talk.server.syn()
    talk.client.expects = talk.server.next
    talk.server.expects = talk.client.next
    talk.client.synack()
    talk.server.synack()
    talk.client.ack()
    talk.server.ack()
    assert "simultaneous_open" in talk.told()
    assert talk.history("client") == "SYN_SENT sent, SYN_RECEIVED assumed, ESTABLISHED acknowledged"
    assert talk.history("server") == "SYN_SENT sent, SYN_RECEIVED assumed, ESTABLISHED acknowledged"


def test_a_synack_for_something_else_opens_nothing() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack(ack=999_999)
    assert talk.history("client") == "SYN_SENT sent"


# --- half-established -------------------------------------------------------------------------------------


def deaf_server() -> Talk:
    """The accept queue is full: the SYN-ACK comes again although the ACK passed."""
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    talk.wait(1).server.synack()
    talk.client.ack()
    return talk


def test_a_server_that_repeats_its_synack_is_still_in_syn_received() -> None:
    talk = deaf_server()
    assert talk.retracted("server") == "rcv_ack_of_syn"
    assert talk.final() == ("ESTABLISHED", "SYN_RECEIVED")
    assert "synack_after_ack" in talk.told()


def test_a_synack_with_another_number_is_no_repeat() -> None:
    """Another host of a balancer, or a server that kept no request, answers the repeated SYN."""
    talk = Talk()
    talk.client.syn()
    talk.wait(1).client.again()
    talk.server.synack()
    talk.client.ack()
    talk.client.data()
    talk.server.iss = talk.server.next = talk.server.iss + 7_000_000
    talk.wait(0.7).server.synack()
    assert talk.told().count("synack_retransmitted") == 1
    assert not {"synack_after_ack", "deferred_accept"} & set(talk.told())


def test_a_deaf_server_takes_nothing_until_it_speaks() -> None:
    talk = deaf_server()
    talk.client.data(lost=True)
    talk.client.fin(lost=True)
    assert talk.final() == ("FIN_WAIT_1", "SYN_RECEIVED")


def test_a_deaf_server_that_speaks_took_what_was_repeated_last() -> None:
    talk = deaf_server()
    talk.client.data(lost=True)
    talk.wait(0.4).client.again()
    repeated = talk.now - talk.rows[0][0] - 10 * MS
    talk.wait(0.2).server.ack()
    assert talk.history("server") == OPENED
    assert talk.when("server", "ESTABLISHED") == repeated


def test_the_schedule_of_repeats_tells_when_the_request_was_dropped() -> None:
    talk = deaf_server()
    talk.wait(2 - 0.02).server.synack()
    talk.client.ack()
    talk.wait(30)
    assert talk.history("server") == "SYN_RECEIVED sent, CLOSED timer"
    assert 7 * SECOND <= talk.when("server", "CLOSED") <= 7.4 * SECOND


def test_a_late_first_repeat_is_deferred_accept() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    talk.wait(3).server.synack()
    talk.client.ack()
    assert {"deferred_accept"} == {name for name in talk.told() if name in ("deferred_accept", "synack_after_ack")}
    talk.client.data()
    talk.server.ack()
    assert talk.history("server") == OPENED


def test_one_synack_and_silence_is_a_cookie() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack(lost=True)
    talk.wait(5)
    assert talk.history("server") == "SYN_RECEIVED sent, CLOSED timer"
    assert talk.when("server", "CLOSED") == 10 * MS, "right behind its SYN-ACK"
    talk.server.synack()
    assert talk.retracted("server") == "expire"
    assert talk.final()[1] == "SYN_RECEIVED"


def test_data_that_nobody_answers_shows_a_cookie_too() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    talk.client.data(lost=True)
    talk.wait(0.3).client.again(lost=True)
    assert talk.final()[1] == "ESTABLISHED"
    talk.wait(1.2).client.again(lost=True)
    assert talk.retracted("server") == "rcv_ack_of_syn"
    assert talk.history("server") == "SYN_RECEIVED sent, CLOSED timer"
    assert "stateless_synack" in talk.told()


# --- closing ----------------------------------------------------------------------------------------------


def test_orderly_close() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.ack()
    assert talk.final() == ("FIN_WAIT_2", "CLOSE_WAIT"), "half-closed, and nothing worse"
    talk.server.data()
    talk.client.ack()
    talk.server.fin()
    talk.client.ack()
    assert talk.history("client") == f"{HALF}, FIN_WAIT_1 sent, FIN_WAIT_2 assumed, TIME_WAIT acknowledged"
    assert talk.history("server") == f"{OPENED}, CLOSE_WAIT acknowledged, LAST_ACK sent, CLOSED assumed"
    talk.wait(59)
    assert talk.final() == ("TIME_WAIT", "CLOSED")
    talk.wait(2)
    assert talk.final() == ("CLOSED", "CLOSED")


def test_time_wait_lasts_as_long_as_the_stack_says() -> None:
    talk = Talk(options=Options(stack="rfc")).open()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    talk.wait(239)
    assert talk.final()[0] == "TIME_WAIT"
    talk.wait(2)
    assert talk.final()[0] == "CLOSED"


def test_a_repeated_fin_restarts_time_wait_and_takes_its_ack_back() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack(lost=True)
    assert talk.final() == ("TIME_WAIT", "CLOSED")
    talk.wait(30).server.again()
    assert talk.retracted("server") == "rcv_ack_of_fin"
    assert talk.final() == ("TIME_WAIT", "LAST_ACK")
    talk.client.ack()
    talk.wait(50)
    assert talk.final() == ("TIME_WAIT", "CLOSED")


def test_simultaneous_close_passes_closing_on_both_sides() -> None:
    talk = Talk().open()
    talk.client.fin(lost=True)
    talk.server.fin(lost=True)
    talk.client.expects += 1
    talk.client.ack()
    talk.server.expects += 1
    talk.server.ack()
    assert "simultaneous_close" in talk.told()
    for side in ("client", "server"):
        assert "FIN_WAIT_1 sent, CLOSING acknowledged, TIME_WAIT" in talk.history(side)
        assert "LAST_ACK" not in talk.history(side)


def test_crossed_fins_forget_a_repeat_that_did_not_arrive() -> None:
    """The client's FIN is lost twice; then the server closes without having seen it."""
    talk = Talk().open()
    talk.client.fin(lost=True)
    talk.wait(0.2).client.again(lost=True)
    talk.server.fin()
    talk.wait(0.2).client.again()
    talk.server.ack()
    assert talk.history("client").endswith("FIN_WAIT_1 sent, CLOSING acknowledged, TIME_WAIT assumed")
    assert talk.history("server").endswith("FIN_WAIT_1 sent, FIN_WAIT_2 assumed, TIME_WAIT acknowledged")


def test_a_fin_that_the_tap_missed_crossed_the_other() -> None:
    """The server acknowledges the client's FIN from one octet on, which turns out to be its own FIN, sent before."""
    talk = Talk().open()
    talk.client.data()
    talk.server.fin(lost=True, unseen=True)
    talk.client.fin()
    talk.server.ack()
    assert talk.history("server").endswith("CLOSE_WAIT acknowledged")
    talk.wait(0.2).server.again()
    talk.client.ack()
    assert "simultaneous_close" in talk.told()
    assert talk.history("server").endswith("FIN_WAIT_1 acknowledged, CLOSING acknowledged, TIME_WAIT assumed")
    assert talk.history("client").endswith("FIN_WAIT_1 sent, FIN_WAIT_2 assumed, TIME_WAIT acknowledged")


def test_an_octet_that_the_tap_missed_may_be_data() -> None:
    talk = Talk().open()
    talk.client.data()
    talk.server.data(1, lost=True, unseen=True)
    talk.client.fin()
    talk.server.ack()
    talk.wait(0.2).server.again()
    talk.server.fin()
    talk.client.ack()
    assert talk.history("server").endswith("CLOSE_WAIT acknowledged, LAST_ACK sent, CLOSED assumed")


def test_a_missed_fin_behind_a_repeated_one_may_have_answered_it() -> None:
    """The first acknowledgment of the client's FIN may have been in the FIN that the tap missed."""
    talk = Talk().open()
    talk.client.data()
    talk.client.fin()
    talk.server.fin(lost=True, unseen=True)
    talk.wait(0.2).client.again()
    talk.server.ack()
    talk.wait(0.2).server.again()
    talk.client.ack()
    assert talk.history("server").endswith("LAST_ACK sent, CLOSED assumed")


def test_a_fin_behind_a_hole_is_not_received() -> None:
    talk = Talk().open()
    talk.client.next += 100
    talk.client.fin(lost=True)
    assert talk.final() == ("FIN_WAIT_1", "ESTABLISHED")
    talk.client.next -= 101
    talk.client.data()
    assert talk.final() == ("FIN_WAIT_1", "CLOSE_WAIT")


def test_a_fin_that_is_not_acknowledged_was_lost() -> None:
    talk = Talk().open()
    talk.client.fin(lost=True)
    assert talk.final()[1] == "CLOSE_WAIT"
    talk.wait(1).server.data()
    assert talk.retracted("server") == "rcv_fin"
    assert talk.final()[1] == "ESTABLISHED"


def test_an_acknowledgment_beyond_a_fin_shows_that_it_was_dropped_as_old() -> None:
    talk = Talk().open()
    talk.server.fin(lost=True)
    talk.wait(1).client.ack(ack=talk.server.next + 1231)
    assert talk.retracted("client") == "rcv_fin"
    assert talk.final() == ("ESTABLISHED", "FIN_WAIT_1")


def test_a_repeated_fin_is_the_one_that_arrived() -> None:
    talk = Talk().open()
    talk.client.fin(lost=True)
    talk.wait(0.2).client.again()
    repeated = talk.now - talk.rows[0][0] - 10 * MS
    talk.server.ack()
    assert talk.when("server", "CLOSE_WAIT") == repeated
    assert talk.retracted("server") == "rcv_fin"


def test_an_acknowledged_fin_was_received_though_the_tap_missed_what_was_before_it() -> None:
    talk = Talk().open()
    talk.client.data(unseen=True)
    talk.client.fin()
    assert talk.final()[1] == "ESTABLISHED"
    talk.server.ack()
    assert talk.history("server") == f"{OPENED}, CLOSE_WAIT acknowledged"


def test_a_fin_that_cannot_have_come_at_its_time_counts_from_the_acknowledgment() -> None:
    """The tap misses the SYN-ACK and the client's ACK: the client's opening is known later than the server's FIN."""
    talk = Talk()
    talk.client.syn()
    talk.server.synack(unseen=True)
    talk.server.data()
    talk.server.fin()
    talk.client.ack()
    talk.client.fin()
    assert talk.history("client") == f"{HALF}, CLOSE_WAIT acknowledged, LAST_ACK sent"


# --- RST ----------------------------------------------------------------------------------------------------


def test_refused() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.send(4 | 16, 0)
    assert talk.history("client") == "SYN_SENT sent, CLOSED assumed"
    assert "refused" in talk.told()


def test_a_reset_of_a_syn_must_acknowledge_it() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.send(4 | 16, 0, ack=5)
    assert talk.history("client") == "SYN_SENT sent"


def test_a_half_open_scan_was_never_established() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.bare_reset()
    assert talk.retracted("client") == "rcv_synack"
    assert talk.history("client") == "SYN_SENT sent, CLOSED sent"
    assert talk.history("server") == "SYN_RECEIVED sent, CLOSED assumed"


def test_abort_on_overflow_was_never_established() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    talk.server.bare_reset()
    assert talk.retracted("server") == "rcv_ack_of_syn"
    assert talk.history("server") == "SYN_RECEIVED sent, CLOSED sent"
    assert talk.final() == ("CLOSED", "CLOSED")


@pytest.mark.parametrize("offset", [-1, 1, 5000, -70_000, 1 << 30])
def test_a_reset_outside_the_window_ends_nothing(offset: int) -> None:
    talk = Talk().open()
    talk.server.reset(ack=1)
    assert talk.final()[0] == "CLOSED"
    talk = Talk().open()
    talk.server.send(4, (talk.server.next + offset) & 0xFFFFFFFF)
    assert talk.final()[0] == "ESTABLISHED"
    assert "reset_ignored" in talk.told()


def test_who_goes_on_did_not_accept_the_reset() -> None:
    talk = Talk().open()
    talk.server.reset(lost=True)
    assert talk.final() == ("CLOSED", "CLOSED")
    talk.wait(1).client.data()
    assert talk.retracted("client") == "rcv_rst"
    assert talk.final() == ("ESTABLISHED", "CLOSED")


def test_a_forged_reset_does_not_end_its_pretended_sender() -> None:
    talk = Talk().open()
    for _ in range(2):
        talk.server.data()
        talk.client.ack()
    talk.server.bare_reset(ttl=59)
    assert "reset_forged" in talk.told()
    assert talk.final() == ("CLOSED", "ESTABLISHED")


def test_a_path_that_changed_makes_no_forged_reset() -> None:
    """Four plain segments come by another way before the RST does."""
    talk = Talk().open()
    for _ in range(4):
        talk.server.data()
        talk.client.ack()
    talk.server.ttl = 57
    for _ in range(4):
        talk.server.data()
        talk.client.ack()
    talk.server.bare_reset()
    assert "reset_forged" not in talk.told()
    assert talk.final() == ("CLOSED", "CLOSED")


def test_who_has_reset_and_speaks_has_not_reset() -> None:
    talk = Talk().open()
    talk.server.reset(lost=True)
    talk.server.data()
    assert talk.retracted("server") == "snd_rst"
    assert talk.final()[1] == "ESTABLISHED"


def test_a_challenge_keeps_the_old_incarnation_until_the_opener_resets_it() -> None:
    """RFC 9293 3.5.1, figure 9: the client has forgotten the connection, the server has not."""
    talk = Talk().open()
    old_next = talk.client.next
    talk.wait(5).client.syn(new=True, lost=True)
    assert talk.final(0) == ("CLOSED", "ESTABLISHED")
    talk.server.ack(ack=old_next)
    talk.client.bare_reset(seq=old_next)
    assert talk.final(0) == ("CLOSED", "CLOSED")
    assert talk.final(1)[0] == "SYN_SENT"
    talk.client.syn()
    talk.server.iss = talk.server.next = 900_000
    talk.server.synack()
    talk.client.ack()
    assert talk.history("client", 1) == HALF
    assert talk.streams == 2


# --- time-outs, ICMP, probes --------------------------------------------------------------------------------


def test_retransmissions_into_silence_end_in_giving_up() -> None:
    talk = Talk().open()
    talk.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8, 1.6):
        talk.wait(seconds - 0.01).client.again(lost=True)
    last = talk.now - talk.rows[0][0] - 10 * MS
    assert talk.final()[0] == "ESTABLISHED"
    talk.wait(5)
    assert talk.history("client") == f"{HALF}, CLOSED timer"
    assert talk.when("client", "CLOSED") == last + 3200 * MS
    talk.client.again()
    assert talk.retracted("client") == "give_up"
    assert talk.final()[0] == "ESTABLISHED"


def test_loss_that_was_made_good_ends_nothing() -> None:
    talk = Talk().open()
    talk.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8):
        talk.wait(seconds).client.again(lost=True)
    talk.wait(1.6).client.again()
    talk.server.ack()
    talk.wait(600)
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


def test_copies_within_microseconds_are_no_back_off() -> None:
    talk = Talk().open()
    talk.client.data()
    for number in range(4):
        talk.wait(-0.009999).client.again(ip_id=number + 7)
    talk.server.ack(lost=True)
    talk.wait(600)
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


def test_an_icmp_error_ends_an_opening_and_nothing_else() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    talk.client.is_quoted()
    assert talk.history("client") == "SYN_SENT sent, CLOSED assumed"
    talk.wait(1).client.syn()
    assert talk.retracted("client") == "icmp"
    talk = Talk().open()
    talk.client.is_quoted()
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert "icmp_error" in talk.told()


def test_fragmentation_needed_is_no_error_of_the_connection() -> None:
    talk = Talk()
    talk.client.syn()
    talk.client.is_quoted(code=4)
    assert talk.final()[0] == "SYN_SENT"


def test_fin_wait_2_does_not_expire_by_itself_but_a_bare_reset_tells() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.ack()
    talk.wait(300)
    assert talk.final() == ("FIN_WAIT_2", "CLOSE_WAIT")
    talk.server.data()
    talk.client.bare_reset()
    assert talk.history("client").endswith("FIN_WAIT_2 assumed, CLOSED timer")


def test_an_answered_keepalive_changes_nothing() -> None:
    talk = Talk().open()
    for _ in range(3):
        talk.wait(75).client.keepalive()
        talk.server.ack()
    talk.wait(75)
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert talk.told().count("keepalive_probe") == 3
    assert talk.told().count("window_probe") == 0


def test_a_window_probe_is_no_keepalive() -> None:
    talk = Talk().open()
    talk.server.ack(window=0)
    for _ in range(3):
        talk.wait(1).client.keepalive()
        talk.server.ack(window=0)
    assert talk.told().count("window_probe") == 3
    assert talk.told().count("keepalive_probe") == 0
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


# --- what was not captured ----------------------------------------------------------------------------------


def test_an_endpoint_is_unknown_until_it_speaks() -> None:
    talk = Talk()
    talk.client.data()
    talk.client.data()
    assert talk.final() == ("ESTABLISHED", "UNKNOWN")
    talk.server.ack()
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert talk.history("server") == "ESTABLISHED sent"


def test_one_direction_claims_nothing_about_the_other() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack(unseen=True)
    talk.client.ack()
    talk.client.data()
    talk.client.fin()
    talk.wait(600).client.ack()
    assert talk.history("server") == ""
    assert talk.final()[1] == "UNKNOWN"
    assert talk.history("client").startswith(HALF)


def test_only_the_answers_were_captured() -> None:
    talk = Talk()
    talk.client.syn(unseen=True)
    talk.server.synack()
    talk.client.ack(unseen=True)
    talk.server.data()
    assert talk.history("client") == ""
    assert talk.history("server") == OPENED


def test_the_missing_synack_is_inferred() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack(unseen=True)
    talk.client.ack()
    talk.server.data()
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert talk.history("client") == HALF


@pytest.mark.parametrize("first", ["client", "server"])
def test_roles_in_mid_stream_follow_the_port(first: str) -> None:
    talk = Talk()
    getattr(talk, first).data()
    getattr(talk, first).data()
    told = talk.tracked().flow_rows(0, 1)[0]
    assert told[columns.O_PORTS] == 40000 << 16 | 80
    assert told[columns.O_ROLES] == 3, "by the lower port"


# --- confusions that must not happen -------------------------------------------------------------------------


def test_a_retransmitted_opening_starts_no_second_connection() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    talk.wait(1).client.syn()
    talk.server.synack(lost=True)
    talk.wait(1).server.synack()
    talk.client.ack()
    talk.server.data()
    assert talk.streams == 1
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


def test_a_new_incarnation_is_not_merged_with_the_old_one() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    talk.wait(1).client.syn(new=True)
    talk.server.iss = talk.server.next = 900_000
    talk.server.synack()
    talk.client.ack()
    talk.server.data()
    assert talk.streams == 2
    assert talk.final(0) == ("CLOSED", "CLOSED")
    assert talk.history("client", 0).endswith("TIME_WAIT acknowledged, CLOSED sent")
    assert talk.final(1) == ("ESTABLISHED", "ESTABLISHED")
    told = talk.told()
    assert "new_incarnation" in told
    assert "time_wait_reused" in told, "its client held TIME-WAIT (RFC 6191)"


def test_a_new_incarnation_of_a_live_connection_reuses_no_time_wait() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.ack()
    talk.client.syn(new=True)
    talk.server.iss = talk.server.next = 900_000
    talk.server.synack()
    talk.client.ack()
    assert "time_wait_reused" not in talk.told()


def test_the_same_frame_twice_is_no_retransmission() -> None:
    talk = Talk()
    for step in ("syn", "synack", "ack", "data"):
        host = talk.server if step == "synack" else talk.client
        getattr(host, step)(ip_id=77)
        copy = type(talk.rows[-1])(talk.rows[-1])
        copy[1] += 1
        copy[0] += 1000
        talk.add(copy, unseen=False)
    assert talk.told().count("duplicate_frame") == 4
    assert "retransmission" not in talk.told()
    assert "syn_retransmitted" not in talk.told()
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert talk.history("server") == "SYN_RECEIVED sent, ESTABLISHED assumed"


def test_sequence_numbers_wrap() -> None:
    histories = []
    for iss in (1000, 0xFFFFFFFF, 0xFFFFFF9A, 0x7FFFFFFF):
        talk = Talk(client_iss=iss, server_iss=iss ^ 0x80000000).open()
        talk.client.data(1000)
        talk.server.fin()
        talk.client.fin()
        talk.server.ack()
        histories.append((talk.history("client"), talk.history("server")))
    assert len(set(histories)) == 1
    assert histories[0][0] == f"{HALF}, CLOSE_WAIT acknowledged, LAST_ACK sent, CLOSED assumed"


def test_an_idle_connection_is_not_dead() -> None:
    talk = Talk().open().wait(1_000_000)
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")
    assert talk.history("client") == HALF


def test_segments_larger_than_any_mtu() -> None:
    talk = Talk().open()
    talk.client.data(60_000)
    talk.server.ack()
    assert talk.tracked().flow_rows(0, 1)[0][columns.O_CLIENT + columns.P_UNIQUE] == 60_100
    assert talk.final() == ("ESTABLISHED", "ESTABLISHED")


def test_a_clock_that_runs_backwards_does_no_harm() -> None:
    talk = Talk()
    talk.client.syn()
    talk.wait(-5).server.synack()
    talk.client.ack()
    talk.wait(-7).client.data()
    talk.server.ack()
    assert talk.history("client") == HALF
    assert talk.history("server") == OPENED
    times = [line[2] for line in talk.rows_of("client")]
    assert times == sorted(times)


# --- rules switched off --------------------------------------------------------------------------------------


def test_a_rule_can_be_switched_off() -> None:
    for rule, state in ((None, "SYN_RECEIVED"), ("retract_synack", "ESTABLISHED")):
        talk = deaf_server()
        talk.options = Options(without_rules=frozenset({rule}) if rule else frozenset())
        assert talk.final()[1] == state


def test_a_round_trip_is_not_measured_by_a_clock_that_ran_backwards() -> None:
    talk = Talk()
    talk.client.syn()
    talk.wait(-5).server.synack()
    talk.client.ack()
    talk.server.synack()  # sent before the ACK came
    assert talk.retracted("server") == ""
    assert talk.final()[1] == "ESTABLISHED"


def test_a_reset_with_the_number_of_the_fin_is_taken_behind_it() -> None:
    """The server answers data that crossed its FIN; Linux takes that RST in CLOSE-WAIT, LAST-ACK and CLOSING."""
    talk = Talk().open()
    talk.server.fin()
    fin = talk.server.iss + 1
    talk.client.fin()
    talk.server.bare_reset(seq=fin)
    assert talk.history("client").endswith("LAST_ACK sent, CLOSED assumed")
    talk = Talk().open()
    talk.server.fin()
    talk.client.ack()
    talk.server.bare_reset(seq=fin - 1)
    assert talk.history("client").endswith("CLOSE_WAIT acknowledged")
