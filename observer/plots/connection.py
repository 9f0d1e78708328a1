"""What a ladder tells of a connection: its rows, both endpoints' changes, findings, calls, and the words for them.

Never here: drawing, inference.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy

from observer.plots.rows import (
    ACK,
    FIN,
    MARK,
    RST,
    SYN,
    URG,
    Cells,
    Other,
    Scale,
    chosen,
    items,
    unanswered,
    weights,
)
from observer.plots.subject import FlowSubject, address, numbers, texts
from observer.plots.words import count, duration, endpoint, safe, state_words
from observer.schema import CALLS, CERTAINTIES, ENDINGS, ENDPOINTS, GRADES, SEVERITIES, SIDES, STATES, Columns

ASSUMED, TIMER, RETRACTED = (CERTAINTIES.index(name) for name in ("assumed", "timer", "retracted"))
AGAIN: Final = MARK["retransmission"] | MARK["fast_retransmission"] | MARK["spurious_retransmission"]
EVIDENCE: Final = 3
"""Frames of a finding's evidence, and the last, that have rows of their own in any case."""
ICMP_ROWS: Final = 3
"""ICMP errors that have rows, and the last."""
LABEL_WORDS: Final = {
    "retransmission": "again", "fast_retransmission": "fast retransmission",
    "spurious_retransmission": "again, needlessly", "out_of_order": "out of order", "duplicate_ack": "duplicate",
    "zero_window": "window 0", "zero_window_probe": "window probe", "zero_window_probe_ack": "answers the probe",
    "window_full": "fills the window", "window_update": "window update", "keep_alive": "keepalive",
    "keep_alive_ack": "answers the keepalive", "lost_segment": "gap before it",
    "ack_lost_segment": "acks octets not captured", "reused_ports": "ports reused", "duplicate_frame": "frame twice",
}  # fmt: skip

TIMER_WORDS: Final = {
    "expire": "forgets it: its timer ran out", "give_up": "gives up: no answer", "icmp": "gives up for an ICMP error",
    "replaced": "has a new connection in its place",
}  # fmt: skip
"""Causes that need no segment."""


class Change(NamedTuple):
    """One row of the transitions of an endpoint."""

    frame: int
    time_ns: int
    before: int
    after: int
    cause: str
    certainty: int
    proof: int


class Found(NamedTuple):
    """A finding of the connection: its number on the picture, how it is told, and its evidence."""

    number: int
    severity: str
    words: str
    frames: frozenset[int]


