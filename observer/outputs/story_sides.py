"""Both endpoints' changes of state, and what could be known of them at a moment of the story.

Never here: inference, or words.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from observer.outputs.text import state_words
from observer.schema import CERTAINTIES, ENDPOINTS, STATES

Ints = Any

ACKNOWLEDGED, ASSUMED, TIMER, RETRACTED = (
    CERTAINTIES.index(name) for name in ("acknowledged", "assumed", "timer", "retracted")
)


Moment = tuple[int, int, int]
"""Endpoint, frame (-1: none) and, without a frame, ns since 1970: clocks of tap and host differ by the way there."""


class Change(NamedTuple):
    """One row of the transitions, of one endpoint."""

    position: int  # index of the segment at which it takes effect
    frame: int
    time_ns: int
    before: int
    after: int
    cause: str
    certainty: int
    proof: int

    @property
    def how(self) -> str:
        """How it is known, if it is not plain."""
        if self.certainty == ACKNOWLEDGED and self.proof >= 0:
            return f"proved by frame {self.proof}"
        if self.certainty == RETRACTED:
            return f"assumed; retracted by frame {self.proof}" if self.proof >= 0 else "assumed; retracted"
        return "assumed" if self.certainty == ASSUMED else ""

    @property
    def doubtful(self) -> bool:
        """Whether it is, or was, only assumed."""
        return self.certainty in (ASSUMED, RETRACTED)


@dataclass
class Side:
    """One endpoint's changes, in order."""

    name: str
    changes: list[Change]
    first: int
    frames: Ints = field(repr=False)

    def state(self, position: int) -> str:
        """Return its state after the segment at this position, as it could be known then, `?` where assumed."""
        at = bisect.bisect_right(self.changes, position, key=lambda change: change.position)
        now = int(self.frames[position]) if 0 <= position < len(self.frames) else -1
        for change in reversed(self.changes[:at]):
            if change.certainty != RETRACTED or change.proof < 0 or change.proof > now:
                return state_words(STATES[change.after]) + "?" * change.doubtful
        return state_words(STATES[self.first])

    @property
    def number(self) -> int:
        """Its place in `schema.ENDPOINTS`."""
        return ENDPOINTS.index(self.name)

    def moment(self, change: Change) -> Moment:
        """What tells of a change."""
        return self.number, change.frame, change.time_ns if change.frame < 0 else 0
