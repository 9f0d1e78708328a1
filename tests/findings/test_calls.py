"""What the socket view says of conversations told in words: every outcome, and the three questions it must answer.

Errors by state are those of Linux (net/ipv4/tcp_input.c, tcp_reset; tcp_timer.c, tcp_write_err).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import observer
from observer import segments as seg
from observer.findings import calls_words as words
from observer.findings.calls import call_columns
from observer.observation import CaptureInfo, Observation
from observer.schema import CALLS, CERTAINTIES, ENDPOINTS, TABLES, Coded
from observer.tcp.states import EVENTS, STATES
from observer.wire import Decoder
from tests.tcp.segments import BEGIN, realistic, wild
from tests.tcp.talk import Talk

Line = tuple[str, str, str]


def observed(talk: Talk) -> Observation:
    """The conversation as an observation; its capture ends now."""
    tracker = talk.tracked()
    info = CaptureInfo(frames=talk.frame, first_time_ns=BEGIN, last_time_ns=talk.now)
    return Observation(None, talk.options, info, Decoder(observer.kernels.Interpreted(), talk.options), tracker, None)


def rows_of(talk: Talk) -> list[dict[str, Any]]:
    """The rows of the table as dictionaries, without those that only say that octets flow."""
    rows = observed(talk).calls.to_dict("records")
    plain = {words.SENDS.sentence.format(side=a) for a in ENDPOINTS}
    plain |= {words.RECEIVES.sentence.format(other=a) for a in ENDPOINTS}
    return [row for row in rows if row["summary"] not in plain]


def told(talk: Talk) -> list[Line]:
    return [(row["endpoint"], row["call"], row["outcome"]) for row in rows_of(talk)]


def sentence(talk: Talk, endpoint: str, call: str, outcome: str) -> str:
    found = [row["summary"] for row in rows_of(talk) if (row["endpoint"], row["call"], row["outcome"]) == (
        endpoint, call, outcome)]  # fmt: skip
    assert len(found) == 1, rows_of(talk)
    return str(found[0])


def lines(calls: Any) -> list[list[str]]:
    """The table as text."""
    return [[str(cell) for cell in row] for row in calls.to_numpy().tolist()]


OPEN = [("client", "connect", "ok"), ("server", "accept", "ok")]


# --- the three questions -------------------------------------------------------------------------------


def half_established() -> Talk:
    """The server repeats its SYN-ACK although every ACK passed the tap, and takes no octets."""
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack(lost=True)
    for pause in (1, 2):
        talk.wait(pause).server.synack()
        talk.client.ack(lost=True)
    talk.client.data(lost=True)
    return talk


def test_why_send_succeeds_on_a_half_established_connection() -> None:
    talk = half_established()
    assert ("client", "connect", "ok") in told(talk)
    assert ("server", "accept", "ok") not in told(talk)
    assert ("server", "accept", "blocked") in told(talk)
    assert "although the server has not completed the handshake" in sentence(talk, "client", "send", "ok")
    assert "kernel holds the octets" in sentence(talk, "client", "send", "ok")


def test_why_recv_fails_only_after_a_send() -> None:
    talk = half_established().wait(20)
    talk.client.again(lost=True)
    talk.server.bare_reset()
    assert "until the client's own octets draw a RST" in sentence(talk, "client", "recv", "blocked")
    assert "only because the client sent something" in sentence(talk, "client", "recv", "ECONNRESET")


def test_a_half_established_connection_that_recovers_blocks_nobody() -> None:
    talk = half_established()
    talk.server.expects = talk.client.next
    talk.server.ack()
    assert ("server", "accept", "ok") in told(talk)
    assert "until the server takes them" in sentence(talk, "client", "send", "ok")
    assert not [line for line in told(talk) if line[2] == "blocked"]


def test_one_synack_and_silence_has_two_explanations() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    talk.client.data(lost=True)
    for pause in (0.2, 0.4, 0.8, 1.6, 3.2):
        talk.wait(pause).client.again(lost=True)
    assert "if it vanished right after" in sentence(talk, "server", "accept", "blocked")
    assert "nothing shows that the server has completed" in sentence(talk, "client", "send", "ok")


def test_why_a_receiver_never_notices_a_dead_peer() -> None:
    talk = Talk().open()
    talk.server.reset(lost=True)
    talk.wait(1).client.keepalive()  # it still lives: the RST has not reached it
    recv = sentence(talk, "client", "recv", "blocked")
    assert "waits for ever" in recv and "only receives" in recv
    assert "would still return success" in sentence(talk, "client", "send", "ok")
    assert ("client", "recv", "ECONNRESET") not in told(talk)


def test_an_idle_connection_is_not_dead() -> None:
    assert told(Talk().open().wait(3600)) == OPEN


# --- connect and accept --------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.send(seg.RST | seg.ACK_FLAG, 0)
    assert told(talk) == [("client", "connect", "ECONNREFUSED")]


def test_nobody_answers() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    assert told(talk.wait(0.5)) == [("client", "connect", "blocked")]
    for pause in (1, 2, 4, 8):
        talk.wait(pause).client.syn(lost=True)
    assert told(talk.wait(100)) == [("client", "connect", "ETIMEDOUT")]


@pytest.mark.parametrize(("code", "errno"), [(0, "ENETUNREACH"), (1, "EHOSTUNREACH"), (3, "ECONNREFUSED")])
def test_an_icmp_error_answers_the_syn(code: int, errno: str) -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    talk.client.is_quoted(3, code)
    assert told(talk) == [("client", "connect", errno)]


def test_simultaneous_open_has_two_connects_and_no_accept() -> None:
    talk = Talk()
    talk.client.syn(lost=True)
    talk.server.syn()
    talk.client.expects = talk.server.next
    talk.server.expects = talk.client.next
    talk.client.synack()
    talk.server.synack()
    talk.client.data()
    talk.server.data()
    assert sorted(told(talk)) == [("client", "connect", "ok"), ("server", "connect", "ok")]


def test_a_scan_never_reaches_accept() -> None:
    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.bare_reset()
    assert told(talk) == [("server", "accept", "blocked")]


def test_times_are_those_of_the_endpoint() -> None:
    """Each segment comes 10 ms after the one before: the SYN-ACK reaches the client 5 ms after the tap."""
    talk = Talk().open()
    times = [row["time"].value - BEGIN for row in rows_of(talk)]
    assert times == [15_000_000, 25_000_000]


# --- ends ----------------------------------------------------------------------------------------------


def test_an_orderly_close_is_an_end_of_file_for_both() -> None:
    talk = Talk().open()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    assert told(talk) == [*OPEN, ("server", "recv", "eof"), ("client", "recv", "eof")]


def test_a_reset_of_a_live_socket() -> None:
    talk = Talk().open()
    talk.server.reset()
    assert told(talk) == [*OPEN, ("client", "recv", "ECONNRESET"), ("client", "send", "ECONNRESET")]
    assert "the server has reset the connection" in sentence(talk, "client", "recv", "ECONNRESET")


def test_octets_for_a_closed_socket_end_in_a_broken_pipe() -> None:
    talk = Talk().open()
    talk.server.fin()
    talk.client.ack()
    talk.wait(1).client.data(lost=True)
    talk.server.bare_reset(seq=talk.server.next)
    assert told(talk) == [*OPEN, ("client", "recv", "eof"), ("client", "send", "EPIPE")]


def vanished(repeats: int) -> Talk:
    """The server is gone; the client's octets are sent again with doubling gaps."""
    talk = Talk().open().wait(1)
    talk.client.data(lost=True)
    for n in range(repeats):
        talk.wait(0.2 * 2**n).client.again(lost=True)
    return talk


