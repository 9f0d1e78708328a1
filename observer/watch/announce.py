"""What changed among the findings since they were last looked at: each is raised once, then only what is new is told.

A finding is the same as before if its code, its connection (or, of populations, its place) and its endpoint are; of
several alike, the first in time stays the first.

Never here: how a change is told (outputs), or what is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

Row = Mapping[str, Any]
"""A finding, as `outputs.finding_rows.rows_as_json` gives it."""
Key = tuple[Any, ...]

TOLD: Final = ("severity", "grade", "cause")
"""A finding of which one of these is another than before has changed; sentences and evidence may grow silently."""
PLACE: Final = ("client_addr", "client_port", "server_addr", "server_port")


class Change(NamedTuple):
    """One announcement.

    Attributes
    ----------
    kind
        raised: it is new.  changed: severity, grade or cause is another.  ended: it lasted, and does no more.
        withdrawn: what came later shows that it was none.
    row
        The finding as it is now; withdrawn: as it was.
    before
        The finding as it was told last; None if raised.
    """

    kind: Literal["raised", "changed", "ended", "withdrawn"]
    row: Row
    before: Row | None


class Announcer:
    """Remembers what was announced.

    Examples
    --------
    >>> announcer = Announcer()
    >>> row = {"code": "half_open", "stream": 3, "endpoint": "client", "begin": 5, "end": None, "grade": "suspected"}
    >>> [change.kind for change in announcer.update([row])]
    ['raised']
    >>> [change.kind for change in announcer.update([row])]
    []
    >>> [change.kind for change in announcer.update([row | {"grade": "confirmed", "end": 9}])]
    ['changed']
    """

    def __init__(self) -> None:
        self._told: dict[Key, Row] = {}

    def update(self, rows: Iterable[Row]) -> list[Change]:
        """Compare all findings as they are now with what was told, and say what is new.

        A row's `stream` must name the same connection every time.
        """
        now = _by_key(rows)
        changes = [Change("withdrawn", before, before) for key, before in self._told.items() if key not in now]
        for key, row in now.items():
            before = self._told.get(key)
            if before is None:
                changes.append(Change("raised", row, None))
            elif any(before.get(name) != row.get(name) for name in TOLD):
                changes.append(Change("changed", row, before))
            elif before.get("end") is None and row.get("end") is not None:
                changes.append(Change("ended", row, before))
        self._told = now
        return changes

    def rows(self) -> list[Row]:
        """Give all findings as they were told last."""
        return list(self._told.values())

    def forget(self, streams: set[int]) -> None:
        """Never say again anything about these connections: nobody looks at them any more."""
        self._told = {key: row for key, row in self._told.items() if row.get("stream") not in streams}


def _by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    """Give each finding a key that stays: where several are alike, with its place among them."""
    seen: Counter[Key] = Counter()
    made: dict[Key, Row] = {}
    for row in sorted(rows, key=lambda row: row.get("begin") or 0):
        alike: Key = (row["code"], row.get("endpoint"), row.get("stream"))
        if row.get("stream") is None:
            alike += tuple(row.get(name) for name in PLACE)
        made[*alike, seen[alike]] = row
        seen[alike] += 1
    return made
