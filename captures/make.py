#!/usr/bin/env python3
"""Make the captures of this folder again, from real kernel sockets in the laboratory of tests/lab.

    sudo python captures/make.py                     all of them (about two minutes)
    sudo python captures/make.py zero-window.pcap    one, or some
    python captures/make.py --readme                 only the table in README.md
    sudo python captures/make.py --clean             remove what a crashed run left behind

Each scenario runs in network namespaces of its own (client - router - server), is captured at three taps, and the one
named below is kept. Never sends a packet outside those namespaces. Needs root, Linux, tcpdump, nft and ip.

Sources: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng).
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from lab import SCENARIOS, missing, net, run  # noqa: E402
from lab.frames import records  # noqa: E402

LARGEST_OCTETS = 100_000  # what a capture of this folder may weigh
LARGEST_TRUTH_OCTETS = 40_000
BEGIN, END = "<!-- table: made by make.py -->\n", "<!-- end of table -->\n"
_SNAPLEN = 262_144  # tcpdump's default
_ETHERNET = 1  # LINKTYPE_ETHERNET

Record = tuple[int, int, bytes]  # time in ns, length on the wire, octets


@dataclass(slots=True, frozen=True)
class Capture:
    """One file of this folder: which scenario, seen from where, in which format."""

    file: str
    scenario: str
    vantage: str
    shows: str
    who: str
    snaplen: int = _SNAPLEN
    nanoseconds: bool = False

    @property
    def stem(self) -> str:
        return self.file.partition(".")[0]


CAPTURES = (
    Capture(
        "orderly-close-client.pcap",
        "client_closes_first",
        "client",
        "a request, its answer, an orderly close",
        "the client closes first and holds TIME-WAIT",
    ),
    Capture(
        "orderly-close-server.pcap",
        "server_closes_first",
        "server",
        "the same, closed from the other side",
        "the server closes first and holds TIME-WAIT",
    ),
    Capture(
        "simultaneous-close.pcap",
        "simultaneous_close",
        "middle",
        "both FINs cross on the way (20 ms each way)",
        "both close; both pass CLOSING to TIME-WAIT",
    ),
    Capture(
        "simultaneous-open.pcap",
        "simultaneous_open",
        "middle",
        "both hosts connect to each other, both SYNs cross; then a normal life",
        "both open; the client closes first",
    ),
    Capture(
        "half-close.pcap",
        "half_close",
        "client",
        "the client shuts down its sending half, the server goes on for 1.5 s",
        "the client half-closes; nobody fails",
    ),
    Capture(
        "ipv6.pcap",
        "ipv6",
        "client",
        "IPv6: an orderly close, then a refused connection",
        "the client closes; port 5999 refuses",
    ),
    Capture(
        "fast-open.pcap",
        "fast_open",
        "client",
        "TCP Fast Open: cookie asked for, then a request inside the SYN",
        "the client closes first, twice",
    ),
    Capture(
        "keepalive-answered.pcapng",
        "keepalive_answered",
        "client",
        "an idle connection, a keepalive probe each second, all answered",
        "nobody fails; the client closes",
    ),
    Capture(
        "loss-recovered.pcap",
        "loss_recovered",
        "middle",
        "every ninth large segment lost behind the tap, all repaired by retransmission",
        "the path loses; the client closes",
        nanoseconds=True,
    ),
    Capture(
        "port-reuse.pcap",
        "port_reuse",
        "client",
        "a new connection on the same 4-tuple 1.2 s into its TIME-WAIT, legally",
        "the client reuses its own port",
    ),
    Capture(
        "deferred-accept.pcap",
        "deferred_accept",
        "server",
        "TCP_DEFER_ACCEPT: looks half-established until data comes, is healthy",
        "nobody fails (the innocent look-alike)",
    ),
    Capture(
        "refused.pcap",
        "refused",
        "client",
        "three connects to a port without listener: RST,ACK each",
        "the server refuses (ECONNREFUSED)",
    ),
    Capture(
        "syn-to-dead-host.pcap",
        "syn_to_dead_host",
        "client",
        "a SYN and its repeats after 1, 3 and 7 s, no answer at all",
        "the server is dead (ETIMEDOUT after 15 s)",
    ),
    Capture(
        "icmp-unreachable.pcap",
        "icmp_unreachable",
        "client",
        "SYNs answered by ICMP host unreachable and port unreachable",
        "the router (EHOSTUNREACH, ECONNREFUSED)",
    ),
    Capture(
        "final-ack-lost.pcap",
        "final_ack_lost",
        "middle",
        "the handshake's last ACK is lost behind the tap; the SYN-ACK is repeated after 1 s",
        "the path; recovers",
    ),
    Capture(
        "accept-queue-full.pcap",
        "accept_queue_full",
        "client",
        "nine connections to listen(4) without accept(): four half-established, later reset",
        "the server does not accept (ECONNRESET)",
    ),
    Capture(
        "accept-queue-full-late.pcap",
        "accept_queue_full_data_late",
        "client",
        "the same, but the clients send after 10 s: the server has forgotten them, and resets at once",
        "the server does not accept (ECONNRESET)",
    ),
    Capture(
        "accept-queue-full-receive.pcap",
        "accept_queue_full_receive_only",
        "client",
        "the same, but the clients only receive: recv() would wait for ever",
        "the server does not accept; nobody is told",
    ),
    Capture(
        "accept-resumes.pcap",
        "accept_resumes",
        "server",
        "the same, but the server starts to accept after 2 s: all recover",
        "the server, for 2 s",
    ),
    Capture(
        "abort-on-overflow.pcap",
        "abort_on_overflow",
        "client",
        "accept queue full with tcp_abort_on_overflow=1: the third ACK draws a RST",
        "the server resets three of seven",
    ),
    Capture(
        "reset-on-close.pcap",
        "linger0_client",
        "client",
        "close() with SO_LINGER 0: RST,ACK instead of FIN",
        "the client resets",
    ),
    Capture(
        "unread-data.pcap",
        "close_with_unread_data",
        "middle",
        "close() while data from the peer is unread: RST,ACK instead of FIN",
        "the server resets",
    ),
    Capture(
        "rst-answers-fin.pcap",
        "rst_answers_fin",
        "client",
        "the client's FIN answered by RST,ACK",
        "the server resets (SO_LINGER 0 after end of file)",
    ),
    Capture(
        "data-after-close.pcap",
        "data_after_close",
        "client",
        "data to a server that has closed both halves: a bare RST",
        "the server closed; the client sends on",
    ),
    Capture(
        "injected-reset.pcap",
        "injected_reset",
        "client",
        "a RST forged in the server's name: TTL one higher than the server's",
        "the router resets",
    ),
    Capture(
        "peer-vanished.pcap",
        "peer_vanished",
        "client",
        "the server's host is gone; data retransmitted with back-off, given up in silence",
        "the server dies (ETIMEDOUT, TCP_USER_TIMEOUT 5 s)",
    ),
    Capture(
        "peer-rebooted.pcap",
        "peer_rebooted",
        "client",
        "the server's host reboots; the next data draws a bare RST",
        "the server lost the connection (half-open)",
    ),
    Capture(
        "half-open-reconnect.pcap",
        "half_open_reconnect",
        "server",
        "a crashed client reconnects on its old 4-tuple: challenge ACK, RST, SYN again (RFC 9293 3.5.1)",
        "the client lost the connection (half-open)",
    ),
    Capture(
        "keepalive-timeout.pcap",
        "keepalive_timeout",
        "client",
        "three unanswered keepalive probes, then RST,ACK",
        "the server dies; the client gives up",
    ),
    Capture(
        "zero-window.pcap",
        "zero_window",
        "middle",
        "the server does not read for 4 s: zero window, probes, window update",
        "the server is slow; all arrives",
        snaplen=96,
    ),
    Capture(
        "close-wait-leak.pcap",
        "close_wait_leak",
        "server",
        "the client closes, the server never does; FIN-WAIT-2 expires after 3 s, late data draws a RST",
        "the server does not close (CLOSE-WAIT)",
    ),
    Capture(
        "time-wait-pileup.pcap.gz",
        "time_wait_pileup",
        "client",
        "300 short connections, each closed by the client first",
        "the client piles up TIME-WAIT",
        snaplen=68,
    ),
    Capture(
        "half-open-scan.pcap",
        "half_open_scan",
        "server",
        "four raw SYNs: one SYN-ACK answered by RST, three refused",
        "the client aborts its handshake",
    ),
    Capture(
        "syn-flood.pcap",
        "syn_flood",
        "server",
        "200 SYNs within a second, every SYN-ACK unanswered and repeated once",
        "the client's address never completes",
    ),
)


def pcap(taken: Iterable[Record], *, snaplen: int, nanoseconds: bool) -> bytes:
    """A little-endian pcap file."""
    magic, unit_ns = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    parts = [struct.pack("<IHHiIII", magic, 2, 4, 0, 0, snaplen, _ETHERNET)]
    for time_ns, length, octets in taken:
        seconds, rest_ns = divmod(time_ns, 1_000_000_000)
        kept = octets[:snaplen]
        parts.append(struct.pack("<IIII", seconds, rest_ns // unit_ns, len(kept), length) + kept)
    return b"".join(parts)


def pcapng(taken: Iterable[Record], *, snaplen: int, comment: str) -> bytes:
    """A little-endian pcapng file: one section with a comment, one interface with nanosecond stamps."""

    def block(kind: int, body: bytes) -> bytes:
        total = 12 + len(body) + -len(body) % 4
        return struct.pack("<II", kind, total) + body + bytes(-len(body) % 4) + struct.pack("<I", total)

    def option(code: int, value: bytes) -> bytes:
        return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

    end = option(0, b"")
    parts = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(1, comment.encode()) + end),
        block(1, struct.pack("<HHI", _ETHERNET, 0, snaplen) + option(2, b"eth0") + option(9, b"\x09") + end),
    ]
    for time_ns, length, octets in taken:
        kept = octets[:snaplen]
        head = struct.pack("<IIIII", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(kept), length)
        parts.append(block(6, head + kept))
    return b"".join(parts)


def make(capture: Capture) -> None:
    """Play the scenario, keep the capture of its vantage, and the truth where it is small."""
    with tempfile.TemporaryDirectory(prefix="observer-captures-") as folder:
        lab = run(capture.scenario, Path(folder))
        taken = sorted(records(lab.captures[capture.vantage]), key=lambda record: record[0])
        if ".pcapng" in capture.file:
            data = pcapng(taken, snaplen=capture.snaplen, comment=lab.about)
        else:
            data = pcap(taken, snaplen=capture.snaplen, nanoseconds=capture.nanoseconds)
        if capture.file.endswith(".gz"):
            data = gzip.compress(data, 9, mtime=0)
        if len(data) >= LARGEST_OCTETS:
            raise SystemExit(f"{capture.file} would have {len(data)} octets: more than {LARGEST_OCTETS}")
        (HERE / capture.file).write_bytes(data)
        written = Path(folder, "truth.json")
        lab.write_truth(written)
        kept = HERE / "truth" / f"{capture.stem}.truth.json"
        kept.unlink(missing_ok=True)
        if written.stat().st_size < LARGEST_TRUTH_OCTETS:
            shutil.copyfile(written, kept)
    print(f"{capture.file}: {len(taken)} packets, {len(data)} octets", flush=True)


def packets(path: Path) -> int:
    """The number of packets in a capture that this script wrote."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    number, position = 0, 24
    if ".pcapng" in path.name:
        position = 0
        while position < len(data):
            kind, size = struct.unpack_from("<II", data, position)
            number += kind == 6  # Enhanced Packet Block
            position += size
        return number
    while position < len(data):
        position += 16 + struct.unpack_from("<I", data, position + 8)[0]
        number += 1
    return number


