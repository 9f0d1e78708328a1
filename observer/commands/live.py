"""`observer live`: watch interfaces, or a pipe that grows, and be told while it happens."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from observer.commands.shared import DONE, FOUND, notice, show
from observer.errors import ObserverError
from observer.outputs.choices import stack_options
from observer.watch.watcher import Watcher

if TYPE_CHECKING:
    from observer.capture import Chunk
    from observer.capture.live_writer import PcapngWriter
    from observer.outputs.text import Line
    from observer.watch import Change, Live


@click.command("live")
@click.argument("bpf", nargs=-1, metavar="[BPF]...")
@click.option(
    "-i",
    "--interface",
    "interfaces",
    multiple=True,
    metavar="IFACE",
    help='Watch this interface; several are watched together, "any" watches all (observer interfaces lists them).',
)
@click.option(
    "-r",
    "--read",
    "source",
    metavar="PIPE",
    help='Instead: watch a pipe as it grows; "-" is standard input (ssh HOST tcpdump -U -w - | observer live -r -).',
)
@click.option("-w", "--write", type=click.Path(path_type=Path), metavar="FILE", help="Keep the frames as pcapng.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep tables as Parquet parts and findings as JSON lines in this folder; starting again goes on in it.",
)
@click.option("--keep-mib", type=click.IntRange(1), metavar="MIB", help="Remove the oldest parts above this size.")
@click.option("--keep-hours", type=float, metavar="HOURS", help="Remove parts older than this.")
@click.option("--for", "for_s", type=float, metavar="SECONDS", help="Stop after so long.")
@click.option("--user", metavar="NAME", help="Become this user once everything is open (as tcpdump -Z).")
@click.option("--snaplen", type=click.IntRange(64, 262144), default=262144, show_default=True, metavar="OCTETS",
              help="Octets kept of each frame.")  # fmt: skip
@click.option(
    "--buffer", "buffer_mib", type=click.IntRange(1, 4096), metavar="MIB", help="Room for frames not yet read."
)
@click.option("--no-promiscuous", is_flag=True, help="Only frames that this host would take anyway.")
@click.option("--limit", type=click.IntRange(1000), metavar="CONNECTIONS",
              help="Connections held at most; those that are over are forgotten first.  [default: 200000]")  # fmt: skip
@click.option("--statistics", "every_s", type=float, metavar="SECONDS", help="Print what was captured, this often.")
@click.option("--lines", is_flag=True, help="Print lines, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print changes as JSON, one object per line.")
@click.option("--fail-on", type=click.Choice(["problem", "warning"]),
              help=f"Exit with status {FOUND} if there was a finding this bad.")  # fmt: skip
@stack_options
def command(
    bpf: tuple[str, ...],
    *,
    interfaces: tuple[str, ...],
    source: str | None,
    write: Path | None,
    output: Path | None,
    keep_mib: int | None,
    keep_hours: float | None,
    for_s: float | None,
    user: str | None,
    snaplen: int,
    buffer_mib: int | None,
    no_promiscuous: bool,
    limit: int | None,
    every_s: float | None,
    lines: bool,
    as_json: bool,
    fail_on: str | None,
    stack: str,
    time_wait: float | None,
) -> int:
    """Watch interfaces and tell findings while they happen.

    BPF is a capture filter as tcpdump has it: observer live -i eth0 tcp port 443.

    On a terminal it shows a screen (q leaves it); elsewhere, a line for each change.

    Ctrl-C or SIGTERM ends it: what was seen is summed up, and the exit status is 0.  SIGUSR1 prints statistics,
    SIGHUP goes on in the next file (-w) and writes the tables (-o).
    """
    from observer.options import Options
    from observer.watch import Live
    from observer.watch.clock import Clock
    from observer.watch.parts import Parts
    from observer.watch.room import LIMIT

    with ExitStack() as stack_of:
        feed, engine = _feed(
            interfaces, source, bpf=" ".join(bpf), snaplen=snaplen, user=user, promiscuous=not no_promiscuous,
            buffer_octets=None if buffer_mib is None else buffer_mib << 20,
        )  # fmt: skip
        stack_of.callback(feed.close)
        name = "standard input" if source == "-" else source or ", ".join(interfaces)
        clock = Clock()
        teller = _Teller(every_s, as_json=as_json)
        watchers: list[_Keeper | Parts] = []
        if write is not None:
            watchers.append(_Keeper(write, feed))
        if output is not None:
            watchers.append(Parts(
                output, steady_ns=clock.steady_ns, complain=notice,
                keep_octets=None if keep_mib is None else keep_mib << 20,
                keep_s=None if keep_hours is None else keep_hours * 3600,
            ))  # fmt: skip
        options = Options(stack=stack, time_wait_s=time_wait)  # type: ignore[arg-type]
        live = Live(
            feed, options=options, notice=notice, engine=engine, limit=limit or LIMIT, watchers=watchers, clock=clock
        )

        def next_files() -> None:
            for watcher in watchers:
                watcher.rotate()

        with _signals({
            signal.SIGINT: live.quit, signal.SIGTERM: live.quit, signal.SIGHUP: next_files,
            signal.SIGUSR1: teller.ask,
        }):  # fmt: skip
            if sys.stdout.isatty() and sys.stdin.isatty() and not (as_json or lines):
                _show_screen(live, name, for_s)
            else:
                live.watchers.append(teller)
                notice(f"watching {name}; Ctrl-C ends it")
                live.run(for_s=for_s)
    if not as_json:
        _sum_up(live)
    return _status(live, fail_on)


def _show_screen(live: Live, name: str, for_s: float | None) -> None:
    """Watch in a thread, and show what is seen on the whole terminal until q is pressed or it is over."""
    from observer.outputs.live_screen import LiveScreen
    from observer.watch.board import Boards

    boards = Boards()
    live.watchers.append(boards)

    def story(stream: int, width: int) -> str:
        try:
            return live.story(stream, width=width)
        except ObserverError as error:
            return f"No story: {error}."

    live.start(for_s=for_s)
    try:
        LiveScreen(name, board=lambda: boards.latest, story=story, finished=lambda: live.ended).run()
    finally:
        live.stop()


def _feed(interfaces: Sequence[str], source: str | None, *, bpf: str, **capture: Any) -> tuple[Any, Any]:
    """Open what is to be watched; with it, what should run the kernels (None: what comes decides)."""
    if source is not None:
        if interfaces or bpf:
            raise click.UsageError(
                "-r watches a pipe as it comes: no interface, no filter (filter where it is captured)"
            )
        from observer.capture.live_pipe import open_growing

        return open_growing(source), None
    if not interfaces:
        raise click.UsageError("name an interface with -i (observer interfaces lists them), or a pipe with -r")
    from observer.watch.opening import open_interfaces

    return open_interfaces(list(interfaces), bpf=bpf, notice=notice, **capture)


@contextmanager
def _signals(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call functions on signals for a while; what was there before comes back."""
    before = {}
    for number, function in handlers.items():
        before[number] = signal.signal(number, lambda *_, function=function: function())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Teller(Watcher):
    """Prints changes as they come."""

    def __init__(self, every_s: float | None, *, as_json: bool) -> None:
        self._every_s = every_s
        self._as_json = as_json
        self._begun = self._told = time.monotonic()
        self._asked = False

    def ask(self) -> None:
        """Print statistics at the next look: a signal may come while something else is being printed."""
        self._asked = True

    def tick(self, live: Live, changes: Sequence[Change]) -> None:
        """Print what is new."""
        while live.notices:
            one = live.notices.popleft()
            notice(one.sentence)
        self._print(live, changes)
        due = self._every_s is not None and time.monotonic() - self._told >= self._every_s
        if due or self._asked:
            self._told, self._asked = time.monotonic(), False
            self.statistics(live)

    end = tick

    def statistics(self, live: Live) -> None:
        """Print what was captured so far, to standard error."""
        from observer.outputs.live_lines import statistics_lines
        from observer.outputs.text import show as show_lines

        lines: list[Line] = list(statistics_lines(live, live.feed.statistics(), time.monotonic() - self._begun))
        show_lines(lines, sys.stderr)

    def _print(self, live: Live, changes: Sequence[Change]) -> None:
        if self._as_json:
            import json

            for change in changes:
                print(json.dumps({"change": change.kind, "seen": live.end_ns, **change.row}), flush=True)
        elif changes:
            from observer.outputs.live_lines import change_lines

            show(change_lines(changes, live.end_ns))
            sys.stdout.flush()


