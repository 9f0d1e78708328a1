"""The command line: arguments, one call, outputs, exit status.

Exit status: 0 done; 1 done, but the capture was damaged, partly undecodable or reading was interrupted; 2 bad usage
or unreadable input; 3 done, and a finding is as bad as `--fail-on` says (stronger than 1); 130 interrupted before there
was anything to tell.

Never here: commands (observer/commands), work.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib import import_module

import click

from observer import __version__
from observer import commands as home
from observer.commands.shared import BAD_USAGE, DONE, INTERRUPTED
from observer.errors import ObserverError

FIRST = ("read", "explain", "report", "annotate", "live")
"""Commands that help names first, in this order."""


class Commands(click.Group):
    """The modules of observer/commands as commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, those that people want most first."""
        names = {module.name for module in pkgutil.iter_modules(home.__path__)} - {"shared"}
        return [name for name in FIRST if name in names] + sorted(names.difference(FIRST))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; None if there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{home.__name__}.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="observer", message="%(prog)s %(version)s")
def commands() -> None:
    """See what state both ends of every TCP connection were in, and what is wrong, from a packet capture.

    \b
    observer read capture.pcap           what is wrong, what happened
    observer explain capture.pcap 5      one connection's story (tcp.stream eq 5)
    observer report capture.pcap         all of it on one page, to send to a colleague
    observer annotate in.pcap out.pcapng the findings as comments for Wireshark
    """


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