def table() -> str:
    """The table of README.md, from the captures that are there."""
    rows = [
        "| file | what it shows | who closes or fails | vantage | packets | format | scenario |",
        "|---|---|---|---|---|---|---|",
    ]
    for capture in CAPTURES:
        path = HERE / capture.file
        if not path.is_file():
            continue
        form = "pcapng, ns" if ".pcapng" in capture.file else "pcap, ns" if capture.nanoseconds else "pcap"
        form += ", gzip" if capture.file.endswith(".gz") else ""
        form += f", snaplen {capture.snaplen}" if capture.snaplen != _SNAPLEN else ""
        truth = HERE / "truth" / f"{capture.stem}.truth.json"
        scenario = f"[`{capture.scenario}`](truth/{truth.name})" if truth.is_file() else f"`{capture.scenario}`"
        settings = "; ".join(
            f"{role} " + ", ".join(f"{key}={value}" for key, value in values.items())
            for role, values in SCENARIOS[capture.scenario].sysctl.items()
        )
        shows = capture.shows + (f" ({settings})" if settings else "")
        row = (f"`{capture.file}`", shows, capture.who, capture.vantage, str(packets(path)), form, scenario)
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows) + "\n"


def write_readme() -> None:
    path = HERE / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + BEGIN + table() + END + after)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the captures of this folder again (root, Linux).")
    parser.add_argument("names", nargs="*", metavar="FILE", help="which captures; all where none is named")
    parser.add_argument("--clean", action="store_true", help="remove namespaces that a crashed run left, then end")
    parser.add_argument("--readme", action="store_true", help="only write the table of README.md again")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the laboratory is taken down
    if chosen.clean:
        print("\n".join(net.clean()) or "nothing to remove")
        return 0
    if not chosen.readme:
        unknown = set(chosen.names) - {name for c in CAPTURES for name in (c.file, c.stem, c.scenario)}
        if unknown:
            print(f"no such capture: {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        if lacks := missing():
            print(lacks, file=sys.stderr)
            return 2
        net.clean()
        (HERE / "truth").mkdir(exist_ok=True)
        for capture in CAPTURES:
            if not chosen.names or {capture.file, capture.stem, capture.scenario} & set(chosen.names):
                make(capture)
    write_readme()
    return 0


if __name__ == "__main__":
    sys.exit(main())
