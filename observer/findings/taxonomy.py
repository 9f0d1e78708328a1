"""Every RST of a capture: who sent it, which class it is of, from a live socket or none, accepted or not.

The findings tell of the RST that mattered to a connection; this table has them all, so that resets can be counted by
class, service and time.  Classes are those that the findings use (their code, or the cause where one code has several).

Never here: a criterion of its own beyond what remains when no finding wants a RST.  Sources: CRITERIA.md, "RST: who
reset"; RFC 9293 3.5.2; RFC 5961 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy

from observer.findings import forgery, handshake, liveness, opening, resets
from observer.findings.case import Case, Note
from observer.findings.judging import Judging
from observer.findings.source import Source
from observer.registry import Finding
from observer.schema import ENDPOINTS, Coded, Columns

CLASSES: Final[dict[str, str]] = {
    "refused": "answers a SYN: nobody listens",
    "handshake_aborted": "the opener answers the SYN-ACK",
    "accept_overflow_reset": "answers the handshake's last ACK at once",
    "half_established_reset": "a server that never took the handshake's ACK answers later",
    "half_open": "no connection is behind it, though its sender never closed",
    "keepalive_timeout": "a live socket gives up after keepalive probes in vain",
    "send_timeout": "a live socket gives up after retransmissions in vain",
    "injected": "suspected not to be its pretended sender's",
    **resets.RESET_ON_CLOSE.causes,
    "out_of_window": "its receiver cannot have accepted it (RFC 5961 3.2)",
    "repeated": "another RST of the same sender went before",
    "no_connection": "nothing else of its receiver was captured: no connection is known",
    "unexplained": "none of these",
}  # fmt: skip
"""What a RST can be, and what that means."""

# in the order in which they are asked; the code's own name is the class unless the cause is
_JUDGES: Final[Sequence[tuple[Finding, bool]]] = (
    (opening.REFUSED, False),
    (opening.HANDSHAKE_ABORTED, False),
    (handshake.ACCEPT_OVERFLOW_RESET, False),
    (handshake.HALF_ESTABLISHED_RESET, False),
    (liveness.KEEPALIVE_TIMEOUT, False),
    (liveness.SEND_TIMEOUT, False),
    (liveness.HALF_OPEN, False),
    (resets.RESET_ON_CLOSE, True),
)


class Reset(NamedTuple):
    """One RST."""

    stream: int
    note: Note
    name: str
    """Its class: a key of CLASSES."""
    votes: list[str]
    """What speaks for its not being its pretended sender's."""


def resets_of(case: Case) -> Iterator[Reset]:
    """Every RST of a connection, in order."""
    notes = case.said("reset")
    if not notes:
        return
    told: dict[int, str] = {}
    for finding, by_cause in _JUDGES:
        assert finding.judge is not None
        for verdict in finding.judge(case):
            for note in notes:
                if note.frame in verdict.frames and note.time == verdict.end:
                    told.setdefault(note.frame, verdict.cause or finding.name if by_cause else finding.name)
    before: set[str] = set()
    for note in notes:
        end = case.end(note.endpoint)
        votes = forgery.votes(case, end, note)
        yield Reset(case.stream, note, _class_of(case, note, told, before), votes)
        before.add(note.endpoint)


def _class_of(case: Case, note: Note, told: dict[int, str], before: set[str]) -> str:
    end = case.end(note.endpoint)
    if forgery.is_forged(case, end, note):
        return "injected"
    if note.frame in told:
        return told[note.frame]
    if not case.other(end).packets:
        return "no_connection"
    if note.endpoint in before:
        return "repeated"
    return "unexplained" if "acceptable" in note.facts else "out_of_window"


def reset_columns(source: Source) -> Columns:
    """Raw columns of the table of resets, in the order of the capture."""
    judging = Judging(source, [resets.RESET_ON_CLOSE])
    found = [reset for case in judging.cases() for reset in resets_of(case)]
    found.sort(key=lambda reset: reset.note.frame)
    names = list(CLASSES)
    numbers = {name: number for number, name in enumerate(names)}

    def array(values: list[int]) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]:
        return numpy.array(values, numpy.int64)

    return Columns(
        "resets",
        len(found),
        {
            "stream": array([reset.stream for reset in found]),
            "endpoint": array([ENDPOINTS.index(reset.note.endpoint) for reset in found]),
            "time": array([reset.note.time for reset in found]),
            "frame": array([reset.note.frame for reset in found]),
            "class": Coded(array([numbers[reset.name] for reset in found]), names),
            "from_socket": array(["from_socket" in reset.note.facts for reset in found]),
            "acceptable": array(["acceptable" in reset.note.facts for reset in found]),
            "facts": [" ".join(sorted(reset.note.facts)) for reset in found],
            "votes": ["; ".join(dict.fromkeys(reset.votes)) or None for reset in found],
        },
    )
