"""What lies around a connection: the other connections, the end of the capture, thresholds.

Never here: a judgement about one connection.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy

from observer.findings.neighbours import Moments, Neighbours
from observer.options import Options

if typing.TYPE_CHECKING:
    from observer.findings.case import Case
    from observer.schema import Addresses

Array = Any
ABOUT_NS = 1_000_000_000
"""A connection that went on a second before still tells about its host."""
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
SERVER_SENT = 4096  # the server sent octets
CLIENT_SENT = 8192  # the client sent octets


class Around:
    """The whole capture, seen from one connection.

    Attributes
    ----------
    begin_ns, end_ns
        First and latest time stamp of the capture.
    lost_frames
        Frames that the capturing machine says it lost.
    """

    LISTENERS_SOUGHT = 8
    """So many listeners are looked for one by one; whoever asks for more has all connections sorted."""

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
        self._of_listener: dict[int, Array] = {}
        self._noted = noted
        self._moments: dict[str, Moments] = {}
        order = numpy.argsort(crowd.last)[-2:] if len(crowd.last) else numpy.zeros(0, numpy.int64)
        self._latest = [(int(stream), int(crowd.last[stream])) for stream in order.tolist()]

    def of_listener(self, key: int) -> Array:
        """Streams of the connections to one listener, ascending."""
        if key not in self._of_listener:
            if len(self._of_listener) < self.LISTENERS_SOUGHT:  # comparing is twenty times quicker than sorting
                self._of_listener[key] = numpy.flatnonzero(self.crowd.server == key)
            else:
                order, keys = self._by_listener
                low, high = numpy.searchsorted(keys, (key, key + 1))
                self._of_listener[key] = order[low:high]
        return self._of_listener[key]

    @cached_property
    def _by_listener(self) -> tuple[Array, Array]:
        """All streams by listener, and the listener of each."""
        order = numpy.argsort(self.crowd.server, kind="stable")
        return order, self.crowd.server[order]

    def listener(self, case: Case) -> int:
        """The key of a connection's listener."""
        return int(self.crowd.server[case.stream])

    @cached_property
    def served(self) -> Neighbours:
        """By listener: connections in which the server said more than SYN-ACK and RST."""
        chosen = self.crowd.bits & SERVER_SPOKE != 0
        return Neighbours(self.crowd.server[chosen], self.crowd.first[chosen], self.crowd.last[chosen])

    @cached_property
    def completed(self) -> Neighbours:
        """By listener: connections whose SYN-ACK was acknowledged."""
        chosen = self.crowd.bits & COMPLETED != 0
        return Neighbours(self.crowd.server[chosen], self.crowd.first[chosen], self.crowd.last[chosen])

    @cached_property
    def _kept(self) -> tuple[Neighbours, Neighbours]:
        """By client's and by server's address: connections that were not simply cut off by a RST."""
        bits = self.crowd.bits
        chosen = (bits & CLOSED_BY_RESET == 0) | (bits & (CLIENT_CLOSED_FIRST | SERVER_CLOSED_FIRST) != 0)
        chosen &= bits & SERVER_SPOKE != 0
        first, last = self.crowd.first[chosen], self.crowd.last[chosen]
        client, server = (keys[chosen] >> ADDRESS_SHIFT for keys in (self.crowd.client, self.crowd.server))
        return Neighbours(client, first, last), Neighbours(server, first, last)

    def host_lived_on(self, case: Case, side: str, *, since: int, until: int) -> bool:
        """Whether another connection of an endpoint's host began before `since` and went on about or after `until`."""
        key = int((self.crowd.client if side == "client" else self.crowd.server)[case.stream]) >> ADDRESS_SHIFT
        return self._kept[side == "server"].outlived(key, before=since, after=until - ABOUT_NS)

    def noted_near(self, event: str, case: Case, begin: int, end: int) -> list[int]:
        """Other connections of the listener in which an event of this name happened between these times."""
        if event not in self._moments:
            nothing = numpy.zeros(0, numpy.int64)
            streams, times = self._noted(event) if self._noted else (nothing, nothing)
            self._moments[event] = Moments(self.crowd.server[streams], streams, times)
        found = self._moments[event].near(self.listener(case), begin, end)
        return [stream for stream in found if stream != case.stream]

    def others_after(self, case: Case, time: int) -> bool:
        """Whether any other connection had a segment after this time: the tap still worked."""
        return any(stream != case.stream and last > time for stream, last in self._latest)

    def caveat(self, *more: str) -> str | None:
        """What this tap cannot tell, as one text; the capture's own losses are always named."""
        parts = [part for part in more if part]
        if self.lost_frames:
            parts.append(f"the capture itself lost {self.lost_frames:,} frames")
        return "; ".join(parts) or None
