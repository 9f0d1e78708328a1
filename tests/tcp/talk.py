"""A conversation told in words, for tests that read like the specification.

    talk = Talk()
    talk.client.syn()
    talk.server.synack()
    talk.client.ack()
    assert talk.history("client") == "SYN_SENT sent, ESTABLISHED acknowledged"

Each segment comes 10 ms after the one before it; `talk.wait(seconds)` lets time pass.  A segment with `lost=True`
passes the tap and never arrives; with `unseen=True` it arrives, but the tap misses it.
"""

from __future__ import annotations

from typing import Any, Self

from observer import segments as seg
from observer.kernels import Interpreted
from observer.options import Options
from observer.segments import ACK_FLAG, FIN, PSH, RST, SYN
from observer.tcp import columns, events
from observer.tcp.states import CERTAINTIES, EVENTS, RETRACTED, STATES
from observer.tcp.tracker import Tracker
from tests.tcp.segments import BEGIN, CLIENT, MASK, MS, SECOND, SERVER, Row, feed, row, transitions_of

STEP_NS = 10 * MS


class Host:
    """One end; `next` and `expects` are what RFC 9293 calls SND.NXT and RCV.NXT."""

    def __init__(self, talk: Talk, end: tuple[Any, int], iss: int, ttl: int) -> None:
        self.talk, self.end, self.iss, self.ttl = talk, end, iss, ttl
        self.next, self.expects = iss, 0
        self.peer: Host = self
        self.last: tuple[int, int, int] = (ACK_FLAG, iss, 0)

    def send(
        self, flags: int, seq: int, length: int = 0, *, lost: bool = False, unseen: bool = False, **cells: int
    ) -> Host:
        """Any segment; its acknowledgment is what this end expects unless told otherwise."""
        ack = cells.pop("ack", self.expects if flags & ACK_FLAG else 0)
        made = row(self.talk.now, self.talk.frame + 1, self.end, self.peer.end, flags, seq, ack, length,
                   **{"ttl": self.ttl, **cells})  # fmt: skip
        self.talk.add(made, unseen)
        end = (seq + length + bool(flags & SYN) + bool(flags & FIN)) & MASK
        if end != seq:
            self.last = flags, seq, length
        if not flags & RST and (end - self.next) & MASK < 1 << 31:
            self.next = end
        if not lost and not flags & RST and (flags & SYN or seq == self.peer.expects):
            self.peer.expects = end
        return self

    def syn(self, *, new: bool = False, **how: Any) -> Host:
        """A SYN; `new` begins another incarnation with another number."""
        if new:
            self.iss = (self.iss + 70_000) & MASK
            self.next = self.iss
        return self.send(SYN, self.iss, **how)

    def synack(self, **how: Any) -> Host:
        return self.send(SYN | ACK_FLAG, self.iss, **how)

    def ack(self, **how: Any) -> Host:
        return self.send(ACK_FLAG, self.next, **how)

    def data(self, length: int = 100, **how: Any) -> Host:
        return self.send(ACK_FLAG | PSH, self.next, length, **how)

    def fin(self, **how: Any) -> Host:
        return self.send(FIN | ACK_FLAG, self.next, **how)

    def again(self, **how: Any) -> Host:
        """Its last segment that took sequence space, once more."""
        flags, seq, length = self.last
        return self.send(flags, seq, length, **how)

    def reset(self, **how: Any) -> Host:
        """RST,ACK from a live socket."""
        return self.send(RST | ACK_FLAG, self.next, **how)

    def bare_reset(self, **how: Any) -> Host:
        """RST from no socket: its number is the acknowledgment of what provoked it."""
        return self.send(RST, how.pop("seq", self.peer.expects), **how)

    def keepalive(self, **how: Any) -> Host:
        return self.send(ACK_FLAG, (self.next - 1) & MASK, **how)

    def is_quoted(self, kind: int = 3, code: int = 1) -> Host:
        """An ICMP error about its SYN."""
        return self.send(SYN, self.iss, lost=True, kind=seg.KIND_QUOTED, icmp_type=kind, icmp_code=code)


class Talk:
    """Client and server, the tap between them, and what the tracker makes of it."""

    def __init__(self, *, client_iss: int = 1000, server_iss: int = 50_000, options: Options | None = None) -> None:
        self.options = options or Options()
        self.rows: list[Row] = []
        self.now, self.frame = BEGIN, 0
        self.client, self.server = Host(self, CLIENT, client_iss, 64), Host(self, SERVER, server_iss, 60)
        self.client.peer, self.server.peer = self.server, self.client
        self.tracker: Tracker | None = None

    def add(self, made: Row, unseen: bool) -> None:
        if not unseen:
            self.frame += 1
            self.rows.append(made)
        self.now += STEP_NS

    def wait(self, seconds: float) -> Self:
        self.now += round(seconds * SECOND)
        return self

    def open(self) -> Self:
        """A whole handshake, proved on both sides."""
        self.client.syn()
        self.server.synack()
        self.client.ack()
        self.client.data()
        self.server.ack()
        return self

    # --- what came of it -------------------------------------------------------------------------------

    def tracked(self) -> Tracker:
        """The capture ends now."""
        tracker = Tracker(Interpreted(), self.options)
        feed(tracker, self.rows)
        tracker.finish(self.now)
        return tracker

    def rows_of(self, side: str, stream: int = 0) -> list[tuple[int, ...]]:
        server = int(side == "server")
        return [line for line in transitions_of(self.tracked()) if line[:2] == (stream, server)]

    def history(self, side: str, stream: int = 0) -> str:
        """States and certainties of one end, without what was retracted."""
        told = (line for line in self.rows_of(side, stream) if line[7] != RETRACTED)
        return ", ".join(f"{STATES[line[5]]} {CERTAINTIES[line[7]]}" for line in told)

    def retracted(self, side: str, stream: int = 0) -> str:
        """What turned out wrong, the first retracted first."""
        told = [line for line in self.rows_of(side, stream) if line[7] == RETRACTED]
        return ", ".join(EVENTS[line[6]] for line in reversed(told))

    def when(self, side: str, state: str, stream: int = 0) -> int:
        """ns since the beginning at which an end (last) came to a state."""
        times = [line[2] for line in self.rows_of(side, stream) if STATES[line[5]] == state and line[7] != RETRACTED]
        return times[-1] - BEGIN

    def told(self) -> list[str]:
        """Names of the events beside the states, in the order of their frames."""
        rows = sorted(
            self.tracked().event_rows().tolist(), key=lambda line: (line[events.EV_FRAME], line[events.EV_CODE])
        )
        return [events.EVENT_NAMES[line[events.EV_CODE]][0] for line in rows]

    def final(self, stream: int = 0) -> tuple[str, str]:
        """Both ends' states at the end."""
        cells = self.tracked().flow_rows(stream, stream + 1)[0]
        return tuple(STATES[cells[side + columns.P_STATE]] for side in (columns.O_CLIENT, columns.O_SERVER))  # type: ignore[return-value]

    @property
    def streams(self) -> int:
        return self.tracked().stream_count
