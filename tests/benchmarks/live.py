"""Measures live capture under load against peers, each in turn on the same traffic.

    python tests/benchmarks/live.py                           # 60 s at 500,000 packets/s for us, 5 s for each peer
    python tests/benchmarks/live.py --seconds 5 --rate 200000 --watchers capture,track

A sender in C (compiled now) repeats generated TCP traffic from one network namespace to another over a veth pair; each
watcher runs alone in a process on processor 1, the sender on processor 0.  What the kernel's receiving interface
counts is what was offered.  CPU is user and system time of the watching process, peers' children included.  The
promised bounds stand beside our figures with ok or MISSED; nothing is asserted, since a shared machine's figures are
no test.  Needs root, Linux, gcc, ip and taskset; namespaces and files are removed at the end, whatever happens.

Never here: a figure that was not measured in this very run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE = Path(__file__).parent
OURS: Final = ("capture", "track", "write")
PEERS: Final = ("tcpdump", "cypcap", "scapy")
CPU_BOUND_NS: Final = 200
"""Promised for capturing, decoding and tracking together."""
PREFERRED: Final = 'echo "$0" > /proc/self/autogroup; exec "$@"'
"""A shell's program that runs a command as a session of its own, which is what the scheduler weighs (sched(7))."""
SETTLE_S: Final = 1.5
"""What watchers go on after the sender has ended: frames are still in the kernel."""


class Path2(NamedTuple):
    """Two namespaces with a veth pair between them."""

    sender: str
    watcher: str
    sending: str
    watched: str


def run(*command: str, namespace: str = "") -> str:
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    return subprocess.run([*inside, *command], check=True, capture_output=True, text=True).stdout


@contextmanager
def namespaces() -> Iterator[Path2]:
    """The two namespaces; removed afterwards."""
    mark = f"{os.getpid() % 100000}"
    path = Path2(f"ob-s{mark}", f"ob-w{mark}", f"vs{mark}", f"vw{mark}")
    made = []
    try:
        for name in (path.sender, path.watcher):
            run("ip", "netns", "add", name)
            made.append(name)
            run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", namespace=name)
        peer = ("type", "veth", "peer", "name", path.watched, "netns", path.watcher)
        run("ip", "link", "add", path.sending, *peer, namespace=path.sender)
        for name, interface in ((path.sender, path.sending), (path.watcher, path.watched)):
            run("ip", "link", "set", interface, "up", namespace=name)
        yield path
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def received(path: Path2) -> int:
    """Frames that the watched interface has received."""
    name = f"/sys/class/net/{path.watched}/statistics/rx_packets"
    return int(run("ip", "netns", "exec", path.watcher, "cat", name))


def measure(path: Path2, watcher: str, options: argparse.Namespace, tools: tuple[Path, Path]) -> dict[str, Any]:
    """One watcher under load: what it says, and what was offered to it."""
    sender, traffic = tools
    seconds = options.seconds if watcher in OURS else min(options.seconds, options.peer_seconds)
    rate = options.rate
    nice = ["setsid", "sh", "-c", PREFERRED, str(options.nice)] if options.nice else []
    inside = ["ip", "netns", "exec", path.watcher, *nice, "taskset", "-c", str(options.watcher_cpu)]
    watch = [sys.executable, str(HERE / "live_watchers.py"), watcher, path.watched, str(seconds + SETTLE_S)]
    with subprocess.Popen(
        [*inside, *watch, str(options.ring_mib)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if process.stdout.readline().strip() != "ready":
                return {"error": (process.stderr.read().strip().splitlines() or ["it did not start"])[-1]}
            before = received(path)
            pinned = (*nice, "taskset", "-c", str(options.sender_cpu))
            arguments = (str(sender), path.sending, str(traffic), str(rate), str(seconds))
            _, took = run(*pinned, *arguments, namespace=path.sender).split()
            line = process.stdout.readline()
            if not line:
                return {"error": (process.stderr.read().strip().splitlines() or ["it ended early"])[-1]}
        finally:
            process.kill()
        return {**json.loads(line), "offered": received(path) - before, "seconds": float(took)}


def told(watcher: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    if "error" in found:
        return f"{watcher:10} {found['error']}"
    offered, frames = found["offered"], found["frames"]
    lost = offered - frames
    each_ns = found["cpu_s"] / max(frames, 1) * 1e9
    words = [
        f"{watcher:10}", f"{offered / found['seconds']:>9,.0f}", f"{found['seconds']:>5.0f}", f"{offered:>12,}",
        f"{lost:>12,}", f"{100 * lost / max(offered, 1):>6.2f}", f"{each_ns:>9,.0f}",
        f"{found['early_mib']:>7.0f} {found['late_mib']:>6.0f}",
    ]  # fmt: skip
    if watcher in OURS:
        words.append("  lost: " + ("ok" if lost == 0 else "MISSED"))
    if watcher == "track":
        words.append("  cpu: " + ("ok" if each_ns <= CPU_BOUND_NS else "MISSED"))
    if "reader_cpu_s" in found:
        words.append(f"  of which {found['reader_cpu_s'] / max(frames, 1) * 1e9:,.0f} ns the observer's reading")
    if found.get("flows"):
        words.append(f"  {found['flows']:,} connections")
    return " ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure live capture under load.")
    parser.add_argument("--rate", type=int, default=500_000, help="packets a second that are offered")
    parser.add_argument("--seconds", type=float, default=60, help="of each of our watchers")
    parser.add_argument("--peer-seconds", type=float, default=5, help="of each peer, at most")
    parser.add_argument("--kind", default="headers", choices=("headers", "full"), help="octets: 82 or 700 on average")
    parser.add_argument("--ring-mib", type=int, default=64, help="the kernel's buffer")
    parser.add_argument("--watchers", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--nice", type=int, default=0, help="of sender and watchers; below 0 where others are at work")
    parser.add_argument("--sender-cpu", type=int, default=0)
    parser.add_argument("--watcher-cpu", type=int, default=1)
    options = parser.parse_args()
    lacking = [name for name in ("gcc", "ip", "taskset") if not shutil.which(name)]
    if os.geteuid() != 0 or sys.platform != "linux" or lacking:
        print(f"needs root on Linux, and {', '.join(lacking) or 'nothing more'}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="observer-live.") as name, namespaces() as path:
        folder = Path(name)
        sender, traffic = folder / "sender", folder / "traffic.pcap"
        run("gcc", "-O2", "-o", str(sender), str(HERE / "live_sender.c"))
        generate = [sys.executable, str(HERE / "generate.py"), "--kind", options.kind, "--packets", "400000"]
        run(*generate, "--output", str(traffic))
        head = f"{'watcher':10} {'offered/s':>9} {'s':>5} {'offered':>12} {'lost':>12} {'%':>6} {'ns/frame':>9}"
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}")
        print(f"{head} {'MiB early, late':>14}", flush=True)
        for watcher in options.watchers.split(","):
            print(told(watcher, measure(path, watcher, options, (sender, traffic))), flush=True)
            time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
