"""`observer states`: the state machine."""

from __future__ import annotations

import sys

import click

from observer.commands.shared import DONE, show


@click.command("states")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "dot"]), default="text", show_default=True)
def command(form: str) -> int:
    """Print the state machine: what moves an endpoint from state to state, and why.

    The form "dot" is a drawing for Graphviz: observer states --format dot | dot -Tsvg -o states.svg
    """
    from observer.outputs.states import dot_states, markdown_states, render_states
    from observer.outputs.text import terminal_width
    from observer.tcp.states import EVENTS, STATES, TRANSITIONS

    if form == "text":
        show(render_states(TRANSITIONS, STATES, EVENTS, width=terminal_width(sys.stdout)))
    else:
        show((markdown_states if form == "markdown" else dot_states)(TRANSITIONS, STATES, EVENTS))
    return DONE
