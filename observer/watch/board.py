"""What a screen, or metrics, show of a live observation at one moment: counts of what is held, as plain numbers.

Never here: layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.schema import ENDPOINTS, STATES
from observer.watch.announce import Change, Row
from observer.watch.watcher import Watcher

if TYPE_CHECKING:
    from observer.watch.loop import Live

Array = Any

LISTENERS: Final = 200
"""Listeners that are told one by one, those of the most connections first."""
HALF_ESTABLISHED: Final = "half_established"


class Listener(NamedTuple):
    """One address and port that connections go to.

    Attributes
    ----------
    address, port
        Of the listener.
    connections
        How many are held.
    half_established
        How many of these the client believes in and the server does not, as found.
    states
        Of the server's ends, by state.
    time_wait
        Connections in TIME-WAIT at either end.
    share
        Of one client's ports towards it, the most that TIME-WAIT holds: 0 to 1.
    """

    address: str
    port: int
    connections: int
    half_established: int
    states: dict[str, int]
    time_wait: int
    share: float


class Board(NamedTuple):
    """A moment.

    Attributes
    ----------
    now_ns
        When, ns since 1970 UTC.
    frames, segments, connections
        So far.
    frames_per_s
        Since the moment before.
    forgotten, evicted
        See `Live`.
    interfaces
        What the feed says of each.
    states
        For client and server: how many are in which state.
    listeners
        Those of the most connections first.
    findings
        All that is known, the latest begin last.
    """

    now_ns: int
    frames: int
    segments: int
    connections: int
    frames_per_s: float
    forgotten: int
    evicted: int
    interfaces: Sequence[Any]
    states: dict[str, dict[str, int]]
    listeners: list[Listener]
    findings: list[Row]


class Boards(Watcher):
    """Makes a board at each tick; `latest` is replaced as a whole, so that any thread may look at it."""

    def __init__(self) -> None:
        self.latest: Board | None = None
        self._frames, self._at_ns = 0, 0

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        """Count."""
        now = live.clock.steady_ns()
        spent = (now - self._at_ns) / 1e9 if self._at_ns else 0.0
        rate = (live.capture.frames - self._frames) / spent if spent > 0 else 0.0
        self._frames, self._at_ns = live.capture.frames, now
        flows = live.view()[0].columns("flows")
        client, server = (numpy.asarray(flows[f"{side}_state"]) for side in ENDPOINTS)
        rows = live.finding_rows()
        self.latest = Board(
            now_ns=live.end_ns, frames=live.capture.frames, segments=live.segments, connections=live.connections,
            frames_per_s=rate, forgotten=live.forgotten, evicted=live.evicted, interfaces=live.feed.statistics(),
            states={"client": _counted(client), "server": _counted(server)},
            listeners=_listeners(flows, client, server, rows, live.options.ephemeral_ports),
            findings=rows,
        )  # fmt: skip

    end = tick


def _counted(states: Array) -> dict[str, int]:
    counts = numpy.bincount(states, minlength=len(STATES)).tolist()
    return {state: count for state, count in zip(STATES, counts, strict=True) if count}


def _listeners(
    flows: Any, client: Array, server: Array, findings: Sequence[Row], ports: tuple[int, int]
) -> list[Listener]:
    """Count each listener's connections."""
    if not flows.rows:
        return []
    address, port = (numpy.asarray(flows[name], numpy.int64) for name in ("server_addr", "server_port"))
    places, codes, counts = numpy.unique(address << 16 | port, return_inverse=True, return_counts=True)
    waiting = STATES.index("TIME_WAIT")
    in_time_wait = (client == waiting) | (server == waiting)
    held = numpy.bincount(codes, weights=in_time_wait, minlength=len(places))
    most = _most_of_one_client(numpy.asarray(flows["client_addr"], numpy.int64), codes, in_time_wait, len(places))
    by_state = numpy.bincount(codes * len(STATES) + server, minlength=len(places) * len(STATES))
    by_state = by_state.reshape(len(places), len(STATES))
    half = _half_established(findings)
    space = ports[1] - ports[0] + 1
    listeners = []
    for place in numpy.argsort(-counts, kind="stable")[:LISTENERS].tolist():
        key = int(places[place])
        name = flows.addresses.text(key >> 16)
        listeners.append(Listener(
            name, key & 0xFFFF, int(counts[place]), half.get((name, key & 0xFFFF), 0),
            {state: count for state, count in zip(STATES, by_state[place].tolist(), strict=True) if count},
            int(held[place]), float(most[place]) / space,
        ))  # fmt: skip
    return listeners


def _most_of_one_client(clients: Array, codes: Array, chosen: Array, places: int) -> Array:
    """Of each listener, how many chosen connections the client with the most has."""
    most = numpy.zeros(places, numpy.int64)
    if chosen.any():
        pairs, counts = numpy.unique(codes[chosen] << 32 | clients[chosen], return_counts=True)
        numpy.maximum.at(most, pairs >> 32, counts)
    return most


def _half_established(findings: Sequence[Row]) -> dict[tuple[str, int], int]:
    """How many connections of each listener the server never finished, and has not forgotten."""
    counts: dict[tuple[str, int], int] = {}
    for row in findings:
        if row["code"] == HALF_ESTABLISHED and row["end"] is None:
            place = (row["server_addr"], row["server_port"])
            counts[place] = counts.get(place, 0) + 1
    return counts
