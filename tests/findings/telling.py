"""What is found in a conversation told in words (tests/tcp/talk.py), so that tests read like the specification.

    tale = Tale()
    tale.client.syn()
    tale.server.reset(...)
    assert tale.codes() == ["refused"]

The capture ends at the tale's present moment.  Several conversations of one capture: `together`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from observer import segments as seg
from observer.findings.judging import Judging
from observer.findings.verdict import Verdict
from observer.kernels import Interpreted
from observer.observation import CaptureInfo, Observation
from observer.options import Options
from observer.tcp.tracker import Tracker
from observer.wire import Decoder
from tests.tcp.segments import Row, feed
from tests.tcp.talk import Talk


@dataclass
class Found:
    """A verdict with everything that a test asks for."""

    verdict: Verdict

    def __getattr__(self, name: str) -> Any:
        return getattr(self.verdict, name)

    def __repr__(self) -> str:
        v = self.verdict
        where = "population" if v.stream is None else f"stream {v.stream}"
        return f"<{where} {v.severity}/{v.grade} {v.code} {v.cause} at {v.endpoint}, frames {v.frames}: {v.summary}>"


class Tale(Talk):
    """A conversation, and what is found in it."""

    def observation(self) -> Observation:
        return observe(self.rows, end_ns=self.now, options=self.options)

    def found(self, stream: int | None = 0) -> list[Found]:
        """Findings of one connection (None: of populations)."""
        return [one for one in found_in(self.observation()) if one.stream == stream]

    def codes(self, stream: int | None = 0, *, least: str = "info") -> list[str]:
        """Codes of the findings of one connection from a severity on, sorted."""
        order = ("info", "warning", "problem")
        return sorted(
            one.code for one in self.found(stream) if order.index(one.severity) >= order.index(least)
        )  # fmt: skip

    def one(self, code: str, stream: int | None = 0) -> Found:
        """The only finding of a code."""
        found = self.found(stream)
        chosen = [one for one in found if one.code == code]
        assert len(chosen) == 1, f"{len(chosen)} of {code} in {found}"
        return chosen[0]

    def here(self) -> int:
        """The frame that comes next."""
        return self.frame + 1


def observe(rows: Sequence[Row], *, end_ns: int, options: Options | None = None) -> Observation:
    """An observation of these segments; the capture ends at that time."""
    options = options or Options()
    tracker, engine = Tracker(Interpreted(), options), Interpreted()
    feed(tracker, rows)
    tracker.finish(end_ns)
    info = CaptureInfo(frames=rows[-1][seg.FRAME], first_time_ns=rows[0][seg.TIME], last_time_ns=end_ns)
    return Observation([], options, info, Decoder(engine, options), tracker, None)


def found_in(observation: Observation) -> list[Found]:
    """All findings of an observation."""
    return [Found(verdict) for verdict in Judging(observation).verdicts()]


def together(*tales: Talk, end_ns: int | None = None) -> Observation:
    """Conversations of one capture: streams are numbered in the order of their first segments."""
    rows = sorted((row for tale in tales for row in tale.rows), key=lambda row: row[seg.TIME])
    copies = [Row(row) for row in rows]
    for frame, row in enumerate(copies, 1):
        row[seg.FRAME] = frame
    return observe(copies, end_ns=end_ns or max(tale.now for tale in tales), options=tales[0].options)


def at_port(tale: Tale, port: int) -> Tale:
    """The same client host with another port; before its first segment."""
    tale.client.end = (tale.client.end[0], port)
    return tale


def siblings(count: int, tell: Callable[[Tale], None], *, apart_s: float = 0.0, first_port: int = 41000) -> list[Tale]:
    """The same conversation of so many clients of one host and listener, each begun so much later."""
    made = []
    for number in range(count):
        tale = Tale(client_iss=5000 + 1000 * number, server_iss=90_000 + 1000 * number)
        at_port(tale, first_port + number).wait(apart_s * number)
        tell(tale)
        made.append(tale)
    return made
