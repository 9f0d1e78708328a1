"""One connection of an observation: its packets with both endpoints' states, its transitions, its events.

Never here: layout or drawing (outputs, plots).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer import schema
from observer import segments as seg
from observer.errors import ObserverError, OptionError
from observer.findings import call_columns
from observer.outputs.finding_rows import chosen_findings
from observer.schema import Columns
from observer.tables import event_columns, transition_columns
from observer.tcp.layout import M_MARKS, M_STREAM, MARK_STRIDE

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from observer.observation import Observation
    from observer.outputs.html import Told

Array = Any

QUICK_FRAMES: Final = 1_000_000
"""A capture of so many frames is read again in half a second: quick enough for showing a value in a notebook."""
PICTURE_DPI: Final = 100
PICTURE_COLOURS: Final = 128
"""Colours of a picture in a notebook: states, their hatches and grey text have no more, and it takes a third."""


class Kept:
    """Segment rows of chosen streams, kept while a capture is read."""

    def __init__(self, streams: Collection[int]) -> None:
        self.streams = frozenset(streams)
        self._wanted = numpy.array(sorted(self.streams), numpy.int64)
        self._parts: list[tuple[Array, Array]] = []

    def take(self, rows: Array, marks: Array, count: int) -> None:
        """Keep what a batch holds of the streams."""
        said = marks[: count * MARK_STRIDE].reshape(-1, MARK_STRIDE)
        chosen = numpy.isin(said[:, M_STREAM] >> 1, self._wanted)
        if chosen.any():
            table = rows[: count * seg.STRIDE].reshape(-1, seg.STRIDE)
            self._parts.append((table[chosen].copy(), said[chosen].copy()))

    def rows(self) -> tuple[Array, Array]:
        """Everything kept: segment rows (n, STRIDE) and their marks (n, MARK_STRIDE), in capture order."""
        if not self._parts:
            return numpy.zeros((0, seg.STRIDE), numpy.int64), numpy.zeros((0, MARK_STRIDE), numpy.int64)
        return numpy.concatenate([part[0] for part in self._parts]), numpy.concatenate(
            [part[1] for part in self._parts]
        )


def keep(observation: Observation, streams: Sequence[int]) -> Kept:
    """Keep the packets of these streams: if they were not kept while reading, by reading the capture again."""
    if observation.kept is None or not observation.kept.streams.issuperset(streams):
        if not _can_read_again(observation.sources):
            raise ObserverError(
                "the packets of a pipe are gone when it has been read: "
                "save it to a file, or name the streams beforehand with read(..., keep={...})"
            )
        observation.read_again(streams)
    if observation.kept is None:
        raise ObserverError("no streams were asked for")
    return observation.kept


def kept_rows(observation: Observation, streams: Sequence[int]) -> tuple[Array, Array]:
    """Segment rows of the streams, and their marks."""
    rows, marks = keep(observation, streams).rows()
    chosen = numpy.isin(marks[:, M_STREAM] >> 1, numpy.array(list(streams), numpy.int64))
    return rows[chosen], marks[chosen]


def _can_read_again(sources: Any) -> bool:
    """Whether reading the sources a second time gives the same."""
    if isinstance(sources, str | os.PathLike):
        return str(sources) != "-" and not Path(sources).is_fifo()
    if isinstance(sources, list | tuple):
        return all(
            not hasattr(source, "read") and (hasattr(source, "layers") or _can_read_again(source)) for source in sources
        )
    return hasattr(sources, "layers") or (hasattr(sources, "__iter__") and not hasattr(sources, "read"))


def packet_columns(observation: Observation, streams: Sequence[int]) -> Columns:
    """The table of packets for these streams."""
    rows, marks = kept_rows(observation, streams)
    real = rows[:, seg.KIND] == seg.KIND_SEGMENT
    rows, marks = rows[real], marks[real]
    stream = marks[:, M_STREAM] >> 1
    side = observation.roles.sides(stream, marks[:, M_STREAM] & 1)
    options, flags = rows[:, seg.OPTIONS], rows[:, seg.FLAGS]
    bases, scales = _bases(rows, stream, side), _scales(rows, stream, side)
    own = numpy.array([bases[key] for key in zip(stream.tolist(), side.tolist(), strict=True)], numpy.int64)
    peer = numpy.array(
        [bases.get((n, 1 - s), -1) for n, s in zip(stream.tolist(), side.tolist(), strict=True)], numpy.int64
    )
    shift = numpy.array(
        [scales.get((n, s), 0) for n, s in zip(stream.tolist(), side.tolist(), strict=True)], numpy.int64
    )
    mask = 0xFFFFFFFF
    has_ack = flags & seg.ACK_FLAG != 0
    peer = numpy.where(peer < 0, (rows[:, seg.ACK] - 1) & mask, peer)
    sack = options & seg.HAS_SACK != 0
    stamps = options & seg.HAS_TIMESTAMPS != 0
    source: dict[str, Any] = {
        "stream": stream,
        "frame": rows[:, seg.FRAME],
        "time": rows[:, seg.TIME],
        "direction": side,
        "seq": (rows[:, seg.SEQ] - own) & mask,
        "ack": numpy.where(has_ack, (rows[:, seg.ACK] - peer) & mask, -1),
        "length": rows[:, seg.LENGTH],
        "window": numpy.where(flags & seg.SYN != 0, rows[:, seg.WINDOW], rows[:, seg.WINDOW] << shift),
        "flags": flags,
        "label": marks[:, M_MARKS],
        "mss": numpy.where(options & seg.HAS_MSS != 0, rows[:, seg.MSS], -1),
        "sack_left": numpy.where(sack, (rows[:, seg.SACK_LEFT] - peer) & mask, -1),
        "sack_right": numpy.where(sack, (rows[:, seg.SACK_RIGHT] - peer) & mask, -1),
        "ts_value": numpy.where(stamps, rows[:, seg.TS_VALUE], -1),
        "ts_echo": numpy.where(stamps, rows[:, seg.TS_ECHO], -1),
        "ttl": rows[:, seg.TTL],
    }
    source.update(_states(observation, rows, stream))
    return Columns("packets", len(rows), source)


def _bases(rows: Array, streams: Array, sides: Array) -> dict[tuple[int, int], int]:
    """The sequence number that counts as 0 for each (stream, side): its ISS, or one before its first (as Wireshark).

    An ISS is known from a SYN even if something came before it, such as a challenge ACK with the numbers of an earlier
    connection (RFC 9293 3.5.1, figure 9).
    """
    bases: dict[tuple[int, int], int] = {}
    cells = rows[:, [seg.SEQ, seg.ACK, seg.FLAGS]].tolist()
    all_rows = list(zip(cells, streams.tolist(), sides.tolist(), strict=True))
    for (seq, _, flags), stream, side in all_rows:
        if flags & seg.SYN:
            bases.setdefault((stream, side), seq)
    for (seq, ack, flags), stream, side in all_rows:
        bases.setdefault((stream, side), (seq - 1) & 0xFFFFFFFF)
        if flags & seg.ACK_FLAG:
            bases.setdefault((stream, 1 - side), (ack - 1) & 0xFFFFFFFF)
    return bases


def _scales(rows: Array, streams: Array, sides: Array) -> dict[tuple[int, int], int]:
    """Window scale in use for each (stream, side): only if both SYNs had the option (RFC 7323 2.2)."""
    found: dict[tuple[int, int], int] = {}
    syn = numpy.flatnonzero(rows[:, seg.FLAGS] & seg.SYN)
    for row in syn.tolist():
        if rows[row, seg.OPTIONS] & seg.HAS_SCALE:
            found[int(streams[row]), int(sides[row])] = min(14, int(rows[row, seg.SCALE]))
    return {key: shift for key, shift in found.items() if (key[0], 1 - key[1]) in found}


def _states(observation: Observation, rows: Array, streams: Array) -> dict[str, Array]:
    """Both endpoints' states and certainties after each packet, in hindsight."""
    from observer.tcp.states import CERTAINTIES

    count = len(rows)
    result: dict[str, Array] = {}
    for side in ("client", "server"):
        result[f"{side}_state"] = numpy.zeros(count, numpy.int64)
        result[f"{side}_certainty"] = numpy.zeros(count, numpy.int64)
    retracted = CERTAINTIES.index("retracted")
    for stream in numpy.unique(streams).tolist():
        here = numpy.flatnonzero(streams == stream)
        table = transition_columns(observation, [stream])
        changes = list(
            zip(*(numpy.asarray(table[name]).tolist() for name in
                  ("endpoint", "frame", "time", "from_state", "to_state", "certainty")), strict=True)
        )  # fmt: skip
        for number, side in enumerate(("client", "server")):
            own = [change[1:] for change in changes if change[0] == number and change[5] != retracted]
            state, certainty, at = own[0][2] if own else _start(observation, stream, number), 0, 0
            for row in here.tolist():
                frame, now = int(rows[row, seg.FRAME]), int(rows[row, seg.TIME])
                while at < len(own) and (own[at][0] <= frame if own[at][0] >= 0 else own[at][1] <= now):
                    state, certainty = own[at][3], own[at][4]
                    at += 1
                result[f"{side}_state"][row] = state
                result[f"{side}_certainty"][row] = certainty
    return result


