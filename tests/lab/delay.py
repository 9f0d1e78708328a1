"""A delay line between pairs of TAP devices: ``delay.py SECONDS NS:IF NS:IF [NS:IF NS:IF ...]``.

Creates each TAP device in its namespace, joins them two by two, and hands every frame on after SECONDS, in order.
Prints ``ready`` when the devices exist; ends, and takes the devices with it, when its standard input closes or on
SIGTERM. It never drops, changes or reorders a frame. Runs alone (no relative imports), so that the laboratory's own
work cannot delay it further.

Sources: linux/if_tun.h, Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP_NO_PI = 0x1002
_CLONE_NEWNET = 0x40000000
_FRAME_OCTETS = 65_600


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


def forward(delay_s: float, pairs: list[tuple[int, int]]) -> None:
    """Hand frames on until standard input closes. One delay for all: the queue is in time order by itself."""
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    waiting: deque[tuple[float, int, bytes]] = deque()
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
                    waiting.append((now + delay_s, other[fd], os.read(fd, _FRAME_OCTETS)))
            except OSError:
                pass  # nothing more to read (EAGAIN), or the device is down (EIO)
        while waiting and waiting[0][0] <= time.monotonic():
            _, fd, frame = waiting.popleft()
            with contextlib.suppress(OSError):  # the device is down: the cable is pulled, the frame is lost
                os.write(fd, frame)


def main() -> None:
    ends = [tap(*end.split(":")) for end in sys.argv[2:]]
    print("ready", flush=True)
    forward(float(sys.argv[1]), list(zip(ends[::2], ends[1::2], strict=True)))


if __name__ == "__main__":
    main()
