"""`observer read`: what is wrong, what happened; tables into files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from observer.commands.shared import FOUND, choose, exit_status, notice, observe, show
from observer.outputs.choices import Code, Formats, stack_options

if TYPE_CHECKING:
    from observer.observation import Observation
    from observer.schema import Columns

WRITTEN = ("findings", "flows", "transitions", "events", "resets", "calls", "skipped")
"""Tables that `-o` writes unless told otherwise."""
ON_DEMAND = ("population", "packets")
"""Tables that `-o` writes if they are named."""
WHOLE = ("skipped", "population")
"""Tables that are not about single connections, and so are written whole."""


@click.command("read")
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
@click.option(
    "--plots", is_flag=True, help="Draw pictures into the folder plots in DIR; ladders of the worst findings."
)
@click.option(
    "--plot-format", "pictures", metavar="LIST", help="Formats of pictures: png, svg, pdf.  [default: png,svg]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary, with all findings, as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice(["problem", "warning"]),
    help=f"Exit with status {FOUND} if there is a finding this bad, for use in CI jobs.",
)
@stack_options
def command(
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
    plots: bool,
    pictures: str | None,
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
    drawn_as = _picture_formats(output, plots, pictures)
    observation = observe(files, stack, time_wait)
    chosen, findings = choose(observation, selection, codes)
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
        notice(f"wrote {', '.join(path.name for path in paths)} into {output}")
        if drawn_as:
            subject = observation if chosen is None else _chosen_only(observation, chosen, codes)
            _draw(subject, output / "plots", drawn_as, again=not any(_is_pipe(file) for file in files))
    if as_json:
        import json

        print(json.dumps(summary.as_json(), indent=2))
    else:
        from observer.outputs.terminal import render_summary
        from observer.outputs.text import terminal_width

        show(render_summary(summary, width=terminal_width(sys.stdout), command=files))
    return exit_status(summary, fail_on)


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


def _picture_formats(output: Path | None, plots: bool, pictures: str | None) -> list[str]:
    """Turn --plots and --plot-format into formats; none: nothing is drawn."""
    if not plots:
        if pictures is not None:
            raise click.UsageError("--plot-format says how to draw: it needs --plots")
        return []
    if output is None:
        raise click.UsageError("--plots needs -o DIR: a folder to draw into")
    from observer.plots.files import check_formats

    formats = list(dict.fromkeys(("png,svg" if pictures is None else pictures).lower().replace(" ", "").split(",")))
    check_formats(formats)
    return formats


def _chosen_only(observation: Observation, chosen: Any, codes: tuple[str, ...]) -> Any:
    """Return what pictures of the chosen connections ask."""
    import numpy

    return observation.filter(streams=numpy.flatnonzero(chosen).tolist(), finding=codes).numbered


def _is_pipe(file: str) -> bool:
    return file == "-" or Path(file).is_fifo()


def _draw(subject: Any, folder: Path, formats: list[str], *, again: bool) -> None:
    """Draw all pictures, and ladders if the capture can be read again; say what was drawn and what was not."""
    from observer.plots import draw_all
    from observer.registry import Plot, collect

    whole = [plot.name for plot in collect(Plot).values() if plot.scope == "observation"]
    drawn = draw_all(subject, folder, formats=formats, names=None if again else whole)
    names = dict.fromkeys(path.stem for path in drawn.files)
    notice(f"drew {', '.join(names)} into {folder} ({', '.join(formats)})")
    for sentence in drawn.missing:
        notice(f"did not draw {sentence}")
    if not again:
        notice("did not draw ladders: they need a second reading, and a pipe is read once; save it to a file first")


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
