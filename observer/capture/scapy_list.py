"""A list of scapy packets as a capture.

scapy is not imported here: packets are recognised by the module of their class, so a caller without scapy pays
nothing.  Never here: interpreting packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy

from observer.capture.chunk import Chunk, FileInfo
from observer.capture.reader import SNAPLEN_MAX, Workspace
from observer.capture.scan import TIME_MAX
from observer.errors import CaptureError
from observer.kernels import Engine
from observer.segments import (
    RECORD_CAPTURED,
    RECORD_FRAME,
    RECORD_LINK,
    RECORD_OFFSET,
    RECORD_STRIDE,
    RECORD_TIME,
    RECORD_WIRE,
)

LINKTYPE_RAW: Final = 101
_DLT_TO_LINKTYPE: Final = {12: 101, 14: 101}
"""DLT_RAW has other numbers in memory than in files: pcap/dlt.h of Linux (12) and OpenBSD (14)."""


def is_packet(thing: Any) -> bool:
    """Whether it is a scapy packet."""
    return any(kind.__name__ == "Packet" and kind.__module__ == "scapy.packet" for kind in type(thing).__mro__)


def packets_of(sources: Any) -> list[Any] | None:
    """The packets, if sources is a scapy packet, a list of them or a PacketList; None if it is something else."""
    if is_packet(sources):
        return [sources]
    if type(sources).__module__.startswith("scapy.") and hasattr(sources, "res"):
        return list(sources.res)
    if not isinstance(sources, Sequence) or isinstance(sources, str | bytes | bytearray) or not sources:
        return None
    packets = [is_packet(one) for one in sources]
    if all(packets):
        return list(sources)
    if any(packets):
        raise CaptureError("a list holds scapy packets and other things; give either packets or captures")
    return None


class ScapyReader:
    """A Reader over scapy packets."""

    octets_read = 0

    def __init__(self, packets: Iterable[Any], *, info: FileInfo, workspace: Workspace) -> None:
        self._packets = list(packets)
        self._next = 0
        self._info = info
        self._workspace = workspace
        self._links: dict[type, int] = {}

    def use(self, engine: Engine) -> None:
        """No kernel takes part."""

    def close(self) -> None:
        """Let go of the packets."""
        self._packets = []

    def chunk(self, frame: int) -> Chunk | None:
        """See Reader."""
        records = self._workspace.records
        rows, size, count = len(records) // RECORD_STRIDE, 0, 0
        while count < rows and self._next < len(self._packets):
            packet = self._packets[self._next]
            octets, wire, time_ns, link = self._cells(packet)
            if size + len(octets) > len(self._workspace.octets):
                if count:
                    break
                self._workspace.grow(len(octets) + SNAPLEN_MAX, 0)
            self._workspace.octets[size : size + len(octets)] = numpy.frombuffer(octets, numpy.uint8)
            row = count * RECORD_STRIDE
            records[row + RECORD_OFFSET] = size
            records[row + RECORD_CAPTURED] = len(octets)
            records[row + RECORD_WIRE] = wire
            records[row + RECORD_TIME] = time_ns
            records[row + RECORD_LINK] = link
            records[row + RECORD_FRAME] = frame + count
            size += len(octets)
            count += 1
            self._next += 1
        if not count:
            return None
        self._info.first_frame = self._info.first_frame or frame
        self._info.frames += count
        return Chunk(self._workspace.octets, size, records, count)

    def _cells(self, packet: Any) -> tuple[bytes, int, int, int]:
        try:
            octets = bytes(packet)
        except Exception as error:  # a packet that a caller built can raise anything
            raise CaptureError(f"packet {self._next + 1} of the list cannot be built: {error}") from error
        wire = getattr(packet, "wirelen", None) or len(octets)
        kind = type(packet)
        if kind not in self._links:
            self._links[kind] = _link_type(kind, self._next + 1)
            self._info.saw_link_type(self._links[kind])
        return octets, max(int(wire), len(octets)), _time_ns(packet.time), self._links[kind]


def _time_ns(time: Any) -> int:
    """Nanoseconds of scapy's seconds: a Decimal from files, a float from anything built or sniffed.

    Examples
    --------
    >>> _time_ns(1581109434.258190)
    1581109434258190000
    """
    try:
        # a float of seconds since 1970 has microseconds at best: what is beyond would be made up
        exact = Decimal(time) if not isinstance(time, float) else Decimal(round(time * 1e6)) / 1_000_000
        value = int(exact * 1_000_000_000)
    except (ArithmeticError, ValueError, TypeError):
        return 0
    return min(max(value, 0), TIME_MAX)


def _link_type(kind: type, number: int) -> int:
    """Link type of packets that begin with a layer."""
    if kind.__name__ in ("IP", "IPv6"):
        return LINKTYPE_RAW
    from scapy.config import conf

    dlt = conf.l2types.layer2num.get(kind)
    if dlt is None:
        raise CaptureError(
            f"packet {number} of the list begins with {kind.__name__!r}, which is no link layer; "
            "let packets begin with Ether, IP or another layer that a capture can begin with"
        )
    return _DLT_TO_LINKTYPE.get(int(dlt), int(dlt))
