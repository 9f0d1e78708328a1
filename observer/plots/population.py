"""How many endpoints were in each state over time, at one listener, at one host or in all of the capture.

Servers are stacked upwards from the line, clients downwards, so that what differs between both ends of the same
connections is seen at once.  Where there are more changes than pixels, each interval shows its fullest instant.

Never here: what makes a population a finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy

from observer.errors import OptionError
from observer.plots import places, style
from observer.plots.places import PORT_BITS
from observer.plots.stretches import span_ns
from observer.plots.subject import numbers, texts
from observer.plots.words import count, safe, state_words
from observer.registry import Plot
from observer.schema import ENDPOINTS, NULL_TIME, SEVERITIES, STATES, Coded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from observer.options import Options
    from observer.plots.subject import ObservationSubject

Array = Any
Endpoint = Literal["client", "server"]

INTERVALS: Final = 900
"""Intervals of time that changes are gathered in if there are more of them: about a pixel each."""
SERVER: Final = ENDPOINTS.index("server")
EPISODES: Final = 6
"""Findings that are marked, the worst first."""

EDGED: Final = 150
"""Steps whose edges are drawn, at most."""
MARK_HEIGHT: Final = 0.055
"""Height of a finding's mark and its words, as a part of the Axes' height."""

CONCERNS: Final[dict[str, str]] = {
    "time_wait_pileup": "TIME_WAIT", "port_exhaustion": "TIME_WAIT", "close_wait_pileup": "CLOSE_WAIT",
    "fin_wait_2_pileup": "FIN_WAIT_2", "syn_flood": "SYN_RECEIVED", "accept_queue_overflow": "SYN_RECEIVED",
    "connection_leak": "ESTABLISHED", "reset_storm": "ESTABLISHED",
}  # fmt: skip
"""Findings of populations, and the state in which their connections are counted."""
THRESHOLDS: Final[dict[str, str]] = {
    "TIME_WAIT": "time_wait_pileup", "CLOSE_WAIT": "pileup", "FIN_WAIT_2": "pileup", "SYN_RECEIVED": "syn_flood",
}  # fmt: skip
"""States, and the option that says from how many on they are a finding."""


class Place(NamedTuple):
    """Whose endpoints are counted.

    scope
        "listener" or "host".
    number
        Of a listener address code and port as one number (see `places.listeners`), of a host its address code;
        -1: all.
    """

    scope: str
    number: int


class Episode(NamedTuple):
    """A finding about a population; end: ns, or None if it had not ended."""

    code: str
    severity: str
    endpoint: int
    begin: int
    end: int | None
    server: int
    client: int
    times: int = 1
    """How many like findings there are, of different clients or listeners, with this one the first of them."""


class Steps(NamedTuple):
    """Endpoints in each state from each of these times on; counts: int64, shape (states, times)."""

    times: Array
    counts: Array

    @property
    def most(self) -> int:
        return int(self.counts.sum(axis=0).max(initial=0))


def population(
    subject: ObservationSubject,
    *,
    ax: Axes | None = None,
    listener: tuple[str, int] | Literal["all"] | None = None,
    host: str | None = None,
    endpoint: Endpoint | None = None,
) -> Axes:
    """Draw the number of endpoints in each state over time, with episodes and thresholds.

    Parameters
    ----------
    subject
        The observation.
    ax
        Draw here; default: a new figure.
    listener
        Address and port of a listener, or "all"; default: the one with the worst finding of a population, else all.
    host
        Address of a host: its own endpoints as a server and as a client, in place of a listener's connections.
    endpoint
        Only this side; default: servers above the line, clients below.

    Raises
    ------
    OptionError
        The capture has no such listener or host, both are given, or there is no such side.
    """
    if endpoint is not None and endpoint not in ENDPOINTS:
        raise OptionError(f"endpoint {endpoint!r} is unknown; there are {', '.join(ENDPOINTS)}")
    episodes = _episodes(subject)
    place = _place(subject, listener, host, episodes)
    episodes = [episode for episode in episodes if _is_at(episode, place)]
    sides = range(len(ENDPOINTS)) if endpoint is None else [ENDPOINTS.index(endpoint)]
    steps = {side: _steps(subject, place, side) for side in sides}
    title = _title(subject, place, steps)
    ax = style.new_axes(10.0, 5.0) if ax is None else ax
    if not any(one.most for one in steps.values()):
        return style.empty(ax, title, "no connection in any state but CLOSED and LISTEN")
    clock = style.clock(*span_ns(subject))
    base = _base(steps, episodes, subject.options)
    for side, one in steps.items():
        _stack(ax, one, base, clock, span_ns(subject)[1], down=endpoint is None and side != SERVER)
    episodes = _alike(episodes)
    _scale(ax, steps, min(len(episodes), EPISODES + 1), both=endpoint is None)
    if base in THRESHOLDS and place.number >= 0:
        _threshold(ax, base, steps, subject.options, both=endpoint is None)
    _mark(ax, episodes, clock, span_ns(subject)[1])
    ax.set_xlim(clock.of(numpy.array(span_ns(subject))))
    style.finish(ax, title, xlabel=clock.label(), ylabel=_ylabel(place, endpoint), grid="y")
    present = numpy.flatnonzero(sum(one.counts.sum(axis=1) for one in steps.values()))
    names = style.states_in_order(STATES[code] for code in present.tolist())
    style.legend(ax, [style.state_patch(name) for name in names], title="state")
    return ax


# --- which place --------------------------------------------------------------------------------------------


def _episodes(subject: ObservationSubject) -> list[Episode]:
    """All findings of populations, the worst first."""
    findings = subject.columns("findings")
    rows = numpy.flatnonzero(numbers(findings, "stream") < 0)
    codes = texts(findings, "code")
    severity, side = numbers(findings, "severity"), numbers(findings, "endpoint")
    begin, end = numbers(findings, "begin"), numbers(findings, "end")
    addr, port = numbers(findings, "server_addr"), numbers(findings, "server_port")
    client = numbers(findings, "client_addr")
    found = []
    for row in rows.tolist():
        known = addr[row] >= 0 and port[row] >= 0
        server = int(addr[row] << PORT_BITS | port[row]) if known else int(addr[row]) << PORT_BITS
        end_ns = None if end[row] == NULL_TIME else int(end[row])
        found.append(
            Episode(codes[row], SEVERITIES[severity[row]], int(side[row]), int(begin[row]), end_ns,
                    server if addr[row] >= 0 else -1, int(client[row]))
        )  # fmt: skip
    return found


def _place(subject: ObservationSubject, listener: Any, host: str | None, episodes: list[Episode]) -> Place:
    flows = subject.columns("flows")
    if listener is not None and host is not None:
        raise OptionError("a population is a listener's or a host's: give one of both")
    if host is not None:
        return Place("host", places.host_code(flows, host))
    if listener == "all":
        return Place("listener", -1)
    if listener is not None:
        return Place("listener", places.listener_number(flows, *listener))
    known = numpy.unique(places.listeners(flows))
    for episode in episodes:
        if episode.server in known:
            return Place("listener", episode.server)
        if episode.server < 0 <= episode.client:
            return Place("host", episode.client)
    return Place("listener", int(known[0]) if len(known) == 1 else -1)


def _is_at(episode: Episode, place: Place) -> bool:
    if place.number < 0:
        return True
    if place.scope == "listener":
        return episode.server == place.number
    return place.number in (episode.client, episode.server >> PORT_BITS)


def _alike(episodes: list[Episode]) -> list[Episode]:
    """Put findings of the same kind together: from the first begin to the last end."""
    kinds: dict[tuple[str, str, int], Episode] = {}
    for one in episodes:
        first = kinds.setdefault((one.code, one.severity, one.endpoint), one._replace(times=0))
        end = None if first.end is None or one.end is None else max(first.end, one.end)
        kinds[one.code, one.severity, one.endpoint] = first._replace(
            begin=min(first.begin, one.begin), end=end, times=first.times + 1
        )
    return list(kinds.values())


def _title(subject: ObservationSubject, place: Place, steps: dict[int, Steps]) -> str:
    flows = subject.columns("flows")
    most = max(one.most for one in steps.values())
    if place.number < 0:
        whose = (
            f"of {count(flows.rows, 'connection')} to {count(len(numpy.unique(places.listeners(flows))), 'listener')}"
        )
    elif place.scope == "listener":
        rows = int((places.listeners(flows) == place.number).sum())
        whose = f"of {count(rows, 'connection')} to {places.listener_text(flows, place.number)}"
    else:
        whose = f"of the host {places.host_text(flows, place.number)}"
    return f"States {whose}: at most {most:,} at once"


def _ylabel(place: Place, endpoint: str | None) -> str:
    if endpoint is not None:
        return f"{endpoint} endpoints at once"
    if place.scope == "host":
        return "endpoints at once: as client below, as server above"
    return "endpoints at once: clients' below, servers' above"


# --- numbers ------------------------------------------------------------------------------------------------


def _steps(subject: ObservationSubject, place: Place, side: int) -> Steps:
    """Numbers over time of one side, at a place."""
    table = subject.columns("population")
    scope = table["scope"]
    assert isinstance(scope, Coded)
    wanted = list(scope.values).index(place.scope)
    # rows stand by scope: a scope is one run of them
    first, stop = numpy.searchsorted(scope.codes, [wanted, wanted + 1]).tolist()
    own = table.part(first, stop)
    keep = numbers(own, "endpoint") == side
    if place.number >= 0:
        addr = numbers(own, "addr")
        number = addr << PORT_BITS | numbers(own, "port") if place.scope == "listener" else addr
        keep &= number == place.number
    rows = numpy.flatnonzero(keep)
    state, total, time = (numbers(own, name)[rows] for name in ("state", "count", "time"))
    addr, port = numbers(own, "addr")[rows], numbers(own, "port")[rows]
    change = numpy.diff(total, prepend=0)
    begins = numpy.flatnonzero(numpy.diff((addr << PORT_BITS | port & 0xFFFF) << 4 | state, prepend=-1))
    change[begins] = total[begins]
    return _gathered(time, state, change, *span_ns(subject))


def _gathered(time: Array, state: Array, change: Array, begin: int, end: int) -> Steps:
    """All changes as steps, or of each interval of time the fullest instant if there are more changes than pixels."""
    order = numpy.argsort(time, kind="stable")
    time, state, change = time[order], state[order], change[order]
    instants = numpy.flatnonzero(numpy.append(time[1:] != time[:-1], True)[: len(time)])
    if len(instants) > 2 * INTERVALS:
        total = numpy.cumsum(change)[instants]
        width = max((end - begin) / INTERVALS, 1)
        interval = numpy.clip(((time[instants] - begin) / width).astype(numpy.int64), 0, INTERVALS - 1)
        # by interval, then by number: the last one of an interval is its fullest
        fullest = numpy.lexsort((total, interval))
        last = numpy.append(interval[fullest][1:] != interval[fullest][:-1], True)
        instants = instants[fullest[last]]
        shown = begin + (numpy.unique(interval) * width).astype(numpy.int64)
    else:
        shown = time[instants]
    counts = numpy.zeros((len(STATES), len(instants)), numpy.int64)
    for code in numpy.unique(state).tolist():
        own = numpy.flatnonzero(state == code)
        running = numpy.append(0, numpy.cumsum(change[own]))
        counts[code] = running[numpy.searchsorted(own, instants, "right")]
    return Steps(shown, counts)


# --- drawing ------------------------------------------------------------------------------------------------


def _base(steps: dict[int, Steps], episodes: list[Episode], options: Options) -> str:
    """The state next to the line, whose height is read best: the worst finding's, or one past half its threshold."""
    for episode in episodes:
        if episode.code in CONCERNS:
            return CONCERNS[episode.code]
    for name, option in THRESHOLDS.items():
        code = STATES.index(name)
        if any(2 * one.counts[code].max(initial=0) >= getattr(options, option) for one in steps.values()):
            return name
    return "ESTABLISHED"