def _start(observation: Observation, stream: int, side: int) -> int:
    """The state of an endpoint that never changed."""
    from observer.tcp.columns import O_CLIENT, O_SERVER, P_STATE

    row = observation.tracker.flow_rows(stream, stream + 1)[0]
    own = int(observation.roles.sides(numpy.array([stream]), numpy.array([side]))[0])
    return int(row[(O_SERVER if own else O_CLIENT) + P_STATE])


class Flow:
    """One connection.

    Attributes
    ----------
    stream
        Its number, as Wireshark's tcp.stream.
    """

    def __init__(self, observation: Observation, stream: int) -> None:
        self.observation = observation
        self.stream = stream

    @cached_property
    def row(self) -> pandas.Series[Any]:
        """Its row of the table of flows."""
        part = self.observation.columns("flows").part(self.stream, self.stream + 1)
        return schema.from_columns("flows", part).iloc[0]

    @cached_property
    def packets(self) -> pandas.DataFrame:
        """Its segments in capture order, with both endpoints' states after each."""
        return self.observation.packets([self.stream])

    @cached_property
    def transitions(self) -> pandas.DataFrame:
        """The changes of both endpoints' states."""
        return schema.from_columns("transitions", self.columns("transitions"))

    @cached_property
    def events(self) -> pandas.DataFrame:
        """Everything else that is notable."""
        return schema.from_columns("events", self.columns("events"))

    @cached_property
    def calls(self) -> pandas.DataFrame:
        """What both applications' socket calls did, as far as the wire tells."""
        return schema.from_columns("calls", self.columns("calls"))

    @cached_property
    def findings(self) -> pandas.DataFrame:
        """What was found of it, and of the populations that it is part of, the worst first."""
        return schema.from_columns("findings", self.columns("findings"))

    @cached_property
    def resets(self) -> pandas.DataFrame:
        """Its RSTs: who sent them, of which class, accepted or not."""
        return schema.from_columns("resets", self.columns("resets"))

    def columns(self, table: str) -> Columns:
        """Raw columns of a table for this connection alone.

        One of "flows", "packets", "transitions", "events", "calls", "findings", "resets".
        """
        observation, stream = self.observation, self.stream
        if table == "packets":
            return packet_columns(observation, [stream])
        if table == "flows":
            return observation.columns("flows").part(stream, stream + 1)
        if table == "calls":
            return call_columns(observation, [stream])
        if table == "findings":
            mine = numpy.arange(observation.columns("flows").rows) == stream
            return chosen_findings(observation.columns("findings"), (), mine)
        if table == "resets":
            resets = observation.columns("resets")
            return resets.take(numpy.asarray(resets["stream"]) == stream)
        makers = {"transitions": transition_columns, "events": event_columns}
        if table not in makers:
            raise OptionError(f"a connection has no table {table!r}")
        return makers[table](observation, [stream])

    def scapy(self) -> Any:
        """Its packets as a scapy PacketList, with their times; reads the capture again.

        Raises
        ------
        ObserverError
            A source that cannot be read twice (a pipe), or that has changed.
        """
        from observer.frames import scapy_packets

        sources = self.observation.sources
        frames = numpy.unique(numpy.asarray(self.columns("packets")["frame"], numpy.int64))
        if not _can_read_again(sources):
            raise ObserverError("the packets of a pipe are gone when it has been read: save it to a file")
        every = self.observation.capture.frames
        return scapy_packets(sources, frames.tolist(), frames=every, name=f"stream {self.stream}")

    def explain(self, *, everything: bool = False, width: int = 80) -> Told:
        """Tell its story as text that prints well: each segment with both ends' states beside it.

        Parameters
        ----------
        everything
            Show every segment; long uneventful runs are folded otherwise.
        width
            Columns to use.
        """
        from observer.outputs.explain import render_explain
        from observer.outputs.html import Told

        names = ("flows", "packets", "transitions", "events", "calls", "findings")
        tables = {name: self.columns(name) for name in names}
        return Told(render_explain(tables, width=width, everything=everything))

    def plot(self, name: str = "ladder", *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a picture of it.

        Parameters
        ----------
        name
            "ladder": a sequence diagram with both ends' states (max_rows); "sequence": the time-sequence graph of one
            direction (style: "tcptrace" or "wireshark"; side: "client" or "server").
        ax
            Where to draw; default: a new figure.
        options
            What that plot offers, in parentheses above.

        Returns
        -------
        The matplotlib Axes, to change or to save: ``flow.plot().figure.savefig("ladder.png")``.

        Raises
        ------
        OptionError
            There is no such plot, or it has no such option.
        """
        from observer.plots import draw

        return draw(name, self, ax=ax, **options)

    def picture(self, name: str = "ladder", *, dpi: int = PICTURE_DPI, **options: Any) -> bytes:
        """Draw a picture of it as the octets of a PNG; no window and no notebook shows it."""
        import io

        from observer.plots import draw, style

        octets = io.BytesIO()
        with style.offscreen():
            figure: Any = draw(name, self, **options).figure
            figure.savefig(octets, format="png", dpi=dpi, metadata={"Software": None})
        return _fewer_colours(octets.getvalue())

    def picture_html(self, name: str = "ladder", **options: Any) -> str:
        """Draw a picture of it as an element of HTML, or say in a sentence why it is left out."""
        from observer.outputs.html import note_html, picture_html

        reason = packets_missing(self.observation, self.stream)
        if reason:
            return note_html(f"No picture of stream {self.stream}: {reason}.")
        try:
            return picture_html(self.picture(name, **options), f"{name} of stream {self.stream}")
        except ObserverError as error:  # the file is gone, or has changed
            return note_html(f"No picture of stream {self.stream}: {error}.")

    def _head(self) -> list[Any]:
        from observer.outputs.story_head import render_facts

        flow = self.columns("flows")
        packets = sum(int(numpy.asarray(flow[f"{side}_packets"])[0]) for side in ("client", "server"))
        return list(render_facts(flow, packets, 100))

    def _repr_html_(self) -> str:
        from observer.outputs.html import flow_html

        story: list[Any] = []
        if not packets_missing(self.observation, self.stream):
            with suppress(ObserverError):  # picture_html says it
                story = list(self.explain(width=110).lines)
        return flow_html(
            self._head(), self.columns("findings"), story, begin_ns=self.observation.begin_ns,
            picture=self.picture_html(),
        )  # fmt: skip

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from observer.outputs.html import Told

        printer.text(repr(self) if cycle else str(Told(self._head())))

    def __repr__(self) -> str:
        return f"<Flow {self.stream} of {self.observation!r}>"


def packets_missing(observation: Observation, stream: int) -> str:
    """Say why the packets of a connection cannot be had within a moment; "" if they can."""
    if observation.kept is not None and stream in observation.kept.streams:
        return ""
    if not _can_read_again(observation.sources):
        return "the packets of a pipe are gone when it has been read"
    if observation.capture.frames > QUICK_FRAMES:
        return (
            f"all {observation.capture.frames:,} frames would be read again; "
            f"obs.flow({stream}).plot() does so and draws it"
        )
    return ""


def _fewer_colours(octets_png: bytes) -> bytes:
    """Return a PNG with a palette: a fraction of the size, for pictures that are kept in notebooks."""
    import io

    from PIL import Image

    octets = io.BytesIO()
    with Image.open(io.BytesIO(octets_png)) as image:
        small = image.convert("RGB").quantize(PICTURE_COLOURS, dither=Image.Dither.NONE)
        small.save(octets, format="PNG", optimize=True)
    return octets.getvalue()
