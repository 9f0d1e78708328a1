"""`observer explain`: one connection's story."""

from __future__ import annotations

import sys

import click

from observer.commands.shared import DAMAGED, DONE, observe, show
from observer.outputs.choices import stack_options


@click.command("explain")
@click.argument("file", metavar="FILE")
@click.argument("stream", type=int)
@click.option(
    "--all", "everything", is_flag=True, help="Show every segment; long uneventful runs are folded otherwise."
)
@stack_options
def command(file: str, stream: int, everything: bool, stack: str, time_wait: float | None) -> int:
    """Tell one connection's story: each segment with both ends' states beside it.

    STREAM is its number, as in the Wireshark filter tcp.stream eq STREAM.
    """
    import numpy

    from observer.outputs.explain import render_explain
    from observer.outputs.finding_rows import chosen_findings
    from observer.outputs.text import terminal_width

    observation = observe([file], stack, time_wait, keep=[stream])
    flow = observation.flow(stream)
    mask = numpy.arange(observation.columns("flows").rows) == stream
    tables = {name: flow.columns(name) for name in ("flows", "packets", "transitions", "events", "calls")}
    tables["findings"] = chosen_findings(observation.columns("findings"), (), mask)
    show(render_explain(tables, width=terminal_width(sys.stdout), everything=everything))
    return DAMAGED if observation.capture.damages or observation.capture.interrupted else DONE
