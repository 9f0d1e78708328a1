"""What findings are made from: the tables of an observation in raw form, and a few facts about its capture.

Never here: where those come from (`observe.Observation` and, later, other engines offer them).
"""

from __future__ import annotations

from typing import Protocol

from observer.options import Options
from observer.schema import Columns


class Source(Protocol):
    """The tables of an observation, in raw form (see `observer.schema.raw`)."""

    @property
    def options(self) -> Options:
        """Thresholds and timers."""

    @property
    def begin_ns(self) -> int:
        """Time of the first frame; 0 without frames."""

    @property
    def end_ns(self) -> int:
        """The latest time stamp; 0 without frames."""

    @property
    def lost_frames(self) -> int:
        """Frames that the capturing machine says it lost."""

    def columns(self, table: str) -> Columns:
        """All rows of "flows" or "events".

        Beside the columns of the tables as documented: of flows `client_last_time` and `server_last_time` (ns, 0:
        never), of events `value` (the detail as a number), `facts` and `gap` (see `case.Note`).
        """

    def history(self, first: int, stop: int) -> Columns:
        """Transitions of the streams first .. stop - 1, by stream and endpoint, each endpoint's in order.

        Retracted ones stand behind the others of their endpoint.
        """
