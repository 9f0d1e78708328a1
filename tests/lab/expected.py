"""What an observer must, may and must not say about a truth file, and what the applications' calls returned.

``expected_calls(truth)`` and ``expected_findings(truth, vantage)`` read the truth of this laboratory, of its soaks and
healthy runs, and the kernel-truth files (whose words are mapped). ``judge`` compares findings with it. Pure: no file is
read, and nothing depends on the observer.

What must be found is what the scenario says, or in a soak what the kernel's record proves and the tap has seen. What is
allowed beyond that is true by the kernel's record: states, resets with their reasons, results of calls. All else is a
false alarm.

Sources: CRITERIA.md (definitions), include/net/rstreason.h (the kernel's reasons).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .call_record import Call, expected_calls
from .kernel_record import allowed_by_kernel, must_by_kernel

__all__ = ["Call", "Expectation", "Expected", "Judgement", "expected_calls", "expected_findings", "judge"]

Truth = Mapping[str, Any]

# The words of kernel-truth files -> the project's codes and event names.
CODES = {
    "data_timeout": "send_timeout",
    "rst_close": "reset_on_close",
    "accept_queue_reset": "accept_overflow_reset",
    "handshake_abort": "handshake_aborted",
    "fin_wait2_expired": "fin_wait_2_expired",
    "middlebox_reset": "injected_reset",
    "half_close": "half_closed",
    "keepalive": "keepalive_answered",
    "reordering": "out_of_order",
    "time_wait_reuse": "time_wait_reused",
    "defer_accept": "deferred_accept",
    "zero_window_recovered": "window_opened",
}
# Ordinary life: names of events, or (graceful_close) a connection that ended by FIN.
ORDINARY = {"graceful_close", "half_closed", "simultaneous_open", "simultaneous_close", "fast_open", "ecn"} | {
    *("retransmission", "keepalive_answered", "out_of_order", "time_wait_reused", "deferred_accept", "window_opened")
}
# What was done -> the causes that a finding may name for it. Sockets closed with SO_LINGER 0 and closed with unread
# data look alike on the wire (CRITERIA.md); kernel-truth files have words of their own.
CAUSES = {
    **dict.fromkeys(("linger0", "linger_0", "unread_data"), frozenset(("linger_0", "unread_data"))),
    "accept_queue_full": frozenset(("accept_queue_full", "abort_on_overflow")),
    "client_crashed": frozenset(("peer_restarted",)),
    "data_after_close": frozenset(("data_after_close", "after_close")),
    "listener_closed": frozenset(("listener_closed", "process_gone")),
}


# From three connections on that a full accept queue kept out, the listener itself must be named.
VICTIM_CODES, FULL, MANY_VICTIMS = (
    {"half_established", "accept_overflow_reset", "syn_dropped"},
    frozenset({"accept_queue_full"}),
    3,
)


@dataclass(slots=True, frozen=True)
class Expectation:
    """Any one of ``codes`` for a connection (``flow`` None: a population; ``*:80``: all to that port). Empty endpoints
    and causes: any.
    """

    flow: str | None
    codes: frozenset[str]
    endpoints: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()
    why: str = ""

    def fits(self, finding: Mapping[str, Any], *, cause: bool = False) -> bool:
        """Whether a finding is what is expected; with ``cause`` it must name the right one too."""
        return (
            finding["code"] in self.codes
            and _same_flow(self.flow, finding["flow"])
            and (not self.endpoints or finding["endpoint"] in self.endpoints)
            and (not cause or not self.causes or finding["cause"] in self.causes)
        )


def _same_flow(expected: str | None, found: str | None) -> bool:
    """``*:80`` stands for every connection to that port."""
    if expected is None or found is None or not expected.startswith("*"):
        return expected == found
    return found.endswith(expected[1:])


@dataclass(slots=True)
class Expected:
    """What a tap's findings and events are held against."""

    must: list[Expectation] = field(default_factory=list)
    must_not: list[Expectation] = field(default_factory=list)
    allowed: list[Expectation] = field(default_factory=list)
    events: list[Expectation] = field(default_factory=list)


@dataclass(slots=True)
class Judgement:
    """``missing``: not found, or not at this endpoint. ``wrong_cause``: found, with another cause. The rest: indices of
    findings that are right, forbidden, or explained by nothing.
    """

    missing: list[Expectation]
    wrong_cause: list[Expectation]
    right: list[int]
    forbidden: list[int]
    unexplained: list[int]


def expected_findings(truth: Truth, vantage: str) -> Expected:
    """What must, may and must not be found in the capture of one tap (client, middle, server)."""
    found = Expected()
    for row in truth.get("must_find", ()):
        one = _expectation(row)
        if one.codes & ORDINARY:
            if row["level"] == "must" and vantage in row["vantages"]:
                found.events.append(one)
        elif row["level"] == "must" and vantage in row["vantages"]:
            found.must.append(one)
        else:
            found.allowed.append(one)
    victims = {
        one.flow
        for one in [*found.must, *found.allowed]
        if one.codes <= VICTIM_CODES and one.causes == CAUSES["accept_queue_full"]
    }
    if victims:
        why = f"{len(victims)} victims of a full accept queue"
        overflow = Expectation(
            None, frozenset({"accept_queue_overflow"}), frozenset({"server"}), frozenset({"accept_queue_full"}), why
        )
        (found.must if len(victims) >= MANY_VICTIMS else found.allowed).append(overflow)
    found.must_not += [_expectation(row) for row in truth.get("must_not_find", ())]
    found.allowed += [_kernel(row) for row in allowed_by_kernel(truth)]
    if truth.get("must_from_kernel"):
        found.must += [_kernel(row) for row in must_by_kernel(truth, vantage)]
    return found


def _expectation(row: Mapping[str, Any]) -> Expectation:
    endpoint, cause = row.get("endpoint"), row.get("cause")
    if row["label"] in ("accept_queue_reset", "accept_overflow_reset") and not cause:
        cause = "accept_queue_full"
    causes = CAUSES.get(cause, frozenset({cause})) if cause else frozenset()
    return Expectation(
        row["flow"],
        frozenset(CODES.get(label, label) for label in (row["label"], *row.get("or", ()))),
        frozenset({endpoint} if endpoint in ("client", "server") else ()),
        causes,
        row.get("why") or "the scenario says so",
    )


def _kernel(row: tuple[str | None, tuple[str, ...], str | None, str]) -> Expectation:
    flow, codes, endpoint, why = row
    return Expectation(flow, frozenset(codes), frozenset({endpoint} if endpoint else ()), why=why)


def judge(expected: Expected, findings: Iterable[Mapping[str, Any]]) -> Judgement:
    """Hold findings (mappings with code, flow (None: a population), endpoint, cause) against what is expected.

    Give only findings whose severity counts: what is ``info`` is no alarm, but may be what must be found.
    """
    rows = list(findings)
    missing = [one for one in expected.must if not any(one.fits(row) for row in rows)]
    right_code = (one for one in expected.must if one not in missing)
    wrong = [one for one in right_code if not any(one.fits(row, cause=True) for row in rows)]
    sorted_out: dict[str, list[int]] = {"right": [], "forbidden": [], "unexplained": []}
    for index, row in enumerate(rows):
        if any(one.fits(row) for one in expected.must):
            kind = "right"
        elif any(one.fits(row) for one in expected.must_not):
            kind = "forbidden"
        else:
            kind = "right" if any(one.fits(row) for one in expected.allowed) else "unexplained"
        sorted_out[kind].append(index)
    return Judgement(missing, wrong, **sorted_out)
