"""How many endpoints were in each state over time: the table `population`, for each listener and each host.

Every transition takes an endpoint out of one state and into another; sorted by place, state and time these are steps
down and up, and their running sum is the number at that instant.  Whole arrays at a time: a million connections
have some ten million transitions.

CLOSED and LISTEN are not counted: neither is a connection (RFC 9293 3.3.2).

Never here: a judgement.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy

from observer.findings.around import ADDRESS_SHIFT
from observer.findings.source import Source
from observer.schema import CERTAINTIES, ENDPOINTS, STATES, Coded, Columns

Array = Any

PART_STREAMS: Final = 8192
"""Connections whose transitions are made at once: they stay in the caches."""
SCOPES: Final = ("listener", "host")
RETRACTED: Final = CERTAINTIES.index("retracted")
UNKNOWN: Final = STATES.index("UNKNOWN")
CLOSED: Final = STATES.index("CLOSED")
COUNTED: Final = numpy.array([state not in ("CLOSED", "LISTEN") for state in STATES])
STATE_BITS: Final = 4
"""A state and which endpoint it is of are one number below 32."""
SORTED_BITS: Final = 63
NEVER: Final = 2**63 - 1


class Moves(NamedTuple):
    """All changes of state, one element each: when, who (stream << 1 | endpoint), out of which state, into which."""

    time: Array
    who: Array
    before: Array
    after: Array


class Clock(NamedTuple):
    """Turns times into small integers that keep their order, and back.

    table
        All times there are, ascending, so that the integer is a place in it; None: it is the time since `begin`.
    bits
        How many bits the integers take.
    """

    begin: int
    bits: int
    table: Array | None = None

    def ticks(self, times: Array) -> Array:
        if self.table is not None:
            return numpy.searchsorted(self.table, times)
        return times - self.begin

    def times(self, ticks: Array) -> Array:
        return ticks + self.begin if self.table is None else self.table[ticks]


class Steps(NamedTuple):
    """Rows of the table for one scope: (place << 5 | endpoint << 4 | state) << clock.bits | tick, and the number."""

    packed: Array
    count: Array


class Places(NamedTuple):
    """listeners: address code << 16 | port, ascending.  of: for each scope and endpoint, the place of each stream."""

    listeners: Array
    of: tuple[tuple[Array, Array], tuple[Array, Array]]

    @property
    def bits(self) -> int:
        return max(int(place.max(initial=0)).bit_length() for pair in self.of for place in pair) + STATE_BITS + 1


def population_columns(source: Source) -> Columns:
    """Raw columns of the table; rows by scope, place, endpoint and state, each in order of time."""
    flows = source.columns("flows")
    if not flows.rows:
        nothing = numpy.zeros(0, numpy.int64)
        return _columns(Clock(0, 0), [Steps(nothing, nothing)] * len(SCOPES), nothing, flows)
    places, begin, end = _places(flows)
    clock = Clock(begin, (max(end, source.end_ns) - begin).bit_length())
    steps = _all_steps(source, flows, places, clock) if clock.bits + 1 + places.bits <= SORTED_BITS else None
    if steps is None:
        table = numpy.unique(numpy.concatenate([moves.time for moves in _moves(source, flows)]))
        clock = Clock(0, len(table).bit_length(), table)
        steps = _all_steps(source, flows, places, clock)
        assert steps is not None
    return _columns(clock, steps, places.listeners, flows)


def _columns(clock: Clock, steps: list[Steps], listeners: Array, flows: Columns) -> Columns:
    """The table's columns, unpacked when they are asked for: there may be tens of millions of rows."""
    first = len(steps[0].packed)
    packed, count = (numpy.concatenate(both) for both in zip(*steps, strict=True))

    def low(start: int, stop: int) -> Array:
        return packed[start:stop] >> clock.bits

    def scope(start: int, stop: int) -> Array:
        return (numpy.arange(start, stop) >= first).astype(numpy.int64)

    def addr(start: int, stop: int) -> Array:
        place = low(start, stop) >> STATE_BITS + 1
        split = min(max(first - start, 0), len(place))
        place[:split] = listeners[place[:split]] >> ADDRESS_SHIFT
        return place

    def port(start: int, stop: int) -> Array:
        place = low(start, stop) >> STATE_BITS + 1
        split = min(max(first - start, 0), len(place))
        place[:split] = listeners[place[:split]] & (1 << ADDRESS_SHIFT) - 1
        place[split:] = -1
        return place

    columns = {
        "time": lambda start, stop: clock.times(packed[start:stop] & (1 << clock.bits) - 1),
        "scope": lambda start, stop: Coded(scope(start, stop), SCOPES),
        "addr": addr,
        "port": port,
        "endpoint": lambda start, stop: low(start, stop) >> STATE_BITS & 1,
        "state": lambda start, stop: low(start, stop) & (1 << STATE_BITS) - 1,
        "count": count,
    }
    return Columns("population", len(packed), columns, flows.addresses)


