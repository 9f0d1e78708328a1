"""One connection's story, from made-up tables: every line is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy
import output_samples as samples
import pytest

from observer.outputs.explain import render_explain
from observer.outputs.story_words import icmp_words
from observer.schema import CALLS, CERTAINTIES, MARKS, STATES, Coded, Columns

SYN, SYN_ACK, ACK, RST = 2, 18, 16, 4
CLIENT, SERVER = 0, 1
BIT = {name: bit for bit, name in MARKS.items()}


def coded(texts: list[str]) -> Coded:
    values = sorted(set(texts))
    return Coded(numpy.array([values.index(text) for text in texts], numpy.int64), values)


def packets(*rows: tuple[float, int, int, int, int, int, int]) -> Columns:
    """Make packets: time s, direction, flags, seq, ack, length, label; frames count from 1."""
    table = numpy.array([[int(row[0] * 1e9) + samples.START_NS, *row[1:]] for row in rows], numpy.int64).reshape(-1, 7)
    names = ("time", "direction", "flags", "seq", "ack", "length", "label")
    source: dict[str, Any] = {name: table[:, i] for i, name in enumerate(names)}
    source["frame"] = numpy.arange(1, len(rows) + 1)
    return Columns("packets", len(rows), source)


def transitions(*rows: tuple[int, float, int, str, str, str, str, int]) -> Columns:
    """Make transitions: endpoint, time s, frame, from, to, cause, certainty, proof frame."""
    source: dict[str, Any] = {
        "endpoint": numpy.array([row[0] for row in rows]),
        "time": numpy.array([int(row[1] * 1e9) + samples.START_NS for row in rows]),
        "frame": numpy.array([row[2] for row in rows]),
        "from_state": numpy.array([STATES.index(row[3]) for row in rows]),
        "to_state": numpy.array([STATES.index(row[4]) for row in rows]),
        "cause": coded([row[5] for row in rows]),
        "certainty": numpy.array([CERTAINTIES.index(row[6]) for row in rows]),
        "proof_frame": numpy.array([row[7] for row in rows]),
    }
    return Columns("transitions", len(rows), source)


def events(*rows: tuple[int, float, int, str, str]) -> Columns:
    """Make events: endpoint, time s, frame, event, detail."""
    source: dict[str, Any] = {
        "endpoint": numpy.array([row[0] for row in rows], numpy.int64),
        "time": numpy.array([int(row[1] * 1e9) + samples.START_NS for row in rows], numpy.int64),
        "frame": numpy.array([row[2] for row in rows], numpy.int64),
        "event": coded([row[3] for row in rows]),
        "detail": coded([row[4] for row in rows]),
    }
    return Columns("events", len(rows), source)


def flow(**given: Any) -> Columns:
    facts: dict[str, Any] = {
        "stream": [5], "first_time": [samples.START_NS], "last_time": [samples.START_NS + 9_000_000_000],
        "client_addr": [0], "server_addr": [1], "client_port": [40170], "server_port": [5001], "roles": [0],
        "ended": [1], "rst_sender": [1], "closed_first": [-1], "client_octets": [50], "server_octets": [0],
        "handshake_ns": [21_600_000], "tap": [0], "tap_grade": [1], "client_state": [0], "server_state": [0],
    }  # fmt: skip
    return samples.flows(1, **{**facts, **{name: [value] for name, value in given.items()}})


HALF_ESTABLISHED = {
    "flows": flow(),
    "packets": packets(
        (0.0, CLIENT, SYN, 0, -1, 0, 0),
        (0.02, SERVER, SYN_ACK, 0, 1, 0, 0),
        (0.021, CLIENT, ACK, 1, 1, 0, 0),
        (1.0, SERVER, SYN_ACK, 0, 1, 0, BIT["retransmission"]),
        (1.1, CLIENT, ACK, 1, 1, 0, BIT["duplicate_ack"]),
        (9.0, SERVER, RST, 1, -1, 0, 0),
    ),
    "transitions": transitions(
        (CLIENT, 0.0, 1, "CLOSED", "SYN_SENT", "snd_syn", "sent", -1),
        (SERVER, 0.02, 2, "CLOSED", "SYN_RECEIVED", "snd_synack", "sent", -1),
        (CLIENT, 0.02, 2, "SYN_SENT", "ESTABLISHED", "rcv_synack", "acknowledged", 3),
        (SERVER, 0.021, 3, "SYN_RECEIVED", "ESTABLISHED", "rcv_ack_of_syn", "retracted", 4),
        (SERVER, 7.0, -1, "SYN_RECEIVED", "CLOSED", "expire", "timer", -1),
        (CLIENT, 9.0, 6, "ESTABLISHED", "CLOSED", "rcv_rst", "assumed", -1),
    ),
    "events": events((SERVER, 1.0, 4, "synack_after_ack", "1")),
}


GOLDEN = """\
stream 5   10.0.1.0:40170 -> [2001:db8::1]:5001
  2026-11-21 02:12:03.123456 UTC, reset after 9 s by the server, 6 segments,
  50 B from the client, 0 B from the server, handshake 21.6 ms,
  tap near the client (probable)

    time s  client       frame                                     server
  0.000000  SYN-SENT         1  SYN seq 0 ---------------------->  CLOSED
  0.020000  ESTABLISHED      2  <------------ SYN,ACK seq 0 ack 1  SYN-RECEIVED
                                client: connect() returns, proved by frame 3
  0.021000  ESTABLISHED      3  ACK 1 -------------------------->  ESTABLISHED?
                                server: accept() can return, assumed; retracted
                                by frame 4
  1.000000  ESTABLISHED      4  <------ SYN,ACK seq 0 ack 1 again  SYN-RECEIVED
                                retracts frame 3: the server had not taken the
                                ACK
  1.100000  ESTABLISHED      5  ACK 1 again -------------------->  SYN-RECEIVED
  7.000000  ESTABLISHED  server: drops the request, no word        CLOSED
  9.000000  CLOSED?          6  <---------------------- RST seq 1  CLOSED
                                client: recv() fails: ECONNRESET, assumed