def _stack(ax: Axes, steps: Steps, base: str, clock: style.Clock, end_ns: int, *, down: bool) -> None:
    if not len(steps.times):
        return
    times = clock.of(numpy.append(steps.times, max(end_ns, int(steps.times[-1]))))
    floor = numpy.zeros(len(times))
    names = [base, *(name for name in style.states_in_order(STATES) if name != base)]
    sign = -1 if down else 1
    for name in names:
        own = steps.counts[STATES.index(name)]
        if not own.any():
            continue
        top = floor + sign * numpy.append(own, own[-1])
        area = style.state_area(ax.fill_between(times, floor, top, step="post", label=name), name)
        if len(times) > EDGED:
            area.set_linewidth(0)  # edges of many steps would be a black smear
        floor = top


def _scale(ax: Axes, steps: dict[int, Steps], marks: int, *, both: bool) -> None:
    """Leave room for the marks of episodes; numbers below the line have no sign."""
    from matplotlib.ticker import FuncFormatter

    up = max((one.most for side, one in steps.items() if side == SERVER or not both), default=0)
    down = max((one.most for side, one in steps.items() if side != SERVER and both), default=0)
    top = 0.03 + MARK_HEIGHT * marks
    ax.set_ylim(-down * 1.05, (up + down * 1.05 * top) / (1 - top))
    ax.yaxis.set_major_locator(style.whole_numbers())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
    ax.axhline(0, color=style.INK, linewidth=0.8)


