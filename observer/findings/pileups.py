"""Connections of one service that stay half closed in masses: CLOSE-WAIT on one side is FIN-WAIT-2 on the other.

CLOSE-WAIT is left by the application's close(), so many that stay there are many that it forgot; FIN-WAIT-2 is left
when the peer closes (RFC 9293 3.6).  A half-close that is used, since data still flows, is legitimate and not counted.

Never here: a single connection that stays half closed, see the connection-level findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import CLIENT_SENT, MIDSTREAM, SERVER_SENT
from observer.findings.crowds import Peak, counted, groups, members, peak_of, sample
from observer.findings.survey import Survey, end_of
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import SECOND, duration
from observer.registry import Finding
from observer.schema import ENDPOINTS

Array = Any

SERVER: Final = ENDPOINTS.index("server")
MANY_TIMES: Final = 5
"""A pile of so many times the threshold is a problem, if it does not come of an idle pool of clients."""
LONG_NS: Final = 60 * SECOND
"""Held for so long it is a problem on the client's side too: a pool would have been used."""


class Pile(NamedTuple):
    """Endpoints of one side of one service that stay in a state."""

    rows: Array
    peak: Peak
    held_ns: int
    """Median of how long they stayed."""
    still: int
    """How many were there at the end of the capture."""


def close_wait(survey: Survey) -> Iterator[Verdict]:
    """Applications that do not close after their peers did."""
    return _pile_ups(survey, "CLOSE_WAIT")


def fin_wait_2(survey: Survey) -> Iterator[Verdict]:
    """Endpoints that wait for their peers to close."""
    return _pile_ups(survey, "FIN_WAIT_2")


def _pile_ups(survey: Survey, state: str) -> Iterator[Verdict]:
    spans, options = survey.spans[state], survey.around.options
    if len(spans.stream) < options.pileup:
        return
    long = spans.end - spans.begin >= round(options.pileup_held_s * SECOND)
    used = survey.marks("half_closed")
    used_streams = used.stream[used.value > 0]
    for side in range(len(ENDPOINTS)):
        rows = numpy.flatnonzero(long & (spans.endpoint == side))
        rows = rows[~_may_have_closed(survey, spans.stream[rows], side if state == "CLOSE_WAIT" else 1 - side)]
        if len(used_streams):
            rows = rows[~numpy.isin(spans.stream[rows], used_streams)]
        for listener, places in groups(survey.crowd.server[spans.stream[rows]], options.pileup):
            held = rows[places]
            peak = peak_of(spans.begin[held], spans.end[held])
            if peak.most >= options.pileup:
                median = int(numpy.median(spans.end[held] - spans.begin[held]))
                pile = Pile(held, peak, median, int(spans.still[held].sum()))
                yield _verdict(survey, state, side, listener, pile)


def _may_have_closed(survey: Survey, streams: Array, side: int) -> Array:
    """Whether one side's FIN may have passed before the capture began (Case.may_have_closed): bool, one for each.

    The beginning of a busy capture is full of closes that are half over.
    """
    bits = survey.crowd.bits[streams]
    return (bits & MIDSTREAM != 0) & (bits & (SERVER_SENT if side == SERVER else CLIENT_SENT) == 0)


def _verdict(survey: Survey, state: str, side: int, listener: int, pile: Pile) -> Verdict:
    spans, around = survey.spans[state], survey.around
    rows = pile.rows[numpy.argsort(spans.begin[pile.rows], kind="stable")]
    peak_at = int(numpy.searchsorted(spans.begin[rows], pile.peak.time))
    holder, peer = ENDPOINTS[side], ENDPOINTS[1 - side]
    name = state.replace("_", "-")
    whose = f"the {holder} does not close" if state == "CLOSE_WAIT" else f"the {peer} does not close"
    ended = "none of them had left it" if pile.still == len(rows) else f"{len(rows) - pile.still:,} had left it"
    return Verdict(
        grade="probable" if _surely(survey, pile) else "suspected",
        severity=_severity(survey, state, side, pile),
        endpoint=holder,
        cause=f"{holder if state == 'CLOSE_WAIT' else peer}_does_not_close",
        begin=int(spans.begin[rows[0]]),
        end=None if pile.still else int(spans.end[rows].max()),
        server=end_of(listener),
        frames=clean_frames(*sample(spans.frame[rows], peak_at).tolist()),
        streams=members(spans.stream[rows]),  # the one that waits longest first
        summary=f"{counted(pile.peak.most)} in {name} at once at the {holder}, half of them for "
        f"{duration(pile.held_ns)} or more: {whose}; at the end of the capture {ended}.",
        unknown=around.caveat(
            "whether the application still works on an answer",
            "" if state == "CLOSE_WAIT" else "a socket closed for good leaves FIN-WAIT-2 silently (tcp_fin_timeout)",
        ),
    )


def _severity(survey: Survey, state: str, side: int, pile: Pile) -> str:
    """A pool's idle connections that servers closed wait at clients until they are looked at: ordinary."""
    if not _surely(survey, pile) and pile.still < len(pile.rows) / 2:
        return "info"
    options = survey.around.options
    many = pile.peak.most >= MANY_TIMES * options.pileup
    at_length = pile.held_ns >= LONG_NS
    bad = many and _surely(survey, pile) and (side == SERVER or at_length)
    return "problem" if state == "CLOSE_WAIT" and bad else "warning"


def _surely(survey: Survey, pile: Pile) -> bool:
    return pile.held_ns >= survey.around.options.pileup_surely_s * SECOND


CLOSE_WAIT_PILEUP: Final = Finding(
    name="close_wait_pileup",
    title="CLOSE-WAIT piles up",
    definition="Many connections of one service (Options.pileup) stay in CLOSE-WAIT at once, each longer than "
    "Options.pileup_held_s: their peer has closed, and the application, told so by recv() = 0, does not close.",
    source="RFC 9293 3.6; CRITERIA: CLOSE-WAIT leak per service",
    severity="warning",
    causes={
        "server_does_not_close": "the server's application leaks sockets, or hangs before it reads",
        "client_does_not_close": "the client leaks sockets, or keeps a pool of connections that the server closed",
    },
    remedy="Close the socket when recv() returns 0, on error paths as well; look for threads that hang before they "
    "read. No kernel setting ends CLOSE-WAIT.",
    survey=close_wait,
)
FIN_WAIT_2_PILEUP: Final = Finding(
    name="fin_wait_2_pileup",
    title="FIN-WAIT-2 piles up",
    definition="Many connections of one service (Options.pileup) stay in FIN-WAIT-2 at once, each longer than "
    "Options.pileup_held_s: they have closed, their FIN is acknowledged, and their peer does not close.",
    source="RFC 9293 3.6; net.ipv4.tcp_fin_timeout of Linux",
    severity="warning",
    causes={
        "server_does_not_close": "clients wait for the server's close()",
        "client_does_not_close": "the server waits for its clients' close()",
    },
    remedy="Look at the peer, which does not close. close() instead of shutdown() lets the kernel drop FIN-WAIT-2 "
    "after net.ipv4.tcp_fin_timeout.",
    survey=fin_wait_2,
)
