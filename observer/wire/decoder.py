"""The decoder that the observe loop drives: chunks of frames in, batches of segment rows out.

It binds the kernel, deals with what the kernel hands back (fragments, frames that only scapy knows, rows used up) and
tells which frames gave no segment.  Never keeps a frame's octets, except fragments' (bounded).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy
from numpy.typing import NDArray

from observer import segments as s
from observer.kernels import Bound, Engine
from observer.options import Options
from observer.wire import decode as kernels
from observer.wire import reasons as why
from observer.wire import registers as r
from observer.wire import skips
from observer.wire.fallback import dissect
from observer.wire.fragments import Fragment, Fragments, Packet
from observer.wire.ip import protocol
from observer.wire.tunnels import tunnel

OctetArray = NDArray[numpy.uint8]
Int64Array = NDArray[numpy.int64]

SCAPY_TRIES_ALL: Final = 1024
"""Fruitless dissections by scapy (about 100 us each) in one observation, whatever the protocol numbers are."""
ROWS_SPARE: Final = 2048
"""Rows beyond one for each frame: a frame of 64 KiB full of small A-MSDU subframes gives half as many."""
RAW: Final = 101  # LINKTYPE_RAW


class Frames(Protocol):
    """What is decoded: a chunk of observer.capture."""

    octets: OctetArray
    """uint8; no frame reaches beyond `size`."""
    size: int
    records: Int64Array
    """int64, flat; row i has its cells at i * RECORD_STRIDE (observer.segments)."""
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments and quoted headers of a chunk, in frame order; valid until the next chunk is decoded."""

    rows: Int64Array
    """int64, flat; row i has its cells at i * STRIDE (observer.segments)."""
    count: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Frames that gave neither segment nor quotation, for one reason."""

    reason: str
    """A name of observer.wire.reasons."""
    count: int
    first_frame: int
    last_frame: int
    detail: str
    """A number that belongs to the reason in words, or empty."""


class Decoder:
    """Decodes the chunks of one observation.

    Parameters
    ----------
    engine
        How kernels run; `use` changes it between chunks.
    options
        Of which `verify_checksums` and `max_fragments_octets` matter here.

    Examples
    --------
    >>> import numpy
    >>> from types import SimpleNamespace
    >>> from observer.kernels import Interpreted
    >>> arp = bytes(12) + bytes.fromhex("0806") + bytes(28)
    >>> chunk = SimpleNamespace(octets=numpy.frombuffer(bytearray(arp), numpy.uint8), size=42, count=1,
    ...                         records=numpy.array([0, 42, 42, 0, 1, 1]))
    >>> decoder = Decoder(Interpreted(), Options())
    >>> decoder.decode(chunk).count
    0
    >>> decoder.skipped
    [Skipped(reason='arp', count=1, first_frame=1, last_frame=1, detail='')]
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._rows: Int64Array = numpy.zeros(0, numpy.int64)
        self._state = numpy.zeros(r.STATE_SIZE, numpy.int64)
        self._state[r.TRIES] = SCAPY_TRIES_ALL
        self._skips = numpy.zeros(skips.SKIP_SLOTS * skips.SKIP_STRIDE, numpy.int64)
        self._fragments = Fragments(options.max_fragments_octets)
        self._options = options
        self._call: Bound | None = None
        self._bound: tuple[Any, ...] = ()
        self.use(engine)

    def use(self, engine: Engine) -> None:
        """Run the kernels on another engine from the next chunk on."""
        self._engine = engine
        self._call = None
        self._verify = 0
        if self._options.verify_checksums:
            self._verify = kernels.VERIFY_HERE if engine.compiled else kernels.VERIFY_LATER

    # --- chunks ----------------------------------------------------------------------------------------

    def decode(self, chunk: Frames) -> Batch:
        """Decode a chunk; its rows stay valid until the next call."""
        state = self._state
        state[r.ROWS] = 0
        if self._rows.size < (chunk.count + ROWS_SPARE) * s.STRIDE:
            self._resize(chunk.count + ROWS_SPARE)
        self._run(_Source(chunk.octets, chunk.records), state, chunk.count)
        return Batch(self._rows, int(state[r.ROWS]))

    def _resize(self, capacity: int) -> None:
        rows = numpy.zeros(capacity * s.STRIDE, numpy.int64)
        rows[: self._rows.size] = self._rows
        self._rows = rows

    def _run(self, source: _Source, state: Int64Array, count: int) -> None:
        """Run the kernel over all records, helping where it stops."""
        record, checked = 0, int(state[r.ROWS])
        while True:
            state[r.CAPACITY] = self._rows.size // s.STRIDE
            record = self._bind(source, state)(record, count, self._verify)
            if self._verify == kernels.VERIFY_LATER:
                self._verify_rows(source.octets, checked, int(state[r.ROWS]))
            stop = state[r.STOP]
            if stop == r.STOP_DONE:
                return
            if stop == r.STOP_FULL:
                self._resize(2 * (self._rows.size // s.STRIDE))
            else:
                if stop == r.STOP_FRAGMENT:
                    self._fragment(source, state, record)
                else:
                    self._ask_scapy(source, state, record)
                state[r.RESUME] = 1
            checked = int(state[r.ROWS])

    def _bind(self, source: _Source, state: Int64Array) -> Bound:
        wanted = (source.octets, source.records, self._rows, state)
        if state is not self._state:
            return self._engine.bind(kernels.decode, *wanted, self._skips)
        if self._call is None or any(a is not b for a, b in zip(wanted, self._bound, strict=True)):
            self._call = self._engine.bind(kernels.decode, *wanted, self._skips)
            self._bound = wanted
        return self._call

    def _verify_rows(self, octets: OctetArray, first: int, end: int) -> None:
        """Verify checksums of rows the way that suits the interpreter.

        A number's remainder modulo 65535 is the ones' complement sum of its 16-bit digits (RFC 1071).
        """
        frames, rows = memoryview(octets.data), memoryview(self._rows.data)
        for cell in range(first * s.STRIDE, end * s.STRIDE, s.STRIDE):
            length = rows[cell + kernels.VERIFY_LENGTH]
            if length:
                place = rows[cell + kernels.VERIFY_OFFSET]
                total = int.from_bytes(frames[place : place + length], "big") << (8 if length & 1 else 0)
                total += length + 6 + sum(rows[cell + s.SRC : cell + s.SRC + 8])
                rows[cell + s.OPTIONS] |= s.CHECKSUM_KNOWN | (s.BAD_CHECKSUM if total % 65535 else 0)

    # --- fragments -------------------------------------------------------------------------------------

    def _fragment(self, source: _Source, state: Int64Array, record: int) -> None:
        """Keep the fragment that the kernel stopped at; decode its packet if that is whole now."""
        time_ns, frame = source.time_and_frame(record)
        offset, end, real_end = (int(state[place]) for place in (r.OFFSET, r.END, r.REAL_END))
        start, number = int(state[r.FRAGMENT_OFFSET]), int(state[r.PROTOCOL])
        if real_end <= offset or start + real_end - offset > 65535:
            self._set_reason(state, why.BAD_IP)
            return
        cell = int(state[r.CELL])
        version = int(self._rows[cell + s.VERSION])
        # RFC 8200 4.5: addresses and identification; RFC 791 2.3: the protocol too
        key = (version, int(state[r.FRAGMENT_ID]), number if version == 4 else -1)
        key += tuple(self._rows[cell + s.SRC : cell + s.SRC + 8].tolist())
        piece = source.octets[offset : max(end, offset)].tobytes()
        fragment = Fragment(start, real_end - offset, bool(state[r.FRAGMENT_MORE]), piece, number, time_ns, frame)
        if self._is_uninteresting(key, fragment):
            self._set_reason(state, why.FRAGMENT_OTHER, number)
            return
        alone = self._is_alone(state)
        packet = self._fragments.add(key, fragment, counted=alone)
        if packet is not None:
            self._decode_packet(packet, source, state, record)
        elif alone:
            self._set_reason(state, why.FRAGMENT)
        else:
            self._set_reason(state, why.FRAGMENT_OTHER, number)

    @staticmethod
    def _is_alone(state: Int64Array) -> bool:
        """Whether nothing else in the frame (A-MSDU) counts it or may still do so."""
        return not (state[r.COUNTED] or state[r.REASON] or state[r.PENDING] or state[r.ROWS] > state[r.FIRST_ROW])

    def _is_uninteresting(self, key: tuple[int, ...], fragment: Fragment) -> bool:
        """Whether the packet is UDP of no tunnel, by the ports in its first fragment."""
        packet = self._fragments.packets.get(key)
        if packet is not None and packet.uninteresting and fragment.offset:
            return True
        octets = fragment.octets
        if fragment.protocol != 17 or fragment.offset or len(octets) < 4:
            return False
        if tunnel(octets[0] << 8 | octets[1]) or tunnel(octets[2] << 8 | octets[3]):
            return False
        self._fragments.find(key, fragment.time_ns)
        self._fragments.forget(key)
        return True

    def _decode_packet(self, packet: Packet, source: _Source, state: Int64Array, record: int) -> None:
        inner = self._inner_state(state)
        payload = packet.payload()
        inner[r.END] = len(payload)
        inner[r.REAL_END] = packet.total
        inner[r.MARKS] |= s.REASSEMBLED
        enter = protocol(inner, packet.protocol)
        self._decode_inner(payload, int(enter), source, state, record, inner)

    # --- inner octets ----------------------------------------------------------------------------------

    def _inner_state(self, state: Int64Array) -> Int64Array:
        """Registers for octets inside a frame: as the frame's, from offset 0 on."""
        inner = state.copy()
        inner[r.NESTED] = 1
        inner[r.COUNTED] = not self._is_alone(state)
        inner[r.OFFSET] = inner[r.RESUME] = inner[r.REASON] = inner[r.PENDING] = inner[r.QUOTED] = 0
        return inner

    def _decode_inner(
        self, octets: bytes, enter: int, source: _Source, state: Int64Array, record: int, inner: Int64Array
    ) -> None:
        """Decode octets that stand for the rest of a frame, from layer `enter` on; rows follow the frame's."""
        if enter < 0:
            self._set_reason(state, -enter, int(inner[r.DETAIL]) if -enter in why.DETAILED else 0)
            return
        inner[r.ENTER] = enter
        # one octet at least: an empty array has no address
        self._run(source.inside(octets or b"\0", record), inner, 1)
        state[r.ROWS] = inner[r.ROWS]
        state[r.CELL] = inner[r.ROWS] * s.STRIDE
        state[r.TRIES] = inner[r.TRIES]
        self._set_reason(state, int(inner[r.REASON]), int(inner[r.REASON_DETAIL]))

    def _set_reason(self, state: Int64Array, reason: int, detail: int = 0) -> None:
        """Note why this part of the frame gave no segment, if it is the first part to fail."""
        if state[r.REASON] == 0:
            state[r.REASON] = reason
            state[r.REASON_DETAIL] = detail

    def _ask_scapy(self, source: _Source, state: Int64Array, record: int) -> None:
        """Let scapy dissect what the kernel stopped at."""
        hint, number = int(state[r.HINT]), int(state[r.DETAIL])
        offset, end, real_end = (int(state[place]) for place in (r.OFFSET, r.END, r.REAL_END))
        version = int(self._rows[int(state[r.CELL]) + s.VERSION])
        found = dissect(hint, number, source.octets[offset : max(end, offset)].tobytes(), version)
        if found is None or not found.octets:
            state[r.TRIES] -= 1
            self._set_reason(state, hint, number)
            return
        inner = self._inner_state(state)
        inner[r.END] = len(found.octets)
        inner[r.REAL_END] = len(found.octets) + max(real_end - end, 0)
        inner[r.ENCAP] |= s.ENCAP_OTHER
        before = int(state[r.ROWS])
        self._decode_inner(found.octets, r.IP if found.is_ip else r.TO_SEGMENT, source, state, record, inner)
        if int(state[r.ROWS]) == before:
            state[r.TRIES] -= 1

    # --- what was decoded and what was not --------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Frames decoded: those with segments, those with quotations only, and the skipped ones."""
        return int(self._state[r.FRAMES])

    @property
    def segment_frames(self) -> int:
        """Frames with at least one segment."""
        return int(self._state[r.SEGMENT_FRAMES])

    @property
    def quoted_frames(self) -> int:
        """Frames with no segment, but at least one TCP header quoted in an ICMP error."""
        return int(self._state[r.QUOTED_FRAMES])

    @property
    def skipped(self) -> list[Skipped]:
        """Frames that gave neither, by reason and detail, the most frequent first."""
        found = [*self._counted_by_kernel()]
        waiting = self._fragments.incomplete()
        for reason, tally in ((why.FRAGMENT, self._fragments.complete), (why.FRAGMENT_INCOMPLETE, waiting)):
            if tally.count:
                found.append(Skipped(why.REASONS[reason].name, tally.count, tally.first, tally.last, ""))
        return sorted(found, key=lambda entry: (-entry.count, entry.first_frame))

    def _counted_by_kernel(self) -> Iterable[Skipped]:
        for row in self._skips.reshape(-1, skips.SKIP_STRIDE).tolist():
            key, count, first, last = row
            if key:
                reason = why.REASONS[key >> 32]
                number = key & 0xFFFFFFFF
                detail = reason.detail.format(number) if number != skips.DETAIL_ANY else "others"
                yield Skipped(reason.name, count, first, last, detail)

    def finish(self) -> None:
        """The capture is over: fragments that wait are counted as incomplete, and working memory is freed.

        What was counted stays: an observation keeps its decoder for that.
        """
        self._fragments.finish()
        self._call, self._bound = None, ()
        self._rows = numpy.zeros(0, numpy.int64)


class _Source:
    """The octets that a kernel runs over, and the records that say where."""

    __slots__ = ("octets", "records")

    def __init__(self, octets: OctetArray, records: Int64Array) -> None:
        self.octets = octets
        self.records = records

    def time_and_frame(self, record: int) -> tuple[int, int]:
        base = record * s.RECORD_STRIDE
        return int(self.records[base + s.RECORD_TIME]), int(self.records[base + s.RECORD_FRAME])

    def inside(self, octets: bytes, record: int) -> _Source:
        """A source of the given octets, in the name of one record."""
        base = record * s.RECORD_STRIDE
        records = self.records[base : base + s.RECORD_STRIDE].copy()
        records[s.RECORD_OFFSET] = 0
        records[s.RECORD_CAPTURED] = len(octets)
        records[s.RECORD_LINK] = RAW
        return _Source(numpy.frombuffer(bytearray(octets), numpy.uint8), records)