class Told:
    """Everything that one ladder shows, in rows; nothing is drawn yet."""

    def __init__(self, flow: FlowSubject, max_rows: int) -> None:
        self.stream = flow.stream
        self.flow = flow.columns("flows")
        self.cells = with_probes(Cells.of(flow.columns("packets")))
        self.changes = _changes(flow.columns("transitions"))
        self.calls = flow.columns("calls")
        self.found = _found(flow.observation.columns("findings"), flow.stream)
        self.icmp, others = _icmp(flow.columns("events"))
        known = set(self.cells.frame.tolist())
        decisive: set[int] = set()
        for change in self.changes[0] + self.changes[1]:
            decisive |= {change.frame, change.proof if change.certainty == RETRACTED else -1}
            if change.frame not in known:
                others.add(Other(change.frame, change.time_ns))
        for one in self.found:
            frames = sorted(one.frames)
            decisive |= {*frames[:EVIDENCE], *frames[-1:]}
        shown = chosen(weights(self.cells, decisive), max(8, max_rows - len(others)))
        self.items = items(self.cells, shown, sorted(others, key=lambda other: other.time_ns))
        self.scale = Scale(self.items, self.cells)
        self.unanswered = unanswered(self.cells)
        self.begin_ns = int(self.cells.time[0]) if len(self.cells.time) else 0

    def name(self, side: int) -> str:
        """Say address and port of a side."""
        words = ENDPOINTS[side]
        return safe(endpoint(address(self.flow, f"{words}_addr", 0), int(numbers(self.flow, f"{words}_port")[0])))

    def title(self) -> str:
        """Say what and how many."""
        ended = ENDINGS[int(numbers(self.flow, "ended")[0])]
        words = {"fin": "closed by both", "reset": "reset", "timeout": "given up", "open": "still open"}[ended]
        sender = int(numbers(self.flow, "rst_sender")[0])
        if ended == "reset" and sender >= 0:
            words += f" by the {SIDES[sender]}" if SIDES[sender] != "both" else " by both"
        span = int(self.cells.time.max() - self.cells.time.min()) if len(self.cells.time) else 0
        total = count(len(self.cells.frame), "segment") + f" in {duration(span)}" * (len(self.cells.frame) > 1)
        return f"stream {self.stream}: {self.name(0)} → {self.name(1)}, {total}, {words}"

    def height(self, side: int, change: Change) -> float:
        """Return where a state changed: where its frame left, or arrived at, the endpoint."""
        return self._height(side, change.frame, change.time_ns)

    def _height(self, side: int, frame: int, time_ns: int) -> float:
        place = self.scale.segment(frame)
        arrived = place >= 0 and int(self.cells.direction[place]) != side
        return self.scale.at(frame, time_ns, receiver=arrived)

    def marks(self, frame: int) -> list[Found]:
        """Return the findings that a frame is evidence of."""
        return [one for one in self.found if frame in one.frames]

    def notes(self, side: int) -> list[tuple[float, str, str]]:
        """Return what stands beside a lane, from above: where, in which words, in which style of letters."""
        told = [
            (self.height(side, change),
             f"{state_words(STATES[change.after])}: retracted by frame {change.proof}", "italic")
            for change in self.changes[side]
            if change.certainty == RETRACTED
        ]  # fmt: skip
        return sorted(told + [(y, words, "normal") for y, words in self._calls(side)], key=lambda note: note[0])

    def _calls(self, side: int) -> list[tuple[float, str]]:
        """Return what the calls of a side did: where, and in a few words; those that went alike as one.

        A recv() that returns octets is not told: the arrows show when they came.
        """
        calls = self.calls
        cells = [numbers(calls, name).tolist() for name in ("endpoint", "call", "time", "frame", "certainty")]
        spoken = (texts(calls, "outcome"), texts(calls, "summary"))
        together: dict[tuple[float, str, bool], list[str]] = {}
        for owner, call, time_ns, frame, certainty, outcome, summary in zip(*cells, *spoken, strict=True):
            if owner == side and (frame >= 0 or time_ns > 0) and (CALLS[call], outcome) != ("recv", "ok"):
                y = self._height(side, frame, time_ns)
                clause = summary.split(": ")[0].split("; ")[0].split(" (")[0].rstrip(".")
                words = clause.removeprefix(f"{CALLS[call]}()") if outcome == "blocked" else outcome
                together.setdefault((y, words, certainty == ASSUMED), []).append(f"{CALLS[call]}()")
        return [(y, ", ".join(dict.fromkeys(names)) + call_words(words, several=len(set(names)) > 1) + "?" * unsure)
                for (y, words, unsure), names in together.items()]  # fmt: skip


def _changes(transitions: Columns) -> tuple[list[Change], list[Change]]:
    """Return the transitions of the client and of the server, in order."""
    names = ("endpoint", "frame", "time", "from_state", "to_state", "certainty", "proof_frame")
    raw = [numbers(transitions, name).tolist() for name in names]
    sides: tuple[list[Change], list[Change]] = ([], [])
    for side, frame, time_ns, before, after, certainty, proof, cause in zip(
        *raw, texts(transitions, "cause"), strict=True
    ):
        sides[side].append(Change(frame, time_ns, before, after, cause, certainty, proof))
    return sides


def _found(findings: Columns, stream: int) -> list[Found]:
    """Return the findings of one connection, the worst first."""
    mine = findings.take(numpy.flatnonzero(numbers(findings, "stream") == stream))
    severity, grade, side = (numbers(mine, name).tolist() for name in ("severity", "grade", "endpoint"))
    found = []
    for row, (code, summary, frames) in enumerate(
        zip(texts(mine, "code"), texts(mine, "summary"), mine["frames"], strict=True)
    ):
        at = f" at the {ENDPOINTS[side[row]]}" if side[row] >= 0 else ""
        name = SEVERITIES[severity[row]]
        words = f"{name.upper()} {GRADES[grade[row]]}: {code.replace('_', ' ')}{at}. {summary}"
        found.append(Found(row + 1, name, words, frozenset(frames or ())))
    return found


