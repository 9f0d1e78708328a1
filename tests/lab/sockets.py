"""Sockets that live in a namespace and record every call: begin, end, result or errno.

A socket belongs to the namespace in which it was made, whoever uses it later; so one process holds both endpoints,
and a thread is needed only where two calls must wait at once (``together``). All calls block, bounded by SO_RCVTIMEO
and SO_SNDTIMEO. Never raises for what TCP does to a call (refused, reset, timed out): that is the result, and it is
recorded.

Sources: socket(7), tcp(7), linux/tcp.h.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from .net import Network

PORT = 5001
PATIENCE_S = 40.0  # longer than any wait of a scenario; only a bug reaches it
TCP_REPAIR = 19  # linux/tcp.h: a socket in repair mode vanishes without a word when closed
TCP_DEFER_ACCEPT = 9
TCP_USER_TIMEOUT = 18
TCP_FASTOPEN = 23

Call = dict[str, Any]


def now() -> float:
    """Seconds since the epoch, the captures' clock."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Calls:
    """The record of one scenario, in order of the calls' ends."""

    def __init__(self) -> None:
        self.rows: list[Call] = []
        self._numbers = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        with self._lock:
            self._numbers += 1
            return self._numbers

    def add(self, role: str, sid: str, call: str, args: str, begin: float, **more: Any) -> None:
        row = {"t0": begin, "t1": now(), "role": role, "sid": sid, "call": call, "args": args}
        row |= {"ret": None, "err": None, "local": None, "remote": None} | more
        with self._lock:
            self.rows.append(row)


