"""Compares the table of calls with what the applications' own record says of the same sockets.

A truth file has every socket call with begin, end, result or errno, on the captures' clock.  A call agrees if the
view of its endpoint says the same outcome from an instant on that is not after the call's end, and, where the call was
already waiting at that instant, if it ended within one round trip of it (and 5 ms, for the scheduler).

An error is handed out once (Linux, sock_error): after it recv() returns 0 and send() fails with EPIPE; after its own
shutdown send() fails with EPIPE.  This is what the record is replayed with.  Left out, and counted as unseen:
connections that the tap has not seen, octets that never passed it, and stretches that it cannot know, as the file says.

Never judges: it only counts calls.  `python -m tests.findings.call_record FOLDER` shows the figures of laboratory runs.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import observer
from tests.tcp.kernel_truth import TAPS, Case, end_of

GUARD_NS = 5_000_000
LONG_NS = 200_000_000
"""A send() that takes longer than this has been blocked."""
CALLS = {
    "connect": "connect", "connect_result": "connect", "accepted": "accept", "send": "send", "sendall": "send",
    "sendto(MSG_FASTOPEN)": "send", "recv": "recv", "recv until EOF": "recv",
}  # fmt: skip
PATIENCE = frozenset({"EAGAIN", "TIMEOUT(python)"})
"""The call's own time-out: it would have gone on waiting."""

Pair = tuple[tuple[str, int], tuple[str, int]]


@dataclass(frozen=True)
class Call:
    """One call of an application."""

    role: str
    sid: str
    call: str
    outcome: str
    begin: int
    end: int


@dataclass
class Tally:
    """Calls that agree, that do not, and that the tap cannot know."""

    right: int = 0
    wrong: int = 0
    unseen: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.right += other.right
        self.wrong += other.wrong
        self.unseen += other.unseen
        self.kinds += other.kinds
        self.mistakes += other.mistakes

    @property
    def share(self) -> float:
        """Percent of the calls that agree."""
        return 100 * self.right / (self.right + self.wrong) if self.right + self.wrong else 100.0


def laboratory(folder: Path) -> list[Case]:
    """NAME/truth.json with NAME/client.pcap, NAME/middle.pcap and NAME/server.pcap, as tests/lab writes them."""
    return [
        Case(truth.parent.name, tap, capture, truth)
        for truth in sorted(folder.glob("*/truth.json"))
        if '"calls"' in truth.read_text()
        for tap in TAPS
        for capture in sorted(truth.parent.glob(f"{tap}.pcap*"))
    ]


def tally_of(
    cases: Iterable[Case], title: str, one: Callable[[Case], Tally] | None = None, show: Callable[[str], None] = print
) -> Tally:
    """Compare all of them, and show the figures of each and every difference."""
    show(f"\n{title}: calls that agree, that differ, that the tap cannot know")
    total, by_name = Tally(), dict[str, Tally]()
    for case in cases:
        tally = (one or compare)(case)
        by_name.setdefault(case.name, Tally()).add(tally)
        total.add(tally)
    for name, tally in [*by_name.items(), ("all", total)]:
        show(f"  {name:32}{tally.right:7}{tally.wrong:5}{tally.unseen:5}{tally.share:9.2f} %")
    for kind, count in total.kinds.most_common():
        show(f"    {count:5}  {kind}")
    for mistake in total.mistakes:
        show(f"      {mistake}")
    return total


def sockets_of(truth: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Pair, list[Call]]]:
    """(role, socket) -> its (client, server), and its calls in order; accept() counts for the accepted socket."""
    accepts: dict[str, tuple[int, int]] = {}
    found: dict[tuple[str, str], tuple[Pair, list[Call]]] = {}
    for row in truth["calls"]:
        begin, end = int(row["t0"] * 1e9), int(row["t1"] * 1e9)
        if row["call"] == "accept":
            accepts[row["sid"]] = begin, end
        if row["call"] == "accepted":
            begin, end = accepts.get(row["args"], (begin, end))
        if row["role"] not in ("client", "server") or not row.get("local") or not row.get("remote"):
            continue
        ends = tuple(row["local"]), tuple(row["remote"])
        pair = ends if row["role"] == "client" else ends[::-1]
        _, calls = found.setdefault((row["role"], row["sid"]), (pair, []))
        name = "shutdown" if row["call"] == "shutdown" else CALLS.get(row["call"])
        if name:
            calls.append(Call(row["role"], row["sid"], name, _outcome(row), begin, end))
    return found


def _outcome(row: Mapping[str, Any]) -> str:
    if row["err"] or str(row["ret"]) in PATIENCE:
        return str(row["err"] or row["ret"])
    return "eof" if "EOF" in str(row["ret"]) else "ok"