class _Keeper(Watcher):
    """Keeps frames in a file."""

    def __init__(self, path: Path, feed: Any) -> None:
        self._path = path
        self._feed = feed
        self._writer: PcapngWriter | None = None
        self._files = 1
        self._wants_next = False

    def rotate(self) -> None:
        """Go on in another file with the next frames: FILE.pcapng, FILE.2.pcapng, FILE.3.pcapng ..."""
        self._wants_next = True

    def take(self, chunk: Chunk) -> None:
        """Write the frames; of a pipe, only the first ones say what it carries."""
        if self._writer is None:
            from observer.capture.live_writer import PcapngWriter

            self._writer = PcapngWriter(self._path, self._feed.files[0])
        elif self._wants_next:
            self._files += 1
            self._writer.rotate(self._path.with_name(f"{self._path.stem}.{self._files}{self._path.suffix}"))
        self._wants_next = False
        self._writer.write(chunk)

    def end(self, live: Live, changes: Sequence[Change]) -> None:
        """Write how the capture ended, and close the file."""
        if self._writer is not None:
            self._writer.close()


def _sum_up(live: Live) -> None:
    """Print the summary, as `observer read` does."""
    from observer.outputs.summary import summarise
    from observer.outputs.terminal import render_summary
    from observer.outputs.text import terminal_width

    summary = summarise(
        live.capture, live.segments, live.columns("skipped"), live.columns("flows"),
        quoted=live.quoted_frames, findings=live.columns("findings"), chosen=None, selection="",
    )  # fmt: skip
    show(render_summary(summary, width=terminal_width(sys.stdout), command=[]))


def _status(live: Live, fail_on: str | None) -> int:
    from observer.schema import SEVERITIES

    if fail_on is None:
        return DONE
    worst = max((SEVERITIES.index(row["severity"]) for row in live.finding_rows()), default=-1)
    return FOUND if worst >= SEVERITIES.index(fail_on) else DONE
