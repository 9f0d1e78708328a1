"""RST instead of FIN: who aborted a connection that had been established, which way, and what it cost.

Two families are told apart on the wire: a RST from a live socket (RST,ACK with the socket's own numbers and window)
and one from no socket (bare, its number is the acknowledgment of what provoked it).  Resets of openings are in
handshake.py, those that show a lost connection or a time-out in liveness.py, those by third parties in forgery.py.

Sources: RFC 9293 3.5.2, 3.5.3 and 3.6; RFC 2525 2.17; RFC 1337; RFC 5961 3; fingerprints measured on Linux.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from observer.findings.around import SERVER_SENT
from observer.findings.case import SYNCHRONIZED, Case, End, Note
from observer.findings.forgery import is_forged
from observer.findings.opening import takes_synack
from observer.findings.silence import gave_up
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import MILLISECOND, SECOND, duration
from observer.registry import Finding, Wake

BURST_NS: Final = 100 * MILLISECOND  # a process that ends resets all its connections within this time (measured)
BURST: Final = 3  # resets in a burst, this one included
SHORT_NS: Final = 2 * SECOND  # no stack's FIN-WAIT-2 expires sooner by default (closing.py)
JUST_ARRIVED_NS: Final = 50 * MILLISECOND  # a delayed ACK waits 40 ms (Linux TCP_DELACK_MIN): so new, perhaps not read


def reset_on_close(case: Case) -> Iterator[Verdict]:
    """The first RST that ended an established connection, by class."""
    for reset in case.resets:
        sender = case.end(reset.endpoint)
        if not _ends_a_connection(case, sender, reset):
            continue
        cause, told = _class_of(case, sender, reset)
        if cause is None:
            continue
        receiver = case.other(sender)
        lost = "unacked" in reset.facts and "acks_all" not in reset.facts
        lost = lost and cause != "time_wait_assassination"
        more = [note.frame for note in sender.resets if note.frame > reset.frame]
        fins = [step.frame for end in case.ends for step in end.steps if step.cause == "snd_fin"]
        yield Verdict(
            grade=_grade(cause, reset),
            endpoint=sender.name,
            cause=cause,
            begin=reset.time,
            end=reset.time,
            frames=clean_frames(*fins, reset.frame, *more[:4]),
            severity="info" if cause == "after_close" else None,
            remedy=_REMEDIES.get(cause),
            summary=told + (f" Octets that the {receiver.name} had sent were not acknowledged." if lost else ""),
            unknown=case.around.caveat(_alternative(cause, sender, reset)),
        )
        return


def _ends_a_connection(case: Case, sender: End, reset: Note) -> bool:
    """Whether this RST is one of this module's: of an established connection, accepted, genuine, no time-out."""
    if not ("acceptable" in reset.facts or _challenged(sender, reset)) or is_forged(case, sender, reset):
        return False
    if sender.before(reset.frame) not in SYNCHRONIZED and not _was_closed(sender, reset):
        return False
    receiver = case.other(sender)
    if not receiver.packets or not (receiver.was(*SYNCHRONIZED) or (sender.name == "client" and takes_synack(reset))):
        return False
    return not gave_up(case, sender, reset)  # liveness.py


def _challenged(sender: End, reset: Note) -> bool:
    """Whether its receiver, who missed what came before it, asked back, and a RST at the right number answered.

    RFC 5961 3.2; the tap missed those octets, too, else it would take the RST for acceptable.
    """
    return "from_socket" in reset.facts and any(
        "from_socket" not in note.facts and {"acceptable", "at_last_ack"} <= note.facts
        for note in sender.resets
        if note.frame > reset.frame
    )


def _was_closed(sender: End, reset: Note) -> bool:
    """Whether its sender had gone through a whole close before (LAST-ACK or TIME-WAIT over, or FIN-WAIT-2 expired)."""
    return sender.before(reset.frame) == "CLOSED" and any(
        step.cause == "snd_fin" and step.frame < reset.frame for step in sender.steps
    )


def _sent_fin(end: End, frame: int) -> bool:
    return any(step.cause == "snd_fin" and 0 < step.frame < frame for step in end.steps)


