"""The scenarios of one connection at a time: ordinary life, and what goes wrong with it.

Each is a function of a ``Lab``, registered by ``@scenario`` under its name; it drives the sockets, breaks the path,
and says what an observer must find, must not find and cannot know. ``run`` plays one. Never a random choice: what a
scenario shows is the same each time, up to the kernel's own timing, ports and sequence numbers.

Behaviour noted here was measured on Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .lab import Lab
from .sockets import PORT, TCP_DEFER_ACCEPT, TCP_FASTOPEN, Sock, now, together

REQUEST = "GET /status HTTP/1.1\r\nHost: example\r\n\r\n"
RESPONSE = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"

Sysctl = Mapping[str, Mapping[str, int | str]]


@dataclass(slots=True, frozen=True)
class Scenario:
    """A registered scenario; ``quick`` ones take less than about two seconds, ``slow`` ones a minute.

    ``only_ipv4`` ones send segments of their own making.
    """

    name: str
    about: str
    play: Callable[[Lab], None]
    delay_s: float = 0.0
    sysctl: Sysctl = field(default_factory=dict)
    quick: bool = False
    reorder_every: int = 0
    slow: bool = False
    only_ipv4: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *,
    delay_s: float = 0.0,
    sysctl: Sysctl | None = None,
    quick: bool = False,
    reorder_every: int = 0,
    slow: bool = False,
    only_ipv4: bool = False,
) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Register a scenario under its function's name; its docstring is what it is about."""

    def register(play: Callable[[Lab], None]) -> Callable[[Lab], None]:
        about = " ".join((play.__doc__ or "").split())
        SCENARIOS[play.__name__] = Scenario(
            play.__name__, about, play, delay_s, sysctl or {}, quick, reorder_every, slow, only_ipv4
        )
        return play

    return register


def run(name: str, folder: Path, *, ipv6: bool = False) -> Lab:
    """Play one scenario; the captures are then in ``folder`` and the truth in the returned Lab.

    With ``ipv6`` the same over IPv6.
    """
    chosen = SCENARIOS[name]
    if ipv6 and chosen.only_ipv4:
        raise ValueError(f"{name} sends IPv4 segments of its own making")
    options = {"delay_s": chosen.delay_s, "sysctl": chosen.sysctl, "reorder_every": chosen.reorder_every}
    with Lab(chosen.name, chosen.about, folder, ipv6=ipv6, **options) as lab:
        chosen.play(lab)
    return lab


def exchange(client: Sock, server: Sock) -> None:
    """One request and its answer."""
    client.send(REQUEST)
    server.recv()
    server.send(RESPONSE)
    client.recv()


def finish(lab: Lab, first: Sock, second: Sock) -> None:
    """``first`` closes, ``second`` reads the end of file and closes."""
    first.close()
    second.recv()
    lab.wait(0.1)
    second.close()
    lab.wait(0.1)


# Orderly life


@scenario(quick=True)
def client_closes_first(lab: Lab) -> None:
    """A request, its answer, and an orderly close; the client closes first and holds TIME-WAIT."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.1)
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")


@scenario(quick=True)
def server_closes_first(lab: Lab) -> None:
    """A request, its answer, and an orderly close; the server closes first and holds TIME-WAIT."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.1)
    finish(lab, server, client)
    lab.must_find(client, "graceful_close", "server")


@scenario(delay_s=0.02, quick=True)
def simultaneous_close(lab: Lab) -> None:
    """Both applications close within one one-way delay (20 ms): both endpoints pass CLOSING and end in TIME-WAIT."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.2)
    together(client.close, server.close)
    lab.wait(0.3)
    lab.must_find(client, "simultaneous_close", "both")


@scenario(delay_s=0.02, quick=True)
def simultaneous_open(lab: Lab) -> None:
    """Both hosts connect to each other's bound port at the same moment (20 ms each way): no listener anywhere."""
    client = lab.socket("client").bind(40001)
    server = lab.socket("server").bind(PORT)
    together(lambda: client.connect(PORT), lambda: server.connect(40001))
    exchange(client, server)
    lab.wait(0.1)
    finish(lab, client, server)
    lab.wait(0.1)
    lab.must_find(client, "simultaneous_open", "both")
    lab.must_find(client, "graceful_close", "client")


@scenario()
def half_close(lab: Lab) -> None:
    """The client shuts its sending half down after the request; the server goes on sending for 1.5 s, then closes."""
    client, server, _ = lab.pair()
    client.send(REQUEST)
    server.recv()
    client.shutdown()
    server.recv()
    for number in range(5):
        lab.wait(0.3)
        server.send(f"line {number} of a long answer\n")
        client.recv()
    finish(lab, server, client)
    lab.must_find(client, "half_closed", "client")
    lab.must_find(client, "graceful_close", "client")
    lab.must_not_find(client, "close_wait_leak", "the server is still sending")


@scenario(quick=True)
def ipv6(lab: Lab) -> None:
    """The same over IPv6: an orderly close by the client, then a connection refused."""
    client, server, _ = lab.pair(ipv6=True)
    exchange(client, server)
    lab.wait(0.1)
    finish(lab, client, server)
    refused = lab.socket("client", ipv6=True).bind(40002).connect(5999)
    lab.wait(0.1)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(refused, "refused", "server")


