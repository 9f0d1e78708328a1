"""Programs that watch an interface, for live.py: each runs alone in a process and tells what it saw and what it cost.

    python live_watchers.py WATCHER INTERFACE SECONDS [RING_MIB]

It prints "ready" once it captures, then, when the time is over, one line of JSON.  Never here: sending, comparing.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = dict[str, Any]
MIB = 1 << 20


def resident_kib() -> int:
    """Memory of this process that is in RAM."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) if found else 0


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


class Meter:
    """CPU, memory and time from `ready` on."""

    def __init__(self) -> None:
        print("ready", flush=True)
        self.cpu_s = cpu_s()
        self.begin_s = time.monotonic()
        self.early_kib = 0

    def running(self, seconds: float) -> bool:
        """Whether the time is not over; notes the memory after a fifth of it."""
        past = time.monotonic() - self.begin_s
        if not self.early_kib and past > seconds / 5:
            self.early_kib = resident_kib()
        return past < seconds

    def result(self, frames: int, dropped: int | None, **more: Any) -> Result:
        used = cpu_s() - self.cpu_s
        return {
            "frames": frames, "cpu_s": used, "dropped": dropped,
            "early_mib": self.early_kib / 1024, "late_mib": resident_kib() / 1024, **more,
        }  # fmt: skip


def observed(interface: str, seconds: float, ring: int, *, track: bool = False, write: Path | None = None) -> Result:
    from observer.capture.live import open_live
    from observer.capture.live_writer import PcapngWriter

    writer = decoder = tracker = None
    if track:
        from observer.kernels import Compiled
        from observer.options import Options
        from observer.tcp.tracker import Tracker
        from observer.wire import Decoder

        engine = Compiled()
        decoder, tracker = Decoder(engine, Options()), Tracker(engine, Options())
    with open_live(interface, buffer_octets=ring) as live:
        if write is not None:
            writer = PcapngWriter(write, live.files[0])
        meter, chunks = Meter(), 0
        while meter.running(seconds):
            chunk = live.poll(0.2)
            if chunk is None:
                continue
            chunks += 1
            if writer is not None:
                writer.write(chunk)
            if decoder is not None and tracker is not None:
                batch = decoder.decode(chunk)
                tracker.track(batch.rows, batch.count)
        counts = live.statistics()[0]
        flows = tracker.stream_count if tracker is not None else 0
        result = meter.result(live.frames, counts.dropped_kernel, chunks=chunks, flows=flows, lost=counts.lost_here)
    if writer is not None:
        writer.close()
    return result


def capture(interface: str, seconds: float, ring: int) -> Result:
    """Capturing alone."""
    return observed(interface, seconds, ring)


def track(interface: str, seconds: float, ring: int) -> Result:
    """Capturing, decoding and tracking."""
    return observed(interface, seconds, ring, track=True)


def write(interface: str, seconds: float, ring: int) -> Result:
    """Capturing, decoding, tracking, and writing every frame to a file."""
    with tempfile.TemporaryDirectory(prefix="observer-live.") as folder:
        return observed(interface, seconds, ring, track=True, write=Path(folder) / "all.pcapng")


def scapy(interface: str, seconds: float, _: int) -> Result:
    """scapy's sniff, which keeps nothing and counts."""
    from scapy.all import sniff

    seen = 0

    def count(_: Any) -> None:
        nonlocal seen
        seen += 1

    meter: Meter | None = None

    def started() -> None:
        nonlocal meter
        meter = Meter()

    sniff(iface=interface, store=False, prn=count, timeout=seconds, started_callback=started)
    return (meter or Meter()).result(seen, None)


def cypcap(interface: str, seconds: float, ring: int) -> Result:
    """A Cython binding of libpcap: its callback only counts."""
    import cypcap

    seen = 0

    def count(_: Any, __: Any) -> None:
        nonlocal seen
        seen += 1

    with cypcap.create(interface) as pcap:
        pcap.set_snaplen(262144)
        pcap.set_promisc(True)
        pcap.set_timeout(50)
        pcap.set_buffer_size(ring)
        pcap.activate()
        meter = Meter()
        while meter.running(seconds):
            pcap.dispatch(-1, count)
        return meter.result(seen, pcap.stats().drop)


def tcpdump(interface: str, seconds: float, ring: int) -> Result:
    """tcpdump writing to a pipe that the observer reads; the cost is that of both."""
    from observer.capture.live_pipe import open_growing
    from observer.kernels import Compiled

    command = ["tcpdump", "-i", interface, "-n", "-w", "-", "-B", str(ring >> 10), "-s", "262144"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with open_growing(process.stdout) as live:
            live.use(Compiled())
            while process.stderr.readline().find(b"listening") < 0:
                pass
            meter = Meter()
            while meter.running(seconds):
                live.poll(0.2)
            process.terminate()
            while live.poll(1.0) is not None:
                pass
            frames = live.frames
        said = process.stderr.read().decode()
    dropped = re.search(r"(\d+) packets? dropped by kernel", said)
    result = meter.result(frames, int(dropped[1]) if dropped else None)
    result["reader_cpu_s"] = result["cpu_s"]
    result["cpu_s"] += cpu_s(resource.RUSAGE_CHILDREN)
    return result


WATCHERS: dict[str, Callable[[str, float, int], Result]] = {
    function.__name__: function for function in (capture, track, write, tcpdump, cypcap, scapy)
}


def main() -> None:
    name, interface, seconds, *ring = sys.argv[1:]
    result = WATCHERS[name](interface, float(seconds), int(ring[0] if ring else 64) * MIB)
    print(json.dumps(result), flush=True)
    os._exit(0)  # what a peer does when it is taken down is not measured


if __name__ == "__main__":
    main()
