"""Groups of findings for people: what, where, since when, on which frames, and what to do.

Never here: which findings belong together (see `grouping`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from observer.outputs.grouping import Group
from observer.outputs.text import PLAIN_WIDTH, Line, clean, count, duration, endpoint, plain, utc, wrapped

IN_FULL: Final = 8
"""Groups that are told with everything; the further ones have a line or two each."""
IN_SHORT: Final = 8
"""Groups that are told in short after those; the rest is one line."""
FRAMES: Final = 3
"""Frame numbers of evidence that are named."""
CODES: Final = 4
"""Codes of absorbed findings that are named."""
STYLES: Final = {"problem": "problem", "warning": "warning", "info": "good"}
DAY_NS: Final = 86_400 * 10**9


def render_findings(
    groups: Sequence[Group], *, connections: int, begin_ns: int = 0, width: int = PLAIN_WIDTH
) -> Iterator[Line]:
    """Lay groups of findings out as lines, the worst first.

    Parameters
    ----------
    groups
        From `grouping.group`.
    connections
        How many connections were looked at.
    begin_ns
        Time of the capture's first frame, for relative times.
    width
        Columns to use.
    """
    if not groups:
        yield plain(f"No findings in {count(connections, 'connection')}", "good")
        return
    first, *more = wrapped([f"   {_tally(groups)}", f"in {count(connections, 'connection')}"], width - len("Findings"))
    yield (("Findings", "title"), (first, ""))
    for line in more:
        yield plain(line)
    grades = max(len(one.grade) for one in groups)
    in_full = [one for one in groups if one.severity != "info"][:IN_FULL]
    in_short = list(groups[len(in_full) :])
    for i, one in enumerate(in_full):
        if i:
            yield ()
        yield from _title(one, grades, width)
        yield from _details(one, begin_ns, width)
    if in_full and in_short:
        yield ()
    for one in in_short[:IN_SHORT]:
        yield from _title(one, grades, width)
        yield from _filter_lines(one, width)
    rest = in_short[IN_SHORT:]
    if rest:
        yield plain(f"  and {sum(one.findings for one in rest):,} more in {count(len(rest), 'group')} (--json, -o DIR)")


def _tally(groups: Sequence[Group]) -> str:
    """Count findings by severity, those of populations and of connections alike."""
    nouns = {"problem": ("problem", ""), "warning": ("warning", ""), "info": ("worth knowing", "worth knowing")}
    found = []
    for severity, (noun, plural) in nouns.items():
        number = sum(one.findings for one in groups if one.severity == severity)
        if number:
            found.append(count(number, noun, plural))
    return ", ".join(found)


def _title(one: Group, grades: int, width: int) -> Iterator[Line]:
    """Tell severity, grade, what and where; the first words are the ones that colour repeats."""
    begin = f"  {one.severity.upper():<8}  "
    words = clean(title_of(one)).split(" ")
    indent = " " * (len(begin) + grades + 2)
    lines = wrapped([indent + words[0], *words[1:]], width, indent)
    yield ((begin, STYLES[one.severity]), (f"{one.grade:<{grades}}  ", ""), (lines[0][len(indent) :], "name"))
    for line in lines[1:]:
        yield plain(line, "name")


def title_of(one: Group) -> str:
    """Return what it is, and where, in one line."""
    client = _place(one.client_addr, one.client_port)
    server = _place(one.server_addr, one.server_port)
    if one.population:
        often = f", {times(one.findings)}" if one.findings > 1 else ""
        where = f"{client} -> {server}" if client and server else client or server
        return f"{one.title}{': ' if where else ''}{where}{often}"
    if one.scope == "connection":
        return f"{one.title}: {client} -> {server}"
    where = {
        "listener": f"at {server}",
        "server": f"at {server}" + (f", {one.listeners} ports" if one.listeners > 1 else ""),
        "client": f"from {client}" + (f" to {count(one.listeners, 'listener')}" if one.listeners > 1 else ""),
    }.get(one.scope, f"between {count(one.clients, 'client')} and {count(one.listeners, 'listener')}")
    if one.scope in ("listener", "server") and one.clients == 1 and client:
        where += f" from {_place(one.client_addr, None)}"
    elif one.scope in ("listener", "server") and one.clients > 1:
        where += f" from {one.clients:,} clients"
    return f"{one.title}: {times(one.findings)} {where}"


def times(number: int) -> str:
    """Return how often, in words."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _place(address: str | None, port: int | None) -> str:
    if address is None:
        return ""
    return address if port is None else endpoint(address, port)


