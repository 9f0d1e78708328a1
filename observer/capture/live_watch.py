"""One watched interface over all the times it can be opened: its state, its counts, what happened to it.

Never here: merging, waiting for frames.  Sources: netdevice(7) (SIOCGIFFLAGS), pcap_stats(3PCAP).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy

from observer import privileges
from observer.capture.chunk import Int64Array, OctetArray
from observer.capture.live_pcap import Counts, DeniedError, GoneError, NoDeviceError, PcapLane, Settings, library
from observer.errors import ObserverError
from observer.segments import RECORD_STRIDE, RECORD_TIME

State = Literal["capturing", "down", "gone", "denied", "ended"]
Kind = Literal["down", "up", "gone", "back", "denied", "dropped", "slow"]

SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
IFF_UP: Final = 1  # net/if.h
COUNTER: Final = 1 << 32  # pcap_stats counts in 32 bits
DRAIN: Final = 64
"""Batches taken at most from what an interface that vanished has left behind."""


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """Counts of one interface, over all the times it was open; None where the system does not tell."""

    name: str
    link_type: int
    """LINKTYPE_ number."""
    state: State
    frames: int
    """Handed over, or waiting to be."""
    received: int | None
    """Frames that passed the filter, as the kernel counts them; on Linux with those that it dropped."""
    dropped_kernel: int | None
    """Of those, lost because the ring was full: this process did not keep up."""
    dropped_interface: int | None
    """Lost by the interface or its driver, whether or not they would have passed the filter."""
    lost_here: int
    """Came although there was no room: 0, or a fault of this program."""


@dataclass(frozen=True, slots=True)
class LiveNotice:
    """Something that happened to an interface."""

    time_ns: int
    """Wall clock, ns since 1970 UTC."""
    interface: str
    kind: Kind
    sentence: str


class Lane(Protocol):
    """What frames of one open interface come from."""

    name: str
    octets: OctetArray
    records: Int64Array
    link_type: int
    snaplen: int
    nanoseconds: bool
    descriptor: int
    frames: int

    @property
    def size(self) -> int: ...
    @property
    def lost(self) -> int: ...
    def pull(self, frame: int) -> int: ...
    def counts(self) -> Counts | None: ...
    def close(self) -> None: ...


def open_lane(name: str, settings: Settings) -> Lane:
    """Open an interface with what there is: libpcap, or scapy's socket.

    Raises
    ------
    CaptureError, OptionError
        No such interface, not permitted (with the capability and the remedy), wrong filter.
    """
    try:
        if library() is not None:
            return PcapLane(name, settings)
        from observer.capture.live_scapy import ScapyLane

        return ScapyLane(name, settings)
    except DeniedError as error:
        raise DeniedError(privileges.denied(name)) from error


class Watched:
    """One interface: the lane while it is open, and what outlives it."""

    def __init__(self, name: str, settings: Settings, lane: Lane) -> None:
        self.name = name
        self.lane: Lane | None = lane
        self.link_type = lane.link_type
        self.state: State = "capturing"
        self.number = 0
        """Of its Interface in the FileInfo."""
        self.notices: list[LiveNotice] = []
        self.count = 0
        """Rows that the last pull brought."""
        self.taken = 0
        """How many of them were handed over."""
        self.keys: Int64Array = numpy.zeros(0, numpy.int64)
        self.empty_ns = 0
        """When a pull last brought nothing, wall clock."""
        self.pulled_s = 0.0
        """When one last brought something, monotonic clock."""
        self._settings = settings
        self._index = index_of(name)
        self._frames = 0
        self._lost = 0
        self._totals: list[int] | None = None
        self._last = Counts(0, 0, 0)
        self._told_drops = 0
        if library() is None:
            from observer.capture.live_scapy import COST

            self._tell("slow", COST.format(name=name))

    # --- frames ------------------------------------------------------------------------------------------

    def pull(self, frame: int) -> int:
        """Rows that are there now; 0 also when the interface has vanished."""
        lane = self.lane
        self.count = self.taken = 0
        if lane is None:
            return 0
        before_ns = time.time_ns()
        try:
            self.count = lane.pull(frame)
        except GoneError:
            self.count = self._drained(lane, frame)
            if not self.count:
                self._vanished()
        if not self.count:
            self.empty_ns = before_ns
        return self.count

    def _drained(self, lane: Lane, frame: int) -> int:
        """What a vanished interface left behind: libpcap tells the error first."""
        with contextlib.suppress(GoneError):
            return lane.pull(frame)
        return 0

    def sort(self) -> None:
        """Make the rows of the last pull ready for merging."""
        times = self.rows()[:, RECORD_TIME]
        self.keys = numpy.maximum.accumulate(times)
        self.pulled_s = time.monotonic()

    def rows(self) -> Int64Array:
        """Rows of the last pull, (n, RECORD_STRIDE)."""
        if self.lane is None:
            return numpy.zeros((0, RECORD_STRIDE), numpy.int64)
        return self.lane.records[: self.count * RECORD_STRIDE].reshape(-1, RECORD_STRIDE)

    @property
    def pending(self) -> int:
        """Rows that were not handed over yet."""
        return self.count - self.taken

    # --- state -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look whether the interface is up, gone or back, and whether the kernel dropped frames since."""
        if self.state == "ended":
            return
        if self.lane is None:
            self._reopen()
            return
        self._count()
        self._tell_drops()
        if self.name == "any" or sys.platform != "linux":
            return
        if self._index != index_of(self.name):  # removed; or removed and made again between two looks
            if not self.pending:
                self._vanished()
                self._reopen()
            return
        is_up = flags_of(self.name) & IFF_UP
        if self.state == "capturing" and not is_up:
            self.state = "down"
            self._tell("down", f"{self.name} went down; its frames are captured again when it is up")
        elif self.state == "down" and is_up:
            self.state = "capturing"
            self._tell("up", f"{self.name} is up again")

    def _vanished(self) -> None:
        self._close()
        self.state = "gone"
        self._tell("gone", f"{self.name} was removed; it is captured again as soon as it is back")

    def _reopen(self) -> None:
        if not index_of(self.name):
            return
        try:
            lane = open_lane(self.name, self._settings)
        except NoDeviceError:
            return
        except DeniedError:
            if self.state != "denied":
                self.state = "denied"
                me = f"this process gave up {privileges.CAPABILITY} after opening"
                self._tell("denied", f"{self.name} is back, but {me}; start again to capture it")
            return
        except ObserverError:  # not up yet, for one
            return
        self.lane, self.link_type, self.state = lane, lane.link_type, "capturing"
        self._index = index_of(self.name)
        self._last = Counts(0, 0, 0)
        self.count = self.taken = 0
        self._tell("back", f"{self.name} is back and captured again")

    def _tell(self, kind: Kind, sentence: str) -> None:
        self.notices.append(LiveNotice(time.time_ns(), self.name, kind, sentence))

    # --- counts ------------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Add what the kernel counted since the last time; its counters are of 32 bits."""
        now = self.lane.counts() if self.lane else None
        if now is None:
            return
        totals = self._totals or [0, 0, 0]
        self._totals = [total + (a - b) % COUNTER for total, a, b in zip(totals, now, self._last, strict=True)]
        self._last = now

    def _tell_drops(self) -> None:
        dropped = self._totals[1] if self._totals else 0
        if dropped > self._told_drops:
            more = dropped - self._told_drops
            self._told_drops = dropped
            frames = "1 frame" if more == 1 else f"{more:,} frames"
            remedy = "a larger buffer, a smaller snaplen or a filter helps"
            self._tell(
                "dropped", f"{self.name}: the kernel dropped {frames}, for this process did not keep up; {remedy}"
            )

    def statistics(self) -> InterfaceStatistics:
        """Counts up to now."""
        self._count()
        received, dropped, dropped_interface = self._totals or (None, None, None)
        frames = self._frames + (self.lane.frames if self.lane else 0) - self.pending
        lost = self._lost + (self.lane.lost if self.lane else 0)
        return InterfaceStatistics(
            self.name, self.link_type, self.state, frames, received, dropped, dropped_interface, lost
        )

    def _close(self) -> None:
        if self.lane is not None:
            self._count()
            self._frames += self.lane.frames
            self._lost += self.lane.lost
            self.lane.close()
            self.lane = None
            self.count = self.taken = 0

    def end(self) -> None:
        """Close it for good."""
        if self.pending:
            self._frames -= self.pending
        self._close()
        self.state = "ended"


def index_of(name: str) -> int:
    """The interface's number, 0 if there is none (which `any` never has)."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def flags_of(name: str) -> int:
    """IFF_ flags of an interface of Linux, 0 if it does not exist."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", os.fsencode(name)[:15], 0))
        except OSError:
            return 0
    return int(struct.unpack_from("H", answer, 16)[0])
