"""What causes, events, flags and labels are called when a connection's story is told.

Never here: what happened.  Sources: RFC 9293; POSIX for what socket calls return; names of tcp/states.py and
tcp/events.py, of which unknown ones are told by their names.
"""

from __future__ import annotations

import re
from typing import Final

from observer.outputs.text import duration
from observer.schema import MARKS

QUIET_EVENTS: Final = frozenset({
    "retransmission", "out_of_order", "duplicate_frame", "retraction", "lost_segment", "reset", "midstream",
    "half_closed",
})  # fmt: skip
"""Events that are told otherwise: by labels, flags or states."""

REPEATED_EVENTS: Final = frozenset({"keepalive_probe", "keepalive_answered", "window_probe"})
"""Events that come again and again: the first are told, the rest is folded."""

REPEATED_WORDS: Final = {"keepalive answered": ("answer", "answers")}
"""How they are counted, where their plural is not formed with s."""

LABELS_OF: Final = {
    "keepalive_probe": frozenset({"keep alive"}),
    "keepalive_answered": frozenset({"keep alive ack"}),
    "window_probe": frozenset({"keep alive", "zero window probe"}),
    "zero_window": frozenset({"zero window"}),
    "window_opened": frozenset({"window update"}),
}
"""Labels that an event says better."""

FOLDED: Final = {
    "retransmission": ("retransmission", "retransmissions"),
    "out_of_order": ("segment out of order", "segments out of order"),
    "duplicate_ack": ("duplicate ACK", "duplicate ACKs"),
    "zero_window": ("zero window", "zero windows"),
    "zero_window_probe": ("window probe", "window probes"),
    "keep_alive": ("keepalive", "keepalives"),
    "keep_alive_ack": ("answer to it", "answers to them"),
    "lost_segment": ("gap in the capture", "gaps in the capture"),
    "duplicate_frame": ("frame captured twice", "frames captured twice"),
}
"""Labels that are counted in a folded run: one and several."""

CONTRADICTIONS: Final = {
    "rcv_ack_of_syn": "had not taken the ACK",
    "rcv_synack": "had not taken the SYN-ACK",
    "rcv_fin": "had not received the FIN",
    "rcv_ack_of_fin": "had not received the ACK of its FIN",
    "rcv_rst": "did not accept the RST",
    "give_up": "had not given up",
    "expire": "had not forgotten it",
    "icmp": "did not give up for the ICMP error",
}
"""What the endpoint had not done, if the assumption of a cause was wrong."""

EVENT_WORDS: Final = {
    "syn_retransmitted": "the SYN again",
    "synack_retransmitted": "the SYN-ACK again",
    "synack_after_ack": "the SYN-ACK again although an ACK had passed",
    "fast_open": "Fast Open: data in the SYN",
    "simultaneous_open": "simultaneous open",
    "simultaneous_close": "simultaneous close",
    "deferred_accept": "the listener defers accept until data comes",
    "challenge_ack": "challenge ACK",
    "zero_window": "closes its window",
    "window_probe": "window probe",
    "keepalive_probe": "keepalive probe",
    "keepalive_answered": "keepalive answered",
    "reset_ignored": "RST that its receiver cannot accept",
    "reset_forged": "RST with another TTL than its sender's: forged?",
    "stateless_synack": "no request was kept for the SYN-ACK (SYN cookie)",
    "refused": "nobody listens there",
    "ecn": "ECN agreed",
    "new_incarnation": "new incarnation of the same addresses and ports",
    "time_wait_reused": "reuses a connection in TIME-WAIT",
}


UNREACHABLE: Final = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 9: "network prohibited", 10: "host prohibited", 13: "prohibited by a filter",
}  # fmt: skip
"""ICMP type 3 by code: RFC 792, RFC 1812 5.2.7.1."""
UNREACHABLE_V6: Final = {
    0: "no route", 1: "prohibited by a filter", 3: "address unreachable", 4: "port unreachable",
    5: "source prohibited", 6: "route rejected",
}  # fmt: skip
"""ICMPv6 type 1 by code: RFC 4443 3.1."""


