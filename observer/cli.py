"""The command line: arguments, one call, outputs, exit status.

Exit status: 0 done; 1 done, but the capture was damaged, partly undecodable or reading was interrupted; 2 bad usage
or unreadable input; 3 done, and a finding is as bad as `--fail-on` says (stronger than 1); 130 interrupted before there
was anything to tell.

Never here: work.  What a command needs is imported when it runs, so that help and small captures are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from observer import __version__
from observer.errors import ObserverError
from observer.outputs.choices import Code, Formats, stack_options

if TYPE_CHECKING:
    from observer.capture import Chunk
    from observer.observe import Observation
    from observer.outputs.annotate import Input
    from observer.outputs.selection import Selection
    from observer.outputs.summary import Summary
    from observer.outputs.text import Line
    from observer.schema import Columns

DONE = 0
DAMAGED = 1
BAD_USAGE = 2
FOUND = 3
INTERRUPTED = 130
WRITTEN = ("findings", "flows", "transitions", "events", "resets", "calls", "skipped")
"""Tables that `-o` writes unless told otherwise."""
ON_DEMAND = ("population", "packets")
"""Tables that `-o` writes if they are named."""
WHOLE = ("skipped", "population")
"""Tables that are not about single connections, and so are written whole."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="observer", message="%(prog)s %(version)s")
def commands() -> None:
    """See what state both ends of every TCP connection were in, and what is wrong, from a packet capture.

    \b
    observer read capture.pcap           what is wrong, what happened
    observer explain capture.pcap 5      one connection's story (tcp.stream eq 5)
    observer annotate in.pcap out.pcapng the findings as comments for Wireshark
    """


@commands.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--host", multiple=True, metavar="ADDRESS", help="Only connections of this address or prefix (10.0.0.0/8)."
)
@click.option("--port", multiple=True, type=int, metavar="PORT", help="Only connections of this port, on either side.")
@click.option(
    "--state",
    multiple=True,
    metavar="STATE",
    help="Only connections that end in this state: STATE, client:STATE, server:STATE.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Only connections that live at or after TIME: ISO 8601, seconds since 1970, or +seconds.",
)
@click.option("--until", metavar="TIME", help="Only connections that live at or before TIME.")
@click.option(
    "--finding",
    "codes",
    multiple=True,
    type=Code(),
    metavar="CODE",
    help="Only this finding, and connections that have it (codes: observer findings).",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write the tables into this folder."
)
@click.option("--format", "formats", type=Formats(), help="One or several of these formats.  [default: csv]")
@click.option(
    "--table",
    "tables",
    metavar="LIST",
    help=f"Tables to write.  [default: {','.join(WRITTEN)}]; also {', '.join(ON_DEMAND)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary, with all findings, as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice(["problem", "warning"]),
    help=f"Exit with status {FOUND} if there is a finding this bad, for use in CI jobs.",
)
@stack_options
def read(
    files: tuple[str, ...],
    *,
    host: tuple[str, ...],
    port: tuple[int, ...],
    state: tuple[str, ...],
    since: str | None,
    until: str | None,
    codes: tuple[str, ...],
    output: Path | None,
    formats: str | None,
    tables: str | None,
    as_json: bool,
    fail_on: str | None,
    stack: str,
    time_wait: float | None,
) -> int:
    """Read captures and tell what is wrong with their TCP connections, and what happened to them.

    FILE is a pcap or pcapng file, plain or compressed (gzip, zstd); "-" is standard input. Several files are one
    capture in time order.
    """
    from observer.outputs.summary import summarise

    selection = None
    if host or port or state or since or until:
        from observer.outputs.selection import Selection

        selection = Selection(hosts=host, ports=port, states=state, since=since, until=until)
        selection.check()
    writers, names = _wanted(output, formats, tables)
    observation = _observe(files, stack, time_wait)
    chosen, findings = _choose(observation, selection, codes)
    words = [selection.words(observation.capture.first_time_ns)] if selection else []
    words += [f"finding {' or '.join(codes)}"] if codes else []
    summary = summarise(
        observation.capture, observation.segments, observation.columns("skipped"), observation.columns("flows"),
        quoted=observation.quoted_frames, findings=findings, chosen=chosen,
        selection=", ".join(words),
    )  # fmt: skip
    if output is not None:
        from observer.outputs.files import write_tables

        paths = write_tables(_tables(observation, names, chosen, findings), output, writers)
        print(f"observer: wrote {', '.join(path.name for path in paths)} into {output}", file=sys.stderr)
    if as_json:
        import json

        print(json.dumps(summary.as_json(), indent=2))
    else:
        from observer.outputs.terminal import render_summary
        from observer.outputs.text import terminal_width

        _show(render_summary(summary, width=terminal_width(sys.stdout), command=files))
    return _status(summary, fail_on)


