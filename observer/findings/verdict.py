"""What a finding says about one connection or one population: who, since when, how sure, on which frames' evidence.

Never here: text that belongs to the finding as such (title, definition, source, remedy): see `registry.Finding`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

End = tuple[int, int]
"""An address code and a port."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """One row of the table `findings`, before it is one.

    Attributes
    ----------
    grade
        confirmed, probable or suspected.
    summary
        One plain sentence (two at most), without addresses: outputs name them.
    endpoint
        The endpoint at fault or concerned: client, server; None if that is not known or it concerns both.
    cause
        The likeliest cause, a key of the finding's `causes` where it has them.
    begin, end
        ns since 1970; end None: it had not ended.
    frames
        Frame numbers of the evidence, ascending, each once; None entries and zeros are dropped by `clean_frames`.
    unknown
        What this tap cannot tell, one sentence.
    severity, remedy
        Only where they differ from the finding's own.
    stream
        The connection; None: a population.
    client, server
        Whom it concerns; connections get theirs when the table is made.
    streams
        Of a population: the connections that make it up, worst first.
    """

    grade: str
    summary: str
    endpoint: str | None = None
    cause: str | None = None
    begin: int | None = None
    end: int | None = None
    frames: list[int] = field(default_factory=list)
    unknown: str | None = None
    severity: str | None = None
    remedy: str | None = None
    stream: int | None = None
    client: End | None = None
    server: End | None = None
    streams: list[int] = field(default_factory=list)
    code: str = ""


def clean_frames(*frames: int | None) -> list[int]:
    """Frame numbers in order, each once, without those that are none.

    Examples
    --------
    >>> clean_frames(7, None, 3, -1, 7)
    [3, 7]
    """
    return sorted({frame for frame in frames if frame is not None and frame > 0})
