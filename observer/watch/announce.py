"""What changed among the findings since they were last looked at: each is raised once, then only what is new is told.

A finding is the same as before if its code, its connection (or, of populations, its place) and its endpoint are; of
several alike, the first in time stays the first.

Never here: how a change is told (outputs), or what is found.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, Literal, NamedTuple

Row = Mapping[str, Any]
"""A finding, as `outputs.finding_rows.rows_as_json` gives it."""
Key = tuple[Any, ...]

TOLD: Final = ("severity", "grade", "cause")
"""A finding of which one of these is another than before has changed; sentences and evidence may grow silently."""
PAST: Final = 10_000
"""Findings of forgotten connections that are still known."""
PLACE: Final = ("client_addr", "client_port", "server_addr", "server_port")


class Change(NamedTuple):
    """One announcement.

    Attributes
    ----------
    kind
        raised: it is new.  changed: severity, grade, cause, or what it is at all, is another.  ended: it lasted, and
        does no more.
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
        self._past: deque[Row] = deque(maxlen=PAST)

    def update(self, rows: Iterable[Row], *, forgot: bool = False) -> list[Change]:
        """Compare all findings as they are now with what was told, and say what is new.

        A row's `stream` must name the same connection every time.  After connections were forgotten a population may
        be too small to be one: it is left as it was told, not withdrawn.
        """
        now = _by_key(rows)
        gone: dict[Any, list[Row]] = {}
        for key, before in self._told.items():
            if key in now:
                continue
            if forgot and before.get("stream") is None:
                self._past.append(before)
            else:
                gone.setdefault(before.get("stream"), []).append(before)
        changes = []
        for key, row in now.items():
            told = self._told.get(key)
            if told is None and row.get("stream") is not None and gone.get(row["stream"]):
                # what came since shows that it is something else: one announcement, not two
                changes.append(Change("changed", row, gone[row["stream"]].pop(0)))
            elif told is None:
                changes.append(Change("raised", row, None))
            elif any(told.get(name) != row.get(name) for name in TOLD):
                changes.append(Change("changed", row, told))
            elif told.get("end") is None and row.get("end") is not None:
                changes.append(Change("ended", row, told))
        self._told = now
        return changes + [Change("withdrawn", row, row) for rows in gone.values() for row in rows]

    def rows(self) -> list[Row]:
        """Give all findings as they were told last, those of forgotten connections (the latest `PAST`) first."""
        return [*self._past, *self._told.values()]

    def retire(self, streams: Set[int]) -> None:
        """Leave what was told about these connections as it is: nobody looks at them any more."""
        self._past.extend(row for row in self._told.values() if row.get("stream") in streams)
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
