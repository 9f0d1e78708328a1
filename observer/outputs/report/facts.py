"""What stands around the findings of a report: headline, what was captured, what it cannot tell, how to read it.

Never here: markup; texts are escaped where they are put into the page.  Sources: RFC 9293 3.3.2 (states).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, NamedTuple

from observer.options import Options
from observer.outputs.findings_text import title_of
from observer.outputs.grouping import Group
from observer.outputs.summary import Handshake, Summary
from observer.outputs.terminal import ENDED, caveat_sentences, decoded_facts
from observer.outputs.text import count, duration, endpoint, octets, percent, state_words, utc

DAMAGES: Final = 8
"""Damages that are told one by one."""
FILES: Final = 12
"""Files that are told one by one."""
OUTCOMES: Final = 16
"""Combinations of states that are listed."""
NOTES: Final = 8
"""Notes of a file and names of its interfaces that are told."""
TEXT: Final = 300
"""Characters of one text out of the capture (a comment, a name) that are shown."""

GRADES: Final = {
    "confirmed": "The wire allows no other reading.",
    "probable": "A pattern that its usual cause explains; the finding names the alternative.",
    "suspected": "Consistent with what was captured, and not proved by it.",
}
CERTAINTIES: Final = {
    "no mark": "The endpoint itself sent the segment that implies the state, or something it sent later proves it.",
    "? (assumed)": "A segment towards the endpoint passed the tap; nothing captured shows that it arrived.",
    "retracted": "It was assumed, and something the endpoint sent later contradicts it.",
}
STATES: Final = {
    "CLOSED": "No connection: not yet, or no more.",
    "LISTEN": "A server waits for SYNs.",
    "SYN_SENT": "The client has sent its SYN: connect() waits.",
    "SYN_RECEIVED": "The server has answered with SYN-ACK and waits for the last ACK: accept() cannot return yet.",
    "ESTABLISHED": "The handshake is complete on this side; octets may flow.",
    "FIN_WAIT_1": "This side closed first; its FIN is not yet acknowledged.",
    "FIN_WAIT_2": "This side closed first and waits for the peer to close, too.",
    "CLOSE_WAIT": "The peer has closed; the application here has got end of file and has not closed.",
    "CLOSING": "Both closed at once; the FIN of this side is not yet acknowledged.",
    "LAST_ACK": "This side closed second and waits for the last ACK.",
    "TIME_WAIT": "Closed; the side that closed first keeps addresses and ports for 2 MSL (60 s on Linux).",
    "UNKNOWN": "The opening was not captured, and nothing yet tells.",
}
"""What each state means for the application, in a sentence."""


class Fact(NamedTuple):
    """A number or name with its label."""

    label: str
    value: str
    detail: str = ""


class Line(NamedTuple):
    """A row of a small table: cells, and the connection to look at, if any."""

    cells: tuple[str, ...]
    stream: int | None = None


def headline(summary: Summary) -> str:
    """Return the answer in a sentence: how many problems, and the worst."""
    total = count(summary.connections, "connection")
    if not summary.connections:
        return "No TCP connection in this capture"
    bad = [one for one in summary.finding_groups if one.severity != "info"]
    if not bad:
        few = " worth a warning" if summary.finding_groups else ""
        return f"No findings{few} in {total}"
    numbers = tally(summary.finding_groups)
    told = " and ".join(count(number, name) for name, number in numbers.items() if number and name != "note")
    worst = heading(bad[0])
    return f"{worst} ({told} in {total})" if len(bad) == 1 else f"{told} in {total}. The worst: {worst}"


def capital(text: str) -> str:
    """Return a text with a capital at its beginning, unless a name stands there.

    Examples
    --------
    >>> capital("half-open connection"), capital("connect() without any answer"), capital("10 more")
    ('Half-open connection', 'connect() without any answer', '10 more')
    """
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.replace("-", "").isalpha() else text


def heading(one: Group) -> str:
    """Return what it is, and where, as a heading."""
    return capital(title_of(one)).replace(" -> ", " → ")


def tally(groups: list[Group]) -> dict[str, int]:
    """Count findings by severity, the worst first."""
    names = {"problem": "problem", "warning": "warning", "info": "note"}
    return {name: sum(one.findings for one in groups if one.severity == key) for key, name in names.items()}


def tiles(summary: Summary) -> list[Fact]:
    """Return what the capture holds, in numbers."""
    found = []
    if summary.first_time_ns is not None and summary.last_time_ns is not None:
        span = duration(summary.last_time_ns - summary.first_time_ns)
        found.append(Fact("Captured", span, f"from {utc(summary.first_time_ns, 3)}"))
    frames = count(len(summary.files), "file") if len(summary.files) != 1 else ""
    found.append(Fact("Frames", f"{summary.frames:,}", frames))
    found.append(Fact("TCP segments", f"{summary.segments:,}", _repeated(summary)))
    found.append(Fact("Connections", f"{summary.connections:,}", count(summary.listener_count, "listener")))
    if summary.connections:
        both = octets(summary.client_octets + summary.server_octets)
        sides = f"{octets(summary.client_octets)} from clients, {octets(summary.server_octets)} from servers"
        found.append(Fact("Payload", both, sides))
    if summary.handshake_median_ns is not None:
        found.append(Fact("Handshake", duration(summary.handshake_median_ns), f"median of {summary.handshakes:,}"))
    return found


def _repeated(summary: Summary) -> str:
    if not summary.retransmitted:
        return "none retransmitted" if summary.packets else ""
    return f"{summary.retransmitted:,} retransmitted ({percent(summary.retransmitted, summary.packets)})"


def decoded(summary: Summary) -> str:
    """Return how much of it is TCP, and where the tap stood, in a sentence."""
    words = "; ".join(decoded_facts(summary))
    return f"{capital(words)}."


def files(infos: list[Any], summary: Summary) -> list[Fact]:
    """Return each file: name, what it is, and what it says about itself."""
    told = []
    for info, file in list(zip(infos, summary.files, strict=True))[:FILES]:
        says = [cut(text) for text in (info.hardware, info.operating_system, info.application) if text]
        says += [cut(f"interface {one.name}") for one in info.interfaces[:NOTES] if one.name]
        says += [cut(note) for note in info.notes[:NOTES]]
        kind = ", ".join([file.format, *file.link_types, count(file.frames, "frame")])
        if info.snaplen:
            kind += f", at most {count(info.snaplen, 'octet')} of each"
        told.append(Fact(cut(file.name), kind, "; ".join(says)))
    if len(summary.files) > FILES:
        told.append(Fact(f"and {len(summary.files) - FILES:,} more files", "", ""))
    return told


def cut(text: str) -> str:
    """Return a text out of the capture at a length that does not fill the page."""
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def doubts(summary: Summary) -> list[str]:
    """Return what could change the reading of the findings: damage, losses, what was not captured."""
    told = [
        f"{cut(damage['file'])}, octet {damage['offset']:,}, frame {damage['frame']:,}: {damage['message']}"
        for damage in summary.damages[:DAMAGES]
    ]
    if len(summary.damages) > DAMAGES:
        told.append(f"{len(summary.damages) - DAMAGES:,} more places are damaged (table skipped)")
    if summary.interrupted:
        told.append(f"Reading was stopped by Ctrl-C after {count(summary.frames, 'frame')}; the rest is not told here")
    dropped = sum(file.dropped for file in summary.files)
    if dropped:
        told.append(
            f"The capturing machine lost {count(dropped, 'frame')}: gaps may be the capture's, not the network's"
        )
    told += [
        f"{count(skip.frames, 'frame')} not decoded ({skip.reason}): {skip.explanation}"
        for skip in summary.skipped
        if skip.damage and skip.frames
    ]
    return [capital(sentence) for sentence in (*told, *caveat_sentences(summary))]


def skips(summary: Summary) -> list[Line]:
    """Return the frames without TCP: how many, why."""
    return [
        Line((f"{skip.frames:,}", skip.reason, skip.explanation))
        for skip in summary.skipped
        if skip.frames and not skip.damage
    ]


def outcomes(summary: Summary) -> list[Line]:
    """Return how connections ended, in which states."""
    rows = [
        Line(
            (f"{one.connections:,}", ENDED.get(one.ended, one.ended),
             state_words(one.client_state) + "?" * one.client_assumed,
             state_words(one.server_state) + "?" * one.server_assumed),
            one.example,
        )
        for one in summary.outcomes[:OUTCOMES]
    ]  # fmt: skip
    rest = summary.outcomes[OUTCOMES:]
    if rest:
        rows.append(Line((f"{sum(o.connections for o in rest):,}", f"in {len(rest)} other combinations", "", "")))
    return rows


def listeners(summary: Summary) -> list[Line]:
    """Return the busiest listeners."""
    return [
        Line((endpoint(one.address, one.port), f"{one.connections:,}", f"{one.clients:,}", octets(one.client_octets),
              octets(one.server_octets)))
        for one in summary.listeners
    ]  # fmt: skip


def handshakes(summary: Summary) -> list[Line]:
    """Return the slowest handshakes."""

    def row(one: Handshake) -> Line:
        names = endpoint(one.client_address, one.client_port), endpoint(one.server_address, one.server_port)
        return Line((duration(one.handshake_ns), *names, f"{one.syn_count:,}", f"{one.synack_count:,}"), one.stream)

    return [row(one) for one in summary.slowest_handshakes]


def settings(options: Options) -> list[Fact]:
    """Return the options of a run, each with its value; those that are not the default are marked."""
    usual = Options()
    told = []
    for one in fields(options):
        value = getattr(options, one.name)
        changed = value != getattr(usual, one.name)
        told.append(Fact(one.name, _value(value), "changed" if changed else ""))
    told.append(Fact("TIME-WAIT in use", f"{options.profile().time_wait_s:g} s"))
    return told


def _value(value: Any) -> str:
    if value is None:
        return "the stack's"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return " to ".join(map(str, value)) if isinstance(value, tuple) else str(value)
