"""What can be captured here: the interfaces, their addresses, and whether this process may capture them now.

Sources: pcap_findalldevs(3PCAP), pcap/pcap.h (struct pcap_if, PCAP_IF_ flags); linux/socket.h (address families).
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from observer.capture.live_pcap import ERROR_OCTETS, DeniedError, Settings, library, words
from observer.capture.live_watch import IFF_UP, flags_of, index_of, open_lane
from observer.errors import CaptureError, ObserverError
from observer.privileges import CAPABILITY

LOOPBACK: Final = 1  # PCAP_IF_LOOPBACK
UP: Final = 2  # PCAP_IF_UP
IFF_LOOPBACK: Final = 8  # net/if.h


@dataclass(frozen=True, slots=True)
class InterfaceEntry:
    """An interface as `observer interfaces` shows it."""

    name: str
    description: str
    addresses: list[str]
    """IPv4, IPv6 and link-layer, as text."""
    link_type: int | None
    """LINKTYPE_ number; None where it could not be opened."""
    up: bool
    loopback: bool
    capture: bool
    """Whether this process can capture it now."""
    obstacle: str
    """Why not, in a few words, or empty."""


class _Sockaddr(ctypes.Structure):
    """Enough of struct sockaddr of Linux for the families below."""

    _fields_ = (("family", ctypes.c_uint16), ("data", ctypes.c_ubyte * 26))


class _Address(ctypes.Structure):
    """struct pcap_addr."""


_Address._fields_ = (
    ("next", ctypes.POINTER(_Address)),
    ("address", ctypes.POINTER(_Sockaddr)),
    ("netmask", ctypes.c_void_p),
    ("broadcast", ctypes.c_void_p),
    ("destination", ctypes.c_void_p),
)


class _Device(ctypes.Structure):
    """struct pcap_if."""


_Device._fields_ = (
    ("next", ctypes.POINTER(_Device)),
    ("name", ctypes.c_char_p),
    ("description", ctypes.c_char_p),
    ("addresses", ctypes.POINTER(_Address)),
    ("flags", ctypes.c_uint32),
)


@dataclass(slots=True)
class _Found:
    name: str
    description: str
    addresses: list[str]
    up: bool
    loopback: bool


def list_interfaces() -> list[InterfaceEntry]:
    """Interfaces of this system in the system's order, `any` among them where there is one.

    Each is opened for a moment without changing it, to learn its link type and whether that is allowed.
    Devices that are no network interfaces (Bluetooth, D-Bus, netfilter queues) are left out: they carry no TCP.

    Raises
    ------
    CaptureError
        The system does not tell its interfaces.
    """
    found = _by_libpcap() if library() is not None else _by_system()
    return [_tried(one) for one in found if one.name == "any" or index_of(one.name)]


def _tried(one: _Found) -> InterfaceEntry:
    link_type, obstacle = None, ""
    try:
        settings = Settings(snaplen=64, ring_octets=1 << 19, promiscuous=False, records_max=1, compiled=False)
        lane = open_lane(one.name, settings)
        link_type = lane.link_type
        lane.close()
    except DeniedError:
        obstacle = f"needs {CAPABILITY}"
    except ObserverError as error:
        obstacle = str(error).partition(": ")[2]
    return InterfaceEntry(
        one.name, one.description, one.addresses, link_type, one.up, one.loopback, not obstacle, obstacle
    )


def _by_libpcap() -> list[_Found]:
    pcap = library()
    error = ctypes.create_string_buffer(ERROR_OCTETS)
    first = ctypes.c_void_p()
    if pcap.pcap_findalldevs(ctypes.byref(first), error) < 0:
        raise CaptureError(f"the system does not tell its interfaces ({words(error.value)})")
    try:
        return list(_devices(ctypes.cast(first, ctypes.POINTER(_Device))))
    finally:
        pcap.pcap_freealldevs(first)


def _devices(device: Any) -> Iterator[_Found]:
    while device:
        one = device.contents
        name, description = words(one.name), words(one.description)
        yield _Found(
            name, description, list(_addresses(one.addresses)), bool(one.flags & UP), bool(one.flags & LOOPBACK)
        )
        device = one.next


def _addresses(entry: Any) -> Iterator[str]:
    while entry:
        address = entry.contents.address
        if address and (text := _text(address.contents)):
            yield text
        entry = entry.contents.next


def _text(address: Any) -> str:
    """An address as text; empty for families that are not known here."""
    family, data = int(address.family), bytes(address.data)
    if sys.platform != "linux":
        family >>= 8  # the BSDs: one octet of length first
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[2:6])
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, data[6:22])
    if sys.platform == "linux" and family == socket.AF_PACKET:  # sockaddr_ll: length at octet 11, address from 12 on
        hardware = data[10 : 10 + min(data[9], 8)]
        return ":".join(f"{octet:02x}" for octet in hardware) if any(hardware) else ""
    return ""


def _by_system() -> list[_Found]:
    """Without libpcap: names and flags only."""
    found = []
    with contextlib.suppress(OSError):
        for _, name in socket.if_nameindex():
            flags = flags_of(name)
            found.append(_Found(name, "", [], bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK)))
    return found
