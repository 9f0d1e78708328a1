"""Overflows of a listener's accept queue, as episodes: from the first victim to the last.

Made from what was found of single connections.  With the queue full Linux keeps a handshake's third ACK out
(half-established), drops new SYNs, or resets (net.ipv4.tcp_abort_on_overflow).

Never here: what makes one connection half-established.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy

from observer.findings.around import ADDRESS_SHIFT, SERVER_SPOKE
from observer.findings.crowds import EVIDENCE, counted
from observer.findings.survey import Survey
from observer.findings.verdict import End, Verdict, clean_frames
from observer.findings.words import MILLISECOND, SECOND, duration
from observer.registry import Finding
from observer.schema import GRADES, SEVERITIES

VICTIMS: Final = {
    "half_established": "half-established (connect() and send() succeeded while the server had no connection)",
    "half_established_reset": "reset when the server had forgotten them (recv() failed with ECONNRESET)",
    "accept_overflow_reset": "reset at once (connect() succeeded, then ECONNRESET)",
    "syn_dropped": "without an answer to their SYN (connect() waited)",
}
"""Findings of single connections that an overflow makes, and how each of these ended."""
NOT_FOR_THE_QUEUE: Final = "final_ack_lost"
"""Cause of a half-established connection that has nothing to do with the listener."""
SYNS_ALONE: Final = 3
"""Dropped SYNs that make an episode without any other victim: one or two may have been lost."""


def overflows(survey: Survey) -> Iterator[Verdict]:
    """Episodes, listener by listener."""
    victims: dict[End, list[Verdict]] = {}
    for verdict in survey.verdicts(*VICTIMS):
        if verdict.server is not None and verdict.begin is not None and verdict.cause != NOT_FOR_THE_QUEUE:
            victims.setdefault(verdict.server, []).append(verdict)
    calm = round(survey.around.options.accept_queue_calm_s * SECOND)
    for server, found in victims.items():
        for episode in _episodes(sorted(found, key=lambda verdict: verdict.begin or 0), calm, survey.around.end_ns):
            surely = [verdict for verdict in episode if verdict.code != "syn_dropped"]
            sure_of_one = any(verdict.grade == "confirmed" for verdict in surely)
            several = len({verdict.stream for verdict in episode}) >= (2 if surely else SYNS_ALONE)
            if sure_of_one or (several and not _served(survey, server, episode)):
                yield _verdict(survey, server, episode, surely)


def _episodes(victims: Sequence[Verdict], calm_ns: int, now: int) -> Iterator[list[Verdict]]:
    """Cut victims, by their beginnings, where none suffered for a while."""
    episode: list[Verdict] = []
    until = 0
    for verdict in victims:
        begin = verdict.begin or 0
        if episode and begin > until + calm_ns:
            yield episode
            episode, until = [], 0
        episode.append(verdict)
        until = max(until, now if verdict.end is None else verdict.end, begin)
    if episode:
        yield episode


def _served(survey: Survey, server: End, victims: list[Verdict]) -> bool:
    """Whether more connections were served meanwhile than suffered: a full queue keeps them out all alike."""
    crowd, around = survey.crowd, survey.around
    begins = [verdict.begin for verdict in victims if verdict.begin is not None]
    others = numpy.setdiff1d(around.of_listener(server[0] << ADDRESS_SHIFT | server[1]), _streams(victims))
    begun = (crowd.first[others] >= min(begins)) & (crowd.first[others] <= max(begins))
    return int((begun & (crowd.bits[others] & SERVER_SPOKE != 0)).sum()) > len(_streams(victims))


def _streams(victims: Sequence[Verdict]) -> list[int]:
    """The connections that suffered, each once."""
    return list(dict.fromkeys(verdict.stream for verdict in victims if verdict.stream is not None))


def _verdict(survey: Survey, server: End, episode: list[Verdict], surely: list[Verdict]) -> Verdict:
    around = survey.around
    begin = min(verdict.begin or 0 for verdict in episode)
    ends = [verdict.end for verdict in episode]
    end = None if None in ends else max(end for end in ends if end is not None)
    grade = min((verdict.grade for verdict in surely), key=GRADES.index) if surely else "suspected"
    streams = _streams([*surely, *episode])
    listener = server[0] << ADDRESS_SHIFT | server[1]
    touched = around.of_listener(listener)
    during = int((survey.crowd.first[touched] <= (around.end_ns if end is None else end)).sum()) if len(touched) else 0
    length = (around.end_ns if end is None else end) - begin
    within = f"within {duration(length)}" if length >= MILLISECOND else "in the same moment"
    return Verdict(
        grade=grade,
        severity=max((verdict.severity or "info" for verdict in episode), key=SEVERITIES.index),
        endpoint="server",
        cause="accept_queue_full",
        begin=begin,
        end=end,
        server=server,
        frames=_frames(episode),
        streams=streams,
        summary=f"{len(streams):,} of {counted(during)} suffered from a full accept queue {within}: {_kinds(episode)}.",
        unknown=around.caveat(
            ""
            if surely
            else "that a full accept queue drops the SYNs is one reason of several (full SYN queue, filter)",
            "how long accept() was not called is not on the wire",
            "" if end is not None else "the episode lasts at the end of the capture",
        ),
    )


def _kinds(episode: list[Verdict]) -> str:
    """How many suffered what; a connection may be counted under two kinds."""
    parts = []
    for code, words in VICTIMS.items():
        count = len({verdict.stream for verdict in episode if verdict.code == code})
        if count:
            parts.append(f"{count:,} {words}")
    return ", ".join(parts)


def _frames(episode: list[Verdict]) -> list[int]:
    """Some frames of the first, the middle and the last victims."""
    middle = len(episode) // 2
    chosen = [*episode[:EVIDENCE], *episode[middle : middle + EVIDENCE], *episode[-EVIDENCE:]]
    return clean_frames(*(frame for verdict in chosen for frame in verdict.frames[:1]))


ACCEPT_QUEUE_OVERFLOW: Final = Finding(
    name="accept_queue_overflow",
    title="accept queue overflow",
    definition="A listener's queue of established connections is full because the application does not accept() them "
    "fast enough: handshakes stay half-established, are reset, or their SYNs are dropped.",
    source="listen(2); net.core.somaxconn, net.ipv4.tcp_abort_on_overflow; measured on Linux",
    severity="problem",
    causes={"accept_queue_full": "more connections wait for accept() than listen() allowed"},
    remedy="Accept faster (more workers, no blocking work in the accepting thread), or raise listen()'s backlog and "
    "net.core.somaxconn.",
    survey=overflows,
)
