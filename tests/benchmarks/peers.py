"""The programs that the observer is measured against, and how each is asked to read a capture.

A peer that is too slow for the whole capture reads its first packets only; its time is then scaled by the number of
packets, and the report says so.
Sources: the manuals of tcpdump(1), argus(8), tcptrace(1), tshark(1); the documentation of nfstream and scapy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCAPY = """
import sys
from scapy.all import PcapReader  # with all its layers: without them frames stay undissected
with PcapReader(sys.argv[1]) as reader:
    for packet in reader:
        pass
"""

NFSTREAM = """
import sys
from nfstream import NFStreamer
if __name__ == "__main__":
    for flow in NFStreamer(source=sys.argv[1], n_dissections=0, n_meters=1):
        pass
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One program: its command for a file, and the bound that issue and README promise.

    `bound` is the observer's wall time divided by the peer's that may not be exceeded; `first` the packets it reads
    (None: all).
    """

    name: str
    command: Callable[[Path], list[str]]
    there: Callable[[], bool]
    bound: float
    first: int | None = None


NFSTREAM_PYTHON = os.environ.get("NFSTREAM_PYTHON", sys.executable)
"""The interpreter that has nfstream, which may want an environment of its own."""


def _on_path(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _importable(name: str, python: str = sys.executable) -> Callable[[], bool]:
    def there() -> bool:
        return subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0

    return there


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="tcpdump",
            command=lambda path: ["tcpdump", "-r", str(path), "-w", "/dev/null"],
            there=_on_path("tcpdump"),
            bound=0.6,
        ),
        Peer(
            name="argus",
            command=lambda path: ["argus", "-r", str(path), "-w", "/dev/null"],
            there=_on_path("argus"),
            bound=1 / 4.5,
        ),
        Peer(  # -n: no names looked up; without it it waits for name servers
            name="tcptrace",
            command=lambda path: ["tcptrace", "-n", str(path)],
            there=_on_path("tcptrace"),
            bound=1 / 10,
        ),
        Peer(
            name="tshark",
            command=lambda path: ["tshark", "-n", "-q", "-z", "conv,tcp", "-r", str(path)],
            there=_on_path("tshark"),
            bound=1 / 25,
            first=300_000,
        ),
        Peer(
            name="nfstream",
            command=lambda path: [NFSTREAM_PYTHON, "-c", NFSTREAM, str(path)],
            there=_importable("nfstream", NFSTREAM_PYTHON),
            bound=1 / 15,
            first=300_000,
        ),
        Peer(
            name="scapy",
            command=lambda path: [sys.executable, "-c", SCAPY, str(path)],
            there=_importable("scapy"),
            bound=1 / 800,
            first=100_000,
        ),
    )
}
TCPDUMP_BOUNDS = {"full": 0.6, "headers": 1.3, "flood": 3.0}
"""Bounds of the observer's wall time over tcpdump's, by kind of capture."""
PEAK_MIB = {"full": 350, "headers": 350, "flood": 700}
"""Bounds of the observer's peak memory in MiB, for 6 M packets and a flood of 2 M SYNs."""
