"""TIME-WAIT piling up: who holds how many of them, which share of the ports that is, and when none will be left.

Whoever closes first holds TIME-WAIT for 2 MSL (RFC 9293 3.4.2).  As long as the client holds it, its port is taken for
this service, so what counts is the share of the tuple space (client address, server address, server port).  At a server
it costs a little memory: the client may use the port again with a higher number or timestamp (RFC 6191).

Never here: states (they come as stretches), and what happens when no port is left: see `ports`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import ADDRESS_SHIFT
from observer.findings.crowds import (
    Peak,
    ascending,
    counted,
    groups,
    members,
    peak_of,
    percent,
    rate,
    rate_at,
    sample,
)
from observer.findings.survey import Spans, Survey, end_of
from observer.findings.verdict import End, Verdict, clean_frames
from observer.findings.words import SECOND, duration
from observer.options import Options
from observer.registry import Finding
from observer.schema import ENDPOINTS

Array = Any

CLIENT: Final = ENDPOINTS.index("client")
DYNAMIC_PORTS: Final = (49152, 65535)
"""Ports that systems other than Linux hand out (RFC 6335 6)."""
UNPRIVILEGED_PORTS: Final = (1024, 65535)
"""Ports that a host may be set to hand out (RFC 6335 6)."""


def port_range(ports: Array, options: Options) -> tuple[int, int]:
    """Which ports a client hands out: the expected range if all of its ports lie there, else a wider one.

    Examples
    --------
    >>> port_range(numpy.array([40000, 51000]), Options()), port_range(numpy.array([51000, 65000]), Options())
    ((32768, 60999), (49152, 65535))
    """
    low, high = int(ports.min()), int(ports.max())
    for first, last in (options.ephemeral_ports, DYNAMIC_PORTS, UNPRIVILEGED_PORTS):
        if first <= low and high <= last:
            return first, last
    return 1, 65535


class Pile(NamedTuple):
    """Connections in TIME-WAIT at one holder: what the ledger says of them.

    ongoing: connections still entered it in the last moment of the capture.
    size, share: ports of the (busiest) client for this service, and which share of them waited at the peak.
    """

    rows: Array
    peak: Peak
    rate: float
    ongoing: bool
    size: int
    share: float
    ports: tuple[int, int]


def pile_ups(survey: Survey) -> Iterator[Verdict]:
    """Pile-ups of each holder towards, or of, one service; else of each holder in all."""
    spans, options = survey.spans["TIME_WAIT"], survey.around.options
    low, high = options.ephemeral_ports
    least = min(options.time_wait_pileup, ceil(options.time_wait_share * (high - low + 1)))
    if len(spans.stream) < least:
        return
    for side in range(len(ENDPOINTS)):
        rows = numpy.flatnonzero(spans.endpoint == side)
        if len(rows) < least:
            continue
        streams = spans.stream[rows]
        keys = survey.spaces(streams) if side == CLIENT else survey.crowd.server[streams]
        named = set()
        for key, places in groups(keys, least):
            pile = _pile_of(survey, rows[places], least=_fewest(options))
            if pile and (pile.peak.most >= options.time_wait_pileup or pile.share >= options.time_wait_share):
                client, server = survey.space(key) if side == CLIENT else (None, end_of(key))
                named.add((client or server)[0])
                yield _verdict(survey, pile, side, client, server)
        holders = (survey.crowd.client if side == CLIENT else survey.crowd.server)[streams] >> ADDRESS_SHIFT
        for holder, places in groups(holders, options.time_wait_pileup):
            if holder in named:
                continue
            pile = _pile_of(survey, rows[places], least=options.time_wait_pileup)
            if pile:
                end = (holder, -1)
                yield _verdict(survey, pile, side, end if side == CLIENT else None, None if side == CLIENT else end)


def _fewest(options: Options) -> int:
    """How many at once can be worth a word, whichever ports the client hands out."""
    narrowest = min(high - low + 1 for low, high in (options.ephemeral_ports, DYNAMIC_PORTS, UNPRIVILEGED_PORTS))
    return min(options.time_wait_pileup, ceil(options.time_wait_share * narrowest))


def _pile_of(survey: Survey, rows: Array, *, least: int) -> Pile | None:
    """What there is to say about these stretches of one holder; None if there were fewer than `least` at once."""
    spans, crowd = survey.spans["TIME_WAIT"], survey.crowd
    begins = spans.begin[rows]
    peak = peak_of(begins, spans.end[rows])
    if peak.most < least:
        return None
    spaces = survey.spaces(spans.stream[rows])
    one = bool((spaces == spaces[0]).all())
    busiest = rows if one else rows[spaces == _commonest(spaces)]
    ports = port_range(crowd.client[spans.stream[busiest]] & (1 << ADDRESS_SHIFT) - 1, survey.around.options)
    size = ports[1] - ports[0] + 1
    of_busiest = peak if one else peak_of(spans.begin[busiest], spans.end[busiest])
    ongoing = bool(begins.max() + SECOND >= survey.around.end_ns)
    return Pile(rows, peak, rate_at(ascending(begins), peak.time), ongoing, size, of_busiest.most / size, ports)


def _commonest(values: Array) -> Any:
    distinct, counts = numpy.unique(values, return_counts=True)
    return distinct[numpy.argmax(counts)]


def _verdict(survey: Survey, pile: Pile, side: int, client: End | None, server: End | None) -> Verdict:
    spans, around = survey.spans["TIME_WAIT"], survey.around
    rows = pile.rows[numpy.argsort(spans.begin[pile.rows], kind="stable")]
    peak_at = int(numpy.searchsorted(spans.begin[rows], pile.peak.time))
    still = bool(spans.still[rows].any())
    lasts = around.options.profile().time_wait_s
    return Verdict(
        grade="confirmed",
        severity=_severity(pile, side, lasts, around.options),
        endpoint=ENDPOINTS[side],
        cause=f"{ENDPOINTS[side]}_closes_first",
        begin=int(spans.begin[rows[0]]),
        end=None if still else int(spans.end[rows].max()),
        client=client,
        server=server,
        frames=clean_frames(*sample(spans.frame[rows], peak_at).tolist()),
        streams=members(spans.stream[rows[::-1]]),  # the latest first: they stay longest
        summary=_share_in_words(pile, side, one_service=server is not None and (side != CLIENT or client is not None))
        + " " + _outlook(pile, lasts, _leaves(spans, rows, lasts, around.end_ns)),
        remedy=None if side == CLIENT else SERVER_REMEDY,
        unknown=around.caveat(
            f"that TIME-WAIT lasts {lasts:g} s is assumed (Options.time_wait_s)",
            f"that the client's ports are {pile.ports[0]}-{pile.ports[1]} is assumed",
        ),
    )  # fmt: skip


def _severity(pile: Pile, side: int, lasts_s: float, options: Options) -> str:
    """How near exhaustion is; a server's TIME-WAIT takes no port from a client that counts its numbers upwards."""
    if side == CLIENT and pile.share >= options.time_wait_critical_share:
        return "problem"
    if pile.share >= options.time_wait_share or (side == CLIENT and pile.ongoing and pile.rate * lasts_s >= pile.size):
        return "warning"
    return "info"


