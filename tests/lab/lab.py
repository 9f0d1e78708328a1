"""Lab: network, taps, tracepoint, polls and recorded sockets of one scenario, and its truth at the end.

    with Lab("orderly_close", "the client closes first", folder) as lab:
        listener = lab.socket("server").bind().listen()
        client = lab.socket("client").connect()
        ...
    lab.truth["states"], lab.captures["middle"]

Everything is taken down again whatever happens inside. Never leaves the namespaces.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import trace, truth
from .frames import Frame, frames
from .net import Network
from .sockets import Calls, Sock, name, now
from .taps import Taps

POLL_S = 0.01
VANTAGES = ("client", "middle", "server")


def missing() -> str:
    """What this machine lacks for a laboratory, as a sentence; empty where nothing is missing."""
    if sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid():
        return "the laboratory needs Linux and root (network namespaces)"
    absent = [tool for tool in ("ip", "nft", "tcpdump") if not shutil.which(tool)]
    if absent:
        return f"the laboratory needs {', '.join(absent)}"
    if not trace.mounted():
        return "the laboratory needs the kernel tracepoint sock:inet_sock_set_state (tracefs)"
    probe = f"obslab-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False, timeout=10)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False, timeout=10)
    return "" if made.returncode == 0 else "the laboratory may not create network namespaces here"


def one_line_each(found: Mapping[str, Any]) -> str:
    """JSON with one call, state or expectation a line, so that it is small and can be compared."""
    text = json.dumps(found, indent=1)
    # Innermost lists and objects go on one line each.
    text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda one: re.sub(r"\n\s*", " ", one[0]), text)
    return re.sub(r'\{\s*"(?:t0|flow)"[^{}]*\}', lambda one: re.sub(r"\n\s*", " ", one[0]), text) + "\n"


class Lab:
    """One scenario's laboratory; see the module."""

    def __init__(
        self,
        scenario: str,
        about: str,
        folder: Path,
        *,
        delay_s: float = 0.0,
        sysctl: Mapping[str, Mapping[str, int | str]] | None = None,
        reorder_every: int = 0,
        ipv6: bool = False,
    ) -> None:
        self.reorder_every, self.ipv6 = reorder_every, ipv6
        self.scenario, self.about, self.folder, self.delay_s = scenario, about, folder, delay_s
        self.sysctl = {role: dict(values) for role, values in (sysctl or {}).items()}
        self.calls = Calls()
        self.captures: dict[str, Path] = {}
        self.frames: dict[str, list[Frame]] = {}
        self.truth: dict[str, Any] = {}
        self._must_find: list[dict[str, Any]] = []
        self._must_not_find: list[dict[str, Any]] = []
        self._cannot_be_known: list[dict[str, Any]] = []
        self._sockets: list[Sock] = []

    def __enter__(self) -> Lab:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network = Network(delay_s=self.delay_s, reorder_every=self.reorder_every)
        self._trace: trace.Trace | None = None
        self._diag: subprocess.Popen[str] | None = None
        self._taps: Taps | None = None
        try:
            for role, values in self.sysctl.items():
                self.network.namespaces[role].sysctl(values)
            self._trace = trace.Trace()
            self._diag = self._start_diag()
            self._taps = Taps(self.network, self.folder)
        except BaseException:
            self._close()
            raise
        self.begin_s = now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        end_ns = time.time_ns()
        try:
            if kind is None:
                self._finish()
        finally:
            self._close()
        if kind is None:
            self._judge(end_ns)

    def _start_diag(self) -> subprocess.Popen[str]:
        ends = [f"{role}={self.network.names[role]}" for role in ("client", "server")]
        command = [sys.executable, str(Path(__file__).with_name("diag.py")), str(POLL_S), *ends]
        log = (self.folder / "diag.jsonl").open("w")
        with log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, text=True)
        deadline = time.monotonic() + 10
        while not (self.folder / "diag.jsonl").stat().st_size:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("diag.py did not start")
            time.sleep(0.01)
        return process

    def _finish(self) -> None:
        assert self._taps is not None and self._diag is not None and self._trace is not None
        self._taps.stop()
        self.captures, self._dropped = dict(self._taps.paths), self._taps.dropped
        self._diag.communicate(timeout=5)
        self._changes, self._resets = self._trace.stop()

    def _close(self) -> None:
        if self._taps is not None:
            self._taps.stop(grace_s=0)
        if self._diag is not None and self._diag.poll() is None:
            self._diag.kill()
            self._diag.communicate(timeout=5)
        if self._trace is not None:
            self._trace.discard()
        for sock in self._sockets:
            sock.raw.close()
        self.network.close()

    def _judge(self, end_ns: int) -> None:
        begin_ns = round(self.begin_s * 1e9)
        self.frames = {vantage: frames(path) for vantage, path in self.captures.items()}
        flows = truth.flows_of(self.frames, self.network.addresses["client"])
        lines = [json.loads(line) for line in (self.folder / "diag.jsonl").read_text().splitlines()[1:]]
        found = truth.states(begin_ns, end_ns, flows, self._changes, truth.polls_of(lines))
        self._cannot_be_known += truth.silent(found, flows, self.frames, end_ns)
        self._cannot_be_known += truth.lost(found, flows, self.frames, end_ns, self.delay_s)
        self.truth = {
            "scenario": self.scenario,
            "about": self.about,
            "sysctl": self.sysctl,
            "link_delay_s": self.delay_s,
            "begin": self.begin_s,
            "end": end_ns / 1e9,
            "dropped": dict(+self._dropped),
            "first_packet": truth.first_packets(flows, self.frames),
            "states": {
                flow: {role: [span.row() for span in spans] for role, spans in ends.items()}
                for flow, ends in found.items()
            },
            "calls": self.calls.rows,
            "resets": truth.resets(flows, self._resets, self.frames, self.delay_s),
            "must_find": self._must_find,
            "must_not_find": self._must_not_find,
            "cannot_be_known": self._cannot_be_known,
        }

    def write_truth(self, path: Path) -> None:
        """Write the truth file."""
        path.write_text(one_line_each(self.truth))

    # What scenarios use

    def socket(self, role: str, *, ipv6: bool = False) -> Sock:
        sock = Sock.make(self.calls, self.network, role, ipv6=ipv6 or self.ipv6)
        self._sockets.append(sock)
        return sock

    def pair(self, *, ipv6: bool = False, port: int = 0) -> tuple[Sock, Sock, Sock]:
        """(client, accepted server socket, listener): an established connection on the usual port."""
        listener = self.socket("server", ipv6=ipv6).bind().listen()
        client = self.socket("client", ipv6=ipv6)
        if port:
            client.bind(port)
        client.connect()
        return client, self.accept(listener), listener

    def accept(self, listener: Sock) -> Sock:
        return self.adopt(listener.accept())

    def adopt(self, sock: Sock) -> Sock:
        """Close this socket with the others at the end."""
        self._sockets.append(sock)
        return sock

    def forget(self, *sockets: Sock) -> None:
        """These are closed already: do not hold their descriptors' numbers."""
        self._sockets = [sock for sock in self._sockets if sock not in sockets]

    def raw(self, role: str, packet: bytes, target: str, *, whole: bool = False) -> None:
        """Send a forged IPv4 segment from a host; ``whole``: it brings its own IP header."""
        protocol = socket.IPPROTO_RAW if whole else socket.IPPROTO_TCP
        with self.network.namespaces[role].entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        with sender:
            sender.sendto(packet, (target, 0))
        self.note(f"{len(packet)} raw octets to {target}", role=role)

    def drop(self, rule: str) -> float:
        """The router drops what matches (nft syntax); returns when."""
        self.network.rule(f"{rule} drop")
        self.note(f"{rule} drop", call="nft")
        return now()

    def rule(self, rule: str) -> float:
        self.network.rule(rule)
        self.note(rule, call="nft")
        return now()

    def flush(self) -> float:
        self.network.flush()
        self.note("flush", call="nft")
        return now()

    def note(self, text: str, *, call: str = "note", role: str = "router") -> None:
        self.calls.add(role, "", call, text, now())

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def must_find(
        self,
        flow: Sock | str | None,
        label: str,
        endpoint: str,
        cause: str | None = None,
        *,
        level: str = "must",
        vantages: Sequence[str] = VANTAGES,
        otherwise: Sequence[str] = (),
    ) -> None:
        """What is to be found; ``otherwise``: other readings that the wire allows, one of which will do as well."""
        row = {"flow": self.flow(flow), "label": label, "endpoint": endpoint, "cause": cause}
        row |= {"level": level, "vantages": list(vantages)}
        self._must_find.append(row | ({"or": list(otherwise)} if otherwise else {}))

    def must_not_find(self, flow: Sock | str | None, label: str, why: str) -> None:
        self._must_not_find.append({"flow": self.flow(flow), "label": label, "why": why})

    def cannot_know(
        self,
        flow: Sock | str,
        endpoint: str,
        begin_s: float,
        end_s: float,
        why: str,
        *,
        vantages: Sequence[str] = VANTAGES,
    ) -> None:
        row = {"flow": self.flow(flow), "endpoint": endpoint, "t0": begin_s, "t1": end_s, "why": why}
        self._cannot_be_known.append(row | {"vantages": list(vantages)})

    @staticmethod
    def flow(sock: Sock | str | None) -> str | None:
        """The truth's name of a connection: client>server, whichever socket is given."""
        if sock is None or isinstance(sock, str):
            return sock
        assert sock.local is not None and sock.remote is not None, "the socket was never connected"
        client, server = (sock.local, sock.remote) if sock.role == "client" else (sock.remote, sock.local)
        return f"{name(client)}>{name(server)}"