def _class_of(case: Case, sender: End, reset: Note) -> tuple[str | None, str]:
    """The class of a reset and what it means, as a sentence."""
    receiver = case.other(sender)
    live = "from_socket" in reset.facts
    mine, theirs = _sent_fin(sender, reset.frame), _sent_fin(receiver, reset.frame)
    if mine:
        return _after_own_fin(case, sender, receiver, reset, theirs=theirs)
    if "acks_fin" in reset.facts:  # else a live socket had not got the FIN: they crossed
        closed = receiver.last("snd_fin")
        held = reset.time - closed.time if closed is not None else 0
        later = f", {duration(held)} later," if held >= SECOND else ""
        return "after_peer_fin", (
            f"The {sender.name} answered the {receiver.name}'s FIN{later} with RST instead of closing in order."
        )
    if not live:
        if theirs and sender.before(reset.frame) == "CLOSE_WAIT":
            return None, ""  # it lost the connection (liveness.py)
        if "at_last_ack" in reset.facts:
            return None, ""  # liveness.py
        return "bare_abort", f"The {sender.name} ended the connection with a RST without ACK flag."
    together = _burst(case, sender, reset)
    if together is not None:
        return together
    if receiver.count("octets") and _perhaps_unread(sender, reset):
        return "unread_data", (
            f"The {sender.name} closed with RST instead of FIN, with the {receiver.name}'s last octets unanswered: "
            "close() with unread octets in the buffer, or SO_LINGER 0."
        )
    return "linger_0", (
        f"The {sender.name} closed with RST instead of FIN: close() with SO_LINGER 0, or with unread octets."
    )


def _after_own_fin(case: Case, sender: End, receiver: End, reset: Note, *, theirs: bool) -> tuple[str | None, str]:
    """A RST of somebody who had sent FIN."""
    state = receiver.before(reset.frame)
    if state == "TIME_WAIT" and theirs:
        return "time_wait_assassination", (
            f"A RST of the {sender.name} reached the {receiver.name} in TIME-WAIT and can have ended it early."
        )
    spoke = [note for note in sender.said("half_closed") if note.frame <= reset.frame]
    if spoke and state in ("CLOSE_WAIT", "ESTABLISHED", "LAST_ACK"):
        since = next(step.time for step in sender.steps if step.cause == "snd_fin")
        closing = receiver.last("snd_fin") is not None  # it had not got the RST by then
        return "data_after_close", (
            f"The {sender.name} had closed both halves; what the {receiver.name} sent "
            f"{duration(spoke[0].time - since)} later drew a RST"
            + ("; it was closing, too." if closing else ": a further send() fails with EPIPE or ECONNRESET.")
        )
    if theirs:
        return "after_close", (
            f"The {sender.name} sent a RST after both sides had closed: no call waits for anything more."
        )
    closed = next(step.time for step in sender.steps if step.cause == "snd_fin")
    if "from_socket" in reset.facts and not 0 <= reset.data_gap <= reset.time - closed:
        return "linger_0", (
            f"The {sender.name} had sent FIN, and closed with RST before the {receiver.name} had: close() with "
            "SO_LINGER 0 after shutdown(), or its process ended."
        )
    return "data_after_close", (
        f"The {sender.name} had sent FIN and then reset the connection while the {receiver.name} had not closed."
    )


def _burst(case: Case, sender: End, reset: Note) -> tuple[str, str] | None:
    """Whether a server reset many connections of a listener at once: it was closed, or its process ended.

    A busy service resets several connections within a moment by chance, too; then others live on.  One that resets each
    of its connections in turn takes new ones meanwhile: what ends together was there together.
    """
    if sender.name != "server":
        return None
    around, begin, end = case.around, reset.time - BURST_NS, reset.time + BURST_NS
    crowd, others = around.crowd, around.noted_near("reset", case, begin, end)
    together = [one for one in others if crowd.first[one] < reset.time and crowd.last[one] > case.first_time]
    near = [case.stream, *together]
    if len(near) < BURST:
        return None
    told = f"The server reset {len(near)} connections within {duration(BURST_NS)}"
    if not (crowd.bits[near] & SERVER_SENT).any():
        return "listener_closed", (
            f"{told}, all before it had sent anything: the listener was closed with connections in its queue."
        )
    if around.served.alive(around.listener(case), end, begin) > len(near) // 4:
        return None
    return "process_gone", f"{told}, nearly all that it had: its process ended."


