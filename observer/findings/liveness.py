"""Whether the other side is still there: half-open connections, time-outs of sending and of keepalives.

The criteria: silence alone proves nothing (a connection on which nothing happens is idle).  Evidence is what an
endpoint repeats in vain, or a RST that has no connection behind it.  Sources: RFC 9293 3.5.1 and 3.8; RFC 1122
4.2.3.5 and 4.2.3.6; RFC 5961; fingerprints measured on Linux.

Never here: openings (handshake.py), closes (resets.py, closing.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from observer.findings.around import CLIENT_CLOSED_FIRST, SERVER_CLOSED_FIRST
from observer.findings.case import Case, End, Note
from observer.findings.forgery import is_forged
from observer.findings.handshake import answers_ack, kept_no_request
from observer.findings.silence import (
    FEWEST_PROBES,
    FEWEST_REPEATS,
    PROBES,
    REPEATS,
    Silence,
    interval_of,
    probing,
    unanswered,
)
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import MILLISECOND, SECOND, duration, times
from observer.registry import Finding, Wake

GONE: Final = "host crash, power, cable, router, radio, or a NAT or firewall that forgot the connection"
OPEN: Final = ("ESTABLISHED", "CLOSE_WAIT")
MOMENT_NS: Final = 200 * MILLISECOND  # Linux TCP_RTO_MIN: what comes later than this was not on its way before
MOMENT_TRIPS: Final = 3  # round trips, as queues can double one


# --- sending in vain ------------------------------------------------------------------------------------------
def send_timeout(case: Case) -> Iterator[Verdict]:
    """Octets repeated with back-off, and no segment of the peer."""
    for end in case.ends:
        found = unanswered(case, end)
        if found is None or kept_no_request(case) or _answered_by_reset(case, end, found):
            continue
        gave_up = end.last("give_up", "snd_rst")
        closing = end.before(found.notes[0].frame) not in OPEN
        repeats = _repeats(end, found)
        first = repeats[0]
        over = duration(max(found.notes[-1].time - first.time, 0))
        told = f"{_what(case, end, found)} repeated {times(found.tries)} within {over} without any answer"
        yield Verdict(
            grade="confirmed" if gave_up is not None else "probable",
            endpoint=end.name,
            cause="peer_silent",
            begin=first.time,
            end=gave_up.time if gave_up else None,
            frames=clean_frames(*(note.frame for note in repeats[:12])),
            severity="warning" if closing else "problem",  # its application has closed and waits for nothing
            summary=f"{'close()' if closing else 'send()'} had succeeded, but {told}; "
            + ("the sender gave up: ETIMEDOUT." if gave_up else "the sender was still trying."),
            unknown=_cannot_tell(case, found),
        )


def _repeats(end: End, found: Silence) -> list[Note]:
    """All that was repeated into the silence; `unanswered` is noted from the second repeat on."""
    notes = [note for note in [*end.said("retransmission"), *found.notes] if note.time > found.begin]
    return sorted({note.frame: note for note in notes}.values(), key=lambda note: note.frame)


def _what(case: Case, end: End, found: Silence) -> str:
    """What is repeated: a FIN has the number behind the last octet."""
    opened = case.flow["syn_count" if end.name == "client" else "synack_count"]
    last = next((note for note in reversed(end.said("retransmission")) if note.frame == found.notes[-1].frame), None)
    alone = opened and last is not None and last.value == end.count("unique_octets") + 1
    return "its FIN was" if alone and end.last("snd_fin") is not None else "the same octets were"


def _answered_by_reset(case: Case, end: End, found: Silence) -> bool:
    """Whether the silence was broken by a RST without connection: then it is known what became of the peer."""
    return any(note.time >= found.begin and "from_socket" not in note.facts for note in case.other(end).resets)


def _cannot_tell(case: Case, found: Silence) -> str | None:
    heard = case.around.others_after(case, found.notes[0].time)
    return case.around.caveat(
        f"what silenced the peer: {GONE}",
        "" if heard else "nothing else was captured meanwhile, so the tap itself may have missed the answers",
    )


SEND_TIMEOUT: Final = Finding(
    name="send_timeout",
    title="data sent in vain",
    definition=f"The same octets are repeated {REPEATS} times or more, at growing intervals, and no segment of the "
    "peer comes back, although its window was open.",
    source="RFC 9293 3.8.3; RFC 6298 5.5; measured on Linux (tcp_retries2, TCP_USER_TIMEOUT)",
    severity="problem",
    remedy="Find what is between: the peer's host, the path, a firewall. Set TCP_USER_TIMEOUT or an application "
    "time-out: the default gives up after some 15 minutes.",
    causes={"peer_silent": "the peer, or the path to or from it, is gone"},
    wakes=(Wake("unanswered", FEWEST_REPEATS),),
    judge=send_timeout,
)


# --- keepalives in vain ---------------------------------------------------------------------------------------
def keepalive_timeout(case: Case) -> Iterator[Verdict]:
    """Keepalive probes without answer, then the prober aborts."""
    for end in case.ends:
        found = probing(case, end)
        gave_up = end.last("snd_rst")
        if found is None or gave_up is None or gave_up.time < found.notes[-1].time:
            continue
        yield Verdict(
            grade="confirmed",
            endpoint=end.name,
            cause="peer_silent",
            begin=found.notes[0].time,
            end=gave_up.time,
            frames=clean_frames(*(note.frame for note in found.notes[:10]), gave_up.frame),
            summary=f"{found.tries} keepalive probes {duration(interval_of(found))} apart went unanswered; the "
            "prober aborted the connection: its next call fails with ETIMEDOUT.",
            unknown=_cannot_tell(case, found),
        )


KEEPALIVE_TIMEOUT: Final = Finding(
    name="keepalive_timeout",
    title="keepalive gave up",
    definition=f"{PROBES} or more keepalive probes without any answer, then the prober resets the connection.",
    source="RFC 9293 3.8.4; RFC 1122 4.2.3.6; tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT",
    severity="problem",
    remedy="The keepalive did its work; find why the peer vanished. Where a firewall's idle time-out forgot the "
    "connection, probe more often than that.",
    causes={"peer_silent": "the peer, or the path to or from it, is gone"},
    wakes=(Wake("keepalive_probe", FEWEST_PROBES),),
    judge=keepalive_timeout,
)


# --- half-open ------------------------------------------------------------------------------------------------
def half_open(case: Case) -> Iterator[Verdict]:
    """One endpoint has lost the connection, the other still believes in it; the strongest evidence alone is told."""
    for criterion in (_no_connection_behind, _vanished, _reset_not_received):
        found = list(criterion(case))
        if found:
            yield from found[:1]
            return


def _no_connection_behind(case: Case) -> Iterator[Verdict]:
    """A bare RST from an endpoint that had never closed."""
    for lost in case.ends:
        for reset in lost.resets:
            if not _shows_loss(case, lost, reset):
                continue
            believer = case.other(lost)
            idle = reset.own_gap - max(reset.gap, 0) if reset.own_gap >= 0 else -1
            since = reset.time - reset.own_gap if reset.own_gap >= 0 else case.first_time
            waited = f" after {duration(idle)} of idleness" if idle > SECOND else ""
            lived_on = case.around.host_lived_on(case, lost.name, since=since, until=reset.time)
            yield Verdict(
                grade=_grade_of_loss(case, lost, reset, lived_on=lived_on),
                endpoint=believer.name,
                cause="forgotten" if lived_on else "peer_rebooted",
                severity="warning" if lived_on else "problem",
                begin=since,
                end=reset.time,
                frames=clean_frames(reset.frame, *(note.frame for note in believer.said("unanswered")[-2:])),
                summary=f"The {lost.name} answered{waited} with a RST that has no connection behind it, though it had "
                f"never closed: it had lost the connection in which the {believer.name} still believed"
                + (", though its host kept others." if lived_on else "."),
                unknown=case.around.caveat(
                    "host restart, address taken over, a FIN or RST of its own that was lost, or a NAT, balancer or "
                    "firewall that forgot the connection answer alike",
                ),
            )
            return


def _grade_of_loss(case: Case, lost: End, reset: Note, *, lived_on: bool) -> str:
    """How sure a bare RST makes it that its sender had lost the connection, not closed it with a lost FIN or RST.

    No host restarts within a second, and a lost FIN would be repeated within that; beside the sender nothing of it is
    lost before the tap.  With another TTL it may be forged: there were too few segments before it to tell.
    """
    soon = 0 <= reset.own_gap < SECOND and case.tap != lost.name
    if (soon and lived_on) or not (_spoke(case, lost) or _stayed_silent(lost, reset)):
        return "suspected"
    return "probable" if soon or lived_on or "other_ttl" in reset.facts else "confirmed"


def _spoke(case: Case, lost: End) -> bool:
    """Whether it sent anything beside its SYNs and one RST."""
    return lost.packets - 1 > (case.flow["synack_count"] if lost.name == "server" else case.flow["syn_count"])


def _stayed_silent(lost: End, reset: Note) -> bool:
    """Whether a server of whom only the SYN-ACK was seen was silent for so long that it would have repeated it."""
    opened = lost.entered("SYN_RECEIVED")
    return opened is not None and reset.time - opened.time > 3 * SECOND


def _shows_loss(case: Case, lost: End, reset: Note) -> bool:
    """Whether a RST says that its sender has no connection, though it never ended it."""
    if "from_socket" in reset.facts or not {"at_last_ack", "acceptable"} <= reset.facts:
        return False
    if "beyond" in reset.facts or case.may_have_closed(lost):
        return False  # the tap missed what it sent before, perhaps its FIN
    if lost.before(reset.frame) not in (*OPEN, "SYN_RECEIVED") or is_forged(case, lost, reset):
        return False
    if any(note.frame < reset.frame for note in lost.resets) or lost.last("snd_fin") is not None:
        return False
    if _spoke(case, lost):
        return True
    # a server of whom only the SYN-ACK was seen: it had finished the handshake, or handshake.py tells what it did;
    # without a SYN before it, that may be the last of many repeats
    if lost.said("synack_after_ack", "synack_retransmitted", "stateless_synack") or not case.flow["syn_count"]:
        return False
    closing = case.client.last("snd_fin") is not None or case.client.resets
    return _stayed_silent(lost, reset) or not (closing or lost.name == "client" or answers_ack(case, reset))


def _vanished(case: Case) -> Iterator[Verdict]:
    """Data, FIN or probes in vain: the peer is gone, or the path to or from it."""
    for end in case.ends:
        found = unanswered(case, end) or probing(case, end)
        if found is None or kept_no_request(case) or _answered_by_reset(case, end, found):
            continue
        peer = case.other(end)
        closing = end.before(found.notes[0].frame) not in OPEN
        probes = found.notes[0].event == "keepalive_probe"
        tap_works = case.around.others_after(case, found.notes[0].time)
        gave_up = end.last("give_up", "snd_rst")
        what = f"{found.tries} keepalive probes" if probes else f"{found.tries} retransmissions"
        yield Verdict(
            grade="suspected" if closing or not (tap_works or gave_up) else "probable",
            endpoint=end.name,
            cause="peer_vanished",
            severity="warning" if closing else "problem",
            begin=found.begin,
            end=gave_up.time if gave_up else None,
            frames=clean_frames(*(note.frame for note in found.notes[:8])),
            summary=f"The {peer.name} said nothing any more, whatever the {end.name} sent ({what} in vain); "
            + (f"the {end.name} noticed and gave up." if gave_up else f"the {end.name} had not given up."),
            unknown=_cannot_tell(case, found),
        )


def _reset_not_received(case: Case) -> Iterator[Verdict]:
    """A RST that its receiver evidently never got: it goes on sending."""
    for end in case.ends:
        lost = [step for step in end.withdrawn if step.cause == "rcv_rst"]
        peer = case.other(end)
        if not lost or not peer.resets or end.last("snd_fin", "snd_rst") is not None:
            continue
        first = min(lost, key=lambda step: step.frame)
        if first.from_state not in OPEN or any(is_forged(case, peer, note) for note in peer.resets):
            continue
        learned = end.last("rcv_rst")
        until = end.last_time if learned is None else learned.time
        if until - first.time < max(MOMENT_TRIPS * case.round_trip, MOMENT_NS):
            continue  # it was still on its way, or challenged (RFC 5961 3.2) and sent again
        yield Verdict(
            grade="suspected",
            endpoint=end.name,
            cause="reset_lost",
            begin=first.time,
            end=None if end.state in OPEN else end.steps[-1].time,
            frames=clean_frames(first.frame, first.proof),
            summary=f"The {peer.name} reset the connection, but the {end.name} went on sending: the RST never arrived.",
            unknown=case.around.caveat("a RST sent in the other's name by a third party looks alike"),
        )


HALF_OPEN: Final = Finding(
    name="half_open",
    title="half-open connection",
    definition="One endpoint has lost the connection (crash, reboot, cable, firewall), and the other still believes in "
    "it. An endpoint that only receives never learns it.",
    source="RFC 9293 3.5.1; RFC 1122 4.2.3.6; measured on Linux",
    severity="problem",
    remedy="Let both sides notice: keepalives more often than the firewalls' idle time-out, TCP_USER_TIMEOUT, or "
    "time-outs of the application. Find what broke at the time when the connection was lost.",
    causes={
        "peer_rebooted": "the peer has no such connection any more: its host restarted, it aborted and its RST was "
        "lost, or something between forgot it",
        "forgotten": "the peer has no such connection any more, though its host kept others: it closed and its FIN or "
        "RST was lost, or a NAT, balancer or firewall forgot it",
        "peer_vanished": f"the peer or the path is gone: {GONE}",
        "reset_lost": "the peer's RST never arrived",
    },
    wakes=(
        Wake("reset"), Wake("unanswered", FEWEST_REPEATS), Wake("keepalive_probe", FEWEST_PROBES),
    ),
    judge=half_open,
)  # fmt: skip


def half_open_reconnect(case: Case) -> Iterator[Verdict]:
    """A new SYN meets the old connection: the challenge ACK shows that the peer still had it."""
    for reset in case.said("old_incarnation_reset"):
        opener = case.end(reset.endpoint)
        holder = case.other(opener)
        kept = case.around.crowd.bits[reset.value]
        if kept & (CLIENT_CLOSED_FIRST | SERVER_CLOSED_FIRST):
            continue  # TIME-WAIT answered: a port used again too soon, not a connection lost
        challenges = [note for note in holder.said("challenge_ack") if note.frame < reset.frame]
        yield Verdict(
            grade="confirmed",
            endpoint=holder.name,
            cause="peer_restarted",
            begin=case.first_time,
            end=reset.time,
            frames=clean_frames(case.flow["first_frame"], *(note.frame for note in challenges[:3]), reset.frame),
            summary=f"A new SYN from the same address and port was answered with the old connection's numbers, and "
            f"that by RST: the {opener.name} had lost the connection, the {holder.name} still believed in it "
            f"(stream {reset.value}).",
            unknown=case.around.caveat("since when it was lost: only that it was before this SYN"),
        )
        return


HALF_OPEN_RECONNECT: Final = Finding(
    name="half_open_reconnect",
    title="half-open connection, met by its successor",
    definition="A new SYN on the addresses and ports of a connection in which the peer still believes: an ACK with the "
    "old numbers answers it, and a RST that.",
    source="RFC 9293 3.5.1, figure 9; RFC 5961 4",
    severity="problem",
    remedy="It healed itself within a second. Find why the opener lost its connection without closing it (crash; "
    "a killed process does close).",
    causes={"peer_restarted": "the opener lost its state and came back with the same port"},
    wakes=(Wake("old_incarnation_reset"),),
    judge=half_open_reconnect,
)
