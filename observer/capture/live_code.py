"""The two functions that handle every frame of a live capture: machine code, with the same in Python beside it.

*take* is what libpcap calls for each frame: it copies the frame behind the one before and fills a row of a Chunk's
records.  *blocks* turns rows into pcapng packet blocks.  Both mostly copy octets, which kernels (observer.kernels)
cannot do but one by one; so they stand here in LLVM's own language, around its memcpy.  Without llvmlite, the
Python functions do the same some hundred times slower.

Never here: libpcap, files.  Sources: pcap/pcap.h (struct pcap_pkthdr); draft-ietf-opsawg-pcapng-02 4.3 (Enhanced
Packet Block); LLVM language reference.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from observer import segments as s

Int64Array = NDArray[numpy.int64]
OctetArray = NDArray[numpy.uint8]
Callback = Any
"""A pointer to a function that libpcap can call: pcap_handler."""

# --- cells of the array that `take` gets as its `user` argument ------------------------------------------
OCTETS: Final = 0  # address of the octets to be filled
SIZE: Final = 1  # how many there are
FILLED: Final = 2  # how many are filled; the next frame begins here
RECORDS: Final = 3  # address of the rows to be filled
ROWS: Final = 4  # how many there are
COUNT: Final = 5  # how many are filled
ROOM: Final = 6  # octets that the next frame may need: with less left, libpcap is told to stop
LINK: Final = 7  # LINKTYPE_ number of the frames
FRACTION_NS: Final = 8  # nanoseconds that a header's second number counts in: 1 or 1000
NEXT_FRAME: Final = 9  # number of the next frame
HANDLE: Final = 10  # what to give to BREAK
BREAK: Final = 11  # address of pcap_breakloop
LOST: Final = 12  # frames that came although there was no room: never, as long as libpcap keeps to its snaplen
CONTROL_CELLS: Final = 13

ALIGNMENT: Final = 8  # frames begin at multiples: copying and decoding like it
BLOCK_OCTETS: Final = 32  # of an Enhanced Packet Block beside the frame: 28 before, 4 behind (pcapng-02 4.3)

_TAKE: Final = f"""
define void @take(ptr %control, ptr %header, ptr %frame) {{
entry:
  %p.size = getelementptr i64, ptr %control, i64 {SIZE}
  %p.filled = getelementptr i64, ptr %control, i64 {FILLED}
  %p.rows = getelementptr i64, ptr %control, i64 {ROWS}
  %p.count = getelementptr i64, ptr %control, i64 {COUNT}
  %size = load i64, ptr %p.size
  %filled = load i64, ptr %p.filled
  %rows = load i64, ptr %p.rows
  %count = load i64, ptr %p.count
  ; struct pcap_pkthdr: seconds (64 bits), micro- or nanoseconds (their low 32 bits matter), captured, on the wire
  %p.fraction = getelementptr i8, ptr %header, i64 8
  %p.captured = getelementptr i8, ptr %header, i64 16
  %p.wire = getelementptr i8, ptr %header, i64 20
  %captured.32 = load i32, ptr %p.captured
  %captured = zext i32 %captured.32 to i64
  %end = add i64 %filled, %captured
  %fits = icmp sle i64 %end, %size
  %row.left = icmp slt i64 %count, %rows
  %room = and i1 %fits, %row.left
  br i1 %room, label %keep, label %lose
keep:
  %p.octets = getelementptr i64, ptr %control, i64 {OCTETS}
  %octets = load ptr, ptr %p.octets
  %target = getelementptr i8, ptr %octets, i64 %filled
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %frame, i64 %captured, i1 false)
  %seconds = load i64, ptr %header
  %fraction.32 = load i32, ptr %p.fraction
  %fraction = zext i32 %fraction.32 to i64
  %p.unit = getelementptr i64, ptr %control, i64 {FRACTION_NS}
  %unit = load i64, ptr %p.unit
  %whole.ns = mul i64 %seconds, 1000000000
  %part.ns = mul i64 %fraction, %unit
  %time = add i64 %whole.ns, %part.ns
  %wire.32 = load i32, ptr %p.wire
  %wire.told = zext i32 %wire.32 to i64
  %longer = icmp sgt i64 %wire.told, %captured
  %wire = select i1 %longer, i64 %wire.told, i64 %captured
  %p.link = getelementptr i64, ptr %control, i64 {LINK}
  %link = load i64, ptr %p.link
  %p.number = getelementptr i64, ptr %control, i64 {NEXT_FRAME}
  %number = load i64, ptr %p.number
  %p.records = getelementptr i64, ptr %control, i64 {RECORDS}
  %records = load ptr, ptr %p.records
  %cell = mul i64 %count, {s.RECORD_STRIDE}
  %row = getelementptr i64, ptr %records, i64 %cell
  %r.offset = getelementptr i64, ptr %row, i64 {s.RECORD_OFFSET}
  store i64 %filled, ptr %r.offset
  %r.captured = getelementptr i64, ptr %row, i64 {s.RECORD_CAPTURED}
  store i64 %captured, ptr %r.captured
  %r.wire = getelementptr i64, ptr %row, i64 {s.RECORD_WIRE}
  store i64 %wire, ptr %r.wire
  %r.time = getelementptr i64, ptr %row, i64 {s.RECORD_TIME}
  store i64 %time, ptr %r.time
  %r.link = getelementptr i64, ptr %row, i64 {s.RECORD_LINK}
  store i64 %link, ptr %r.link
  %r.frame = getelementptr i64, ptr %row, i64 {s.RECORD_FRAME}
  store i64 %number, ptr %r.frame
  %number.next = add i64 %number, 1
  store i64 %number.next, ptr %p.number
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %p.count
  %end.up = add i64 %end, {ALIGNMENT - 1}
  %filled.next = and i64 %end.up, -{ALIGNMENT}
  store i64 %filled.next, ptr %p.filled
  %p.room = getelementptr i64, ptr %control, i64 {ROOM}
  %need = load i64, ptr %p.room
  %left = sub i64 %size, %filled.next
  %narrow = icmp slt i64 %left, %need
  %last = icmp eq i64 %count.next, %rows
  %full = or i1 %narrow, %last
  br i1 %full, label %stop, label %done
lose:
  %p.lost = getelementptr i64, ptr %control, i64 {LOST}
  %lost = load i64, ptr %p.lost
  %lost.next = add i64 %lost, 1
  store i64 %lost.next, ptr %p.lost
  br label %stop
stop:
  %p.handle = getelementptr i64, ptr %control, i64 {HANDLE}
  %handle = load ptr, ptr %p.handle
  %p.break = getelementptr i64, ptr %control, i64 {BREAK}
  %break = load ptr, ptr %p.break
  call void %break(ptr %handle)
  br label %done
done:
  ret void
}}
"""

_BLOCKS: Final = f"""
define i64 @blocks(ptr %octets, ptr %records, ptr %interfaces, i64 %count, ptr %out) {{
entry:
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %frame, label %done
frame:
  %i = phi i64 [ 0, %entry ], [ %i.next, %copied ]
  %at = phi i64 [ 0, %entry ], [ %at.next, %copied ]
  %cell = mul i64 %i, {s.RECORD_STRIDE}
  %row = getelementptr i64, ptr %records, i64 %cell
  %r.offset = getelementptr i64, ptr %row, i64 {s.RECORD_OFFSET}
  %offset = load i64, ptr %r.offset
  %r.captured = getelementptr i64, ptr %row, i64 {s.RECORD_CAPTURED}
  %captured = load i64, ptr %r.captured
  %r.wire = getelementptr i64, ptr %row, i64 {s.RECORD_WIRE}
  %wire = load i64, ptr %r.wire
  %r.time = getelementptr i64, ptr %row, i64 {s.RECORD_TIME}
  %time = load i64, ptr %r.time
  %p.interface = getelementptr i64, ptr %interfaces, i64 %i
  %interface = load i64, ptr %p.interface
  %up = add i64 %captured, 3
  %padded = and i64 %up, -4
  %total = add i64 %padded, {BLOCK_OCTETS}
  %total.32 = trunc i64 %total to i32
  %interface.32 = trunc i64 %interface to i32
  %high = lshr i64 %time, 32
  %high.32 = trunc i64 %high to i32
  %low.32 = trunc i64 %time to i32
  %captured.32 = trunc i64 %captured to i32
  %wire.32 = trunc i64 %wire to i32
  %b = getelementptr i8, ptr %out, i64 %at
  store i32 6, ptr %b
  %b.total = getelementptr i8, ptr %b, i64 4
  store i32 %total.32, ptr %b.total
  %b.interface = getelementptr i8, ptr %b, i64 8
  store i32 %interface.32, ptr %b.interface
  %b.high = getelementptr i8, ptr %b, i64 12
  store i32 %high.32, ptr %b.high
  %b.low = getelementptr i8, ptr %b, i64 16
  store i32 %low.32, ptr %b.low
  %b.captured = getelementptr i8, ptr %b, i64 20
  store i32 %captured.32, ptr %b.captured
  %b.wire = getelementptr i8, ptr %b, i64 24
  store i32 %wire.32, ptr %b.wire
  %empty = icmp eq i64 %captured, 0
  br i1 %empty, label %copied, label %copy
copy:
  ; the last four octets of the frame's place first: what the frame does not cover of them is its padding
  %tail = add i64 %padded, 24
  %b.tail = getelementptr i8, ptr %b, i64 %tail
  store i32 0, ptr %b.tail
  %b.frame = getelementptr i8, ptr %b, i64 28
  %source = getelementptr i8, ptr %octets, i64 %offset
  call void @llvm.memcpy.p0.p0.i64(ptr %b.frame, ptr %source, i64 %captured, i1 false)
  br label %copied
copied:
  %last = add i64 %padded, 28
  %b.again = getelementptr i8, ptr %b, i64 %last
  store i32 %total.32, ptr %b.again
  %at.next = add i64 %at, %total
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %count
  br i1 %more, label %frame, label %done
done:
  %end = phi i64 [ 0, %entry ], [ %at.next, %copied ]
  ret i64 %end
}}
"""

_MEMCPY: Final = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n"

HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
"""pcap_handler of pcap/pcap.h."""
BLOCKS = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p)


@cache
def machine_code() -> Any:
    """Both functions as machine code, made in some milliseconds; None where that cannot be."""
    if sys.maxsize < 1 << 32:
        return None  # the layout of struct pcap_pkthdr above is that of 64-bit systems
    try:
        import llvmlite.binding as llvm

        from observer.kernels import linked_by_llvm
        from observer.translate import object_code

        llvm.load_library_permanently("")  # memcpy is this process's own
        return linked_by_llvm(object_code(_MEMCPY + _TAKE + _BLOCKS))
    except (ImportError, OSError, RuntimeError):
        return None


def take(*, compiled: bool = True) -> Callback:
    """The function that libpcap calls for each frame; keep a reference to it as long as it may be called."""
    code = machine_code() if compiled else None
    return HANDLER(code.get_function_address("take")) if code else HANDLER(take_interpreted)


def take_interpreted(control_address: int, header_address: int, frame_address: int) -> None:
    """What the machine code does, in Python."""
    control = (ctypes.c_int64 * CONTROL_CELLS).from_address(control_address)
    seconds, fraction, _, captured, wire = struct.unpack("=qIIII", ctypes.string_at(header_address, 24))
    filled, count = control[FILLED], control[COUNT]
    if filled + captured > control[SIZE] or count >= control[ROWS]:
        control[LOST] += 1
        stop(control)
        return
    ctypes.memmove(control[OCTETS] + filled, frame_address, captured)
    row = (ctypes.c_int64 * s.RECORD_STRIDE).from_address(control[RECORDS] + count * s.RECORD_STRIDE * 8)
    row[s.RECORD_OFFSET] = filled
    row[s.RECORD_CAPTURED] = captured
    row[s.RECORD_WIRE] = max(wire, captured)
    row[s.RECORD_TIME] = seconds * 1_000_000_000 + fraction * control[FRACTION_NS]
    row[s.RECORD_LINK] = control[LINK]
    row[s.RECORD_FRAME] = control[NEXT_FRAME]
    control[NEXT_FRAME] += 1
    control[COUNT] = count + 1
    control[FILLED] = filled + captured + ALIGNMENT - 1 & -ALIGNMENT
    if control[SIZE] - control[FILLED] < control[ROOM] or control[COUNT] == control[ROWS]:
        stop(control)


def stop(control: Any) -> None:
    """Tell libpcap to call no further."""
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(control[BREAK])(control[HANDLE])


def blocks(*, compiled: bool = True) -> Callable[[OctetArray, Int64Array, Int64Array, int, OctetArray], int]:
    """The function that writes pcapng packet blocks.

    It takes octets and records as of a Chunk, the number of each frame's interface (int64), how many frames, and
    where to write (uint8, see `blocks_octets`); it returns how many octets it wrote.  Byte order is the machine's.
    """
    code = machine_code() if compiled else None
    if not code:
        return blocks_interpreted
    function = BLOCKS(code.get_function_address("blocks"))

    def call(octets: OctetArray, records: Int64Array, interfaces: Int64Array, count: int, out: OctetArray) -> int:
        return int(function(octets.ctypes.data, records.ctypes.data, interfaces.ctypes.data, count, out.ctypes.data))

    return call


def blocks_octets(records: Int64Array, count: int) -> int:
    """Octets that `blocks` writes."""
    captured = records[s.RECORD_CAPTURED : count * s.RECORD_STRIDE : s.RECORD_STRIDE]
    return int((captured + 3 & -4).sum()) + count * BLOCK_OCTETS


def blocks_interpreted(
    octets: OctetArray, records: Int64Array, interfaces: Int64Array, count: int, out: OctetArray
) -> int:
    """What the machine code does, in Python."""
    at = 0
    for row in range(count):
        offset, captured, wire, time_ns = (int(cell) for cell in records[row * s.RECORD_STRIDE :][:4])
        padded = captured + 3 & -4
        total = padded + BLOCK_OCTETS
        head = struct.pack("=7I", 6, total, int(interfaces[row]), time_ns >> 32, time_ns & 0xFFFFFFFF, captured, wire)
        frame = octets[offset : offset + captured].tobytes()
        block = head + frame + bytes(padded - captured) + struct.pack("=I", total)
        out[at : at + total] = numpy.frombuffer(block, numpy.uint8)
        at += total
    return at
