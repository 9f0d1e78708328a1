"""Every state change of every TCP socket and every reset, from the kernel's tracepoints, in epoch nanoseconds.

sock:inet_sock_set_state tells the states; tcp:tcp_send_reset says why the kernel sent a RST (reasons since Linux 6.10)
and tcp:tcp_receive_reset that a socket accepted one. A RST that a router forged is in neither's ``sent``.
Reads the raw ring buffer (``trace_pipe_raw``), because only there the socket's address and IPv6 are complete. Request
sockets (SYN-RECEIVED) and TIME-WAIT sockets have no such tracepoint: see diag.py. Never touches the machine's main
trace buffer: it uses an instance of its own.

Sources: Documentation/trace/ftrace.rst, Documentation/trace/ring-buffer-map.rst, include/linux/ring_buffer.h.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .net import PREFIX

TRACEFS = Path("/sys/kernel/tracing")
STATE_EVENT, SENT_EVENT, ACCEPTED_EVENT = "sock/inet_sock_set_state", "tcp/tcp_send_reset", "tcp/tcp_receive_reset"
EVENTS = (STATE_EVENT, SENT_EVENT, ACCEPTED_EVENT)
# include/net/tcp_states.h
STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSED",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "SYN_RECV",
}
_PAGE_OCTETS = 4096
_AF_INET6 = 10


@dataclass(slots=True)
class Change:
    """One state change of one socket: ``local`` and ``remote`` are (address, port)."""

    time_ns: int
    socket: int
    old: str
    new: str
    local: tuple[str, int]
    remote: tuple[str, int]


@dataclass(slots=True)
class Reset:
    """A RST that the kernel sent (``kind`` sent, with its reason and the socket's state) or accepted from the peer."""

    time_ns: int
    kind: str
    reason: str
    state: str
    local: tuple[str, int]
    remote: tuple[str, int]


def mounted() -> bool:
    """Whether the tracepoint can be used; mounts tracefs where that is all that is missing."""
    if not (TRACEFS / "instances").is_dir() and TRACEFS.is_dir():
        subprocess.run(
            ["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], capture_output=True, check=False, timeout=10
        )
    return all((TRACEFS / "events" / event / "format").is_file() for event in EVENTS)


class Trace:
    """The tracepoints, recording from construction to ``stop``."""

    def __init__(self, *, events: Sequence[str] = EVENTS, buffer_kb: int = 8192) -> None:
        self._folder = TRACEFS / "instances" / f"{PREFIX}-{os.getpid()}"
        self._folder.mkdir()
        (self._folder / "trace_clock").write_text("mono")
        (self._folder / "buffer_size_kb").write_text(str(buffer_kb))
        self._kinds: dict[int, str] = {}
        self._layouts: dict[str, dict[str, tuple[int, int]]] = {}
        self._reasons: dict[int, str] = {}
        self._offset_ns = _realtime_minus_mono_ns()
        for event in events:
            text = (self._folder / "events" / event / "format").read_text()
            self._kinds[int(text.partition("ID:")[2].split()[0])] = event
            self._layouts[event] = _layout(text)
            if event == SENT_EVENT:
                reasons = text.partition("REC->reason")[2]
                self._reasons = {int(number): name for number, name in re.findall(r'\{ (\d+), "(\w+)" \}', reasons)}
            (self._folder / "events" / event / "enable").write_text("1")

    def stop(self) -> tuple[list[Change], list[Reset]]:
        """End the recording, remove the instance, and return what happened in time order."""
        changes: list[Change] = []
        resets: list[Reset] = []
        try:
            for event in self._layouts:
                (self._folder / "events" / event / "enable").write_text("0")
            # The clocks drift apart by microseconds at most in a scenario: the mean of both ends is good enough.
            offset_ns = (self._offset_ns + _realtime_minus_mono_ns()) // 2
            if lost := self._overrun():
                raise RuntimeError(
                    f"the kernel's trace buffer lost {lost} events: something else makes many connections"
                )
            for raw in self._folder.glob("per_cpu/cpu*/trace_pipe_raw"):
                for page in _pages(raw):
                    for at, data in _events(page):
                        event = self._kinds.get(int.from_bytes(data[:2], "little"))
                        if event == STATE_EVENT:
                            changes.append(self._change(at + offset_ns, data))
                        elif event is not None:
                            resets.append(self._reset(at + offset_ns, data, event))
        finally:
            self.discard()
        return sorted(changes, key=lambda one: one.time_ns), sorted(resets, key=lambda one: one.time_ns)

    def _overrun(self) -> int:
        """Events that were overwritten before anybody read them (the tracepoints tell of the whole machine)."""
        stats = (path.read_text() for path in self._folder.glob("per_cpu/cpu*/stats"))
        return sum(
            int(number) for text in stats for number in re.findall(r"^(?:overrun|dropped events): (\d+)", text, re.M)
        )

    def discard(self) -> None:
        """Remove the instance without reading it."""
        if self._folder.is_dir():
            self._folder.rmdir()

    def _number(self, event: str, name: str, data: bytes) -> int:
        offset, size = self._layouts[event].get(name, (0, 0))
        return int.from_bytes(data[offset : offset + size], "little")

    def _ends(self, event: str, data: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
        """(local, remote) of an event that holds addresses and ports in fields of their own."""
        v6 = "_v6" if self._number(event, "family", data) == _AF_INET6 else ""

        def address(name: str) -> str:
            offset, size = self._layouts[event][name + v6]
            return str(ip_address(data[offset : offset + size]))

        ports = self._number(event, "sport", data), self._number(event, "dport", data)
        return (address("saddr"), ports[0]), (address("daddr"), ports[1])

    def _change(self, time_ns: int, data: bytes) -> Change:
        old, new = (STATES[self._number(STATE_EVENT, name, data)] for name in ("oldstate", "newstate"))
        return Change(time_ns, self._number(STATE_EVENT, "skaddr", data), old, new, *self._ends(STATE_EVENT, data))

    def _reset(self, time_ns: int, data: bytes, event: str) -> Reset:
        if event == ACCEPTED_EVENT:
            return Reset(time_ns, "accepted", "", "", *self._ends(event, data))
        number = self._number(event, "reason", data)
        state = STATES.get(self._number(event, "state", data), "none")
        local, remote = (_sockaddr(data[self._layouts[event][name][0] :]) for name in ("saddr", "daddr"))
        return Reset(time_ns, "sent", self._reasons.get(number, str(number)), state, local, remote)


def _sockaddr(data: bytes) -> tuple[str, int]:
    """A struct sockaddr_in or sockaddr_in6 (netinet/in.h)."""
    family, port = struct.unpack_from("<H", data)[0], struct.unpack_from(">H", data, 2)[0]
    octets = data[8:24] if family == _AF_INET6 else data[4:8]
    return str(ip_address(octets)), port


def _layout(text: str) -> dict[str, tuple[int, int]]:
    found = re.findall(r"field:[^;]*?(\w+)(?:\[\d+\])?;\s*offset:(\d+);\s*size:(\d+);", text)
    return {name: (int(offset), int(size)) for name, offset, size in found}


def _pages(raw: Path) -> list[bytes]:
    pages = []
    fd = os.open(raw, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                page = os.read(fd, _PAGE_OCTETS)
            except BlockingIOError:
                return pages
            if not page:
                return pages
            pages.append(page)
    finally:
        os.close(fd)


def _events(page: bytes) -> list[tuple[int, bytes]]:
    """(time, payload) of each event of one ring buffer page (layout: include/linux/ring_buffer.h)."""
    at, commit = struct.unpack_from("<QQ", page)
    position, end = 16, 16 + (commit & 0xFFFFF)
    found = []
    while position + 4 <= min(end, len(page)):
        head = struct.unpack_from("<I", page, position)[0]
        kind, delta = head & 31, head >> 5
        word = struct.unpack_from("<I", page, position + 4)[0] if position + 8 <= len(page) else 0
        if kind == 29:  # padding: to the end of the page, or a discarded event
            if not delta:
                break
            position += 4 + word
            at += delta
            continue
        if kind == 30:  # the delta did not fit in 27 bits
            at += delta + (word << 27)
            position += 8
            continue
        if kind == 31:  # an absolute time stamp; its upper five bits are those of the page's
            at = (at & ~((1 << 59) - 1)) | (delta + (word << 27))
            position += 8
            continue
        at += delta
        start, size = (position + 8, word - 4) if kind == 0 else (position + 4, kind * 4)
        found.append((at, page[start : start + size]))
        position = start + size
    return found


def _realtime_minus_mono_ns() -> int:
    """Read between two readings of the other clock, best of five."""
    best = (1 << 62, 0)
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        best = min(best, (after - before, wall - (before + after) // 2))
    return best[1]
