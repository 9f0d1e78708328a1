"""The page of a report: everything about a capture put into one HTML file, which is written whole or not at all.

The same capture, options and version give the same octets.  Whatever comes from the capture is escaped by the
template (Jinja2's autoescape) after characters that act or hide were made visible; data for the script stands in JSON
in which nothing can end the script's element.  The page asks for nothing from any network, and forbids it.

Never here: what is told.  Sources: HTML Living Standard (script data), CSP Level 3 (hashes), WAI-ARIA 1.2.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from observer.errors import OptionError
from observer.options import Options
from observer.outputs.report import facts
from observer.outputs.report.cards import CARDS, SHORT, cards, rest_words, to_draw
from observer.outputs.report.rows import Sheet, finding_sheet, flow_sheet, reset_sheet
from observer.outputs.summary import Summary, summarise
from observer.outputs.text import clean, count, state_words
from observer.registry import Plot, collect
from observer.schema import Columns

if TYPE_CHECKING:
    import jinja2

    from observer.outputs.summary import CaptureFacts

PICTURES: Final = ("population", "time_wait", "resets", "handshake", "matrix", "states")
LINES: Final = 40
"""Clients of one listener up to which a matrix shows each; of more it would be one column of the same."""
LANES: Final = 60
"""Connections up to which every one has a lane that can be told from its neighbours."""
PAGE_ROWS: Final = 25
"""Rows of a table that stand in the page without the script, as many as it shows at once."""
CODE: Final = re.compile("`([^`]*)`")
BEGIN: Final = b"<!doctype html"
"""What a report begins with."""
SYMBOLS: Final = {"problem": "▲", "warning": "◆", "info": "●"}
"""What tells severities apart without colour."""


class Drawing(Protocol):
    """Draws pictures as elements of HTML, see `observer.plots.inline.Drawing`."""

    @property
    def state_colours(self) -> Mapping[str, str]:
        """Give the colour "#RRGGBB" of each state."""

    def prepare(self, streams: Sequence[int]) -> str:
        """Get what pictures of these connections need; return why there are none, or ""."""

    def __call__(self, name: str, stream: int | None = None) -> str:
        """Draw one; "" if there is nothing to see."""


class Subject(Protocol):
    """What a report asks of an observation."""

    options: Options

    def columns(self, table: str) -> Columns:
        """Return raw columns."""

    @property
    def capture(self) -> CaptureFacts:
        """Give files, frames, times and damages."""

    @property
    def segments(self) -> int:
        """Count the segments."""

    @property
    def quoted_frames(self) -> int:
        """Count the ICMP errors that quote a segment."""


class Picture(NamedTuple):
    """One picture with its words; `html` is safe."""

    name: str
    title: str
    doc: str
    html: Any


def write_report(
    subject: Subject,
    path: str | os.PathLike[str],
    *,
    drawing: Drawing,
    version: str,
    names: Sequence[str] = (),
    made: str = "",
) -> Summary:
    """Write the report of an observation.

    Parameters
    ----------
    subject
        An `observer.Observation`.
    path
        The file; it is replaced at the moment its successor is whole.
    drawing
        Draws pictures.
    version
        Of this package.
    names
        Files as the user named them, for commands to copy.
    made
        When it was made, in words; "": not said.

    Returns
    -------
    Summary
        What was told.

    Raises
    ------
    OptionError
        If the file cannot be written.
    """
    summary = summarise(
        subject.capture, subject.segments, subject.columns("skipped"), subject.columns("flows"),
        quoted=subject.quoted_frames, findings=subject.columns("findings"),
    )  # fmt: skip
    write(Path(path), page(subject, summary, drawing=drawing, version=version, names=names, made=made))
    return summary


def page(subject: Subject, summary: Summary, *, drawing: Drawing, version: str, names: Sequence[str], made: str) -> str:
    """Return the page as text, see `write_report`."""
    from markupsafe import Markup

    begin_ns = summary.first_time_ns or 0
    groups = summary.finding_groups
    streams = to_draw(groups)
    without = drawing.prepare(streams) if streams else ""
    ladders = {} if without else {stream: Markup(drawing("ladder", stream)) for stream in streams}
    told = cards(groups[: CARDS + SHORT], begin_ns, list(ladders))
    sheets = [sheet for sheet in _sheets(subject, begin_ns) if sheet.rows]
    script = _text("page.js")
    return _environment().get_template("page.html").render(
        title=facts.headline(summary), summary=summary, tally=facts.tally(groups), tiles=facts.tiles(summary),
        decoded=facts.decoded(summary), files=facts.files(list(subject.capture.files), summary),
        doubts=facts.doubts(summary), skips=facts.skips(summary), outcomes=facts.outcomes(summary),
        listeners=facts.listeners(summary), handshakes=facts.handshakes(summary),
        cards=[one for one in told if one.severity != "info"][:CARDS],
        short=[one for one in told if one.severity == "info"] + [one for one in told if one.severity != "info"][CARDS:],
        rest=rest_words(groups), ladders=ladders, without=without, pictures=_pictures(drawing, summary),
        sheets=sheets, page_rows=PAGE_ROWS, symbols=SYMBOLS, explain=_explain(names) if len(summary.files) == 1 else "",
        grades=facts.GRADES, certainties=facts.CERTAINTIES, states=facts.STATES,
        colours=dict(drawing.state_colours), settings=facts.settings(subject.options), version=version, made=made,
        style=Markup(_text("page.css")), script=Markup(script), policy=_policy(script),
        data={sheet.key: Markup(_json(sheet, list(ladders))) for sheet in sheets},
    )  # fmt: skip


def _sheets(subject: Subject, begin_ns: int) -> list[Sheet]:
    findings = subject.columns("findings")
    return [
        flow_sheet(subject.columns("flows"), findings, begin_ns),
        finding_sheet(findings, begin_ns),
        reset_sheet(subject.columns("resets"), begin_ns),
    ]


def _pictures(drawing: Drawing, summary: Summary) -> list[Picture]:
    """Draw what shows something: no matrix of one pair, no lanes that are too thin to see."""
    from markupsafe import Markup

    if not summary.connections:
        return []
    known = collect(Plot)
    clients = max(one.clients for one in summary.listeners)
    matrix = summary.listener_count > 1 or 1 < clients <= LINES
    names = [name for name in PICTURES if name != "matrix" or matrix]
    names += ["lanes"] * (1 < summary.connections <= LANES)
    found = [Picture(name, known[name].title, known[name].doc, Markup(drawing(name))) for name in names]
    return [one for one in found if one.html]


def _explain(names: Sequence[str]) -> str:
    """Return the beginning of the command that tells one connection's story; "" if there is none."""
    if len(names) != 1 or names[0] == "-" or not names[0].isprintable():
        return ""
    return f"observer explain {shlex.quote(names[0])}"


