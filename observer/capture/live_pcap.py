"""libpcap by ctypes: opening an interface, its filter, its frames in batches, its counts.

Frames are copied by `live_code.take`, which libpcap calls; no Python runs for a frame.  Never here: several
interfaces, waiting, privileges.

Sources: pcap(3PCAP) and the pages it names, pcap/pcap.h and pcap/dlt.h of libpcap 1.10; packet(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy

from observer.capture import live_code as code
from observer.capture.chunk import Int64Array, OctetArray
from observer.errors import CaptureError, OptionError
from observer.segments import RECORD_STRIDE

LIBRARIES: Final = ("libpcap.so.1", "libpcap.so.0.8", "libpcap.so", "libpcap.A.dylib", "libpcap.dylib")
"""Names of one library: upstream's, Debian's, a development link, Apple's."""
SNAPLEN_MAX: Final = 262144
"""libpcap's MAXIMUM_SNAPLEN."""
RETIRE_MS: Final = 50
"""How long the kernel gathers frames before it hands them over (pcap_set_timeout; at most twice that on Linux)."""
NETMASK_UNKNOWN: Final = 0xFFFFFFFF  # PCAP_NETMASK_UNKNOWN
ERROR_OCTETS: Final = 256  # PCAP_ERRBUF_SIZE
PRECISION_NANO: Final = 1  # PCAP_TSTAMP_PRECISION_NANO
LINUX_SLL: Final = 113  # DLT_LINUX_SLL
LINUX_SLL2: Final = 276  # DLT_LINUX_SLL2, which names the interface of each frame

# pcap/pcap.h, error codes of pcap_activate and pcap_dispatch
ERROR_BREAK: Final = -2
ERROR_NO_SUCH_DEVICE: Final = -5
ERROR_PERM_DENIED: Final = -8
ERROR_IFACE_NOT_UP: Final = -9
ERROR_PROMISC_PERM_DENIED: Final = -11
DENIED: Final = (ERROR_PERM_DENIED, ERROR_PROMISC_PERM_DENIED)

LINKTYPE_OF_DLT: Final = {11: 100, 12: 101, 14: 101, 13: 106, 15: 102, 16: 103, 18: 123}
"""DLT_ numbers that have another LINKTYPE_ number in files (libpcap's pcap-common.c, Linux)."""


class GoneError(Exception):
    """The interface does not exist any more; everything before was handed over."""


class DeniedError(CaptureError):
    """The process may not capture."""


class NoDeviceError(CaptureError):
    """There is no such interface."""


class _Program(ctypes.Structure):
    """struct bpf_program."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class _Stat(ctypes.Structure):
    """struct pcap_stat, with room to spare for systems where it is longer."""

    _fields_ = (
        ("received", ctypes.c_uint),
        ("dropped", ctypes.c_uint),
        ("dropped_interface", ctypes.c_uint),
        ("spare", ctypes.c_uint * 13),
    )


class Counts(NamedTuple):
    """What pcap_stats tells, modulo 2^32."""

    received: int
    """Passed the filter; on Linux with those dropped for want of room."""
    dropped_kernel: int
    dropped_interface: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an interface is opened."""

    bpf: str = ""
    snaplen: int = SNAPLEN_MAX
    ring_octets: int = 64 << 20
    promiscuous: bool = True
    records_max: int = 4096
    compiled: bool = True


