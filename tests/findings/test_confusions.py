"""The nine confusions of CRITERIA.md that must not happen, each on the conversation that invites it."""

from __future__ import annotations

import pytest

from observer import segments as seg
from observer.segments import ACK_FLAG, FIN
from tests.findings.telling import Tale, found_in, siblings, together
from tests.tcp.segments import MASK, Row

HALF = {"half_open", "half_established", "half_open_reconnect"}


def alarms(tale: Tale) -> list[str]:
    """Everything beyond information."""
    return tale.codes(least="warning") + tale.codes(None, least="warning")


# --- 1 ------------------------------------------------------------------------------------------------------------


def test_1_half_closed_is_not_half_open() -> None:
    tale = Tale().open()
    tale.client.fin()
    tale.server.ack()
    for _ in range(5):
        tale.wait(0.5).server.data()
        tale.client.ack()
    tale.server.fin()
    tale.client.ack()
    tale.wait(10)
    assert not tale.codes()
    assert "half_closed" in tale.told()


def test_1_embryonic_is_neither_half_open_nor_half_established() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    for seconds in (1, 2, 4, 8, 16):
        tale.wait(seconds).server.synack()
    tale.wait(40)
    assert not HALF & set(tale.codes())


@pytest.mark.parametrize("idle_s", [10, 3600, 100_000])
def test_1_idle_is_not_dead(idle_s: int) -> None:
    tale = Tale().open()
    tale.wait(idle_s)
    assert not alarms(tale)
    assert tale.final() == ("ESTABLISHED", "ESTABLISHED")


# --- 2 ------------------------------------------------------------------------------------------------------------


def test_2_an_answered_keepalive_is_nothing() -> None:
    tale = Tale().open()
    for _ in range(20):
        tale.wait(10).client.keepalive()
        tale.server.ack()
    assert not tale.codes()
    assert "keepalive_answered" in tale.told()


def test_2_keepalives_of_both_sides_are_nothing() -> None:
    tale = Tale().open()
    for _ in range(10):
        tale.wait(7).client.keepalive()
        tale.server.ack()
        tale.wait(3).server.keepalive()
        tale.client.ack()
    assert not tale.codes()


def test_2_a_window_that_opened_at_once_is_nothing() -> None:
    tale = Tale().open()
    tale.client.data(1000)
    tale.server.ack(window=0)
    tale.wait(0.05).server.ack(window=1000)
    tale.client.data(1000)
    tale.server.ack()
    assert not tale.codes()


# --- 3 ------------------------------------------------------------------------------------------------------------


def test_3_a_simultaneous_close_ends_in_time_wait_twice() -> None:
    tale = Tale().open()
    server_expects = tale.server.expects
    tale.client.fin()
    tale.server.send(FIN | ACK_FLAG, tale.server.next, ack=server_expects)
    tale.client.ack()
    tale.server.ack()
    assert tale.final() == ("TIME_WAIT", "TIME_WAIT")
    assert not tale.codes()
    assert "simultaneous_close" in tale.told()


# --- 4 ------------------------------------------------------------------------------------------------------------


def test_4_a_repeated_syn_and_synack_are_one_connection() -> None:
    tale = Tale()
    tale.client.syn(lost=True)
    tale.wait(1).client.syn()
    tale.server.synack(lost=True)
    tale.wait(1).server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    assert tale.streams == 1
    assert not alarms(tale)


def test_4_a_new_incarnation_does_not_inherit_faults() -> None:
    tale = Tale().open()
    tale.server.reset()
    tale.wait(1).client.syn(new=True)
    tale.server.iss = tale.server.next = 900_000
    tale.server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    assert tale.streams == 2
    assert tale.codes(0) == ["reset_on_close"]
    assert not tale.codes(1)


# --- 5 ------------------------------------------------------------------------------------------------------------


def test_5_a_reset_outside_the_window_ends_nothing() -> None:
    tale = Tale().open()
    tale.server.bare_reset(seq=(tale.server.next + 500_000) & MASK)
    tale.client.data()
    tale.server.ack()
    assert tale.final() == ("ESTABLISHED", "ESTABLISHED")
    assert not {"reset_on_close", "half_open"} & set(tale.codes())


def test_5_a_reset_inside_the_window_draws_a_challenge_and_ends_nothing() -> None:
    tale = Tale().open()
    tale.server.bare_reset(seq=tale.server.next + 17)
    tale.client.ack()
    tale.server.data()
    tale.client.ack()
    assert tale.final() == ("ESTABLISHED", "ESTABLISHED")
    assert not {"reset_on_close", "half_open"} & set(tale.codes())


# --- 6 ------------------------------------------------------------------------------------------------------------


