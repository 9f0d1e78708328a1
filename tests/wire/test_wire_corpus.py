"""Every TCP header of 545 public captures, as Wireshark 4.0 has it."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from observer import segments as s
from observer.capture import open_capture
from tests.wire.decoding import Row, decode_with, engine_of

SHARED = Path(os.environ.get("OBSERVER_SHARED", Path(__file__).parents[3] / "shared"))
CORPUS = SHARED / "corpus"
TABLE = CORPUS / "tshark_packets.csv.gz"

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason=f"{TABLE} is not there")

FIELDS = ("frame", "sport", "dport", "flags", "len", "seq", "ack", "win", "quoted")
Truth = dict[str, int | str | None]


def truth() -> dict[str, dict[int, list[Truth]]]:
    """Wireshark's rows by capture and frame; a field that it did not show is None."""
    found: dict[str, dict[int, list[Truth]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(TABLE, "rt", newline="") as file:
        for line in csv.DictReader(file):
            if not line["stream"] and line["quoted"] == "0":
                continue  # the packet ends before the window: Wireshark shows the ports and gives up
            row: Truth = {name: int(float(line[name])) if line[name] else None for name in FIELDS}
            row |= {"src": line["src"], "dst": line["dst"], "protocols": line["protocols"]}
            found[line["pcap"]][int(line["frame"])].append(row)
    return found


def difference(row: Row, wanted: Truth) -> str:
    """In what a row differs from Wireshark's, and why that may be; "" if it does not.

    unexplained            none of the following
    bad offset             a data offset that cannot be: no field behind it counts here; Wireshark shows some of them
    checksum of the frame  Wireshark takes the last four octets of a FabricPath frame for its checksum, though
                           IP's length needs them, and so finds less payload, or none that it can tell
    quoted length          Wireshark tells no payload length of a quotation
    final destination      the table has the IPv6 header's destination, the connection's is in the routing header
    """
    here = {
        "src": row.src, "dst": row.dst, "sport": row.src_port, "dport": row.dst_port, "len": row.length,
        "seq": row.seq, "ack": row.ack, "win": row.window, "quoted": int(row.quoted), "flags": row.flags,
    }  # fmt: skip
    flags = wanted["flags"]
    # Wireshark counts the three reserved bits among its flags
    there = wanted | {"flags": flags & 0x1FF if isinstance(flags, int) else flags}
    fields = {name for name, value in here.items() if value != there[name]}
    protocols = str(wanted["protocols"])
    if not fields:
        return ""
    if row.has(s.CUT_HEADER) and row.has(s.BAD_OPTIONS) and fields <= {"flags", "len", "seq", "ack", "win"}:
        return "bad offset" if there["seq"] in (row.seq, None) else "unexplained"
    if row.has(s.CUT_HEADER) and fields <= {"flags", "len", "seq", "ack", "win"}:
        return "bad offset" if all(there[name] is None for name in fields) else "unexplained"
    if fields == {"len"} and ":cfp:" in protocols:
        shorter = there["len"] is None or (isinstance(there["len"], int) and row.length - there["len"] == 4)
        return "checksum of the frame" if shorter else "unexplained"
    if fields == {"len"} and row.quoted and there["len"] is None:
        return "quoted length"
    if fields == {"dst"} and ":ipv6.routing:" in protocols and not row.has(s.BAD_CHECKSUM):
        return "final destination"
    return "unexplained"


def test_every_header_that_wireshark_sees(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = truth()
    seen: Counter[str] = Counter()
    problems = []
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file() and path.parent != CORPUS)
    for path in files:
        name = str(path.relative_to(CORPUS))
        with open_capture([path], engine=engine_of("compiled")) as capture:
            rows, _ = decode_with("compiled", capture)
        found = defaultdict(list)
        for row in rows:
            found[row.frame].append(row)
        for frame in set(found) | set(wanted[name]):
            here, there = found[frame], wanted[name][frame]
            reasons = [difference(*pair) for pair in zip(here, there, strict=False)]
            reasons += ["unexplained"] * abs(len(here) - len(there))
            seen.update(reasons)
            if "unexplained" in reasons:
                problems.append((name, frame, here, there))
    total = sum(seen.values())
    with capsys.disabled():
        print(f"\n{len(files)} captures, {total} TCP headers: {seen.pop('')} equal to Wireshark's, {dict(seen)}")
    assert not problems[:5]
    assert total > 40_000
