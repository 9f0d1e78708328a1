"""Every setting of an observation in one frozen object, each with unit, default and source.

Never reads the environment or a file: what a run did is told by its Options alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from observer.errors import OptionError

Stack = Literal["linux", "windows", "bsd", "rfc"]


@dataclass(frozen=True, kw_only=True)
class StackProfile:
    """Timers of a TCP implementation, as far as an observer needs them.  All in seconds.

    Attributes
    ----------
    time_wait_s
        How long TIME-WAIT lasts (2 MSL).
    syn_ack_first_s
        Time before the first repeat of an unanswered SYN-ACK; it doubles with every repeat.
    syn_ack_repeats
        Repeats before the request is dropped without a word.
    timer_slack
        How late a timer may fire, as a fraction (INFERENCE.md measured up to 0.06 on Linux's timer wheel).
    """

    time_wait_s: float
    syn_ack_first_s: float = 1.0
    syn_ack_repeats: int = 5
    timer_slack: float = 0.06


STACKS: dict[str, StackProfile] = {
    # Linux: TCP_TIMEWAIT_LEN 60 s, tcp_synack_retries 5, TCP_TIMEOUT_INIT 1 s (include/net/tcp.h)
    "linux": StackProfile(time_wait_s=60.0),
    # Windows: TcpTimedWaitDelay 120 s by default since Server 2008 documentation; SYN-ACK repeated twice from 3 s
    "windows": StackProfile(time_wait_s=120.0, syn_ack_first_s=3.0, syn_ack_repeats=2),
    # FreeBSD: net.inet.tcp.msl 30 s, so 2 MSL is 60 s; syncache SYNCACHE_MAXREXMTS 3, from 1 s
    "bsd": StackProfile(time_wait_s=60.0, syn_ack_repeats=3),
    # RFC 9293 3.4.2: MSL 2 min; RFC 6298: initial RTO 1 s
    "rfc": StackProfile(time_wait_s=240.0),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """All settings of an observation.

    Examples
    --------
    >>> Options(time_wait_s=120).profile().time_wait_s
    120
    >>> Options(stack="rfc").profile().time_wait_s
    240.0
    """

    stack: Stack = "linux"
    """Whose timers are assumed: a key of STACKS."""
    time_wait_s: float | None = None
    """Seconds in TIME-WAIT; None: the stack's."""
    ephemeral_ports: tuple[int, int] = (32768, 60999)
    """First and last port that clients take (net.ipv4.ip_local_port_range of Linux)."""
    verify_checksums: bool = False
    """Verify TCP checksums where the whole segment was captured (Zeek's history letter c).

    Off by default, as in Wireshark: it means reading every octet of payload, and offloading makes checksums wrong in
    good captures anyway.  Never a reason to leave a segment out."""
    zero_window_s: float = 0.2
    """Zero windows shorter than this are ordinary (INFERENCE.md)."""
    close_wait_s: float = 3.0
    """An application that has had end of file and neither sends nor closes for so long is reported (close_wait_leak);
    below 60 s, Linux's tcp_fin_timeout, as a suspicion only."""
    duplicate_frame_s: float = 0.0005
    """A frame repeated octet for octet within this time is a duplicate of the capture (two taps, SPAN port)."""
    max_fragments_octets: int = 16 << 20
    """Octets of IP fragments held at once while their datagrams are incomplete."""
    time_wait_pileup: int = 1000
    """Connections in TIME-WAIT at once, of one holder, from which on they are a pile-up (CRITERIA.md)."""
    time_wait_share: float = 0.2
    """Share of a client's ports towards one service in TIME-WAIT from which on they are a pile-up, and a warning.

    At a fifth a load five times as high runs out of ports."""
    time_wait_critical_share: float = 0.9
    """The same from which on it is a problem: Linux takes even ports first, then looks for the last free odd ones
    one by one (inet_hashtables.c, __inet_hash_connect), so connect() slows down before it fails."""
    syn_flood: int = 100
    """Half-finished openings of one listener at once from which on they are a flood (INFERENCE.md)."""
    pileup: int = 20
    """Connections of one service that stay in CLOSE-WAIT or FIN-WAIT-2 at once from which on they are a pile-up."""
    pileup_held_s: float = 0.2
    """Seconds from which on such a stay counts: applications close within milliseconds of the end of file."""
    pileup_surely_s: float = 10.0
    """Seconds in the median from which on a pile-up is more than suspected: no answer takes that long."""
    connection_leak: int = 20
    """Connections that one client opened to one service and never closed from which on it may leak them."""
    connection_leak_s: float = 10.0
    """Seconds of capture below which nothing is said about leaks: every pool begins by growing."""
    reset_storm: int = 50
    """Reset connections of one service from which on they are a storm."""
    reset_storm_share: float = 0.3
    """Share of a service's connections that end by reset from which on they are a storm."""
    accept_queue_calm_s: float = 10.0
    """Seconds without a victim that end an overflow of an accept queue: SYN-ACKs are repeated after 1, 3, 7 s."""
    without_rules: frozenset[str] = field(default_factory=frozenset)
    """Names of inference rules to switch off, for measuring what each gains (tcp/layout.py, RULES)."""

    def __post_init__(self) -> None:
        if self.stack not in STACKS:
            raise OptionError(f"stack {self.stack!r} is unknown; choose one of {', '.join(STACKS)}")
        if self.time_wait_s is not None and self.time_wait_s < 0:
            raise OptionError(f"time_wait_s is {self.time_wait_s}; it must be 0 or more seconds")
        for name in ("time_wait_pileup", "syn_flood", "pileup", "connection_leak", "reset_storm"):
            if getattr(self, name) < 2:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be 2 or more connections")
        for name in ("time_wait_share", "time_wait_critical_share", "reset_storm_share"):
            if not 0 < getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be a share above 0 and up to 1")
        for name in ("pileup_held_s", "pileup_surely_s", "connection_leak_s", "accept_queue_calm_s"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be 0 or more seconds")
        low, high = self.ephemeral_ports
        if not 0 < low <= high < 65536:
            raise OptionError(f"ephemeral_ports {self.ephemeral_ports} is no range of ports")

    def profile(self) -> StackProfile:
        """The stack's timers with the overrides of these options."""
        profile = STACKS[self.stack]
        if self.time_wait_s is None:
            return profile
        from dataclasses import replace

        return replace(profile, time_wait_s=self.time_wait_s)
