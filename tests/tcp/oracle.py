"""Runs the analysis kernels on segments given as plain values, and asks tshark about the same segments.

Conversations are found here by a dictionary, so that these tests need nothing of the tracker.
"""

from __future__ import annotations

import csv
import ctypes
import gzip
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from observer import segments as seg
from observer import translate
from observer.kernels import Int64s, Interpreted, address_of, kinds_of
from observer.tcp import analysis, layout
from observer.tcp.sequence import MASK, add, gt

SHARED = Path(os.environ.get("OBSERVER_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
PACKETS = SHARED / "corpus" / "tshark_packets.csv.gz"
MARK_NAMES = {bit: name for bit, name in layout.MARKS.items() if bit != layout.MARK_DUPLICATE_FRAME}
DUPLICATE_NS = 500_000


@dataclass(frozen=True)
class Segment:
    """One segment as a test writes it.  scale None: no window scale option; ts None: no timestamps option
    (echo is its second number).
    """

    time_ns: int
    src: tuple[str, int]
    dst: tuple[str, int]
    seq: int
    ack: int
    flags: int
    window: int = 1000
    length: int = 0
    scale: int | None = None
    ts: int | None = None
    echo: int = 0
    ip_id: int = 0


@dataclass
class Said:
    """What is said of a segment: by the kernels or by tshark."""

    stream: int
    marks: int


def step(flows: Int64s, rows: Int64s, flow: int, x: int, y: int, s: int, duplicate_ns: int) -> int:
    """One segment, by the shortcut where it is plain, as the tracker does it."""
    if analysis.is_plain(flows, x, y, rows, s):
        analysis.plain(flows, x, rows, s)
        return 0
    return analysis.analyse(flows, flow, x, y, rows, s, duplicate_ns)


def careful(flows: Any, rows: Any, flow: int, x: int, y: int, s: int, duplicate_ns: int) -> int:
    """As `step`, and checks that the shortcut does what the long way would have done."""
    if not analysis.is_plain(flows, x, y, rows, s):
        return analysis.analyse(flows, flow, x, y, rows, s, duplicate_ns)
    before = flows.tolist()
    marks = analysis.analyse(flows, flow, x, y, rows, s, duplicate_ns)
    after = flows.tolist()
    for i, value in enumerate(before):
        flows[i] = value
    analysis.plain(flows, x, rows, s)
    unused = {flow + block + layout.A_CONTIGUOUS for block in (layout.CLIENT, layout.SERVER)}  # holds with GAP only
    moved = [i for i, (a, b) in enumerate(zip(after, flows.tolist(), strict=True)) if a != b and i not in unused]
    assert marks == 0 and not moved, (marks, moved)
    return 0


def opens(flows: Int64s, x: int, flags: int, seq: int) -> int:
    return analysis.opens_stream(flows, x, flags, seq)


def bits(rows: Int64s, s: int, first: int) -> int:
    return analysis.completeness_of(rows, s, first)


class Machine:
    """An engine for `step`, `opens` and `bits`, which are no entries: machine code with bounds checks."""

    def __init__(self) -> None:
        self.library: Any = None
        self.calls: dict[str, Any] = {}

    def bind(self, function: Callable[..., int], *arrays: Any) -> Callable[..., int]:
        call = self._calls()[function.__name__]
        fixed = [part for array in arrays for part in (address_of(array), len(array))]
        errors = ctypes.c_int64.from_address(self.library.get_global_value_address("out_of_range"))

        def checked(*ints: int) -> int:
            result = int(call(*fixed, *ints))
            if errors.value:
                raise IndexError(f"{errors.value} cells out of range")
            return result

        return checked

    def _calls(self) -> dict[str, Any]:
        if self.library is None:
            functions: tuple[Callable[..., int], ...] = (step, opens, bits)
            translator = translate.Translator(kinds_of, checked=True)
            for function in functions:
                translator.export(function, f"test.{function.__name__}")
            code = translate.object_code(translator.finish())
            machine = llvm.Target.from_default_triple().create_target_machine()
            self.library = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            self.library.add_object_file(llvm.ObjectFileRef.from_data(code))
            self.library.finalize_object()
            for function in functions:
                words = sum(1 if kind == "int" else 2 for kind in kinds_of(function))
                prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * words)
                address = self.library.get_function_address(f"test.{function.__name__}")
                self.calls[function.__name__] = prototype(address)
        return self.calls


class Conversations:
    """Flows of segments that come one by one; each flow has an array of its own."""

    def __init__(self, engine: Interpreted | Machine, *, duplicate_ns: int = -1, check: bool = False) -> None:
        self.engine, self.duplicate_ns = engine, duplicate_ns
        self.step = careful if check else step
        self.row = np.zeros(seg.STRIDE, np.int64)
        self.flows: list[Any] = []
        self.sizes: list[int] = []
        self.latest: dict[frozenset[tuple[str, int]] | tuple[str, int], tuple[int, tuple[str, int]]] = {}

    def add(self, segment: Segment, *, length_known: bool = True) -> Said:
        """The stream and the marks of the next segment."""
        self._fill(segment)
        key = frozenset((segment.src, segment.dst))
        stream, client = self.latest.get(key, (-1, segment.src))
        x, y = (layout.CLIENT, layout.SERVER) if segment.src == client else (layout.SERVER, layout.CLIENT)
        opened = 0
        if stream >= 0:
            opened = self.engine.bind(opens, self.flows[stream])(x, segment.flags, segment.seq)
        first = 2 if opened else 1 if stream < 0 else 0
        if first:
            flow = np.zeros(layout.FLOW_STRIDE, np.int64)
            flow[layout.PREVIOUS] = stream + 1
            stream = len(self.flows)
            self.flows.append(flow)
            self.sizes.append(0)
            self.latest[key] = (stream, segment.src)
            x, y = layout.CLIENT, layout.SERVER
        flow = self.flows[stream]
        self.sizes[stream] += 1
        flow[layout.COMPLETENESS] |= self.engine.bind(bits, self.row)(0, first)
        if not length_known:
            return Said(stream, 0)
        return Said(stream, self.engine.bind(self.step, flow, self.row)(0, x, y, 0, self.duplicate_ns))

    def completeness(self, stream: int) -> int:
        return analysis.completeness(int(self.flows[stream][layout.COMPLETENESS]), self.sizes[stream])

    def _fill(self, segment: Segment) -> None:
        row = self.row
        row[seg.TIME], row[seg.SEQ], row[seg.ACK] = segment.time_ns, segment.seq, segment.ack
        row[seg.FLAGS], row[seg.WINDOW], row[seg.LENGTH] = segment.flags, segment.window, segment.length
        row[seg.IP_ID] = segment.ip_id
        row[seg.OPTIONS] = 0
        if segment.scale is not None:
            row[seg.OPTIONS] |= seg.HAS_SCALE
            row[seg.SCALE] = min(segment.scale, 14)
        if segment.ts is not None:
            row[seg.OPTIONS] |= seg.HAS_TIMESTAMPS
            row[seg.TS_VALUE], row[seg.TS_ECHO] = segment.ts, segment.echo


# --- the table of what Wireshark says about the corpus --------------------------------------------------


@dataclass
class Row:
    """One TCP header of the corpus with Wireshark's word on it."""

    frame: int
    segment: Segment
    said: Said
    completeness: int
    quoted: bool
    length_known: bool


def captures(path: Path = PACKETS) -> Iterator[tuple[str, list[Row]]]:
    """The table's rows, capture by capture."""
    name, rows = "", []
    with gzip.open(path, "rt", newline="") as file:
        for record in csv.DictReader(file):
            if record["pcap"] != name:
                if rows:
                    yield name, rows
                name, rows = record["pcap"], []
            if record["stream"]:
                rows.append(_row(record))
    if rows:
        yield name, rows


def _row(record: dict[str, str]) -> Row:
    def number(column: str) -> int:
        return int(float(record[column] or 0))

    segment = Segment(
        time_ns=number("time_ns") if "." in record["time_ns"] else int(record["time_ns"] or 0),
        src=(record["src"], number("sport")),
        dst=(record["dst"], number("dport")),
        seq=number("seq"),
        ack=number("ack"),
        flags=number("flags"),
        window=number("win"),
        length=number("len"),
    )
    marks = sum(bit for bit, name in MARK_NAMES.items() if record[name] == "1")
    said = Said(number("stream"), marks)
    quoted = record["quoted"] == "1"
    return Row(number("frame"), segment, said, number("completeness"), quoted, record["len"] != "")


# --- asking tshark ----------------------------------------------------------------------------------------

TSHARK = shutil.which("tshark")
PREFERENCES = (
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.check_checksum:FALSE",
    "ip.check_checksum:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
)


def tshark_version() -> str:
    """The version of tshark, or nothing where it is not installed."""
    if not TSHARK:
        return ""
    done = subprocess.run([TSHARK, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.split("\n", 1)[0]


def packet(segment: Segment) -> bytes:
    """The segment as an IPv4 packet with zeros for payload; addresses must be IPv4."""
    options = b"" if segment.scale is None else bytes((3, 3, segment.scale, 1))
    if segment.ts is not None:
        options += struct.pack(">BBBBII", 1, 1, 8, 10, segment.ts, segment.echo)
    offset = (20 + len(options)) // 4 << 12
    header = struct.pack(
        ">HHIIHHHH",
        *(segment.src[1], segment.dst[1], segment.seq, segment.ack),
        *(offset | segment.flags, segment.window, 0, 0),
    )
    body = header + options + bytes(segment.length)
    source, target = (bytes(map(int, address.split("."))) for address, _ in (segment.src, segment.dst))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), segment.ip_id, 0, 64, 6, 0) + source + target + body


def pcap(packets: Iterable[tuple[int, bytes]]) -> bytes:
    """A nanosecond pcap file of raw IP packets (LINKTYPE_RAW 101)."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 101)]
    for time_ns, octets in packets:
        size = len(octets)
        out += [struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, size, size), octets]
    return b"".join(out)


def ask_tshark(sent: list[Segment], *, two_passes: bool = False) -> list[Said]:
    """What tshark says about these segments, in order."""
    assert TSHARK
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pcap"
        path.write_bytes(pcap((segment.time_ns, packet(segment)) for segment in sent))
        command = [TSHARK, "-n", "-r", str(path), "-d", "tcp.port==0-65535,data", "-T", "fields", "-e", "tcp.stream"]
        command += ["-2"] if two_passes else []
        for preference in PREFERENCES:
            command += ["-o", preference]
        for name in MARK_NAMES.values():
            command += ["-e", f"tcp.analysis.{name}"]
        environment = dict(os.environ, WIRESHARK_CONFIG_DIR=folder, LC_ALL="C")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    out = []
    for line in done.stdout.splitlines():
        stream, *cells = line.split("\t")
        out.append(Said(int(stream), sum(bit for bit, cell in zip(MARK_NAMES, cells, strict=False) if cell)))
    return out


# --- segments made up -------------------------------------------------------------------------------------

GAPS_NS = (0, 1000, 100_000, 1_000_000, 2_000_000, 5_000_000, 30_000_000)


def storm(random: Random, conversations: int) -> list[Segment]:
    """Conversations full of everything that analysis knows: losses, repeats, probes, full windows, SYNs in mid-life."""
    out: list[Segment] = []
    time_ns = 10**18
    for i in range(conversations):
        for segment in _conversation(random, (f"10.0.{i >> 8 & 255}.{i & 255}", 1024 + i), ("192.168.0.1", 80)):
            time_ns += random.choice(GAPS_NS) * random.randrange(1, 3)
            out.append(replace(segment, time_ns=time_ns))
    return out


def _conversation(random: Random, client: tuple[str, int], server: tuple[str, int]) -> list[Segment]:
    ends = (client, server)
    nxt = [random.randrange(1, MASK - 100_000) for _ in ends]
    if random.random() < 0.3:
        nxt[0] = MASK - random.randrange(5000)
    windows = [random.choice((0, 500, 1000, 4000)) for _ in ends]
    out: list[Segment] = []
    for who in (0, 1):
        if random.random() < (0.8, 0.9)[who] and (who == 0 or out):
            flags, ack = ((2, 0), (18, nxt[0]))[who]
            scale = random.choice((None, 0, 1, 2))
            syn = Segment(0, ends[who], ends[1 - who], nxt[who], ack, flags, scale=scale)
            out += [syn] * random.choice((1, 1, 1, 2))
            nxt[who] = add(nxt[who], 1)
    for _ in range(random.randrange(3, 25)):
        who = random.randrange(2)
        if out and random.random() < 0.13:
            out.append(random.choice(out[-6:]))
            continue
        segment = _random_segment(random, ends[who], ends[1 - who], nxt[who], nxt[1 - who], windows[who])
        out.append(segment)
        windows[who] = segment.window
        end = add(segment.seq, segment.length + (1 if segment.flags & 3 else 0))
        if not segment.flags & 4 and gt(end, nxt[who]):
            nxt[who] = end
    return out


def _random_segment(
    random: Random, src: tuple[str, int], dst: tuple[str, int], seq: int, ack: int, window: int
) -> Segment:
    flags, length = 16, random.choice((0, 0, 1, 10, 100, 500))
    kind = random.random()
    if kind < 0.15:
        seq = add(seq, -random.choice((1, 1, 10, 100, 500)))
    elif kind < 0.2:
        seq = add(seq, random.choice((1, 100)))
    elif kind < 0.25:
        flags = random.choice((17, 17, 17, 4, 20, 2, 18, 0, 8, 3))
    kind = random.random()
    if kind < 0.15:
        ack = add(ack, random.choice((-1, -10, -100, 1, 10, 100)))
    if random.random() < 0.15:
        window = random.choice((0, 1, 10, 100, 500, 1000, 4000))
    scale = random.choice((None, 0, 1)) if flags & 2 else None
    return Segment(0, src, dst, seq, ack if flags & 16 else 0, flags, window, length, scale)


def shifted(segments: list[Segment], client: int, server: int, first: tuple[str, int]) -> list[Segment]:
    """The same life with other initial sequence numbers; `first` is the endpoint whose numbers move by `client`."""
    out = []
    for segment in segments:
        mine, theirs = (client, server) if segment.src == first else (server, client)
        ack = add(segment.ack, theirs) if segment.flags & 16 else segment.ack
        out.append(replace(segment, seq=add(segment.seq, mine), ack=ack))
    return out


def names(marks: int) -> str:
    return "+".join(name for bit, name in layout.MARKS.items() if marks & bit) or "-"
