"""Compares the folded transitions of an observation with the kernel's own states of the same endpoints.

A truth file says for each connection and endpoint which state the kernel had when, on the captures' clock.  Both are
asked every 10 ms, away from the kernel's transitions (5 ms, plus twice the links' delay: what one tap sees of another
host is that old) and outside the stretches of which the file says that this tap cannot know them.

Three more things no tap can know, told from the frames alone (`unseen`): that close() was called while the FIN stands
behind unsent data or is lost before the tap; that a SYN was taken whose SYN-ACKs are all lost before the tap; that a
segment came from no socket.

Never judges: it only counts instants.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import observer
from observer import segments as seg
from observer.tcp.layout import M_STREAM
from observer.tcp.states import CERTAINTIES, CLOSED, CLOSING, FIN_WAIT_1, LAST_ACK, STATES, SYN_RECEIVED

TAPS = ("client", "middle", "server")
STEP_NS = 10_000_000
GUARD_NS = 5_000_000
EVERY = 1000
"""More streams than any of these captures has."""
KERNEL_NAMES = {"SYN_RECV": "SYN_RECEIVED", "FIN_WAIT1": "FIN_WAIT_1", "FIN_WAIT2": "FIN_WAIT_2"}
UNTOLD = -1
FIN_STATES = (FIN_WAIT_1, CLOSING, LAST_ACK)
"""Entered by the call that wants a FIN sent, left when it is acknowledged."""

End = tuple[str, int]
Times = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Line:
    """The states of one endpoint towards one other: `states[i]` from `times[i]` on, `start` before."""

    start: int
    times: Times
    states: Times

    def at(self, instants: Times) -> Times:
        """The state at each of these instants."""
        index = np.searchsorted(self.times, instants, side="right")
        return np.concatenate(([self.start], self.states))[index]


@dataclass
class Score:
    """Instants at which observer and kernel agree or not, and what the differences were."""

    right: int = 0
    wrong: int = 0
    unseen: int = 0
    mistakes: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add(self, other: Score) -> None:
        self.right += other.right
        self.wrong += other.wrong
        self.unseen += other.unseen
        self.mistakes += other.mistakes

    @property
    def instants(self) -> int:
        return self.right + self.wrong

    @property
    def share(self) -> float:
        """Percent of the instants at which both agree."""
        return 100 * self.right / self.instants if self.instants else 100.0


@dataclass(frozen=True)
class Case:
    """One capture with the truth about it."""

    name: str
    tap: str
    capture: Path
    file: Path

    @cached_property
    def truth(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def compare(self, **read: Any) -> Score:
        """Read the capture and compare."""
        return compare(self.truth, self.tap, View(observer.read(str(self.capture), keep=range(EVERY), **read)))


def three_taps(folder: Path) -> list[Case]:
    """NAME.truth.json with NAME.client.pcap, NAME.middle.pcap and NAME.server.pcap."""
    return [
        Case(truth.name.removesuffix(".truth.json"), tap, capture, truth)
        for truth in sorted(folder.glob("*.truth.json"))
        for tap in TAPS
        for capture in sorted(folder.glob(truth.name.removesuffix("truth.json") + tap + ".pcap*"))
    ]


def own_captures(folder: Path) -> list[Case]:
    """The project's captures that have a truth file; README.md says at which tap each was made."""
    cases = []
    for line in (folder / "README.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")]
        if len(cells) > 5 and cells[4] in TAPS:
            truth = folder / "truth" / f"{cells[1].partition('.')[0]}.truth.json"
            if truth.is_file():
                cases.append(Case(cells[1].partition(".")[0], cells[4], folder / cells[1], truth))
    return cases


class View:
    """What an observation says about pairs of endpoints, over all streams between the two."""

    def __init__(self, observation: observer.Observation) -> None:
        flows = observation.columns("flows")
        assert flows.addresses is not None and flows.rows <= EVERY
        text = flows.addresses.text
        self._ends = [
            [
                (text(int(code)), int(port))
                for code, port in zip(flows[f"{side}_addr"], flows[f"{side}_port"], strict=True)
            ]
            for side in ("client", "server")
        ]
        self.lines = self._lines(observation)
        self.fins: dict[tuple[End, End], list[int]] = {}
        self.speakers: set[tuple[End, End]] = set()
        self._frames(observation)

    def _lines(self, observation: observer.Observation) -> dict[tuple[End, End], Line]:
        """(endpoint, peer) -> its states in time order, without what was retracted."""
        flows, moves, ends = observation.columns("flows"), observation.columns("transitions"), self._ends
        last = [np.asarray(flows[f"{side}_state"]).tolist() for side in ("client", "server")]
        found: dict[tuple[End, End], tuple[list[int], list[int], list[int]]] = {}
        names = ("stream", "endpoint", "time", "from_state", "to_state", "certainty")
        rows = np.stack([np.asarray(moves[name], np.int64) for name in names], axis=1)
        kept = rows[rows[:, 5] != CERTAINTIES.index("retracted")]
        for stream, side, time, before, after, _ in kept[np.lexsort((kept[:, 0], kept[:, 2]))].tolist():
            line = found.setdefault((ends[side][stream], ends[1 - side][stream]), ([before], [], []))
            line[1].append(time)
            line[2].append(after)
        for side in (0, 1):
            for one, other, state in zip(ends[side], ends[1 - side], last[side], strict=True):
                found.setdefault((one, other), ([state], [], []))
        return {
            key: Line(start[0], np.array(times, np.int64), np.array(states, np.int64))
            for key, (start, times, states) in found.items()
        }

    def _frames(self, observation: observer.Observation) -> None:
        """When each endpoint sent FINs, and which endpoints sent anything but RSTs."""
        assert observation.kept is not None
        rows, marks = observation.kept.rows()
        for row, mark in zip(rows.tolist(), marks[:, M_STREAM].tolist(), strict=True):
            if row[seg.KIND] != seg.KIND_SEGMENT:
                continue
            pair = self._ends[mark & 1][mark >> 1], self._ends[1 - (mark & 1)][mark >> 1]
            if not row[seg.FLAGS] & seg.RST:
                self.speakers.add(pair)
            if row[seg.FLAGS] & seg.FIN:
                self.fins.setdefault(pair, []).append(row[seg.TIME])


