"""What a live observation tells as lines of text: a line for each change, and what was captured so far.

Never here: a terminal's screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from observer.outputs.findings_text import sentence
from observer.outputs.text import Line, clean, count, endpoint, utc

ALIKE: Final = 3
"""Like changes at one moment that are told one by one; the rest is a number."""
KINDS: Final = {"raised": "", "changed": "now ", "ended": "over: ", "withdrawn": "withdrawn: "}
STYLE_OF: Final = {"problem": "problem", "warning": "warning", "info": ""}


class Change(Protocol):
    """What is new of a finding (`watch.announce.Change`)."""

    @property
    def kind(self) -> str:
        """Give raised, changed, ended or withdrawn."""

    @property
    def row(self) -> Mapping[str, Any]:
        """Give the finding."""

    @property
    def before(self) -> Mapping[str, Any] | None:
        """Give the finding as it was told last."""


def change_lines(changes: Sequence[Change], now_ns: int) -> Iterator[Line]:
    """Tell changes, the worst first, a line each; of many alike some, and how many more.

    Parameters
    ----------
    changes
        Of one moment.
    now_ns
        When they were noticed, ns since 1970.
    """
    seen: dict[tuple[Any, ...], int] = {}
    order = {"problem": 0, "warning": 1, "info": 2}
    alike: dict[tuple[Any, ...], Change] = {}
    for change in sorted(changes, key=lambda change: order.get(change.row["severity"], 3)):
        row = change.row
        kind = (change.kind, row["code"], row["cause"], row["server_addr"], row["server_port"])
        seen[kind] = seen.get(kind, 0) + 1
        alike.setdefault(kind, change)
        if seen[kind] <= ALIKE:
            yield _line(change, now_ns)
    for kind, number in seen.items():
        if number > ALIKE:
            yield _rest(alike[kind], number - ALIKE, now_ns)


def _line(change: Change, now_ns: int) -> Line:
    row = change.row
    where = _where(row)
    was = change.before["code"] if change.before and change.before["code"] != row["code"] else ""
    number = f" tcp.stream eq {row['stream']}" if row["stream"] is not None else ""
    return [
        (f"{utc(now_ns, 3)} ", "dim"),
        (f"{row['severity'].upper()} ", STYLE_OF.get(row["severity"], "")),
        (f"{KINDS[change.kind]}{row['grade']} {row['code']}", "name"),
        (f" (not {was})" if was else "", ""),
        (f" {where}" if where else "", ""),
        (number, "dim"),
        (f": {sentence(clean(row['summary']))}", ""),
    ]


def _rest(change: Change, number: int, now_ns: int) -> Line:
    row = change.row
    place = f" at {endpoint(row['server_addr'], row['server_port'])}" if row["server_addr"] else ""
    words = f"{KINDS[change.kind]}{count(number, 'more', 'more')} {row['code']}{place}"
    return [
        (f"{utc(now_ns, 3)} ", "dim"),
        (f"{row['severity'].upper()} ", STYLE_OF.get(row["severity"], "")),
        (words, ""),
    ]


def _where(row: Mapping[str, Any]) -> str:
    """Name the connection or the place."""
    client = _end(row["client_addr"], row["client_port"])
    server = _end(row["server_addr"], row["server_port"])
    return " -> ".join(one for one in (client, server) if one)


def _end(address: str | None, port: int | None) -> str:
    if address is None:
        return ""
    return endpoint(address, port) if port is not None else address


class Counts(Protocol):
    """What a live observation has counted (`watch.Live`)."""

    forgotten: int
    evicted: int
    dropped_events: int
    capture: Any

    @property
    def connections(self) -> int:
        """Give how many connections there were."""

    @property
    def segments(self) -> int:
        """Give how many segments there were."""


def statistics_lines(live: Counts, interfaces: Sequence[Any], seconds: float) -> Iterator[Line]:
    """Tell what was captured so far.

    Parameters
    ----------
    live
        The observation.
    interfaces
        What its feed says of each interface: name, state, frames, dropped_kernel, dropped_interface.
    seconds
        How long it has been capturing.
    """
    rate = live.capture.frames / seconds if seconds > 0 else 0.0
    words = [
        count(live.capture.frames, "frame"), f"{rate:,.0f}/s", count(live.segments, "TCP segment"),
        count(live.connections, "connection"),
    ]  # fmt: skip
    if live.forgotten:
        words.append(f"{live.forgotten:,} over and no longer held")
    if live.dropped_events:
        words.append(f"{live.dropped_events:,} old events given up")
    if live.evicted:
        words.append(f"{live.evicted:,} given up for want of room")
    yield [(", ".join(words), "")]
    for one in interfaces:
        lost = sum(number or 0 for number in (one.dropped_kernel, one.dropped_interface))
        state = "" if one.state == "capturing" else f", {one.state}"
        yield [
            (f"{clean(one.name)}: {count(one.frames, 'frame')}", ""),
            (f", {lost:,} lost" if lost else ", none lost", "warning" if lost else ""),
            (state, "warning"),
        ]
