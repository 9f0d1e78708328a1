"""Resets in another's name: votes for an injected RST, never one bit.

Sources: RFC 5961 1.2; the votes of CRITERIA.md; TTL fingerprints measured behind a router that rejects.

Never here: what a genuine reset means (resets.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from observer.findings.case import Case, End, Note
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import MILLISECOND, SECOND
from observer.registry import Finding, Wake

FAR: Final = 3  # TTL that many off its endpoint's own: not the next router, a device with a TTL of its own
TOGETHER_NS: Final = 10 * MILLISECOND  # several RSTs with different numbers within this time: guessing
REORDERED_NS: Final = 3 * MILLISECOND  # frames overtake each other on their way to the tap by this much (Wireshark)
SURE: Final = 3  # votes for probable


def votes(case: Case, end: End, reset: Note) -> list[str]:
    """What speaks for a RST's not being its pretended sender's, in words; a heavy one stands twice."""
    found: list[str] = []
    for note in end.said("reset_forged"):
        if note.frame == reset.frame:
            words = f"its TTL is {abs(note.value)} {'above' if note.value > 0 else 'below'} the {end.name}'s own"
            found += [words] * (2 if abs(note.value) >= FAR else 1)
    if _went_on(end, reset, other_ttl=bool(found)) and not spoke_late(case, end, reset):
        found += [f"the {end.name} went on as if it had sent none"] * 2
    if not _echoes(end, reset):
        if "behind" in reset.facts:
            found.append(f"its number lies behind what the {end.name} had sent")
        others = [note for note in end.resets if note.number != reset.number and not _echoes(end, note)]
        if any(abs(note.time - reset.time) < TOGETHER_NS for note in others):
            found.append("several RSTs with different numbers came together")
    if "acceptable" not in reset.facts and case.other(end).before(reset.frame) == "SYN_SENT":
        # no stack answers a SYN so (RFC 9293 3.10.7.1)
        found.append("it does not acknowledge the SYN that it answers")
        if end.was("SYN_RECEIVED"):
            found.append(f"the {end.name} took that SYN afterwards")
    # a round trip that was measured before: something of it was acknowledged and proved by then
    known = any(0 < step.proof < reset.frame for step in end.steps)
    trip = case.flow[f"{end.name}_rtt_ns"] if known else 0
    if trip > MILLISECOND and 0 <= reset.gap < trip // 2 and "at_last_ack" in reset.facts:
        found.append(f"it came sooner after its cause than the {end.name} ever answered")
    return found


def spoke_late(case: Case, end: End, reset: Note) -> bool:
    """Whether a client that answered the only SYN-ACK with RST takes it all the same, but much later.

    A socket acknowledges a SYN-ACK at once (RFC 9293 3.10.7.3), so its host had none: a scanner has its own TCP.
    """
    if end.name != "client" or "from_socket" in reset.facts or reset.number != 1 or case.flow["synack_count"] != 1:
        return False
    taken = end.last("rcv_synack")
    return taken is not None and taken.time > reset.time + SECOND


def _went_on(end: End, reset: Note, *, other_ttl: bool) -> bool:
    """Whether the endpoint sent something behind the RST in its name, as no endpoint does that has reset.

    What comes a moment later may have been sent before; of a RST with another TTL no state was believed.
    """
    if any(step.cause == "snd_rst" and step.frame == reset.frame for step in end.withdrawn):
        return True
    last = max(note.time for note in end.resets)
    return other_ttl and end.last_time > last + REORDERED_NS


def _echoes(end: End, reset: Note) -> bool:
    """Whether a RST's number says nothing: without a connection, it is what each provoking segment acknowledged."""
    if "from_socket" in reset.facts:
        return False
    closed = any(step.cause == "snd_fin" and step.frame < reset.frame for step in end.steps)
    return closed or "at_last_ack" in reset.facts


def is_forged(case: Case, end: End, reset: Note) -> bool:
    """Whether a RST in an endpoint's name is suspected not to be its own."""
    if reset not in case.forged:  # several judges ask
        counted = votes(case, end, reset)
        told = any(note.frame == reset.frame for note in end.said("reset_forged"))
        case.forged[reset] = (told and bool(counted)) or len(counted) >= 2
    return case.forged[reset]


def injected_reset(case: Case) -> Iterator[Verdict]:
    """A RST that its pretended sender did not send."""
    for end in case.ends:
        suspects = [(reset, votes(case, end, reset)) for reset in end.resets if is_forged(case, end, reset)]
        for reset, counted in sorted(suspects, key=lambda pair: -len(pair[1])):
            sure = len(counted) >= SURE
            doubt = "was probably not" if sure else "may not have been"
            yield Verdict(
                grade="probable" if sure else "suspected",
                endpoint=end.name,
                cause="third_party",
                severity="problem" if sure else "warning",
                begin=reset.time,
                end=reset.time,
                frames=clean_frames(*(suspect.frame for suspect, _ in suspects[:8])),
                summary=f"The RST in the {end.name}'s name {doubt} its own: "
                + "; ".join(dict.fromkeys(counted)) + ".",
                unknown=case.around.caveat(
                    "who sent it; a host that answers without a connection may also use another TTL than its sockets"
                ),
            )  # fmt: skip
            return


INJECTED_RESET: Final = Finding(
    name="injected_reset",
    title="reset by a third party",
    definition="A RST whose TTL, numbers or timing do not fit the endpoint in whose name it comes, or after which that "
    "endpoint goes on: sent by a firewall, a middlebox or an attacker.",
    source="RFC 5961 1.2; RFC 3360; measured on Linux",
    severity="problem",
    remedy="Look at firewalls, intrusion prevention and traffic shapers on the path; the TTL tells how far "
    "away it sits.",
    causes={"third_party": "a firewall, middlebox or attacker sent it"},
    wakes=(Wake("reset_forged"), Wake("reset")),
    judge=injected_reset,
)
