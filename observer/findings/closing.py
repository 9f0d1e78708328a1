"""Closes that never finish: CLOSE-WAIT that the application leaves lying, FIN-WAIT-2 that nobody ends.

Sources: RFC 9293 3.6; Linux net.ipv4.tcp_fin_timeout; half-closes are ordinary (RFC 9293 3.6, case 1).

Never here: resets (resets.py), pile-ups of many connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy

from observer.findings.case import Case, End, Step
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import SECOND, duration
from observer.options import Options
from observer.registry import Finding, Wake
from observer.schema import STATES

LONG_NS: Final = 60 * SECOND  # Linux net.ipv4.tcp_fin_timeout: the peer's patience, if it has closed both halves
SHORT_NS: Final = 2 * SECOND  # less than this in FIN-WAIT-2 is no expiry of any stack's default
_WAITING: Final = numpy.array([state in ("CLOSE_WAIT", "FIN_WAIT_2") for state in STATES])  # by code of a state


def _waits(flows: Mapping[str, Any], options: Options) -> Any:
    return _WAITING[flows["client_state"]] | _WAITING[flows["server_state"]]


def close_wait_leak(case: Case) -> Iterator[Verdict]:
    """End of file was delivered, and the application has not closed."""
    least = round(case.around.options.close_wait_s * SECOND)
    for end in case.ends:
        into = end.entered("CLOSE_WAIT")
        if into is None or into.certainty != "acknowledged" or case.may_have_closed(end):
            continue  # nothing shows that it got the FIN, or that it had not closed before
        left = _next(end, into)
        if left is not None and left.cause != "rcv_rst":
            continue  # it closed after all
        if left is None and any(note.time >= into.time for note in case.other(end).resets):
            continue  # its peer has reset the connection since, whether or not that arrived
        # as long as it goes on sending, the half-close is in use
        busy = max(into.time, end.last_time) if left is None else into.time
        idle = (left.time if left else case.around.end_ns) - busy
        if idle < least:
            continue
        told = f"The {case.other(end).name} closed, recv() of the {end.name} returned 0, and {duration(idle)} later "
        told += "it had not closed" if left is None else "it sent instead of closing, and drew a RST"
        yield Verdict(
            grade="probable" if idle >= LONG_NS or left is not None else "suspected",
            endpoint=end.name,
            cause="not_closed",
            begin=into.time,
            end=left.time if left else None,
            frames=clean_frames(into.frame, into.proof, left.frame if left else None),
            severity="problem" if idle >= LONG_NS else "warning",
            summary=f"{told}.",
            unknown=case.around.caveat(
                "a half-close that will still be used looks the same" if left is None else "",
                "" if left is not None else "the capture ends",
            ),
        )


def _next(end: End, step: Step) -> Step | None:
    """The step behind a step."""
    at = end.steps.index(step) + 1
    return end.steps[at] if at < len(end.steps) else None


CLOSE_WAIT_LEAK: Final = Finding(
    name="close_wait_leak",
    title="CLOSE-WAIT left lying",
    definition="The peer closed, the application got end of file, and did not close for longer than "
    "Options.close_wait_s while it sent nothing: a file descriptor that leaks if it stays so.",
    source="RFC 9293 3.6 and 3.10.4; measured on Linux",
    severity="warning",
    remedy="Close the socket when recv() returns 0; look for a code path that forgets it (`ss -tnp state close-wait`).",
    causes={"not_closed": "the application does not close after end of file"},
    wakes=(Wake("reset"),),
    wakes_flows=_waits,
    judge=close_wait_leak,
)


def fin_wait_2_expired(case: Case) -> Iterator[Verdict]:
    """The peer never closes its half, and the closer's patience ended."""
    for end in case.ends:
        into = end.entered("FIN_WAIT_2")
        if into is None or case.may_have_closed(case.other(end)):
            continue
        left = _next(end, into)
        bare = [note for note in end.resets if "from_socket" not in note.facts and note.time > into.time]
        if left is not None and left.cause not in ("expire", "snd_rst"):
            continue
        until = bare[0].time if bare else left.time if left else case.around.end_ns
        held = until - into.time
        if held < (SHORT_NS if bare else LONG_NS):
            continue
        sure = bool(bare) and held >= LONG_NS
        yield Verdict(
            grade="probable" if sure else "suspected",
            endpoint=end.name,
            cause="peer_keeps_open",
            begin=into.time,
            end=bare[0].time if bare else None,
            frames=clean_frames(into.frame, bare[0].frame if bare else None),
            severity="warning" if sure else "info",
            summary=f"The {end.name} had closed and waited {duration(held)} in FIN-WAIT-2 for the "
            f"{case.other(end).name}'s FIN"
            + (
                ", then knew nothing of the connection any more."
                if bare
                else "; after close() its kernel has forgotten the connection by now."
            ),
            unknown=case.around.caveat(
                "close() expires silently (Linux: 60 s unless tcp_fin_timeout says otherwise), shutdown() never does",
            ),
        )


FIN_WAIT_2_EXPIRED: Final = Finding(
    name="fin_wait_2_expired",
    title="FIN-WAIT-2 expired",
    definition="An endpoint closed, its peer acknowledged that and never closed its own half; after close() the kernel "
    "forgets such a connection without a word.",
    source="Linux net.ipv4.tcp_fin_timeout; RFC 9293 3.6",
    severity="info",
    remedy="Cure the peer that does not close (close_wait_leak).",
    causes={"peer_keeps_open": "the peer does not close its half"},
    wakes=(Wake("reset"),),
    wakes_flows=_waits,
    judge=fin_wait_2_expired,
)
