"""`observer schema`: the tables' columns."""

from __future__ import annotations

import sys

import click

from observer.commands.shared import DONE, show


@click.command("schema")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(tables: tuple[str, ...], markdown: bool) -> int:
    """Document the tables: every column's type, unit and meaning."""
    from observer.outputs.documentation import render_schema
    from observer.outputs.text import plain, terminal_width
    from observer.schema import TABLES
    from observer.schema import markdown as as_markdown

    names = tables or tuple(TABLES)
    if markdown:
        show(plain(line) for name in names for line in as_markdown(name).split("\n"))
    else:
        show(render_schema(names, width=terminal_width(sys.stdout)))
    return DONE