class View:
    """The calls of an observation by stream and role, and which streams there are between two addresses."""

    def __init__(self, observation: observer.Observation) -> None:
        flows, calls = observation.columns("flows"), observation.columns("calls")
        assert flows.addresses is not None
        places = [
            [
                (flows.addresses.text(int(code)), int(port))
                for code, port in zip(flows[f"{side}_addr"], flows[f"{side}_port"], strict=True)
            ]
            for side in ("client", "server")
        ]
        self.octets = [np.asarray(flows[f"{side}_octets"]).tolist() for side in ("client", "server")]
        opening = np.asarray(flows["syn_count"]) + np.asarray(flows["synack_count"])
        self.opening = (opening > 0).tolist()
        self.first = np.asarray(flows["first_time"]).tolist()
        self.streams: dict[Pair, list[int]] = defaultdict(list)
        for stream, pair in enumerate(zip(*places, strict=True)):
            self.streams[pair].append(stream)
        self.rows: dict[tuple[int, int, str], list[tuple[str, int]]] = defaultdict(list)
        names = observer.schema.CALLS
        outcome = calls["outcome"]
        for stream, end, call, code, time in zip(
            *(np.asarray(calls[name]).tolist() for name in ("stream", "endpoint", "call")),
            np.asarray(outcome.codes).tolist(),
            np.asarray(calls["time"]).tolist(),
            strict=True,
        ):
            self.rows[stream, end, names[call]].append((outcome.values[code], time))

    def socket(self, pair: Pair, role: str, calls: list[Call]) -> tuple[int, int] | None:
        """Stream and endpoint of a socket: the first stream that begins with its connect(), or last before accept()."""
        for end, key in ((role == "server", pair), (role == "client", pair[::-1])):
            streams = self.streams.get(key, [])
            opening = next((call for call in calls if call.call in ("connect", "accept")), calls[0])
            if opening.call == "accept":
                streams = [stream for stream in streams if self.first[stream] <= opening.end + GUARD_NS][-1:]
            elif opening.call == "connect":
                streams = [stream for stream in streams if self.first[stream] >= opening.begin - GUARD_NS]
            if streams:
                return streams[0], int(end)
        return None


def compare(case: Case, **read: Any) -> Tally:
    """Read a capture and compare its calls with the record."""
    truth, tally = case.truth, Tally()
    view = View(observer.read(str(case.capture), **read))
    slack = GUARD_NS + int(2e9 * truth.get("link_delay_s", 0))
    for (role, _), (pair, calls) in sockets_of(truth).items():
        if not calls:
            continue
        place = view.socket(pair, role, calls)
        if place is None:
            tally.unseen += len(calls)
            continue
        hidden = _hidden(truth, case.tap, pair, role)
        replay = Replay(view, *place, slack)
        for call in calls:
            what = replay.judge(call)
            if what is None:
                continue
            if what and (what == "unseen" or hidden(call)):
                tally.unseen += 1
            elif what:
                tally.wrong += 1
                tally.kinds[f"{call.call} {call.outcome}: {what}"] += 1
                begin, end = ((time - view.first[place[0]]) / 1e9 for time in (call.begin, call.end))
                where = f"{case.name} {case.tap} stream {place[0]} {role}"
                tally.mistakes.append(f"{where} {call.call} {call.outcome} {begin:.4f}-{end:.4f} s: {what}")
            else:
                tally.right += 1
    return tally


def _hidden(truth: Mapping[str, Any], tap: str, pair: Pair, role: str) -> Callable[[Call], bool]:
    """Whether the tap cannot know what a call of this endpoint met, as the truth file says."""
    name = ">".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pair)
    gaps = [
        (gap["t0"] * 1e9 - GUARD_NS, gap["t1"] * 1e9 + GUARD_NS)
        for gap in truth.get("cannot_be_known", ())
        if gap["flow"] == name and gap.get("endpoint", role) == role and tap in gap.get("vantages", (tap,))
    ]
    return lambda call: any(begin <= call.end and call.begin <= end for begin, end in gaps)


def acceptable(case: Case, **read: Any) -> Tally:
    """Compare the instants from which accept() can return with the kernel's own: it enters ESTABLISHED, or never."""
    truth, tally = case.truth, Tally()
    view = View(observer.read(str(case.capture), **read))
    slack = GUARD_NS + int(2e9 * truth.get("link_delay_s", 0))
    for connection, spans in truth["states"].items():
        if connection not in truth["first_packet"].get(case.tap, {}):
            continue
        theirs = [int(begin * 1e9) for begin, _, state, source in spans["server"] if state == "ESTABLISHED"]
        states = {state for _, _, state, _ in spans["server"]}
        if "SYN_SENT" in states or "SYN_RECV" not in states | {"UNKNOWN"}:
            continue  # it opened actively, or never was asked
        pair = tuple(map(end_of, connection.split(">")))
        ours = [
            time
            for stream in view.streams.get(pair, ())  # type: ignore[call-overload]
            for said, time in view.rows.get((stream, 1, "accept"), ())
            if said == "ok"
        ]
        hidden = _hidden(truth, case.tap, pair, "server")  # type: ignore[arg-type]
        times = theirs + ours or [0]
        if _alike(theirs, ours, slack):
            tally.right += 1
        elif hidden(Call("server", "", "accept", "", min(times), max(times))) or not _opened(view, pair):
            tally.unseen += 1
        else:
            tally.wrong += 1
            tally.kinds["accept() possible"] += 1
            tally.mistakes.append(f"{case.name} {case.tap} {connection}: kernel {theirs}, view {ours}")
    return tally


