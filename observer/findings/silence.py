"""Who sends in vain: octets or keepalive probes that nothing answers, the evidence of a peer that is gone.

Silence alone proves nothing (a connection on which nothing happens is idle).

Never here: what that means (liveness.py, handshake.py, resets.py).  Sources: RFC 9293 3.8.3 and 3.8.4; RFC 6298 5.5;
numbers measured on Linux.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from observer.findings.case import SYNCHRONIZED, Case, End, Note
from observer.findings.words import SECOND

REPEATS: Final = 4  # retransmissions in vain before a peer is called silent (measured: loss repeats less often)
FEWEST_REPEATS: Final = 3  # ... where the sender evidently gave up after a back-off of a second and more
PROBES: Final = 3  # keepalive probes in vain (measured; Linux allows 9, applications set 3)
FEWEST_PROBES: Final = 2  # ... where a RST follows when the next probe was due
ABOUT: Final = 0.15  # a timer's deviation from its interval


class Silence(NamedTuple):
    """An endpoint that sends in vain."""

    end: End
    """Who sends."""
    tries: int
    """How often in vain."""
    notes: list[Note]
    begin: int
    """Since when its peer had been silent (its last segment), or since the first repeat."""


def unanswered(case: Case, end: End) -> Silence | None:
    """Octets of this endpoint that were repeated and never answered; not while the peer's window is closed."""
    found = _run(case, end, "unanswered")
    peer = case.other(end)
    if found is None or _window_closed(peer) or not _often_enough(found):
        return None
    # a server still in the handshake drops everything: handshake.py has it
    connected = peer.was(*SYNCHRONIZED) or peer.said("stateless_synack")
    in_handshake = peer.before(found.notes[0].frame) in ("SYN_RECEIVED", "SYN_SENT")
    return found if peer.packets and connected and not in_handshake else None


def probing(case: Case, end: End) -> Silence | None:
    """Keepalive probes of this endpoint that nothing answered."""
    found = _run(case, end, "keepalive_probe")
    if found is None or not case.other(end).packets:
        return None
    return found if found.tries >= PROBES or (found.tries >= FEWEST_PROBES and _reset_when_due(found)) else None


def gave_up(case: Case, end: End, reset: Note) -> bool:
    """Whether a RST of this endpoint ends what it sent in vain."""
    found = unanswered(case, end) or probing(case, end)
    return found is not None and found.notes[-1].time < reset.time


def interval_of(found: Silence) -> int:
    """Mean interval of probes, ns."""
    return (found.notes[-1].time - found.notes[0].time) // max(len(found.notes) - 1, 1)


def _run(case: Case, end: End, event: str) -> Silence | None:
    """The last run of notes of an event after which the peer said nothing any more."""
    notes = end.said(event)
    if not notes:
        return None
    heard = _last_heard(case.other(end))
    notes = [note for note in notes if note.time > heard]
    if not notes:
        return None
    count = max(note.value for note in notes) if event == "unanswered" else len(notes)
    return Silence(end, count, notes, heard or notes[0].time)


def _last_heard(peer: End) -> int:
    """When an endpoint last said anything of its own other than a RST that has no connection behind it."""
    bare = [note for note in peer.resets if "from_socket" not in note.facts]
    if bare and bare[0].time <= peer.last_time:
        return bare[0].time - bare[0].own_gap if bare[0].own_gap >= 0 else 0
    return peer.last_time


def _often_enough(found: Silence) -> bool:
    if found.tries >= REPEATS:
        return True
    late = len(found.notes) > 1 and found.notes[-1].time - found.notes[-2].time >= SECOND
    return found.tries >= FEWEST_REPEATS and late and found.end.last("give_up") is not None


def _reset_when_due(found: Silence) -> bool:
    """Whether the prober's RST comes when its next probe would have."""
    interval, last = interval_of(found), found.notes[-1].time
    return any(abs(note.time - last - interval) <= ABOUT * interval for note in found.end.resets)


def _window_closed(end: End) -> bool:
    """Whether the last that was heard of an endpoint's window is that it is closed."""
    notes = end.said("zero_window", "window_opened")
    return bool(notes) and notes[-1].event == "zero_window"
