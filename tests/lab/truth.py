"""Tracepoint, polls and frames -> what the kernel's state of each endpoint was, and where a tap cannot know it.

The tracepoint is exact while a full socket lives. Before and after it (SYN-RECEIVED, TIME-WAIT, FIN-WAIT-2 of a closed
socket) the polls decide, with UNKNOWN for the bracket between two polls. It never uses what the wire suggests, except
that a FIN-WAIT-2 cannot have ended before the peer sent its FIN (the peer's LAST-ACK, from the tracepoint).

The form is that of the kernel-truth files: times are epoch seconds, names are the kernel's.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from .frames import FIN, RST, SYN, Frame
from .sockets import name
from .trace import Change, Reset

# States that the tracepoint does not show, so that a poll may add them.
_POLLED = ("SYN_RECV", "FIN_WAIT2", "TIME_WAIT")
# States that the next acknowledgment ends; UNKNOWN: between two polls.
_WAITING = ("SYN_RECV", "FIN_WAIT1", "CLOSING", "LAST_ACK", "UNKNOWN")
# States that only a RST or an ICMP error turns into CLOSED on the wire: a crash or giving up passes no tap.
_MORTAL = ("SYN_SENT", "ESTABLISHED", "CLOSE_WAIT")
# A transition is silent when nothing passes the endpoint's own tap this near to it (timers run up to a jiffy late).
_SILENT_NS = 20_000_000
# A RST passes the taps within this and the path's delay (a busy machine included).
_SEEN_NS = 10_000_000

Flow = tuple[tuple[str, int], tuple[str, int]]


@dataclass(slots=True)
class Span:
    """A stretch of one endpoint's life in one state."""

    begin_ns: int
    end_ns: int
    state: str
    source: str

    def row(self) -> list[Any]:
        return [round(self.begin_ns / 1e9, 6), round(self.end_ns / 1e9, 6), self.state, self.source]


@dataclass(slots=True)
class Poll:
    """A poll that found a change: the state was still the old one at ``previous_ns`` and the new one at ``end_ns``."""

    previous_ns: int
    end_ns: int
    state: str


def flow_name(flow: Flow) -> str:
    return f"{name(flow[0])}>{name(flow[1])}"


def flows_of(captures: dict[str, list[Frame]], clients: Collection[str]) -> list[Flow]:
    """Every (client, server) pair that had a segment at any tap; ``clients``: the addresses of the client's host."""
    seen: dict[Flow, int] = {}
    for frame in sorted((f for fs in captures.values() for f in fs if f.flags >= 0), key=lambda f: f.time_ns):
        pair = (frame.source, frame.target) if frame.source[0] in clients else (frame.target, frame.source)
        seen.setdefault(pair, frame.time_ns)
    return list(seen)


def by_pair(changes: list[Change]) -> dict[Flow, list[Change]]:
    """The changes of each (local, remote), with the port that a connecting socket got only after its SYN-SENT."""
    waiting: dict[int, list[Change]] = defaultdict(list)
    found: dict[Flow, list[Change]] = defaultdict(list)
    for change in changes:
        if "LISTEN" in (change.old, change.new) and change.new != "SYN_RECV":
            continue
        waiting[change.socket].append(change)
        if change.local[1]:
            for earlier in waiting.pop(change.socket):
                found[change.local, change.remote].append(earlier)
    return found


def polls_of(lines: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[Poll]]:
    """(role, ``local>remote``) -> what the polls saw change."""
    found: dict[tuple[str, str], list[Poll]] = defaultdict(list)
    for line in lines:
        for pair, state in line["changed"].items():
            found[line["role"], pair].append(Poll(line["previous"], line["t1"], state or "CLOSED"))
    return found


