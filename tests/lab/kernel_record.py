"""What the kernel's own record proves about connections: states over time, resets with reasons, results of calls.

For expected.py: ``allowed_by_kernel`` gives every finding that would be true, ``must_by_kernel`` what one tap must find
of a soak. Rows are (flow or None, codes of which any one will do, endpoint or None, why). Pure.

Sources: include/net/rstreason.h, net/ipv4/tcp.c (tcp_close, tcp_disconnect), CRITERIA.md.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from .call_record import expected_calls

Truth = Mapping[str, Any]
Row = tuple[str | None, tuple[str, ...], str | None, str]
PEER = {"client": "server", "server": "client"}

# A live socket ended the connection: SO_LINGER 0 (TCP_STATE and TCP_DISCONNECT_WITH_DATA: tcp_disconnect), unread data
# at close, data after close.
ABORTS = frozenset(
    ("TCP_STATE", "TCP_DISCONNECT_WITH_DATA", "TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_CLOSE", "TCP_ABORT_ON_DATA")
)
# Long enough to be worth a sentence, far shorter than any threshold: what is shorter cannot excuse a finding.
_HALF_S, _CLOSE_WAIT_S, _SYN_S = 0.5, 2.0, 2.5
_PILE, _STORM = 500, 20
_UNREACHABLE = frozenset(("EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "ENOPROTOOPT", "EACCES", "EPROTO"))
_CLOSING = {"FIN_WAIT1", "FIN_WAIT2", "CLOSING", "TIME_WAIT", "LAST_ACK"}
_ALIVE = ("ESTABLISHED", "CLOSE_WAIT")


def allowed_by_kernel(truth: Truth) -> list[Row]:
    """Every finding that the kernel's record proves true, whether or not a tap can know it."""
    return [*_by_states(truth), *_by_resets(truth), *_by_calls(truth), *_by_numbers(truth), *_by_counters(truth)]


