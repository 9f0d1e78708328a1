"""Without libpcap: one interface through scapy's socket, a system call and some Python for every frame.

Good for some ten thousand frames a second where libpcap manages some hundred thousand.  Never here: libpcap.
Sources: scapy's L2ListenSocket; packet(7) (PACKET_STATISTICS, PACKET_IGNORE_OUTGOING).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any, Final

import numpy

from observer.capture.chunk import Int64Array, OctetArray
from observer.capture.live_pcap import Counts, DeniedError, GoneError, NoDeviceError, Settings
from observer.errors import CaptureError, OptionError
from observer.segments import RECORD_STRIDE

COST: Final = (
    "{name}: libpcap is not installed, so each frame costs some 20 us of Python instead of 0.1 us: beyond some ten "
    "thousand frames/s the kernel drops frames; install it (apt install libpcap0.8)"
)
"""What this costs, as a notice."""
SOL_PACKET: Final = 263  # linux/socket.h
PACKET_STATISTICS: Final = 6  # linux/if_packet.h; reading sets the counters to zero
PACKET_IGNORE_OUTGOING: Final = 23
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; beyond net.core.rmem_max
FRAME_OCTETS: Final = 65535  # scapy's MTU: what its socket reads at most
BATCH_OCTETS: Final = 1 << 20
DLT_TO_LINKTYPE: Final = {12: 101}


def _listening() -> Any:
    """scapy's class of sockets that only listen, whatever it is on this system."""
    import scapy.all  # noqa: F401  registers the link types
    from scapy.config import conf

    return conf.L2listen


class ScapyLane:
    """One interface; see live_watch.Lane."""

    nanoseconds = False  # scapy's stamps are floats of seconds: a quarter of a microsecond
    lost = 0

    def __init__(self, name: str, settings: Settings) -> None:
        from scapy.config import conf
        from scapy.error import Scapy_Exception

        self.name = name
        self.frames = 0
        self.size = 0
        self.snaplen = settings.snaplen
        if name == "any":
            raise CaptureError("any: all interfaces at once need libpcap, which is not installed; name the interfaces")
        try:
            self._socket: Any = _listening()(
                iface=name, promisc=settings.promiscuous, filter=settings.bpf or None, nofilter=not settings.bpf
            )
        except PermissionError as error:
            raise DeniedError(f"{name}: {error.strerror}") from error
        except Scapy_Exception as error:
            raise OptionError(f"{name}: the filter {settings.bpf!r} cannot be used without libpcap ({error})") from None
        except (OSError, ValueError) as error:
            if getattr(error, "errno", 0) == 19 or "not found" in str(error):  # ENODEV
                raise NoDeviceError(f"{name}: there is no such interface; `observer interfaces` lists them") from None
            raise CaptureError(f"{name}: cannot be captured ({error})") from error
        dlt = int(conf.l2types.layer2num.get(self._socket.LL, 1))
        self.link_type = DLT_TO_LINKTYPE.get(dlt, dlt)
        self._socket.ins.setblocking(False)
        self._options(name, settings.ring_octets)
        self.descriptor = int(self._socket.fileno())
        self.octets: OctetArray = numpy.empty(BATCH_OCTETS, numpy.uint8)
        self.records: Int64Array = numpy.zeros(settings.records_max * RECORD_STRIDE, numpy.int64)
        self._counts = Counts(0, 0, 0)

    def _options(self, name: str, ring_octets: int) -> None:
        """More room than scapy's 64 KiB; and each frame of the loopback interface once, which comes out and goes in."""
        wanted = [(socket.SOL_SOCKET, SO_RCVBUFFORCE, ring_octets)]
        if name == "lo":
            wanted.append((SOL_PACKET, PACKET_IGNORE_OUTGOING, 1))  # before Linux 4.20: the decoder knows duplicates
        for level, option, value in wanted:
            with contextlib.suppress(OSError):
                self._socket.ins.setsockopt(level, option, value)

    def pull(self, frame: int) -> int:
        """See PcapLane.pull."""
        octets, records = self.octets.data, self.records.data
        rows, filled, count = len(records) // RECORD_STRIDE, 0, 0
        while count < rows and filled <= BATCH_OCTETS - FRAME_OCTETS - 4:  # 4: a VLAN tag that scapy puts back
            try:
                _, packet, stamp = self._socket.recv_raw()
            except BlockingIOError:
                break
            except OSError as error:
                if count:
                    break
                raise GoneError(str(error)) from None
            if not packet:
                continue
            kept = min(len(packet), self.snaplen)
            octets[filled : filled + kept] = packet[:kept]
            time_ns = int(stamp * 1e9) if stamp else time.time_ns()
            row = count * RECORD_STRIDE
            for column, value in enumerate((filled, kept, len(packet), time_ns, self.link_type, frame + count)):
                records[row + column] = value
            filled += kept
            count += 1
        self.size = filled
        self.frames += count
        return count

    def counts(self) -> Counts | None:
        """See PcapLane.counts."""
        try:
            packed = self._socket.ins.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        except (OSError, AttributeError, ValueError):
            return None
        received, dropped = struct.unpack("=II", packed)
        self._counts = Counts(self._counts.received + received, self._counts.dropped_kernel + dropped, 0)
        return self._counts

    def close(self) -> None:
        """See PcapLane.close."""
        self._socket.close()
