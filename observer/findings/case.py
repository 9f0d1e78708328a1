"""One connection as a finding sees it: its row, both endpoints' histories, what was notable, and what lies around it.

Times are ns since 1970 UTC, frames are numbers of the capture (-1: a timer), states and events go by name.

Never here: a judgement.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

if typing.TYPE_CHECKING:
    from observer.findings.around import Around

OTHER: Final = {"client": "server", "server": "client"}
SYNCHRONIZED: Final = frozenset(
    {"ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT"}
)
"""States behind the three-way handshake (RFC 9293 3.5.2)."""


class Step(NamedTuple):
    """One transition of an endpoint."""

    time: int
    frame: int
    from_state: str
    to_state: str
    cause: str
    certainty: str
    proof: int
    """The frame that proved or retracted it; -1: none."""


class Note(NamedTuple):
    """One event of the connection."""

    time: int
    frame: int
    endpoint: str
    event: str
    value: int
    """The event's detail, as a number."""
    facts: frozenset[str]
    """Of a reset: what it looks like and how its numbers stand, see tcp/events.py; of others none."""
    number: int
    """Of a reset: its sequence number relative to its sender's first one."""
    gap: int
    """Of a reset: ns since its receiver's last segment; -1: there was none."""
    data_gap: int
    """Of a reset: ns since its receiver's last octets (SYN and FIN count); -1: there were none."""
    own_gap: int
    """Of a reset: ns since its sender's last octets (SYN and FIN count); -1: there were none."""


LOOKED_AT: Final = 64
"""Resets of an endpoint that are looked at: no honest host sends more, and hostile input must not cost n * n."""


class End:
    """One endpoint of a connection."""

    def __init__(self, name: str, flow: Mapping[str, int], steps: Sequence[Step], notes: Sequence[Note]) -> None:
        self.name = name
        self._flow = flow
        self.steps = [step for step in steps if step.certainty != "retracted"]
        """Its history, in order."""
        whole = len(self.steps) == len(steps)
        self.withdrawn = [] if whole else [step for step in steps if step.certainty == "retracted"]
        """What was assumed of it and contradicted by itself later."""
        self.notes = [note for note in notes if note.endpoint == name]
        self.resets = [note for note in self.notes if note.event == "reset"][:LOOKED_AT]
        """The RSTs in its name, in order; the first LOOKED_AT of them."""

    def count(self, column: str) -> int:
        """A number of its row, by the column's name without the side: packets, octets, retransmitted, rtt_ns…

        -1 where it is not known.
        """
        return self._flow[f"{self.name}_{column}"]

    @property
    def packets(self) -> int:
        """Segments that it sent."""
        return self._flow[f"{self.name}_packets"]

    @property
    def last_time(self) -> int:
        """When it sent its last segment, ns; 0: never."""
        return self._flow[f"{self.name}_last_time"]

    @property
    def state(self) -> str:
        """Its state at the end."""
        return self.steps[-1].to_state if self.steps else "CLOSED"

    def before(self, frame: int) -> str:
        """Its state before this frame, in hindsight."""
        state = self.steps[0].from_state if self.steps else "CLOSED"
        for step in self.steps:
            if step.frame >= frame:
                break
            state = step.to_state
        return state

    def last(self, *causes: str) -> Step | None:
        """The latest step with one of these causes (names of the state machine's events)."""
        for step in reversed(self.steps):
            if step.cause in causes:
                return step
        return None

    def entered(self, *states: str) -> Step | None:
        """The latest step into one of these states."""
        for step in reversed(self.steps):
            if step.to_state in states:
                return step
        return None

    def was(self, *states: str) -> bool:
        """Whether it was ever in one of these states, in hindsight."""
        return any(step.to_state in states for step in self.steps)

    def said(self, *events: str) -> list[Note]:
        """What was noted of it under these names, in order."""
        return [note for note in self.notes if note.event in events]


class Case:
    """One connection.

    Attributes
    ----------
    stream
        As tcp.stream.
    flow
        Its row: raw numbers by column name (codes of enumerations, -1 null), see `judging.FLOW_COLUMNS`.
    around
        What lies around it: the other connections, the end of the capture, the options.
    """

    def __init__(
        self,
        stream: int,
        flow: Mapping[str, int],
        steps: tuple[list[Step], list[Step]],
        notes: list[Note],
        around: Around,
    ) -> None:
        self.stream = stream
        self.flow = flow
        self.around = around
        self.notes = notes
        self.client = End("client", flow, steps[0], notes)
        self.server = End("server", flow, steps[1], notes)
        self.ends = (self.client, self.server)
        self.forged: dict[Note, bool] = {}
        """What was found of its resets so far, see `forgery.is_forged`."""

    def end(self, name: str) -> End:
        """The endpoint of that name."""
        return self.client if name == "client" else self.server

    def other(self, end: End) -> End:
        """The peer of an endpoint."""
        return self.server if end.name == "client" else self.client

    def said(self, *events: str) -> list[Note]:
        """What was noted under these names, of either endpoint, in order."""
        return [note for note in self.notes if note.event in events]

    @cached_property
    def resets(self) -> list[Note]:
        """The RSTs of both, in order."""
        return sorted([*self.client.resets, *self.server.resets], key=lambda note: note.frame)

    @property
    def first_time(self) -> int:
        return self.flow["first_time"]

    @property
    def last_time(self) -> int:
        return self.flow["last_time"]

    @property
    def round_trip(self) -> int:
        """ns from one endpoint to the other and back; 0: not known."""
        client, server = self.flow["client_rtt_ns"], self.flow["server_rtt_ns"]
        if client > 0 and server > 0:
            return client + server
        return max(self.flow["handshake_ns"], 0) if self.flow["syn_count"] == 1 else 0

    @property
    def one_way(self) -> bool:
        """Whether only one direction was captured: nothing is said about the other endpoint then."""
        return self.client.packets == 0 or self.server.packets == 0

    def may_have_closed(self, end: End) -> bool:
        """Whether an endpoint's FIN may have passed unseen: nothing shows that it had not closed.

        Before the capture began: octets behind the opening, or the opening itself, would show it (RFC 9293 3.6: nothing
        is sent behind a FIN).  Later: its last segment stands beyond all that was seen of it.
        """
        missed = any(note.time == end.last_time for note in end.said("lost_segment"))
        return missed or not (self.flow["syn_count"] or self.flow["synack_count"] or end.count("octets"))

    @property
    def tap(self) -> str | None:
        """Where the capture was made, as far as the connection tells: client, middle, server."""
        from observer.schema import TAPS

        code = self.flow["tap"]
        return None if code < 0 else TAPS[code]
