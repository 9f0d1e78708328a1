"""Decoding frames in tests: octets in, readable rows out, with the sums that must always add up."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from observer import segments as s
from observer.kernels import Checked, Compiled, Engine, Interpreted
from observer.options import Options
from observer.wire import Decoder

ENGINES = ("interpreted", "compiled", "checked")


def engine_of(name: str) -> Engine:
    """An engine by its name, each made once."""
    if name not in _MADE:
        _MADE[name] = {"interpreted": Interpreted, "compiled": Compiled, "checked": Checked}[name]()
    return _MADE[name]


_MADE: dict[str, Engine] = {}


@dataclass
class Frames:
    """A chunk made by hand."""

    octets: np.ndarray
    size: int
    records: np.ndarray
    count: int


def frames_of(
    frames: Sequence[bytes], link: int = 1, *, wire: Sequence[int] | None = None, first: int = 1,
    times_ns: Sequence[int] | None = None,
) -> Frames:  # fmt: skip
    """A chunk of the given frames, numbered from `first`, one millisecond apart."""
    records, offset = [], 0
    for i, frame in enumerate(frames):
        length = wire[i] if wire else len(frame)
        time_ns = times_ns[i] if times_ns else i * 10**6
        records += [offset, len(frame), length, time_ns, link, first + i]
        offset += len(frame)
    octets = np.frombuffer(bytearray(b"".join(frames) or b"\0"), np.uint8)
    return Frames(octets, offset, np.array(records, np.int64), len(frames))


@dataclass(frozen=True)
class Row:
    """A row of a batch in readable form."""

    frame: int
    quoted: bool
    src: str
    src_port: int
    dst: str
    dst_port: int
    flags: int
    length: int
    seq: int
    ack: int
    window: int
    bits: int
    encapsulation: int
    cells: tuple[int, ...]
    """All cells; those that the OPTIONS bits say are not there are 0."""

    def has(self, bit: int) -> bool:
        return bool(self.bits & bit)


OPTIONAL = {
    s.MSS: s.HAS_MSS, s.SCALE: s.HAS_SCALE, s.TS_VALUE: s.HAS_TIMESTAMPS, s.TS_ECHO: s.HAS_TIMESTAMPS,
    s.SACK_LEFT: s.HAS_SACK, s.SACK_RIGHT: s.HAS_SACK, s.SACK2_LEFT: s.HAS_SACK2, s.SACK2_RIGHT: s.HAS_SACK2,
}  # fmt: skip


def address(version: int, words: Sequence[int]) -> str:
    number = words[0] << 96 | words[1] << 64 | words[2] << 32 | words[3]
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def row_of(cells: Sequence[int]) -> Row:
    quoted = cells[s.KIND] == s.KIND_QUOTED
    bits, version = cells[s.OPTIONS], cells[s.VERSION]
    clean = [
        0 if (bit and not bits & bit) or (s.ICMP_TYPE <= i < 38 and not quoted) or i >= 38 else cell
        for i, cell in enumerate(cells)
        for bit in [OPTIONAL.get(i, 0)]
    ]
    return Row(
        frame=cells[s.FRAME],
        quoted=quoted,
        src=address(version, cells[s.SRC : s.SRC + 4]),
        src_port=cells[s.SRC_PORT],
        dst=address(version, cells[s.DST : s.DST + 4]),
        dst_port=cells[s.DST_PORT],
        flags=cells[s.FLAGS],
        length=cells[s.LENGTH],
        seq=cells[s.SEQ],
        ack=cells[s.ACK],
        window=cells[s.WINDOW],
        bits=bits,
        encapsulation=cells[s.ENCAPSULATION],
        cells=tuple(clean),
    )


def rows_of(batch: Any) -> list[Row]:
    cells = batch.rows[: batch.count * s.STRIDE].reshape(-1, s.STRIDE).tolist()
    return [row_of(line) for line in cells]


def sums_up(decoder: Decoder) -> bool:
    """Every frame is counted once."""
    skipped = sum(entry.count for entry in decoder.skipped)
    return decoder.frames == decoder.segment_frames + decoder.quoted_frames + skipped


def decode_with(engine: str, chunks: Iterable[Any], **options: Any) -> tuple[list[Row], Decoder]:
    """Decode all chunks; the counts must add up after each."""
    decoder = Decoder(engine_of(engine), Options(**{"verify_checksums": True, **options}))
    rows: list[Row] = []
    frames = 0
    for chunk in chunks:
        rows += rows_of(decoder.decode(chunk))
        frames += chunk.count
        assert decoder.frames == frames
        assert sums_up(decoder), (decoder.frames, decoder.segment_frames, decoder.quoted_frames, decoder.skipped)
    decoder.finish()
    assert sums_up(decoder)
    return rows, decoder


def decode_everywhere(frames: Sequence[bytes], link: int = 1, **more: Any) -> tuple[list[Row], Decoder]:
    """Decode by every engine, in one chunk and in chunks of one frame; all must agree."""
    rows, decoder = decode_with("interpreted", [frames_of(frames, link, **more)])
    for engine in ENGINES:
        other, counted = decode_with(engine, [frames_of(frames, link, **more)])
        assert other == rows, engine
        assert counted.skipped == decoder.skipped, engine
    if not more:
        single = [frames_of([frame], link, first=i + 1, times_ns=[i * 10**6]) for i, frame in enumerate(frames)]
        assert decode_with("compiled", single)[0] == rows
    return rows, decoder
