"""captures/: every file is listed, small, readable, and shows what its table promises.

Independent of the observer: the facts are read with scapy, and the kernel's truth files must agree with the frames.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "captures"
FILES = sorted(path.name for path in FOLDER.iterdir() if re.search(r"\.pcap(ng)?(\.gz)?$", path.name))
TRUTHS = sorted(path.name for path in (FOLDER / "truth").glob("*.truth.json"))
CLIENTS = ("10.0.1.2", "2001:db8:1::2")
ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)


@dataclass(frozen=True)
class Segment:
    """One TCP segment: ``side`` is ``>`` from the client, ``<`` from the server; ``port`` is the client's."""

    time_s: float
    side: str
    port: int
    flags: str
    seq: int
    ack: int
    window: int
    payload_octets: int
    ttl: int


@cache
def segments(name: str) -> tuple[Segment, ...]:
    """Every TCP segment of a capture in file order, read by scapy; ICMP is left out."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.utils import PcapReader

    found = []
    with PcapReader(str(FOLDER / name)) as reader:
        for packet in reader:
            ip = packet.getlayer(IP) or packet.getlayer(IPv6)
            if ip is None or not isinstance(ip.payload, TCP):
                continue
            tcp = ip.payload
            octets = ip.len - ip.ihl * 4 if ip.version == 4 else ip.plen
            side = ">" if ip.src in CLIENTS else "<"
            found.append(
                Segment(
                    float(packet.time),
                    side,
                    tcp.sport if side == ">" else tcp.dport,
                    str(tcp.flags),
                    tcp.seq,
                    tcp.ack,
                    tcp.window,
                    octets - tcp.dataofs * 4,
                    ip.ttl if ip.version == 4 else ip.hlim,
                )
            )
    return tuple(found)


def story(found: Sequence[Segment], port: int | None = None) -> str:
    """The segments as one line, for example ``>S <SA >A >d <A >FA``; ``d`` is any data segment without FIN or SYN."""
    words = []
    for segment in found:
        if port is not None and segment.port != port:
            continue
        plain = segment.payload_octets and not set(segment.flags) & set("SFR")
        words.append(segment.side + ("d" if plain else segment.flags.replace("P", "")))
    return " ".join(words)


def ports(found: Sequence[Segment]) -> list[int]:
    return list(dict.fromkeys(segment.port for segment in found))


def only(found: Sequence[Segment], side: str, flags: str) -> list[Segment]:
    return [segment for segment in found if segment.side == side and segment.flags == flags]


HANDSHAKE = r">S <SA >A "


def told(name: str, pattern: str, port: int | None = None) -> None:
    line = story(segments(name), port)
    assert re.fullmatch(pattern, line), f"{name} tells {line!r}"


def simultaneous_open(name: str) -> None:
    told(name, r"([<>])S (?!\1)[<>]S (>SA <SA|<SA >SA) .*>FA .*<FA >A")


def keepalive_answered(name: str) -> None:
    told(name, HANDSHAKE + r">d <A <d >A (>A <A ){4}>FA .*<FA >A")
    data = [s for s in segments(name) if s.side == ">" and s.payload_octets]
    probes = only(segments(name), ">", "A")[-5:-1]
    assert {s.seq for s in probes} == {data[-1].seq + data[-1].payload_octets - 1}, (
        "a probe is one octet behind SND.NXT"
    )


def loss_recovered(name: str) -> None:
    data = [s for s in segments(name) if s.side == ">" and s.payload_octets > 1000]
    repeated = len(data) - len({s.seq for s in data})
    assert repeated >= 4, "lost segments come again"
    told(name, HANDSHAKE + r".*>FA .*<FA >A")


def syn_to_dead_host(name: str) -> None:
    told(name, ">S >S >S >S")
    times = [s.time_s for s in segments(name)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx([1, 2, 4], rel=0.1), "the gaps double (RFC 6298 5.5)"


def icmp_unreachable(name: str) -> None:
    from scapy.layers.inet import ICMP
    from scapy.utils import rdpcap

    kinds = [(p[ICMP].type, p[ICMP].code) for p in rdpcap(str(FOLDER / name)) if ICMP in p]
    assert kinds == [(3, 1), (3, 3)], "host and port unreachable (RFC 792)"
    told(name, ">S >S")


def accept_queue_full(name: str) -> None:
    found = segments(name)
    stuck = [port for port in ports(found) if "<R" in story(found, port).split()]
    assert (len(ports(found)), len(stuck)) == (9, 4)
    for port in stuck:
        told(name, HANDSHAKE + r"<SA >A (>d )+<SA >A (>d )+<R", port)
    for port in set(ports(found)) - set(stuck):
        told(name, HANDSHAKE + r"(>d <A)?", port) if "d" in story(found, port) else told(name, ">S <SA >A", port)


def accept_queue_full_late(name: str) -> None:
    found = segments(name)
    stuck = [port for port in ports(found) if "<R" in story(found, port).split()]
    assert (len(ports(found)), len(stuck)) == (9, 4)
    for port in stuck:
        told(name, HANDSHAKE + r"<SA >A <SA >A >d <R", port)


def accept_queue_full_receive(name: str) -> None:
    found = segments(name)
    stuck = [port for port in ports(found) if story(found, port).split().count("<SA") > 1]
    assert (len(ports(found)), len(stuck)) == (9, 4)
    for port in stuck:
        # the clients' close() at the end meets no connection
        told(name, HANDSHAKE + r"<SA >A <SA >A( >FA <R)?", port)
        times = [segment.time_s for segment in found if segment.port == port]
        assert max(later - earlier for earlier, later in pairwise(times)) > 1.5


def accept_resumes(name: str) -> None:
    found = segments(name)
    late = [port for port in ports(found) if story(found, port).split().count("<SA") >= 2]
    assert len(late) == 3
    for port in ports(found):
        told(name, r">S <SA >A .*<d .*>FA .*<FA >A", port)


def abort_on_overflow(name: str) -> None:
    found = segments(name)
    aborted = [port for port in ports(found) if story(found, port) == ">S <SA >A <R"]
    assert len(aborted) == 3
    for port in aborted:
        third, reset = [s for s in found if s.port == port][2:]
        assert (reset.seq, reset.window) == (third.ack, 0)


def injected_reset(name: str) -> None:
    told(name, HANDSHAKE + r".*>d <R")
    ttls = {s.ttl for s in segments(name)[:-1] if s.side == "<"}
    assert len(ttls) == 1
    assert segments(name)[-1].ttl == ttls.pop() + 1, "the forger is one hop nearer"


def peer_vanished(name: str) -> None:
    told(name, HANDSHAKE + r">d <A <d >A (>d ){4,}>d")
    tail = [s for s in segments(name) if s.payload_octets][2:]
    assert len({s.seq for s in tail}) == 1
    assert not any("R" in s.flags for s in segments(name)), "a send timeout ends without a RST"


def half_open_reconnect(name: str) -> None:
    told(name, HANDSHAKE + r">d <A <d >A >S <A >R >S <SA >A .*>FA .*<FA >A")
    challenge, reset = segments(name)[8:10]
    assert reset.seq == challenge.ack, "RFC 9293 3.10.7.3: SEQ=SEG.ACK"


def keepalive_timeout(name: str) -> None:
    told(name, HANDSHAKE + r">d <A <d >A >A >A >A >RA")


def zero_window(name: str) -> None:
    closed = [s for s in segments(name) if s.side == "<" and s.window == 0]
    probes = [s for s in segments(name) if s.side == ">" and s.seq == closed[0].ack - 1 and not s.payload_octets]
    assert len(closed) >= 3
    assert len(probes) >= 3
    assert closed[-1].time_s - closed[0].time_s > 2
    told(name, HANDSHAKE + r".*>FA .*<FA >A")


def port_reuse(name: str) -> None:
    one = HANDSHAKE + r">d <A <d >A >FA <A <FA >A"
    told(name, f"{one} {one}")
    first, second = only(segments(name), ">", "S")
    assert first.port == second.port
    assert 1 < second.time_s - first.time_s < 3


def time_wait_pileup(name: str) -> None:
    found = segments(name)
    assert len(ports(found)) == 300
    assert len(only(found, ">", "S")) == 300
    assert len(only(found, ">", "FA")) == 300
    assert not any("R" in s.flags for s in found)


def half_open_scan(name: str) -> None:
    found = segments(name)
    assert [story(found, port) for port in ports(found)] == [">S <SA >R", *[">S <RA"] * 3]


def syn_flood(name: str) -> None:
    found = segments(name)
    assert len(ports(found)) == 200
    assert {s.flags for s in found} == {"S", "SA"}
    assert max(story(found, port).count("<SA") for port in ports(found)) == 2


ORDERLY = HANDSHAKE + r">d <A <d >A >FA <A <FA >A"
PROMISES: dict[str, Callable[[str], None]] = {
    "orderly-close-client.pcap": lambda name: told(name, ORDERLY),
    "orderly-close-server.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A <FA >A >FA <A"),
    "simultaneous-close.pcap": lambda name: told(name, HANDSHAKE + r".*(>FA <FA|<FA >FA) (>A <A|<A >A)"),
    "simultaneous-open.pcap": simultaneous_open,
    "half-close.pcap": lambda name: told(name, HANDSHAKE + r">d <A >FA <A (<d >A ){5}<FA >A"),
    "ipv6.pcap": lambda name: told(name, ORDERLY + " >S <RA"),
    "fast-open.pcap": lambda name: told(name, r">S <SA >d .*>FA <A <FA >A >S <SA >A <d >A >FA <A <FA >A"),
    "keepalive-answered.pcapng": keepalive_answered,
    "loss-recovered.pcap": loss_recovered,
    "port-reuse.pcap": port_reuse,
    "deferred-accept.pcap": lambda name: told(name, f"{ORDERLY} {ORDERLY}"),
    "refused.pcap": lambda name: told(name, ">S <RA >S <RA >S <RA"),
    "syn-to-dead-host.pcap": syn_to_dead_host,
    "icmp-unreachable.pcap": icmp_unreachable,
    "final-ack-lost.pcap": lambda name: told(name, HANDSHAKE + r"<SA >A >d .*>FA .*<FA >A"),
    "accept-queue-full.pcap": accept_queue_full,
    "accept-queue-full-late.pcap": accept_queue_full_late,
    "accept-queue-full-receive.pcap": accept_queue_full_receive,
    "accept-resumes.pcap": accept_resumes,
    "abort-on-overflow.pcap": abort_on_overflow,
    "reset-on-close.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A >RA"),
    "unread-data.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A >d <A <RA"),
    "rst-answers-fin.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A >FA <RA"),
    "data-after-close.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A <FA >A >d <R"),
    "injected-reset.pcap": injected_reset,
    "peer-vanished.pcap": peer_vanished,
    "peer-rebooted.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A >d <R"),
    "half-open-reconnect.pcap": half_open_reconnect,
    "keepalive-timeout.pcap": keepalive_timeout,
    "zero-window.pcap": zero_window,
    "close-wait-leak.pcap": lambda name: told(name, HANDSHAKE + r">d <A <d >A >FA <A <d >R", ports(segments(name))[0]),
    "time-wait-pileup.pcap.gz": time_wait_pileup,
    "half-open-scan.pcap": half_open_scan,
    "syn-flood.pcap": syn_flood,
}


def test_there_are_enough_and_every_one_has_a_promise() -> None:
    assert len(FILES) >= 14
    assert sorted(PROMISES) == FILES


def test_readme_lists_every_capture_with_its_packets() -> None:
    rows = dict(ROW.findall((FOLDER / "README.md").read_text()))
    assert sorted(rows) == FILES
    for name, rest in rows.items():
        frames = len(segments(name)) + 2 * (name == "icmp-unreachable.pcap")
        assert f"| {frames} |" in rest, f"README.md says otherwise than {frames} packets for {name}"


@pytest.mark.parametrize("name", FILES)
def test_is_small(name: str) -> None:
    assert (FOLDER / name).stat().st_size < 100_000


@pytest.mark.parametrize("name", FILES)
def test_shows_what_it_promises(name: str) -> None:
    PROMISES[name](name)


@pytest.mark.parametrize("name", FILES)
def test_tshark_reads_it_to_the_end(name: str) -> None:
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    command = ["tshark", "-n", "-r", str(FOLDER / name), "-o", "tcp.check_checksum:TRUE", "-T", "fields"]
    command += ["-e", "frame.number", "-e", "tcp.checksum.status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(segments(name)) + 2 * (name == "icmp-unreachable.pcap")
    assert not [number for number, status in rows if status == "0"], "a bad checksum: offloading was on"


def test_formats_are_mixed() -> None:
    heads = {name: (FOLDER / name).read_bytes()[:4].hex() for name in FILES}
    assert heads["keepalive-answered.pcapng"] == "0a0d0d0a"
    assert heads["time-wait-pileup.pcap.gz"].startswith("1f8b")
    assert heads["loss-recovered.pcap"] == "4d3cb2a1", "nanoseconds"
    assert heads["refused.pcap"] == "d4c3b2a1", "microseconds"
    assert gzip.decompress((FOLDER / "time-wait-pileup.pcap.gz").read_bytes())[16:20] == (68).to_bytes(4, "little")
    assert (FOLDER / "zero-window.pcap").read_bytes()[16:20] == (96).to_bytes(4, "little")


@pytest.mark.parametrize("name", TRUTHS)
def test_truth_belongs_to_its_capture(name: str) -> None:
    truth = json.loads((FOLDER / "truth" / name).read_text())
    files = [file for file in FILES if file.partition(".")[0] == name.partition(".")[0]]
    assert len(files) == 1
    found = segments(files[0])
    assert truth["begin"] < found[0].time_s < found[-1].time_s < truth["end"]
    assert len(truth["states"]) == len(ports(found))
    for flow, ends in truth["states"].items():
        for role, rows in ends.items():
            assert [row[1] for row in rows[:-1]] == [row[0] for row in rows[1:]], f"gap in {role} of {flow}"
            assert all(begin <= end for begin, end, _, _ in rows)
        port = int(flow.partition(">")[0].rpartition(":")[2])
        story_line = story(found, port).split()
        assert ("<SA" in story_line or ">SA" in story_line) == any(r[2] == "ESTABLISHED" for r in ends["client"]) or (
            ">R" in story_line  # a raw scanner has no socket
        )
