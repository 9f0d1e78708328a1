"""Handshakes that one side has finished and the other has not: half-established, and the resets that follow.

The criteria: a server that repeats its SYN-ACK although the handshake's last ACK passed has not taken it; the client's
connect() has long returned.  Sources: RFC 9293 3.5 and 3.10.7; RFC 5961; schedules and fingerprints measured on Linux.

Never here: what happens to a connection that both sides had established (liveness.py, resets.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from observer.findings.case import Case, Note
from observer.findings.silence import REPEATS
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import MILLISECOND, SECOND, duration, times
from observer.registry import Finding, Wake

LATE_NS: Final = 20 * MILLISECOND  # scheduling of hosts, beside the round trip: an immediate answer comes sooner
EPISODE_NS: Final = 10 * SECOND  # resets of one listener that come within this time tell about each other
LONG_AGO_NS: Final = 200 * MILLISECOND  # a round trip where none was measured

TAP_NOT_AT_SERVER: Final = "the tap is not at the server: whether the ACK reached it cannot be seen"


# --- half-established ---------------------------------------------------------------------------------------
def half_established(case: Case) -> Iterator[Verdict]:
    """The client is ESTABLISHED, the server still SYN-RECEIVED."""
    client, server = case.client, case.server
    believed = client.last("rcv_synack")
    if believed is None or case.said("simultaneous_open", "fast_open"):
        return
    stateless = server.said("stateless_synack")
    again = _repeats_after_ack(case, believed.time)
    if stateless and not again and server.last("rcv_ack_of_syn") is not None:
        return  # it answered at last: what it had not answered before was lost
    unprovoked = _repeats_before_ack(case, believed.time) if not again else []
    if not again and not unprovoked and not kept_no_request(case):
        return
    begin, end = believed.time, _left(case)
    if not again and stateless and server.last("rcv_ack_of_syn") is None:
        end = client.steps[-1].time if client.state == "CLOSED" else None  # the client alone believes in it
    if end is not None and end < begin:
        return  # two taps whose clocks differ
    done = server.last("rcv_ack_of_syn")
    frames = clean_frames(
        believed.frame,
        *(step.frame for step in server.withdrawn if step.cause == "rcv_ack_of_syn"),
        *(note.frame for note in [*again, *unprovoked, *stateless][:8]),
        done.proof if done else None,
        *(note.frame for note in server.resets[:1]),
    )
    cause, grade = _cause_of(case, again, stateless, begin)
    recovered = done is not None
    held = (end or case.around.end_ns) - begin
    if stateless and not again:
        told = "the server never sent anything beyond its one SYN-ACK, though the client sent its data again and again"
    else:
        told = f"the server repeated its SYN-ACK {times(len(again or unprovoked))} after the client was established"
    after = _how_it_left(case, recovered=recovered, held=held, kept=cause != "syn_cookie")
    yield Verdict(
        grade=grade,
        endpoint="server",
        cause=cause,
        begin=begin,
        end=end,
        frames=frames,
        severity=_severity(cause, held, recovered=recovered),
        summary=f"connect() succeeded, but {told}; {after}.",
        unknown=case.around.caveat(
            "" if case.tap == "server" else TAP_NOT_AT_SERVER,
            "after one repeat alone, a full accept queue looks the same" if cause == "final_ack_lost" else "",
            "a path or filter that lets the handshake pass and drops what follows looks the same"
            if cause == "syn_cookie"
            else "",
            "" if end is not None else "the capture ends before this was over",
        ),
    )


def kept_no_request(case: Case) -> bool:
    """Whether a server that said nothing beyond its one SYN-ACK may have answered with a SYN cookie and a full queue.

    Not if its listener finished handshakes that began meanwhile, and the client went on in vain; then it vanished
    (liveness.py).
    """
    stateless, believed = case.server.said("stateless_synack"), case.client.last("rcv_synack")
    if not stateless or believed is None:
        return False
    in_vain = max((note.value for note in case.client.said("unanswered")), default=0)
    return in_vain < REPEATS or not _siblings_served(case, believed.time, stateless[0].time)


def _asked(case: Case, repeat: Note) -> bool:
    """Whether a repeated SYN asked for a repeated SYN-ACK: it crossed the handshake's ACK, and nothing was dropped."""
    trip = max(2 * case.round_trip, LONG_AGO_NS)
    return any(repeat.time - trip < note.time < repeat.time for note in case.client.said("syn_retransmitted"))


