"""Arithmetic for findings about populations: groups, how many at once, numbers and times in words.

Everything is vectorised over connections; Python loops only over groups that pass a threshold.

Never here: a criterion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.survey import Survey
from observer.findings.words import SECOND

Array = Any

EVIDENCE: Final = 7
"""Frames of evidence from each of the beginning, the peak and the end of a population: some twenty in all."""
MEMBERS: Final = 10_000
"""Connections named of one population at most: more of them help nobody, and each costs 40 octets."""


class Peak(NamedTuple):
    """When most stretches overlapped, and how many."""

    most: int
    time: int


def groups(keys: Array, least: int) -> Iterator[tuple[int, Array]]:
    """Yield each value that occurs at least that often, with its ascending positions.

    Examples
    --------
    >>> [(key, rows.tolist()) for key, rows in groups(numpy.array([7, 5, 7, 7, 5, 9]), 2)]
    [(5, [1, 4]), (7, [0, 2, 3])]
    """
    if len(keys) < least:
        return
    if (keys == keys[0]).all():  # one listener only, as in most floods
        yield int(keys[0]), numpy.arange(len(keys))
        return
    values, counts = numpy.unique(keys, return_counts=True)
    large = values[counts >= least]
    if not len(large):
        return
    places = numpy.minimum(numpy.searchsorted(large, keys), len(large) - 1)
    rows = numpy.flatnonzero(large[places] == keys)
    # numpy sorts 16 bits by radix, some five times faster
    narrow = places[rows].astype(numpy.uint16 if len(large) < 1 << 16 else numpy.int64)
    rows = rows[numpy.argsort(narrow, kind="stable")]
    ends = numpy.cumsum(counts[counts >= least])
    for key, begin, end in zip(large.tolist(), [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        yield key, rows[begin:end]


def distinct(codes: Array) -> int:
    """How many different values there are among small integers, such as address codes.

    Examples
    --------
    >>> distinct(numpy.array([3, 0, 3]))
    2
    """
    size = int(codes.max(initial=-1)) + 1
    if size > 16 * len(codes):  # few among many: sorting them is quicker than a table of all
        return len(numpy.unique(codes))
    seen = numpy.zeros(size, bool)
    seen[codes] = True
    return int(seen.sum())


def ascending(values: Array) -> Array:
    """Sorted values; most come sorted, as streams are numbered in the order of the capture."""
    return numpy.sort(values) if (values[1:] < values[:-1]).any() else values


def peak_of(begins: Array, ends: Array) -> Peak:
    """Most stretches at once; one that ends when another begins makes room for it.

    Examples
    --------
    >>> peak_of(numpy.array([0, 1, 5]), numpy.array([4, 5, 9]))
    Peak(most=2, time=1)
    """
    starts, stops = ascending(begins), ascending(ends)
    counts = numpy.arange(1, len(starts) + 1) - numpy.searchsorted(stops, starts, "right")
    at = int(numpy.argmax(counts))
    return Peak(int(counts[at]), int(starts[at]))


def busiest(times: Array, window_ns: int) -> Peak:
    """Most instants (ascending) within any window of this length, and the instant at which it is full.

    Examples
    --------
    >>> busiest(numpy.array([0, 4, 5, 9]), 5), busiest(numpy.array([0, 4, 5, 9]), 10)
    (Peak(most=3, time=5), Peak(most=4, time=9))
    """
    if len(times) and times[-1] - times[0] <= window_ns:
        return Peak(len(times), int(times[-1]))
    counts = numpy.arange(1, len(times) + 1) - numpy.searchsorted(times, times - window_ns, "left")
    at = int(numpy.argmax(counts))
    return Peak(int(counts[at]), int(times[at]))


def rate_at(times: Array, until: int, window_ns: int = 10 * SECOND) -> float:
    """Instants (ascending) per second in the window that ends with the last one up to `until`; 0: too few to tell."""
    stop = int(numpy.searchsorted(times, until, "right"))
    if stop < 2:
        return 0.0
    start = int(numpy.searchsorted(times, times[stop - 1] - window_ns, "left"))
    length = int(times[stop - 1] - times[start])
    return (stop - start - 1) * SECOND / length if length > 0 else 0.0


def sample(values: Array, peak: int) -> Array:
    """The first few values, those around position `peak`, and the last few; ascending, each once."""
    middle = slice(max(peak - EVIDENCE // 2, 0), peak + EVIDENCE // 2 + 1)
    return numpy.unique(numpy.concatenate([values[:EVIDENCE], values[middle], values[-EVIDENCE:]]))


def evidence(survey: Survey, streams: Array, times: Array, peak_time: int) -> list[int]:
    """First frames of some connections: of those at the beginning, at the peak and at the end."""
    if (times[1:] < times[:-1]).any():
        order = numpy.argsort(times, kind="stable")
        streams, times = streams[order], times[order]
    return survey.first_frames(sample(streams, int(numpy.searchsorted(times, peak_time))))


def members(streams: Array) -> list[int]:
    """Numbers of connections as a verdict names them."""
    named: list[int] = streams[:MEMBERS].tolist()
    return named


def counted(count: int, word: str = "connection") -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1), counted(2800, "port")
    ('1 connection', '2,800 ports')
    """
    plural = word + ("es" if word.endswith("s") else "s")
    return f"{count:,} {word if count == 1 else plural}"


def rate(per_second: float) -> str:
    """So many a second.

    Examples
    --------
    >>> rate(3104.7), rate(0.25)
    ('3,105/s', '0.25/s')
    """
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


def percent(share: float) -> str:
    """A share in words.

    Examples
    --------
    >>> percent(0.354), percent(0.0021)
    ('35 %', '0.21 %')
    """
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"