def _details(one: Group, begin_ns: int, width: int) -> Iterator[Line]:
    example = f"Stream {one.example}: " if one.findings > 1 and one.example is not None and not one.population else ""
    yield from _body((example + one.summary).split(" "), width)
    for text in (_cause(one), absorbed_words(one), grades_words(one)):
        yield from _body(text.split(" ") if text else [], width)
    yield from _body(when_words(one, begin_ns), width)
    yield from _evidence(one, width)
    if one.remedy:
        yield from _body(f"Remedy: {one.remedy}".split(" "), width, style="good")
    for text in one.unknown[:1]:
        yield from _body(f"Not known: {text}".split(" "), width, style="dim")


def _body(items: Sequence[str], width: int, separator: str = " ", style: str = "") -> Iterator[Line]:
    """Lay items out behind the margin of a finding; what comes from a capture is cleaned."""
    if items:
        indent = " " * 6
        cleaned = [clean(item) for item in items]
        for line in wrapped([indent + cleaned[0], *cleaned[1:]], width, indent, separator):
            yield plain(line, style)


def _cause(one: Group) -> str:
    if one.cause_meaning is None:
        return ""
    return f"Cause: {sentence(one.cause_meaning)}"


def sentence(text: str) -> str:
    """Begin with a capital, unless the first word is a name, and end with a full stop.

    Examples
    --------
    >>> sentence("the queue is full"), sentence("close() with unread octets")
    ('The queue is full.', 'close() with unread octets.')
    """
    first = text.partition(" ")[0]
    begin = text[:1].upper() if first.isalpha() and first.islower() else text[:1]
    return f"{begin}{text[1:].rstrip('.')}."


def absorbed_words(one: Group) -> str:
    """Say which findings of its connections a population explains; "" for none."""
    named = list(one.absorbed.items())
    parts = [f"{code} {number:,}" for code, number in named[:CODES]]
    more = sum(number for _, number in named[CODES:])
    parts += [f"{more:,} more"] * (more > 0)
    return f"Explains the findings of its connections: {', '.join(parts)}." if parts else ""


def grades_words(one: Group) -> str:
    """Say how many have which grade, if they differ; else ""."""
    if len(one.grades) < 2:
        return ""
    return "Of these " + ", ".join(f"{number:,} {grade}" for grade, number in one.grades.items()) + "."


def when_words(one: Group, begin_ns: int) -> list[str]:
    """Tell side and time, in parts that stay together on a line."""
    side = [f"{one.endpoint.capitalize()} side"] if one.endpoint else []
    if one.begin_ns is None:
        return side
    since, clock = duration(max(one.begin_ns - begin_ns, 0)), f"({utc(one.begin_ns, 3)})"
    if one.lasting:
        still = "still so at the end" if one.findings == 1 else f"{one.lasting:,} still so at the end"
        parts = [f"from {since} on", f"{clock},", still]
    elif one.end_ns is not None and one.end_ns > one.begin_ns:
        parts = [f"from {since} on for {duration(one.end_ns - one.begin_ns)}", clock]
    else:
        parts = [f"at {since}", clock]
    if not side:
        return [parts[0][:1].upper() + parts[0][1:], *parts[1:]]
    return [f"{side[0]}, {parts[0]}", *parts[1:]]


def _frames(one: Group) -> str:
    if not one.frames:
        return ""
    more = one.frame_count - FRAMES
    # of one more the number is as short as the word
    shown = sorted(one.frames if more <= 1 else one.frames[:FRAMES])
    text = ", ".join(map(str, shown))
    noun = "Frame" if one.frame_count == 1 else "Frames"
    return f"{noun} {text} and {more:,} more" if more > 1 else f"{noun} {text}"


def _filter(one: Group) -> str:
    shows = {"some": " (the first of them)", "more": " (and others)" if one.streams else ""}
    return f"Wireshark: {one.filter}{shows.get(one.filter_shows, '')}" if one.filter else ""


def _evidence(one: Group, width: int) -> Iterator[Line]:
    """Tell frames and filter in a line if they fit; a filter is broken only where no line holds it."""
    frames, show = _frames(one), _filter(one)
    together = f"{frames}   {show}"
    if frames and show and len(together) <= width - 6:
        yield from _body([together], width)
        return
    yield from _body([frames] if frames else [], width)
    yield from _filter_lines(one, width)


def _filter_lines(one: Group, width: int) -> Iterator[Line]:
    show = _filter(one)
    if show:
        yield from _body([show] if len(show) <= width - 6 else show.split(" "), width)
