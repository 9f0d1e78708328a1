"""Wireshark display filters for connections, short enough to be read and copied.

Never here: which connections these are.  Sources: Wireshark 4.0 User's Guide 6.4 (set membership, ranges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

RANGES: Final = 8
"""Numbers and ranges in a filter: more would not be read."""


class Place(NamedTuple):
    """What connections have in common: addresses as text and ports, None for what they do not share."""

    client_addr: str | None = None
    client_port: int | None = None
    server_addr: str | None = None
    server_port: int | None = None


class DisplayFilter(NamedTuple):
    """A display filter and what it shows beside what was asked for, or instead of it."""

    text: str
    shows: str
    """exactly: these connections; more: others of their hosts and ports, too; some: the first of them; nothing."""


def filter_of(streams: Sequence[int], place: Place) -> DisplayFilter:
    """Return the filter for connections by their numbers (ascending), by what they share if these are too many.

    Examples
    --------
    >>> [filter_of(streams, Place()).text for streams in ([5], [5, 6], [5, 6, 7, 8, 11])]
    ['tcp.stream eq 5', 'tcp.stream in {5, 6}', 'tcp.stream in {5..8, 11}']
    >>> filter_of(range(0, 100, 2), Place(server_addr="10.0.2.2", server_port=80))
    DisplayFilter(text='ip.addr eq 10.0.2.2 and tcp.port eq 80', shows='more')
    """
    runs = _runs(streams)
    words = _place_words(place)
    if not streams or (len(runs) > RANGES and words):
        return DisplayFilter(" and ".join(words), "more" if words else "nothing")
    if len(streams) == 1:
        return DisplayFilter(f"tcp.stream eq {streams[0]}", "exactly")
    listed = ", ".join(_run_words(*run) for run in runs[:RANGES])
    return DisplayFilter(f"tcp.stream in {{{listed}}}", "exactly" if len(runs) <= RANGES else "some")


def _place_words(place: Place) -> list[str]:
    words = []
    for address, port in ((place.client_addr, place.client_port), (place.server_addr, place.server_port)):
        if address is not None:
            words.append(f"{'ipv6' if ':' in address else 'ip'}.addr eq {address}")
            if port is not None:
                words.append(f"tcp.port eq {port}")
    return words


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of consecutive numbers as first and last; enough to know that there are too many."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        elif len(runs) > RANGES:
            break
        else:
            runs.append((number, number))
    return runs


def _run_words(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first}, {last}" if last == first + 1 else f"{first}..{last}"
