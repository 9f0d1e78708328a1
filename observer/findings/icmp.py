"""ICMP errors that quote a connection's segments: fatal to a SYN, a hint to an established connection.

Sources: RFC 1122 4.2.3.9; RFC 5461; RFC 792; RFC 4443 3.1; IANA's ICMP parameters.

Never here: what TCP itself answers (opening.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from observer.findings.case import Case
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import times
from observer.registry import Finding, Wake

# IANA ICMP parameters; RFC 792, RFC 4443 (type 1), errno as in Linux's icmp_err_convert.
_UNREACHABLE: Final = {
    (3, 0): "network", (3, 1): "host", (3, 2): "protocol", (3, 3): "port", (3, 5): "source_route", (3, 6): "network",
    (3, 7): "host", (3, 8): "host", (3, 9): "prohibited", (3, 10): "prohibited", (3, 11): "network", (3, 12): "host",
    (3, 13): "prohibited", (3, 14): "prohibited", (3, 15): "prohibited", (11, 0): "ttl_exceeded",
}  # fmt: skip
_UNREACHABLE_6: Final = {
    (1, 0): "network", (1, 1): "prohibited", (1, 2): "host", (1, 3): "host", (1, 4): "port", (1, 5): "prohibited",
    (1, 6): "network", (3, 0): "ttl_exceeded",
}  # fmt: skip


def icmp_unreachable(case: Case) -> Iterator[Verdict]:
    """ICMP errors that quote the connection's segments."""
    known = _UNREACHABLE if case.flow["version"] == 4 else _UNREACHABLE_6
    told = [(note, known[kind]) for note in case.said("icmp_error") if (kind := divmod(note.value, 256)) in known]
    if not told:
        return
    first, cause = told[0]
    sender = case.end(first.endpoint)
    opening = sender.before(first.frame) == "SYN_SENT"
    failed = sender.last("icmp") is not None
    if opening:
        summary = f"ICMP said {cause} unreachable to the SYN" if cause != "ttl_exceeded" else "the SYN ran in circles"
        summary += ": connect() failed." if failed else "; the client went on all the same."
    else:
        summary = (
            f"ICMP said {cause.replace('_', ' ')} to an established connection {times(len(told))}; TCP goes on "
            "retransmitting, and reports the error only when it gives up."
        )
    yield Verdict(
        grade="confirmed",
        endpoint=first.endpoint,
        cause=cause,
        begin=first.time,
        end=told[-1][0].time if failed or sender.last_time > told[-1][0].time else None,
        frames=clean_frames(*(note.frame for note, _ in told[:8])),
        severity="problem" if failed or not opening else "warning",
        summary=summary,
        unknown=case.around.caveat(
            "whether the error is genuine: ICMP errors can be forged (the event names its sender)"
        ),
    )


ICMP_UNREACHABLE: Final = Finding(
    name="icmp_unreachable",
    title="ICMP says unreachable",
    definition="An ICMP error quotes a segment of the connection. To a SYN it is fatal (EHOSTUNREACH, ECONNREFUSED…); "
    "an established connection takes it as a hint only.",
    source="RFC 1122 4.2.3.9; RFC 5461; RFC 792; RFC 4443 3.1",
    severity="problem",
    remedy="Ask whoever sent the error (the events name it): a missing route, a host that is down, or a firewall.",
    causes={
        "network": "no route to the network",
        "host": "the host does not answer on its link",
        "protocol": "the host does not speak TCP",
        "port": "nobody listens there, or a firewall says so",
        "prohibited": "a firewall forbids it",
        "source_route": "a source route failed",
        "ttl_exceeded": "the packet ran in circles, or its TTL is too small",
    },
    wakes=(Wake("icmp_error"),),
    judge=icmp_unreachable,
)
