"""Healthy traffic of real programs between the namespaces: what an observer must find nothing wrong with.

    cd tests && python -m lab.healthy -o FOLDER [--connections 10000] [--ipv6] [--loss 1] [--delay 0.01]

nginx, redis and PostgreSQL serve; ab, wrk, curl, wget, a keep-alive pool, redis-benchmark, redis-cli, pgbench and
iperf3 ask (programs.py). What the traffic really contains (a load tool that resets at its end, a request that met a
server's idle time-out) is listed as the kernel and the programs report it, never guessed: each RST with its reason from
the tracepoints, and for each step the TCP counters of both hosts, their TIME-WAIT sockets and the exit statuses.

Sources: nstat(8), Documentation/networking/snmp_counter.rst.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from . import diag, net, trace, truth
from .frames import frames
from .lab import missing, one_line_each
from .net import Network
from .programs import Servers, Step, absent, steps
from .sockets import now
from .taps import Taps

# What a host's own TCP says about resets, losses and full queues (snmp_counter.rst).
COUNTERS = re.compile(
    "ActiveOpens|PassiveOpens|AttemptFails|EstabResets|RetransSegs|OutRsts|TCPAbort.*|TCPTimeouts|Listen.*|TCPReqQFull.*"
    "|TCPSynRetrans|TCP.*ZeroWindowAdv|TCPKeepAlive|TW|TWRecycled|TCPTimeWaitOverflow|TCPDSACKRecv|TCPChallengeACK"
)
_SNAPLEN_OCTETS = 160  # headers are enough, and ten thousand connections stay small
_PATIENCE_S = 180
_SERVED_S = 20


def play(
    folder: Path,
    *,
    connections: int = 10_000,
    ipv6: bool = False,
    loss_percent: float = 0,
    delay_s: float = 0,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Run every step, or those whose names begin with one of ``only``.

    The captures, ``programs.log`` and ``truth.json`` (which is also the answer) are then in ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "programs.log"
    log.unlink(missing_ok=True)
    network = Network(delay_s=delay_s)
    servers = recording = taps = None
    work = Path(tempfile.mkdtemp(prefix="obslab-healthy-"))
    try:
        work.chmod(0o755)  # PostgreSQL's user passes through
        plan = steps(connections, network.addresses["server"][ipv6], work)
        plan = [step for step in plan if not only or step.name.startswith(tuple(only))]
        able = [step for step in plan if not absent(step)]
        servers = Servers(network, work, log, [step.port for step in able])
        _wait_served(network, [step.port for step in able])
        if loss_percent:
            network.rule(f"meta l4proto tcp numgen random mod 1000 < {round(loss_percent * 10)} drop")
        recording = trace.Trace(events=(trace.SENT_EVENT, trace.ACCEPTED_EVENT))
        taps = Taps(network, folder, snaplen_octets=_SNAPLEN_OCTETS)
        begin = now()
        rows = [_step(network, step, log) for step in able]
        end = now()
        taps.stop()
        _, resets = recording.stop()
    finally:
        if taps is not None:
            taps.stop(grace_s=0)
        if recording is not None:
            recording.discard()
        if servers is not None:
            servers.stop()
        network.close()
        shutil.rmtree(work, ignore_errors=True)
    captures = {vantage: frames(path) for vantage, path in taps.paths.items()}
    flows = truth.flows_of(captures, network.addresses["client"])
    opened = sum(row["counters"]["client"].get("ActiveOpens", 0) for row in rows)  # some share a 4-tuple
    found = {
        "scenario": "healthy",
        "about": f"{opened} connections of real programs, {loss_percent} % loss; nothing is wrong.",
        "ipv6": ipv6,
        "loss_percent": loss_percent,
        "link_delay_s": delay_s,
        "connections": opened,
        "begin": begin,
        "end": end,
        "absent": {step.name: absent(step) for step in plan if absent(step)},
        "steps": rows,
        "resets": truth.resets(flows, resets, captures, delay_s),
    }
    (folder / "truth.json").write_text(one_line_each(found))
    return found


def _step(network: Network, step: Step, log: Path) -> dict[str, Any]:
    """Run one step and say what both hosts' kernels counted meanwhile."""
    before, begin = counters(network), now()
    statuses: Counter[int] = Counter()
    command = ("ip", "netns", "exec", network.names["client"], *step.command)
    with log.open("ab") as said:
        said.write(f"\n=== {step.name}: {' '.join(step.command)}\n".encode())
        said.flush()
        for _ in range(step.times):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, timeout=_PATIENCE_S
            )
            statuses[done.returncode] += 1
    time.sleep(0.2)
    counted = {role: dict(values - before[role]) for role, values in counters(network).items()}
    row = {"name": step.name, "port": step.port, "begin": begin, "end": now(), "statuses": dict(statuses)}
    return row | {"counters": counted, "time_wait": time_wait(network, step.port)}


def counters(network: Network) -> dict[str, Counter[str]]:
    """The chosen TCP counters of both hosts, as nstat(8) reads them."""
    found = {}
    for role in ("client", "server"):
        with network.namespaces[role].entered():
            text = "".join(Path("/proc/thread-self/net", name).read_text() for name in ("snmp", "netstat"))
        lines = [line.split() for line in text.splitlines() if line.startswith(("Tcp:", "TcpExt:"))]
        found[role] = Counter(
            {
                key: int(value)
                for head, values in zip(lines[::2], lines[1::2], strict=True)
                for key, value in zip(head, values, strict=True)
                if COUNTERS.fullmatch(key)
            }
        )
    return found


def time_wait(network: Network, port: int) -> dict[str, int]:
    """How many sockets in TIME-WAIT each host holds for a server port now."""
    held = {}
    for role in ("client", "server"):
        with network.namespaces[role].entered():
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, diag.NETLINK_SOCK_DIAG)
        with netlink:
            pairs = diag.dump(netlink)
        side = 1 if role == "client" else 0
        held[role] = sum(
            state == "TIME_WAIT" and pair.split(">")[side].endswith(f":{port}") for pair, state in pairs.items()
        )
    return held


def _wait_served(network: Network, ports: list[int]) -> None:
    """Wait until every port has its listener; asks the kernel, so that no connection is made."""
    deadline = time.monotonic() + _SERVED_S
    while True:
        listing = net.run("ip", "netns", "exec", network.names["server"], "ss", "-Hltn")
        listening = {int(port) for port in re.findall(r":(\d+)\s", listing)}
        if listening.issuperset(ports):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no server on {sorted(set(ports) - listening)}")
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.healthy", description="Capture healthy traffic.")
    parser.add_argument("-o", "--output", type=Path, default=Path("/tmp/lab/healthy"))
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--loss", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="one way, half on each leg")
    options = parser.parse_args()
    if lacks := missing():
        sys.exit(lacks)
    found = play(
        options.output,
        connections=options.connections,
        ipv6=options.ipv6,
        loss_percent=options.loss,
        delay_s=options.delay,
    )
    print(found["about"], json.dumps(found["absent"]))
    for row in found["steps"]:
        print(f"{row['name']:32} {row['end'] - row['begin']:5.1f} s  statuses {row['statuses']}  {row['counters']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