@commands.command()
@click.argument("file", metavar="FILE")
@click.argument("stream", type=int)
@click.option(
    "--all", "everything", is_flag=True, help="Show every segment; long uneventful runs are folded otherwise."
)
@stack_options
def explain(file: str, stream: int, everything: bool, stack: str, time_wait: float | None) -> int:
    """Tell one connection's story: each segment with both ends' states beside it.

    STREAM is its number, as in the Wireshark filter tcp.stream eq STREAM.
    """
    import numpy

    from observer.outputs.explain import render_explain
    from observer.outputs.finding_rows import chosen_findings
    from observer.outputs.text import terminal_width

    observation = _observe([file], stack, time_wait, keep=[stream])
    flow = observation.flow(stream)
    mask = numpy.arange(observation.columns("flows").rows) == stream
    tables = {name: flow.columns(name) for name in ("flows", "packets", "transitions", "events", "calls")}
    tables["findings"] = chosen_findings(observation.columns("findings"), (), mask)
    _show(render_explain(tables, width=terminal_width(sys.stdout), everything=everything))
    return DAMAGED if observation.capture.damages or observation.capture.interrupted else DONE


@commands.command()
@click.argument("file", metavar="IN")
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--finding", "codes", multiple=True, type=Code(), metavar="CODE", help="Only this finding.")
@stack_options
def annotate(file: str, path: Path, codes: tuple[str, ...], stack: str, time_wait: float | None) -> int:
    """Write the capture IN as pcapng file OUT with a comment at every frame that is evidence of a finding.

    Wireshark shows comments in the packet's details and in Statistics, Capture File Properties; the display filter
    frame.comment shows the frames that have one.
    """
    from observer.outputs.annotate import Comments
    from observer.outputs.annotate import annotate as write_annotated
    from observer.outputs.finding_rows import chosen_findings
    from observer.outputs.text import count

    _check_copy(file, path)
    observation = _observe([file], stack, time_wait)
    if observation.capture.interrupted:
        raise KeyboardInterrupt  # half a capture is not what was asked for
    findings = chosen_findings(observation.columns("findings"), codes, None)
    with _second_reading(file) as given:
        done = write_annotated(given, Comments(findings), path, application=f"observer {__version__}")
    _notice(f"wrote {path}: {count(findings.rows, 'finding')}, comments at {count(done.commented, 'frame')}")
    if done.uncommented:
        _notice(f"{count(done.uncommented, 'frame')} of evidence without comment: simple packet blocks take none")
    for damage in observation.capture.damages:
        _notice(str(damage))
    return DAMAGED if observation.capture.damages else DONE


@commands.command()
@click.option("--format", "form", type=click.Choice(["text", "markdown", "dot"]), default="text", show_default=True)
def states(form: str) -> int:
    """Print the state machine: what moves an endpoint from state to state, and why.

    The form "dot" is a drawing for Graphviz: observer states --format dot | dot -Tsvg -o states.svg
    """
    from observer.outputs.states import dot_states, markdown_states, render_states
    from observer.outputs.text import terminal_width
    from observer.tcp.states import EVENTS, STATES, TRANSITIONS

    if form == "text":
        _show(render_states(TRANSITIONS, STATES, EVENTS, width=terminal_width(sys.stdout)))
    else:
        _show((markdown_states if form == "markdown" else dot_states)(TRANSITIONS, STATES, EVENTS))
    return DONE


@commands.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def schema(tables: tuple[str, ...], markdown: bool) -> int:
    """Document the tables: every column's type, unit and meaning."""
    from observer.outputs.documentation import render_schema
    from observer.outputs.text import plain, terminal_width
    from observer.schema import TABLES
    from observer.schema import markdown as as_markdown

    names = tables or tuple(TABLES)
    if markdown:
        _show(plain(line) for name in names for line in as_markdown(name).split("\n"))
    else:
        _show(render_schema(names, width=terminal_width(sys.stdout)))
    return DONE


@commands.command("findings")
@click.argument("codes", nargs=-1, type=Code(), metavar="[CODE]...")
@click.option("--markdown", is_flag=True, help="Print a table in Markdown.")
def finding_codes(codes: tuple[str, ...], markdown: bool) -> int:
    """Document the findings: what each means, its causes, what to do about it, and where its criteria come from."""
    from observer.outputs.documentation import markdown_finding_codes, render_finding_codes
    from observer.outputs.text import terminal_width
    from observer.registry import Finding, choose, collect

    known = choose(Finding, codes) if codes else list(collect(Finding).values())
    _show(markdown_finding_codes(known) if markdown else render_finding_codes(known, width=terminal_width(sys.stdout)))
    return DONE


# --- what commands share ---------------------------------------------------------------------------------
def _observe(files: Iterable[str], stack: Any, time_wait: float | None, keep: Iterable[int] = ()) -> Observation:
    from observer.observe import read as read_captures
    from observer.options import Options
    from observer.outputs.progress import ProgressBar

    options = Options(stack=stack, time_wait_s=time_wait)
    with ProgressBar() as progress:
        return read_captures(list(files), options=options, progress=progress, notice=_notice, keep=set(keep))