_INT, _UINT, _POINTER, _TEXT = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p
_PROTOTYPES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "pcap_create": (_POINTER, [_TEXT, _TEXT]),
    "pcap_activate": (_INT, [_POINTER]),
    "pcap_close": (None, [_POINTER]),
    "pcap_set_snaplen": (_INT, [_POINTER, _INT]),
    "pcap_set_promisc": (_INT, [_POINTER, _INT]),
    "pcap_set_timeout": (_INT, [_POINTER, _INT]),
    "pcap_set_buffer_size": (_INT, [_POINTER, _INT]),
    "pcap_set_tstamp_precision": (_INT, [_POINTER, _INT]),
    "pcap_get_tstamp_precision": (_INT, [_POINTER]),
    "pcap_snapshot": (_INT, [_POINTER]),
    "pcap_datalink": (_INT, [_POINTER]),
    "pcap_set_datalink": (_INT, [_POINTER, _INT]),
    "pcap_compile": (_INT, [_POINTER, ctypes.POINTER(_Program), _TEXT, _INT, _UINT]),
    "pcap_setfilter": (_INT, [_POINTER, ctypes.POINTER(_Program)]),
    "pcap_freecode": (None, [ctypes.POINTER(_Program)]),
    "pcap_setnonblock": (_INT, [_POINTER, _INT, _TEXT]),
    "pcap_get_selectable_fd": (_INT, [_POINTER]),
    "pcap_dispatch": (_INT, [_POINTER, _INT, _POINTER, _POINTER]),
    "pcap_stats": (_INT, [_POINTER, ctypes.POINTER(_Stat)]),
    "pcap_geterr": (_TEXT, [_POINTER]),
    "pcap_statustostr": (_TEXT, [_INT]),
    "pcap_breakloop": (None, [_POINTER]),
    "pcap_findalldevs": (_INT, [ctypes.POINTER(_POINTER), _TEXT]),
    "pcap_freealldevs": (None, [_POINTER]),
    "pcap_lib_version": (_TEXT, []),
}


@cache
def library() -> Any:
    """libpcap with its prototypes, or None if there is none (or one before 1.5, of 2013)."""
    if sys.platform == "win32":
        return None  # Npcap has no descriptor to wait on
    for name in LIBRARIES:
        try:
            found = ctypes.CDLL(name)
            for function, (result, arguments) in _PROTOTYPES.items():
                prototype = getattr(found, function)
                prototype.restype, prototype.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return found
    return None


def words(octets: bytes | None) -> str:
    """libpcap's own words."""
    return (octets or b"").decode("utf-8", "backslashreplace").strip()


def _compiled(pcap: Any, handle: int, bpf: str) -> _Program:
    program = _Program()
    if pcap.pcap_compile(handle, ctypes.byref(program), bpf.encode(), 1, NETMASK_UNKNOWN) < 0:
        said = words(pcap.pcap_geterr(handle))
        raise OptionError(f"the filter {bpf!r} is wrong: {said}; see man 7 pcap-filter")
    return program