class Sock:
    """One recorded TCP socket. Calls return their result, or None where they failed (see ``error``)."""

    def __init__(self, calls: Calls, network: Network, role: str, raw: socket.socket) -> None:
        self.role = role
        self._network = network
        self.raw = raw
        self.error: str | None = None
        self._calls = calls
        self.sid = f"{role[0]}{calls.number()}"
        self.local: tuple[str, int] | None = None
        self.remote: tuple[str, int] | None = None
        self.patience(PATIENCE_S)

    def patience(self, seconds: float) -> None:
        """No call waits longer than this (not recorded: it is the laboratory's own care)."""
        value = struct.pack("ll", int(seconds), 0)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    @classmethod
    def make(cls, calls: Calls, network: Network, role: str, *, ipv6: bool = False) -> Sock:
        """A new socket inside the namespace of ``role``."""
        with network.namespaces[role].entered():
            raw = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        return cls(calls, network, role, raw)

    def _do(self, call: str, args: str, work: Callable[[], Any], show: Callable[[Any], Any] = lambda _: None) -> Any:
        begin = now()
        result, self.error = None, None
        try:
            result = work()
        except OSError as problem:
            self.error = errno.errorcode.get(problem.errno or 0, str(problem))
        self._names()
        shown = None if self.error else show(result)
        self._calls.add(
            self.role, self.sid, call, args, begin, ret=shown, err=self.error, local=self.local, remote=self.remote
        )
        return result

    def _names(self) -> None:
        for name, ask in (("local", self.raw.getsockname), ("remote", self.raw.getpeername)):
            try:
                address = ask()
            except OSError:
                continue
            if address[1]:
                setattr(self, name, (address[0], address[1]))

    def _address(self, role: str) -> str:
        return self._network.addresses[role][self.raw.family == socket.AF_INET6]

    def bind(self, port: int = PORT, *, reuse: bool = True) -> Sock:
        if reuse:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = self._address(self.role)
        self._do("bind", str(port), lambda: self.raw.bind((address, port)))
        return self

    def listen(self, backlog: int = 128) -> Sock:
        self._do("listen", str(backlog), lambda: self.raw.listen(backlog))
        return self

    def connect(self, port: int = PORT) -> Sock:
        """Connect to the other role's host; afterwards ``error`` tells how it went."""
        other = "server" if self.role == "client" else "client"
        address = self._address(other)
        self.remote = (address, port)
        self._do("connect", name(self.remote), lambda: self.raw.connect((address, port)))
        return self

    def send_on_connect(self, data: bytes, port: int = PORT) -> Sock:
        """sendto(MSG_FASTOPEN): connect and send in one call (RFC 7413)."""
        address = self._address("server")
        self.remote = (address, port)
        self._do(
            "sendto(MSG_FASTOPEN)",
            f"{len(data)} bytes",
            lambda: self.raw.sendto(data, socket.MSG_FASTOPEN, (address, port)),
            lambda sent: sent,
        )
        return self

    def accept(self) -> Sock:
        """Wait for a connection; raises where none comes, because every scenario needs it."""
        pair = self._do("accept", "", self.raw.accept, lambda _: "ok")
        if pair is None:
            raise RuntimeError(f"accept failed: {self.error}")
        child = Sock(self._calls, self._network, self.role, pair[0])
        child._names()
        self._calls.add(
            self.role, child.sid, "accepted", self.sid, now(), ret="ok", local=child.local, remote=child.remote
        )
        return child

    def send(self, data: bytes | str) -> int | None:
        octets = data.encode() if isinstance(data, str) else data
        sent: int | None = self._do("send", f"{len(octets)} bytes", lambda: self.raw.send(octets), lambda count: count)
        return sent

    def sendall(self, data: bytes) -> None:
        self._do("sendall", str(len(data)), lambda: self.raw.sendall(data))

    def recv(self, size: int = 65536) -> bytes | None:
        data: bytes | None = self._do(
            "recv", "", lambda: self.raw.recv(size), lambda data: f"{len(data)} bytes" if data else "EOF"
        )
        return data

    def read_to_end(self) -> int:
        """Read until end of file or an error; recorded as one call."""

        def work() -> int:
            total = 0
            while data := self.raw.recv(1 << 18):
                total += len(data)
            return total

        return self._do("recv until EOF", "", work, lambda total: f"{total} bytes, EOF") or 0

    def shutdown(self) -> None:
        self._do("shutdown", "SHUT_WR", lambda: self.raw.shutdown(socket.SHUT_WR))

    def setsockopt(self, level: int, option: int, value: int | bytes) -> Sock:
        shown = value if isinstance(value, int) else value.hex()
        self._do("setsockopt", f"{level},{option},{shown}", lambda: self.raw.setsockopt(level, option, value))
        return self

    def tcp(self, option: int, value: int) -> Sock:
        return self.setsockopt(socket.IPPROTO_TCP, option, value)

    def linger0(self) -> Sock:
        """close() will reset the connection from now on."""
        return self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def keepalive(self, *, idle_s: int, interval_s: int, count: int) -> Sock:
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.tcp(socket.TCP_KEEPIDLE, idle_s)
        self.tcp(socket.TCP_KEEPINTVL, interval_s)
        return self.tcp(socket.TCP_KEEPCNT, count)

    def send_timeout(self, seconds: float) -> Sock:
        """A send that blocks longer fails with EAGAIN."""
        value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        return self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def close(self) -> None:
        self._do("close", "", self.raw.close)

    def crash(self) -> None:
        """The host loses the connection without a word, as in a power failure."""
        self.tcp(TCP_REPAIR, 1)
        self._calls.add(self.role, self.sid, "crash(TCP_REPAIR)", "", now(), local=self.local, remote=self.remote)
        self.close()

    def kill(self) -> None:
        """A process that holds this socket, and nothing else of the laboratory, is killed by SIGKILL."""
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        self.raw.close()
        self._calls.add(
            self.role, self.sid, "note", "its process is killed", now(), local=self.local, remote=self.remote
        )
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def name(address: tuple[str, int]) -> str:
    """``10.0.1.2:40000`` or ``[2001:db8:1::2]:40000``."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run callables at the same moment, each in a thread, and wait for all; the first failure is raised."""
    start = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)
    failures: list[BaseException] = []

    def one(index: int) -> None:
        start.wait()
        try:
            results[index] = work[index]()
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S + 5)
    if failures:
        raise failures[0]
    return results
