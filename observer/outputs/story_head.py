"""The head of a connection's story: who, when, how long, how it ended.

Never here: findings, or the story.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy

from observer.outputs.text import Line, count, duration, endpoint, octets, plain, utc, wrapped
from observer.schema import ENDPOINTS, GRADES, TAPS, Columns

PLACES: Final = {"client": "near the client", "server": "near the server", "middle": "in the middle"}


def render_facts(flow: Columns, segments: int, width: int) -> Iterator[Line]:
    """Lay out the facts of a connection; flow: its row of the table of flows."""
    addresses = flow.addresses
    ends = [
        endpoint(addresses.text(_one(flow, f"{side}_addr")) if addresses else "?", _one(flow, f"{side}_port"))
        for side in ENDPOINTS
    ]
    for line in wrapped([f"stream {_one(flow, 'stream')}   {ends[0]}", f"-> {ends[1]}"], width, " " * 10):
        yield plain(line, "name")
    span = duration(_one(flow, "last_time") - _one(flow, "first_time"))
    facts = [utc(_one(flow, "first_time"), 6), _ending(flow, segments, span), count(segments, "segment")]
    facts += [f"{octets(_one(flow, f'{side}_octets'))} from the {side}" for side in ENDPOINTS]
    shake = _one(flow, "handshake_ns")
    if shake >= 0:
        facts.append(f"handshake {duration(shake)}")
    tap, grade = _one(flow, "tap"), _one(flow, "tap_grade")
    if tap >= 0:
        facts.append(f"tap {PLACES[TAPS[tap]]}" + (f" ({GRADES[grade]})" if grade >= 0 else ""))
    if _one(flow, "roles") != 0:
        facts.append("opening not captured, roles inferred")
    for line in wrapped(["  " + facts[0], *facts[1:]], width, separator=", "):
        yield plain(line)


def _one(flow: Columns, name: str) -> int:
    return int(numpy.asarray(flow.get(name, [-1]))[0])


def _ending(flow: Columns, segments: int, span: str) -> str:
    sides = ("the client", "the server", "both at once")
    sender, closer, ended = (_one(flow, name) for name in ("rst_sender", "closed_first", "ended"))
    if ended == 0:
        return f"closed after {span}" + (f" by {sides[closer]}" + " first" * (closer < 2) if closer >= 0 else "")
    if ended == 1:
        return f"reset after {span}" + (f" by {sides[sender]}" if sender >= 0 else "")
    if ended == 2:
        return f"given up after {span}" if segments > 1 else "given up"
    return f"still open after {span}"