def test_6_midstream_blames_no_opening() -> None:
    tale = Tale()
    tale.client.syn(unseen=True)
    tale.server.synack(unseen=True)
    tale.client.ack(unseen=True)
    for _ in range(3):
        tale.client.data()
        tale.server.data()
    tale.client.ack()
    tale.wait(30)
    assert not tale.codes()


def one_way(side: str, tale: Tale) -> Tale:
    """Only what one side sends is captured."""
    port = tale.client.end[1]
    kept = Tale()
    kept.rows = [row for row in tale.rows if (row[seg.SRC_PORT] == port) == (side == "client")]
    for frame, row in enumerate(kept.rows, 1):
        row[1] = frame
    kept.now, kept.frame = tale.now, len(kept.rows)
    return kept


@pytest.mark.parametrize("side", ["client", "server"])
def test_6_one_direction_accuses_nobody_unseen(side: str) -> None:
    tale = Tale().open()
    for _ in range(8):
        tale.client.data()
        tale.server.data()
        tale.wait(1)
    for seconds in (0.2, 0.4, 0.8, 1.6, 3.2):
        tale.wait(seconds).client.again()  # lost, and its answers unseen
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    seen = one_way(side, tale)
    assert not alarms(seen)


def test_6_one_direction_of_an_opening_accuses_nobody_unseen() -> None:
    tale = Tale()
    tale.client.syn()
    tale.server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.data()
    tale.client.ack()
    assert not alarms(one_way("client", tale))


# --- 7 ------------------------------------------------------------------------------------------------------------


def test_7_every_frame_twice_is_no_loss() -> None:
    tale = Tale().open()
    for _ in range(6):
        tale.client.data()
        tale.server.data()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    twice = Tale()
    for number, row in enumerate(tale.rows):
        for copy in range(2):
            again = Row(row)
            again[0] += 20_000 * copy  # a SPAN port's copy comes within microseconds
            again[1] = 2 * number + copy + 1
            again[seg.IP_ID] = number + 1
            twice.rows.append(again)
    twice.now, twice.frame = tale.now, 2 * len(tale.rows)
    assert not alarms(twice)
    assert twice.observation().flows.client_retransmitted.sum() == 0


# --- 8 ------------------------------------------------------------------------------------------------------------


def orderly(tale: Tale) -> Tale:
    tale.open()
    for _ in range(4):
        tale.client.data(1000)
        tale.server.data(1000)
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    return tale


@pytest.mark.parametrize("iss", [MASK, MASK - 2500, (1 << 31) - 1500])
def test_8_numbers_that_wrap_are_nothing(iss: int) -> None:
    assert not orderly(Tale(client_iss=iss, server_iss=iss - 700)).codes()


@pytest.mark.parametrize("iss", [1000, MASK - 50, (1 << 31) - 150])
def test_8_faults_are_found_where_numbers_wrap(iss: int) -> None:
    tale = Tale(client_iss=iss, server_iss=iss).open()
    for seconds in (0, 0.2, 0.4, 0.8, 1.6, 3.2):
        tale.wait(seconds)
        (tale.client.again if seconds else tale.client.data)(lost=True)
    tale.wait(10)
    assert "send_timeout" in tale.codes()


def test_8_time_stamps_that_leap_back_are_nothing() -> None:
    tale = orderly(Tale())
    for row in tale.rows[3::4]:
        row[0] -= 25_000_000
    assert not tale.codes()


def test_8_segments_larger_than_the_mtu_are_nothing() -> None:
    tale = Tale().open()
    for _ in range(4):
        tale.client.data(65_000)
        tale.server.ack()
    tale.client.fin()
    tale.server.fin()
    tale.client.ack()
    assert not tale.codes()


# --- 9 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 3, 6])
def test_9_loss_that_was_made_good_is_no_dead_peer(repeats: int) -> None:
    tale = Tale().open()
    tale.client.data(lost=True)
    for number in range(repeats):
        tale.wait(0.2 * 2**number).client.again(lost=number < repeats - 1)
    tale.server.ack()
    tale.server.data()
    tale.client.ack()
    assert not alarms(tale)


def test_9_a_silent_end_of_many_is_told_of_that_one_alone() -> None:
    """The success of another connection neither clears nor accuses."""

    def healthy(tale: Tale) -> None:
        orderly(tale)

    def silent(tale: Tale) -> None:
        tale.open()
        tale.client.data(lost=True)
        for seconds in (0.2, 0.4, 0.8, 1.6, 3.2):
            tale.wait(seconds).client.again(lost=True)

    tales = [*siblings(5, healthy), *siblings(1, silent, first_port=50_000)]
    found = found_in(together(*tales, end_ns=tales[-1].now + 20 * 10**9))
    assert {one.stream for one in found} == {5}
    assert {one.code for one in found} == {"send_timeout", "half_open"}
