"""What other taps would have seen of the same traffic: one direction, no beginning, every frame twice, cut frames…

``CHANGES`` names them; each takes the records of a capture and gives those of the other tap.  Findings may vanish or
lose their grade there, but none may become false: ``python -m tests.findings.vantages FOLDER ...`` holds the findings
of each changed capture of laboratory runs against the truth about the unchanged one, and shows what is false.

Never judges by itself, and knows only classic pcap with Ethernet, as tests/lab writes it.
"""

from __future__ import annotations

import io
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import observer
from tests.findings import calibrate, truths
from tests.findings.truths import Held, Truth

MILLISECOND = 1_000_000
NANOSECOND_MAGIC, MICROSECOND_MAGIC = 0xA1B23C4D, 0xA1B2C3D4
LARGEST_OCTETS = 65_000
"""Of an IPv4 packet that offload has put together."""


class Record(NamedTuple):
    """One frame of a capture."""

    time_ns: int
    wire: int
    octets: bytes


Records = list[Record]
Change = Callable[[Records], Iterable[Record]]


def records_of(path: Path) -> Records:
    """The frames of a little-endian classic capture."""
    data = path.read_bytes()
    (magic,) = struct.unpack_from("<I", data)
    scale = {NANOSECOND_MAGIC: 1, MICROSECOND_MAGIC: 1000}[magic]
    found, at = [], 24
    while at + 16 <= len(data):
        seconds, part, kept, wire = struct.unpack_from("<IIII", data, at)
        found.append(Record(seconds * 10**9 + part * scale, wire, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def capture_of(records: Iterable[Record]) -> io.BytesIO:
    """A capture with these frames, in this order."""
    parts = [struct.pack("<IHHiIII", NANOSECOND_MAGIC, 2, 4, 0, 0, 262_144, 1)]
    for time_ns, wire, octets in records:
        parts += [struct.pack("<IIII", *divmod(time_ns, 10**9), len(octets), wire), octets]
    return io.BytesIO(b"".join(parts))


class Parts(NamedTuple):
    """Where a TCP segment's fields stand in its frame."""

    tcp: int
    payload: int
    end: int
    ports: tuple[int, int]
    flags: int
    seq: int
    ends: bytes


def parts_of(octets: bytes) -> Parts | None:
    """Of a TCP segment over IPv4 or IPv6 without extension headers; None: it is none."""
    kind = octets[12:14]
    if kind == b"\x08\x00" and octets[23] == 6:
        tcp, end, ends = 14 + (octets[14] & 15) * 4, 14 + int.from_bytes(octets[16:18]), octets[26:34]
    elif kind == b"\x86\xdd" and octets[20] == 6:
        tcp, end, ends = 54, 54 + int.from_bytes(octets[18:20]), octets[22:54]
    else:
        return None
    source, target, seq = struct.unpack_from(">HHI", octets, tcp)
    payload = tcp + (octets[tcp + 12] >> 4) * 4
    return Parts(tcp, payload, end, (source, target), octets[tcp + 13], seq, ends)


def client_ends(records: Records) -> set[tuple[bytes, tuple[int, int]]]:
    """(addresses, ports) of the direction in which SYNs without ACK go."""
    parts = filter(None, (parts_of(record.octets) for record in records))
    return {(part.ends, part.ports) for part in parts if part.flags & 0x12 == 2}


def _of_client(records: Records, *, wanted: bool) -> Iterator[Record]:
    known = client_ends(records)
    for record in records:
        part = parts_of(record.octets)
        if part is None or ((part.ends, part.ports) in known) == wanted:
            yield record


def client_only(records: Records) -> Iterable[Record]:
    """A tap on the fibre from the client."""
    return _of_client(records, wanted=True)


def server_only(records: Records) -> Iterable[Record]:
    """A tap on the fibre from the server."""
    return _of_client(records, wanted=False)


def from_part(share: float) -> Change:
    """A capture that begins after this share of the frames."""
    return lambda records: records[int(len(records) * share) :]


def until_part(share: float) -> Change:
    """A capture that ends after this share of the frames."""
    return lambda records: records[: int(len(records) * share)]


def twice(after_ns: int) -> Change:
    """Every frame twice, the copy so much later: a mirror port, or `tcpdump -i any` on a bridge."""

    def change(records: Records) -> Iterable[Record]:
        copies = [record._replace(time_ns=record.time_ns + after_ns) for record in records]
        return sorted([*records, *copies], key=lambda record: record.time_ns)

    return change


def routed_twice(records: Records) -> Iterable[Record]:
    """`tcpdump -i any` on a router: each frame as it came and as it left 30 us later, its hop limit one lower."""
    copies = []
    for time_ns, wire, octets in records:
        hop = {b"\x08\x00": 22, b"\x86\xdd": 21}.get(octets[12:14])
        if hop is not None:
            lower = octets[:hop] + bytes([octets[hop] - 1]) + octets[hop + 1 :]
            copies.append(Record(time_ns + 30_000, wire, lower))
    return sorted([*records, *copies], key=lambda record: record.time_ns)


def cut_to(snaplen: int) -> Change:
    """Only so many octets of each frame."""
    return lambda records: [record._replace(octets=record.octets[:snaplen]) for record in records]


def server_clock(offset_ns: int) -> Change:
    """Each direction from a tap of its own, whose clocks differ, merged by time."""

    def change(records: Records) -> Iterable[Record]:
        known = client_ends(records)
        moved = []
        for record in records:
            part = parts_of(record.octets)
            late = 0 if part is None or (part.ends, part.ports) in known else offset_ns
            moved.append(record._replace(time_ns=record.time_ns + late))
        return sorted(moved, key=lambda record: record.time_ns)

    return change


def clock_steps(records: Records) -> Iterable[Record]:
    """The capturing machine's clock is set back by a second in the middle of the capture."""
    half = len(records) // 2
    return [one if i < half else one._replace(time_ns=one.time_ns - 10**9) for i, one in enumerate(records)]


def offloaded(records: Records) -> Iterable[Record]:
    """Neighbouring segments of one direction as one, larger than any frame: generic receive offload (IPv4 only)."""
    held: Record | None = None
    for record in records:
        joined = held and _joined(held, record)
        if joined:
            held = joined
            continue
        if held:
            yield held
        held = record
    if held:
        yield held


def _joined(first: Record, second: Record) -> Record | None:
    one, two = parts_of(first.octets), parts_of(second.octets)
    if one is None or two is None or first.octets[12:14] != b"\x08\x00" or len(first.octets) != first.wire:
        return None
    length = one.end - one.payload
    same = (one.ends, one.ports) == (two.ends, two.ports) and two.seq == (one.seq + length) % 2**32
    plain = not (one.flags | two.flags) & 0x07 and length and two.end > two.payload
    if not same or not plain or len(first.octets) + len(second.octets) > LARGEST_OCTETS:
        return None
    payload = second.octets[two.payload : two.end]
    octets = first.octets[: one.end] + payload
    octets = octets[:16] + (len(octets) - 14).to_bytes(2) + octets[18:]
    return Record(first.time_ns, len(octets), octets)


CHANGES: dict[str, Change] = {
    "client_only": client_only,
    "server_only": server_only,
    "from_tenth": from_part(0.1),
    "from_half": from_part(0.5),
    "until_half": until_part(0.5),
    "twice_at_once": twice(0),
    "twice_20us": twice(20_000),
    "routed_twice": routed_twice,
    "cut_to_64": cut_to(64),
    "cut_to_96": cut_to(96),
    "server_clock_early": server_clock(-3 * MILLISECOND),
    "server_clock_late": server_clock(50 * MILLISECOND),
    "clock_steps": clock_steps,
    "offloaded": offloaded,
}


def held_after(change: Change, truth: Truth, tap: str, capture: Path) -> Held:
    """Findings of the changed capture against the truth about the unchanged one."""
    return truths.hold(truth, tap, observer.read(capture_of(change(records_of(capture)))))


def main() -> int:
    cases = [case for case in calibrate.cases_in(map(Path, sys.argv[1:])) if case.capture.suffix == ".pcap"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in CHANGES}
    for name, change in CHANGES.items():
        shown: Counter[str] = Counter()
        for case in cases:
            held = held_after(change, case.truth, case.tap, case.capture)
            counts[name].update(f"{row['grade']} {row['severity']}" for row in held.rows)
            for row in held.wrong:
                counts[name][f"FALSE {row['grade']} {row['severity']}"] += 1
                shown[f"{case.name} {row['code']}"] += 1
                if row["severity"] != "info" and shown[f"{case.name} {row['code']}"] <= 1:
                    print(f"{name}: {case.name} at the {case.tap}: {truths.line(row)}")
    for name, count in counts.items():
        print(f"{name:20}" + "; ".join(f"{number} {what}" for what, number in sorted(count.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
