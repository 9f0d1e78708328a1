"""The scenarios of a listener that does not keep up, and of openings whose answers get lost.

Registered beside those of scenarios.py and crowds.py. Behaviour noted here was measured on Linux 6.18.
"""

from __future__ import annotations

import socket

from .crowds import NO_COOKIES, race, syn
from .lab import Lab
from .scenarios import REQUEST, RESPONSE, exchange, finish, scenario
from .sockets import PORT, TCP_REPAIR, now, together

TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 20, 21  # linux/tcp.h
SEND_QUEUE, REPAIR_OFF_NO_PROBE = 2, -1


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_queue_full_data_at_once(lab: Lab) -> None:
    """As accept_queue_full, but the clients send as soon as connect() returns; the server drops that too, and resets
    when it has forgotten its requests after 7 s.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True, request=REQUEST)
    born = now()
    for client in stuck:
        client.recv()
        client.close()
    lab.wait(0.3)
    for client in clients:
        if client not in stuck:
            lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")
            continue
        lab.must_find(client, "half_established", "server", "accept_queue_full")
        lab.must_find(client, "half_established_reset", "server")
        lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
    lab.must_find(None, "accept_queue_overflow", "server", "accept_queue_full", level="may")


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_queue_full_data_late(lab: Lab) -> None:
    """As accept_queue_full, but the clients send after 10 s, when the server has forgotten its requests without a word:
    send() succeeds, and the RST that answers the data makes recv() fail with ECONNRESET.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True)
    born = now()
    lab.wait(10)
    for client in stuck:
        client.send(REQUEST)
    for client in stuck:
        client.recv()
        client.close()
    lab.wait(0.3)
    for client in clients:
        if client not in stuck:
            lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")
            continue
        lab.must_find(client, "half_established", "server", "accept_queue_full")
        lab.must_find(client, "half_established_reset", "server")
        lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
    lab.must_find(None, "accept_queue_overflow", "server", "accept_queue_full", level="may")


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_queue_full_never_sent(lab: Lab) -> None:
    """As accept_queue_full, but the stuck clients only receive: the server forgets its requests after 7 s without a
    word, and their recv() would wait for ever.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True)
    born = now()
    for client in stuck:
        client.patience(10)
    together(*(client.recv for client in stuck))
    for client in clients:
        if client not in stuck:
            lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")
            continue
        lab.must_find(client, "half_established", "server", "accept_queue_full")
        lab.must_find(client, "half_open", "client", level="may")
        lab.must_not_find(client, "half_established_reset", "nothing was reset")
        lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
    lab.must_find(None, "accept_queue_overflow", "server", "accept_queue_full", level="may")


@scenario(delay_s=0.01, sysctl={"server": NO_COOKIES})
def accept_queue_full_receive_only(lab: Lab) -> None:
    """As accept_queue_full_never_sent, and a neighbour in the queue sends after 9 s: the tap still works, so the
    silence of the others is theirs.
    """
    _, clients, stuck = race(lab, backlog=4, racing=5, hold=True)
    born = now()
    neighbour = next(client for client in clients if client not in stuck)

    def speak() -> None:
        lab.wait(9)
        neighbour.send(REQUEST)

    for client in stuck:
        client.patience(10)
    together(speak, *(client.recv for client in stuck))
    lab.wait(0.3)
    for client in clients:
        if client not in stuck:
            lab.must_not_find(client, "half_established", "the kernel completed it; it waits for accept()")
            continue
        lab.must_find(client, "half_established", "server", "accept_queue_full")
        lab.must_find(client, "half_open", "client", level="may")
        lab.must_not_find(client, "half_established_reset", "nothing was reset")
        lab.cannot_know(client, "server", born - 0.15, born + 1.1, "final ACK seen, first SYN-ACK repeat not yet")
    lab.must_find(None, "accept_queue_overflow", "server", "accept_queue_full", level="may")


@scenario(sysctl={"server": NO_COOKIES, "client": {"tcp_syn_retries": 2, "tcp_syn_linear_timeouts": 0}})
def syn_dropped(lab: Lab) -> None:
    """The accept queue is full while an accepted connection works: the SYNs of a later client are dropped, and its
    connect() fails with ETIMEDOUT after 7 s.
    """
    listener = lab.socket("server").bind().listen(1)
    client = lab.socket("client").connect()
    server = lab.accept(listener)
    for _ in range(2):
        lab.socket("client").connect()  # these two fill the queue: listen(n) admits n + 1
    late = lab.socket("client").bind(40091)

    def work() -> None:
        for _ in range(8):
            exchange(client, server)
            lab.wait(1)

    together(work, late.connect)
    finish(lab, client, server)
    lab.must_find(late, "syn_dropped", "server", "accept_queue_full")
    lab.must_find(None, "accept_queue_overflow", "server", "accept_queue_full", level="may")
    lab.must_find(client, "graceful_close", "client")


@scenario()
def syn_ack_lost(lab: Lab) -> None:
    """The first SYN-ACK is lost behind the server's tap: both sides repeat after 1 s, and all is well."""
    listener = lab.socket("server").bind().listen()
    lab.drop(f"tcp sport {PORT} tcp flags & (syn | ack) == syn | ack")

    def open_again() -> None:
        lab.wait(0.5)
        lab.flush()

    client = lab.socket("client")
    together(client.connect, open_again)
    server = lab.accept(listener)
    exchange(client, server)
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    for label in ("half_established", "syn_timeout", "syn_dropped"):
        lab.must_not_find(client, label, "one lost SYN-ACK, repaired")


