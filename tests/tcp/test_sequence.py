"""Sequence arithmetic across 2**31 and 2**32."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.tcp.sequence import HALF, MASK, add, diff, ge, gt, le, lt

numbers = st.one_of(
    st.integers(0, MASK), st.integers(0, 5), st.integers(MASK - 5, MASK), st.integers(HALF - 5, HALF + 5)
)


@given(numbers, numbers)
def test_orders_by_the_signed_32_bit_difference(a: int, b: int) -> None:
    signed = ctypes.c_int32((a - b) & MASK).value
    assert diff(a, b) == signed
    assert (lt(a, b), le(a, b), gt(a, b), ge(a, b)) == (signed < 0, signed <= 0, signed > 0, signed >= 0)


@given(numbers, st.integers(-(2**31), 2**31 - 1))
def test_add_and_diff_undo_each_other(a: int, octets: int) -> None:
    assert 0 <= add(a, octets) <= MASK
    assert diff(add(a, octets), a) == octets


@given(numbers, numbers, numbers)
def test_no_order_changes_when_everything_is_shifted(a: int, b: int, by: int) -> None:
    assert lt(add(a, by), add(b, by)) == lt(a, b)
    assert gt(add(a, by), add(b, by)) == gt(a, b)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [(0, MASK, 1), (MASK, 0, -1), (HALF, HALF - 1, 1), (HALF - 1, 0, HALF - 1), (HALF, 0, -HALF), (0, HALF, -HALF)],
)
def test_at_the_edges(a: int, b: int, distance: int) -> None:
    assert diff(a, b) == distance