def _repeats_after_ack(case: Case, established: int) -> list[Note]:
    """Repeated SYN-ACKs that show that the handshake's ACK was not taken: the first that does, and all behind it."""
    shown = [
        note for note in case.server.said("synack_after_ack") if note.time > established and not _asked(case, note)
    ]
    if not shown:
        return []
    repeats = case.server.said("synack_retransmitted")
    return [note for note in repeats if note.time >= shown[0].time and not _asked(case, note)]


def _repeats_before_ack(case: Case, established: int) -> list[Note]:
    """Repeated SYN-ACKs that no repeated SYN asked for, before any ACK passed the tap: the client's ACK was lost.

    The client had the first SYN-ACK all the while, as its timestamp echo proves (else the SYN-ACK may have been lost).
    """
    proved = case.client.last("rcv_synack")
    if proved is None or proved.certainty != "acknowledged" or not case.flow["timestamps"]:
        return []
    asked = case.client.said("syn_retransmitted")
    repeats = case.server.said("synack_retransmitted")
    if asked or case.server.said("deferred_accept") or case.server.last("rcv_ack_of_syn") is None:
        return []
    return [note for note in repeats if note.time > established]


def _left(case: Case) -> int | None:
    """When the server left SYN-RECEIVED; None: it had not."""
    for step in case.server.steps:
        if step.from_state == "SYN_RECEIVED":
            return step.time
    return case.server.steps[-1].time if case.server.state == "CLOSED" and case.server.steps else None


def _cause_of(case: Case, again: list[Note], stateless: list[Note], begin: int) -> tuple[str, str]:
    """Why the server did not take the ACK, and how sure that it did not."""
    if stateless and not again:
        return "syn_cookie", "suspected"
    answered = case.client.packets - case.flow["syn_count"] > len(again)  # each repeat was acknowledged again
    grade = "confirmed" if len(again) >= 2 and answered else "probable"
    if len(again) >= 2 or (again and case.tap == "server"):
        return "accept_queue_full", grade
    if again and _siblings_stuck(case, again[0].time) and not _siblings_served(case, begin, again[-1].time):
        return "accept_queue_full", grade
    return "final_ack_lost", grade


