"""tcpdump at the client, in the middle and at the server, with nanosecond stamps of CLOCK_REALTIME.

Never loses the last frames: ``-U`` and immediate mode write each frame as it comes, and ``stop`` waits for them.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from .net import Network

# The tap in the middle listens on the router's client port: what the router drops towards the server was seen there.
PLACES = {"client": ("client", "eth0"), "middle": ("router", "c0"), "server": ("server", "eth0")}
# ICMPv6 errors are types below 128 (RFC 4443 2.1): neighbour discovery stays out of the captures.
DROPPED = re.compile(r"(\d+) packets? dropped by kernel")
_BUFFER_KIB = "32768"
FILTER = "tcp or icmp or (icmp6 and ip6[40] < 128)"


class Taps:
    """The running tcpdump processes of one scenario."""

    def __init__(self, network: Network, folder: Path, *, snaplen_octets: int = 262_144) -> None:
        self._snaplen_octets = snaplen_octets
        self.paths = {vantage: folder / f"{vantage}.pcap" for vantage in PLACES}
        self._network = network
        self.dropped: Counter[str] = Counter()
        """Frames that tcpdump missed at each place, once it has ended: a busy machine."""
        self._running: list[subprocess.Popen[str]] = []
        try:
            for vantage in PLACES:
                self._running.append(self._start(vantage, self.paths[vantage]))
            for process in self._running:
                _wait_listening(process)
        except BaseException:
            self.stop(grace_s=0)
            raise

    def _start(self, vantage: str, path: Path) -> subprocess.Popen[str]:
        role, interface = PLACES[vantage]
        command = ["ip", "netns", "exec", self._network.names[role]]
        command += ["tcpdump", "-i", interface, "-n", "-U", "-Z", "root", "--immediate-mode"]
        command += [
            "--time-stamp-precision=nano",
            "-s",
            str(self._snaplen_octets),
            "-B",
            _BUFFER_KIB,
            "-w",
            str(path),
            FILTER,
        ]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def stop(self, *, grace_s: float = 0.2) -> None:
        """Let the last frames arrive, then end every tcpdump that was started here."""
        time.sleep(grace_s)
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for vantage, process in zip(PLACES, self._running, strict=False):
            try:
                _, said = process.communicate(timeout=5)
                self.dropped[vantage] += sum(map(int, DROPPED.findall(said)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self._running.clear()


def _wait_listening(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "listening on" in line:
            return
    raise RuntimeError(f"tcpdump did not start: {''.join(said).strip()}")
