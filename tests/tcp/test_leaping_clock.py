"""Time stamps of a damaged capture leap by centuries: no sum of them may leave 64 bits (found by fuzzing)."""

from __future__ import annotations

import numpy

from observer.kernels import Interpreted
from observer.options import Options
from observer.tcp import layout as c
from observer.tcp.states import CLOSED, LAST_ACK
from observer.tcp.timers import LONGEST_NS, give_up, round_trip
from observer.tcp.tracker import Tracker

CENTURY_NS = 100 * 365 * 86_400 * 10**9
LATEST_NS = 2**62 - 1  # what the readers clamp times to


def test_a_round_trip_of_centuries_is_bounded() -> None:
    flows = numpy.zeros(c.FLOW_STRIDE, numpy.int64)
    flows[[c.RTT_CLIENT, c.RTT_SERVER]] = LATEST_NS
    assert LONGEST_NS < round_trip(memoryview(flows), 0) < 3 * LONGEST_NS


def test_a_gap_of_centuries_does_not_keep_an_endpoint_alive() -> None:
    tracker = Tracker(Interpreted(), Options())
    flows, log, g = memoryview(tracker.flows.cells), memoryview(tracker.log.cells), memoryview(tracker.g)
    x = c.CLIENT
    flows[x + c.E_STATE], flows[x + c.E_RETX_COUNT] = LAST_ACK, 3
    flows[x + c.E_RETX_TIME], flows[x + c.E_RETX_GAP] = CENTURY_NS, CENTURY_NS
    give_up(flows, log, g, 0, x, CENTURY_NS + 3 * LONGEST_NS)
    assert flows[x + c.E_STATE] == CLOSED
