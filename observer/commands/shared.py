"""What several commands share: exit statuses, reading with a progress bar, choosing, printing.

Never here: commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from observer.observation import Observation
    from observer.outputs.selection import Selection
    from observer.outputs.summary import Summary
    from observer.outputs.text import Line
    from observer.schema import Columns

DONE = 0
DAMAGED = 1
BAD_USAGE = 2
FOUND = 3
INTERRUPTED = 130


def observe(files: Iterable[str], stack: Any, time_wait: float | None, keep: Iterable[int] = ()) -> Observation:
    from observer.observe import read as read_captures
    from observer.options import Options
    from observer.outputs.progress import ProgressBar

    options = Options(stack=stack, time_wait_s=time_wait)
    with ProgressBar() as progress:
        return read_captures(list(files), options=options, progress=progress, notice=notice, keep=set(keep))


def choose(observation: Observation, selection: Selection | None, codes: tuple[str, ...]) -> tuple[Any, Columns]:
    """Return which connections to tell about (mask; None: all), and the findings about them."""
    from observer.outputs.finding_rows import chosen_findings, concerned

    flows = observation.columns("flows")
    chosen = selection.mask(flows, observation.capture.first_time_ns) if selection else None
    findings = observation.columns("findings")
    if codes or chosen is not None:
        findings = chosen_findings(findings, codes, chosen)
    if codes:
        found = concerned(findings, flows.rows)
        chosen = found if chosen is None else chosen & found
    return chosen, findings


def exit_status(summary: Summary, fail_on: str | None) -> int:
    from observer.outputs.finding_rows import worst_severity
    from observer.schema import SEVERITIES

    if fail_on and summary.findings is not None and worst_severity(summary.findings) >= SEVERITIES.index(fail_on):
        return FOUND
    return DAMAGED if summary.damaged else DONE


def notice(message: str) -> None:
    print(f"observer: {message}", file=sys.stderr)


def show(lines: Iterable[Line]) -> None:
    from observer.outputs.text import show

    show(lines)
