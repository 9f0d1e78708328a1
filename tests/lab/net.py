"""Namespaces client - router - server, their links, addresses, sysctls and packet filter.

Never leaves anything behind: names carry the process id, ``Network.close`` removes them, and ``clean`` removes what
a crashed run left. A few laboratories may run at once, each in a *slot* with addresses of its own, because the
tracepoint sees the whole machine; lock files hand out the slots.

Sources: namespaces(7), setns(2), nft(8), linux/ethtool.h (offload commands).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PREFIX = "obslab"
LOCK = "/tmp/observer-lab.{slot}.lock"
SLOTS = 3  # they mostly wait: more would disturb each other's timing on a machine of two cores
NETNS = Path("/run/netns")

ROUTER_PORT = {"client": "c0", "server": "s0"}
MAC = {
    "client": "02:00:00:00:01:02",
    "server": "02:00:00:00:02:02",
    "c0": "02:00:00:00:01:01",
    "s0": "02:00:00:00:02:01",
}

# Third octet of IPv4, last digit of the IPv6 prefix.
_LEG = {"client": 1, "server": 2}

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCETHTOOL = 0x8946  # linux/sockios.h
# linux/ethtool.h: ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO, _SGRO. Off, so that the taps see what a wire would carry.
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)

_libc = ctypes.CDLL(None, use_errno=True)


def addresses(slot: int, role: str, *, host: int = 2) -> tuple[str, str]:
    """(IPv4, IPv6) of an endpoint, or with ``host`` 1 of its gateway; 2001:db8::/32 is for documentation (RFC 3849)."""
    leg = _LEG[role]
    return f"10.{slot}.{leg}.{host}", f"2001:db8:{slot * 16 + leg:x}::{host}"


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command to its end; a failure names the command and what it said."""
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}\n{stdin or ''}")
    return done.stdout


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind ``fd`` (Python 3.11 has no os.setns)."""
    if _libc.setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Namespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link set lo up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in this namespace meanwhile: sockets made here stay here."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NETNS / self.name, os.O_RDONLY)
        try:
            setns(there)
            try:
                yield
            finally:
                setns(home)
        finally:
            os.close(there)
            os.close(home)

    def ip(self, *lines: str) -> None:
        """Run ``ip`` commands inside, all in one batch."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, values: Mapping[str, int | str]) -> None:
        """Set net.ipv4 (or, with a dot, any net) settings of this namespace."""
        with self.entered():
            for key, value in values.items():
                path = key.replace(".", "/") if "." in key else f"ipv4/{key}"
                Path("/proc/sys/net", path).write_text(str(value))

    def no_offload(self, *interfaces: str) -> None:
        """Switch checksum and segmentation offload off: one frame at the tap is one frame on the wire."""
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            for interface in interfaces:
                for command in _OFFLOADS:
                    value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                    request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
                    fcntl.ioctl(handle, _SIOCETHTOOL, request + bytes(40 - len(request)))

    def delete(self) -> None:
        """Remove the name; the namespace itself lives until its last socket is closed."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False, timeout=30)


class Network:
    """client -eth0--c0- router -s0--eth0- server, with half of ``delay_s`` on each leg (one way).

    Without delay the links are veth pairs; with delay they are TAP devices that ``delay.py`` joins.
    """

    def __init__(self, *, delay_s: float = 0.0, reorder_every: int = 0) -> None:
        if reorder_every and not delay_s:
            raise ValueError("reordering is the delay line's work: give a delay")
        self.delay_s, self.reorder_every = delay_s, reorder_every
        self._delay_process: subprocess.Popen[str] | None = None
        self.slot, self._lock = _lock()
        self.addresses = {role: addresses(self.slot, role) for role in ("client", "server")}
        self.names = {role: f"{PREFIX}-{os.getpid()}-{self.slot}-{role}" for role in ("client", "router", "server")}
        self.namespaces: dict[str, Namespace] = {}
        try:
            for role, name in self.names.items():
                self.namespaces[role] = Namespace(name)
            self._links()
            self.router.sysctl({"ip_forward": 1, "ipv6.conf.all.forwarding": 1, "icmp_ratelimit": 0})
            for role in ("client", "server"):
                self.configure(role)
            run("ip", "netns", "exec", self.router.name, "nft", "-f", "-", stdin=_TABLE)
        except BaseException:
            self.close()
            raise

    @property
    def router(self) -> Namespace:
        return self.namespaces["router"]

    def _links(self) -> None:
        if self.delay_s:
            ends = [
                f"{self.names[namespace]}:{interface}"
                for role in ("client", "server")
                for namespace, interface in ((role, "eth0"), ("router", ROUTER_PORT[role]))
            ]
            command = [sys.executable, str(Path(__file__).with_name("delay.py")), str(self.delay_s / 2)]
            command += [str(self.reorder_every), *ends]
            self._delay_process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._delay_process.stdout is not None
            if self._delay_process.stdout.readline() != "ready\n":
                raise RuntimeError("the delay line did not start: is /dev/net/tun there?")
        else:
            for role in ("client", "server"):
                self._cable(role)

    def _cable(self, role: str) -> None:
        """Lay a new veth cable between an endpoint and the router."""
        port = ROUTER_PORT[role]
        self.namespaces[role].ip(f"link add eth0 type veth peer name {port} netns {self.names['router']}")
        self.namespaces[role].no_offload("eth0")
        self.router.no_offload(port)

    def configure(self, role: str) -> None:
        """Addresses, default routes and fixed neighbours of one leg (no ARP, no NDP in the captures)."""
        near, port = self.namespaces[role], ROUTER_PORT[role]
        (v4, v6), (gateway4, gateway6) = self.addresses[role], addresses(self.slot, role, host=1)
        near.ip(
            f"link set eth0 address {MAC[role]} up",
            f"addr replace {v4}/24 dev eth0",
            f"addr replace {v6}/64 dev eth0 nodad",
            f"neigh replace {gateway4} lladdr {MAC[port]} dev eth0 nud permanent",
            f"neigh replace {gateway6} lladdr {MAC[port]} dev eth0 nud permanent",
            f"route replace default via {gateway4}",
            f"route replace ::/0 via {gateway6}",
        )
        self.router.ip(
            f"link set {port} address {MAC[port]} up",
            f"addr replace {gateway4}/24 dev {port}",
            f"addr replace {gateway6}/64 dev {port} nodad",
            f"neigh replace {v4} lladdr {MAC[role]} dev {port} nud permanent",
            f"neigh replace {v6} lladdr {MAC[role]} dev {port} nud permanent",
        )

    def unplug(self, role: str) -> None:
        """Take the router's port towards an endpoint down: both ends of the cable lose the carrier."""
        self.router.ip(f"link set {ROUTER_PORT[role]} down")

    def replug(self, role: str) -> None:
        """Bring the cable back; addresses and neighbours that the kernel forgot are set again."""
        self.configure(role)

    def rule(self, rule: str) -> None:
        """Add a rule to what the router does with forwarded packets, for example ``tcp dport 5001 drop``."""
        run("ip", "netns", "exec", self.router.name, "nft", f"add rule inet lab forward {rule}")

    def flush(self) -> None:
        """The router forwards everything again."""
        run("ip", "netns", "exec", self.router.name, "nft", "flush chain inet lab forward")

    def close(self) -> None:
        """Remove everything that was made here."""
        if self._delay_process is not None:
            self._delay_process.terminate()
            self._delay_process.communicate(timeout=5)
        for namespace in self.namespaces.values():
            namespace.delete()
        os.close(self._lock)


