"""Makes the captures that the benchmarks read: deterministic, fast, like the traffic of a busy service.

Connections open with a handshake (MSS, SACK permitted, timestamps, window scale), exchange requests and responses
both ways with acknowledgements after one or two segments, and close in four or three segments or by RST.  Some
segments are repeated (1 %) or overtaken by later ones (0.5 %).  Thousands of connections are open at any time.  All
checksums are right.  About 30 packets a connection, 700 octets a frame, 10,000 packets a second.

Never asserted here: anything.  Not in these captures: IPv6, encapsulation (tests have those).
Sources: libpcap savefile format (pcap-savefile(5)), RFC 791, RFC 9293 3.1, RFC 7323 3.2.

    python tests/benchmarks/generate.py --kind full --packets 6000000 --output /tmp/observer-bench/full.pcap
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

Array = np.ndarray[Any, Any]

PACKETS_PER_CONNECTION: Final = 30
PACKETS_PER_SECOND: Final = 10_000
MSS: Final = 1448  # 1500 less IPv4 (20), TCP (20) and timestamps (12)
EPOCH_S: Final = 1_790_000_000
CHUNK: Final = 1 << 14  # packets made at once
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
OPEN, EXCHANGE, CLOSE = 0, 1, 2
SERVER_PORTS: Final = np.array([443, 443, 443, 80, 5432, 6379, 8080, 9092])

FRAME: Final = np.dtype(
    [
        # record header (little-endian file)
        ("seconds", "<u4"), ("micros", "<u4"), ("captured", "<u4"), ("wire", "<u4"),
        ("mac", "u1", 12), ("ethertype", ">u2"),
        ("version", ">u2"), ("total", ">u2"), ("ident", ">u2"), ("fragment", ">u2"), ("ttl_protocol", ">u2"),
        ("ip_sum", ">u2"), ("src", ">u4"), ("dst", ">u4"),
        ("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset_flags", ">u2"), ("window", ">u2"),
        ("tcp_sum", ">u2"), ("urgent", ">u2"), ("options", "u1", 20),
    ]
)  # fmt: skip
RECORD_OCTETS: Final = 16
PLAIN: Final = RECORD_OCTETS + 14 + 20 + 32  # record header to the end of NOP NOP timestamps
WITH_SYN: Final = FRAME.itemsize  # the same with MSS, SACK permitted, timestamps, NOP, window scale


def connections(count: int, rng: np.random.Generator) -> dict[str, Array]:
    """Who talks to whom: every client takes its ports in turn, so that no 4-tuple comes twice."""
    clients = max(1, count // 2_000)
    number = np.arange(count)
    return {
        "client": (10 << 24) + 1 + number % clients,
        "client_port": 32768 + (number // clients) % 28_232,
        "server": (172 << 24) + (16 << 16) + 1 + rng.integers(0, 200, count),
        "server_port": rng.choice(SERVER_PORTS, count),
        "iss": rng.integers(0, 1 << 32, (2, count)),
        "ts": rng.integers(0, 1 << 31, (2, count)),
    }


def blocks(count: int, rng: np.random.Generator) -> dict[str, Array]:
    """The opening, the exchanges and the close of every connection, in this order."""
    exchanges = rng.geometric(0.40, count)
    per_connection = exchanges + 2
    first = np.cumsum(per_connection) - per_connection
    total = int(per_connection.sum())
    kind = np.full(total, EXCHANGE)
    kind[first], kind[first + per_connection - 1] = OPEN, CLOSE
    segments = np.clip(rng.lognormal(1.27, 1.0, total), 1, 3000).astype(np.int64)
    cadence = np.where(rng.random(total) < 0.15, 1, 2)  # an ACK for every segment or for every other
    early = (rng.random(total) < 0.2).astype(np.int64)  # the request is acknowledged before it is answered
    response = segments + -(-segments // cadence)
    size = 1 + early + response
    size[kind == OPEN] = 3
    # of all closes 2 % are by RST, half of the others acknowledge the FIN with a FIN
    size[kind == CLOSE] = rng.choice([1, 3, 4], count, p=[0.02, 0.49, 0.49])
    return {
        "connection": np.repeat(np.arange(count), per_connection),
        "kind": kind,
        "size": size,
        "cadence": cadence,
        "early": early,
        "response": response,
        "request_octets": rng.integers(80, 900, total),
        "last_octets": rng.integers(200, MSS + 1, total),
        "by_server": (rng.random(total) < 0.15).astype(np.int64),  # who asks, who closes first
    }


def packets(count: int, rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Array]]:
    """Columns of `count` packets in time order, and of their connections."""
    table = connections(max(1, round(count / PACKETS_PER_CONNECTION * 1.02)), rng)
    block = blocks(len(table["client"]), rng)
    size = block["size"]
    of = np.repeat(np.arange(len(size)), size)
    j = np.arange(len(of)) - np.repeat(np.cumsum(size) - size, size)
    kind, early, by_server = block["kind"][of], block["early"][of], block["by_server"][of]
    connection = block["connection"][of]

    # exchanges: the request, perhaps its ACK, then segments of the response with ACKs between them
    k = j - 1 - early
    cadence, response = block["cadence"][of], block["response"][of]
    is_ack = (k % (cadence + 1) == cadence) | (k == response - 1)
    sent_back = np.where(k < 0, j == 1, ~is_ack).astype(np.int64)
    length = np.where(is_ack, 0, np.where(k == response - 2, block["last_octets"][of], MSS))
    length = np.where(j == 0, block["request_octets"][of], np.where(k < 0, 0, length))
    flags = np.where(length > 0, PSH | ACK, ACK)
    # openings and closes
    opening, closing = kind == OPEN, kind == CLOSE
    three, reset = closing & (size[of] == 3), closing & (size[of] == 1)
    step = np.where(three & (j > 0), j + 1, j)
    length[opening | closing] = 0
    flags = np.where(opening, np.array([SYN, SYN | ACK, ACK, ACK])[np.minimum(j, 3)], flags)
    flags = np.where(closing, np.where(step % 2 == 0, FIN | ACK, ACK), flags)
    flags[reset] = RST | ACK
    sent_back = np.where(opening, j == 1, sent_back)
    sent_back = np.where(closing, (step == 1) | (step == 2), sent_back)
    direction = np.where(opening, sent_back, sent_back ^ by_server)  # 0: sent by the client

    seq, ack = numbers(connection, direction, flags, length, table)
    columns = {
        "connection": connection, "direction": direction, "flags": flags, "length": length, "seq": seq, "ack": ack,
    }  # fmt: skip
    columns["time_us"] = times(j, k, columns, count, rng)
    disturb(columns, of, rng)
    again = np.flatnonzero((length > 0) & (rng.random(len(of)) < 0.01))
    columns = {name: np.concatenate([column, column[again]]) for name, column in columns.items()}
    columns["time_us"][len(of) :] += 200_000  # the least time-out of Linux (TCP_RTO_MIN)
    order = np.argsort(columns["time_us"], kind="stable")[:count]
    return {name: column[order] for name, column in columns.items()}, table


def numbers(
    connection: Array, direction: Array, flags: Array, length: Array, table: dict[str, Array]
) -> tuple[Array, Array]:
    """SEQ and ACK of every packet, from what was sent before it in its connection."""
    octets = length + ((flags & (SYN | FIN)) != 0)
    starts = np.flatnonzero(np.r_[True, connection[1:] != connection[:-1]])
    before = []
    for side in (0, 1):
        own = np.where(direction == side, octets, 0)
        upto = np.cumsum(own) - own
        before.append((upto - upto[starts][connection] + table["iss"][side][connection]) & 0xFFFFFFFF)
    seq = np.where(direction == 0, before[0], before[1])
    ack = np.where(direction == 0, before[1], before[0])
    return seq, np.where(flags & ACK, ack, 0)


def times(j: Array, k: Array, part: dict[str, Array], count: int, rng: np.random.Generator) -> Array:
    """Microseconds since EPOCH_S: connections begin evenly, their packets follow each other by reason."""
    direction, connection = part["direction"], part["connection"]
    gap = np.where(k > 0, 120.0, 8_000.0)  # back to back in a response; otherwise some round trip
    turned = np.r_[False, direction[1:] != direction[:-1]]
    gap = np.where(turned & (k > 0), 400.0, gap)
    gap = np.where((j == 0) & ((part["flags"] & SYN) == 0), 3_000_000.0, gap)  # thinking before a request or the close
    gap = 1 + rng.exponential(gap).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, connection[1:] != connection[:-1]])
    begin = np.sort(rng.integers(0, max(1, count * 1_000_000 // PACKETS_PER_SECOND), len(starts)))
    elapsed = np.cumsum(gap)
    return elapsed - elapsed[starts][connection] + begin[connection]


def disturb(columns: dict[str, Array], of: Array, rng: np.random.Generator) -> None:
    """Put some segments behind the next three packets of their exchange, which acknowledge up to the gap only."""
    pick = np.flatnonzero((columns["length"] == MSS) & (rng.random(len(of)) < 0.005))
    pick = pick[pick + 3 < len(of)]
    pick = pick[of[pick] == of[pick + 3]]
    columns["time_us"][pick] = columns["time_us"][pick + 3] + 1
    for later in (1, 2, 3):
        answer = pick[columns["direction"][pick + later] != columns["direction"][pick]]
        columns["ack"][answer + later] = columns["seq"][answer]


class Pool:
    """Octets from which payloads are taken, with running sums so that checksums cost nothing."""

    def __init__(self, octets: int, rng: np.random.Generator) -> None:
        self.data = rng.integers(0, 256, octets + octets % 2, dtype=np.uint8)
        self.sums = []
        for parity in (0, 1):
            self.sums.append(np.concatenate([[0], np.cumsum(self.data[parity::2], dtype=np.int64)]))

    def checksum(self, start: Array, length: Array) -> Array:
        """The sum of the 16-bit words of data[start : start + length] (RFC 1071, not folded)."""
        end = start + length
        even = self.sums[0][(end + 1) // 2] - self.sums[0][(start + 1) // 2]
        odd = self.sums[1][end // 2] - self.sums[1][start // 2]
        return np.where(start % 2 == 0, even * 256 + odd, odd * 256 + even)


def folded(total: Array) -> Array:
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def headers(part: dict[str, Array], table: dict[str, Array], snaplen: int) -> Array:
    """Record, Ethernet, IPv4 and TCP headers of some packets; only the TCP checksum lacks its payload."""
    n = len(part["time_us"])
    frame = np.zeros(n, FRAME)
    connection, back, length = part["connection"], part["direction"], part["length"]
    is_syn = (part["flags"] & SYN) != 0
    tcp_octets = np.where(is_syn, 40, 32)
    frame["seconds"], frame["micros"] = EPOCH_S + part["time_us"] // 1_000_000, part["time_us"] % 1_000_000
    frame["wire"] = 34 + tcp_octets + length
    frame["captured"] = np.minimum(frame["wire"], snaplen)
    frame["mac"] = np.where(back[:, None], (2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2), (2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1))
    frame["ethertype"] = 0x0800
    frame["version"], frame["fragment"], frame["ttl_protocol"] = 0x4500, 0x4000, np.where(back, 0x3906, 0x4006)
    frame["total"] = 20 + tcp_octets + length
    frame["ident"] = (connection * 7919 + part["seq"] // 1000) & 0xFFFF
    ends = [table["client"][connection], table["server"][connection]]
    ports = [table["client_port"][connection], table["server_port"][connection]]
    frame["src"], frame["dst"] = np.where(back, ends[::-1], ends)
    frame["sport"], frame["dport"] = np.where(back, ports[::-1], ports)
    frame["seq"], frame["ack"] = part["seq"], part["ack"]
    frame["offset_flags"] = (tcp_octets // 4 << 12) | part["flags"]
    frame["window"] = np.where(part["flags"] & RST, 0, np.where(is_syn, 64240, 501))
    stamp = part["time_us"] // 1000
    value = (np.where(back, table["ts"][1][connection], table["ts"][0][connection]) + stamp) & 0xFFFFFFFF
    echo = (np.where(back, table["ts"][0][connection], table["ts"][1][connection]) + stamp - 5) & 0xFFFFFFFF
    echo = np.where(part["flags"] == SYN, 0, echo)
    stamps = np.stack([value, echo], axis=1).astype(">u4").view(np.uint8).reshape(n, 8)
    options = frame["options"]
    options[:, :4], options[:, 4:12] = (1, 1, 8, 10), stamps
    # MSS 1460; SACK permitted, timestamps; NOP, window scale 7
    options[is_syn] = np.r_[2, 4, 5, 180, 4, 2, 8, 10, np.zeros(8, int), 1, 3, 3, 7]
    options[np.flatnonzero(is_syn)[:, None], np.arange(8, 16)] = stamps[is_syn]
    words = frame.view(np.uint8).reshape(n, WITH_SYN)[:, RECORD_OCTETS + 14 :].copy().view(">u2").astype(np.int64)
    frame["ip_sum"] = folded(words[:, :10].sum(axis=1))
    # pseudo-header: addresses, protocol, TCP length (RFC 9293 3.1)
    words[~is_syn, -4:] = 0
    frame["tcp_sum"] = folded(words[:, 6:].sum(axis=1) + 6 + tcp_octets + length + part["sum"])
    return frame


def write_packets(output: BinaryIO, columns: dict[str, Array], table: dict[str, Array], snaplen: int) -> None:
    rng = np.random.default_rng(7)
    pool = Pool(CHUNK * (WITH_SYN + MSS), rng)
    for first in range(0, len(columns["time_us"]), CHUNK):
        part = {name: column[first : first + CHUNK] for name, column in columns.items()}
        is_syn = (part["flags"] & SYN) != 0
        header_octets = np.where(is_syn, WITH_SYN, PLAIN)
        record = np.minimum(header_octets + part["length"], snaplen + RECORD_OCTETS)
        start = np.cumsum(record) - record
        # a frame that is cut off still has the checksum of the whole: its payload is thought to stand at the front
        payload = start + header_octets if snaplen > MSS + 100 else np.zeros(len(start), np.int64)
        part["sum"] = pool.checksum(payload, part["length"])
        octets = headers(part, table, snaplen).view(np.uint8).reshape(-1, WITH_SYN)
        buffer = pool.data[: int(record.sum())].copy()
        plain = ~is_syn
        buffer[start[plain][:, None] + np.arange(PLAIN)] = octets[plain, :PLAIN]
        buffer[start[is_syn][:, None] + np.arange(WITH_SYN)] = octets[is_syn]
        output.write(buffer.data)


def flood(count: int, rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Array]]:
    """SYNs of distinct sources to one listener, unanswered, 200,000 a second."""
    number = np.arange(count)
    zeros = np.zeros(count, np.int64)
    # an odd multiplier permutes the 32-bit numbers: distinct sources that do not follow each other
    table = {
        "client": (number * 2_654_435_761) & 0xFFFFFFFF,
        "client_port": rng.integers(1024, 65536, count),
        "server": zeros + (172 << 24) + (16 << 16) + 1,
        "server_port": zeros + 443,
        "iss": np.stack([rng.integers(0, 1 << 32, count), zeros]),
        "ts": np.stack([rng.integers(0, 1 << 31, count), zeros]),
    }
    columns = {
        "connection": number, "direction": zeros, "flags": zeros + SYN, "length": zeros,
        "seq": table["iss"][0], "ack": zeros, "time_us": number * 5,
    }  # fmt: skip
    return columns, table


def generate(path: Path, kind: str, count: int, seed: int = 1) -> None:
    """Write a capture of `count` packets; `kind` is full, headers (snaplen 96) or flood."""
    rng = np.random.default_rng(seed)
    snaplen = 96 if kind == "headers" else 262_144
    columns, table = flood(count, rng) if kind == "flood" else packets(count, rng)
    part = path.with_suffix(".part")
    with part.open("wb") as output:
        output.write(np.array([0xA1B2C3D4, 2 | 4 << 16, 0, 0, snaplen, 1], "<u4").tobytes())
        write_packets(output, columns, table, snaplen)
    part.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=["full", "headers", "flood"], default="full")
    parser.add_argument("--packets", type=int, default=6_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    generate(arguments.output, arguments.kind, arguments.packets, arguments.seed)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {arguments.packets:,} packets, {size:,} octets, {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
