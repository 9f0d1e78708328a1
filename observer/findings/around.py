"""What lies around a connection: the other connections, the end of the capture, thresholds.

Never here: a judgement about one connection.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from observer.options import Options

if typing.TYPE_CHECKING:
    from observer.findings.case import Case
    from observer.schema import Addresses

Array = Any
ADDRESS_SHIFT = 16
"""A listener is one number: address code << 16 | port."""


class Crowd(NamedTuple):
    """All connections as flat arrays, one element for each stream.

    client, server
        int64: address code << 16 | port.
    first, last
        int64: times of the first and the last segment, ns.
    client_state, server_state
        uint8: codes of schema.STATES at the end.
    bits
        uint16: BIT_... below.
    """

    client: Array
    server: Array
    first: Array
    last: Array
    client_state: Array
    server_state: Array
    bits: Array


SAW_SYN = 1  # the opening was captured
SAW_SYNACK = 2
COMPLETED = 4  # the SYN-ACK was acknowledged
SERVER_SPOKE = 8  # the server sent something beside SYN-ACK and RST: more than that number of segments
CLOSED_BY_RESET = 16
CLIENT_CLOSED_FIRST = 32
SERVER_CLOSED_FIRST = 64
MIDSTREAM = 128  # roles were inferred, the opening was not captured
SYN_REPEATED = 256  # the client sent its SYN again
SYNACK_REPEATED = 512  # the server sent its SYN-ACK again
CLIENT_SPOKE = 1024  # the client sent something beside SYN and one RST
RESET_BY_SERVER = 2048  # a RST of the server was accepted


class Around:
    """The whole capture, seen from one connection.

    Attributes
    ----------
    begin_ns, end_ns
        First and latest time stamp of the capture.
    lost_frames
        Frames that the capturing machine says it lost.
    """

    def __init__(
        self,
        crowd: Crowd,
        options: Options,
        *,
        begin_ns: int = 0,
        end_ns: int = 0,
        lost_frames: int = 0,
        addresses: Addresses | None = None,
        noted: Callable[[str], tuple[Array, Array]] | None = None,
    ) -> None:
        """noted: gives streams and times of all events of a name."""
        self.crowd = crowd
        self.options = options
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.lost_frames = lost_frames
        self.addresses = addresses
        self._by_listener: tuple[Array, Array] | None = None
        self._noted = noted
        self._noted_there: dict[str, dict[int, Array]] = {}
        order = numpy.argsort(crowd.last)[-2:] if len(crowd.last) else numpy.zeros(0, numpy.int64)
        self._latest = [(int(stream), int(crowd.last[stream])) for stream in order.tolist()]

    def of_listener(self, key: int) -> Array:
        """Streams of the connections to one listener, ascending."""
        if self._by_listener is None:
            order = numpy.argsort(self.crowd.server, kind="stable")
            self._by_listener = (order, self.crowd.server[order])
        order, keys = self._by_listener
        return order[numpy.searchsorted(keys, key, "left") : numpy.searchsorted(keys, key, "right")]

    def siblings(self, case: Case) -> Array:
        """Streams of the other connections to the same listener."""
        found = self.of_listener(int(self.crowd.server[case.stream]))
        return found[found != case.stream]

    def noted_at(self, event: str, listener: int) -> Array:
        """When an event of this name happened in connections to a listener: int64 of shape (n, 2), stream and time.

        Ordered as in the capture.
        """
        if event not in self._noted_there:
            streams, times = self._noted(event) if self._noted else (numpy.zeros(0, int), numpy.zeros(0, int))
            listeners = self.crowd.server[streams]
            order = numpy.argsort(listeners, kind="stable")
            keys, starts = numpy.unique(listeners[order], return_index=True)
            pairs = numpy.stack([streams, times], axis=1)[order]
            self._noted_there[event] = dict(zip(keys.tolist(), numpy.split(pairs, starts[1:]), strict=False))
        return self._noted_there[event].get(listener, numpy.zeros((0, 2), numpy.int64))

    def others_after(self, case: Case, time: int) -> bool:
        """Whether any other connection had a segment after this time: the tap still worked."""
        return any(stream != case.stream and last > time for stream, last in self._latest)

    def caveat(self, *more: str) -> str | None:
        """What this tap cannot tell, as one text; the capture's own losses are always named."""
        parts = [part for part in more if part]
        if self.lost_frames:
            parts.append(f"the capture itself lost {self.lost_frames:,} frames")
        return "; ".join(parts) or None