_TABLE = "table inet lab { chain forward { type filter hook forward priority 0; policy accept; }; }\n"


def _lock() -> tuple[int, int]:
    """(slot, file descriptor): wait up to ten minutes for a free slot; it is free again when the descriptor closes."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for slot in range(SLOTS):
            fd = os.open(LOCK.format(slot=slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return slot, fd
            except BlockingIOError:
                os.close(fd)
        time.sleep(0.1)
    raise TimeoutError(f"other laboratories have held all {SLOTS} slots for ten minutes")


def clean() -> list[str]:
    """Remove namespaces, what runs in them, and trace instances whose laboratory is gone; returns their names."""
    gone = []
    instances = Path("/sys/kernel/tracing/instances")
    for folder in (NETNS, instances):
        for path in sorted(folder.glob(f"{PREFIX}-*")) if folder.is_dir() else ():
            owner = re.match(rf"{PREFIX}-(\d+)", path.name)
            if owner and not Path("/proc", owner[1]).exists():
                if folder is NETNS:
                    for pid in run("ip", "netns", "pids", path.name).split():
                        os.kill(int(pid), signal.SIGTERM)  # a tap that its laboratory could not end
                    run("ip", "netns", "del", path.name)
                else:
                    path.rmdir()
                gone.append(path.name)
    return gone
