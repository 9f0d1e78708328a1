"""`observer report`: everything on one self-contained page."""

from __future__ import annotations

from pathlib import Path

import click

from observer.commands.shared import exit_status, notice, observe
from observer.outputs.choices import stack_options


@click.command("report")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="PAGE",
    help="The page; a report of that name is replaced, any other file is not.",
)
@click.option("--dated", is_flag=True, help="Say on the page when it was made; without, it is the same each time.")
@click.option(
    "--fail-on",
    type=click.Choice(["problem", "warning"]),
    help="Exit with status 3 if there is a finding this bad, for use in CI jobs.",
)
@stack_options
def command(
    files: tuple[str, ...], *, output: Path, dated: bool, fail_on: str | None, stack: str, time_wait: float | None
) -> int:
    """Write one self-contained HTML page about captures, to read or to send: findings, pictures, tables.

    It needs no network and no other file, and prints on A4.
    """
    from observer.outputs.report.page import check_place

    check_place(output)
    observation = observe(files, stack, time_wait)
    summary = observation.report(output, made=_now() if dated else "")
    notice(f"wrote {output}")
    return exit_status(summary, fail_on)


def _now() -> str:
    from datetime import UTC, datetime

    return f"made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
