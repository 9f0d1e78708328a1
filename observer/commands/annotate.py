"""`observer annotate`: the capture again, with the findings as comments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from observer import __version__
from observer.commands.shared import DAMAGED, DONE, notice, observe
from observer.outputs.choices import Code, stack_options

if TYPE_CHECKING:
    from observer.capture import Chunk
    from observer.outputs.annotate import Input


@click.command("annotate")
@click.argument("file", metavar="IN")
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--finding", "codes", multiple=True, type=Code(), metavar="CODE", help="Only this finding.")
@stack_options
def command(file: str, path: Path, codes: tuple[str, ...], stack: str, time_wait: float | None) -> int:
    """Write the capture IN as pcapng file OUT with a comment at every frame that is evidence of a finding.

    Wireshark shows comments in the packet's details and in Statistics, Capture File Properties; the display filter
    frame.comment shows the frames that have one.
    """
    from observer.outputs.annotate import Comments
    from observer.outputs.annotate import annotate as write_annotated
    from observer.outputs.finding_rows import chosen_findings
    from observer.outputs.text import count

    _check_copy(file, path)
    observation = observe([file], stack, time_wait)
    if observation.capture.interrupted:
        raise KeyboardInterrupt  # half a capture is not what was asked for
    findings = chosen_findings(observation.columns("findings"), codes, None)
    with _second_reading(file) as given:
        done = write_annotated(given, Comments(findings), path, application=f"observer {__version__}")
    notice(f"wrote {path}: {count(findings.rows, 'finding')}, comments at {count(done.commented, 'frame')}")
    if done.uncommented:
        notice(f"{count(done.uncommented, 'frame')} of evidence without comment: simple packet blocks take none")
    for damage in observation.capture.damages:
        notice(str(damage))
    return DAMAGED if observation.capture.damages else DONE


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

    speed = Speed(notice)
    source = Source(Spec(file, path=Path(file)))
    with closing(source), open_capture(Path(file), engine=speed.engine) as capture:

        def chunks() -> Iterator[Chunk]:
            for chunk in capture:
                if speed.wants_change(capture.frames, capture.octets_total):
                    capture.use(speed.engine)
                yield chunk

        yield Input(chunks(), capture.files[0], source.head, source.readinto)
