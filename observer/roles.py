"""Who is the client where the opening was not captured: decided alike for all connections of a listener.

While packets come, a stream without SYN takes its lower port for the listener's (tcp/flowtable.py).  In hindsight
more is known: an end that is a listener in streams whose SYN was captured is one here too, and an end with which
several others talk is rather the listener than its peer.  Nothing is moved in the tracker: tables look a stream up
here when they name its sides.

Never here: streams whose SYN or SYN-ACK was captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer.segments import ACK_FLAG, SYN
from observer.tcp.layout import S_FLAGS, S_PORTS, STREAM_STRIDE

if TYPE_CHECKING:
    from observer.tcp.tracker import Tracker

Array = Any

BY_LISTENER: Final = 2
"""Code of schema.ROLES for roles that other connections of the listener told."""
KNOWN: Final = 1 << 40
"""Weight of a listener that was seen to be one: more than any number of peers."""


class Roles:
    """Which streams have client and server the other way round than the tracker took them.

    Attributes
    ----------
    swapped
        bool, shape (streams,); None: no stream, so nothing is to be looked up.
    told
        bool, shape (streams,): roles that other connections of the listener told; None as above.
    """

    def __init__(self, tracker: Tracker, address_codes: Callable[[], Array]) -> None:
        """address_codes gives, if they are needed, each stream's first sender's and its peer's, shape (streams, 2)."""
        self.swapped: Array | None = None
        self.told: Array | None = None
        rows = tracker.streams.cells[: tracker.stream_count * STREAM_STRIDE].reshape(-1, STREAM_STRIDE)
        flags = rows[:, S_FLAGS] & 0xFFFF
        inferred = numpy.flatnonzero(flags & SYN == 0)
        if not len(inferred):
            return
        ports, codes = rows[:, S_PORTS], address_codes().astype(numpy.int64)
        first = codes[:, 0] << 16 | ports >> 16 & 0xFFFF
        other = codes[:, 1] << 16 | ports & 0xFFFF
        answered = flags & (SYN | ACK_FLAG) == SYN | ACK_FLAG
        listeners = numpy.unique(numpy.where(answered, first, other)[flags & SYN != 0])
        a, b = first[inferred], other[inferred]
        weight_a, weight_b = _weights(a, b, listeners)
        # the tracker's own guess: the lower port listens; of equal ports, the first sender is the client
        guess_a = a & 0xFFFF < b & 0xFFFF
        decided = weight_a != weight_b
        server_a = numpy.where(decided, weight_a > weight_b, guess_a)
        if not decided.any():
            return
        self.swapped = numpy.zeros(len(rows), bool)
        self.told = numpy.zeros(len(rows), bool)
        self.swapped[inferred] = server_a != guess_a
        self.told[inferred] = decided

    def sides(self, streams: Array, sides: Array) -> Array:
        """0 for the client and 1 for the server, from the same as the tracker gave them."""
        return sides if self.swapped is None else sides ^ self.swapped[streams]


def _weights(a: Array, b: Array, listeners: Array) -> tuple[Array, Array]:
    """How much speaks for each end of these streams being a listener: known to be one, then the number of its peers."""
    ends, places = numpy.unique(numpy.concatenate([a, b]), return_inverse=True)
    here, there = places[: len(a)], places[len(a) :]
    pairs = numpy.unique(numpy.concatenate([here * len(ends) + there, there * len(ends) + here]))
    weights = numpy.bincount(pairs // len(ends), minlength=len(ends)).astype(numpy.int64)
    weights[numpy.isin(ends, listeners)] += KNOWN
    return weights[here], weights[there]
