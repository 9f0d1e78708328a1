"""Time-sequence graph of one direction of a connection: what was sent, acknowledged and allowed, over time.

``style="tcptrace"`` follows the xplot graphs of tcptrace: arrows from the first to the last octet of a segment, a
diamond on top with PSH, red with R where sent again, a green staircase of ACKs with ticks below for duplicates, a
yellow staircase of the window with ticks above where it stayed, purple S for selective acknowledgments; on white
instead of black.  ``style="wireshark"`` follows Wireshark's graph of that name: blue I-beams, brown ACKs, green window,
red SACKs, a cross where the window is closed.  What is sent again is told apart there, too.

Never here: tables of other connections.  Sources: S. Ostermann, "tcptrace time sequence graph" (1997); Wireshark,
"TCP Stream Graphs"; RFC 9293 3.4 (sequence arithmetic).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import style as looks
from observer.plots.rows import FIN, MARK, PSH, RST, SYN, Cells
from observer.plots.subject import FlowSubject, Ints, address, numbers
from observer.plots.words import count, duration, endpoint, octets, safe
from observer.registry import Plot
from observer.schema import ENDPOINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SEGMENTS: Final = 4_000
"""More segments than a picture has columns of ink: they are drawn together, by columns."""
COLUMNS: Final = 1_500
"""Columns in which many segments are drawn together; a screen has about as many."""
MOST_MARKS: Final = 40
"""More letters would hide each other and what they mark: dots from there on."""
WINDOW_SHARE: Final = 0.35
"""The window may take so much of the height above the data; what lies higher is cut, and said."""
IDLE_SHARE: Final = 0.5
"""If nothing is sent for such a share of the time at the end, the time axis ends before it, and the title says so."""
HALF: Final = 1 << 31
AGAIN: Final = MARK["retransmission"] | MARK["fast_retransmission"] | MARK["spurious_retransmission"]


class Look(NamedTuple):
    """Colours of a convention, all told apart by shape or line style as well."""

    segment: str
    again: str
    ack: str
    window: str
    sack: str
    is_xplot: bool


LOOKS: Final = {
    "tcptrace": Look(looks.INK, looks.VERMILLION, looks.GREEN, "#B89B00", looks.PURPLE, True),
    "wireshark": Look(looks.BLUE, looks.ORANGE, "#7A5C2E", looks.GREEN, looks.VERMILLION, False),
}


class Series(NamedTuple):
    """One direction in numbers: positions in time (ns since 1970) and in sequence space, unwrapped, int64."""

    sent_time: Ints
    low: Ints
    high: Ints
    flags: Ints
    again: Any
    ack_time: Ints
    ack: Ints
    edge: Ints
    duplicate: Any
    zero: Any
    sack_time: Ints
    sack_low: Ints
    sack_high: Ints
    mark_time: Ints
    mark_seq: Ints
    mark_words: list[str]


def unwrapped(values: Ints) -> Ints:
    """Return relative 32-bit sequence numbers, in capture order, without their wraps.

    Examples
    --------
    >>> unwrapped(numpy.array([4294967290, 4, 4294967295])).tolist()
    [-6, 4, -1]
    """
    if not len(values):
        return values
    steps = (numpy.diff(values, prepend=0) + HALF) % (1 << 32) - HALF
    return numpy.cumsum(steps)


def series(cells: Cells, sack_left: Ints, sack_right: Ints, side: int) -> Series:
    """Take one direction apart; side: 0 the client's octets, 1 the server's."""
    resets = (cells.flags & RST) != 0
    mine = numpy.flatnonzero((cells.direction == side) & ~resets)
    theirs = numpy.flatnonzero((cells.direction != side) & ~resets & (cells.ack >= 0))
    low, ack = unwrapped(cells.seq[mine]), unwrapped(cells.ack[theirs])
    flags = cells.flags[mine]
    high = low + cells.length[mine] + ((flags & SYN) != 0) + ((flags & FIN) != 0)
    has_sack = sack_left[theirs] >= 0
    near = ack[has_sack] - cells.ack[theirs][has_sack]
    levels = numpy.concatenate((mine[high > low], theirs))
    order = numpy.argsort(levels, kind="stable")
    reached = numpy.maximum.accumulate(numpy.concatenate((high[high > low], ack))[order]) if len(levels) else levels
    marks: list[tuple[int, int, str]] = []
    for name, bit in (("SYN", SYN), ("FIN", FIN)):
        marks += [(int(cells.time[mine[i]]), int(high[i]), name) for i in numpy.flatnonzero(flags & bit).tolist()]
    for place in numpy.flatnonzero(resets).tolist():
        i = max(0, int(numpy.searchsorted(levels[order], place)) - 1)  # before the first: where the first will be
        level = int(reached[i]) if len(reached) else 0
        marks.append((int(cells.time[place]), level, f"RST by {ENDPOINTS[int(cells.direction[place])]}"))
    return Series(
        sent_time=cells.time[mine], low=low, high=high, flags=flags, again=(cells.label[mine] & AGAIN) != 0,
        ack_time=cells.time[theirs], ack=ack, edge=ack + cells.window[theirs],
        duplicate=(cells.label[theirs] & MARK["duplicate_ack"]) != 0,
        zero=(cells.window[theirs] == 0) & ((cells.flags[theirs] & (SYN | FIN)) == 0),
        sack_time=cells.time[theirs][has_sack], sack_low=sack_left[theirs][has_sack] + near,
        sack_high=sack_right[theirs][has_sack] + near,
        mark_time=numpy.array([mark[0] for mark in marks], numpy.int64),
        mark_seq=numpy.array([mark[1] for mark in marks], numpy.int64), mark_words=[mark[2] for mark in marks],
    )  # fmt: skip


def gathered(time: Ints, low: Ints, high: Ints, columns: int) -> tuple[Ints, Ints, Ints]:
    """Draw many bars together: for each column of time that has some, its time, the lowest low, the highest high."""
    begin, end = int(time.min()), int(time.max())
    column = (time - begin) * columns // max(1, end - begin + 1)
    order = numpy.argsort(column, kind="stable")
    ordered = column[order]
    firsts = numpy.flatnonzero(numpy.diff(ordered, prepend=-1))
    middle = begin + (2 * ordered[firsts] + 1) * (end - begin + 1) // (2 * columns)
    return middle, numpy.minimum.reduceat(low[order], firsts), numpy.maximum.reduceat(high[order], firsts)


def sequence(flow: FlowSubject, *, ax: Axes | None = None, style: str = "tcptrace", side: str | None = None) -> Axes:
    """Draw the time-sequence graph of one direction.

    Parameters
    ----------
    flow
        The connection: an `observer.flow.Flow`.
    ax
        Where to draw; default: a new figure.
    style
        "tcptrace" or "wireshark": whose conventions.
    side
        Whose octets: "client" or "server"; default: who sent more of them.
    """
    if style not in LOOKS:
        raise OptionError(f"style {style!r} is unknown; there are {', '.join(LOOKS)}")
    if side is not None and side not in ENDPOINTS:
        raise OptionError(f"side {side!r} is unknown; there are {', '.join(ENDPOINTS)}")
    packets, facts = flow.columns("packets"), flow.columns("flows")
    cells = Cells.of(packets)
    sent = [int(cells.length[cells.direction == number].sum()) for number in (0, 1)]
    number = ENDPOINTS.index(side) if side else int(sent[1] > sent[0])
    one = series(cells, numbers(packets, "sack_left"), numbers(packets, "sack_right"), number)
    ax = ax or looks.new_axes(10.0, 6.0)
    begin = int(cells.time.min()) if len(cells.time) else 0
    clock = looks.clock(begin, int(cells.time.max()) if len(cells.time) else 0)
    handles = _draw(ax, one, clock, LOOKS[style], scaled=_scale_known(facts))
    late = _cut(ax, one, clock)
    names = [safe(endpoint(address(facts, f"{word}_addr", 0), int(numbers(facts, f"{word}_port")[0])))
             for word in (ENDPOINTS[number], ENDPOINTS[1 - number])]  # fmt: skip
    said = f"{count(len(one.low), 'segment')}, {octets(sent[number])}, {int(one.again.sum()):,} sent again"
    title = f"stream {flow.stream}, {ENDPOINTS[number]} {names[0]} → {names[1]}: {said}{late}"
    looks.finish(ax, title, xlabel=clock.label("the connection's first packet"), grid="both",
                 ylabel=f"sequence number of the {ENDPOINTS[number]}, relative, octets")  # fmt: skip
    ax.yaxis.set_major_formatter("{x:,.0f}")
    looks.legend(ax, handles, columns=4, place="below")
    return ax


def _scale_known(facts: Any) -> bool:
    """Whether the opening was captured, which says how windows are scaled (RFC 7323 2.2)."""
    return bool(int(numbers(facts, "completeness")[0]) & 3 == 3)


def _draw(ax: Axes, one: Series, clock: looks.Clock, look: Look, *, scaled: bool) -> list[Any]:
    """Draw everything; returns the handles of the legend."""
    top, window_words = _limits(ax, one, scaled=scaled)
    handles = [*_staircases(ax, one, clock, look, window_words)]
    handles += _segments(ax, one, clock, look)
    handles += _sacks(ax, one, clock, look)
    handles += _ticks(ax, one, clock, look)
    for time_ns, seq, words in zip(one.mark_time.tolist(), one.mark_seq.tolist(), one.mark_words, strict=True):
        if len(one.mark_words) <= MOST_MARKS:
            colour = look.again if words.startswith("RST") else look.segment
            ax.annotate(words, (clock.of(time_ns), min(seq, top)), xytext=(3, 4), textcoords="offset points",
                        fontsize=looks.SMALL, color=colour, label="_mark", zorder=5)  # fmt: skip
    resets = [i for i, words in enumerate(one.mark_words) if words.startswith("RST")]
    if resets:
        handles += ax.plot(clock.of(one.mark_time[resets]), one.mark_seq[resets], linestyle="", marker="X",
                           color=look.again, markersize=7, zorder=5, label="RST, at the level reached")  # fmt: skip
    return handles


def _limits(ax: Axes, one: Series, *, scaled: bool) -> tuple[float, str]:
    """Let the data fill the picture; returns its upper limit and what the legend says of the window."""
    carries = one.high > one.low  # an old incarnation's bare ACK may stand far off
    known = numpy.concatenate((one.low[carries], one.high[carries], one.ack, one.mark_seq, [0][: not carries.any()]))
    lowest, reached = int(known.min()), int(known.max())
    span = max(1, reached - lowest)
    top = reached + WINDOW_SHARE * span
    words = "receive window" if scaled else "receive window (scale not captured)"
    if len(one.edge) and int(one.edge.max()) > top:
        words += f", cut: up to {octets(int((one.edge - one.ack).max()))} above the ACK"
    elif len(one.edge):
        top = max(int(one.edge.max()), reached) + 0.06 * span
    ax.set_ylim(lowest - 0.05 * span, top)
    return top, words


def _cut(ax: Axes, one: Series, clock: looks.Clock) -> str:
    """End the time axis where the data do if they would fill only a part of it; returns words that say so."""
    rises = numpy.diff(numpy.maximum.accumulate(one.ack), prepend=one.ack[:1]) > 1  # by more than a FIN
    busy = numpy.concatenate((one.sent_time[one.high > one.low], one.sack_time, one.mark_time,
                              one.ack_time[rises | one.duplicate | one.zero]))  # fmt: skip
    last = max(int(one.sent_time.max(initial=0)), int(one.ack_time.max(initial=0)))
    if not len(busy):
        return ""
    begin, end = int(busy.min()), int(busy.max())
    if end <= begin or (last - end) < IDLE_SHARE * (last - begin):
        return ""
    ax.set_xlim(clock.of(begin - 0.04 * (end - begin)), clock.of(end + 0.08 * (end - begin)))
    return f"; nothing but ACKs for {duration(last - end)} behind the edge"


def _staircases(ax: Axes, one: Series, clock: looks.Clock, look: Look, window_words: str) -> list[Any]:
    """Draw the ACKs, and the right edge of the window."""
    if not len(one.ack):
        return []
    time, ack, edge = one.ack_time, numpy.maximum.accumulate(one.ack), one.edge
    if len(time) > MOST_SEGMENTS:
        spread = gathered(time, edge, ack, COLUMNS)
        edge_time, edge, ack = spread[0], spread[1], spread[2]
        time = edge_time
    x = clock.of(time)
    lines = ax.step(x, ack, where="post", color=look.ack, linewidth=1.3, label="acknowledged", zorder=2)
    lines += ax.step(x, edge, where="post", color=look.window, linewidth=1.1, linestyle=(0, (5, 1.5)),
                     label=window_words, zorder=1)  # fmt: skip
    return lines


def _segments(ax: Axes, one: Series, clock: looks.Clock, look: Look) -> list[Any]:
    """Draw what was sent: each segment, or many together."""
    handles: list[Any] = []
    carries = one.high > one.low
    for again in (False, True):
        chosen = carries & (one.again == again)
        if not chosen.any():
            continue
        time, low, high = one.sent_time[chosen], one.low[chosen], one.high[chosen]
        colour = look.again if again else look.segment
        words = "sent again" if again else "segments"
        many = len(time) > MOST_SEGMENTS
        if many:
            time, low, high = gathered(time, low, high, COLUMNS)
            words += f", {duration(int(numpy.ptp(one.sent_time)) // COLUMNS)} in one"
        x = clock.of(time)
        ax.vlines(x, low, high, colors=colour, linewidth=1.2 if again else 0.9, zorder=4 if again else 3,
                  label="_again" if again else "_segments")  # fmt: skip
        _ends(ax, x, low, high, look, colour, push=(one.flags[chosen] & PSH) != 0 if not many else None)
        if again and look.is_xplot and len(x) <= MOST_MARKS:
            for at, level in zip(x.tolist(), high.tolist(), strict=True):
                ax.annotate("R", (at, level), xytext=(0, 4), textcoords="offset points", ha="center", zorder=5,
                            fontsize=looks.SMALL, color=colour, label="_R")  # fmt: skip
        handles.append(_sign(colour, "|" if not look.is_xplot else "^", words))
    return handles


def _ends(ax: Axes, x: Any, low: Ints, high: Ints, look: Look, colour: str, *, push: Any) -> None:
    """Draw the ends of segments: arrow heads and diamonds, or the beams of an I."""
    draw = {"linestyle": "", "color": colour, "zorder": 3, "markersize": 3.5, "label": "_ends"}
    if not look.is_xplot:
        for level in (low, high):
            ax.plot(x, level, marker="_", **draw)  # type: ignore[arg-type]
    elif push is not None:
        ax.plot(x, low, marker="v", markeredgewidth=0, **draw)  # type: ignore[arg-type]
        ax.plot(x[~push], high[~push], marker="^", markeredgewidth=0, **draw)  # type: ignore[arg-type]
        ax.plot(x[push], high[push], marker="D", markeredgewidth=0, **draw)  # type: ignore[arg-type]


def _sacks(ax: Axes, one: Series, clock: looks.Clock, look: Look) -> list[Any]:
    """Draw selective acknowledgments (the first block of each: the most recent)."""
    if not len(one.sack_time):
        return []
    time, low, high = one.sack_time, one.sack_low, one.sack_high
    if len(time) > MOST_SEGMENTS:
        time, low, high = gathered(time, low, high, COLUMNS)
    x = clock.of(time)
    ax.vlines(x, low, high, colors=look.sack, linewidth=1.1, linestyles=(0, (1.5, 1)), zorder=3, label="_sack")
    if look.is_xplot and len(x) <= MOST_MARKS:
        for at, level in zip(x.tolist(), high.tolist(), strict=True):
            ax.annotate("S", (at, level), xytext=(0, 2), textcoords="offset points", ha="center", zorder=5,
                        fontsize=looks.SMALL - 1, color=look.sack, label="_S")  # fmt: skip
    return [_sign(look.sack, "|", "selectively acknowledged")]


def _ticks(ax: Axes, one: Series, clock: looks.Clock, look: Look) -> list[Any]:
    """Draw duplicate ACKs, closed windows, and (xplot) windows that stayed."""
    handles: list[Any] = []
    level = numpy.maximum.accumulate(one.ack) if len(one.ack) else one.ack
    same = numpy.zeros(len(one.edge), bool)
    same[1:] = numpy.diff(one.edge) == 0
    for where, y, marker, colour, words in (
        (one.duplicate, level, 3, look.ack, "duplicate ACK"),
        (same & look.is_xplot & ~one.zero, one.edge, 2, look.window, ""),
        (one.zero, one.edge, "x", look.segment, "window closed"),
    ):
        if where.any():
            x = clock.of(one.ack_time[where])
            ax.plot(x, y[where], linestyle="", marker=marker, color=colour, markersize=5, zorder=4, label="_ticks")
            handles += [_sign(colour, marker, words)] * bool(words)
    return handles


def _sign(colour: str, marker: Any, words: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", label=words, markersize=6)


SEQUENCE: Final = Plot(
    name="sequence",
    title="time-sequence graph",
    doc="One direction of a connection: octets sent, acknowledged and allowed over time, as tcptrace or Wireshark do.",
    scope="flow",
    draw=sequence,
)