? assumed: it passed the tap, and nothing yet shows that it arrived"""


def told(tables: dict[str, Columns], **options: Any) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in render_explain(tables, **options)]


def test_half_established_connection() -> None:
    assert told(HALF_ESTABLISHED) == GOLDEN.split("\n")


def calls(*rows: tuple[int, str, str, float, int, str, str]) -> Columns:
    """Make calls: endpoint, call, outcome, time s, frame, certainty, sentence."""
    source: dict[str, Any] = {
        "endpoint": numpy.array([row[0] for row in rows], numpy.int64),
        "call": numpy.array([CALLS.index(row[1]) for row in rows], numpy.int64),
        "outcome": coded([row[2] for row in rows]),
        "time": numpy.array([int(row[3] * 1e9) + samples.START_NS for row in rows], numpy.int64),
        "frame": numpy.array([row[4] for row in rows], numpy.int64),
        "certainty": numpy.array([CERTAINTIES.index(row[5]) for row in rows], numpy.int64),
        "summary": coded([row[6] for row in rows]),
    }
    return Columns("calls", len(rows), source)


SOCKETS = calls(
    (CLIENT, "connect", "ok", 0.03, 2, "acknowledged", "connect() returns success: the SYN-ACK has arrived"),
    (CLIENT, "recv", "ok", 0.03, 2, "acknowledged", "recv() returns what the server sends, as it comes"),
    (CLIENT, "send", "ok", 1.1, 5, "sent", "send() returns success; nothing acknowledges it"),
    (SERVER, "accept", "blocked", 7.0, -1, "timer", "accept() never returns this connection: it gave up"),
    (CLIENT, "recv", "ECONNRESET", 9.0, 6, "assumed", "recv() fails with ECONNRESET: there is no socket"),
    (CLIENT, "send", "ECONNRESET", 9.0, 6, "assumed", "send() fails with ECONNRESET: there is no socket"),
)

WITH_CALLS = """\
  PROBLEM  probable  part of accept queue overflow: 10.0.1.9:5001
  PROBLEM  confirmed  half-established connection
           connect() succeeded, accept() cannot.
           Remedy: Accept faster.

    time s  client       frame                                     server
  0.000000  SYN-SENT        1   SYN seq 0 ---------------------->  CLOSED
  0.020000  ESTABLISHED     2   <------------ SYN,ACK seq 0 ack 1  SYN-RECEIVED
                                client: connect() returns success, proved by
                                frame 3
  0.021000  ESTABLISHED     3   ACK 1 -------------------------->  ESTABLISHED?
                                server: accept() can return, assumed; retracted
                                by frame 4
  1.000000  ESTABLISHED     4*  <------ SYN,ACK seq 0 ack 1 again  SYN-RECEIVED
                                retracts frame 3: the server had not taken the
                                ACK
  1.100000  ESTABLISHED     5   ACK 1 again -------------------->  SYN-RECEIVED
                                client: send() returns success
  7.000000  ESTABLISHED  server: drops the request, no word        CLOSED
                                server: accept() never returns this connection
  9.000000  CLOSED?         6*  <---------------------- RST seq 1  CLOSED
                                client: recv() and send() fail with ECONNRESET,
                                assumed

