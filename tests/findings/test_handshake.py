"""Openings that went wrong: what triggers each finding, and its nearest innocent neighbour."""

from __future__ import annotations

import pytest

from observer import segments as seg
from observer.segments import ACK_FLAG, RST
from tests.findings.telling import Tale, at_port, found_in, observe, siblings, together
from tests.tcp.segments import SECOND, Row


def opened(tale: Tale | None = None, **ack: bool) -> Tale:
    """SYN, SYN-ACK, ACK."""
    tale = tale or Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack(**ack)
    return tale


def stuck(tale: Tale, repeats: int = 3) -> Tale:
    """The server repeats its SYN-ACK, and the client acknowledges it each time."""
    opened(tale, lost=True)
    for number in range(repeats):
        tale.wait(2**number).server.synack()
        tale.client.ack(lost=True)
    return tale


# --- half_established ---------------------------------------------------------------------------------------------


def test_a_server_that_repeats_twice_has_a_full_queue() -> None:
    tale = stuck(Tale())
    tale.wait(5)
    one = tale.one("half_established")
    assert (one.grade, one.severity, one.endpoint, one.cause) == (
        "confirmed",
        "problem",
        "server",
        "accept_queue_full",
    )
    assert {2, 3, 4, 6, 8} <= set(one.frames), "SYN-ACK, ACK, and each repeat"
    assert one.end is None
    assert "tap" in one.unknown


def test_one_repeat_alone_may_be_a_lost_ack() -> None:
    tale = stuck(Tale(), repeats=1)
    tale.client.data()
    tale.server.ack()
    one = tale.one("half_established")
    assert (one.grade, one.severity, one.cause) == ("probable", "info", "final_ack_lost")
    assert one.end is not None, "it left SYN-RECEIVED"


def test_a_server_that_recovers_says_how_long_it_took() -> None:
    tale = stuck(Tale())
    tale.wait(8).server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    one = tale.one("half_established")
    assert (one.severity, one.cause) == ("warning", "accept_queue_full")
    assert "took the connection after" in one.summary
    assert 15 * SECOND < one.end - one.begin < 16 * SECOND


def test_a_server_that_gave_up_silently_leaves_the_client_waiting() -> None:
    tale = stuck(Tale(), repeats=5)
    tale.wait(120)
    one = tale.one("half_established")
    assert "waits for ever" in one.summary
    assert one.end is not None


def test_several_stuck_at_once_make_one_repeat_enough() -> None:
    tales = siblings(4, lambda tale: stuck(tale, repeats=1))
    found = [one for one in found_in(together(*tales)) if one.code == "half_established"]
    assert len(found) == 4
    assert {one.cause for one in found} == {"accept_queue_full"}


def test_deferred_accept_is_the_innocent_look_alike() -> None:
    """The first repeat comes late, and data is taken at once when it comes."""
    tale = opened()
    tale.wait(5.5).server.synack()
    tale.client.ack()
    tale.wait(1).client.data()
    tale.server.ack()
    assert not tale.codes()
    assert "deferred_accept" in tale.told()


def test_a_synack_for_a_repeated_syn_is_no_repeat_of_its_own() -> None:
    """Both SYNs reach the server; the second is answered while the first answer was on its way."""
    tale = Tale()
    tale.client.syn()
    tale.wait(1)
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    assert not tale.codes(least="warning")


def test_a_cookie_that_could_not_be_taken_is_suspected() -> None:
    tale = opened(lost=True)
    tale.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8, 1.6, 3.2):
        tale.wait(seconds).client.again(lost=True)
    tale.wait(10)
    one = tale.one("half_established")
    assert (one.grade, one.cause) == ("suspected", "syn_cookie")
    assert "0.0" not in one.summary
    assert one.end is None or one.end - one.begin > 6 * SECOND, "the client believed in it as long as it tried"
    assert "filter" in one.unknown


def test_a_server_that_vanished_is_no_cookie_where_its_listener_works() -> None:
    def healthy(tale: Tale) -> None:
        opened(tale)
        tale.client.data()
        tale.server.data()
        tale.client.ack()

    lonely = at_port(Tale(client_iss=77), 50_000)
    opened(lonely, lost=True)
    lonely.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8, 1.6, 3.2):
        lonely.wait(seconds).client.again(lost=True)
    others = siblings(6, healthy, apart_s=0.3)
    found = [one for one in found_in(together(lonely, *others, end_ns=lonely.now + 20 * SECOND)) if one.stream == 0]
    assert "half_established" not in {one.code for one in found}
    assert "send_timeout" in {one.code for one in found}


