"""Captures of many connections, made of octets: quick to write, and read as any other."""

from __future__ import annotations

import io
import ipaddress
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

import observer

BEGIN_S = 1_795_000_000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Step(NamedTuple):
    """One segment: when after the connection's begin (s), by whom (0 client, 1 server), flags, octets of payload."""

    at_s: float
    side: int
    flags: int
    length: int = 0


OPENING = (Step(0, 0, SYN), Step(0.02, 1, SYN | ACK), Step(0.021, 0, ACK), Step(0.03, 0, PSH | ACK, 10))
CLOSED = (*OPENING, Step(0.05, 1, ACK), Step(1, 0, FIN | ACK), Step(1.02, 1, FIN | ACK), Step(1.021, 0, ACK))
RESET = (*OPENING, Step(0.05, 1, ACK), Step(0.5, 1, RST | ACK))
OPEN = (*OPENING, Step(0.05, 1, ACK))
UNANSWERED = (Step(0, 0, SYN),)


class Line(NamedTuple):
    """A connection: when it begins (s), its two ends, and how it goes."""

    begin_s: float
    client: tuple[str, int]
    server: tuple[str, int]
    steps: tuple[Step, ...]


def captured(lines: list[Line], *, keep: Sequence[int] = (), options: observer.Options | None = None) -> Any:
    """Read a capture of these connections; their packets stand in order of time, those of some streams are kept."""
    frames: list[tuple[float, bytes]] = []
    for line in lines:
        upcoming = [1000, 900_000]
        for step in line.steps:
            own, peer = (line.client, line.server) if step.side == 0 else (line.server, line.client)
            ack = upcoming[1 - step.side] if step.flags & ACK else 0
            frames.append((line.begin_s + step.at_s, _frame(own, peer, upcoming[step.side], ack, step)))
            upcoming[step.side] += step.length + bool(step.flags & SYN) + bool(step.flags & FIN)
    frames.sort(key=lambda frame: frame[0])
    octets = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]  # 101: LINKTYPE_RAW
    for at, frame in frames:
        whole = round((BEGIN_S + at) * 1_000_000)
        octets += [struct.pack("<IIII", whole // 10**6, whole % 10**6, len(frame), len(frame)), frame]
    return observer.read(io.BytesIO(b"".join(octets)), keep=keep, options=options)


def _frame(own: tuple[str, int], peer: tuple[str, int], seq: int, ack: int, step: Step) -> bytes:
    window = 0 if step.flags & RST else 65535
    tcp = struct.pack(">HHIIBBHHH", own[1], peer[1], seq, ack, 5 << 4, step.flags, window, 0, 0) + b"x" * step.length
    ends = b"".join(ipaddress.ip_address(host).packed for host, _ in (own, peer))
    if ":" in own[0]:
        return struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + ends + tcp
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + ends + tcp


def crowd(connections: int, *, clients: int = 40, services: int = 30, every_s: float = 0.01) -> Any:
    """Read a capture of many connections: most close, some are reset, stay open, or are never answered."""
    kinds = [CLOSED] * 7 + [RESET, OPEN, UNANSWERED]
    return captured([
        Line(number * every_s, (f"10.0.{number % clients}.1", 20_000 + number // clients),
             (f"10.9.{number % services}.2", 80), kinds[(number // 3) % len(kinds)])
        for number in range(connections)
    ])  # fmt: skip


def long_addresses() -> Any:
    """Read a capture of connections between the longest addresses that there are."""
    host = "2001:1db8:a000:b000:c000:d000:e000:{:04x}"
    kinds = [CLOSED, RESET, OPEN, UNANSWERED, CLOSED, RESET]
    lines = [
        Line(number, (host.format(0xF000 + number % 3), 61_000), (host.format(0xA000 + number % 5), 50_443), kind)
        for number, kind in enumerate(kinds)
    ]
    return captured(lines, keep=range(len(lines)))


def empty() -> Any:
    return captured([])


def one() -> Any:
    return captured([Line(0, ("10.0.0.1", 40000), ("10.0.0.2", 80), CLOSED)])


# --- looking at a picture ---------------------------------------------------------------------------------------


def clipped(ax: Any) -> list[str]:
    """Texts that do not lie wholly on the figure when it is drawn for a file of its size."""
    figure = ax.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    found = []
    for text in _texts(figure):
        box = text.get_window_extent(renderer)
        if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2:
            found.append(text.get_text())
    return found


def on_each_other(ax: Any) -> list[tuple[str, str]]:
    """Pairs of upright texts that cover each other by more than a hair."""
    figure = ax.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in _texts(figure) if text.get_rotation() == 0]
    boxes = numpy.array([text.get_window_extent(renderer).extents for text in texts]).reshape(-1, 4)
    found = []
    for i, (left, low, right, high) in enumerate(boxes.tolist()):
        others = boxes[i + 1 :]
        across = numpy.minimum(right, others[:, 2]) - numpy.maximum(left, others[:, 0])
        down = numpy.minimum(high, others[:, 3]) - numpy.maximum(low, others[:, 1])
        for j in numpy.flatnonzero((across > 2) & (down > 2)).tolist():
            found.append((texts[i].get_text(), texts[i + 1 + j].get_text()))
    return found


def _texts(figure: Any) -> list[Any]:
    """Texts that will be seen; a matplotlib axis keeps tick labels outside of its range and hidden ones."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    hidden: set[int] = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            slack = 1e-9 * (high - low)
            if not (low - slack <= tick.get_loc() <= high + slack) or not axis.get_visible():
                hidden |= {id(tick.label1), id(tick.label2)}
            hidden |= {id(label) for label in (tick.label1, tick.label2) if not label.get_visible()}
    off = {id(text) for axes in figure.axes if not axes.axison for axis in (axes.xaxis, axes.yaxis)
           for text in axis.findobj(Text)}  # fmt: skip
    return [text for text in figure.findobj(Text)
            if text.get_text() and text.get_visible() and id(text) not in hidden | off]  # fmt: skip
