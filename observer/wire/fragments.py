"""IP fragments: kept until their packet is whole, in bounded memory; each one's frame is counted.

Where fragments overlap, the octets that came first win.  A packet whose fragments never come costs memory until
newer ones need it.  Never decodes: it is given places and octets and gives back whole payloads.
Sources: RFC 791 3.2 and 815, RFC 8200 4.5, RFC 1122 3.3.2 (time-out), RFC 5722 (overlaps).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

TIMEOUT_NS: Final = 120 * 10**9
"""RFC 1122 3.3.2: reassembly gives up after 60 to 120 s; then a number may mean another packet."""
PAYLOAD_MAX: Final = 65535
PACKET_OVERHEAD: Final = 512
"""Octets that an unfinished packet costs besides what it holds (measured: dict entry, object, lists)."""
PIECE_OVERHEAD: Final = 128
"""Likewise for each fragment."""

Key = tuple[int, ...]


@dataclass(slots=True)
class Tally:
    """How many frames, and the first and last of them (0: none)."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, frame: int) -> None:
        self.include(Tally(1, frame, frame))

    def include(self, other: Tally) -> None:
        if other.count:
            self.first = min(self.first, other.first) if self.count else other.first
            self.last = max(self.last, other.last)
            self.count += other.count


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment: where it stands in its packet, and what of it was captured."""

    offset: int
    length: int
    """Octets by the IP header."""
    more: bool
    octets: bytes
    """What was captured of them, at most `length`."""
    protocol: int
    time_ns: int
    frame: int


@dataclass(slots=True)
class Packet:
    """A packet in the making: pieces that do not overlap, in order."""

    begun_ns: int
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    held: int = 0
    total: int = -1
    protocol: int = -1
    uninteresting: bool = False
    tally: Tally = field(default_factory=Tally)
    cost: int = PACKET_OVERHEAD

    def add(self, fragment: Fragment) -> None:
        """Take what of the fragment was not there before."""
        if not fragment.offset or self.protocol < 0:
            self.protocol = fragment.protocol
        if not fragment.more and self.total < 0:
            self.total = fragment.offset + fragment.length
            self._trim()
        start, end = fragment.offset, fragment.offset + fragment.length
        if self.total >= 0:
            end = min(end, self.total)
        place = bisect_right(self.starts, start)
        if place and self.ends[place - 1] > start:
            start = self.ends[place - 1]
        while start < end:
            stop = min(end, self.starts[place]) if place < len(self.starts) else end
            if start < stop:
                self._insert(place, start, stop, fragment.octets[start - fragment.offset : stop - fragment.offset])
                place += 1
            if place >= len(self.starts):
                break
            start = self.ends[place]
            place += 1

    def _insert(self, place: int, start: int, end: int, octets: bytes) -> None:
        self.starts.insert(place, start)
        self.ends.insert(place, end)
        self.pieces.insert(place, octets)
        self.held += end - start
        self.cost += PIECE_OVERHEAD + len(octets)

    def _trim(self) -> None:
        """Drop what lies beyond the packet's end, now that it is known."""
        while self.ends and self.ends[-1] > self.total:
            if self.starts[-1] < self.total:
                self.held -= self.ends[-1] - self.total
                self.ends[-1] = self.total
                return
            self.held -= self.ends.pop() - self.starts.pop()
            self.pieces.pop()

    def is_whole(self) -> bool:
        """All octets up to the end of the last fragment are there (or were, and a short capture cut them)."""
        return self.held == self.total

    def payload(self) -> bytes:
        """The octets from the beginning up to the first one that was not captured."""
        parts = []
        for start, end, piece in zip(self.starts, self.ends, self.pieces, strict=True):
            parts.append(piece)
            if len(piece) < end - start:
                break
        return b"".join(parts)[: self.total]

    def forget(self) -> None:
        """Keep no octets: the packet is known to hold no TCP."""
        self.uninteresting = True
        self.starts, self.ends, self.pieces = [], [], []
        self.cost = PACKET_OVERHEAD


class Fragments:
    """All packets in the making.

    Parameters
    ----------
    max_octets
        Memory for them; the oldest go when it is used up.
    """

    def __init__(self, max_octets: int) -> None:
        self.max_octets = max_octets
        self.octets = 0
        self.packets: dict[Key, Packet] = {}
        self.complete = Tally()
        """Frames whose packet was completed by a later frame."""
        self.abandoned = Tally()
        """Frames of packets that were given up."""

    def find(self, key: Key, time_ns: int) -> Packet:
        """The packet with this key, a new one if there is none or it is too old."""
        packet = self.packets.get(key)
        if packet is not None and abs(time_ns - packet.begun_ns) > TIMEOUT_NS:
            self._give_up(key)
            packet = None
        if packet is None:
            packet = self.packets[key] = Packet(time_ns)
            self.octets += packet.cost
        return packet

    def add(self, key: Key, fragment: Fragment, *, counted: bool = True) -> Packet | None:
        """Keep a fragment (and count its frame); returns its packet, taken out, if that is now whole."""
        packet = self.find(key, fragment.time_ns)
        before = packet.cost
        packet.add(fragment)
        self.octets += packet.cost - before
        if packet.is_whole():
            del self.packets[key]
            self.octets -= packet.cost
            self.complete.include(packet.tally)
            return packet
        if counted:
            packet.tally.add(fragment.frame)
        while self.octets > self.max_octets and self.packets:
            self._give_up(next(iter(self.packets)))
        return None

    def forget(self, key: Key) -> None:
        """Keep no octets of this packet's fragments any more."""
        packet = self.packets[key]
        self.octets -= packet.cost
        packet.forget()
        self.octets += packet.cost

    def _give_up(self, key: Key) -> None:
        packet = self.packets.pop(key)
        self.octets -= packet.cost
        self.abandoned.include(packet.tally)

    def incomplete(self) -> Tally:
        """Frames of packets that were given up or are not whole yet."""
        tally = Tally()
        tally.include(self.abandoned)
        for packet in self.packets.values():
            tally.include(packet.tally)
        return tally

    def finish(self) -> None:
        """Give up everything: the capture is over."""
        while self.packets:
            self._give_up(next(iter(self.packets)))