# --- resets of what the server never had --------------------------------------------------------------------------


def test_a_reset_of_the_third_ack_is_an_overflow() -> None:
    tale = opened()
    tale.server.bare_reset()
    one = tale.one("accept_overflow_reset")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "problem", "server", "abort_on_overflow")
    assert one.frames == [2, 4]
    assert tale.codes() == ["accept_overflow_reset"]


def test_three_of_a_kind_confirm_an_overflow() -> None:
    def reset(tale: Tale) -> None:
        opened(tale)
        tale.server.bare_reset()

    found = [one for one in found_in(together(*siblings(3, reset))) if one.stream is not None]
    assert {(one.code, one.grade) for one in found} == {("accept_overflow_reset", "confirmed")}


def test_a_reset_from_a_live_socket_is_no_overflow() -> None:
    tale = opened()
    tale.server.reset()
    assert "accept_overflow_reset" not in tale.codes()


def test_a_reset_long_after_the_third_ack_is_no_overflow() -> None:
    tale = opened()
    tale.wait(5).client.data()
    tale.server.bare_reset()
    assert "accept_overflow_reset" not in tale.codes()


def test_the_client_s_own_close_is_no_overflow() -> None:
    tale = opened()
    tale.client.fin()
    tale.server.bare_reset()
    assert "accept_overflow_reset" not in tale.codes()


def test_a_forgotten_request_is_answered_by_reset() -> None:
    tale = stuck(Tale(), repeats=2)
    tale.wait(60).client.data()
    tale.server.bare_reset()
    one = tale.one("half_established_reset")
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "server", "request_expired")
    assert one.frames[-1] == tale.frame
    assert "half_open" not in tale.codes()


def test_a_server_that_had_spoken_had_the_connection() -> None:
    tale = Tale().open()
    tale.wait(60).client.data()
    tale.server.bare_reset()
    assert not {"half_established_reset", "accept_overflow_reset"} & set(tale.codes())


# --- no answer ----------------------------------------------------------------------------------------------------


def ask(tale: Tale, count: int) -> Tale:
    for number in range(count):
        tale.wait(2 ** (number - 1) if number else 0).client.syn(lost=True)
    return tale


def test_syns_in_vain_are_a_time_out() -> None:
    tale = ask(Tale(), 4)
    one = tale.one("syn_timeout")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "problem", "client", "no_answer")
    assert one.frames == [1, 2, 3, 4]
    assert one.end is None
    tale.wait(60)
    assert (tale.one("syn_timeout").grade, tale.one("syn_timeout").end is None) == ("confirmed", False)


def test_two_syns_are_ordinary_loss() -> None:
    assert not ask(Tale(), 2).codes()


@pytest.mark.parametrize("answer", ["synack", "reset"])
def test_an_answered_syn_is_no_time_out(answer: str) -> None:
    tale = ask(Tale(), 4)
    if answer == "synack":
        tale.server.expects = tale.client.next
        tale.server.synack()
        tale.client.ack()
    else:
        tale.server.send(RST | ACK_FLAG, 0, ack=tale.client.next, window=0)
    assert not {"syn_timeout", "syn_dropped"} & set(tale.codes())


def test_syns_in_vain_of_a_listener_that_works_are_dropped() -> None:
    def works(tale: Tale) -> None:
        opened(tale)
        for _ in range(8):
            tale.wait(1).client.data()
            tale.server.data()

    tales = siblings(3, works)
    late = at_port(Tale(client_iss=99), 50_000)
    ask(late, 3)
    (one,) = [one for one in found_in(together(*tales, late)) if one.stream is not None]
    assert (one.code, one.grade, one.endpoint, one.cause) == ("syn_dropped", "probable", "server", "accept_queue_full")


# --- a clear no ---------------------------------------------------------------------------------------------------


def test_refused() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.send(RST | ACK_FLAG, 0, ack=tale.client.next, window=0)
    one = tale.one("refused")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "warning", "server", "no_listener")
    assert one.frames == [1, 2]
    assert tale.codes() == ["refused"]


def test_refused_and_asked_again() -> None:
    """Windows asks three times; the server has begun to listen in between."""
    tale = Tale()
    tale.client.syn()
    tale.server.send(RST | ACK_FLAG, 0, ack=tale.client.iss + 1, window=0)
    tale.wait(0.5).client.again()
    tale.server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    one = tale.one("refused")
    assert (one.severity, one.grade, one.endpoint) == ("info", "confirmed", "server")
    assert "connect() succeeded" in one.summary
    assert one.frames == [1, 2, 4]


