"""Openings that come to nothing: no answer, a clear no, or a change of mind.

Never here: handshakes that one side has finished (handshake.py), ICMP errors (icmp.py).  Sources: RFC 9293 3.5.2, 3.8.1
and 3.10.7; RFC 6298 2; RFC 1122 4.2.3.5; measured on Linux.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from observer.findings.case import Case, Note
from observer.findings.forgery import spoke_late
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import duration
from observer.options import Options
from observer.registry import Finding, Wake

UNANSWERED_SYNS: Final = 3  # a SYN and two repeats: 3 s of silence on Linux (measured; one lost SYN is ordinary)


def _asks_in_vain(flows: Mapping[str, Any], options: Options) -> Any:
    return flows["syn_count"] >= UNANSWERED_SYNS


def _unanswered(case: Case) -> list[Note]:
    """The repeats of a SYN that nothing answered."""
    if case.flow["syn_count"] < UNANSWERED_SYNS or case.client.packets > case.flow["syn_count"]:
        return []
    if case.server.packets or case.said("icmp_error"):
        return []
    return case.client.said("syn_retransmitted")


def _server_works(case: Case) -> int:
    """Connections of the same listener that worked while the SYNs went unanswered."""
    return case.around.served.alive(case.around.listener(case), case.first_time, case.last_time)


def syn_dropped(case: Case) -> Iterator[Verdict]:
    """SYNs without any answer, of a listener whose other connections live."""
    repeats = _unanswered(case)
    alive = _server_works(case) if repeats else 0
    if not alive:
        return
    yield Verdict(
        grade="probable",
        endpoint="server",
        cause="accept_queue_full",
        begin=case.first_time,
        end=None,
        frames=clean_frames(case.flow["first_frame"], *(note.frame for note in repeats)),
        summary=f"{case.flow['syn_count']} SYNs over {duration(case.last_time - case.first_time)} went unanswered, "
        f"while {alive} other connection{'s' if alive > 1 else ''} of the same listener worked: connect() waits.",
        unknown=case.around.caveat("a firewall's rate limit or loss on this path alone looks the same"),
    )


def syn_timeout(case: Case) -> Iterator[Verdict]:
    """SYNs without any answer or other sign of life."""
    repeats = _unanswered(case)
    if not repeats or _server_works(case):
        return
    gave_up = case.client.last("give_up")
    held = duration(case.last_time - case.first_time)
    yield Verdict(
        grade="confirmed" if gave_up else "probable",
        endpoint="client",
        cause="no_answer",
        begin=case.first_time,
        end=gave_up.time if gave_up else None,
        frames=clean_frames(case.flow["first_frame"], *(note.frame for note in repeats)),
        summary=f"{case.flow['syn_count']} SYNs over {held} went unanswered: "
        + (
            "connect() failed with ETIMEDOUT, unless its application stopped waiting before."
            if gave_up
            else "connect() still waits at the end."
        ),
        unknown=case.around.caveat(
            "whether the SYNs or their answers were lost, or the host is down or filtered, looks the same",
            "" if gave_up else "the capture may end before the client gave up",
        ),
    )


SYN_DROPPED: Final = Finding(
    name="syn_dropped",
    title="SYNs dropped by a working server",
    definition=f"{UNANSWERED_SYNS} or more SYNs without any answer, while other connections of the same listener work. "
    "Linux drops new SYNs while the accept queue is full.",
    source="measured on Linux; RFC 9293 3.10.7.2",
    severity="problem",
    remedy="Look for a full accept queue (nstat TcpExtListenDrops), a firewall's rate limit, or a full SYN backlog.",
    causes={"accept_queue_full": "the listener's accept queue is full, so the kernel drops new SYNs"},
    wakes_flows=_asks_in_vain,
    judge=syn_dropped,
)

SYN_TIMEOUT: Final = Finding(
    name="syn_timeout",
    title="connect() without any answer",
    definition=f"{UNANSWERED_SYNS} or more SYNs without SYN-ACK, RST or ICMP error, and no sign of life of the "
    "listener.",
    source="RFC 9293 3.8.1; RFC 6298 2; RFC 1122 4.2.3.5",
    severity="problem",
    remedy="Check that the host is up, the address is right, and no firewall drops the SYNs silently.",
    causes={"no_answer": "host down, address wrong, or a filter drops the SYNs or their answers"},
    wakes_flows=_asks_in_vain,
    judge=syn_timeout,
)


# --- a clear no -----------------------------------------------------------------------------------------------
def refused(case: Case) -> Iterator[Verdict]:
    """The SYN is answered by RST."""
    believed = {note.frame for note in case.resets if "acceptable" in note.facts}
    taken = case.client.last("rcv_synack")
    for note in case.said("refused"):
        if note.frame not in believed:
            continue  # it does not acknowledge the SYN: no stack heeds it (RFC 9293 3.10.7.3)
        yield Verdict(
            grade="confirmed",
            endpoint=note.endpoint,
            cause="no_listener",
            begin=case.first_time,
            end=note.time,
            frames=clean_frames(case.flow["first_frame"], note.frame, taken.frame if taken else None),
            severity="info" if taken else None,
            summary="The SYN was answered with RST: connect() failed with ECONNREFUSED."
            if taken is None
            else "The SYN was answered with RST; the client asked again, as Windows does, and was taken "
            f"{duration(taken.time - note.time)} later: connect() succeeded.",
            unknown=case.around.caveat("a firewall that rejects in the server's name looks the same"),
        )
        return


REFUSED: Final = Finding(
    name="refused",
    title="connection refused",
    definition="The SYN is answered by RST,ACK with sequence number 0 and acknowledgment ISS+1: nobody listens there.",
    source="RFC 9293 3.10.7.1",
    severity="warning",
    remedy="Start the service, or correct address and port; look for a restart at that moment.",
    causes={"no_listener": "no socket listens on the port, or a firewall rejects"},
    wakes=(Wake("refused"),),
    judge=refused,
)


def takes_synack(reset: Note) -> bool:
    """Whether the RST by which a client answers a SYN-ACK also acknowledges it, as only an established socket does.

    The client's connect() had returned, and its ACK was not captured or was never sent; then it closed by RST
    (resets.py).  In SYN-SENT an abort sends nothing (RFC 9293 3.10.5), and CLOSED answers by a RST without ACK
    (3.10.7.1).
    """
    return "from_socket" in reset.facts and "acks_all" in reset.facts


def handshake_aborted(case: Case) -> Iterator[Verdict]:
    """The opener answers the SYN-ACK with RST, or the server takes its SYN-ACK back before the client's ACK."""
    if not case.flow["synack_count"] or case.said("reset_forged"):
        return
    client, server = case.client, case.server
    resets = client.resets
    if not resets or takes_synack(resets[0]) or server.said("old_incarnation_reset"):
        return
    only_syn = client.packets - case.flow["syn_count"] <= len(resets)
    if only_syn or spoke_late(case, client, resets[0]):
        scan = "from_socket" not in resets[0].facts
        yield Verdict(
            grade="confirmed",
            endpoint="client",
            cause="no_socket" if scan else "cancelled",
            begin=case.first_time,
            end=resets[0].time,
            frames=clean_frames(case.flow["first_frame"], resets[0].frame),
            summary="The client answered the SYN-ACK with RST: "
            + ("it had no socket for it (half-open scan, or connect() cancelled)." if scan else "connect() cancelled."),
            unknown=case.around.caveat(),
        )


HANDSHAKE_ABORTED: Final = Finding(
    name="handshake_aborted",
    title="handshake aborted by its opener",
    definition="The SYN-ACK is answered by RST: a half-open scan, a connect() that was cancelled, or a SYN-ACK for a "
    "socket that had already gone.",
    source="RFC 9293 3.5.2 and 3.10.7.3",
    severity="warning",
    remedy="Many from one address: a scan. From your own clients: look for connect time-outs that are too short.",
    causes={
        "no_socket": "a bare RST: nothing waited for the SYN-ACK (half-open scan, cancelled connect())",
        "cancelled": "a RST,ACK that does not acknowledge the SYN-ACK: the client's socket was closed meanwhile",
    },
    wakes=(Wake("reset"),),
    judge=handshake_aborted,
)