def timeline(
    begin_ns: int, end_ns: int, changes: list[Change], polls: list[Poll], peer_fin_ns: list[tuple[int, int]]
) -> list[Span]:
    """One endpoint's states. ``peer_fin_ns``: (sent its FIN, saw it acknowledged) of the peer, from the tracepoint."""
    spans: list[Span] = []

    def add(at: int, state: str, source: str) -> None:
        if spans and spans[-1].begin_ns >= at:
            spans.pop()  # superseded at once
        if spans and spans[-1].state == state:
            return
        if spans:
            spans[-1].end_ns = at
        spans.append(Span(at, end_ns, state, source))

    add(begin_ns, "CLOSED", "init")
    steps = [*changes, None]
    gap_begin, before = begin_ns, "CLOSED"
    for step in steps:
        if gap_begin >= 0:
            _gap(add, gap_begin, step.time_ns if step else end_ns, before, polls=polls, peer_fin_ns=peer_fin_ns)
        if step is None:
            break
        if step.new == "CLOSED":
            gap_begin, before = step.time_ns, step.old
        else:
            gap_begin = -1
            add(step.time_ns, step.new, "tp")
    return spans


def _gap(
    add: Any, begin_ns: int, end_ns: int, before: str, *, polls: list[Poll], peer_fin_ns: list[tuple[int, int]]
) -> None:
    """Fill a stretch without a full socket. ``before`` is the state that the full socket left when it went."""
    inside = [poll for poll in polls if begin_ns < poll.end_ns <= end_ns and poll.state in (*_POLLED, "CLOSED")]
    earlier = [poll for poll in polls if poll.end_ns <= begin_ns]
    became = next((poll.state for poll in inside if poll.previous_ns <= begin_ns), None)
    if became is None and before in ("FIN_WAIT1", "FIN_WAIT2", "CLOSING"):
        # The small socket took over in the same state as the full one had: the polls saw no change.
        became = earlier[-1].state if earlier and earlier[-1].state in _POLLED else None
        became = "TIME_WAIT" if became is None and before == "CLOSING" and not inside else became
    fin = next(((sent, seen) for sent, seen in peer_fin_ns if begin_ns < seen and sent < end_ns), None)
    if before in ("FIN_WAIT1", "FIN_WAIT2", "CLOSING") and became in ("TIME_WAIT", "FIN_WAIT2"):
        state = "FIN_WAIT2" if became == "FIN_WAIT2" or (fin and fin[0] > begin_ns) else "TIME_WAIT"
        add(begin_ns, state, "tp+poll")
    else:
        state = "CLOSED"
        add(begin_ns, "CLOSED", "tp" if before != "CLOSED" else "init")
    for poll in inside:
        if poll.state == state:
            continue
        low, high, source = max(poll.previous_ns, begin_ns), poll.end_ns, "poll"
        if state == "FIN_WAIT2" and poll.state == "TIME_WAIT" and fin and max(low, fin[0]) <= min(high, fin[1]):
            low, high, source = max(low, fin[0]), min(high, fin[1]), "poll+peer"
        add(low, "UNKNOWN", source)
        add(high, poll.state, source)
        state = poll.state


def states(
    begin_ns: int,
    end_ns: int,
    flows: list[Flow],
    changes: list[Change],
    polls: dict[tuple[str, str], list[Poll]],
) -> dict[str, dict[str, list[Span]]]:
    """The time lines of both endpoints of every flow."""
    pairs = by_pair(changes)
    found = {}
    for client, server in flows:
        ends = {"client": (client, server), "server": (server, client)}
        fins = {role: _fins(pairs.get(pair, []), end_ns) for role, pair in ends.items()}
        found[flow_name((client, server))] = {
            role: timeline(
                begin_ns,
                end_ns,
                pairs.get(pair, []),
                polls.get((role, flow_name(pair)), []),
                fins["server" if role == "client" else "client"],
            )
            for role, pair in ends.items()
        }
    return found


def _fins(changes: list[Change], end_ns: int) -> list[tuple[int, int]]:
    """When an endpoint entered LAST-ACK, and when it left it."""
    return [
        (change.time_ns, following[0].time_ns if following else end_ns)
        for index, change in enumerate(changes)
        if change.new == "LAST_ACK"
        for following in [changes[index + 1 :]]
    ]


