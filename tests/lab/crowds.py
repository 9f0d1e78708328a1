"""The scenarios that need many connections at once: full queues, pile-ups, floods.

Registered beside those of scenarios.py. Bounded: some hundred connections at most, inside the laboratory's namespaces.
"""

from __future__ import annotations

import functools
import socket
import struct
import time

from .lab import Lab
from .scenarios import REQUEST, RESPONSE, exchange, scenario
from .sockets import PORT, Sock, name, now, together

NO_COOKIES = {"tcp_syncookies": 0, "tcp_synack_retries": 2}
FIRST_PORT = 40170


def race(lab: Lab, *, backlog: int, racing: int, hold: bool, request: str = "") -> tuple[Sock, list[Sock], list[Sock]]:
    """Fill the accept queue but for one place, then ``racing`` handshakes at once: (listener, all, stuck).

    With the queue full Linux drops new SYNs; only handshakes that race within a round trip end up half-established.
    It also drops SYNs beyond ``backlog`` + 1 requests, so no more than that may race. With ``request`` each sends it as
    soon as its connect() returns.
    """

    def open_one(client: Sock) -> None:
        client.connect()
        if request:
            client.send(request)

    listener = lab.socket("server").bind().listen(backlog)
    clients = [lab.socket("client").bind(FIRST_PORT + number) for number in range(backlog + racing)]
    for client in clients[:backlog]:
        client.connect()
        lab.wait(0.05)
        client.send(REQUEST)
    lab.wait(0.2)
    together(*(functools.partial(open_one, client) for client in clients[backlog:]))
    lab.wait(0.1)
    if not hold:
        return listener, clients, []
    # listen(n) admits n + 1: whoever won the last place is told by the kernel.
    done = {client.raw.fileno() for client in clients if _server_has(lab, client)}
    return listener, clients, [client for client in clients if client.raw.fileno() not in done]


def _server_has(lab: Lab, client: Sock) -> bool:
    """Whether the server's kernel holds this connection as a full socket (inet_diag), not as a request."""
    from . import diag  # it also runs alone, so nothing in it may depend on the package

    with lab.network.namespaces["server"].entered():
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    with netlink:
        assert client.local and client.remote
        return diag.dump(netlink).get(f"{name(client.remote)}>{name(client.local)}") == "ESTABLISHED"


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_queue_full(lab: Lab) -> None:
    """listen(4) and no accept(): five connections wait in the queue, four that raced for the last place are
    half-established. Their clients send after 2 s; the server drops it all, forgets its requests after 7 s, and
    answers the next retransmission with RST.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True)
    born = now()
    lab.wait(2)
    for client in stuck:
        client.send("POST /order HTTP/1.1\r\nHost: example\r\n\r\nqty=1\n\n")
    for client in stuck:
        client.recv()
        client.close()
    lab.wait(0.3)
    for client in clients:
        if client in stuck:
            lab.must_find(client, "half_established", "server", "accept_queue_full")
            lab.must_find(client, "half_established_reset", "server")
            lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
        else:
            lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_resumes(lab: Lab) -> None:
    """The accept queue is full for 2 s, then the server accepts again: the half-established connections recover."""
    listener, clients, stuck = race(lab, backlog=4, racing=4, hold=True)
    born = now()
    lab.wait(2)
    servers = [lab.accept(listener) for _ in range(len(clients))]
    for client in clients[4:]:
        client.send(REQUEST)
    for client in stuck:
        lab.must_find(client, "half_established", "server", "accept_queue_full")
        lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
    for server in servers:
        server.recv()
        server.send(RESPONSE)
    for client in clients:
        client.recv()
        client.close()
    lab.wait(0.1)
    for server in servers:
        server.close()
    lab.wait(0.2)


@scenario(delay_s=0.01, sysctl={"server": {"tcp_abort_on_overflow": 1, "tcp_syncookies": 0}}, quick=True)
def abort_on_overflow(lab: Lab) -> None:
    """The accept queue is full and tcp_abort_on_overflow is 1: the third ACK of whoever lost the race is answered by
    a RST.
    """
    _, clients, _ = race(lab, backlog=3, racing=4, hold=False)
    for client in clients[3:]:
        client.send(REQUEST)
        if client.error:
            lab.must_find(client, "accept_overflow_reset", "server")
    lab.wait(0.2)


@scenario(delay_s=0.01, sysctl={"server": {"tcp_syncookies": 2}})
def syn_cookies(lab: Lab) -> None:
    """Accept queue full with SYN cookies always on: the server keeps no request, so it repeats nothing; a stuck
    client's data is retransmitted unanswered and never refused.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True)
    born = now()
    for client in stuck:
        client.send(REQUEST)
        lab.must_find(client, "half_established", "server", "accept_queue_full", level="may")
        lab.cannot_know(client, "server", born - 0.15, born + 6, "a cookie leaves no request and no repeat")
    lab.wait(5)
    for client in set(clients) - set(stuck):
        lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")