@scenario(sysctl={"client": {"tcp_fastopen": 1}, "server": {"tcp_fastopen": 2}}, quick=True)
def fast_open(lab: Lab) -> None:
    """TCP Fast Open: the first connection asks for a cookie, the second sends its request with the SYN."""
    listener = lab.socket("server").bind().tcp(TCP_FASTOPEN, 5).listen()
    for _ in range(2):
        client = lab.socket("client").send_on_connect(REQUEST.encode())
        server = lab.accept(listener)
        server.recv()
        server.send(RESPONSE)
        client.recv()
        lab.wait(0.1)
        finish(lab, client, server)
    lab.must_find(client, "fast_open", "client")
    lab.must_find(client, "graceful_close", "client")


@scenario()
def keepalive_answered(lab: Lab) -> None:
    """An idle connection with keepalive probes each second, all answered, and an orderly close: nothing is wrong."""
    client, server, _ = lab.pair()
    client.keepalive(idle_s=1, interval_s=1, count=3)
    exchange(client, server)
    lab.wait(4.3)
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "keepalive_answered", "client", level="may")
    for label in ("half_open", "keepalive_timeout", "send_timeout"):
        lab.must_not_find(client, label, "every probe is answered")


@scenario(quick=True)
def loss_recovered(lab: Lab) -> None:
    """57 kB with every ninth data segment to the server lost once, repaired by retransmission; then an orderly
    close.
    """
    client, server, _ = lab.pair(port=40010)
    lab.drop("meta length > 1000 numgen inc mod 9 == 4")
    client.sendall(b"All work and no play makes Jack a dull boy.\n" * 1300)
    client.shutdown()
    server.read_to_end()
    lab.flush()
    server.close()
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "retransmission", "client", vantages=("client", "middle"))
    for label in ("half_open", "send_timeout"):
        lab.must_not_find(client, label, "the loss is recovered")


@scenario(delay_s=0.01, reorder_every=7, quick=True)
def reordering(lab: Lab) -> None:
    """57 kB over a path that lets every seventh large frame wait 3 ms longer: out of order, nothing lost."""
    client, server, _ = lab.pair()
    client.sendall(b"All work and no play makes Jack a dull boy.\n" * 1300)
    client.shutdown()
    server.read_to_end()
    server.close()
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "out_of_order", "client", level="may", vantages=("middle", "server"))
    for label in ("half_open", "send_timeout"):
        lab.must_not_find(client, label, "nothing is lost")


# How opening fails


@scenario(quick=True)
def refused(lab: Lab) -> None:
    """Nobody listens: each SYN is answered by RST,ACK, and connect() fails with ECONNREFUSED."""
    for port in (40021, 40022, 40023):
        client = lab.socket("client").bind(port).connect(5999)
        lab.must_find(client, "refused", "server")
        lab.wait(0.1)


@scenario(sysctl={"client": {"tcp_syn_retries": 3, "tcp_syn_linear_timeouts": 0}})
def syn_to_dead_host(lab: Lab) -> None:
    """The SYN and its three repeats (after 1, 3 and 7 s) vanish; connect() fails with ETIMEDOUT after 15 s, no RST."""
    lab.drop('oifname "s0"')
    client = lab.socket("client").bind(40031).connect()
    lab.wait(0.3)
    lab.must_find(client, "syn_timeout", "client", vantages=("client", "middle"))


@scenario(delay_s=0.01, sysctl={"client": {"tcp_syn_retries": 3, "tcp_syn_linear_timeouts": 0}}, quick=True)
def icmp_unreachable(lab: Lab) -> None:
    """The router answers one SYN with ICMP host unreachable and one with port unreachable; connect() fails at once."""
    for port, kind in ((40041, "host-unreachable"), (40042, "port-unreachable")):
        lab.rule(f"tcp sport {port} reject with icmpx type {kind}")
        client = lab.socket("client").bind(port).connect()
        lab.wait(0.3)
        lab.must_find(client, "icmp_unreachable", "client", kind.split("-")[0], vantages=("client", "middle"))


@scenario()
def deferred_accept(lab: Lab) -> None:
    """TCP_DEFER_ACCEPT: the server ignores the bare ACK until data comes 0.5 s later. Looks half-established, is
    not.
    """
    listener = lab.socket("server").bind().tcp(TCP_DEFER_ACCEPT, 5).listen()
    for pause_s in (0.5, 1.5):
        client = lab.socket("client").connect()
        acked = now()
        lab.wait(pause_s)
        lab.cannot_know(client, "server", acked - 0.001, now() + 0.01, "deferred accept looks like an accepted ACK")
        client.send(REQUEST)
        server = lab.accept(listener)
        server.recv()
        server.send(RESPONSE)
        client.recv()
        finish(lab, client, server)
        lab.must_find(client, "graceful_close", "client")
        lab.must_find(client, "deferred_accept", "server", level="may")
        lab.must_not_find(client, "half_established", "the server waits for data on purpose")


@scenario()
def final_ack_lost(lab: Lab) -> None:
    """The handshake's last ACK is lost behind the tap in the middle: the SYN-ACK is repeated after 1 s, then all is
    well.
    """
    listener = lab.socket("server").bind().listen()
    lab.drop("tcp dport 5001 tcp flags & (syn|ack|fin|rst|psh) == ack")
    client = lab.socket("client").connect()
    acked = now()
    lab.wait(0.1)
    lab.flush()
    server = lab.accept(listener)
    why = "the final ACK was lost behind this tap, no repeat seen yet"
    lab.cannot_know(client, "server", acked - 0.001, now(), why, vantages=("client", "middle"))
    exchange(client, server)
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "half_established", "server", "final_ack_lost", level="may")