def test_a_sender_that_gives_up() -> None:
    talk = vanished(8).wait(600)
    assert "sent again 8 times" in sentence(talk, "client", "send", "ok")
    for call in ("recv", "send"):
        assert "8 retransmissions" in sentence(talk, "client", call, "ETIMEDOUT")


def test_an_icmp_error_says_why_a_sender_gave_up() -> None:
    talk = vanished(7)
    talk.client.send(seg.ACK_FLAG, talk.client.last[1], 100, lost=True,
                     kind=seg.KIND_QUOTED, icmp_type=3, icmp_code=1)  # fmt: skip
    talk.wait(20).client.again(lost=True)
    talk.wait(600)
    assert ("client", "recv", "EHOSTUNREACH") in told(talk)
    assert not [line for line in told(talk) if line[2] == "ETIMEDOUT"]


def test_loss_that_was_recovered_is_nothing() -> None:
    talk = vanished(4)
    talk.client.again()
    talk.server.ack()
    assert told(talk) == OPEN


def test_keepalive_that_nobody_answers() -> None:
    talk = Talk().open()
    for _ in range(3):
        talk.wait(10).client.keepalive(lost=True)
    talk.wait(10).client.reset(lost=True)
    assert "3 keepalive probes" in sentence(talk, "client", "recv", "ETIMEDOUT")
    assert "if the server is still there" in sentence(talk, "server", "recv", "ECONNRESET")


