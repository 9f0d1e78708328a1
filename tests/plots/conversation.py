"""Connections for pictures: scapy packets told step by step, and made-up flows of any length."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy

import observer
from observer.schema import MARKS, Columns

BEGIN_S = 1_795_000_000.0
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
CLIENT_ISS, SERVER_ISS = 1000, 900_000
MARK = {name: bit for bit, name in MARKS.items()}


class Conversation:
    """Packets between a client and a server, 10 ms apart unless `wait` lets time pass."""

    def __init__(self, port: int = CLIENT[1]) -> None:
        self.packets: list[Any] = []
        self.port = port
        self.now = BEGIN_S
        self.next = [CLIENT_ISS, SERVER_ISS]

    def wait(self, seconds: float) -> Conversation:
        self.now += seconds
        return self

    def send(
        self, side: int, flags: str, length: int = 0, *, seq: int | None = None, again: bool = False
    ) -> Conversation:
        """A segment of the client (0) or the server (1); `again` repeats what was sent last, `seq` sends from there."""
        from scapy.all import IP, TCP, Raw

        size = length + ("S" in flags) + ("F" in flags)
        begin = self.next[side] - size if again else self.next[side] if seq is None else seq
        ends = ((CLIENT[0], self.port), SERVER)
        (source, sport), (target, dport) = ends[side], ends[1 - side]
        tcp = TCP(sport=sport, dport=dport, flags=flags, seq=begin, ack=self.next[1 - side] if "A" in flags else 0,
                  options=[("MSS", 1460)] if "S" in flags else [])  # fmt: skip
        packet = IP(src=source, dst=target) / tcp
        if length:
            packet /= Raw(b"x" * length)
        packet.time = self.now
        self.packets.append(packet)
        if seq is None and not again:
            self.next[side] += size
        self.now += 0.01
        return self

    def opening(self) -> Conversation:
        return self.send(0, "S").send(1, "SA").send(0, "A")

    def closing(self) -> Conversation:
        return self.send(0, "FA").send(1, "A").send(1, "FA").send(0, "A")

    def read(self) -> Any:
        return observer.read(self.packets)


def queue_full() -> Conversation:
    """connect() returns, the server repeats its SYN-ACK (so the ACK was not taken), data goes unanswered, then RST."""
    talk = Conversation().opening().wait(1).send(1, "SA", again=True).send(0, "A").wait(1).send(0, "PA", 46)
    for pause in (0.2, 0.4, 0.8, 1.6):
        talk.wait(pause).send(0, "PA", 46, again=True)
    return talk.wait(3).send(1, "R")


class MadeFlow:
    """A flow of any length that exists only as columns: what plots ask of a flow, and no more."""

    stream = 7

    def __init__(self, segments: int, **packets: Any) -> None:
        zeros = numpy.zeros(segments, numpy.int64)
        direction = numpy.arange(segments) % 2
        sent = numpy.cumsum(direction == 0) * 100
        base = {
            "frame": numpy.arange(1, segments + 1), "time": 10**18 + numpy.arange(segments) * 1000,
            "direction": direction, "seq": numpy.where(direction == 0, sent - 100, 1),
            "ack": numpy.where(direction == 0, 1, sent), "length": numpy.where(direction == 0, 100, 0),
            "window": zeros + 5000, "flags": zeros + 16, "label": zeros, "sack_left": zeros - 1,
            "sack_right": zeros - 1,
        }  # fmt: skip
        base.update(packets)
        self._tables = {
            "packets": Columns("packets", segments, base),
            "flows": Columns("flows", 1, {
                "client_addr": [-1], "client_port": [1], "server_addr": [-1], "server_port": [2], "ended": [3],
                "rst_sender": [-1], "client_state": [4], "server_state": [4], "completeness": [31],
            }),
            "transitions": Columns("transitions", 0, {
                name: numpy.zeros(0, numpy.int64)
                for name in ("endpoint", "frame", "time", "from_state", "to_state", "certainty", "proof_frame")
            }),
            "events": Columns("events", 0, {"frame": numpy.zeros(0, numpy.int64), "time": numpy.zeros(0, numpy.int64)}),
            "calls": Columns("calls", 0, {}),
        }  # fmt: skip
        self.observation = SimpleNamespace(columns=lambda table: Columns(table, 0, {"frames": []}))

    def columns(self, table: str) -> Columns:
        return self._tables[table]


def words_of(ax: Any) -> list[str]:
    """Every text in an Axes, titles and labels included, as it will be read."""
    from matplotlib.text import Text

    return [text.get_text().replace(r"\$", "$") for text in ax.findobj(Text) if text.get_text()]


def labelled(ax: Any, label: str) -> list[Any]:
    """The artists that a plot labelled so."""
    return [artist for artist in ax.findobj() if str(artist.get_label()).startswith(label)]