def _icmp(events: Columns) -> tuple[dict[int, str], set[Other]]:
    """Return the ICMP errors that have rows: what they say, by frame, and where they stand."""
    names = zip(texts(events, "event"), texts(events, "detail"), strict=True)
    frames, times = numbers(events, "frame").tolist(), numbers(events, "time").tolist()
    all_of_them = [
        (frame, time_ns, detail)
        for frame, time_ns, (name, detail) in zip(frames, times, names, strict=True)
        if name == "icmp_error"
    ]
    shown = all_of_them if len(all_of_them) <= ICMP_ROWS + 1 else [*all_of_them[:ICMP_ROWS], all_of_them[-1]]
    words = {frame: f"ICMP error, {detail}" for frame, _, detail in shown}
    if len(shown) < len(all_of_them):
        words[shown[-2][0]] += f"; {len(all_of_them) - len(shown):,} more like it until the last"
    return words, {Other(frame, time_ns) for frame, time_ns, _ in shown}


def call_words(outcome: str, *, several: bool) -> str:
    """Say the outcome of a call, or of several; one that begins with a space is said already.

    Examples
    --------
    >>> call_words("ok", several=False), call_words("ECONNRESET", several=True), call_words(" waits", several=False)
    (' succeeds', ' fail: ECONNRESET', ' waits')
    """
    s = "" if several else "s"
    if outcome.startswith(" "):
        return outcome
    said = {"ok": f" succeed{s}", "eof": f" return{s} 0: end of file"}
    return said.get(outcome, f" fail{s}: {outcome}")


def with_probes(cells: Cells) -> Cells:
    """Call a keepalive towards a closed window a window probe: on the wire they are alike (RFC 9293 3.8.6.1)."""
    label = cells.label.copy()
    renamed = (("keep_alive", "zero_window_probe"), ("keep_alive_ack", "zero_window_probe_ack"))
    for side in (0, 1):
        for name, better in renamed:
            places = numpy.flatnonzero((cells.direction == side) & (label & MARK[name] != 0))
            reader = 1 - side if name == "keep_alive" else side
            said = numpy.flatnonzero((cells.direction == reader) & (cells.flags & RST == 0))
            before = numpy.searchsorted(said, places, "right" if reader == side else "left") - 1
            closed = places[(before >= 0) & (cells.window[said[before.clip(min=0)]] == 0)] if len(said) else places[:0]
            label[closed] += MARK[better] - MARK[name]
    return cells._replace(label=label)


def segment_words(cells: Cells, i: int) -> str:
    """Say a segment: flags, relative numbers, length; PSH is left out, it moves no state."""
    flags, length, label = int(cells.flags[i]), int(cells.length[i]), int(cells.label[i])
    names = [
        name for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK"), (URG, "URG")) if flags & bit
    ]
    if not flags & (SYN | FIN | RST) and not length and flags & ACK:
        words = [f"ACK {int(cells.ack[i])}"]
    else:
        words = [] if names == ["ACK"] else [",".join(names) or "no flags"]
        words.append(f"seq {int(cells.seq[i])}")
        words += [f"ack {int(cells.ack[i])}"] * bool(flags & ACK) + [f"len {length}"] * bool(length)
    if flags & SYN and int(cells.mss[i]) >= 0:
        words.append(f"mss {int(cells.mss[i])}")
    told = [name for name, bit in MARK.items() if label & bit]
    if {"fast_retransmission", "spurious_retransmission"} & set(told):
        told.remove("retransmission") if "retransmission" in told else None
    return " ".join(words) + "".join(f"  · {LABEL_WORDS[name]}" for name in told)


def other_words(told: Told, frame: int, time_ns: int) -> str:
    """Say what happened without a segment: an ICMP error, a timer, and what came of it."""
    words = [told.icmp[frame]] if frame in told.icmp else []
    for side in (0, 1):
        for change in told.changes[side]:
            if change.frame == frame and (frame >= 0 or change.time_ns == time_ns):
                words.append(f"{ENDPOINTS[side]} {TIMER_WORDS.get(change.cause, change.cause)}")
    return safe("; ".join(words))