def test_a_close_between_probes_is_no_timeout() -> None:
    talk = Talk().open()
    for _ in range(3):
        talk.wait(10).client.keepalive(lost=True)
    talk.wait(3).client.reset()
    assert not [line for line in told(talk) if line[2] == "ETIMEDOUT"]


def test_an_answered_keepalive_says_nothing() -> None:
    talk = Talk().open()
    for _ in range(5):
        talk.wait(10).client.keepalive()
        talk.server.ack()
    assert told(talk) == OPEN


def test_a_closed_window_blocks_the_sender() -> None:
    talk = Talk().open()
    talk.server.ack(window=0)
    talk.wait(4).server.ack(window=1000)
    assert told(talk) == [*OPEN, ("client", "send", "blocked"), ("client", "send", "ok")]
    assert "for 4.0 s" in sentence(talk, "client", "send", "blocked")


def test_a_window_closed_for_a_moment_is_ordinary() -> None:
    talk = Talk().open()
    talk.server.ack(window=0)
    talk.server.ack(window=1000)
    assert told(talk) == OPEN


def test_nothing_is_said_of_a_side_that_was_never_seen() -> None:
    talk = Talk().open()
    alone = Talk()
    alone.rows = [row for row in talk.rows if row[seg.SRC_PORT] == talk.client.end[1]]
    alone.now = talk.now
    assert len(alone.rows) == 3
    assert not [row for row in observed(alone).calls.itertuples() if row.endpoint == "server"]


# --- the table as such ---------------------------------------------------------------------------------


def test_words_are_of_the_machine() -> None:
    """Every (cause, state) of the words is a transition or its variant, every call a call."""
    for table in (words.BY_CHANGE, words.BY_CHANGE_OF_OPENER):
        for (cause, state), tolds in table.items():
            assert cause in (*EVENTS, "rcv_bare_rst") and state in STATES
            assert all(one.call in CALLS for one in tolds)


def test_one_connection_alone_is_told_as_among_all(captures: Path) -> None:
    obs = observer.read(str(captures / "accept-queue-full.pcap"))
    whole = obs.calls
    for stream in range(len(obs.flows)):
        alone = observer.schema.from_columns("calls", call_columns(obs, [stream]))
        among = whole[whole.stream == stream].reset_index(drop=True)
        assert alone.astype(str).equals(among.astype(str))
        assert obs.flow(stream).calls.astype(str).equals(alone.astype(str))


@pytest.mark.parametrize("name", ["accept-queue-full", "zero-window", "loss-recovered", "simultaneous-open"])
def test_rows_are_valid_and_in_time_order(captures: Path, name: str) -> None:
    obs = observer.read(str(captures / f"{name}.pcap"))
    observer.schema.validate("calls", obs.calls)
    assert obs.calls.time.is_monotonic_increasing
    assert obs.calls.columns.tolist() == TABLES["calls"].names()


def test_no_row_rests_on_what_was_retracted(captures: Path) -> None:
    for path in sorted(captures.glob("*.pcap*")):
        columns = observer.read(str(path)).columns("calls")
        assert CERTAINTIES.index("retracted") not in np.unique(columns["certainty"])


@given(st.one_of(wild(), realistic()))
@settings(max_examples=150)
def test_whatever_happens_the_rows_are_valid(rows: list[list[int]]) -> None:
    """Any segments, sensible or not: valid rows, in time order, and each connection's alone are those among all."""
    talk = Talk()
    talk.rows, talk.frame = rows, len(rows)
    talk.now = max((row[seg.TIME] for row in rows), default=BEGIN)
    obs = observed(talk)
    observer.schema.validate("calls", obs.calls)
    assert obs.calls.time.is_monotonic_increasing
    alone = [line for n in range(obs.tracker.stream_count) for line in lines(obs.flow(n).calls)]
    assert sorted(alone) == sorted(lines(obs.calls))


def test_an_empty_capture_has_no_calls() -> None:
    columns = call_columns(observed(Talk()))
    outcome: Coded = columns["outcome"]
    assert columns.rows == 0 and len(outcome.codes) == 0
    assert len(observed(Talk()).calls) == 0
