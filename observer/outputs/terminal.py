"""The summary of a capture for people: the answer first, 80 columns, plain text without a terminal.

Never here: counting (see `summary`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from observer.outputs.findings_text import render_findings
from observer.outputs.summary import Handshake, Listener, Outcome, Summary
from observer.outputs.text import (
    PLAIN_WIDTH,
    Line,
    clean,
    count,
    duration,
    endpoint,
    octets,
    percent,
    plain,
    state_words,
    utc,
    wrapped,
)

OUTCOMES: Final = 12
"""Combinations of states that are listed; the rest is one line."""
SKIPS: Final = 8
"""Reasons that are listed; the rest is one line."""
DAMAGES: Final = 5
"""Damages that are listed; the rest is one line."""
BLANK: Final[Line] = ()
ENDED: Final = {"fin": "closed", "reset": "reset", "timeout": "timed out", "open": "open"}


def render_summary(summary: Summary, *, width: int = PLAIN_WIDTH, command: Sequence[str] = ()) -> Iterator[Line]:
    """Lay a summary out as lines.

    Parameters
    ----------
    summary
        The numbers.
    width
        Columns to use.
    command
        Names of the files as the user gave them, for the hint on what to do next.
    """
    yield from _head(summary, width)
    yield from _damages(summary, width)
    yield from _skipped(summary, width)
    if summary.connections:
        yield from _caveats(summary, width)
        yield from _findings(summary, width)
        yield from _outcomes(summary, width)
        yield from _listeners(summary, width)
        yield from _handshakes(summary, width)
        yield from _next(summary, command)


def _head(summary: Summary, width: int) -> Iterator[Line]:
    files = summary.files
    if len(files) == 1:
        name, facts = clean(files[0].name), _facts_of(files[0].format, files[0].link_types)
        if len(name) + len(facts) + 3 <= width:
            yield ((name, "name"), ("   " + facts, ""))
        else:
            yield plain(name, "name")
            yield plain("  " + facts)
    else:
        formats = list(dict.fromkeys(file.format for file in files))
        links = list(dict.fromkeys(link for file in files for link in file.link_types))
        yield ((count(len(files), "file"), "name"), ("   " + _facts_of(", ".join(formats), links), ""))
        for file in files[:DAMAGES]:
            yield plain(f"  {clean(file.name)}, {count(file.frames, 'frame')}")
        if len(files) > DAMAGES:
            yield plain(f"  and {len(files) - DAMAGES:,} more")
    when = []
    if summary.first_time_ns is not None:
        last = summary.last_time_ns if summary.last_time_ns is not None else summary.first_time_ns
        when = [utc(summary.first_time_ns), duration(last - summary.first_time_ns)]
    facts_after = [*when, count(summary.frames, "frame")]
    facts_after += [f"stopped by Ctrl-C after {facts_after.pop()}"] if summary.interrupted else []
    for line in wrapped(["  " + facts_after[0], *facts_after[1:]], width, separator=", "):
        yield plain(line)
    first, *more = decoded_facts(summary)
    for line in wrapped(["  " + first, *more], width, separator="; "):
        yield plain(line)
    if summary.selection:
        chosen = f"{summary.connections:,} of {count(summary.connections_in_capture, 'connection')}"
        for line in wrapped([f"  {chosen} chosen:", clean(summary.selection)], width):
            yield plain(line, "warning" if not summary.connections else "")


def _facts_of(formats: str, links: Sequence[str]) -> str:
    return clean(", ".join([formats, *links]))


def decoded_facts(summary: Summary) -> list[str]:
    """Say how much TCP there is, whether everything could be decoded, and where the tap stood."""
    total = summary.connections_in_capture
    if not summary.segments:
        facts = ["no TCP segments"]
    else:
        facts = [f"{count(summary.segments, 'TCP segment')} in {count(total, 'connection')}"]
    if summary.quoted:
        facts.append(f"{count(summary.quoted, 'ICMP error')} about them")
    skipped = sum(skip.frames for skip in summary.skipped)
    if not skipped:
        facts.append("every frame decoded" if summary.frames else "nothing was captured")
    elif summary.undecodable:
        facts.append(f"{count(summary.undecodable, 'frame')} could not be decoded")
    else:
        facts.append("everything else is not TCP")
    if summary.tap and summary.tap_share > 0.5:
        near = {"client": "near the client", "server": "near the server", "middle": "between client and server"}
        where = near[summary.tap] if summary.tap_share > 0.9 else f"mostly {near[summary.tap]}"
        facts.append("tap " + where)
    return facts


def _damages(summary: Summary, width: int) -> Iterator[Line]:
    dropped = sum(file.dropped for file in summary.files)
    if not summary.damages and not dropped:
        return
    yield BLANK
    yield plain("Damage", "problem")
    for damage in summary.damages[:DAMAGES]:
        place = f"  {clean(damage['file'])}, octet {damage['offset']:,}, frame {damage['frame']:,}:"
        for line in wrapped([place, *clean(damage["message"]).split()], width, "    "):
            yield plain(line, "warning")
    if len(summary.damages) > DAMAGES:
        yield plain(f"  and {len(summary.damages) - DAMAGES:,} more (see the table skipped)", "warning")
    if dropped:
        text = f"  the capturing machine lost {count(dropped, 'frame')}: gaps may be the capture's, not the network's"
        for line in wrapped(text.split(" "), width, "    "):
            yield plain(line, "warning")


def _skipped(summary: Summary, width: int) -> Iterator[Line]:
    skips = [skip for skip in summary.skipped if skip.frames]
    if not skips:
        return
    yield BLANK
    total = sum(skip.frames for skip in skips)
    yield ((f"Frames without TCP   {total:,} of {summary.frames:,}", "title"),)
    shown = skips[:SKIPS] if len(skips) > SKIPS + 1 else skips
    figures = max(len(f"{skip.frames:,}") for skip in skips)
    names = max(len(clean(skip.reason)) for skip in shown)
    for skip in shown:
        begin = f"  {skip.frames:>{figures},}  {clean(skip.reason):<{names}}  "
        words = clean(skip.explanation).split() or [""]
        style = "warning" if skip.damage else ""
        for i, line in enumerate(wrapped([begin + words[0], *words[1:]], width, " " * len(begin))):
            yield plain(line, style if i == 0 else "")
    if len(shown) < len(skips):
        rest = skips[len(shown) :]
        yield plain(f"  {sum(skip.frames for skip in rest):>{figures},}  for {len(rest)} other reasons")


def caveat_sentences(summary: Summary) -> list[str]:
    """Say what of the connections was not captured and could change the reading of everything else."""
    notes = []
    if summary.opening_not_seen:
        notes.append(
            f"the opening of {_share(summary.opening_not_seen, summary.connections)} was not captured: "
            "which side is the client is inferred there"
        )
    if summary.one_direction:
        notes.append(
            f"only one direction of {_share(summary.one_direction, summary.connections)} was captured: "
            "nothing is claimed about the silent side"
        )
    return notes


def _caveats(summary: Summary, width: int) -> Iterator[Line]:
    notes = caveat_sentences(summary)
    if notes:
        yield BLANK
        yield plain("What this capture cannot tell", "title")
    for note in notes:
        for line in wrapped(["  " + note.split()[0], *note.split()[1:]], width, "    "):
            yield plain(line)


def _findings(summary: Summary, width: int) -> Iterator[Line]:
    if summary.findings is not None:
        yield BLANK
        yield from render_findings(
            summary.finding_groups,
            connections=summary.connections,
            begin_ns=summary.first_time_ns or 0,
            width=width,
        )


def _share(part: int, whole: int) -> str:
    if part < whole:
        return f"{part:,} of {count(whole, 'connection')}"
    return "the connection" if whole == 1 else f"all {count(whole, 'connection')}"


def _outcomes(summary: Summary, width: int) -> Iterator[Line]:
    yield BLANK
    shown = summary.outcomes[:OUTCOMES] if len(summary.outcomes) > OUTCOMES + 1 else summary.outcomes
    figures = max(len(f"{summary.connections:,}"), len("Connections"))
    rows = [(f"{o.connections:,}", ENDED.get(o.ended, o.ended), *_states(o), o.example) for o in shown]
    client = max(len("client side"), *(len(row[2]) for row in rows))
    server = max(len("server side"), *(len(row[3]) for row in rows))
    head = f"{'Connections':<{figures}}   {'ended':<9}   {'client side':<{client}}   {'server side':<{server}}"
    yield plain(head + ("   for example" if summary.connections > 1 else ""), "title")
    for number, ended, left, right, example in rows:
        yield (
            (f"{number:>{figures}}   {ended:<9}   ", ""),
            (f"{left:<{client}}   {right:<{server}}", "state"),
            (f"   tcp.stream eq {example}" if summary.connections > 1 else "", ""),
        )
    rest = summary.outcomes[len(shown) :]
    if rest:
        number = f"{sum(outcome.connections for outcome in rest):,}"
        yield plain(f"{number:>{figures}}   in {len(rest)} other combinations")
    if any(outcome.client_assumed or outcome.server_assumed for outcome in shown):
        yield plain(f"{'':{figures}}   ? assumed: nothing captured shows that it got that far", "dim")
    facts = [f"  {octets(summary.client_octets)} from clients", f"{octets(summary.server_octets)} from servers"]
    if summary.retransmitted:
        share = percent(summary.retransmitted, summary.packets)
        facts.append(f"{count(summary.retransmitted, 'segment')} retransmitted ({share})")
    for line in wrapped(facts, width, separator=", "):
        yield plain(line)


def _states(outcome: Outcome) -> tuple[str, str]:
    return (
        state_words(outcome.client_state) + "?" * outcome.client_assumed,
        state_words(outcome.server_state) + "?" * outcome.server_assumed,
    )


def _listeners(summary: Summary, width: int) -> Iterator[Line]:
    yield BLANK
    if summary.listener_count > len(summary.listeners):
        yield plain(f"Busiest listeners of {summary.listener_count:,}", "title")
    else:
        yield plain("Listeners", "title")
    names = [endpoint(listener.address, listener.port) for listener in summary.listeners]
    widest = max(len(name) for name in names)
    for name, listener in zip(names, summary.listeners, strict=True):
        begin = f"  {name:<{widest}}"
        if len(begin) + 3 + len(_traffic(listener)) > width:
            begin = f"  {name}"
        for line in wrapped([begin, " " + _traffic(listener)], width, "     ", "  "):
            yield plain(line)


def _traffic(listener: Listener) -> str:
    clients = f"{listener.clients:,} client{'s' if listener.clients != 1 else ''}"
    return (
        f"{count(listener.connections, 'connection')}, {clients}, "
        f"{octets(listener.client_octets)} in, {octets(listener.server_octets)} out"
    )


def _handshakes(summary: Summary, width: int) -> Iterator[Line]:
    if not summary.slowest_handshakes:
        return
    yield BLANK
    title = "Slowest handshakes" if summary.handshakes > len(summary.slowest_handshakes) else "Handshakes"
    median = f"   median {duration(summary.handshake_median_ns or 0)} of {summary.handshakes:,}"
    yield ((title, "title"), (median if summary.handshakes > 1 else "", ""))
    spans = max(len(duration(shake.handshake_ns)) for shake in summary.slowest_handshakes)
    ends = [
        (endpoint(shake.client_address, shake.client_port), endpoint(shake.server_address, shake.server_port))
        for shake in summary.slowest_handshakes
    ]
    pairs = max(len(client) + len(server) for client, server in ends) + len(" -> ")
    filters = max(len(f"tcp.stream eq {shake.stream}") for shake in summary.slowest_handshakes)
    for shake, (client, server) in zip(summary.slowest_handshakes, ends, strict=True):
        begin, jump = f"  {duration(shake.handshake_ns):>{spans}}  ", f"tcp.stream eq {shake.stream}"
        if len(begin) + pairs + 2 + filters <= width:
            items = [f"{begin}{f'{client} -> {server}':<{pairs}}  {jump:<{filters}}", *_repeats(shake)]
        else:
            items = [begin + client, f"-> {server}", " " + jump, *_repeats(shake)]
        for line in wrapped(items, width, " " * len(begin)):
            yield plain(line.rstrip())


def _repeats(shake: Handshake) -> list[str]:
    """Say what was sent more than once."""
    numbers = ((shake.syn_count, "SYN"), (shake.synack_count, "SYN-ACK"))
    words = ", ".join(count(number, name) for number, name in numbers if number > 1)
    return [" " + words] if words else []


def _next(summary: Summary, command: Sequence[str]) -> Iterator[Line]:
    if len(command) == 1 and command[0] != "-" and command[0].isprintable():
        yield BLANK
        found = [one.example for one in summary.finding_groups if one.example is not None]
        bad = [outcome.example for outcome in summary.outcomes if outcome.ended in ("timeout", "reset")]
        slow = [handshake.stream for handshake in summary.slowest_handshakes]
        stream = [*found, *bad, *slow, summary.outcomes[0].example][0]
        yield plain(f"Next: observer explain {shlex.quote(command[0])} {stream}", "dim")
        yield plain(f"      observer report {shlex.quote(command[0])}   (one page, to send)", "dim")
