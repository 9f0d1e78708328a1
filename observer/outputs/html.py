"""What a notebook shows of an observation, a connection, a finding: pieces of HTML for light and dark themes.

Texts are those of the terminal; everything that comes from a capture is cleaned and escaped.  Colours are of a
lightness that reads on white and on black alike (4 : 1, WCAG 2.1), and repeat what words say.

Never here: scripts, pictures (they come as octets), or what is said.  Sources: HTML Living Standard; RFC 2397.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from observer.outputs.findings_text import (
    FRAMES,
    IN_FULL,
    IN_SHORT,
    absorbed_words,
    grades_words,
    sentence,
    title_of,
    when_words,
)
from observer.outputs.grouping import Group, group
from observer.outputs.summary import Outcome, Summary
from observer.outputs.terminal import ENDED, caveat_sentences, decoded_facts, render_summary
from observer.outputs.text import Line, clean, count, duration, octets, state_words, utc
from observer.schema import Columns

OUTCOMES: Final = 8
"""Combinations of states that are listed; the rest is one line."""
STYLE: Final = """<style>
.tcpo { font-size: 13px; line-height: 1.45; max-width: 72em; color: inherit; }
.tcpo .o-dim { opacity: .72; }
.tcpo .o-card { border-left: 4px solid #808080; padding: .1em 0 .1em .8em; margin: .7em 0; }
.tcpo .o-problem { border-left-color: #D55E00; }
.tcpo .o-warning { border-left-color: #E69F00; }
.tcpo .o-info { border-left-color: #56B4E9; }
.tcpo .o-badge { color: #000; background: #A0A0A0; font-weight: 600; font-size: 11px; letter-spacing: .04em;
  padding: 1px 6px; border-radius: 3px; }
.tcpo .o-problem .o-badge { background: #E8692C; }
.tcpo .o-warning .o-badge { background: #E69F00; }
.tcpo .o-info .o-badge { background: #56B4E9; }
.tcpo .o-head { margin: .9em 0 .2em; font-weight: 600; font-size: 14px; }
.tcpo code { background: rgba(128, 128, 128, .16); color: inherit; padding: 0 .3em; border-radius: 3px; }
.tcpo.tcpo table { border-collapse: collapse; margin: .2em 0; color: inherit; font-size: 13px; }
.tcpo.tcpo tbody tr { background: transparent; }
.tcpo.tcpo th, .tcpo.tcpo td { text-align: left; padding: .12em 1.2em .12em 0; border: 0; background: transparent; }
.tcpo.tcpo th { border-bottom: 1px solid rgba(128, 128, 128, .5); font-weight: 600; }
.tcpo.tcpo .o-number { text-align: right; font-variant-numeric: tabular-nums; }
.tcpo img { background: #FFF; width: 100%; max-width: 1000px; height: auto; border-radius: 3px; }
.tcpo summary { cursor: pointer; }
pre.tcpo-text.tcpo-text { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px;
  line-height: 1.35; overflow-x: auto; color: inherit; background: transparent; margin: .3em 0; white-space: pre; }
</style>"""
TEXT_STYLES: Final = {
    "title": "font-weight:600", "name": "font-weight:600", "dim": "opacity:.7", "good": "color:#219653",
    "warning": "color:#AD7500", "problem": "color:#D9531E;font-weight:600", "state": "color:#14869B",
}  # fmt: skip


class Told(str):
    """A text that prints as it stands, and shows its colours in a notebook.

    Attributes
    ----------
    lines
        Its lines, with styles.
    """

    lines: list[Line]

    def __new__(cls, lines: Iterable[Line]) -> Told:
        """Make the text from lines with styles."""
        kept = list(lines)
        told = super().__new__(cls, "\n".join("".join(text for text, _ in line).rstrip() for line in kept))
        told.lines = kept
        return told

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return STYLE + text_html(self.lines)


def text_html(lines: Iterable[Line]) -> str:
    """Return lines with styles as preformatted HTML."""
    body = "\n".join("".join(_span(text, style) for text, style in line) for line in lines)
    return f'<pre class="tcpo-text">{body}</pre>'


def _span(text: str, style: str) -> str:
    said = TEXT_STYLES.get(style)
    return f'<span style="{said}">{escape(text)}</span>' if said else escape(text)


def safe(text: str) -> str:
    """Return text from anywhere as HTML: what acts or hides is shown as an escape.

    Examples
    --------
    >>> safe('<b>a & b</b>')
    '&lt;b&gt;a &amp; b&lt;/b&gt;'
    """
    return escape(clean(text))


def picture_html(octets_png: bytes, label: str) -> str:
    """Return a PNG as an element of HTML; label: what it shows, for those who cannot see it."""
    data = base64.b64encode(octets_png).decode("ascii")
    return f'<img alt="{escape(clean(label), quote=True)}" src="data:image/png;base64,{data}">'


def note_html(text: str) -> str:
    """Return a sentence that stands in the place of something."""
    return f'<div class="o-dim">{safe(text)}</div>'


def page(*parts: str) -> str:
    """Return the parts as one output of a cell."""
    return f'{STYLE}<div class="tcpo">{"".join(parts)}</div>'


# --- an observation -----------------------------------------------------------------------------------------
def summary_text(summary: Summary, *, width: int = 80) -> Told:
    """Return what `observer read` prints."""
    return Told(render_summary(summary, width=width))


def observation_html(summary: Summary, *, picture: str = "") -> str:
    """Return an observation: headline, findings with grades, connections by outcome, the worst finding's ladder.

    Parameters
    ----------
    summary
        Its numbers.
    picture
        HTML of the ladder, or of a sentence in its place.
    """
    return page(
        _headline(summary), _damages(summary), _caveats(summary),
        _findings(summary) if summary.connections else "", _outcomes(summary), picture,
    )  # fmt: skip


def _headline(summary: Summary) -> str:
    files = summary.files
    if len(files) == 1:
        name, kind = files[0].name, ", ".join([files[0].format, *files[0].link_types])
    else:
        name, kind = count(len(files), "file"), ", ".join(dict.fromkeys(file.format for file in files))
    facts = []
    if summary.first_time_ns is not None:
        last = summary.last_time_ns if summary.last_time_ns is not None else summary.first_time_ns
        facts = [utc(summary.first_time_ns), duration(last - summary.first_time_ns)]
    facts += [count(summary.frames, "frame"), *decoded_facts(summary)]
    lines = [
        f'<div class="o-head" style="margin-top:0">{safe(name)} <span class="o-dim">{safe(kind)}</span></div>',
        f"<div>{safe('; '.join(facts))}</div>",
    ]
    if summary.selection:
        chosen = f"{summary.connections:,} of {count(summary.connections_in_capture, 'connection')} chosen"
        lines.append(f"<div><b>{chosen}:</b> {safe(summary.selection)}</div>")
    if summary.interrupted:
        lines.append("<div>Reading was stopped before the end.</div>")
    return "".join(lines)


def _damages(summary: Summary) -> str:
    said = [
        f"<b>Damage</b> {safe(hurt['file'])}, octet {hurt['offset']:,}, frame {hurt['frame']:,}: "
        f"{safe(hurt['message'])}"
        for hurt in summary.damages[:3]
    ]
    if len(summary.damages) > len(said):
        said.append(f"and {len(summary.damages) - len(said):,} more (<code>obs.skipped</code>)")
    dropped = sum(file.dropped for file in summary.files)
    if dropped:
        said.append(
            f"<b>Damage</b> the capturing machine lost {count(dropped, 'frame')}: gaps may be the capture's, not the "
            "network's"
        )
    return "".join(f"<div>{line}</div>" for line in said)


def _caveats(summary: Summary) -> str:
    notes = caveat_sentences(summary) if summary.connections else []
    return "".join(f'<div><span class="o-dim">Not to be known here:</span> {safe(note)}</div>' for note in notes)


def _findings(summary: Summary) -> str:
    connections = count(summary.connections, "connection")
    groups = summary.finding_groups
    if not groups:
        return f'<div class="o-head">No findings in {connections}</div>'
    found = sum(one.findings for one in groups)
    begin = summary.first_time_ns or 0
    parts = [f'<div class="o-head">{count(found, "finding")} in {connections}, the worst first</div>']
    parts += [group_html(one, begin_ns=begin) for one in groups[:IN_FULL]]
    parts += [group_html(one, begin_ns=begin, short=True) for one in groups[IN_FULL : IN_FULL + IN_SHORT]]
    rest = groups[IN_FULL + IN_SHORT :]
    if rest:
        parts.append(f"<div>and {sum(one.findings for one in rest):,} more: <code>obs.findings</code></div>")
    return "".join(parts)


def group_html(one: Group, *, begin_ns: int, short: bool = False) -> str:
    """Return a group of like findings as a card; short: its title and filter alone."""
    title = (
        f'<div><span class="o-badge">{safe(one.severity.upper())}</span> '
        f'<span class="o-dim">{safe(one.grade)}</span> <b>{safe(title_of(one))}</b></div>'
    )
    show = f"<div>Wireshark: <code>{safe(one.filter)}</code></div>" if one.filter else ""
    if short or one.severity == "info":
        body = "" if short else f"<div>{_summary_of(one)}</div>"
        return f'<div class="o-card o-{one.severity}">{title}{body}{show}</div>'
    more = [f"Cause: {sentence(one.cause_meaning)}"] if one.cause_meaning else []
    more += [text for text in (absorbed_words(one), grades_words(one)) if text]
    lines = [title, f"<div>{_summary_of(one)}</div>", *(f"<div>{safe(text)}</div>" for text in more)]
    evidence = [part for part in (" ".join(when_words(one, begin_ns)), _frames(one)) if part]
    lines.append(f'<div class="o-dim">{safe("; ".join(evidence))}</div>')
    lines.append(show)
    if one.remedy:
        lines.append(f"<div><b>Remedy:</b> {safe(one.remedy)}</div>")
    lines += [f'<div class="o-dim">Not known: {safe(text)}</div>' for text in one.unknown[:1]]
    return f'<div class="o-card o-{one.severity}">{"".join(lines)}</div>'


def _summary_of(one: Group) -> str:
    example = f"Stream {one.example}: " if one.findings > 1 and one.example is not None and not one.population else ""
    return safe(example + one.summary)


def _frames(one: Group) -> str:
    if not one.frames:
        return ""
    shown = sorted(one.frames[:FRAMES])
    more = one.frame_count - len(shown)
    noun = "frame" if one.frame_count == 1 else "frames"
    return f"evidence: {noun} {', '.join(map(str, shown))}" + (f" and {more:,} more" if more else "")


def _outcomes(summary: Summary) -> str:
    if not summary.connections:
        return ""
    shown = summary.outcomes[:OUTCOMES] if len(summary.outcomes) > OUTCOMES + 1 else summary.outcomes
    rows = "".join(_outcome(one) for one in shown)
    rest = sum(one.connections for one in summary.outcomes[len(shown) :])
    if rest:
        rows += f'<tr><td class="o-number">{rest:,}</td><td colspan="4">in other combinations</td></tr>'
    head = "".join(f"<th>{word}</th>" for word in ("connections", "ended", "client side", "server side", "for example"))
    guessed = any(one.client_assumed or one.server_assumed for one in shown)
    legend = note_html("? assumed: nothing captured shows that it got that far") if guessed else ""
    facts = f"{octets(summary.client_octets)} from clients, {octets(summary.server_octets)} from servers"
    if summary.retransmitted:
        facts += f", {count(summary.retransmitted, 'segment')} retransmitted"
    return (
        f'<div class="o-head">How the connections ended</div><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{legend}{note_html(facts)}"
    )


def _outcome(one: Outcome) -> str:
    cells = [
        ENDED.get(one.ended, one.ended),
        state_words(one.client_state) + "?" * one.client_assumed,
        state_words(one.server_state) + "?" * one.server_assumed,
        f"stream {one.example}",
    ]
    return (
        f'<tr><td class="o-number">{one.connections:,}</td>' + "".join(f"<td>{safe(c)}</td>" for c in cells) + "</tr>"
    )


# --- a connection, a finding --------------------------------------------------------------------------------
def flow_html(head: Sequence[Line], findings: Columns, story: Sequence[Line], *, begin_ns: int, picture: str) -> str:
    """Return a connection: who and how it ended, its findings, its ladder, its story segment by segment.

    Parameters
    ----------
    head, story
        Lines from `story_head` and `explain`; the story may be empty.
    findings
        Raw columns of its findings and of those of populations that it is part of.
    begin_ns
        Time of the capture's first frame.
    picture
        HTML of the ladder, or of a sentence in its place.
    """
    cards = "".join(group_html(one, begin_ns=begin_ns) for one in group(findings, absorb=False))
    first = next((at for at, line in enumerate(story) if not line), -1)  # before it: head and findings, told already
    story = story[first + 1 :]
    told = f"<details><summary>The story, segment by segment</summary>{text_html(story)}</details>" if story else ""
    return page(text_html(head), cards or note_html("No findings."), picture, told)


def finding_html(findings: Columns, *, begin_ns: int, picture: str) -> str:
    """Return one finding, and the ladder of its connection."""
    cards = "".join(group_html(one, begin_ns=begin_ns) for one in group(findings, absorb=False))
    return page(cards, picture)