def _siblings_stuck(case: Case, repeat: int) -> bool:
    """Whether other connections of the listener were half-established at the same moment.

    A full queue hits all that race for its last place; lost ACKs come one by one.
    """
    return len(case.around.noted_near("synack_after_ack", case, repeat - SECOND // 2, repeat + SECOND // 2)) >= 2


def _siblings_served(case: Case, begin: int, end: int) -> bool:
    """Whether the listener finished a handshake that began meanwhile: then its queue was not full."""
    return case.around.served.begun(case.around.listener(case), begin, end) > 0


def _how_it_left(case: Case, *, recovered: bool, held: int, kept: bool) -> str:
    server = case.server
    if recovered:
        return f"it took the connection after {duration(held)}"
    resets = server.resets
    if resets:
        left = "" if server.last("expire") is None else f"it gave up after {duration(held)}, and "
        return f"{left}it answered the client's octets with RST, so recv() failed with ECONNRESET"
    if server.state == "CLOSED" and not kept:
        return "probably it kept no request for it: a client that only receives waits for ever"
    if server.state == "CLOSED":
        return f"it dropped the request silently after {duration(held)}: a client that only receives waits for ever"
    return f"this had lasted {duration(held)} when the capture ended"


def _severity(cause: str, held: int, *, recovered: bool) -> str:
    """A lost ACK that the next repeat makes good is the network's ordinary life."""
    if not recovered:
        return "problem"
    return "info" if cause == "final_ack_lost" else "warning"


HALF_ESTABLISHED: Final = Finding(
    name="half_established",
    title="half-established connection",
    definition="The client is ESTABLISHED: its connect() returned, its send() succeeds. The server is still in "
    "SYN-RECEIVED: its accept() cannot return. Seen by the server's repeating its SYN-ACK after the client's ACK.",
    source="RFC 9293 3.5 and 3.10.7.4; measured on Linux (net.ipv4.tcp_synack_retries, somaxconn)",
    severity="problem",
    remedy="Accept faster, or raise listen()'s backlog together with net.core.somaxconn; watch `ss -ltn` (Recv-Q "
    "against Send-Q) and nstat TcpExtListenOverflows.",
    causes={
        "accept_queue_full": "the listener's accept queue is full, so the kernel drops the handshake's last ACK",
        "final_ack_lost": "the handshake's last ACK was lost on its way",
        "syn_cookie": "the server answered with a SYN cookie and could not take the connection when the ACK came",
    },
    wakes=(Wake("synack_after_ack"), Wake("stateless_synack"), Wake("synack_retransmitted")),
    judge=half_established,
)


# --- resets of connections that the server never had ---------------------------------------------------------
def _never_spoke(case: Case) -> Note | None:
    """The bare RST of a server that sent nothing but SYN-ACKs before."""
    server = case.server
    resets = server.resets
    if case.client.last("snd_fin") is not None or case.client.resets:
        return None  # it answers the client's own close
    if not resets or not case.flow["synack_count"] or not _client_acked(case):
        return None
    if server.packets - case.flow["synack_count"] > len(resets) or "from_socket" in resets[0].facts:
        return None
    return None if server.said("reset_forged") else resets[0]


def _client_acked(case: Case) -> bool:
    """Whether the client finished its side of the handshake."""
    return case.client.was("ESTABLISHED") and case.client.packets > case.flow["syn_count"]


def answers_ack(case: Case, reset: Note) -> bool:
    """Whether a RST came within about a round trip of what provoked it and of the handshake's ACK."""
    believed = case.client.last("rcv_synack")
    trip = case.round_trip or LONG_AGO_NS
    return believed is not None and reset.time - believed.time <= trip + trip // 2 + LATE_NS


def _knew_nothing(case: Case) -> bool:
    """Whether the server showed that it had not taken the handshake's ACK."""
    return bool(case.server.said("synack_after_ack", "stateless_synack", "synack_retransmitted"))


def accept_overflow_reset(case: Case) -> Iterator[Verdict]:
    """The handshake's last ACK is answered by RST at once."""
    reset = _never_spoke(case)
    if reset is None or _knew_nothing(case) or not answers_ack(case, reset):
        return
    believed = case.client.last("rcv_synack")
    alike = len(case.around.noted_near("reset", case, reset.time - EPISODE_NS, reset.time + EPISODE_NS))
    yield Verdict(
        grade="confirmed" if alike >= 2 and case.client.count("octets") == 0 else "probable",
        endpoint="server",
        cause="abort_on_overflow",
        begin=believed.time if believed else reset.time,
        end=reset.time,
        frames=clean_frames(believed.frame if believed else None, reset.frame),
        summary="The server answered the handshake's last ACK with RST: connect() had succeeded, and the next call "
        "fails with ECONNRESET.",
        unknown=case.around.caveat("a proxy or firewall that rejects after the handshake looks the same"),
    )


def half_established_reset(case: Case) -> Iterator[Verdict]:
    """The server gave its half of the handshake up, and says so when the client sends."""
    reset = _never_spoke(case)
    if reset is None or not _knew_nothing(case):
        return
    believed = case.client.last("rcv_synack")
    begin = believed.time if believed else case.first_time
    yield Verdict(
        grade="confirmed" if case.server.said("synack_after_ack") else "probable",
        endpoint="server",
        cause="request_expired",
        begin=begin,
        end=reset.time,
        frames=clean_frames(
            *(note.frame for note in case.server.said("synack_after_ack", "synack_retransmitted")[:4]), reset.frame
        ),
        summary=f"The server had never finished the handshake and forgot it; {duration(reset.time - begin)} after "
        "connect() returned it answered with a RST that has no connection behind it: recv() fails with ECONNRESET.",
        unknown=case.around.caveat(),
    )


ACCEPT_OVERFLOW_RESET: Final = Finding(
    name="accept_overflow_reset",
    title="reset by a full accept queue",
    definition="A bare RST within about one round trip of the handshake's last ACK, from a server that sent nothing "
    "but its SYN-ACK: the accept queue is full and net.ipv4.tcp_abort_on_overflow is set.",
    source="measured on Linux (tcp_abort_on_overflow); RFC 9293 3.5.2",
    severity="problem",
    remedy="Accept faster, or raise listen()'s backlog together with net.core.somaxconn.",
    causes={"abort_on_overflow": "accept queue full with net.ipv4.tcp_abort_on_overflow = 1"},
    wakes=(Wake("reset"),),
    judge=accept_overflow_reset,
)

HALF_ESTABLISHED_RESET: Final = Finding(
    name="half_established_reset",
    title="reset of a half-established connection",
    definition="A half-established connection whose server forgot its request and answers the client's data with a "
    "bare RST (sequence number = the data's acknowledgment).",
    source="RFC 9293 3.5.2; measured on Linux",
    severity="problem",
    remedy="Cure the full accept queue (see half_established); clients should not take connect() for the server's "
    "consent, and should time out the first answer.",
    causes={"request_expired": "the server dropped its request after its last SYN-ACK"},
    wakes=(Wake("reset"),),
    judge=half_established_reset,
)
