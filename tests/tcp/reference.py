"""A slow and obvious tracker, to which the kernels are compared.

Written from INFERENCE.md, CRITERIA.md and the theory in observer/tcp/states.py, with Python objects: an endpoint has a
history (a list of entries) and its state is the fold of the machine over it, computed afresh at every question.
Nothing is remembered twice, nothing is skipped: there is no short way for plain segments, so a comparison also shows
that the kernels' short way is sound.

Taken from the project itself: the state machine (`states.TRANSITIONS`, which test_states.py checks against a table
written by hand), the layout of the rows, and Wireshark's marks of each segment (test_analysis.py checks those).
Left out: Zeek's view, events, round trips as a result.

Words: x sends, y is the other end; *towards* y means that the segment passed the tap on its way to y.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from observer import segments as seg
from observer.options import Options
from observer.segments import ACK_FLAG, FIN, RST, SYN
from observer.tcp import layout
from observer.tcp.states import (
    ACKNOWLEDGED,
    ASSUMED,
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    EXPIRE,
    FIN_WAIT_1,
    FIN_WAIT_2,
    GIVE_UP,
    ICMP,
    LAST_ACK,
    MIDSTREAM,
    NONE,
    RCV_ACK_OF_FIN,
    RCV_ACK_OF_SYN,
    RCV_FIN,
    RCV_RST,
    RCV_SYN,
    RCV_SYNACK,
    REPLACED,
    RETRACTED,
    SENT,
    SND_FIN,
    SND_RST,
    SND_SYN,
    SND_SYNACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TIMER,
    TRANSITIONS,
    UNKNOWN,
)

MS = 1_000_000
DAY = 86_400_000_000_000
SECOND = 1000 * MS
MODULUS = 1 << 32
HALF = 1 << 31
MACHINE = {(row.state, row.event): row.to for row in TRANSITIONS}
ENDS = (EXPIRE, GIVE_UP, ICMP)


def after(a: int, b: int) -> int:
    """How far sequence number a is after b, -2**31 .. 2**31 - 1."""
    return (a - b + HALF) % MODULUS - HALF


def beyond(a: int, b: int) -> bool:
    return after(a, b) > 0


def before(a: int, b: int) -> bool:
    return after(a, b) < 0


def reaches(a: int, b: int) -> bool:
    """a is b or after it."""
    return a == b or after(a, b) >= 0


def not_after(a: int, b: int) -> bool:
    """a is b or before it; at a distance of exactly 2**31 both of two numbers are before the other (RFC 1982 3.2)."""
    return a == b or after(a, b) < 0


class End(NamedTuple):
    """One end of a connection."""

    address: tuple[int, ...]
    port: int


@dataclass
class Segment:
    """A row of cells, read."""

    time: int
    frame: int
    quoted: bool
    version: int
    source: End
    destination: End
    seq: int
    ack: int
    flags: int
    length: int
    options: int
    ttl: int
    sack_right: int
    stamp: int | None
    echo: int | None
    icmp: tuple[int, int]
    marks: int = 0

    @property
    def is_cut(self) -> bool:
        return bool(self.options & seg.CUT_HEADER)

    @property
    def is_syn(self) -> bool:
        """A SYN without ACK."""
        return self.flags & (SYN | ACK_FLAG) == SYN

    @property
    def is_synack(self) -> bool:
        return self.flags & (SYN | ACK_FLAG) == SYN | ACK_FLAG

    @property
    def space(self) -> int:
        """Sequence numbers that it takes."""
        return self.length + bool(self.flags & SYN) + bool(self.flags & FIN)

    @property
    def end(self) -> int:
        return (self.seq + self.space) % MODULUS


def read(row: Sequence[int], marks: int) -> Segment:
    """A segment from its row of cells."""
    stamped = row[seg.OPTIONS] & seg.HAS_TIMESTAMPS
    return Segment(
        time=row[seg.TIME],
        frame=row[seg.FRAME],
        quoted=row[seg.KIND] == seg.KIND_QUOTED,
        version=row[seg.VERSION],
        source=End(tuple(row[seg.SRC : seg.SRC + 4]), row[seg.SRC_PORT]),
        destination=End(tuple(row[seg.DST : seg.DST + 4]), row[seg.DST_PORT]),
        seq=row[seg.SEQ],
        ack=row[seg.ACK],
        flags=row[seg.FLAGS],
        length=row[seg.LENGTH],
        options=row[seg.OPTIONS],
        ttl=row[seg.TTL],
        sack_right=row[seg.SACK_RIGHT],
        stamp=row[seg.TS_VALUE] if stamped else None,
        echo=row[seg.TS_ECHO] if stamped else None,
        icmp=(row[seg.ICMP_TYPE], row[seg.ICMP_CODE]),
        marks=marks,
    )


@dataclass
class Entry:
    """Something that happened to an endpoint."""

    time: int
    frame: int
    event: int
    certainty: int
    proof: int = 0
    believed: int = CLOSED  # of a retracted one: the state that it was thought to have led from


class Row(NamedTuple):
    """A transition as it is told."""

    stream: int
    server: int
    time: int
    frame: int
    state: int
    to: int
    cause: int
    certainty: int
    proof: int


@dataclass
class Endpoint:
    """What is known about one end of one incarnation."""

    begins: int = CLOSED
    history: list[Entry] = field(default_factory=list)
    opened_at: int = 0  # where in the history folding starts: at the latest opening from CLOSED
    retracted: list[Entry] = field(default_factory=list)
    base: int | None = None  # as Wireshark knows it: tells a repeated SYN from a new incarnation
    iss: int | None = None
    sent_to: int | None = None  # highest number sent, + 1
    contiguous: int = 0  # how far without a hole
    island: tuple[int, int] | None = None  # the first run beyond the first hole
    acked: int | None = None  # highest acknowledgment sent
    fin: int | None = None
    stamp: int | None = None  # timestamp of its first SYN or SYN-ACK; from its FIN on, of its first FIN
    syns: int = 0
    synacks: int = 0
    spoke: bool = False  # sent anything but SYN and RST
    reset: bool = False
    contradicted: bool = False
    deferred: bool = False
    challenged: bool = False
    ahead: bool = False  # acknowledged its peer's FIN from one octet beyond what was seen of it
    candidate: tuple[int, int] | None = None
    first_opening: tuple[int, int] = (0, 0)
    last_opening: int = 0
    data: tuple[int, int] = (0, 0)  # time and frame of its last segment that took sequence space
    repeats: int = 0
    repeated_seq: int = 0
    repeated_at: int = 0
    repeat_gap: int = 0
    ended_at: int = 0
    last_ack: int = 0  # acknowledgment field of its last segment
    ttl: int = 0
    ttl_run: int = 0
    packets: int = 0
    octets: int = 0
    unique: int = 0

    # --- history ---------------------------------------------------------------------------------------

    @property
    def current(self) -> list[Entry]:
        """What folding looks at."""
        return self.history[self.opened_at :]

    def fold(self, entries: Sequence[Entry]) -> int:
        state = CLOSED if self.opened_at else self.begins
        for entry in entries:
            state = MACHINE.get((state, entry.event), state)
        return state

    @property
    def state(self) -> int:
        return self.fold(self.current)

    def append(self, event: int, certainty: int, time: int, frame: int) -> bool:
        """Something happens; only what changes the state is kept."""
        state = self.state
        if MACHINE.get((state, event), state) == state:
            return False
        if state == CLOSED and event in (SND_SYN, SND_SYNACK) and self.current:
            self.opened_at = len(self.history)
        self.history.append(Entry(time, frame, event, certainty, frame if certainty == ACKNOWLEDGED else 0))
        return True

    def insert(self, event: int, certainty: int, time: int, frame: int, proof: int = 0) -> bool:
        """Something happened earlier: behind everything up to that frame, if it meant something there."""
        place = self.opened_at
        while place < len(self.history) and self.history[place].frame <= frame:
            place += 1
        state = self.fold(self.history[self.opened_at : place])
        if MACHINE.get((state, event), state) == state:
            return False
        self.history.insert(place, Entry(time, frame, event, certainty, proof))
        return True

    def find(self, event: int) -> Entry | None:
        """The newest such entry."""
        return next((entry for entry in reversed(self.current) if entry.event == event), None)

    def assumes(self, event: int) -> bool:
        return any(entry.event == event and entry.certainty == ASSUMED for entry in self.current)

    def prove(self, event: int, frame: int) -> None:
        entry = self.find(event)
        if entry and entry.certainty == ASSUMED:
            entry.certainty, entry.proof = ACKNOWLEDGED, frame

    def retract(self, event: int, frame: int) -> bool:
        """Its own segment in this frame says that this did not happen."""
        for place, entry in enumerate(self.current):
            if entry.event == event:
                entry.believed = self.fold(self.current[:place])
                del self.history[self.opened_at + place]
                entry.certainty, entry.proof = RETRACTED, frame
                self.retracted.append(entry)
                return True
        return False

    def retract_end(self, frame: int) -> None:
        for event in ENDS:
            self.retract(event, frame)

    # --- questions -------------------------------------------------------------------------------------

    def syn_is_acked(self, ack: int) -> bool:
        """An acknowledgment of its SYN and of nothing that it never sent (it may be that its SYN was not captured)."""
        if self.iss is None:
            return True
        return beyond(ack, self.iss) and (self.sent_to is None or not_after(ack, self.sent_to))

    def fin_is_acked(self, ack: int) -> bool:
        return self.fin is not None and ack == (self.fin + 1) % MODULUS  # nothing lies behind a FIN

    @property
    def waits_for_fin(self) -> bool:
        return self.state in (ESTABLISHED, SYN_RECEIVED, FIN_WAIT_1, FIN_WAIT_2)

    def enter_time_wait(self, time: int) -> None:
        if self.state == TIME_WAIT:
            self.ended_at = time

    # --- what it sends ---------------------------------------------------------------------------------

    def take_in(self, s: Segment) -> None:
        """Its numbers: how far sent, how far without a hole, which octets were new."""
        if self.sent_to is None:
            self.sent_to = self.contiguous = s.end
            self.unique += s.length
            return
        if not s.space:
            return
        if beyond(s.end, self.sent_to):
            self.unique += min(s.length, after(s.end, self.sent_to))
            self.sent_to = s.end
        elif reaches(s.seq, self.contiguous) and not self.is_on_island(s.seq):
            self.unique += s.length  # it fills a hole
        if not_after(s.seq, self.contiguous):
            if beyond(s.end, self.contiguous):
                self.contiguous = s.end
                self.join()
        elif self.island is None:
            self.island = (s.seq, s.end)
        elif not_after(s.seq, self.island[1]) and reaches(s.end, self.island[0]):
            left, right = self.island
            self.island = (s.seq if before(s.seq, left) else left, s.end if beyond(s.end, right) else right)

    def is_on_island(self, seq: int) -> bool:
        return self.island is not None and reaches(seq, self.island[0]) and before(seq, self.island[1])

    def join(self) -> None:
        """The first hole may be full now."""
        if self.island and not_after(self.island[0], self.contiguous):
            if beyond(self.island[1], self.contiguous):
                self.contiguous = self.island[1]
            self.island = None

    def count_repeat(self, s: Segment) -> bool:
        """Whether it sends again what it sent before; how often in a row, and at which intervals."""
        if self.sent_to is None or not s.space or not before(s.seq, self.sent_to):
            return False
        if self.repeats and self.repeated_seq == s.seq:
            self.repeats += 1
            self.repeat_gap = s.time - self.repeated_at
        else:
            self.repeats = 1
            self.repeated_seq = s.seq
            self.repeat_gap = s.time - self.data[0]
        self.repeated_at = s.time
        return True

    # --- the record ------------------------------------------------------------------------------------

    def rows(self, stream: int, server: int) -> Iterator[Row]:
        """Transitions in their order, then the retracted ones, the last retracted first."""
        state = self.begins
        latest = self.history[0].time if self.history else 0
        for entry in self.history:
            latest = max(latest, entry.time)
            to = MACHINE.get((state, entry.event), state)
            if to != state:
                yield self.row(stream, server, latest, entry, state, to)
            state = to
        for entry in reversed(self.retracted):
            to = MACHINE.get((entry.believed, entry.event), entry.believed)
            yield self.row(stream, server, entry.time, entry, entry.believed, to)

    @staticmethod
    def row(stream: int, server: int, time: int, entry: Entry, state: int, to: int) -> Row:
        frame = -1 if entry.certainty == TIMER else entry.frame
        return Row(stream, server, time, frame, state, to, entry.event, entry.certainty, entry.proof or -1)

    @property
    def certainty(self) -> int:
        return self.history[-1].certainty if self.history else NONE


@dataclass
class Connection:
    """One incarnation: Wireshark's tcp.stream."""

    number: int
    first: Segment
    previous: Connection | None
    swapped: bool
    inferred: bool
    client: Endpoint
    server: Endpoint
    rules: Rules
    segments: int = 1
    started: bool = False  # its first segment is played when a second one comes, or at the end
    last_frame: int = 0
    last_syn: int | None = None
    first_trip: int = 0
    trips: dict[str, int] = field(default_factory=dict)
    fast_open: bool = False

    def ends(self, source: End) -> tuple[Endpoint, Endpoint]:
        """Sender and receiver of a segment from this end."""
        if (source == self.first.source) != self.swapped:
            return self.client, self.server
        return self.server, self.client

    def side(self, x: Endpoint) -> str:
        return "client" if x is self.client else "server"

    @property
    def round_trip(self) -> int:
        """What surely suffices from one end to the other and back, with some margin."""
        if len(self.trips) == 2:
            trip = sum(self.trips.values())
        elif self.first_trip > 0:
            trip = self.first_trip
        else:
            trip = 200 * MS
        return trip + trip // 8 + MS

    # --- the order of work -----------------------------------------------------------------------------

    def take(self, s: Segment) -> None:
        """A segment of this connection."""
        x, y = self.ends(s.source)
        if s.is_cut:
            self.run_timers(s.time)
            x.packets += 1
            x.octets += s.length
            self.last_frame = s.frame
            return
        self.learn_bases(s, x, y)
        self.measure_handshake(s)
        if self.previous and x.packets == 0 and s.is_synack:
            self.replace_listener(s)
        self.run_timers(s.time)
        if not s.marks & layout.MARK_DUPLICATE_FRAME:  # the capture repeats itself, the endpoints did not
            self.infer(s, x, y)
        x.last_ack = s.ack
        x.packets += 1
        x.octets += s.length
        self.last_frame = s.frame

    @staticmethod
    def learn_bases(s: Segment, x: Endpoint, y: Endpoint) -> None:
        """Wireshark's base numbers: the ISN, or one before the first number seen or acknowledged."""
        if s.is_synack and x.base is not None:
            x.base = s.seq
        if x.base is None:
            x.base = s.seq if s.flags & SYN else (s.seq - 1) % MODULUS
        if y.base is None and s.flags & ACK_FLAG:
            y.base = (s.ack - 1) % MODULUS

    def measure_handshake(self, s: Segment) -> None:
        """Wireshark's initial round trip: from the latest SYN to the first ACK behind it."""
        if s.is_syn:
            self.last_syn = s.time
        elif s.flags & ACK_FLAG and not s.flags & SYN and self.first_trip == 0 and self.last_syn is not None:
            self.first_trip = s.time - self.last_syn

    def infer(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if not s.flags & RST:
            self.lives(s, x)
            if not s.flags & SYN:
                self.speaks(s, x, y)
                if s.flags & ACK_FLAG and y.fin is not None:
                    self.ack_proves(s, x, y)
            elif s.flags & ACK_FLAG:
                self.sends_synack(s, x, y)
            else:
                self.sends_syn(s, x)
            if s.flags & FIN:
                self.sends_fin(s, x, y)
            if not s.flags & SYN and x.state != CLOSED:
                x.spoke = True
            self.numbers(s, x, y)
            self.towards(s, x, y)
            if x.ttl_run and x.ttl == s.ttl:
                x.ttl_run += 1
            else:
                x.ttl, x.ttl_run = s.ttl, 1
        else:
            self.resets(s, x, y)

    # --- timers ----------------------------------------------------------------------------------------

    def run_timers(self, now: int) -> None:
        """What was due before now."""
        for x, y in ((self.client, self.server), (self.server, self.client)):
            if x.state == TIME_WAIT:
                due = x.ended_at + self.rules.time_wait
                if now > due:
                    x.append(EXPIRE, TIMER, due, self.last_frame)
            elif x.state == SYN_RECEIVED:
                if x.synacks and not x.syns:
                    self.expire_request(x, y, now)
            elif x.repeats >= 3 and x.state in (SYN_SENT, ESTABLISHED, FIN_WAIT_1, CLOSE_WAIT, CLOSING, LAST_ACK):
                wait = 2 * min(max(x.repeat_gap, 200 * MS), DAY)  # a quicker repeat is no time-out's
                if now > x.repeated_at + wait + wait * 3 // 10:
                    x.append(GIVE_UP, TIMER, x.repeated_at + wait, self.last_frame)
                    x.repeats = 0

    def expire_request(self, x: Endpoint, y: Endpoint, now: int) -> None:
        """Repeats of a SYN-ACK fall due 1, 3, 7, 15 ... s after the first; one that is missing tells the end."""
        first, frame = x.first_opening
        step = self.rules.synack_first
        if x.synacks == 1 and not y.spoke:
            if now > first + step + step * 3 // 10:  # nothing kept to repeat from: a stateless answer
                x.insert(EXPIRE, TIMER, first, frame)
            return
        due = first + step
        while due <= x.last_opening + step // 20:
            step *= 2
            due += step
        if due - step <= x.last_opening <= due - step + step // 8:
            due = x.last_opening + step  # each repeat counts from the one before it, late as that may have been
        if now > due + step * 3 // 10:
            x.append(EXPIRE, TIMER, due + step // 16, self.last_frame)  # then at the latest the timer had fired

    # --- x evidently lives -----------------------------------------------------------------------------

    def lives(self, s: Segment, x: Endpoint) -> None:
        """No end that was only assumed can have happened."""
        if not s.flags & SYN:
            x.retract_end(s.frame)
        if x.assumes(RCV_RST) and s.time > x.ended_at + self.round_trip:
            x.retract(RCV_RST, s.frame)
        y = self.server if x is self.client else self.client
        overtaken = 0 <= s.time - y.ended_at < 3_000_000  # sent before the RST, or a copy
        if x.reset and not s.flags & SYN and not overtaken:
            # who has reset says nothing more but RST: it was not its own
            x.retract(SND_RST, s.frame)
            x.reset = False

    def speaks(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """x sends something that is neither SYN nor RST: what that says about its own opening."""
        state = x.state
        doubted = x.assumes(RCV_SYNACK), x.assumes(RCV_ACK_OF_SYN)
        if state == SYN_SENT:
            x.append(RCV_SYNACK, ACKNOWLEDGED, s.time, s.frame)
            if not y.syns and not y.synacks and not y.spoke and y.state == CLOSED:
                self.begin_unknown(y)
        elif state == SYN_RECEIVED:
            # accepted at the candidate instant; with Fast Open a server may send before its SYN is acknowledged
            inserted = bool(x.candidate) and x.insert(RCV_ACK_OF_SYN, ACKNOWLEDGED, *x.candidate, s.frame)
            if not inserted and (x.candidate or not self.fast_open):
                x.append(RCV_ACK_OF_SYN, ACKNOWLEDGED, s.time, s.frame)
        elif state == UNKNOWN:
            x.append(MIDSTREAM, SENT, s.time, s.frame)
        elif state == CLOSED and not x.syns and not x.synacks and not x.spoke:
            if y.iss is not None and beyond(s.ack, y.iss) and y.syn_is_acked(s.ack):
                x.append(SND_SYNACK, ACKNOWLEDGED, s.time, s.frame)  # its SYN-ACK is missing in the capture
                x.append(RCV_ACK_OF_SYN, ACKNOWLEDGED, s.time, s.frame)
            else:
                x.challenged = True
        if doubted[0] and y.syn_is_acked(s.ack):
            if y.synacks > 1 and not y.spoke and None not in (y.stamp, s.echo) and y.stamp != s.echo:
                x.retract(RCV_SYNACK, s.frame)  # what it took is the repeat
                x.insert(RCV_SYNACK, ACKNOWLEDGED, y.last_opening, y.data[1], s.frame)
            else:
                x.prove(RCV_SYNACK, s.frame)
        if doubted[1]:
            x.prove(RCV_ACK_OF_SYN, s.frame)

    @staticmethod
    def begin_unknown(y: Endpoint) -> None:
        """Nothing of its side of the handshake was captured."""
        y.begins = UNKNOWN

    # --- opening ---------------------------------------------------------------------------------------

    def sends_syn(self, s: Segment, x: Endpoint) -> None:
        if x.syns == 0:
            x.first_opening = s.time, s.frame
            x.stamp = s.stamp
        else:
            self.stands_still(s, x)
            x.retract_end(s.frame)
            if x.assumes(RCV_SYNACK):  # it repeats its SYN: it never got the SYN-ACK that passed
                x.retract(RCV_SYNACK, s.frame)
        x.syns += 1
        x.last_opening = s.time
        x.iss = s.seq
        x.append(SND_SYN, SENT, s.time, s.frame)

    def sends_synack(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if x.synacks == 0:
            x.first_opening = s.time, s.frame
            x.stamp = s.stamp
            earlier = self.answers_earlier(s, x, y)
            if y.syns == 1 and not earlier and not x.syns and s.time > y.last_opening:
                self.trips[self.side(x)] = s.time - y.last_opening
            if y.iss is not None and beyond(s.ack, (y.iss + 1) % MODULUS):
                self.fast_open = True
            if earlier:
                x.insert(SND_SYNACK, ACKNOWLEDGED, *y.first_opening, s.frame)
                x.first_opening = y.first_opening[0], s.frame
        else:
            x.retract_end(s.frame)
            self.stands_still(s, x)
            self.repeats_synack(s, x, y)
        x.synacks += 1
        x.last_opening = s.time
        x.iss = s.seq
        x.append(SND_SYNACK, SENT, s.time, s.frame)

    @staticmethod
    def echoes_first(s: Segment, y: Endpoint) -> bool:
        """What is echoed is what was taken in order, not what was repeated later (RFC 7323 4.3)."""
        return y.stamp is not None and y.stamp == s.echo

    def answers_earlier(self, s: Segment, x: Endpoint, y: Endpoint) -> bool:
        """It took the first SYN, and what it answered to that was lost before the tap."""
        if x.history or y.syns == 0:
            return False
        if y.syns > 1:
            return self.echoes_first(s, y)
        return s.time >= y.first_opening[0] + self.rules.synack_first and y.syn_is_acked(s.ack)

    @staticmethod
    def stands_still(s: Segment, x: Endpoint) -> None:
        """Its clock does not tell the repeat from the first."""
        if x.stamp == s.stamp:
            x.stamp = None

    def repeats_synack(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """If the handshake's ACK passed more than a round trip ago, x did not take it."""
        if x.spoke or not x.candidate or s.time <= x.candidate[0] + self.round_trip:
            return
        asked_for = y.last_opening > x.last_opening
        late = s.time > x.first_opening[0] + 2200 * MS
        if x.assumes(RCV_ACK_OF_SYN):
            x.retract(RCV_ACK_OF_SYN, s.frame)
        same = s.seq == x.iss  # with another number it is no repeat
        if same and x.synacks == 1 and late and not asked_for:
            x.deferred = True
        elif same and not x.deferred:
            x.contradicted = True
        x.candidate = None

    # --- closing ---------------------------------------------------------------------------------------

    def ack_proves(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """y has sent FIN: had x received it?"""
        if y.fin_is_acked(s.ack):
            self.has_fin(s, x, y)
        elif x.assumes(RCV_FIN):
            entry = x.find(RCV_FIN)
            assert entry
            if s.flags & FIN and x.fin is None:  # the FINs crossed: both go through CLOSING to TIME-WAIT
                x.retract(RCV_FIN, s.frame)
                x.append(SND_FIN, SENT, s.time, s.frame)
                x.append(RCV_FIN, ASSUMED, s.time, s.frame)
                x.candidate = None
            elif s.time > entry.time + self.round_trip:
                x.retract(RCV_FIN, s.frame)

    def has_fin(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """x acknowledges y's FIN: when did it get it?"""
        if (x.assumes(RCV_FIN) or x.waits_for_fin) and x.fin is None and not x.candidate and x.sent_to is not None:
            x.ahead |= not s.space and (s.seq - x.sent_to) % MODULUS == 1
        twice = bool(s.options & seg.HAS_SACK) and reaches(s.ack, s.sack_right)  # RFC 2883
        if x.assumes(RCV_FIN):
            if not x.candidate or twice or self.echoes_first(s, y):
                x.prove(RCV_FIN, s.frame)
                return
            fin, ack = x.find(RCV_FIN), x.find(RCV_ACK_OF_FIN)
            if fin and ack and fin.frame == ack.frame and x.assumes(RCV_ACK_OF_FIN):
                # the segment with the first FIN never arrived: nor did the acknowledgment in it
                x.retract(RCV_ACK_OF_FIN, s.frame)
                x.insert(RCV_ACK_OF_FIN, ACKNOWLEDGED, *x.candidate, s.frame)
            x.retract(RCV_FIN, s.frame)  # not the first, but its repeat
            instant = x.candidate
        elif x.waits_for_fin:
            instant = y.data  # the last that y sent of anything
        else:
            return
        if x.insert(RCV_FIN, ACKNOWLEDGED, *instant, s.frame):
            x.enter_time_wait(instant[0])
        elif x.append(RCV_FIN, ACKNOWLEDGED, s.time, s.frame):
            x.enter_time_wait(s.time)

    def sends_fin(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if x.fin is None:
            x.fin = (s.seq + s.length) % MODULUS
            x.stamp = s.stamp
            other = x.find(RCV_FIN)
            if (
                other and x.ahead and x.fin == x.sent_to and x.data[1] <= other.proof
            ):  # it had sent its FIN when the other came: they crossed
                if x.insert(SND_FIN, ACKNOWLEDGED, other.time, other.frame - 1, s.frame):
                    mine = x.find(SND_FIN)
                    assert mine
                    mine.frame = other.frame
                    return
            x.append(SND_FIN, SENT, s.time, s.frame)
            return
        entry = x.find(RCV_ACK_OF_FIN)
        if x.assumes(RCV_ACK_OF_FIN) and entry and s.time > entry.time + self.round_trip:
            x.retract(RCV_ACK_OF_FIN, s.frame)  # it repeats its FIN: the ACK that passed never arrived
        if y.assumes(RCV_FIN) and not y.candidate:
            y.candidate = s.time, s.frame

    # --- numbers ---------------------------------------------------------------------------------------

    def numbers(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if x.count_repeat(s):
            self.find_stateless(s, x, y)
        x.take_in(s)
        if s.space:
            x.data = s.time, s.frame
        if s.flags & ACK_FLAG:
            if x.acked is None or beyond(s.ack, x.acked):
                x.acked = s.ack
                self.measure(s, x, y)
                if y.sent_to is not None and beyond(s.ack, y.contiguous) and not_after(s.ack, y.sent_to):
                    y.contiguous = s.ack  # the tap may have missed it, x did not
                    y.join()
            if not s.flags & SYN:
                y.repeats = 0
            x.enter_time_wait(s.time)  # every ACK of a repeated FIN restarts 2 MSL (RFC 9293 3.10.7.4)

    def measure(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """Round trip between the tap and x: from y's last segment to x's acknowledgment of all."""
        if self.side(x) not in self.trips and y.sent_to == s.ack and not y.repeats and y.synacks <= 1:
            if 0 < y.data[0] < s.time:
                self.trips[self.side(x)] = s.time - y.data[0]

    def find_stateless(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        """x repeats its data: had y a connection, it would have answered by now."""
        silent = y.synacks == 1 and not y.spoke and not y.contradicted and not y.deferred
        if silent and y.assumes(RCV_ACK_OF_SYN):
            if x.repeats >= 2 and s.time - y.first_opening[0] > 1300 * MS:
                y.retract(RCV_ACK_OF_SYN, s.frame)
                y.insert(EXPIRE, TIMER, *y.first_opening)

    # --- what y may have received ----------------------------------------------------------------------

    def towards(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if s.is_synack:
            if y.syn_is_acked(s.ack):
                if y.state == SYN_SENT:
                    y.append(RCV_SYNACK, ASSUMED, s.time, s.frame)
                elif y.state == SYN_RECEIVED:
                    y.append(RCV_ACK_OF_SYN, ASSUMED, s.time, s.frame)
        elif s.is_syn:
            if y.state == SYN_SENT and not y.synacks:  # simultaneous open
                y.append(RCV_SYN, ASSUMED, s.time, s.frame)
                if not x.synacks:
                    x.append(RCV_SYN, ASSUMED, s.time, s.frame)
        else:
            if s.flags & ACK_FLAG:
                if y.state == SYN_RECEIVED and y.syn_is_acked(s.ack):
                    if not y.contradicted:
                        y.append(RCV_ACK_OF_SYN, ASSUMED, s.time, s.frame)
                    if not y.candidate or (s.length and x.repeats):
                        y.candidate = s.time, s.frame
                if y.fin_is_acked(s.ack) and y.append(RCV_ACK_OF_FIN, ASSUMED, s.time, s.frame):
                    y.enter_time_wait(s.time)
            deaf = y.state == SYN_RECEIVED and y.contradicted  # it drops everything until it takes the handshake's ACK
            whole = x.fin is not None and beyond(x.contiguous, x.fin)
            brings = s.flags & FIN or s.length  # an ACK alone brings no FIN
            if whole and brings and not deaf and y.waits_for_fin and not y.find(RCV_FIN):
                y.append(RCV_FIN, ASSUMED, s.time, s.frame)
                y.candidate = None
                y.enter_time_wait(s.time)

    # --- RST, ICMP, new incarnations -------------------------------------------------------------------

    def resets(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        bare = not s.flags & ACK_FLAG
        forged = x.ttl_run >= 3 and s.ttl != x.ttl
        if bare and x.state == SYN_SENT and y.challenged and not y.syns and not y.synacks and s.seq == y.last_ack:
            # RFC 9293 3.5.1, figure 9: it resets what is left of the old incarnation and goes on opening
            if self.previous and self.previous.started:
                old = self.previous.ends(s.source)[1]
                self.previous.run_timers(s.time)
                old.append(RCV_RST, ASSUMED, s.time, s.frame)
            return
        if not forged:
            self.sends_reset(s, x, bare)
        self.reset_towards(s, x, y)

    def sends_reset(self, s: Segment, x: Endpoint, bare: bool) -> None:
        """x has no connection from here on, and after some RSTs it never had one."""
        judge = x.retract if bare else x.prove
        if x.assumes(RCV_SYNACK) and not x.spoke:
            judge(RCV_SYNACK, s.frame)
        if x.assumes(RCV_ACK_OF_SYN) and x.synacks and not x.spoke:
            judge(RCV_ACK_OF_SYN, s.frame)
        if x.state == TIME_WAIT and bare and x.assumes(RCV_FIN):
            x.retract(RCV_FIN, s.frame)
        if x.state == FIN_WAIT_2 and bare:
            entry = x.find(RCV_ACK_OF_FIN)
            if entry and s.time > entry.time + self.rules.fin_timeout:
                x.append(EXPIRE, TIMER, entry.time + self.rules.fin_timeout, entry.frame)
        if x.state != UNKNOWN:
            x.append(SND_RST, SENT, s.time, s.frame)
        x.reset = True

    def reset_towards(self, s: Segment, x: Endpoint, y: Endpoint) -> None:
        if y.state not in (CLOSED, UNKNOWN) and self.is_acceptable(s, x, y):
            y.append(RCV_RST, ASSUMED, s.time, s.frame)
            y.ended_at = s.time

    @staticmethod
    def is_acceptable(s: Segment, x: Endpoint, y: Endpoint) -> bool:
        """RFC 5961 3.2: its number is y's RCV.NXT, between what y has acknowledged and what x has sent."""
        if y.state == SYN_SENT:
            assert y.iss is not None and y.sent_to is not None
            return bool(s.flags & ACK_FLAG) and beyond(s.ack, y.iss) and not_after(s.ack, y.sent_to)
        if y.acked is not None:
            low = y.acked
        elif x.iss is not None:
            low = (x.iss + 1) % MODULUS
        else:
            return True
        if s.seq == low:
            return True
        closing = y.state in (CLOSE_WAIT, LAST_ACK, CLOSING)
        if closing and s.seq == x.fin and (s.seq + 1) % MODULUS == low and x.sent_to is not None:
            return True  # Linux, tcp_reset_check: the number of the FIN will do
        return x.sent_to is not None and reaches(s.seq, low) and not_after(s.seq, x.sent_to)

    def replace_listener(self, s: Segment) -> None:
        """A SYN-ACK answers the new incarnation: its sender has given up the old one."""
        assert self.previous
        if self.previous.started:
            self.previous.run_timers(s.time)
            self.previous.ends(s.source)[0].append(REPLACED, SENT, s.time, s.frame)

    def quotes(self, s: Segment) -> None:
        """An ICMP error about a segment of x: a hard error while x is opening, a soft one later (RFC 1122 4.2.3.9)."""
        x, _ = self.ends(s.source)
        self.run_timers(s.time)
        kind, code = s.icmp
        hard = (kind == 3 and code != 4) or kind in (11, 12) if s.version == 4 else kind in (1, 3, 4)
        if hard and x.syns and s.seq == x.iss and x.state == SYN_SENT:
            x.append(ICMP, ASSUMED, s.time, s.frame)

    # --- the result ------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        """0 by FIN, 1 by reset, 2 by a time-out, 3: not."""
        fins, causes = [], set()
        for x in (self.client, self.server):
            fins.append(x.fin is not None)
            for row in x.rows(0, 0):
                if row.certainty != RETRACTED and (row.cause != EXPIRE or row.state != TIME_WAIT):
                    causes.add(row.cause)
        over = all(x.state in (CLOSED, TIME_WAIT) for x in (self.client, self.server))
        if all(fins):
            return 0
        if causes & {SND_RST, RCV_RST}:
            return 1
        if causes & set(ENDS):
            return 2
        return 0 if any(fins) and over else 3


@dataclass
class Rules:
    """Times of the stack, in ns."""

    time_wait: int
    synack_first: int
    fin_timeout: int = 60 * SECOND


class Reference:
    """Takes in segments, one after the other.

    Attributes
    ----------
    connections
        In the order of their streams.
    directions
        For each row the stream and whether the server sent it; None for a quotation of something never seen.
    """

    def __init__(self, options: Options) -> None:
        profile = options.profile()
        self.rules = Rules(round(profile.time_wait_s * SECOND), round(profile.syn_ack_first_s * SECOND))
        self.connections: list[Connection] = []
        self.latest: dict[tuple[int, frozenset[End]], Connection] = {}
        self.directions: list[tuple[int, int] | None] = []
        self.now = 0

    def feed(self, s: Segment) -> None:
        """One row: a segment, or a quotation in an ICMP error."""
        key = s.version, frozenset((s.source, s.destination))
        known = self.latest.get(key)
        if s.quoted:
            if known:
                self.start(known)
                known.quotes(s)
            self.directions.append((known.number, self.from_server(known, s)) if known else None)
            return
        self.now = max(self.now, s.time)
        if known and s.is_syn and self.is_new(known, s):
            if known.started:
                known.run_timers(s.time)
                known.ends(s.source)[0].append(REPLACED, SENT, s.time, s.frame)
            self.latest[key] = known = self.open(s, known)
        elif not known:
            self.latest[key] = known = self.open(s, None)
        else:
            self.start(known)
            known.segments += 1
            known.take(s)
        self.directions.append((known.number, self.from_server(known, s)))

    @staticmethod
    def from_server(connection: Connection, s: Segment) -> int:
        return int(connection.ends(s.source)[0] is connection.server)

    def is_new(self, known: Connection, s: Segment) -> bool:
        """A SYN with another number than the one known for its sender opens a new incarnation."""
        if known.started:
            base = known.ends(s.source)[0].base
        else:
            first = known.first
            same = first.source == s.source
            mine = first.seq if first.flags & SYN else first.seq - 1
            base = mine if same else first.ack - 1 if first.flags & ACK_FLAG else None
        return base is not None and base % MODULUS != s.seq

    def open(self, s: Segment, previous: Connection | None) -> Connection:
        """Roles: the SYN's sender is the client; without a SYN the lower port is the server's."""
        inferred = not s.flags & SYN
        swapped = s.source.port < s.destination.port if inferred else bool(s.flags & ACK_FLAG)
        client, server = Endpoint(), Endpoint()
        if not s.is_syn:
            client.begins = UNKNOWN
        if inferred:
            server.begins = UNKNOWN
        number = len(self.connections)
        self.connections.append(Connection(number, s, previous, swapped, inferred, client, server, self.rules))
        return self.connections[-1]

    @staticmethod
    def start(connection: Connection) -> None:
        """Play the first segment: nothing came before it, so no mark of it says anything."""
        if not connection.started:
            connection.started = True
            connection.take(connection.first)

    def finish(self, now: int | None = None) -> None:
        """The capture is over: timers up to the last instant."""
        for connection in self.connections:
            self.start(connection)
            connection.run_timers(self.now if now is None else now)

    def transitions(self) -> list[Row]:
        rows = []
        for connection in self.connections:
            rows += connection.client.rows(connection.number, 0)
            rows += connection.server.rows(connection.number, 1)
        return rows


def run(rows: Sequence[Sequence[int]], marks: Sequence[int], options: Options) -> Reference:
    """The reference's view of a capture, with Wireshark's marks of each row given."""
    reference = Reference(options)
    for row, mark in zip(rows, marks, strict=True):
        reference.feed(read(row, mark))
    reference.finish()
    return reference