def _threshold(ax: Axes, base: str, steps: dict[int, Steps], options: Options, *, both: bool) -> None:
    """Draw from how many on the state next to the line is a finding, if it comes near."""
    least = getattr(options, THRESHOLDS[base])
    for side, one in steps.items():
        if 2 * one.counts[STATES.index(base)].max(initial=0) < least:
            continue
        level = -least if both and side != SERVER else least
        ax.axhline(level, color=style.BLACK, linewidth=1.0, linestyle=(0, (4, 2)))
        ax.annotate(
            f"threshold: {least:,} {state_words(base)} (Options.{THRESHOLDS[base]})", (1, level),
            xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points", ha="right", va="bottom",
            fontsize=style.SMALL, color=style.BLACK, bbox={"facecolor": "#FFFFFFCC", "linewidth": 0, "pad": 0.8},
        )  # fmt: skip


def _mark(ax: Axes, episodes: list[Episode], clock: style.Clock, end_ns: int) -> None:
    """Mark when findings began and ended, as bars along the upper edge; an arrow: it had not ended."""
    shown = episodes[:EPISODES]
    for row, episode in enumerate(shown):
        level = 0.985 - MARK_HEIGHT * row
        left = clock.of(episode.begin)
        right = clock.of(end_ns if episode.end is None else episode.end)
        colour = style.SEVERITY_COLOURS[episode.severity]
        ax.plot(
            [left, right], [level, level], transform=ax.get_xaxis_transform(), color=colour, linewidth=4.0,
            solid_capstyle="butt", label=f"finding {episode.code}",
        )  # fmt: skip
        for edge in (left, right) if episode.end is not None else (left,):
            ax.axvline(edge, color=style.FAINT, linewidth=0.6, linestyle=":")
        side = ENDPOINTS[episode.endpoint] + " " if episode.endpoint >= 0 else ""
        still = ", not ended" if episode.end is None else ""
        still = f", {episode.times:,} of them" * (episode.times > 1) + still
        ax.annotate(
            f"{episode.severity}: {side}{safe(episode.code)}{still}", (left, level), xycoords=ax.get_xaxis_transform(),
            xytext=(3, -3), textcoords="offset points", va="top", ha="left", fontsize=style.SMALL, color=style.INK,
        )  # fmt: skip
    if len(episodes) > len(shown):
        ax.annotate(
            f"and {count(len(episodes) - len(shown), 'more kind')} of finding", (0, 0.985 - MARK_HEIGHT * len(shown)),
            xycoords="axes fraction", xytext=(3, 0), textcoords="offset points", va="top", ha="left",
            fontsize=style.SMALL, color=style.FAINT,
        )  # fmt: skip


POPULATION: Final = Plot(
    name="population",
    title="population",
    doc="Endpoints in each state over time, of one listener, one host or all, with thresholds and episodes.",
    scope="observation",
    draw=population,
)