def kernel_line(spans: list[list[Any]]) -> tuple[Line, Times]:
    """The kernel's states as a line, and the instants at which they changed."""
    names = [KERNEL_NAMES.get(state, state) for _, _, state, _ in spans]
    codes = [UNTOLD if name == "UNKNOWN" else STATES.index(name) for name in names]
    edges = np.array(sorted({int(t * 1e9) for begin, end, _, _ in spans for t in (begin, end)}), np.int64)
    return Line(UNTOLD, np.array([int(s[0] * 1e9) for s in spans], np.int64), np.array(codes, np.int64)), edges


def instants_of(truth: Mapping[str, Any], tap: str, connection: str, side: str) -> tuple[Times, Times]:
    """The instants at which one endpoint is compared, and the kernel's state at each."""
    spans = truth["states"][connection][side]
    line, edges = kernel_line(spans)
    first = int(truth["first_packet"][tap][connection] * 1e9)
    instants = np.arange(first, int(spans[-1][1] * 1e9), STEP_NS, dtype=np.int64)
    guard = GUARD_NS + int(2e9 * truth.get("link_delay_s", 0))
    behind = np.searchsorted(edges, instants)
    before, after = edges[np.maximum(behind - 1, 0)], edges[np.minimum(behind, len(edges) - 1)]
    usable = np.minimum(np.abs(instants - before), np.abs(instants - after)) >= guard
    for gap in truth.get("cannot_be_known", ()):
        if gap["flow"] == connection and gap.get("endpoint", side) == side and tap in gap.get("vantages", TAPS):
            usable &= (instants < gap["t0"] * 1e9) | (instants > gap["t1"] * 1e9)
    states = line.at(instants)
    usable &= states != UNTOLD
    return instants[usable], states[usable]


def unseen(spans: list[list[Any]], view: View, own: End, peer: End, instants: Times) -> Any:
    """At which instants the kernel's state is one that the endpoint has not shown to this tap by any frame."""
    line, _ = kernel_line(spans)
    if (line.states == CLOSED).all() and (own, peer) in view.speakers:
        return np.ones(len(instants), bool)  # segments of a raw socket: no connection has sent them
    hidden = np.zeros(len(instants), bool)
    if (own, peer) not in view.speakers:
        hidden |= line.at(instants) == SYN_RECEIVED  # its SYN-ACKs were lost before this tap
    fins = np.array(view.fins.get((own, peer), ()), np.int64)
    for begin, end, state, _ in spans:
        if KERNEL_NAMES.get(state, state) in [STATES[code] for code in FIN_STATES]:
            since = int(begin * 1e9) - 2 * STEP_NS
            shown = fins[fins >= since]
            until = min(int(end * 1e9), int(shown[0]) if len(shown) else int(end * 1e9))
            hidden |= (instants >= int(begin * 1e9)) & (instants < until)
    return hidden


def compare(truth: Mapping[str, Any], tap: str, view: View) -> Score:
    """How far the lines are the kernel's, over all connections that were seen at this tap."""
    score = Score()
    for connection in truth["first_packet"].get(tap, {}):
        client, server = map(end_of, connection.split(">"))
        for side, own, peer in (("client", client, server), ("server", server, client)):
            instants, theirs = instants_of(truth, tap, connection, side)
            hidden = unseen(truth["states"][connection][side], view, own, peer, instants)
            score.unseen += int(hidden.sum())
            ours = view.lines[own, peer].at(instants)
            score.right += int(((ours == theirs) & ~hidden).sum())
            different = np.flatnonzero((ours != theirs) & ~hidden)
            score.wrong += len(different)
            for i in different.tolist():
                score.mistakes[connection, side, STATES[theirs[i]], STATES[ours[i]]] += 1
    return score


def end_of(text: str) -> End:
    """ "10.0.0.1:80" or "[2001:db8::1]:80"."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def table(scores: Mapping[str, Mapping[str, Score]], show: Callable[[str], None] = print) -> dict[str, Score]:
    """Show the agreement of each scenario at each tap; returns the sums by tap."""
    sums = {tap: Score() for tap in TAPS}
    show(f"  {'scenario':32}" + "".join(f"{tap:>18}" for tap in TAPS))
    for name, by_tap in scores.items():
        cells = ""
        for tap in TAPS:
            score = by_tap.get(tap)
            cells += f"{score.share:8.3f} % {score.instants:7}" if score else f"{'-':>18}"
            sums[tap].add(score or Score())
        show(f"  {name:32}{cells}")
        for tap, score in by_tap.items():
            for (connection, side, theirs, ours), count in score.mistakes.most_common(3):
                show(f"      {tap}: {connection} {side}: kernel {theirs}, observer {ours}, {count} instants")
    total = "".join(f"{score.share:8.3f} % {score.instants:7}" for score in sums.values())
    show(f"  {'all':32}{total}")
    return sums