# --- safe text ---------------------------------------------------------------------------------------------
def _environment() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, undefined=jinja2.StrictUndefined, finalize=_cleaned,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters.update(count=count, state_words=state_words, spoken=_spoken)
    return made


def _cleaned(value: Any) -> Any:
    """Make characters visible that act or hide, in whatever the template prints; markup of our own stays."""
    return clean(value) if type(value) is str else value


def _spoken(text: str) -> Any:
    """Escape a sentence, and set what stands between backquotes as code."""
    from markupsafe import Markup, escape

    return Markup(CODE.sub(r"<code>\1</code>", str(escape(clean(text)))))


def _text(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _policy(script: str) -> str:
    """Return the content security policy: nothing from anywhere, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _json(sheet: Sheet, ladders: Sequence[int]) -> str:
    """Return a table as JSON that can stand in a script element: no <, > or &, nothing beyond ASCII."""
    told = {
        "kinds": [head.kind for head in sheet.heads], "rows": sheet.rows, "ladders": ladders, "page": PAGE_ROWS,
        "symbols": SYMBOLS,
    }  # fmt: skip
    text = json.dumps(told, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write(path: Path, text: str) -> None:
    """Write the file under another name and rename it: nobody ever sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    check_place(path)
    try:
        try:
            part.write_bytes(text.encode("utf-8", "backslashreplace"))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror or error}") from error


def check_place(path: Path) -> None:
    """Refuse to write over anything but a report (a capture, say), or into what is no file."""
    try:
        if not path.exists():
            if not path.parent.is_dir():
                raise OptionError(f"cannot write {path}: there is no folder {path.parent}")
            return
        if not path.is_file():
            raise OptionError(f"{path} is no file: name another one for the report")
        with path.open("rb") as file:
            head = file.read(len(BEGIN))
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror or error}") from error
    if head and head.lower() != BEGIN:
        raise OptionError(f"{path} is there and is no report: name another file for the report")
