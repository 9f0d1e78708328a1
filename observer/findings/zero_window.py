"""Receivers that do not read: windows that stay closed while the peer has something to send.

Same shape as a keepalive, told apart by the window last announced; the peer lives.  Sources: RFC 9293 3.8.6.1;
RFC 1122 4.2.2.17.

Never here: peers that are gone (liveness.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from observer.findings.case import Case, End, Note
from observer.findings.verdict import Verdict, clean_frames
from observer.findings.words import SECOND, duration, times
from observer.registry import Finding, Wake


class Closed(NamedTuple):
    """A stretch in which an endpoint's receive window was closed."""

    begin: int
    end: int | None
    frames: tuple[int, ...]
    probes: int


def _stretches(case: Case, end: End) -> list[Closed]:
    """When an endpoint's window was closed, with its peer's probes meanwhile."""
    probes = [probe.frame for probe in case.other(end).said("window_probe")]
    found: list[Closed] = []
    shut: Note | None = None
    for note in end.said("zero_window", "window_opened"):
        if note.event == "zero_window":
            shut = note
        elif shut is not None:
            asked = bisect_right(probes, note.frame) - bisect_left(probes, shut.frame)
            found.append(Closed(shut.time, note.time, (shut.frame, note.frame), asked))
            shut = None
    if shut is not None:
        asked = len(probes) - bisect_left(probes, shut.frame)
        over = next((step for step in end.steps if step.time > shut.time and step.to_state == "CLOSED"), None)
        found.append(Closed(shut.time, over.time if over else None, (shut.frame,), asked))
    return found


def _how_long(count: int, total: int) -> str:
    return f"for {duration(total)}" if count == 1 else f"{times(count)}, {duration(total)} in all"


def zero_window(case: Case) -> Iterator[Verdict]:
    """A receiver that closes its window for longer than ordinary, or until its peer asks."""
    least = round(case.around.options.zero_window_s * SECOND)
    for end in case.ends:
        now = case.around.end_ns
        stretches = [
            stretch for stretch in _stretches(case, end)
            if stretch.probes or (stretch.end if stretch.end is not None else case.last_time) - stretch.begin >= least
        ]  # fmt: skip
        if not stretches:
            continue
        still = stretches[-1].end is None
        total = sum((stretch.end if stretch.end is not None else now) - stretch.begin for stretch in stretches)
        probes = sum(stretch.probes for stretch in stretches)
        sender = case.other(end).name
        yield Verdict(
            grade="confirmed" if probes or len(stretches) > 1 else "probable",
            endpoint=end.name,
            cause="reader_slow",
            begin=stretches[0].begin,
            end=stretches[-1].end,
            frames=clean_frames(*(frame for stretch in stretches[:5] for frame in stretch.frames)),
            severity="problem" if still and probes else "warning",
            summary=f"The {end.name} did not read: its receive window was closed {_how_long(len(stretches), total)} "
            f"({probes} probe{'' if probes == 1 else 's'}), and the {sender}'s send() blocked"
            + (", still so at the end." if still else "."),
            unknown=case.around.caveat("the capture ends before the window opened" if still else ""),
        )


ZERO_WINDOW: Final = Finding(
    name="zero_window",
    title="receiver's window closed",
    definition="An endpoint announces a window of 0: its application does not read, its buffer is full, and its peer's "
    "send() blocks. Shorter than Options.zero_window_s and without a probe it is ordinary.",
    source="RFC 9293 3.8.6.1; RFC 1122 4.2.2.17",
    severity="warning",
    remedy="Look at the reader, not at the network: why does it not call recv()?",
    causes={"reader_slow": "the application reads more slowly than its peer sends, or not at all"},
    wakes=(Wake("zero_window"), Wake("window_probe")),
    judge=zero_window,
)
