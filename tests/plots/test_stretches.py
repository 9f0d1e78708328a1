"""How long endpoints were in states: folded from the transitions, counted and averaged as the slow way counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import observer
from observer.plots.stretches import averages, most_at_once, stretches
from observer.schema import ENDPOINTS, STATES
from tests.plots.conversation import queue_full
from tests.plots.crowd import crowd

SPANS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 60)), max_size=30)


def naive(observation: Any) -> list[tuple[int, int, str, int, int]]:
    """Stream, endpoint, state, begin, end: by walking through the table of transitions row by row."""
    table = observation.transitions
    table = table[table.certainty != "retracted"]
    end_ns = observation.end_ns + 1
    found = []
    for flow in observation.flows.itertuples():
        for side, name in enumerate(ENDPOINTS):
            own = table[(table.stream == flow.stream) & (table.endpoint == name)]
            state = own.from_state.iloc[0] if len(own) else getattr(flow, f"{name}_state")
            at = flow.first_time.value
            for row in own.itertuples():
                found.append((flow.stream, side, state, at, row.time.value))
                state, at = row.to_state, row.time.value
            found.append((flow.stream, side, state, at, end_ns))
    return [one for one in found if one[2] not in ("CLOSED", "LISTEN")]


@pytest.mark.parametrize("name", ["accept-queue-full.pcap", "simultaneous-close.pcap", "half-open-reconnect.pcap"])
def test_stretches_are_the_transitions_folded(name: str, captures: Path) -> None:
    observation = observer.read(captures / name)
    got = stretches(observation)
    rows = zip(got.stream.tolist(), got.endpoint.tolist(), [STATES[code] for code in got.state], got.begin.tolist(),
               got.end.tolist(), strict=True)  # fmt: skip
    assert sorted(rows) == sorted(naive(observation))
    assert ((got.end == observation.end_ns + 1) == got.still).all()


def test_what_was_retracted_is_left_out() -> None:
    got = stretches(queue_full().read())
    server = {STATES[code] for code in got.state[got.endpoint == 1]}
    assert server == {"SYN_RECEIVED"}


def test_some_streams_are_those_of_all() -> None:
    observation = crowd(60)
    whole = stretches(observation)
    chosen = numpy.array([3, 4, 41])
    some = stretches(observation, chosen)
    rows = numpy.flatnonzero(numpy.isin(whole.stream, chosen))
    for part, wanted in zip(some, whole.take(rows), strict=True):
        assert part.tolist() == wanted.tolist()


@given(SPANS)
def test_most_at_once_is_that_of_counting(spans: list[tuple[int, int]]) -> None:
    begin = numpy.array([one for one, _ in spans], numpy.int64)
    end = begin + numpy.array([length for _, length in spans], numpy.int64)
    wanted = max((sum(low <= at < high for low, high in zip(begin, end, strict=True)) for at in begin), default=0)
    assert most_at_once(begin, end) == wanted


@given(SPANS, st.integers(1, 7))
def test_averages_are_those_of_counting(spans: list[tuple[int, int]], groups: int) -> None:
    begin = numpy.array([one for one, _ in spans], numpy.int64)
    end = begin + numpy.array([length for _, length in spans], numpy.int64)
    group = numpy.arange(len(spans)) % groups
    edges = numpy.linspace(0, 160, 9)
    got = averages(begin, end, group, groups=groups, edges=edges)
    for row in range(groups):
        for column in range(8):
            low, high = edges[column], edges[column + 1]
            shares = [max(0, min(e, high) - max(b, low)) / (high - low)
                      for b, e, g in zip(begin, end, group, strict=True) if g == row]  # fmt: skip
            assert got[row, column] == pytest.approx(sum(shares), abs=1e-9)
