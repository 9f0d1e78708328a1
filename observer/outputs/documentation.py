"""The documentation of tables and findings for people at a terminal, and of findings as Markdown.

Never here: what columns or findings mean; that stands in the schema, and with each finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from observer.outputs.findings_text import STYLES, sentence
from observer.outputs.text import PLAIN_WIDTH, Line, plain, wrapped
from observer.registry import Finding
from observer.schema import document, table


def render_schema(names: Sequence[str], *, width: int = PLAIN_WIDTH) -> Iterator[Line]:
    """Lay out what these tables hold, a column a paragraph."""
    for i, name in enumerate(names):
        if i:
            yield ()
        for title in wrapped([f"{name}:", *table(name).doc.split()], width):
            yield plain(title, "title")
        lines = document(name)
        left = max(len(line.name) for line in lines)
        for line in lines:
            words = line.doc.split()
            words += ["[" + ", ".join(part for part in (line.dtype, line.unit, line.source) if part) + "]"]
            if line.values:
                values = line.values.split(" ")
                words += ["(" + values[0], *values[1:]]
                words[-1] += ")"
            begin = f"  {line.name:<{left}}  "
            body = wrapped(["", *words], width - len(begin), "")
            for j, text in enumerate(body):
                yield ((begin if j == 0 else " " * len(begin), "name"), (text.strip(), ""))


def render_finding_codes(findings: Sequence[Finding], *, width: int = PLAIN_WIDTH) -> Iterator[Line]:
    """Lay out what findings mean: a paragraph each, of connections first, then of populations."""
    for i, finding in enumerate(in_order(findings)):
        if i:
            yield ()
        head = f"{finding.name}  "
        about = "population" if finding.judge is None else "connection"
        yield ((head, "name"), (f"{finding.title}  ", ""), (finding.severity, STYLES[finding.severity]))
        yield from _paragraph("", finding.definition, width)
        for cause, meaning in finding.causes.items():
            yield from _paragraph(f"{cause}: ", meaning, width, indent="    ")
        yield from _paragraph("Remedy: ", finding.remedy, width)
        yield from _paragraph(f"About a {about}. Source: ", finding.source, width, style="dim")


def _paragraph(begin: str, text: str, width: int, *, indent: str = "  ", style: str = "") -> Iterator[Line]:
    words = f"{begin}{text}".split(" ")
    for line in wrapped([indent + words[0], *words[1:]], width, indent + "  " * bool(begin and indent != "  ")):
        yield plain(line, style)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings of connections, then of populations, each in alphabetical order."""
    return sorted(findings, key=lambda finding: (finding.judge is None, finding.name))


def markdown_finding_codes(findings: Sequence[Finding]) -> Iterator[Line]:
    """Lay findings out as a table in Markdown."""
    yield plain("| code | severity | meaning | source |")
    yield plain("|---|---|---|---|")
    for finding in in_order(findings):
        meaning = sentence(finding.definition).replace("|", "\\|")
        yield plain(f"| `{finding.name}` | {finding.severity} | {meaning} | {finding.source} |")