def resets(
    flows: list[Flow], found: list[Reset], captures: dict[str, list[Frame]], delay_s: float
) -> list[dict[str, Any]]:
    """Who sent or accepted each RST of the captured flows, why (as the kernel said), and at which taps it was seen.

    A RST on the wire that no kernel sent has reason ``forged``. A RST that a listener sends (no such connection, or
    abort on overflow) is traced without the peer's address; the frame at the sender's own tap tells whose it was.
    """
    ends = {pair: (flow, role) for flow in flows for pair, role in ((flow, "client"), (flow[::-1], "server"))}
    late_ns = round(delay_s * 1e9) + _SEEN_NS
    wire = [(v, f) for v, fs in captures.items() for f in fs if f.flags > 0 and f.flags & RST]
    claimed: set[int] = set()

    def seen(pair: Flow, time_ns: int) -> list[str]:
        """The taps that a RST passed, its sender's first; each frame tells of one RST, and all of them look alike."""
        own = ends[pair][1]
        near = [
            (vantage != own, number, vantage, frame)
            for number, (vantage, frame) in enumerate(wire)
            if -_SEEN_NS < frame.time_ns - time_ns < late_ns and (frame.source, frame.target) == pair
        ]
        taps: list[str] = []
        looks: tuple[Any, ...] = ()
        for _, number, vantage, frame in sorted(near, key=lambda one: one[:2]):
            if number not in claimed and vantage not in taps and looks in ((), _key(frame)):
                looks = _key(frame)
                claimed.add(number)
                taps.append(vantage)
        return sorted(taps, key=list(captures).index)

    rows, listeners = [], sum(one.kind == "sent" and one.state == "LISTEN" for one in found)
    for one in found:
        if (one.local, one.remote) not in ends:
            continue
        flow, role = ends[one.local, one.remote]
        row = {"flow": flow_name(flow), "endpoint": role, "t": one.time_ns / 1e9, "kind": one.kind}
        row |= {"reason": one.reason, "state": one.state}
        rows.append(row | ({"vantages": seen((one.local, one.remote), one.time_ns)} if one.kind == "sent" else {}))
    rest = [
        (vantage != ends[frame.source, frame.target][1], number, vantage, frame)
        for number, (vantage, frame) in enumerate(wire)
        if (frame.source, frame.target) in ends
    ]
    for _, number, vantage, frame in sorted(rest, key=lambda one: one[:2]):  # the sender's own tap first
        if number in claimed:
            continue
        pair = (frame.source, frame.target)
        flow, role = ends[pair]
        by_listener = vantage == role and listeners > 0
        listeners -= by_listener
        row = {"flow": flow_name(flow), "endpoint": role, "t": frame.time_ns / 1e9, "kind": "sent"}
        row |= {"reason": "LISTENER" if by_listener else "forged", "state": "LISTEN" if by_listener else "none"}
        rows.append(row | {"vantages": seen(pair, frame.time_ns)})
    return sorted(rows, key=lambda row: row["t"])


def silent(
    found: dict[str, dict[str, list[Span]]], flows: list[Flow], captures: dict[str, list[Frame]], end_ns: int
) -> list[dict[str, Any]]:
    """Transitions that left no frame at the endpoint's own tap: unknowable until that endpoint speaks again."""
    rows = []
    for flow in flows:
        for role, local in zip(("client", "server"), flow, strict=True):
            own = [f for f in captures[role] if f.flags < 0 or {f.source, f.target} == set(flow)]
            spans = [span for span in found[flow_name(flow)][role] if span.state != "UNKNOWN"]
            for old, new in itertools.pairwise(spans):
                if old.state == "TIME_WAIT" and new.state == "CLOSED":
                    continue  # a timer that every observer may run
                near = (f for f in own if old.end_ns - _SILENT_NS <= f.time_ns <= new.begin_ns + _SILENT_NS)
                dies = new.state == "CLOSED" and old.state in _MORTAL
                if any(f.flags < 0 or f.flags & RST or not dies for f in near):
                    continue
                for vantage, capture in captures.items():
                    there = (f for f in capture if {f.source, f.target} == set(flow))
                    again = _speaks_again(there, own, local, new.begin_ns, end_ns)
                    row = {"flow": flow_name(flow), "endpoint": role, "t0": old.end_ns / 1e9}
                    row |= {"t1": again / 1e9, "why": f"silent {old.state}->{new.state}"}
                    rows.append(row | {"vantages": [vantage]})
    return rows


