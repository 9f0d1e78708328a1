"""Cables in a network namespace of their own, for tests of live capture; nothing of them is left behind.

Needs root and Linux: `missing()` says what is not there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from lab.net import setns
from reading import Got

from observer.segments import RECORD_STRIDE

NUMBERS = itertools.count()
PATIENCE_S = 30.0
"""How long something may take on a very busy machine that usually takes a moment."""


def missing() -> str:
    """What this machine lacks, as a sentence; empty where nothing is missing."""
    if sys.platform != "linux" or os.geteuid():
        return "live capture of virtual cables needs Linux and root"
    if not shutil.which("ip"):
        return "live capture of virtual cables needs the command ip"
    name = f"oblive-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, timeout=30)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=30)
    return "" if made.returncode == 0 else "network namespaces may not be created here"


class Cables:
    """A namespace in which the calling thread is, with veth pairs: what is sent into a0 comes out of b0."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True, timeout=30)

    def plug(self, number: int = 0) -> None:
        """Lay cable a<number> - b<number>."""
        self.ip("link", "add", f"a{number}", "type", "veth", "peer", "name", f"b{number}")
        for end in "ab":
            self.ip("link", "set", f"{end}{number}", "up")

    def send(self, frames: list[bytes], number: int = 0) -> None:
        """Send frames into a<number>, each taken by the kernel before the next."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((f"a{number}", 0))
            for frame in frames:
                raw.send(frame)


@contextmanager
def cables(*numbers: int) -> Iterator[Cables]:
    """A namespace with these cables; the calling thread is in it meanwhile."""
    if lacks := missing():
        pytest.skip(lacks)
    name = f"oblive-{os.getpid()}-{next(NUMBERS)}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, timeout=30)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY)
        setns(there)
        os.close(there)
        with suppress(OSError):  # the kernel's own neighbour discovery would be frames that nobody sent
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        found = Cables(name)
        for number in numbers:
            found.plug(number)
        yield found
    finally:
        setns(home)
        os.close(home)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=30)


def rows(chunk: Any) -> list[Got]:
    """The frames of a chunk; asserts that they lie inside it."""
    found = []
    for row in range(chunk.count):
        offset, captured, wire, time_ns, link, _ = (
            int(cell) for cell in chunk.records[row * RECORD_STRIDE : (row + 1) * RECORD_STRIDE]
        )
        assert 0 <= offset <= offset + captured <= chunk.size <= len(chunk.octets)
        found.append(Got(chunk.octets[offset : offset + captured].tobytes(), time_ns, wire, link))
    return found


def numbers(chunk: Any) -> list[int]:
    """The frame numbers of a chunk."""
    return [int(cell) for cell in chunk.records[RECORD_STRIDE - 1 : chunk.count * RECORD_STRIDE : RECORD_STRIDE]]


def gather(live: Any, count: int, *, each: Callable[[Any], None] = lambda _: None) -> list[Got]:
    """Poll until so many frames came, or until patience is at an end."""
    found: list[Got] = []
    end = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < end:
        chunk = live.poll(0.05)
        if chunk is not None:
            assert numbers(chunk) == list(range(len(found) + 1, len(found) + 1 + chunk.count))
            found += rows(chunk)
            each(chunk)
    assert live.frames == len(found)
    return found


def until(live: Any, kind: str) -> Any:
    """Poll until there is a notice of this kind; the last one."""
    end = time.monotonic() + PATIENCE_S
    told: list[Any] = []
    while time.monotonic() < end:
        live.poll(0.05)
        told += live.notices()
        if found := [notice for notice in told if notice.kind == kind]:
            return found[-1]
    raise AssertionError(f"no notice {kind!r}, only {told}")


def in_child(work: Callable[[], str], *, user: str | None = None) -> str:
    """What a function returns in a forked process, which may become another user first."""
    import pwd

    entry = pwd.getpwnam(user) if user else None
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                if entry is not None:
                    os.setgroups([])
                    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
                    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
                answer = work()
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(sending, answer.encode()[:60000])
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


def a_user() -> str:
    """The name of an unprivileged user that root can become; skips where there is none."""
    import pwd

    if os.geteuid():
        pytest.skip("only root can become another user")

    for name in ("nobody", "daemon"):
        try:
            if not pwd.getpwnam(name).pw_uid:
                continue
        except KeyError:
            continue
        if in_child(lambda: "changed", user=name) == "changed":
            return name
    pytest.skip("this process cannot become an unprivileged user")