@scenario(sysctl={"client": {"tcp_syn_retries": 2, "tcp_syn_linear_timeouts": 0}, "server": NO_COOKIES})
def syn_ack_never_arrives(lab: Lab) -> None:
    """Every SYN-ACK is lost behind the server's tap: connect() fails with ETIMEDOUT after 7 s, the server's request
    expires.
    """
    lab.socket("server").bind().listen()
    lab.drop(f"tcp sport {PORT}")
    client = lab.socket("client").bind(40092).connect()
    lab.wait(0.5)
    lab.must_find(client, "syn_timeout", "client", vantages=("client", "middle"))
    lab.must_find(client, "syn_timeout", "client", level="may", vantages=("server",))


@scenario(delay_s=0.04, quick=True)
def connect_cancelled(lab: Lab) -> None:
    """The client closes its socket while its SYN is on the way (40 ms each way): the SYN-ACK is answered by RST."""
    lab.socket("server").bind().listen()
    client = lab.socket("client").bind(40093)
    client.raw.setblocking(False)
    client.connect()
    lab.wait(0.03)
    client.close()
    lab.wait(0.3)
    lab.must_find(client, "handshake_aborted", "client")


@scenario(quick=True, only_ipv4=True)
def time_wait_reuse_refused(lab: Lab) -> None:
    """An old SYN meets the server's TIME-WAIT: the server answers with an ACK of the old connection, and the client's
    host resets it.
    """
    client, server, _ = lab.pair(port=40094)
    client.tcp(TCP_REPAIR, 1).tcp(TCP_REPAIR_QUEUE, SEND_QUEUE)
    sent = client.raw.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
    client.tcp(TCP_REPAIR, REPAIR_OFF_NO_PROBE)
    exchange(client, server)
    finish(lab, server, client)
    source, target = (lab.network.addresses[role][0] for role in ("client", "server"))
    forged = now()
    lab.raw("client", syn(source, target, 40094, PORT, seq=(sent - 5000) & 0xFFFFFFFF), target)
    lab.wait(0.3)
    lab.cannot_know(client, "client", forged, now() + 1, "a raw socket sent the SYN: no endpoint has a state")
    lab.must_find(client, "graceful_close", "server")
    lab.must_find(None, "port_exhaustion", "client", "refused_by_time_wait", level="may")
    for label in ("half_open", "half_open_reconnect", "half_established"):
        lab.must_not_find(client, label, "the server had closed in order")


@scenario(sysctl={"client": {"tcp_ecn": 1}, "server": {"tcp_ecn": 1}}, quick=True)
def ecn(lab: Lab) -> None:
    """Both hosts agree on ECN (SYN with ECE and CWR): ordinary life."""
    client, server, _ = lab.pair()
    client.send(REQUEST)
    server.recv()
    server.send(RESPONSE)
    client.recv()
    finish(lab, client, server)
    lab.must_find(client, "ecn", "client", level="may")
    lab.must_find(client, "graceful_close", "client")