def lost(
    found: dict[str, dict[str, list[Span]]],
    flows: list[Flow],
    captures: dict[str, list[Frame]],
    end_ns: int,
    delay_s: float,
) -> list[dict[str, Any]]:
    """Frames that would tell an endpoint's state but passed only one of its own tap and another tap.

    Until that endpoint speaks again at the other tap, its state cannot be known there: the frame was lost behind the
    tap (towards the endpoint), or before it (from the endpoint), or came from elsewhere (a router's RST).
    """
    late_ns = round(delay_s * 1e9) + _SEEN_NS
    by_flow: dict[str, dict[Flow, list[Frame]]] = {vantage: defaultdict(list) for vantage in captures}
    for vantage, capture in captures.items():
        for frame in capture:
            by_flow[vantage][min((frame.source, frame.target), (frame.target, frame.source))].append(frame)
    rows = []
    for flow in flows:
        pair = min(flow, flow[::-1])
        for role, local in zip(("client", "server"), flow, strict=True):
            spans, own = found[flow_name(flow)][role], by_flow[role][pair]
            for vantage in captures.keys() - {role}:
                there = by_flow[vantage][pair]
                only = [f for f in _without_match(there, own, late_ns) if f.target == local]
                only += _without_match(own, there, late_ns)
                for frame in only:
                    waits = _state_at(spans, frame.time_ns) in _WAITING
                    if frame.flags & (SYN | FIN | RST) or waits or _shows_first(frame, local, own, spans):
                        again = _speaks_again(there, own, local, frame.time_ns, end_ns)
                        row = {"flow": flow_name(flow), "endpoint": role, "t0": frame.time_ns / 1e9}
                        row |= {"t1": again / 1e9, "why": "a frame passed only one of the two taps"}
                        rows.append(row | {"vantages": [vantage]})
    return rows


def _speaks_again(
    there: Iterable[Frame], own: Iterable[Frame], local: tuple[str, int], time_ns: int, end_ns: int
) -> int:
    """When a tap sees what an endpoint sent after a moment: what was on its way already tells nothing of it."""
    sent: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for frame in own:
        if frame.flags >= 0 and frame.source == local:
            sent[_key(frame)].append(frame.time_ns)
    for frame in there:
        if frame.flags >= 0 and frame.source == local and frame.time_ns > time_ns:
            left = [at for at in sent.get(_key(frame), ()) if at <= frame.time_ns]
            if not left or left[-1] > time_ns:
                return frame.time_ns
    return end_ns


def _shows_first(frame: Frame, local: tuple[str, int], own: list[Frame], spans: list[Span]) -> bool:
    """Whether an endpoint's frame is its first in a state: what shows that it has come to it."""
    began = max((span.begin_ns for span in spans if span.begin_ns <= frame.time_ns), default=0)
    return frame.source == local and not any(f.source == local and began <= f.time_ns < frame.time_ns for f in own)


def _without_match(ours: list[Frame], theirs: list[Frame], late_ns: int) -> list[Frame]:
    """Frames of one tap that the other did not see within the path's delay."""
    known: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for frame in theirs:
        known[_key(frame)].append(frame.time_ns)
    return [f for f in ours if not any(abs(at - f.time_ns) < late_ns for at in known.get(_key(f), ()))]


def _key(frame: Frame) -> tuple[Any, ...]:
    return frame.source, frame.target, frame.flags, frame.seq, frame.ack, frame.payload_octets


def _state_at(spans: list[Span], time_ns: int) -> str:
    return next((span.state for span in reversed(spans) if span.begin_ns <= time_ns), "CLOSED")


def first_packets(flows: list[Flow], captures: dict[str, list[Frame]]) -> dict[str, dict[str, float]]:
    """When each flow was first seen at each tap."""
    return {
        vantage: {
            flow_name(flow): time_ns / 1e9
            for flow in flows
            for time_ns in [next((f.time_ns for f in capture if {f.source, f.target} == set(flow)), None)]
            if time_ns is not None
        }
        for vantage, capture in captures.items()
    }