def test_a_reset_that_acknowledges_something_else_refuses_nothing() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.send(RST | ACK_FLAG, 0, ack=tale.client.iss + 900, window=0)
    assert "refused" not in tale.codes()


def test_a_half_open_scan() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.bare_reset(seq=tale.client.next)
    one = tale.one("handshake_aborted")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "warning", "client", "no_socket")
    assert tale.codes() == ["handshake_aborted"]


def test_a_scanner_whose_own_kernel_answers_first() -> None:
    """The kernel resets what it has no socket for; the scanner's own TCP goes on seconds later."""
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.bare_reset()
    tale.wait(15).client.data()
    tale.server.bare_reset(seq=tale.server.next)
    one = tale.one("handshake_aborted")
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "client", "no_socket")
    assert tale.codes() == ["handshake_aborted"]


def test_a_client_that_goes_on_at_once_had_not_reset() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.bare_reset(lost=True)
    tale.client.ack()
    tale.client.data()
    tale.server.data()
    tale.wait(1).client.data()
    tale.server.ack()
    assert "handshake_aborted" not in tale.codes()
    assert tale.one("injected_reset").endpoint == "client"


def test_a_cancelled_connect() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.reset(ack=0)
    one = tale.one("handshake_aborted")
    assert (one.endpoint, one.cause) == ("client", "cancelled")


def test_a_reset_that_acknowledges_the_synack_is_of_an_established_socket() -> None:
    """Its ACK was lost before the tap, or never sent (health checks): connect() had returned, close() then reset."""
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.reset()
    one = tale.one("reset_on_close")
    assert (one.grade, one.endpoint, one.cause) == ("confirmed", "client", "linger_0")
    assert tale.codes() == ["reset_on_close"]


def test_a_reset_after_the_handshake_is_not_its_abort() -> None:
    tale = opened()
    tale.client.reset()
    assert "handshake_aborted" not in tale.codes()
    assert "reset_on_close" in tale.codes()


# --- ICMP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "cause"),
    [
        (3, 0, "network"), (3, 1, "host"), (3, 2, "protocol"), (3, 3, "port"), (3, 5, "source_route"),
        (3, 10, "prohibited"), (3, 13, "prohibited"), (11, 0, "ttl_exceeded"),
    ],
)  # fmt: skip
def test_icmp_to_a_syn(kind: int, code: int, cause: str) -> None:
    tale = Tale()
    tale.client.syn()
    tale.client.is_quoted(kind, code)
    one = tale.one("icmp_unreachable")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("confirmed", "problem", "client", cause)
    assert "connect() failed" in one.summary


def test_icmp_fragmentation_needed_is_path_mtu_discovery() -> None:
    """RFC 1191: type 3 code 4 asks for smaller packets, and is ordinary."""
    tale = Tale().open()
    tale.client.is_quoted(code=4)
    assert not tale.codes()


def test_icmp_to_an_established_connection_is_a_hint() -> None:
    tale = Tale().open()
    tale.client.data(lost=True)
    tale.client.is_quoted()
    for seconds in (0.5, 0.5, 0.5):
        tale.wait(seconds).client.again(lost=True)
        tale.client.is_quoted()
    one = tale.one("icmp_unreachable")
    assert (one.grade, one.cause, one.end) == ("confirmed", "host", None)
    assert "established connection" in one.summary


def test_a_capture_that_has_every_frame_twice_counts_each_once() -> None:
    """A copy of the SYN-ACK behind the client's ACK repeats nothing, and copies are no segments of the server."""
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.server.bare_reset(seq=tale.server.next)
    copies = []
    for number, row in enumerate(tale.rows):
        row[seg.FRAME] = 2 * number + 1
        row[seg.TIME] = tale.rows[0][seg.TIME] + number * 10_000  # the next segment comes before the copy of this one
        copy = Row(row)
        copy[seg.FRAME] += 3
        copy[seg.TIME] += 20_000
        copies += [row, copy]
    doubled = sorted(copies, key=lambda row: row[seg.TIME])
    codes = {one.code for one in found_in(observe(doubled, end_ns=tale.now))}
    assert codes == {"accept_overflow_reset"}


def test_a_server_that_answers_at_last_had_no_cookie() -> None:
    tale = opened()
    tale.client.data(lost=True)
    for seconds in (0.2, 0.4, 0.8):
        tale.wait(seconds).client.again(lost=True)
    tale.wait(1.6).client.again()
    tale.server.data()
    tale.client.ack()
    assert "half_established" not in tale.codes()
