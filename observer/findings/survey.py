"""All connections together, as population findings see them.

Never here: a judgement, or one row of Python for each connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from observer.findings.around import Around, Crowd
from observer.findings.verdict import Verdict

Array = Any

SPAN_STATES: Final = ("TIME_WAIT", "CLOSE_WAIT", "FIN_WAIT_2")
"""States whose stretches are kept for all connections."""


class Spans(NamedTuple):
    """Stretches of endpoints in one state, in hindsight; one element each, in no particular order.

    stream
        int64.
    endpoint
        int8: 0 client, 1 server.
    begin, end
        int64 ns; where it had not ended, the latest time of the capture.
    still
        bool: it had not ended.
    frame
        int64: the frame with which it began; -1: a timer.
    """

    stream: Array
    endpoint: Array
    begin: Array
    end: Array
    still: Array
    frame: Array


class Survey:
    """All connections of an observation.

    Attributes
    ----------
    around
        Options, the capture's ends, what it lost.
    crowd
        One element for each connection.
    spans
        By state, of SPAN_STATES.
    verdicts
        What was found of single connections, by code.
    """

    def __init__(self, around: Around, spans: Mapping[str, Spans], verdicts: Mapping[str, Sequence[Verdict]]) -> None:
        self.around = around
        self.spans = spans
        self._verdicts = verdicts

    @property
    def crowd(self) -> Crowd:
        return self.around.crowd

    def verdicts(self, *codes: str) -> list[Verdict]:
        """What was found of single connections under these codes."""
        return [verdict for code in codes for verdict in self._verdicts.get(code, ())]