def _perhaps_unread(sender: End, reset: Note) -> bool:
    """Whether octets of the peer may have lain unread: they had just come, or a server had not answered them.

    A client that has just had its answer and resets has probably read it; a server that resets in place of an answer
    has probably not read the question.
    """
    if "unacked" in reset.facts:
        return True
    if 0 <= reset.own_gap <= reset.data_gap:
        return False  # it has sent something since
    return reset.data_gap >= 0 and (sender.name == "server" or reset.data_gap < JUST_ARRIVED_NS)


def _grade(cause: str, reset: Note) -> str:
    """That it was reset, and by whom, is what a grade says; of the cause the alternative is named."""
    if cause in ("bare_abort", "time_wait_assassination"):
        return "suspected"
    return "confirmed" if "at_next" in reset.facts or "at_last_ack" in reset.facts else "probable"


_EITHER: Final = "SO_LINGER 0 and a close with unread octets look alike on the wire"


def _alternative(cause: str, sender: End, reset: Note) -> str:
    """What else leaves the same trace."""
    if cause == "data_after_close":
        closed = [step.time for step in sender.steps if step.cause == "snd_fin" and step.time < reset.time]
        if not closed or reset.time - closed[0] < SHORT_NS:
            return ""  # no stack forgets FIN-WAIT-2 so soon
    return _ALTERNATIVES.get(cause, "")


_ALTERNATIVES: Final = {
    "linger_0": _EITHER,
    "unread_data": _EITHER,
    "process_gone": "a process that closes all its connections with SO_LINGER 0 at once looks alike",
    "data_after_close": "FIN-WAIT-2 that had expired (Linux tcp_fin_timeout) looks alike",
    "bare_abort": "some stacks, and middleboxes, abort so",
}
_REMEDIES: Final = {
    "unread_data": "Read until end of file (recv() returns 0) before close().",
    "after_peer_fin": "On end of file, close() in order; set no SO_LINGER 0.",
    "data_after_close": "Agree on who ends the exchange: shutdown(SHUT_WR) and read until end of file, instead of "
    "close() while the peer may still send.",
    "listener_closed": "Drain the accept queue before the listener closes; let the balancer stop new ones first.",
    "process_gone": "Look for a crash, a kill or a deploy at that moment; let the process close its connections first.",
    "after_close": "Nothing needs to be done.",
}

RESET_ON_CLOSE: Final = Finding(
    name="reset_on_close",
    title="closed by reset",
    definition="An established connection is ended by RST where a FIN would have been expected: octets in flight and "
    "unread ones are lost, and the peer's next call fails with ECONNRESET.",
    source="RFC 9293 3.5.2 and 3.6.1; RFC 2525 2.17; RFC 1337; measured on Linux",
    severity="warning",
    remedy="Do not set SO_LINGER with time 0 to avoid TIME-WAIT; read until end of file before close().",
    causes={
        "linger_0": "SO_LINGER 0 (or unread octets): a live socket that had sent no FIN resets",
        "unread_data": "close() while octets lay unread (or SO_LINGER 0)",
        "after_peer_fin": "the peer's FIN is answered by RST from a live socket",
        "data_after_close": "octets reached an endpoint that had closed both halves",
        "listener_closed": "the listener was closed while connections waited in its accept queue",
        "process_gone": "a process ended: many connections of one listener were reset together",
        "time_wait_assassination": "a RST that the holder of TIME-WAIT can have accepted (RFC 1337)",
        "after_close": "a late RST after both sides had closed",
        "bare_abort": "a RST without ACK flag that answers nothing",
    },
    wakes=(Wake("reset"),),
    judge=reset_on_close,
)
