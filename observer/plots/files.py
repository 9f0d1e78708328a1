"""Pictures by name, and as files: the ladders of the worst findings, and all pictures of the whole.

Never here: what a picture shows.
"""

from __future__ import annotations

import inspect
import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from observer.errors import ObserverError, OptionError
from observer.plots import style
from observer.plots.subject import ObservationSubject, numbers, texts
from observer.registry import Plot, choose, collect

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LADDERS: Final = 6
"""Connections of which ladders are written: the worst, one for each kind of finding."""
DOTS_PER_INCH: Final = 110
FORMATS: Final = ("png", "svg", "pdf")


class Drawn(NamedTuple):
    """What `draw_all` did: files written, and sentences about what could not be drawn."""

    files: list[Path]
    missing: list[str]


def draw(name: str, subject: Any, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw a picture by its name.

    Raises
    ------
    OptionError
        If there is no such picture, none of that for what was given, or it has no such option.
    """
    plot = choose(Plot, [name])[0]
    scope = "flow" if hasattr(subject, "stream") else "observation"
    if plot.scope != scope:
        names = ", ".join(one.name for one in collect(Plot).values() if one.scope == scope)
        whole = {"flow": "one connection", "observation": "a whole observation"}
        raise OptionError(f"plot {name!r} shows {whole[plot.scope]}; of {whole[scope]} there are {names}")
    known = offered(plot)
    for option in options:
        if option not in known:
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise OptionError(f"plot {name!r} has no option {option!r}; {there}")
    return plot.draw(subject, ax=ax, **options)


def offered(plot: Plot) -> list[str]:
    """Return the options that a plot offers, beside where to draw.

    Examples
    --------
    >>> offered(choose(Plot, ["sequence"])[0])
    ['style', 'side']
    """
    parameters = list(inspect.signature(plot.draw).parameters)
    return [name for name in parameters[1:] if name != "ax"]


def worst_streams(observation: ObservationSubject, most: int) -> list[int]:
    """Return the connections of the worst findings, one for each kind: code, cause and endpoint."""
    findings = observation.columns("findings")
    streams = numbers(findings, "stream")
    kinds = zip(texts(findings, "code"), texts(findings, "cause"), numbers(findings, "endpoint").tolist(), strict=True)
    first: dict[tuple[str, str, int], int] = {}
    for stream, kind in zip(streams.tolist(), kinds, strict=True):
        if stream >= 0:
            first.setdefault(kind, stream)
    return list(dict.fromkeys(first.values()))[:most]


def draw_all(
    observation: ObservationSubject,
    folder: str | Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
    names: Iterable[str] | None = None,
    ladders: int = LADDERS,
) -> Drawn:
    """Write pictures into a folder: all of the whole, and ladders of the worst findings.

    Files are called after the plot, those of a connection also after its stream (``ladder-5.png``); each appears whole
    or not at all.

    Parameters
    ----------
    observation
        An `observer.observation.Observation`.
    folder
        Made if it is not there.
    formats
        Of FORMATS.
    names
        Which plots; default: all of scope "observation", and "ladder".
    ladders
        Of how many connections pictures of scope "flow" are written.

    Raises
    ------
    OptionError
        If there is no such picture or format, or the folder cannot be made or written to.
    """
    check_formats(formats)
    known = collect(Plot)
    chosen = choose(Plot, list(names)) if names is not None else [
        plot for plot in known.values() if plot.scope == "observation" or plot.name == "ladder"
    ]  # fmt: skip
    drawn = Drawn([], [])
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _draw_chosen(observation, chosen, ladders, _Target(Path(folder), formats, drawn))
    except OSError as error:
        raise OptionError(f"cannot write into {folder}: {error.strerror or error}") from error
    return drawn


def check_formats(formats: Sequence[str]) -> None:
    """Raise OptionError if pictures cannot be written in one of these formats, or if there is none."""
    for form in formats or [""]:
        if form not in FORMATS:
            raise OptionError(f"pictures cannot be written as {form!r}; there are {', '.join(FORMATS)}")


class _Target(NamedTuple):
    """Where pictures are written."""

    folder: Path
    formats: Sequence[str]
    drawn: Drawn


def _draw_chosen(observation: ObservationSubject, chosen: Sequence[Plot], ladders: int, target: _Target) -> None:
    for plot in chosen:
        if plot.scope == "observation":
            _write(plot, observation, plot.name, target)
    single = [plot for plot in chosen if plot.scope == "flow"]
    streams = worst_streams(observation, ladders) if single else []
    if streams:
        try:
            observation.keep(streams)
        except ObserverError as error:
            target.drawn.missing.append(f"{', '.join(plot.name for plot in single)}: {error}")
            return
    for stream in streams:
        flow = observation.flow(stream)
        for plot in single:
            _write(plot, flow, f"{plot.name}-{flow.stream}", target)


def _write(plot: Plot, subject: Any, name: str, target: _Target) -> None:
    """Draw one picture and write it in each format, atomically."""
    import matplotlib

    with style.offscreen(), matplotlib.rc_context({"svg.hashsalt": "observer", "svg.fonttype": "none"}):
        figure: Any = plot.draw(subject).figure
        for form in target.formats:
            octets = io.BytesIO()
            # no date: the same capture gives the same file
            metadata = {"Date": None} if form == "svg" else {"CreationDate": None} if form == "pdf" else None
            figure.savefig(octets, format=form, dpi=DOTS_PER_INCH, metadata=metadata)
            target.drawn.files.append(_replace(target.folder / f"{name}.{form}", octets.getvalue()))


def _replace(path: Path, octets: bytes) -> Path:
    """Write a file under another name and rename it: nobody ever sees half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(octets)
            file.flush()
            part.chmod(0o644)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return path