def must_by_kernel(truth: Truth, vantage: str) -> list[Row]:
    """Each connection whose reset this tap has seen, by the first of them that it saw."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in truth["resets"]:
        if row["kind"] == "sent" and vantage in row["vantages"] and row["reason"] != "forged":
            first.setdefault(row["flow"], row)
    return [_must(flow, row, truth, vantage) for flow, row in first.items()]


def _must(flow: str, row: Mapping[str, Any], truth: Truth, vantage: str) -> Row:
    """What the first reset that a tap saw means: a host without the connection may have ended it before this tap."""
    role, why, ends = row["endpoint"], f"{row['endpoint']} sent RST: {row['reason']}", truth["states"][flow]
    if row["reason"] in ABORTS:
        if row["reason"] == "TCP_ABORT_ON_DATA" and _hidden(truth, flow, role, row["t"], vantage):
            # Its RST is bare, as that of a host without the connection; its FIN was lost before this tap.
            return flow, ("reset_on_close", "half_open"), None, why
        return flow, ("reset_on_close",), role, why
    before = {state for begin, _, state, _ in ends[role] if begin < row["t"]}
    peer = _state_at(ends[PEER[role]], row["t"])
    if peer == "SYN_SENT":
        return flow, ("refused",), role, why
    if "ESTABLISHED" in before and not before & _CLOSING and peer in _ALIVE:
        # Reset by close() or crashed: unseen here, or seen by nobody.
        return flow, ("half_open", "reset_on_close"), None, why
    return flow, ("reset_on_close", "half_open", "half_established_reset", "handshake_aborted"), None, why


def _hidden(truth: Truth, flow: str, role: str, time: float, vantage: str) -> bool:
    """Whether a tap cannot know what an endpoint was just before a moment."""
    return any(
        gap["flow"] == flow and gap["endpoint"] == role and vantage in gap["vantages"] and gap["t0"] < time <= gap["t1"]
        for gap in truth["cannot_be_known"]
    )


def _by_states(truth: Truth) -> Iterator[Row]:
    for flow, ends in truth.get("states", {}).items():
        client, server = _spans(ends["client"]), _spans(ends["server"])
        if _together(client, server, ("ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"), ("SYN_RECV",)) > _HALF_S:
            yield flow, ("half_established",), "server", "the kernel: client ESTABLISHED, server SYN_RECV"
        for role, own, peer in (("client", client, server), ("server", server, client)):
            lived = max((end for _, end, state in peer if state in _ALIVE), default=0.0)
            gone = [(begin, end, state) for begin, end, state in peer if state == "CLOSED" and 0 < lived <= begin]
            if _together(own, gone, _ALIVE, ("CLOSED",)) > _HALF_S:
                yield flow, ("half_open",), role, "the kernel: its peer was gone"
            if _longest(own, "CLOSE_WAIT") > _CLOSE_WAIT_S:
                yield flow, ("close_wait_leak",), role, "the kernel: long in CLOSE_WAIT"
            if _longest(own, "SYN_SENT") > _SYN_S:
                yield flow, ("syn_timeout", "syn_dropped"), None, "the kernel: long in SYN_SENT"
            if any(a[2] == "FIN_WAIT2" and b[2] == "CLOSED" for a, b in itertools.pairwise(own)):
                yield flow, ("fin_wait_2_expired",), role, "the kernel: FIN_WAIT2 ended in CLOSED"


def _spans(rows: list[list[Any]]) -> list[tuple[float, float, str]]:
    """The states of an endpoint; brackets between polls are left out."""
    return [(begin, end, state) for begin, end, state, *_ in rows if state != "UNKNOWN"]


def _together(
    ours: list[tuple[float, float, str]],
    theirs: list[tuple[float, float, str]],
    our_states: tuple[str, ...],
    their_states: tuple[str, ...],
) -> float:
    """For how long both endpoints were in these states at once, in seconds."""
    pairs = itertools.product(
        (span for span in ours if span[2] in our_states), (span for span in theirs if span[2] in their_states)
    )
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in pairs)


def _longest(spans: list[tuple[float, float, str]], state: str) -> float:
    return max((end - begin for begin, end, this in spans if this == state), default=0.0)


def _by_resets(truth: Truth) -> Iterator[Row]:
    states = truth.get("states", {})
    for row in truth.get("resets", ()):
        if row["kind"] != "sent":
            continue
        flow, role, reason = row["flow"], row["endpoint"], row["reason"]
        why = f"{role} sent RST: {reason}"
        if reason == "forged":
            yield flow, ("injected_reset",), role, why
        elif reason == "TCP_KEEPALIVE_TIMEOUT":
            yield flow, ("keepalive_timeout", "half_open"), role, why
        else:
            yield flow, ("reset_on_close",), role, why
            if reason not in ABORTS:
                yield from _without_socket(flow, role, row, states.get(flow), why)


def _without_socket(flow: str, role: str, row: Mapping[str, Any], ends: Any, why: str) -> Iterator[Row]:
    """A RST from a host that knew no such connection: what that proves depends on what its peer believed."""
    if ends is None:  # a healthy run has no states, and nobody there loses a connection
        yield flow, ("handshake_aborted",), None, why
        return
    peer = _state_at(ends[PEER[role]], row["t"])
    if peer == "SYN_SENT":
        yield flow, ("refused",), role, why
    elif peer == "SYN_RECV":
        yield flow, ("handshake_aborted", "half_open_reconnect"), None, why
    elif not any(state == "ESTABLISHED" for *_, state, _ in ends[role]):
        yield flow, ("accept_overflow_reset", "half_established_reset", "half_established"), role, why
    else:
        yield flow, ("half_open",), PEER[role], why
    if any(state == "FIN_WAIT2" for *_, state, _ in ends[role]):
        yield flow, ("fin_wait_2_expired",), role, why


def _state_at(rows: list[list[Any]], time: float) -> str:
    """The state just before a moment."""
    before = [state for begin, _, state, _ in rows if begin < time - 1e-5 and state != "UNKNOWN"]
    return before[-1] if before else "CLOSED"


def _by_calls(truth: Truth) -> Iterator[Row]:
    for call in expected_calls(truth):
        if call.outcome == "ETIMEDOUT" and call.call != "connect":
            codes = ("send_timeout", "keepalive_timeout", "half_open")
            yield call.flow, codes, call.endpoint, f"{call.call}() returned ETIMEDOUT"
            yield call.flow, ("half_open",), PEER[call.endpoint], f"{call.endpoint} gave up without a word"
        elif call.outcome in _UNREACHABLE and (call.outcome != "ECONNREFUSED" or call.call != "connect"):
            yield call.flow, ("icmp_unreachable",), call.endpoint, f"{call.call}() returned {call.outcome}"


def _by_numbers(truth: Truth) -> Iterator[Row]:
    """Populations that really were there: TIME-WAIT sockets at once, resets of one service."""
    holding: Counter[str] = Counter()
    for ends in truth.get("states", {}).values():
        holding.update(role for role, rows in ends.items() if any(row[2] == "TIME_WAIT" for row in rows))
    for step in truth.get("steps", ()):
        holding.update(step["time_wait"])
    for role, count in holding.items():
        if count >= _PILE:
            yield None, ("time_wait_pileup",), role, f"{count} sockets in TIME_WAIT"
    reset: dict[str, set[str]] = defaultdict(set)
    for row in truth.get("resets", ()):
        reset[row["flow"].rpartition(">")[2]].add(row["flow"])
    for service, flows in reset.items():
        if len(flows) >= _STORM:
            yield None, ("reset_storm",), None, f"{len(flows)} connections of {service} were reset"


def _by_counters(truth: Truth) -> Iterator[Row]:
    """What the hosts' own TCP counted in a step of a healthy run: zero windows that were really advertised."""
    for step in truth.get("steps", ()):
        for role, counted in step["counters"].items():
            if counted.get("TCPToZeroWindowAdv"):
                yield f"*:{step['port']}", ("zero_window",), role, f"{role} counted zero windows in '{step['name']}'"
