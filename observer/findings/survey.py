"""All connections together, as population findings see them.

Never here: a judgement, or one row of Python for each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import ADDRESS_SHIFT, Around, Crowd
from observer.findings.verdict import End, Verdict
from observer.schema import Columns

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


class Marks(NamedTuple):
    """All events of one name, as int64 arrays: time (ns), frame, value (the detail as a number), stream."""

    time: Array
    frame: Array
    value: Array
    stream: Array


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
    flows
        The table of flows, for the few rows of which more is asked than the crowd holds.
    verdicts
        What was found of single connections, by code.
    marks
        Gives all events of one name.
    """

    def __init__(
        self,
        around: Around,
        spans: Mapping[str, Spans],
        verdicts: Mapping[str, Sequence[Verdict]],
        flows: Columns,
        marks: Callable[[str], Marks],
    ) -> None:
        self.around = around
        self.spans = spans
        self.flows = flows
        self.marks = marks
        self._verdicts = verdicts

    @property
    def crowd(self) -> Crowd:
        return self.around.crowd

    def verdicts(self, *codes: str) -> list[Verdict]:
        """What was found of single connections under these codes."""
        return [verdict for code in codes for verdict in self._verdicts.get(code, ())]

    @cached_property
    def listeners(self) -> Array:
        """All listeners (address code << 16 | port), ascending, each once."""
        return numpy.unique(self.crowd.server)

    def spaces(self, streams: Array) -> Array:
        """The tuple space of each of these streams, as one number: see `space`."""
        places = numpy.searchsorted(self.listeners, self.crowd.server[streams])
        return (self.crowd.client[streams] >> ADDRESS_SHIFT) * len(self.listeners) + places

    def space(self, number: int) -> tuple[End, End]:
        """A tuple space: client's address (port -1: any) and server's address and port."""
        client, place = divmod(number, len(self.listeners))
        return (client, -1), end_of(int(self.listeners[place]))

    def first_frames(self, streams: Array) -> list[int]:
        """First frames of a few streams, ascending."""
        return sorted(self.flows.take(numpy.unique(streams))["first_frame"].tolist()) if len(streams) else []

    def last_frames(self, streams: Array) -> list[int]:
        """Last frames of a few streams, ascending."""
        return sorted(self.flows.take(numpy.unique(streams))["last_frame"].tolist()) if len(streams) else []


def end_of(key: int) -> End:
    """Address code and port of one number of the crowd."""
    return key >> ADDRESS_SHIFT, key & (1 << ADDRESS_SHIFT) - 1