def _places(flows: Columns) -> tuple[Places, int, int]:
    """Listeners and hosts of all connections, and the first and the last time of any."""
    ends = [numpy.empty(flows.rows, numpy.int64) for _ in ENDPOINTS]
    at, begin, end = 0, NEVER, -NEVER
    for part in flows.parts(PART_STREAMS):
        for own, side in zip(ends, ENDPOINTS, strict=True):
            address = numpy.asarray(part[f"{side}_addr"]).astype(numpy.int64)
            own[at : at + part.rows] = address << ADDRESS_SHIFT | part[f"{side}_port"]
        begin, end = min(begin, int(part["first_time"].min())), max(end, int(part["last_time"].max()))
        at += part.rows
    listeners = numpy.unique(ends[1])
    place = numpy.searchsorted(listeners, ends[1])
    return Places(listeners, ((place, place), (ends[0] >> ADDRESS_SHIFT, ends[1] >> ADDRESS_SHIFT))), begin, end


def _all_steps(source: Source, flows: Columns, places: Places, clock: Clock) -> list[Steps] | None:
    """Rows for listeners and for hosts; None: a time lies outside of what the clock can tell."""
    found: tuple[list[Array], list[Array]] = ([], [])
    for moves in _moves(source, flows):
        ticks = clock.ticks(moves.time)
        if len(ticks) and (ticks.min() < 0 or int(ticks.max()) >> clock.bits):
            return None
        for packed, (client, server) in zip(found, places.of, strict=True):
            streams = moves.who >> 1
            place = numpy.where(moves.who & 1, server[streams], client[streams])
            packed.append(_packed(moves, place, ticks, clock.bits + 1))
    steps = []
    for packed in found:
        everything = numpy.concatenate(packed)
        packed.clear()
        steps.append(_steps(everything, clock.bits))
    return steps


def _moves(source: Source, flows: Columns) -> Iterator[Moves]:
    """Changes in hindsight, and before them those into UNKNOWN of endpoints whose opening was not captured."""
    for start in range(0, flows.rows, PART_STREAMS):
        part = flows.part(start, start + PART_STREAMS)
        history = source.history(start, start + part.rows)
        live = numpy.flatnonzero(numpy.asarray(history["certainty"]) != RETRACTED)
        who = numpy.asarray(history["stream"])[live] << 1 | numpy.asarray(history["endpoint"])[live]
        before = numpy.asarray(history["from_state"])[live].astype(numpy.uint8)
        first = numpy.flatnonzero(numpy.diff(who, prepend=-1))
        # what each endpoint began in; one that never changed ended in it
        began = numpy.stack([numpy.asarray(part[f"{side}_state"]) for side in ENDPOINTS], axis=1).ravel()
        began[who[first] - 2 * start] = before[first]
        unknown = numpy.flatnonzero(began == UNKNOWN)
        times = numpy.asarray(part["first_time"])[unknown >> 1]
        yield Moves(
            numpy.concatenate([times, numpy.asarray(history["time"])[live]]),
            numpy.concatenate([unknown + 2 * start, who]),
            numpy.concatenate([numpy.full(len(unknown), CLOSED, numpy.uint8), before]),
            numpy.concatenate([numpy.full(len(unknown), UNKNOWN, numpy.uint8),
                               numpy.asarray(history["to_state"])[live].astype(numpy.uint8)]),
        )  # fmt: skip


def _packed(moves: Moves, place: Array, ticks: Array, bits: int) -> Array:
    """Steps down and up, each as one number: place, endpoint, state, tick, and a last bit that is 1 if it goes up.

    numpy sorts single numbers some ten times faster than it finds an order of several columns.
    """
    low = (place << STATE_BITS + 1 | (moves.who & 1) << STATE_BITS) << bits | ticks << 1
    down = COUNTED[moves.before]
    up = COUNTED[moves.after]
    return numpy.concatenate([
        low[down] | moves.before[down].astype(numpy.int64) << bits,
        low[up] | moves.after[up].astype(numpy.int64) << bits | 1,
    ])  # fmt: skip


def _steps(packed: Array, bits: int) -> Steps:
    """The table's rows from all steps of one scope; `packed` is used up."""
    if not len(packed):
        return Steps(packed, numpy.zeros(0, numpy.int32))
    packed.sort()
    total = numpy.cumsum(((packed & 1) * 2 - 1).astype(numpy.int8), dtype=numpy.int32)
    packed >>= 1
    last = numpy.append(packed[1:] != packed[:-1], True)  # of all steps of one place and state at one instant
    packed, total = packed[last], total[last]
    begins = numpy.flatnonzero(numpy.diff(packed >> bits, prepend=-1))
    base = numpy.append(numpy.int32(0), total[begins[1:] - 1])
    total -= numpy.repeat(base, numpy.diff(numpy.append(begins, len(packed))))
    changed = numpy.diff(total, prepend=numpy.int32(0)) != 0
    changed[begins] = total[begins] != 0
    return Steps(packed[changed], total[changed])
