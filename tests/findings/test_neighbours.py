"""Questions about neighbours equal their slow and obvious answers, and stay fast where there are many."""

from __future__ import annotations

import time

import numpy
from hypothesis import given
from hypothesis import strategies as st

from observer.findings import around
from observer.findings.neighbours import Moments, Neighbours

SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 20)), max_size=25)
TIME = st.integers(-1, 52)


def arrays(rows: list[tuple[int, ...]]) -> list[numpy.ndarray]:
    return [numpy.array([row[column] for row in rows], numpy.int64) for column in range(3)]


@given(SPANS, st.integers(0, 4), TIME, TIME)
def test_neighbours_equal_the_obvious(rows: list[tuple[int, int, int]], key: int, begin: int, end: int) -> None:
    keys, first, length = arrays(rows)
    near = Neighbours(keys, first, first + length)
    own = [(a, a + n) for k, a, n in rows if k == key]
    assert near.begun(key, begin, end) == sum(begin < a < end for a, _ in own)
    if begin <= end:
        assert near.alive(key, begin, end) == sum(a <= end and b >= begin for a, b in own)
    assert near.outlived(key, before=begin, after=end) == any(a < begin and b > end for a, b in own)


@given(SPANS, st.integers(0, 4), TIME, TIME)
def test_moments_equal_the_obvious(rows: list[tuple[int, int, int]], key: int, begin: int, end: int) -> None:
    keys, streams, times = arrays(rows)
    expected = sorted({stream for k, stream, at in rows if k == key and begin <= at <= end})
    assert Moments(keys, streams, times).near(key, begin, end) == expected


def test_each_question_is_quick_among_a_million() -> None:
    count = 1_000_000
    first = numpy.arange(count, dtype=numpy.int64)
    near = Neighbours(numpy.zeros(count, numpy.int64), first, first + 50)
    moments = Moments(numpy.zeros(count, numpy.int64), first, first)
    near.begun(0, 1, 2)  # sorts once
    begin = time.perf_counter()
    for at in range(0, count, count // 2000):
        assert near.alive(0, at, at + 10) <= 61
        assert near.begun(0, at, at + 10) <= 9
        near.outlived(0, before=at, after=at + 40)
        assert len(moments.near(0, at, at + 10)) <= 11
    assert time.perf_counter() - begin < 4, "2,000 times all four"


def test_each_bit_of_the_crowd_means_one_thing() -> None:
    names = list(vars(around))
    behind = {name: vars(around)[name] for name in names[names.index("SAW_SYN") :]}
    bits = [value for name, value in behind.items() if name.isupper() and type(value) is int]
    assert len(bits) >= 10
    assert all(value.bit_count() == 1 for value in bits)
    assert len(set(bits)) == len(bits)
