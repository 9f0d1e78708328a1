"""Every state change of every TCP socket, from the kernel's tracepoint sock:inet_sock_set_state, in epoch nanoseconds.

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
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .net import PREFIX

TRACEFS = Path("/sys/kernel/tracing")
EVENT = "events/sock/inet_sock_set_state"
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


def mounted() -> bool:
    """Whether the tracepoint can be used; mounts tracefs where that is all that is missing."""
    if not (TRACEFS / "instances").is_dir() and TRACEFS.is_dir():
        subprocess.run(
            ["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], capture_output=True, check=False, timeout=10
        )
    return (TRACEFS / EVENT / "format").is_file()


class Trace:
    """The tracepoint, recording from construction to ``stop``."""

    def __init__(self) -> None:
        self._folder = TRACEFS / "instances" / f"{PREFIX}-{os.getpid()}"
        self._folder.mkdir()
        (self._folder / "trace_clock").write_text("mono")
        (self._folder / "buffer_size_kb").write_text("2048")
        self._layout = _layout((self._folder / EVENT / "format").read_text())
        self._offset_ns = _realtime_minus_mono_ns()
        (self._folder / EVENT / "enable").write_text("1")

    def stop(self) -> list[Change]:
        """End the recording, remove the instance, and return the changes in time order."""
        changes: list[Change] = []
        try:
            (self._folder / EVENT / "enable").write_text("0")
            # The clocks drift apart by microseconds at most in a scenario: the mean of both ends is good enough.
            offset_ns = (self._offset_ns + _realtime_minus_mono_ns()) // 2
            for raw in self._folder.glob("per_cpu/cpu*/trace_pipe_raw"):
                for page in _pages(raw):
                    changes += [self._change(at + offset_ns, data) for at, data in _events(page)]
        finally:
            self.discard()
        return sorted(changes, key=lambda change: change.time_ns)

    def discard(self) -> None:
        """Remove the instance without reading it."""
        if self._folder.is_dir():
            self._folder.rmdir()

    def _change(self, time_ns: int, data: bytes) -> Change:
        def number(name: str) -> int:
            offset, size = self._layout[name]
            return int.from_bytes(data[offset : offset + size], "little")

        def address(name: str) -> str:
            offset, size = self._layout[name + "_v6" if number("family") == _AF_INET6 else name]
            return str(ip_address(data[offset : offset + size]))

        return Change(
            time_ns,
            number("skaddr"),
            STATES[number("oldstate")],
            STATES[number("newstate")],
            (address("saddr"), number("sport")),
            (address("daddr"), number("dport")),
        )


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