def _choose(observation: Observation, selection: Selection | None, codes: tuple[str, ...]) -> tuple[Any, Columns]:
    """Return which connections to tell about (mask; None: all), and the findings about them."""
    from observer.outputs.finding_rows import chosen_findings, concerned

    flows = observation.columns("flows")
    chosen = selection.mask(flows, observation.capture.first_time_ns) if selection else None
    findings = observation.columns("findings")
    if codes or chosen is not None:
        findings = chosen_findings(findings, codes, chosen)
    if codes:
        found = concerned(findings, flows.rows)
        chosen = found if chosen is None else chosen & found
    return chosen, findings


def _status(summary: Summary, fail_on: str | None) -> int:
    from observer.outputs.finding_rows import worst_severity
    from observer.schema import SEVERITIES

    if fail_on and summary.findings is not None and worst_severity(summary.findings) >= SEVERITIES.index(fail_on):
        return FOUND
    return DAMAGED if summary.damaged else DONE


def _check_copy(file: str, path: Path) -> None:
    """Refuse to read what cannot be read twice, and to write over what is read."""
    if file == "-" or Path(file).is_fifo():
        raise click.UsageError("the capture is read twice: save it to a file first")
    if path.is_dir() or str(path) == "-":
        raise click.UsageError(f"{path} is no file name for the annotated capture")
    if path.exists() and Path(file).exists() and path.samefile(file):
        raise click.UsageError(f"{path} is the capture itself: name another file for the annotated one")


@contextmanager
def _second_reading(file: str) -> Iterator[Input]:
    """Open a capture for copying: its frames, and its octets from the beginning."""
    from observer.capture import open_capture
    from observer.capture.source import Source, Spec
    from observer.observe import Speed
    from observer.outputs.annotate import Input

    speed = Speed(_notice)
    source = Source(Spec(file, path=Path(file)))
    with closing(source), open_capture(Path(file), engine=speed.engine) as capture:

        def chunks() -> Iterator[Chunk]:
            for chunk in capture:
                if speed.wants_change(capture.frames, capture.octets_total):
                    capture.use(speed.engine)
                yield chunk

        yield Input(chunks(), capture.files[0], source.head, source.readinto)


def _notice(message: str) -> None:
    print(f"observer: {message}", file=sys.stderr)


def _wanted(output: Path | None, formats: str | None, tables: str | None) -> tuple[list[Any], list[str]]:
    """Turn --format and --table into writers and table names."""
    if output is None:
        if formats or tables:
            raise click.UsageError(f"{'--format' if formats else '--table'} needs -o DIR: a folder to write into")
        return [], []
    from observer.registry import Writer, choose
    from observer.schema import table

    names = [name for name in (tables or ",".join(WRITTEN)).replace(" ", "").split(",") if name]
    for name in names:
        table(name)
    return choose(Writer, (formats or "csv").replace(" ", "").split(",")), list(dict.fromkeys(names))


def _tables(observation: Observation, names: list[str], chosen: Any, findings: Columns) -> dict[str, Columns]:
    """Return raw columns of the tables, of the chosen connections only."""
    import numpy

    tables = {}
    for name in names:
        if name == "packets":
            from observer.flow import packet_columns

            rows = observation.columns("flows").rows
            streams = numpy.arange(rows) if chosen is None else numpy.flatnonzero(chosen)
            tables[name] = packet_columns(observation, streams.tolist())
            continue
        columns = findings if name == "findings" else observation.columns(name)
        if chosen is not None and name not in (*WHOLE, "findings"):
            columns = columns.take(chosen if name == "flows" else chosen[numpy.asarray(columns["stream"])])
        tables[name] = columns
    return tables


def _show(lines: Iterable[Line]) -> None:
    from observer.outputs.text import show

    show(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status; never raises, never shows a traceback for bad input."""
    # numpy's linear algebra is not used; starting its threads would cost more than a small capture
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # the reader of our output has seen enough; Python would complain while closing stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _run(arguments: list[str] | None) -> int:
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        # not commands.main: it would turn a closed pipe into exit status 1
        with commands.make_context("observer", given) as context:
            return int(commands.invoke(context) or DONE)
    except click.exceptions.Exit as done:
        return int(done.exit_code)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "observer"
        return _complain(f"{error.format_message().rstrip('.')}. Help: {where} --help")
    except click.ClickException as error:
        return _complain(error.format_message())
    except ObserverError as error:
        return _complain(str(error))
    except (KeyboardInterrupt, click.Abort):
        print("observer: interrupted", file=sys.stderr)
        return INTERRUPTED


def _complain(sentence: str) -> int:
    from observer.outputs.text import clean

    print(f"observer: {clean(sentence)}", file=sys.stderr)
    return BAD_USAGE
