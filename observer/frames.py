"""Chosen frames of a capture, read again, as scapy packets.

scapy is imported when packets are asked for.  Never here: which frames these are, and what they mean.
Sources: scapy's documentation (conf.l2types, PacketList); tcpdump.org's registry of link types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy

from observer import kernels
from observer.capture import open_capture
from observer.capture.scapy_list import packets_of
from observer.errors import ObserverError
from observer.segments import (
    RECORD_CAPTURED,
    RECORD_LINK,
    RECORD_OFFSET,
    RECORD_STRIDE,
    RECORD_TIME,
    RECORD_WIRE,
)

MANY_FRAMES: Final = 60_000
"""From here on machine code finds the frames of a file sooner than interpreted kernels do, even if it must be made."""
RAW_LINKS: Final = frozenset({12, 14, 101, 228, 229})
"""Link types without a link layer: IP, version 4 or 6 by its first four bits."""
CORE_LAYERS: Final = ("scapy.layers.l2", "scapy.layers.inet", "scapy.layers.inet6")


class Octets(NamedTuple):
    """One frame: octets as captured, octets on the wire, ns since 1970 UTC, link type."""

    octets: bytes
    wire: int
    time_ns: int
    link: int


def frames_of(sources: Any, wanted: Sequence[int], *, frames: int) -> list[Octets]:
    """Read frames of a capture by their numbers.

    Parameters
    ----------
    sources
        What `observer.read` was given; it must be possible to read it again.
    wanted
        Numbers of frames, from 1, ascending.
    frames
        How many the capture has.

    Raises
    ------
    CaptureError
        A source cannot be opened any more.
    ObserverError
        The capture has changed meanwhile: it has fewer frames.
    """
    numbers = numpy.asarray(wanted, numpy.int64)
    engine: kernels.Engine = kernels.Compiled() if frames > MANY_FRAMES else kernels.Interpreted()
    found: list[Octets] = []
    done = 0
    capture = open_capture(sources, engine=engine)
    try:
        while len(found) < len(numbers):
            chunk = next(capture, None)
            if chunk is None:
                raise ObserverError(f"frame {numbers[len(found)]} is not there any more: the capture has changed")
            records = chunk.records[: chunk.count * RECORD_STRIDE].reshape(-1, RECORD_STRIDE)
            first, last = numpy.searchsorted(numbers, (done + 1, done + chunk.count + 1))
            for number in numbers[first:last].tolist():
                row = records[number - done - 1]
                start = int(row[RECORD_OFFSET])
                octets = bytes(chunk.octets[start : start + int(row[RECORD_CAPTURED])])
                found.append(Octets(octets, int(row[RECORD_WIRE]), int(row[RECORD_TIME]), int(row[RECORD_LINK])))
            done += chunk.count
    finally:
        capture.close()
    return found


def scapy_packets(sources: Any, wanted: Sequence[int], *, frames: int, name: str) -> Any:
    """Return frames of a capture as a scapy PacketList; packets that came from scapy are handed back themselves.

    Parameters and errors as `frames_of`; name: what the list is called.
    """
    from scapy.plist import PacketList

    own = packets_of(sources)
    if own is not None:
        return PacketList([own[number - 1] for number in wanted], name=name)
    return PacketList([_packet(one) for one in frames_of(sources, wanted, frames=frames)], name=name)


def _packet(frame: Octets) -> Any:
    """Dissect one frame; what scapy cannot dissect is Raw."""
    from scapy.packet import Raw
    from scapy.utils import EDecimal

    kind = _layer(frame)
    try:
        packet = kind(frame.octets)
    except Exception:  # scapy dissects with whatever layers are loaded, and any may fail on damaged octets
        packet = Raw(frame.octets)
    packet.time = EDecimal(frame.time_ns) / EDecimal(10**9)
    packet.wirelen = frame.wire
    return packet


def _layer(frame: Octets) -> Any:
    """Which class of scapy a frame begins with."""
    from importlib import import_module

    from scapy.config import conf
    from scapy.packet import Raw

    for module in CORE_LAYERS:
        import_module(module)
    if frame.link in RAW_LINKS:
        version = frame.octets[0] >> 4 if frame.octets else 0
        kinds = {4: ("scapy.layers.inet", "IP"), 6: ("scapy.layers.inet6", "IPv6")}
        return getattr(import_module(kinds[version][0]), kinds[version][1]) if version in kinds else Raw
    if frame.link not in conf.l2types.num2layer:
        import_module("scapy.layers.all")
    return conf.l2types.num2layer.get(frame.link, Raw)
