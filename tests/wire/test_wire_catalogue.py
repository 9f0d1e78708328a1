"""Every link layer and encapsulation: the same segment comes out, by every engine, and as Wireshark has it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from observer import segments as s
from tests.wire.catalogue import DST, DST6, PAYLOAD, SRC, SRC6, Case, all_cases
from tests.wire.decoding import decode_everywhere, decode_with, frames_of

CASES = all_cases()
NAMES = [case.name for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_segment_is_found(case: Case) -> None:
    rows, decoder = decode_everywhere([case.frame], case.link)
    assert len(rows) == 1, decoder.skipped
    row = rows[0]
    assert (row.src, row.dst) == ((SRC, DST) if case.version == 4 else (SRC6, DST6))
    assert (row.src_port, row.dst_port, row.seq, row.ack, row.window) == (50000, 443, 1000, 2000, 500)
    assert row.flags == s.PSH | s.ACK_FLAG
    assert row.length == len(PAYLOAD)
    assert row.encapsulation == case.encapsulation
    assert row.cells[s.WIRE_LENGTH] == len(case.frame)
    assert row.has(s.FIRST_OF_FRAME)
    assert row.has(s.CHECKSUM_KNOWN)
    assert not row.has(s.BAD_CHECKSUM)
    assert decoder.segment_frames == 1


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_cut_anywhere_is_counted_and_marked(case: Case) -> None:
    """Every shorter capture of the frame gives the same segment, marked where it is incomplete, or a reason."""
    frames = [case.frame[:length] for length in range(len(case.frame))]
    wire = [len(case.frame)] * len(frames)
    rows, decoder = decode_everywhere(frames, case.link, wire=wire)
    assert decoder.frames == len(frames)
    found = {row.frame: row for row in rows}
    header = len(case.frame) - case.frame[::-1].index(PAYLOAD[::-1]) - len(PAYLOAD)  # where the payload starts
    for length in range(header, len(frames)):
        row = found[length + 1]
        assert row.length == len(PAYLOAD)
        assert not row.has(s.CUT_HEADER | s.CUT_OPTIONS)
    for row in rows:
        assert (row.src_port, row.dst_port, row.seq) == (50000, 443, 1000)


@pytest.mark.parametrize("name", ["l2tp all fields", "gtp extension", "802.11 qos", "token ring routed", "ethernet"])
def test_never_sent_is_another_reason_than_cut(name: str) -> None:
    """A frame that ends on the wire inside a header is bad, one that the capture cut is cut."""
    case = CASES[NAMES.index(name)]
    for length in range(1, 12):
        _, cut = decode_with("compiled", [frames_of([case.frame[:length]], case.link, wire=[len(case.frame)])])
        _, bad = decode_with("compiled", [frames_of([case.frame[:length]], case.link)])
        assert cut.skipped[0].reason.startswith(("cut_", "wifi_"))
        assert bad.skipped[0].reason.startswith(("bad_", "wifi_"))


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
def test_wireshark_finds_the_same(tmp_path: Path) -> None:
    """One capture for each link type; where Wireshark 4.0 does not find the segment, the catalogue says so."""
    by_link: dict[int, list[Case]] = {}
    for case in CASES:
        by_link.setdefault(case.link, []).append(case)
    found = {}
    for link, cases in by_link.items():
        path = tmp_path / f"{link}.pcap"
        records = [struct.pack("<IIII", 0, 0, len(c.frame), len(c.frame)) + c.frame for c in cases]
        path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link) + b"".join(records))
        command = ["tshark", "-r", str(path), "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.len", "-e", "tcp.seq_raw"]
        lines = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.split("\n")
        for case, line in zip(cases, lines, strict=False):
            found[case.name] = line.split("\t") == ["50000", str(len(PAYLOAD)), "1000"]
    differing = {case.name: found[case.name] for case in CASES if found[case.name] != case.tshark}
    assert differing == {}
