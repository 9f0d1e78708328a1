"""How long each endpoint was in each state, as arrays: what pictures of many connections are drawn from.

Whole arrays at a time: 200,000 connections have some two million changes of state.

Never here: drawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.schema import CERTAINTIES, ENDPOINTS, STATES

if TYPE_CHECKING:
    from observer.plots.subject import ObservationSubject

Array = Any

RETRACTED: Final = CERTAINTIES.index("retracted")
COUNTED: Final = numpy.array([state not in ("CLOSED", "LISTEN") for state in STATES])
"""CLOSED and LISTEN are no connection (RFC 9293 3.3.2)."""


class Stretches(NamedTuple):
    """One element for each stretch of one endpoint in one state, by stream and endpoint, each in order of time.

    stream
        int64.
    endpoint
        0 client, 1 server.
    state
        Position in STATES.
    begin, end
        int64 ns since 1970; where it had not ended, just after the end of the capture.
    still
        bool: it had not ended.
    """

    stream: Array
    endpoint: Array
    state: Array
    begin: Array
    end: Array
    still: Array

    def take(self, rows: Array) -> Stretches:
        return Stretches(*(part[rows] for part in self))


def span_ns(subject: ObservationSubject) -> tuple[int, int]:
    """First and last time of the capture, ns since 1970; a capture of one instant lasts 1 ns."""
    return subject.begin_ns, max(subject.end_ns, subject.begin_ns + 1)


def stretches(subject: ObservationSubject, streams: Array | None = None) -> Stretches:
    """Stretches in hindsight of these streams (ascending), of all if none are given; CLOSED and LISTEN left out."""
    changes, flows = subject.columns("transitions"), subject.columns("flows")
    who = numpy.asarray(changes["stream"]).astype(numpy.int64) << 1 | numpy.asarray(changes["endpoint"])
    keep = numpy.asarray(changes["certainty"]) != RETRACTED
    chosen = numpy.arange(flows.rows) if streams is None else numpy.asarray(streams)
    if streams is not None:
        keep &= numpy.isin(who >> 1, chosen)
    rows = numpy.flatnonzero(keep)
    rows = rows[numpy.argsort(who[rows], kind="stable")]
    who = who[rows]
    after = numpy.asarray(changes["to_state"])[rows]
    began = _began(flows, chosen, who, numpy.asarray(changes["from_state"])[rows])
    there = numpy.flatnonzero(COUNTED[began])
    first_time = numpy.asarray(flows["first_time"])[chosen[there >> 1]]
    return _folded(
        numpy.concatenate([chosen[there >> 1] << 1 | there & 1, who]),
        numpy.concatenate([began[there], after]),
        numpy.concatenate([first_time, numpy.asarray(changes["time"])[rows]]),
        span_ns(subject)[1],
    )


def _began(flows: Any, chosen: Array, who: Array, before: Array) -> Array:
    """What each endpoint of the chosen streams began in; one that never changed ended in it."""
    began = numpy.stack([numpy.asarray(flows[f"{side}_state"])[chosen] for side in ENDPOINTS], axis=1).ravel()
    first = numpy.flatnonzero(numpy.diff(who, prepend=-1))
    places = numpy.searchsorted(chosen, who[first] >> 1) << 1 | who[first] & 1
    began = began.astype(numpy.int64)
    began[places] = before[first]
    return began


def _folded(who: Array, state: Array, begin: Array, end_ns: int) -> Stretches:
    """Each change lasts until the next one of the same endpoint."""
    order = numpy.argsort(who, kind="stable")
    who, state, begin = who[order], state[order], begin[order]
    last = numpy.append(who[1:] != who[:-1], True)[: len(who)]
    end = numpy.where(last, end_ns + 1, numpy.append(begin[1:], 0)[: len(who)])
    rows = numpy.flatnonzero(COUNTED[state])
    return Stretches(
        who[rows] >> 1, who[rows] & 1, state[rows], begin[rows], numpy.maximum(end, begin)[rows], last[rows]
    )


def most_at_once(begin: Array, end: Array) -> int:
    """How many stretches overlapped at most; one that ends when another begins makes room for it.

    Examples
    --------
    >>> most_at_once(numpy.array([0, 1, 5]), numpy.array([4, 5, 9]))
    2
    """
    if not len(begin):
        return 0
    starts, stops = numpy.sort(begin), numpy.sort(end)
    return int((numpy.arange(1, len(starts) + 1) - numpy.searchsorted(stops, starts, "right")).max())


def averages(begin: Array, end: Array, group: Array, *, groups: int, edges: Array) -> Array:
    """How many stretches there were on average in each group and each interval between two edges.

    Parameters
    ----------
    begin, end
        When each stretch began and ended.
    group
        Which group each belongs to.
    groups
        How many groups there are, numbered from 0.
    edges
        Equally spaced, ascending.

    Returns
    -------
    float64, shape (groups, len(edges) - 1).

    Examples
    --------
    >>> averages(numpy.array([0, 5]), numpy.array([10, 10]), numpy.array([0, 0]), groups=1, edges=numpy.array([0, 10]))
    array([[1.5]])
    """
    bins = len(edges) - 1
    width = (edges[-1] - edges[0]) / bins
    filled = numpy.zeros((groups, bins + 1))
    for times, sign in ((begin, 1.0), (end, -1.0)):
        at = numpy.clip((times - edges[0]) / width, 0, bins)
        cell = numpy.minimum(at.astype(numpy.int64), bins)
        place = group * (bins + 1) + cell
        size = groups * (bins + 1)
        # in its own interval a step counts for what is left of it, in all later ones wholly
        part = sign * (cell + 1 - at)
        filled += numpy.bincount(place, part, size).reshape(groups, bins + 1)
        later = numpy.bincount(place, numpy.full(len(place), sign), size).reshape(groups, bins + 1)
        filled[:, 1:] += numpy.cumsum(later, axis=1)[:, :-1]
    return numpy.maximum(filled[:, :bins], 0.0)
