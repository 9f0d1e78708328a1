"""Drives the kernels of zeek.py straight from Wireshark's packet table, for comparison with Zeek's conn.log.

Streams are Wireshark's; a checksum is what tshark says of it.  The product's own way (capture, wire, track) is tested
elsewhere: this shows what the kernels alone do.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import subprocess
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy

from observer import segments as seg
from observer.tcp import layout, zeek

SHARED = Path(os.environ.get("OBSERVER_SHARED", Path(__file__).resolve().parents[3] / "shared"))
CORPUS = SHARED / "corpus"


def truth() -> list[dict[str, str]]:
    """Zeek's rows that count (primary)."""
    with (CORPUS / "zeek_conn_truth.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["primary"] == "1"]


@lru_cache(maxsize=1)
def packets() -> dict[str, list[dict[str, str]]]:
    """Wireshark's TCP headers by capture, those quoted in ICMP errors left out."""
    found = defaultdict(list)
    with gzip.open(CORPUS / "tshark_packets.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["quoted"] != "1":
                found[row["pcap"]].append(row)
    return found


@lru_cache
def bad_checksums(capture: str) -> frozenset[int]:
    """Numbers of the frames whose TCP checksum tshark finds wrong."""
    command = ["tshark", "-n", "-r", str(CORPUS / capture), "-o", "tcp.check_checksum:TRUE"]
    command += ["-Y", "tcp.checksum.status == 0", "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return frozenset(int(line) for line in done.stdout.split())


def number(text: str) -> int:
    """A cell of the table; an empty one (header cut off) is 0."""
    return int(float(text)) if text else 0


def write_row(rows: numpy.ndarray, s: int, packet: dict[str, str], bad: bool = False) -> None:
    """One segment's row from a line of Wireshark's table."""
    cells = {
        seg.TIME: int(packet["time_ns"] or 0),
        seg.FRAME: int(packet["frame"]),
        seg.SRC_PORT: number(packet["sport"]),
        seg.DST_PORT: number(packet["dport"]),
        seg.SEQ: number(packet["seq"]),
        seg.ACK: number(packet["ack"]),
        seg.FLAGS: number(packet["flags"]),
        seg.WINDOW: number(packet["win"]),
        seg.LENGTH: number(packet["len"]),
        seg.OPTIONS: seg.BAD_CHECKSUM if bad else 0,
    }
    for column, value in cells.items():
        rows[s * seg.STRIDE + column] = value


def run(capture: str, *, ignore_checksums: bool, short_way: bool = True) -> list[dict[str, object]]:
    """Zeek's columns for every stream of a capture."""
    lines = packets()[capture]
    bad = frozenset() if ignore_checksums else bad_checksums(capture)
    rows = numpy.zeros(max(len(lines), 1) * seg.STRIDE, numpy.int64)
    streams: dict[str, int] = {}
    for line in lines:
        streams.setdefault(line["stream"], len(streams))
    flows = numpy.zeros(max(len(streams), 1) * layout.FLOW_STRIDE, numpy.int64)
    table, columns = memoryview(flows), memoryview(rows)
    first: dict[str, dict[str, str]] = {}
    for s, line in enumerate(lines):
        write_row(rows, s, line, int(line["frame"]) in bad)
        begin = first.setdefault(line["stream"], line)
        forth = (line["src"], line["sport"]) == (begin["src"], begin["sport"])
        flow = streams[line["stream"]] * layout.FLOW_STRIDE
        x, y = flow + layout.CLIENT, flow + layout.SERVER
        if not forth:
            x, y = y, x
        if not (short_way and zeek.zeek_is_plain(table, x, y, columns, s * seg.STRIDE)):
            zeek.zeek_segment(table, flow, x, y, columns, s * seg.STRIDE, int(forth))
    return [outcome(table, number * layout.FLOW_STRIDE, first[name]) for name, number in streams.items()]


def outcome(table: memoryview, flow: int, begin: dict[str, str]) -> dict[str, object]:
    """What the kernels say of one flow, in Zeek's columns."""
    client, server = flow + layout.CLIENT, flow + layout.SERVER
    forth = zeek.zeek_originator(table, client, server) == client
    src, dst = ("src", "dst") if forth else ("dst", "src")
    sport, dport = ("sport", "dport") if forth else ("dport", "sport")
    history = zeek.zeek_history(table[flow + layout.Z_HISTORY : flow + layout.Z_HISTORY + 4])
    return {
        "orig_h": begin[src],
        "orig_p": str(int(float(begin[sport]))),
        "resp_h": begin[dst],
        "resp_p": str(int(float(begin[dport]))),
        "first": int(begin["time_ns"] or 0) / 1e9,
        "conn_state": zeek.CONN_STATES[zeek.zeek_conn_state(table, flow, client, server)],
        "history": history,
        "over": bool(zeek.zeek_is_over(table, flow)),
    }


def available() -> bool:
    """Whether the public captures and tshark are there."""
    return (CORPUS / "zeek_conn_truth.csv").is_file() and shutil.which("tshark") is not None
