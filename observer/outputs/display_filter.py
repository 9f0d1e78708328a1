"""Wireshark display filters for connections, short enough to be read and copied.

Never here: which connections these are.  Sources: Wireshark 4.0 User's Guide 6.4 (set membership, ranges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

LENGTH: Final = 63
"""Characters of a list of connections: what fits into a line of 80 columns behind a margin and a word."""


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
    if len(streams) == 1:
        return DisplayFilter(f"tcp.stream eq {streams[0]}", "exactly")
    words = _place_words(place)
    listed, whole = _listed(streams, LENGTH - len("tcp.stream in {}"))
    if not streams or (words and not whole):
        return DisplayFilter(" and ".join(words), "more" if words else "nothing")
    return DisplayFilter(f"tcp.stream in {{{listed}}}", "exactly" if whole else "some")


def _place_words(place: Place) -> list[str]:
    words = []
    for address, port in ((place.client_addr, place.client_port), (place.server_addr, place.server_port)):
        if address is not None:
            words.append(f"{'ipv6' if ':' in address else 'ip'}.addr eq {address}")
            if port is not None:
                words.append(f"tcp.port eq {port}")
    return words


def _listed(numbers: Sequence[int], length: int) -> tuple[str, bool]:
    """Return runs of consecutive numbers as text, as far as they fit, and whether all do."""
    text, at = "", 0
    while at < len(numbers):
        stop = at + 1
        while stop < len(numbers) and numbers[stop] == numbers[stop - 1] + 1:
            stop += 1
        longer = f"{text}, {_run_words(numbers[at], numbers[stop - 1])}".removeprefix(", ")
        if len(longer) > length:
            return text, False
        text, at = longer, stop
    return text, True


def _run_words(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first}, {last}" if last == first + 1 else f"{first}..{last}"
