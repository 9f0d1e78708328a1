"""A delay line between pairs of TAP devices: ``delay.py SECONDS EVERY NS:IF NS:IF [...]``.

Creates each TAP device in its namespace, joins them two by two, and hands every frame on after SECONDS, in order.
Prints ``ready`` when the devices exist; ends, and takes the devices with it, when its standard input closes or on
SIGTERM. It never drops or changes a frame. Runs alone (no relative imports), so that the laboratory's own
work cannot delay it further.

Sources: linux/if_tun.h, Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import struct
import sys
import time

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP_NO_PI = 0x1002
_CLONE_NEWNET = 0x40000000
_FRAME_OCTETS = 65_600
_LARGE_OCTETS = 1000
_LATE_S = 0.003


def tap(namespace: str, interface: str) -> int:
    """Create a TAP device inside a named namespace and return its file descriptor."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(there, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    os.close(there)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TAP_NO_PI))
    return fd


def forward(delay_s: float, every: int, pairs: list[tuple[int, int]]) -> None:
    """Hand frames on until standard input closes."""
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    waiting: list[tuple[float, int, int, bytes]] = []  # a heap: due, arrival, where to, what
    arrivals = large = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([0, *other], [], [], timeout)
        now = time.monotonic()
        for fd in readable:
            if fd == 0:
                if not os.read(0, 64):
                    return
                continue
            try:
                while True:
                    frame = os.read(fd, _FRAME_OCTETS)
                    arrivals += 1
                    large += len(frame) > _LARGE_OCTETS
                    late = every and len(frame) > _LARGE_OCTETS and large % every == 0
                    due = now + delay_s + (_LATE_S if late else 0)
                    heapq.heappush(waiting, (due, arrivals, other[fd], frame))
            except OSError:
                pass  # nothing more to read (EAGAIN), or the device is down (EIO)
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, fd, frame = heapq.heappop(waiting)
            with contextlib.suppress(OSError):  # the device is down: the cable is pulled, the frame is lost
                os.write(fd, frame)


def main() -> None:
    ends = [tap(*end.split(":")) for end in sys.argv[3:]]
    print("ready", flush=True)
    forward(float(sys.argv[1]), int(sys.argv[2]), list(zip(ends[::2], ends[1::2], strict=True)))


if __name__ == "__main__":
    main()
