"""What must hold for every input whatever: no exception but CaptureError, and counts that add up."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType
from typing import Any

import numpy as np
from seeds import ROOT

sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed

import observer
from observer.errors import CaptureError
from observer.observation import Observation
from observer.schema import Coded

LIMIT_S = 20
TABLES = ("flows", "transitions", "events", "skipped")


class TooSlowError(BaseException):
    """A case took longer than LIMIT_S.  Not an Exception: nobody on the way may swallow it."""


class BrokenError(Exception):
    """A promise does not hold."""


def on_alarm(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {LIMIT_S} s")


def observe(data: bytes, engine: Any) -> Observation | None:
    """The whole read path for some octets; None if they are refused as no capture."""
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(LIMIT_S)
    try:
        return observer.read(io.BytesIO(data), engine=engine)
    except CaptureError as error:
        check_text(str(error))
        return None
    finally:
        signal.alarm(0)


def check_text(text: str) -> None:
    """A sentence of ours carries no control characters from the input."""
    if any((ord(character) < 32 and character != "\n") or 0x7F <= ord(character) < 0xA0 for character in text):
        raise BrokenError(f"control characters in a message: {text!r}")


def check_counts(observation: Observation) -> None:
    """Every frame is in one count, every segment in one flow."""
    decoder = observation.decoder
    skipped = sum(entry.count for entry in decoder.skipped)
    frames = observation.capture.frames
    if frames != decoder.segment_frames + decoder.quoted_frames + skipped:
        raise BrokenError(
            f"{frames} frames are not {decoder.segment_frames} with segments, "
            f"{decoder.quoted_frames} with quotations, {skipped} skipped"
        )
    flows = observation.columns("flows")
    packets = int(np.sum(flows["client_packets"]) + np.sum(flows["server_packets"]))
    if packets != observation.segments:
        raise BrokenError(f"{observation.segments} segments, {packets} in flows")


def same(first: Observation, second: Observation) -> None:
    """Two observations of the same octets have the same tables."""
    for table in TABLES:
        left, right = first.columns(table), second.columns(table)
        if left.rows != right.rows:
            raise BrokenError(f"{table}: {left.rows} rows one way, {right.rows} the other")
        if left.addresses is not None and right.addresses is not None:
            check_equal(f"{table} addresses", left.addresses.texts(), right.addresses.texts())
        for name in left:
            check_equal(f"{table}.{name}", left[name], right[name])


def check_equal(name: str, left: Any, right: Any) -> None:
    left, right = ([raw.values[code] if code >= 0 else None for code in raw.codes] if isinstance(raw, Coded) else raw
                   for raw in (left, right))  # fmt: skip
    if isinstance(left, np.ndarray):
        equal = np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    else:
        equal = list(left) == list(right)
    if not equal:
        raise BrokenError(f"{name} differs: {left!r} one way, {right!r} the other")


def check_tables(observation: Observation) -> None:
    """The DataFrames can be built, and folding the transitions gives the states that the flows end in."""
    for table in TABLES:
        len(getattr(observation, table))
    check_fold(observation)
    check_text(observation.skipped.to_csv(lineterminator="\n"))


def check_fold(observation: Observation) -> None:
    """Without retracted rows each endpoint's transitions are a chain that ends in its state in the flow table."""
    state: dict[tuple[int, str], str] = {}
    rows = observation.transitions
    rows = rows[rows.certainty != "retracted"]
    for stream, endpoint, before, after in zip(rows.stream, rows.endpoint, rows.from_state, rows.to_state, strict=True):
        known = state.get((stream, endpoint))
        if known is not None and known != before:
            raise BrokenError(f"stream {stream} {endpoint}: {before} -> {after} follows {known}")
        state[stream, endpoint] = after
    flows = observation.flows
    for endpoint in ("client", "server"):
        for stream, final in zip(flows.stream, flows[f"{endpoint}_state"], strict=True):
            if state.get((stream, endpoint), final) != final:
                raise BrokenError(f"stream {stream} {endpoint} ends in {final}, folded: {state[stream, endpoint]}")