def icmp_words(detail: str) -> str:
    """Say an ICMP error, given as "type 3 code 1 from 10.0.1.1".

    Examples
    --------
    >>> icmp_words("type 3 code 1 from 10.0.1.1")
    'ICMP host unreachable (type 3 code 1) from 10.0.1.1'
    """
    match = re.fullmatch(r"type (\d+) code (\d+) from (\S+)", detail)
    if not match:
        return f"ICMP error, {detail}"
    kind, code, reporter = int(match[1]), int(match[2]), match[3]
    if ":" in reporter:
        names = {2: "packet too big", 3: "hop limit exceeded", 1: UNREACHABLE_V6.get(code, "unreachable")}
    else:
        names = {11: "TTL exceeded", 3: UNREACHABLE.get(code, "unreachable")}
    return f"ICMP {names.get(kind, 'error')} (type {kind} code {code}) from {reporter}"


def event_words(name: str, detail: str) -> str:
    """Say an event."""
    if name == "icmp_error":
        return icmp_words(detail)
    if name == "window_opened":
        return "opens its window" + (f" after {duration(int(detail))}" if detail.isdecimal() else "")
    words = EVENT_WORDS.get(name, name.replace("_", " "))
    if name in ("new_incarnation", "time_wait_reused") and detail:
        words += f" (before: stream {detail})"
    return words


def cause_words(side: str, cause: str, before: str, after: str) -> str:
    """Say what a change of state means to the application of that side, "" if nothing."""
    if cause == "rcv_synack":
        return f"{side}: connect() returns"
    if cause == "rcv_ack_of_syn":
        return f"{side}: accept() can return" if after == "ESTABLISHED" else ""
    if cause == "rcv_ack_of_fin":
        return f"{side}: its FIN is acknowledged"
    if cause == "rcv_fin":
        return f"{side}: recv() returns 0"
    if cause == "rcv_rst":
        call = "connect() fails: ECONNREFUSED" if before == "SYN_SENT" else "recv() fails: ECONNRESET"
        quiet = before in ("LISTEN", "SYN_RECEIVED", "TIME_WAIT", "LAST_ACK", "CLOSING")
        return "" if quiet else f"{side}: {call}"
    if cause == "midstream":
        return f"{side}: taken for ESTABLISHED, the opening was not captured"
    if cause == "replaced":
        return f"{side}: a new incarnation takes its place"
    return ""


def timer_words(side: str, cause: str, before: str, is_timer: bool) -> str:
    """Say what happened without a segment of the connection."""
    if cause == "expire":
        return {
            "TIME_WAIT": f"{side}: TIME-WAIT is over (2 MSL)",
            "SYN_RECEIVED": f"{side}: drops the request, no word",
            "FIN_WAIT_2": f"{side}: FIN-WAIT-2 expires",
        }.get(before, f"{side}: timer")
    if cause == "give_up":
        return f"{side}: gives up, no answer"
    if cause == "icmp":
        return f"{side}: ICMP error ends it"
    if cause == "replaced":
        return f"{side}: a new connection replaces it"
    return f"{side}: {cause}" + (" (timer)" if is_timer else "")


def flag_words(flags: int, seq: int, ack: int, length: int, mss: int) -> str:
    """Say a segment: flags, relative numbers, length; PSH is left out, it moves no state."""
    names = [name for bit, name in ((2, "SYN"), (1, "FIN"), (4, "RST"), (16, "ACK"), (32, "URG")) if flags & bit]
    if not flags & 7 and not length and flags & 16:
        return f"ACK {ack}"
    words = [",".join(names) or "no flags", f"seq {seq}"]
    if names == ["ACK"]:
        words.pop(0)
    if flags & 16:
        words.append(f"ack {ack}")
    if length:
        words.append(f"len {length}")
    if mss >= 0 and flags & 2:
        words.append(f"mss {mss}")
    return " ".join(words)


def label_words(label: int) -> list[str]:
    """Say the labels, the more particular instead of the general ones."""
    names = [name for bit, name in MARKS.items() if label & bit]
    if "fast_retransmission" in names or "spurious_retransmission" in names:
        names = [name for name in names if name != "retransmission"]
    return [name.replace("_", " ") for name in names]