? assumed: it passed the tap, and nothing yet shows that it arrived
* evidence of a finding above

What the applications' calls did, as far as the wire tells
  client  0.030000  connect() returns success: the SYN-ACK has arrived
          0.030000  recv() returns what the server sends, as it comes
          1.100000  send() returns success; nothing acknowledges it
          9.000000  recv() and send() fail with ECONNRESET: there is no socket
                    (assumed)
  server  7.000000  accept() never returns this connection: it gave up"""


def test_findings_and_calls_are_woven_in() -> None:
    found = samples.findings(
        samples.verdict(stream=5, frames=[4, 6]),
        samples.verdict("accept_queue_overflow", None, streams=[5], grade="probable", frames=[1]),
    )
    story = told({**HALF_ESTABLISHED, "calls": SOCKETS, "findings": found})
    assert story[4:] == WITH_CALLS.split("\n")


def test_a_connection_without_findings_says_so() -> None:
    story = told({**HALF_ESTABLISHED, "calls": calls(), "findings": samples.findings()})
    assert story[4] == "  no findings" and story[5:] == GOLDEN.split("\n")[4:]


def test_many_calls_are_cut_in_the_middle() -> None:
    many = [
        (CLIENT, "send", "blocked", float(i), i + 1, "sent", f"send() blocks for the {i}th time") for i in range(40)
    ]
    tables = {**long_transfer(100), "calls": calls(*many)}
    section = told(tables)[-10:]
    assert section[0].startswith("What the applications' calls did")
    assert "32 more (--all)" in section[5] and section[-1].endswith("the 39th time")
    assert not any("more (--all)" in line for line in told(tables, everything=True))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_control_characters_and_no_long_lines_from_calls_and_findings(width: int) -> None:
    bad = "\x1b[2J\u202e " + "word " * 50
    tables = {
        **HALF_ESTABLISHED,
        "calls": calls((CLIENT, "recv", bad, 1.1, 5, "assumed", bad), (SERVER, "send", "ok", 2.0, -1, "sent", bad)),
        "findings": samples.findings(samples.verdict(summary=bad, remedy=bad, cause=bad)),
    }
    story = told(tables, width=width)
    assert all(line.isprintable() for line in story)
    assert [line for line in story if len(line) > max(width, 75)] == []


def long_transfer(count: int) -> dict[str, Columns]:
    rows = [(i * 0.001, i % 2, ACK, i * 100, 1, 100 if i % 2 == 0 else 0, 0) for i in range(count)]
    return {**HALF_ESTABLISHED, "packets": packets(*rows), "transitions": transitions(), "events": events()}


def test_uneventful_runs_are_folded() -> None:
    story = told(long_transfer(1000))
    assert len(story) < 15
    folded = [line for line in story if " ... " in line]
    assert folded == ["       ...  997 segments in 996 ms; 49.9 kB from the client"]
    everything = told(long_transfer(1000), everything=True)
    assert not [line for line in everything if " ... " in line]
    assert len([line for line in everything if "ack 1 len 100" in line or "ACK 1" in line]) == 1000


def test_a_million_segments_are_told_at_once() -> None:
    count = 1_000_000
    source = {
        "time": samples.START_NS + numpy.arange(count) * 1000, "frame": numpy.arange(1, count + 1),
        "direction": numpy.arange(count) % 2, "flags": numpy.full(count, ACK), "seq": numpy.arange(count),
        "ack": numpy.arange(count), "length": numpy.full(count, 10), "label": numpy.zeros(count, numpy.int64),
    }  # fmt: skip
    tables = {**long_transfer(1), "packets": Columns("packets", count, source)}
    assert any("999,996 segments in 1 s; 5 MB from the client, 5 MB from the server" in line for line in told(tables))


def test_unanswered_retransmissions_are_a_run_of_their_own() -> None:
    again = BIT["retransmission"]
    rows = [(i * 0.01, i % 2, ACK, 0, 1, 10, 0) for i in range(20)]
    rows += [(1.0 + 2**i, CLIENT, ACK, 0, 1, 10, again) for i in range(6)]
    tables = {**long_transfer(1), "packets": packets(*rows)}
    assert any("4 segments in 14 s; 40 B from the client, 4 retransmissions" in line for line in told(tables))


def test_probes_are_counted_by_what_they_are() -> None:
    rows = [
        (float(i), i % 2, ACK, 0, 1, 0, BIT["keep_alive"] if i % 2 == 0 else BIT["keep_alive_ack"]) for i in range(12)
    ]
    said = [(i % 2, float(i), i + 1, ("keepalive_probe", "keepalive_answered")[i % 2], "1") for i in range(12)]
    story = told({**long_transfer(1), "packets": packets(*rows), "events": events(*said)})
    assert any("5 keepalive probes" in line and "answers" in line for line in story)
    assert not any("keep alive" in line for line in story)


def test_an_icmp_error_is_told_once() -> None:
    tables = {
        "flows": flow(ended=2, rst_sender=-1),
        "packets": packets((0.0, CLIENT, SYN, 0, -1, 0, 0)),
        "transitions": transitions(
            (CLIENT, 0.0, 1, "CLOSED", "SYN_SENT", "snd_syn", "sent", -1),
            (CLIENT, 0.1, 2, "SYN_SENT", "CLOSED", "icmp", "assumed", -1),
        ),
        "events": events((CLIENT, 0.1, 2, "icmp_error", "type 3 code 1 from 10.0.1.1")),
    }
    story = " ".join(" ".join(told(tables)).split())
    assert story.count("ICMP host unreachable (type 3 code 1) from 10.0.1.1") == 1
    assert "CLOSED?" in story


@pytest.mark.parametrize("detail", ["type 1 code 4 from 2001:db8::1", "type 11 code 0 from 10.0.0.1", "nonsense"])
def test_icmp_words(detail: str) -> None:
    assert icmp_words(detail).startswith("ICMP")


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_whatever_the_numbers(width: int) -> None:
    top = 2**32 - 1
    rows = [(i * 1000.0, i % 2, 31 + 224, top, top, 65535, 65535) for i in range(6)]
    story = told({**HALF_ESTABLISHED, "packets": packets(*rows)}, width=width)
    assert [line for line in story if len(line) > width] == []


def test_no_control_characters_from_events() -> None:
    tables = {**HALF_ESTABLISHED, "events": events((SERVER, 1.0, 4, "odd\x1b[2J", "\x07"))}
    assert all(line.isprintable() for line in told(tables))