def _opened(view: View, pair: Any) -> bool:
    return all(view.opening[stream] for stream in view.streams.get(pair, ()))


def _alike(theirs: list[int], ours: list[int], slack: int) -> bool:
    return len(theirs) == len(ours) and all(
        abs(one - other) <= slack for one, other in zip(theirs, sorted(ours), strict=True)
    )


class Replay:
    """One socket's calls against what the view says of its endpoint."""

    def __init__(self, view: View, stream: int, end: int, slack: int) -> None:
        self._rows = {call: view.rows.get((stream, end, call), []) for call in observer.schema.CALLS}
        self._opening = view.opening[stream]
        self._octets = view.octets[end][stream], view.octets[1 - end][stream]
        self._slack = slack
        self._failed = False
        self._shut = False

    def judge(self, call: Call) -> str | None:
        """ "" where both agree, "unseen" where the tap saw nothing of it, else how the view differs; None: no call."""
        if call.call == "shutdown" or call.outcome == "EINPROGRESS":
            self._shut |= call.call == "shutdown"
            return None
        judge: Callable[[Call], str] = getattr(self, f"_{call.call}")
        result = judge(call)
        if call.outcome not in ("ok", "eof", *PATIENCE):
            self._failed = True
        return result

    def _at(self, call: Call, outcome: str) -> str:
        """Whether the view has this outcome, in time."""
        times = [time for said, time in self._rows[call.call] if said == outcome]
        if not times:
            return self._else(call)
        for time in times:
            early = call.end < time - self._slack
            late = call.begin < time and call.end > time + self._slack
            if not early and not late:
                return ""
        return f"time differs by {(call.end - min(times, key=lambda t: abs(t - call.end))) / 1e6:.1f} ms"

    def _else(self, call: Call) -> str:
        return "view: " + (", ".join(said for said, _ in self._rows[call.call]) or "nothing")

    def _errors(self, calls: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for call in calls:
            yield from ((said, time) for said, time in self._rows[call] if said not in ("ok", "blocked"))

    def _connect(self, call: Call) -> str:
        return self._at(call, call.outcome) if self._opening else "unseen"

    _accept = _connect

    def _send(self, call: Call) -> str:
        if call.outcome == "EPIPE" and (self._failed or self._shut):
            return ""
        if call.outcome in PATIENCE:
            return "" if self._waits(call) else self._else(call)
        if call.outcome != "ok":
            return self._at(call, call.outcome)
        if not self._octets[0]:
            return "unseen"
        due = [said for said, time in self._errors(("send",)) if time + self._slack < call.begin]
        if due:
            return f"view: {due[0]} before"
        if call.end - call.begin > LONG_NS + self._slack:
            return "" if self._waits(call) else "view: not blocked"
        return "" if any(said == "ok" and time <= call.end + self._slack for said, time in self._rows["send"]) else (
            self._else(call)
        )  # fmt: skip

    def _waits(self, call: Call) -> bool:
        """Whether the view has send() blocked at some time during the call."""
        since = None
        for said, time in self._rows["send"]:
            if said == "blocked":
                since = time
            elif since is not None:
                if since <= call.end + self._slack and call.begin <= time + self._slack:
                    return True
                since = None
        return since is not None and since <= call.end + self._slack

    def _recv(self, call: Call) -> str:
        if call.outcome == "eof" and self._failed:
            return ""
        if call.outcome in PATIENCE:
            due = [said for said, time in self._errors(("recv",)) if time + self._slack < call.end]
            return f"view: {due[0]} before" if due and not self._failed else ""
        if call.outcome != "ok":
            return self._at(call, call.outcome)
        if not self._octets[1]:
            return "unseen"
        waits = [time for said, time in self._rows["recv"] if said == "blocked"]
        if waits and call.end - call.begin > self._slack and call.end > min(waits) + self._slack:
            return "view: blocked"
        return "" if any(said == "ok" and time <= call.end + self._slack for said, time in self._rows["recv"]) else (
            self._else(call)
        )  # fmt: skip


if __name__ == "__main__":
    found = laboratory(Path(sys.argv[1]))
    tally_of(found, "calls")
    tally_of(found, "accept() possible", acceptable)
