"""What time it is for a live observer: the packets' clock, carried on while none come.

The only place of the package that reads a clock.  The host's clock is asked for the time once, before the first packet;
from then on time is the latest packet's time stamp plus what a steady clock says has passed since it was read.  So a
pipe from a host whose clock is wrong is observed by that clock, and a clock that is set (NTP) moves time when the
packets' stamps move, never between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LATE_NS = 100_000_000
"""How late frames may reach us after frames that were stamped later: another interface's ring, the kernel's time-out of
a block (libpcap: 100 ms).  Timers are run up to this much before now, so that no frame comes to find them run early."""


class Clock:
    """Time as the packets have it.

    Parameters
    ----------
    steady, wall
        ns; replaced in tests.

    Examples
    --------
    >>> clock = Clock(steady=iter([5, 7, 9]).__next__, wall=lambda: 1_000)
    >>> clock.now_ns()
    1000
    >>> clock.packet(2_000); clock.now_ns()
    2002
    """

    def __init__(
        self, *, steady: Callable[[], int] = time.monotonic_ns, wall: Callable[[], int] = time.time_ns
    ) -> None:
        self._steady = steady
        self._wall = wall
        self._read_at = 0
        self._packet_ns: int | None = None

    def packet(self, time_ns: int) -> None:
        """Tell that the latest frame, stamped so, has just been read."""
        self._packet_ns = time_ns
        self._read_at = self._steady()

    def now_ns(self) -> int:
        """Give the time, ns since 1970 UTC."""
        if self._packet_ns is None:
            return self._wall()
        return self._packet_ns + self._steady() - self._read_at

    def settled_ns(self) -> int:
        """Give the time before which no frame is expected any more; never before the latest packet's."""
        return max(self.now_ns() - LATE_NS, self._packet_ns or 0)

    def steady_ns(self) -> int:
        """Give a time that only serves to measure what passes."""
        return self._steady()
