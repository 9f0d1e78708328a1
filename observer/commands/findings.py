"""`observer findings`: what each finding means."""

from __future__ import annotations

import sys

import click

from observer.commands.shared import DONE, show
from observer.outputs.choices import Code


@click.command("findings")
@click.argument("codes", nargs=-1, type=Code(), metavar="[CODE]...")
@click.option("--markdown", is_flag=True, help="Print a table in Markdown.")
def command(codes: tuple[str, ...], markdown: bool) -> int:
    """Document the findings: what each means, its causes, what to do about it, and where its criteria come from."""
    from observer.outputs.documentation import markdown_finding_codes, render_finding_codes
    from observer.outputs.text import terminal_width
    from observer.registry import Finding, choose, collect

    known = choose(Finding, codes) if codes else list(collect(Finding).values())
    show(markdown_finding_codes(known) if markdown else render_finding_codes(known, width=terminal_width(sys.stdout)))
    return DONE