class PcapLane:
    """One interface: `pull` fills `octets` and `records` with what the kernel has.

    Raises
    ------
    NoDeviceError, DeniedError, CaptureError, OptionError
        No such interface; not permitted; cannot be opened; wrong filter.  In libpcap's words where it has any.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        pcap = library()
        self.name = name
        self._pcap = pcap
        self.frames = 0
        error = ctypes.create_string_buffer(ERROR_OCTETS)
        self._handle = pcap.pcap_create(os.fsencode(name), error)
        if not self._handle:
            raise CaptureError(f"{name}: cannot be opened ({words(error.value)})")
        try:
            self._activate(settings)
            if settings.bpf:
                self._set_filter(settings.bpf)
            if pcap.pcap_setnonblock(self._handle, 1, error) < 0:
                raise CaptureError(f"{name}: cannot be waited for ({words(error.value)})")
        except BaseException:
            self.close()
            raise
        self.descriptor = int(pcap.pcap_get_selectable_fd(self._handle))
        self._prepare(settings)

    def _activate(self, settings: Settings) -> None:
        pcap, handle = self._pcap, self._handle
        pcap.pcap_set_snaplen(handle, settings.snaplen)
        pcap.pcap_set_promisc(handle, settings.promiscuous)
        pcap.pcap_set_timeout(handle, RETIRE_MS)
        pcap.pcap_set_buffer_size(handle, settings.ring_octets)
        pcap.pcap_set_tstamp_precision(handle, PRECISION_NANO)  # where there is none, microseconds stay
        status = pcap.pcap_activate(handle)
        if status < 0:  # positive ones are warnings: no promiscuous mode on `any`, for one
            said = words(pcap.pcap_geterr(handle)) or words(pcap.pcap_statustostr(status))
            if status in DENIED:
                raise DeniedError(f"{self.name}: {said}")
            if status == ERROR_NO_SUCH_DEVICE:
                raise NoDeviceError(f"{self.name}: there is no such interface; `observer interfaces` lists them")
            if status == ERROR_IFACE_NOT_UP:
                raise CaptureError(f"{self.name}: it is down; bring it up first (ip link set {self.name} up)")
            raise CaptureError(f"{self.name}: cannot be captured ({said})")
        if pcap.pcap_datalink(handle) == LINUX_SLL:
            pcap.pcap_set_datalink(handle, LINUX_SLL2)  # fails, and changes nothing, before libpcap 1.10
        dlt = int(pcap.pcap_datalink(handle))
        self.link_type = LINKTYPE_OF_DLT.get(dlt, dlt)
        self.snaplen = int(pcap.pcap_snapshot(handle))
        self.nanoseconds = pcap.pcap_get_tstamp_precision(handle) == PRECISION_NANO

    def _set_filter(self, bpf: str) -> None:
        pcap, handle = self._pcap, self._handle
        program = _compiled(pcap, handle, bpf)
        status = pcap.pcap_setfilter(handle, ctypes.byref(program))
        pcap.pcap_freecode(ctypes.byref(program))
        if status < 0:
            raise OptionError(f"{self.name}: the filter {bpf!r} cannot be used: {words(pcap.pcap_geterr(handle))}")

    def _prepare(self, settings: Settings) -> None:
        """The memory that frames are copied to: room for a batch of whole frames, at least four of the longest."""
        size = max(4 * self.snaplen, min(settings.records_max * 512, 4 << 20))
        self.octets: OctetArray = numpy.empty(size, numpy.uint8)
        self.records: Int64Array = numpy.zeros(settings.records_max * RECORD_STRIDE, numpy.int64)
        self._take = code.take(compiled=settings.compiled)
        self._control = control = numpy.zeros(code.CONTROL_CELLS, numpy.int64)
        control[code.OCTETS] = self.octets.ctypes.data
        control[code.SIZE] = size
        control[code.RECORDS] = self.records.ctypes.data
        control[code.ROWS] = settings.records_max
        control[code.ROOM] = self.snaplen
        control[code.LINK] = self.link_type
        control[code.FRACTION_NS] = 1 if self.nanoseconds else 1000
        control[code.HANDLE] = self._handle
        control[code.BREAK] = ctypes.cast(self._pcap.pcap_breakloop, ctypes.c_void_p).value or 0
        self._cells = control.data
        self._arguments = (ctypes.cast(self._take, ctypes.c_void_p), ctypes.c_void_p(control.ctypes.data))

    @property
    def size(self) -> int:
        """Octets that the last `pull` filled."""
        return int(self._cells[code.FILLED])

    @property
    def lost(self) -> int:
        """Frames that libpcap gave although it had been told to stop: never so far."""
        return int(self._cells[code.LOST])

    def pull(self, frame: int) -> int:
        """Fill rows, from the first, with frames numbered from `frame` on; returns how many.  Never waits.

        Raises
        ------
        GoneError
            The interface was removed.
        """
        cells = self._cells
        cells[code.FILLED] = cells[code.COUNT] = 0
        cells[code.NEXT_FRAME] = frame
        status = self._pcap.pcap_dispatch(self._handle, -1, *self._arguments)
        count = int(cells[code.COUNT])
        self.frames += count
        if status < 0 and status != ERROR_BREAK and not count:
            raise GoneError(words(self._pcap.pcap_geterr(self._handle)))
        return count

    def counts(self) -> Counts | None:
        """The kernel's counts since the interface was opened; None if it has none."""
        stat = _Stat()
        if not self._handle or self._pcap.pcap_stats(self._handle, ctypes.byref(stat)) < 0:
            return None
        return Counts(stat.received, stat.dropped, stat.dropped_interface)

    def close(self) -> None:
        """Close the interface; what was pulled stays readable."""
        handle, self._handle = self._handle, None
        if handle:
            with contextlib.suppress(OSError):
                self._pcap.pcap_close(handle)
