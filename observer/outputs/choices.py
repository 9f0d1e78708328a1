"""What people choose on the command line from what is registered, and the options that several commands share.

Never here: commands.
"""

from __future__ import annotations

from typing import Any

import click


class Formats(click.ParamType[str]):
    """Names of file formats with commas between; which there are is asked only when help is printed."""

    name = "formats"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Name the formats that there are."""
        from observer.registry import Writer, collect

        return ",".join(collect(Writer))


class Code(click.ParamType[str]):
    """The code of a finding; which there are is asked only when one is given."""

    name = "code"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the code as it is registered, or complain with a list of all."""
        from observer.registry import Finding, choose

        return choose(Finding, [value.strip().lower().replace("-", "_")])[0].name


def stack_options(function: Any) -> Any:
    """Add the options that choose timers."""
    stacks = click.Choice(["linux", "windows", "bsd", "rfc"])
    for option in (
        click.option(
            "--time-wait", type=float, metavar="SECONDS", help="How long TIME-WAIT lasts, whatever the stack."
        ),
        click.option("--stack", type=stacks, default="linux", show_default=True, help="Whose timers are assumed."),
    ):
        function = option(function)
    return function