@scenario(sysctl={"client": {"ip_local_port_range": "50000 50049", "tcp_tw_reuse": 0}})
def port_exhaustion(lab: Lab) -> None:
    """Fifty ephemeral ports, all used up by connections in the client's TIME-WAIT: connect() fails with
    EADDRNOTAVAIL.
    """
    listener = lab.socket("server").bind().listen()
    for _ in range(51):
        client = lab.socket("client").connect()
        if client.error:
            break
        server = lab.accept(listener)
        exchange(client, server)
        client.close()
        server.close()
    lab.wait(0.2)
    lab.must_find(None, "port_exhaustion", "client", level="may")


@scenario()
def time_wait_pileup(lab: Lab) -> None:
    """A client opens 300 short connections to one service and closes each first: 300 ports in TIME-WAIT on the
    client's side.
    """
    listener = lab.socket("server").bind().listen()
    for _ in range(300):
        client = lab.socket("client").connect()
        server = lab.accept(listener)
        exchange(client, server)
        client.close()
        server.close()
    lab.wait(0.2)
    lab.must_find(None, "time_wait_pileup", "client", level="may")


@scenario(sysctl={"server": {"tcp_synack_retries": 1, "tcp_syncookies": 0}}, only_ipv4=True)
def half_open_scan(lab: Lab) -> None:
    """A scanner sends raw SYNs: to a listening port (its kernel answers the SYN-ACK with RST) and to closed ones
    (refused).
    """
    lab.socket("server").bind().listen()
    source, target = lab.network.addresses["client"][0], lab.network.addresses["server"][0]
    for number, port in enumerate((PORT, 22, 80, 443)):
        lab.raw("client", syn(source, target, 41000 + number, port), target)
        time.sleep(0.05)
    lab.wait(0.3)
    lab.must_find(f"{source}:41000>{target}:{PORT}", "handshake_aborted", "client")
    for number, port in ((1, 22), (2, 80), (3, 443)):
        lab.must_find(f"{source}:{41000 + number}>{target}:{port}", "refused", "server")


@scenario(sysctl={"server": {"tcp_synack_retries": 1, "tcp_syncookies": 0, "tcp_max_syn_backlog": 128}}, only_ipv4=True)
def syn_flood(lab: Lab) -> None:
    """200 raw SYNs of which no SYN-ACK is ever acknowledged (the router drops them): embryonic connections pile up,
    one repeat each.
    """
    lab.socket("server").bind().listen()
    lab.drop(f"tcp sport {PORT}")
    source, target = lab.network.addresses["client"][0], lab.network.addresses["server"][0]
    for number in range(200):
        lab.raw("client", syn(source, target, 42000 + number, PORT), target)
        time.sleep(0.005)
    lab.wait(3.5)
    lab.must_find(None, "syn_flood", "server", vantages=("server",))
    lab.must_find(None, "syn_flood", "server", level="may", vantages=("client", "middle"))


def syn(source: str, target: str, sport: int, dport: int, *, seq: int | None = None) -> bytes:
    """A bare SYN with its checksum (RFC 9293 3.1); the raw socket adds the IP header."""
    head = struct.pack(">HHIIBBHHH", sport, dport, 1000 * sport if seq is None else seq, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">HH", socket.IPPROTO_TCP, len(head))
    total = sum(struct.unpack(f">{len(pseudo + head) // 2}H", pseudo + head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:16] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]