def _share_in_words(pile: Pile, side: int, *, one_service: bool) -> str:
    many = f"{counted(pile.peak.most)} in TIME-WAIT at once at the {ENDPOINTS[side]}, which closes first"
    taken = f"{percent(pile.share)} of the {pile.size:,} ports"
    if not one_service:
        return f"{many}, of several services; at the busiest one that is {taken} of the client."
    if side == CLIENT:
        return f"{many}: {taken} that it has for this service."
    return f"{many}; they hold up to {taken} that one client has for this service."


def _outlook(pile: Pile, lasts_s: float, leaves: str) -> str:
    """When no port will be left at the present rate, and when the last one leaves."""
    left = pile.size * (1 - pile.share)
    if not pile.rate:
        return f"{leaves}."
    if left < 1:
        outlook = "No port is left"
    elif pile.rate * lasts_s >= pile.size:
        until = duration(round(left / pile.rate * SECOND))
        taken = "is taken" if pile.ongoing else "would have been taken"
        outlook = f"At {rate(pile.rate)} a client's last port {taken} {until} later"
    else:
        outlook = f"At {rate(pile.rate)} there are never more than {pile.rate * lasts_s:,.0f}"
    return f"{outlook}; {leaves[0].lower()}{leaves[1:]}."


def _leaves(spans: Spans, rows: Array, lasts_s: float, end_ns: int) -> str:
    after = int(spans.begin[rows].max()) + round(lasts_s * SECOND) - end_ns
    if after <= 0:
        return f"The last one left {duration(-after)} before the end of the capture"
    return f"The last one leaves {duration(after)} after the end of the capture"


SERVER_REMEDY: Final = (
    "TIME-WAIT costs the server little memory; let the clients close first, or keep connections open for more than one "
    "request, if clients are refused a port that they use again."
)
TIME_WAIT_PILEUP: Final = Finding(
    name="time_wait_pileup",
    title="TIME-WAIT piles up",
    definition="An endpoint that closes first has so many connections in TIME-WAIT at once (Options.time_wait_pileup), "
    "or so large a share of a client's ports towards one service (Options.time_wait_share), that ports may run out.",
    source="RFC 9293 3.4.2; RFC 6191; net.ipv4.ip_local_port_range of Linux",
    severity="warning",
    causes={
        "client_closes_first": "the client sends the first FIN, so its own ports wait",
        "server_closes_first": "the server sends the first FIN, so TIME-WAIT waits there",
    },
    remedy="Keep connections open for more than one request (keep-alive, a pool), or let the server close first. Not "
    "SO_LINGER 0: it ends connections by reset and loses data.",
    survey=pile_ups,
)
