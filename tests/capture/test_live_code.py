"""The functions that handle every live frame: machine code and Python do the same, and never write beyond."""

from __future__ import annotations

import ctypes
import struct

import numpy
import pytest
from build import Frame, pcap
from hypothesis import given
from hypothesis import strategies as some
from live_net import rows
from reading import expected, read

from observer.capture import live_code as code
from observer.capture.chunk import Chunk
from observer.segments import RECORD_STRIDE

GUARD = 0xA5

times = some.integers(0, (1 << 32) * 1_000_000_000 - 1)
frames = some.lists(some.builds(Frame, times, some.binary(max_size=90), some.integers(0, 200)), max_size=12)
speeds = pytest.mark.parametrize("compiled", [True, False])


class Given:
    """Calls the callback as libpcap would, until it says stop."""

    def __init__(self, *, compiled: bool, size: int, records: int, room: int, nano: bool = True) -> None:
        self.stops = 0
        self.octets = numpy.full(size + 64, GUARD, numpy.uint8)
        self.records = numpy.full((records + 2) * RECORD_STRIDE, GUARD, numpy.int64)
        self.control = control = numpy.zeros(code.CONTROL_CELLS, numpy.int64)
        self._stop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.stop)
        self._take = code.take(compiled=compiled)
        control[code.OCTETS], control[code.SIZE] = self.octets.ctypes.data, size
        control[code.RECORDS], control[code.ROWS] = self.records.ctypes.data, records
        control[code.ROOM], control[code.LINK], control[code.NEXT_FRAME] = room, 1, 1
        control[code.FRACTION_NS] = 1 if nano else 1000
        control[code.BREAK] = ctypes.cast(self._stop, ctypes.c_void_p).value
        control[code.HANDLE] = 4711

    def stop(self, handle: int) -> None:
        assert handle == 4711
        self.stops += 1

    def give(self, frame: Frame) -> None:
        seconds, rest = divmod(frame.time_ns, 1_000_000_000)
        fraction = rest // int(self.control[code.FRACTION_NS])
        wire = len(frame.octets) if frame.wire is None else frame.wire
        header = ctypes.create_string_buffer(struct.pack("=qIIII", seconds, fraction, GUARD, len(frame.octets), wire))
        self._take(ctypes.c_void_p(self.control.ctypes.data), header, ctypes.create_string_buffer(frame.octets))

    def chunk(self) -> Chunk:
        """What was taken; asserts that nothing was written beyond."""
        size, rows_max, count = (int(self.control[cell]) for cell in (code.SIZE, code.ROWS, code.COUNT))
        assert (self.octets[size:] == GUARD).all()
        assert (self.records[rows_max * RECORD_STRIDE :] == GUARD).all()
        return Chunk(self.octets, size, self.records, count)


@speeds
@pytest.mark.parametrize("nano", [True, False])
@given(some=frames)
def test_taken_as_a_file_of_the_same_frames_gives_them(compiled: bool, nano: bool, some: list[Frame]) -> None:
    given = Given(compiled=compiled, size=4096, records=32, room=0, nano=nano)
    for frame in some:
        given.give(frame)
    assert rows(given.chunk()) == read(pcap(some, nano=nano)).frames
    assert given.stops == given.control[code.LOST] == 0


@speeds
@given(some=frames, size=some.integers(0, 400), records=some.integers(1, 8), room=some.integers(0, 200))
def test_never_beyond_its_memory_and_every_frame_counted(
    compiled: bool, some: list[Frame], size: int, records: int, room: int
) -> None:
    """Even if libpcap goes on after it was told to stop, and brings longer frames than it may."""
    given = Given(compiled=compiled, size=size, records=records, room=room)
    for frame in some:
        given.give(frame)
    fitting: list[Frame] = []
    filled = 0
    for frame in some:
        if filled + len(frame.octets) <= size and len(fitting) < records:
            fitting.append(frame)
            filled = -(-(filled + len(frame.octets)) // code.ALIGNMENT) * code.ALIGNMENT
    assert [one.octets for one in rows(given.chunk())] == [frame.octets for frame in fitting]
    assert given.control[code.LOST] == len(some) - len(fitting)


@speeds
def test_tells_to_stop_before_a_frame_might_not_fit(compiled: bool) -> None:
    given = Given(compiled=compiled, size=300, records=100, room=100)
    taken = 0
    while not given.stops:
        given.give(Frame(0, bytes(60)))
        taken += 1
    # 64 octets each, frames begin at multiples of 8: after the fourth 44 are left, after the third 108
    assert (taken, int(given.control[code.LOST])) == (4, 0)
    full = Given(compiled=compiled, size=4096, records=2, room=0)
    full.give(Frame(0, b"a"))
    assert not full.stops
    full.give(Frame(0, b"b"))
    assert full.stops == 1


@speeds
@given(some=frames)
def test_blocks_are_read_as_the_frames_that_they_were(compiled: bool, some: list[Frame]) -> None:
    given = Given(compiled=compiled, size=4096, records=32, room=0)
    for frame in some:
        given.give(frame)
    chunk = given.chunk()
    size = code.blocks_octets(chunk.records, chunk.count)
    out = numpy.full(size + 64, GUARD, numpy.uint8)
    interfaces = numpy.zeros(max(chunk.count, 1), numpy.int64)
    assert code.blocks(compiled=compiled)(chunk.octets, chunk.records, interfaces, chunk.count, out) == size
    assert (out[size:] == GUARD).all()
    section = struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    nanoseconds = struct.pack("=HHBxxxHH", 9, 1, 9, 0, 0)
    interface = struct.pack("=IIHHI", 1, 32, 1, 0, 0) + nanoseconds + struct.pack("=I", 32)
    result = read(section + interface + out[:size].tobytes())
    assert result.damages == []
    assert result.frames == [one._replace(wire=max(one.wire, len(one.octets))) for one in expected(list(some))]


def test_machine_code_and_python_write_the_same_octets() -> None:
    outs = []
    for compiled in (True, False):
        given = Given(compiled=True, size=4096, records=32, room=0)
        for i in range(20):
            given.give(Frame(i * 10**17 + i, bytes(range(i, 2 * i)), 100))
        chunk = given.chunk()
        out = numpy.zeros(code.blocks_octets(chunk.records, chunk.count), numpy.uint8)
        interfaces = numpy.arange(chunk.count) % 3
        code.blocks(compiled=compiled)(chunk.octets, chunk.records, interfaces, chunk.count, out)
        outs.append(out.tobytes())
    assert outs[0] == outs[1]
