"""One connection's story: each segment with both endpoints' states beside it, as they could be known at that moment.

A state that was only assumed carries a `?`.  An assumption that turned out wrong is shown while it was held, with the
frame that retracted it; timers are lines of their own.  Long uneventful runs are folded.  What was found stands before
the story, its evidence is marked; what the applications' calls did stands beside the lines and, in full, below.

Never here: inference.  It is all in the transitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy

from observer.outputs.grouping import Group, group
from observer.outputs.story_calls import Call, calls_of, known_times, render_calls
from observer.outputs.story_findings import LEGEND as EVIDENCE
from observer.outputs.story_findings import MARK, evidence_of, render_head
from observer.outputs.story_head import render_facts
from observer.outputs.story_layout import Entry, layout
from observer.outputs.story_sides import ASSUMED, RETRACTED, TIMER, Change, Moment, Side
from observer.outputs.story_words import (
    CONTRADICTIONS,
    FOLDED,
    LABELS_OF,
    QUIET_EVENTS,
    REPEATED_EVENTS,
    REPEATED_WORDS,
    cause_words,
    event_words,
    flag_words,
    label_words,
    timer_words,
)
from observer.outputs.text import (
    PLAIN_WIDTH,
    Line,
    clean,
    count,
    duration,
    octets,
    plain,
    state_words,
    wrapped,
)
from observer.schema import ENDPOINTS, MARKS, NULL_TIME, STATES, Coded, Columns

Tables = Mapping[str, Columns]
Ints = Any

SHORT_RUN: Final = 3
"""Uneventful segments in a row that are shown all the same."""
SYN, FIN, RST, ACK = 2, 1, 4, 16
AGAIN: Final = sum(bit for bit, name in MARKS.items() if name in {"retransmission", "duplicate_ack"})
"""Labels that a word says."""
PROBING: Final = sum(bit for bit, name in MARKS.items() if name.startswith(("zero_window", "keep_alive")))
"""Labels of probes and of answers to them."""
RETRANSMISSION: Final = next(bit for bit, name in MARKS.items() if name == "retransmission")


LEGEND: Final = "? assumed: it passed the tap, and nothing yet shows that it arrived"


def render_explain(tables: Tables, *, width: int = PLAIN_WIDTH, everything: bool = False) -> Iterator[Line]:
    """Tell the story of one connection.

    Parameters
    ----------
    tables
        Raw columns of `flows` (one row), `packets`, `transitions` and `events` of this connection; of `findings` and
        `calls`, too, if they are to be told.
    width
        Columns to use.
    everything
        Show every segment.
    """
    story = Story(tables)
    yield from render_facts(tables["flows"], tables["packets"].rows, width)
    if story.groups is not None:
        yield from render_head(story.groups, width)
    yield ()
    yield from layout(list(story.entries(everything)), width)
    legends = [LEGEND] * story.assumed + [EVIDENCE] * bool(story.evidence)
    for i, legend in enumerate(legends):
        if i == 0:
            yield ()
        for line in wrapped([legend], width):
            yield plain(line, "dim")
    if story.calls:
        yield ()
        yield from story.sentences(width, everything)


class Story:
    """The tables of one connection, ready to be told."""

    def __init__(self, tables: Tables) -> None:
        self._flow = tables["flows"]
        packets = tables["packets"]
        self._cells = {
            name: numpy.asarray(packets[name], numpy.int64)
            for name in ("frame", "time", "direction", "seq", "ack", "length", "flags", "label")
        }
        self._mss = numpy.asarray(packets.get("mss", numpy.full(packets.rows, -1)), numpy.int64)
        self._rows = packets.rows
        self._start = self._one("first_time")
        self._sides = [self._side(tables["transitions"], number) for number in range(2)]
        self._notes: dict[int, list[str]] = {}
        self._quiet_notes: dict[int, list[str]] = {}
        self._told_labels: dict[int, frozenset[str]] = {}
        self._icmp: dict[int, str] = {}
        self.groups: list[Group] | None = group(tables["findings"], absorb=False) if "findings" in tables else None
        self.evidence = evidence_of(self.groups or ())
        self.calls: list[Call] = calls_of(tables["calls"]) if "calls" in tables else []
        self._said = self._calls_beside()
        self._between: dict[int, list[Change | tuple[int, int, str]]] = {}
        self._collect_changes()
        self._collect_events(tables["events"])
        self._collect_calls()
        self.assumed = any(change.certainty == ASSUMED for side in self._sides for change in side.changes)

    def _one(self, name: str) -> int:
        return int(numpy.asarray(self._flow[name])[0])

    def _side(self, transitions: Columns, number: int) -> Side:
        mine = transitions.take(numpy.asarray(transitions["endpoint"]) == number)
        names = ("frame", "time", "from_state", "to_state", "certainty", "proof_frame")
        raw = [numpy.asarray(mine[name]).tolist() for name in names]
        changes = [
            Change(self._position(frame, time), frame, time, before, after, cause, certainty, proof)
            for frame, time, before, after, certainty, proof, cause in zip(*raw, _texts(mine["cause"]), strict=True)
        ]
        changes.sort(key=lambda change: change.position)
        first = changes[0].before if changes else self._one(f"{ENDPOINTS[number]}_state")
        return Side(ENDPOINTS[number], changes, first, self._cells["frame"])

    def _position(self, frame: int, time_ns: int) -> int:
        """Return the index of the segment with which something happens; without one, of the next."""
        frames, times = self._cells["frame"], self._cells["time"]
        if frame >= 0:
            return int(numpy.searchsorted(frames, frame))
        later = numpy.flatnonzero(times > time_ns)
        return int(later[0]) if len(later) else self._rows

    def _is_segment(self, frame: int) -> bool:
        at = int(numpy.searchsorted(self._cells["frame"], frame))
        return frame >= 0 and at < self._rows and int(self._cells["frame"][at]) == frame

    def _calls_beside(self) -> dict[Moment, list[str]]:
        """Return the words of calls that stand beside lines, by what tells of them."""
        said: dict[Moment, list[str]] = {}
        for call in self.calls:
            if not call.ordinary:
                said.setdefault(call.moment, []).append(call.words)
        return said

    def _collect_calls(self) -> None:
        """Tell calls at segments at which no state changed, and those without a segment."""
        between = [change for place in self._between.values() for change in place if isinstance(change, Change)]
        told = {side.moment(change) for side in self._sides for change in side.changes if change in between}
        for call in self.calls:
            if call.moment in told:
                continue
            words = "; ".join(self._said.pop(call.moment, []))
            if words and self._is_segment(call.frame):
                self._note(self._position(call.frame, call.time_ns), f"{ENDPOINTS[call.endpoint]}: {words}")
            elif words and call.time_ns != NULL_TIME:
                place = self._between.setdefault(self._position(call.frame, call.time_ns), [])
                place.append((call.time_ns, call.frame, f"{ENDPOINTS[call.endpoint]}: {words}"))

    def sentences(self, width: int, everything: bool) -> Iterator[Line]:
        """Tell what the calls did, in full."""
        times = {time_ns: self._time(time_ns) for time_ns in known_times(self.calls)}
        return render_calls(self.calls, times, width, everything=everything)

    def _collect_changes(self) -> None:
        taken: dict[Moment, list[str]] = {}
        for side in self._sides:
            for change in side.changes:
                if not self._is_segment(change.frame):
                    self._between.setdefault(change.position, []).append(change)
                    continue
                words = cause_words(side.name, change.cause, STATES[change.before], STATES[change.after])
                if change.cause == "snd_fin" and change.how:
                    words = f"{side.name}: its FIN, missed here, was sent by now"
                # what the table of calls says is more exact than what the cause says of calls
                mine = change.certainty != RETRACTED and (not words or "()" in words)
                moment = side.moment(change)
                said = taken.setdefault(moment, self._said.pop(moment, [])) if mine else []
                words = f"{side.name}: {said[0]}" if said else words
                words = words or f"{side.name}:" * bool(change.how)
                self._note(change.position, ", ".join(part for part in (words, change.how) if part))
                self._note(change.position, f"{side.name}: {'; '.join(said[1:])}" if len(said) > 1 else "")
                if change.certainty == RETRACTED and change.proof >= 0 and self._is_segment(change.proof):
                    what = CONTRADICTIONS.get(change.cause, "had not got that far")
                    self._note(
                        self._position(change.proof, 0), f"retracts frame {change.frame}: the {side.name} {what}"
                    )

    def _note(self, position: int, text: str) -> None:
        text = text.replace(":, ", ": ")
        notes = self._notes.setdefault(position, [])
        shorter = [i for i, note in enumerate(notes) if text.startswith(f"{note}, ")]
        if shorter:
            notes[shorter[0]] = text
        elif text and text not in notes:
            notes.append(text)

    def _collect_events(self, events: Columns) -> None:
        names, details = _texts(events["event"]), _texts(events.get("detail", [""] * events.rows))
        numbers = [numpy.asarray(events[name]).tolist() for name in ("endpoint", "frame", "time")]
        for who, frame, time, name, detail in zip(*numbers, names, details, strict=True):
            if name in QUIET_EVENTS:
                continue
            words = clean(event_words(name, detail))
            if self._is_segment(frame):
                position = self._position(frame, time)
                self._told_labels[position] = self._told_labels.get(position, frozenset()) | LABELS_OF.get(
                    name, frozenset()
                )
                if name in REPEATED_EVENTS:
                    self._quiet_notes.setdefault(position, []).append(words)
                else:
                    self._note(position, words)
            elif not (name == "icmp_error" and self._tell_icmp(frame, words)):
                side = f"{ENDPOINTS[who]}: " if who >= 0 else ""
                self._between.setdefault(self._position(frame, time), []).append((time, frame, side + words))

    def _tell_icmp(self, frame: int, words: str) -> bool:
        """Give a change of state that an ICMP error caused its words, and whether there is one."""
        self._icmp[frame] = words
        return any(change.frame == frame for side in self._sides for change in side.changes)

    # --- what is told ---------------------------------------------------------------------------------------
    def entries(self, everything: bool) -> Iterator[Entry]:
        """Tell the lines in order."""
        keep, kind = self._worth_telling(), self._kinds()
        position = 0
        while position < self._rows:
            yield from self._timers(position)
            if keep[position] or everything:
                yield self._segment(position)
                position += 1
                continue
            stop = position
            while stop < self._rows and not keep[stop] and kind[stop] == kind[position]:
                if stop in self._between and stop > position:
                    break
                stop += 1
            if stop - position <= SHORT_RUN:
                for at in range(position, stop):
                    yield self._segment(at)
            else:
                yield self._segment(position)
                yield self._fold(position + 1, stop)
            position = stop
        yield from self._timers(self._rows)

    def _worth_telling(self) -> Ints:
        cells = self._cells
        keep = (cells["flags"] & (SYN | FIN | RST)) != 0
        for position in self._notes:
            if position < self._rows:
                keep[position] = True
        keep |= numpy.isin(cells["frame"], numpy.array(sorted(self.evidence), numpy.int64))
        for direction in range(2):
            with_data = numpy.flatnonzero((cells["length"] > 0) & (cells["direction"] == direction))
            keep[with_data[:1]] = True
        keep[-1:] = True
        return keep

    def _kinds(self) -> Ints:
        """Mark what is told in runs of its own: 1 unanswered retransmissions, 2 probes and answers, 0 the rest."""
        again = (self._cells["label"] & RETRANSMISSION) != 0
        marked = numpy.zeros(self._rows, numpy.int8)
        edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([False], again, [False]))))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if stop - start > SHORT_RUN:
                marked[start:stop] = 1
        marked[(self._cells["label"] & PROBING) != 0] = 2
        marked[list(self._quiet_notes)] = 2
        return marked

    def _time(self, time_ns: int) -> str:
        span = self._one("last_time") - self._start
        return f"{(time_ns - self._start) / 1e9:.{6 if span < 10**10 else 4}f}"

    def _states(self, position: int) -> list[str]:
        return [side.state(position) for side in self._sides]

    def _segment(self, at: int) -> Entry:
        cell = {name: int(values[at]) for name, values in self._cells.items()}
        client, server = self._states(at)
        notes = [*self._notes.get(at, []), *self._quiet_notes.get(at, [])]
        labels = [label for label in label_words(cell["label"]) if label not in self._told_labels.get(at, ())]
        words = flag_words(
            cell["flags"], cell["seq"], cell["ack"], cell["length"], -1 if cell["label"] & AGAIN else int(self._mss[at])
        )
        if cell["label"] & AGAIN:
            words += " again"
            labels = [label for label in labels if label not in ("retransmission", "duplicate ack")]
            notes = [note for note in notes if note not in ("the SYN again", "the SYN-ACK again")]
        if any(note.startswith("retracts") for note in notes):
            notes = [note for note in notes if note != event_words("synack_after_ack", "")]
        told = " ".join(notes)
        labels = [label for label in labels if label not in told]
        if labels:
            notes.insert(0, ", ".join(labels))
        quiet = not self._notes.get(at)
        frame = self._frame(cell["frame"])
        return Entry(self._time(cell["time"]), client, frame, words, not cell["direction"], server, notes, quiet)

    def _frame(self, frame: int) -> str:
        if not self.evidence:
            return str(frame)
        return f"{frame}{MARK if frame in self.evidence else ' '}"

    def _fold(self, start: int, stop: int) -> Entry:
        rows = slice(start, stop)
        cells = {name: values[rows] for name, values in self._cells.items()}
        span = duration(int(cells["time"].max() - cells["time"].min()))
        parts = [f"{count(stop - start, 'segment')} in {span}"]
        for number, side in enumerate(ENDPOINTS):
            sent = int(cells["length"][cells["direction"] == number].sum())
            if sent:
                parts.append(f"{octets(sent)} from the {side}")
        again, covered = self._repeated(start, stop)
        parts += again
        for bit, name in MARKS.items():
            marked = int(((cells["label"] & bit) != 0).sum())
            if marked and name in FOLDED and name.replace("_", " ") not in covered:
                parts.append(count(marked, *FOLDED[name]))
        return Entry("...", "", "", "; ".join([parts[0], ", ".join(parts[1:])]).rstrip("; "), None, "", [], True)

    def _repeated(self, start: int, stop: int) -> tuple[list[str], set[str]]:
        """Count events that come again and again among these segments, and say which labels they cover."""
        seen: dict[str, int] = {}
        covered: set[str] = set()
        for at in range(start, stop) if len(self._quiet_notes) else ():
            for words in self._quiet_notes.get(at, ()):
                seen[words] = seen.get(words, 0) + 1
                covered |= self._told_labels.get(at, frozenset())
        return [count(number, *REPEATED_WORDS.get(words, (words,))) for words, number in seen.items()], covered

    def _timers(self, position: int) -> Iterator[Entry]:
        """Tell what happened before this segment without one of the connection's: timers, ICMP errors."""
        for item in self._between.get(position, []):
            if isinstance(item, Change):
                side = self._sides[0] if item in self._sides[0].changes else self._sides[1]
                states = [
                    state_words(STATES[item.after]) + "?" * item.doubtful if each is side else each.state(position - 1)
                    for each in self._sides
                ]
                words = timer_words(side.name, item.cause, STATES[item.before], item.certainty == TIMER)
                words = (
                    f"{side.name}: {self._icmp[item.frame]}"
                    if item.cause == "icmp" and item.frame in self._icmp
                    else words
                )
                notes = [f"assumed; retracted by frame {item.proof}"] if item.certainty == RETRACTED else []
                if item.certainty != RETRACTED:
                    notes += [f"{side.name}: {words}" for words in self._said.get(side.moment(item), [])]
                frame = self._frame(item.frame) if item.frame >= 0 else ""
                yield Entry(self._time(item.time_ns), states[0], frame, words, None, states[1], notes, False)
            else:
                time_ns, number, told = item
                client, server = self._states(position - 1)
                shown = self._frame(number) if number >= 0 else ""
                yield Entry(self._time(time_ns), client, shown, told, None, server, [], False)


def _texts(raw: Any) -> list[str]:
    if isinstance(raw, Coded):
        return [raw.values[code] if code >= 0 else "" for code in numpy.asarray(raw.codes).tolist()]
    return [str(text) for text in raw]
