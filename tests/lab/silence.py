"""The scenarios of hosts and paths that fall silent, of timers that run out, and of resets that prove nothing.

Registered beside those of scenarios.py and faults.py. Behaviour noted here was measured on Linux 6.18.
"""

from __future__ import annotations

import socket
import struct

from .lab import Lab
from .queues import REPAIR_OFF_NO_PROBE, TCP_QUEUE_SEQ, TCP_REPAIR_QUEUE
from .scenarios import REQUEST, RESPONSE, exchange, finish, scenario
from .sockets import PORT, TCP_REPAIR, Sock, together

NEAR = ("client", "middle")
RECEIVE_QUEUE = 1  # linux/tcp.h
RST = 4


@scenario()
def path_cut_recovers(lab: Lab) -> None:
    """The path is cut for 1.5 s while a request is on its way: it is retransmitted, answered, and all is well."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.drop("meta l4proto tcp")
    client.send(REQUEST)
    lab.wait(1.5)
    lab.flush()
    server.recv()
    server.send(RESPONSE)
    client.recv()
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "retransmission", "client", vantages=NEAR)
    for label in ("half_open", "send_timeout"):
        lab.must_not_find(client, label, "the path came back")


@scenario()
def server_unplugged(lab: Lab) -> None:
    """The server's cable is pulled for 2 s: the router answers with ICMP unreachable, the client keeps trying, and the
    request arrives when the cable is back.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.network.unplug("server")
    lab.note("cable pulled", role="server")
    client.send(REQUEST)
    lab.wait(2)
    lab.network.replug("server")
    lab.note("cable back", role="server")
    server.recv()
    server.send(RESPONSE)
    client.recv()
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "icmp_unreachable", "client", level="may", vantages=NEAR)
    for label in ("half_open", "send_timeout"):
        lab.must_not_find(client, label, "the connection lives on")


@scenario(sysctl={"client": {"tcp_retries2": 4}})
def send_timeout(lab: Lab) -> None:
    """The path is cut for good; the client's data is retransmitted five times (tcp_retries2 = 4), then recv() fails
    with ETIMEDOUT. No RST.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.drop("meta l4proto tcp")
    client.send(REQUEST)
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "send_timeout", "client", vantages=NEAR)
    lab.must_find(client, "half_open", "client", level="may", vantages=NEAR)


@scenario(sysctl={"server": {"tcp_retries2": 4}})
def send_timeout_server(lab: Lab) -> None:
    """The client's host vanishes while the server answers: the server retransmits and gives up; its next send()
    fails.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.drop("meta l4proto tcp")
    lab.wait(0.2)
    client.crash()
    server.send(RESPONSE)
    server.recv()
    server.send(RESPONSE)
    server.close()
    lab.wait(0.2)
    lab.must_find(client, "send_timeout", "server", vantages=("server",))
    lab.must_find(client, "half_open", "server", "peer_vanished", level="may", vantages=("server",))


@scenario()
def receiver_never_notices(lab: Lab) -> None:
    """The server's host loses power under a client that only receives: nothing is sent any more, and its recv()
    would wait for ever. On the wire the connection is idle.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.2)
    lab.drop('oifname "s0"')
    server.crash()
    client.patience(4)
    client.recv()
    for label in ("half_open", "send_timeout", "keepalive_timeout"):
        lab.must_not_find(client, label, "idle: nothing on the wire tells that the peer is gone")


@scenario()
def client_rebooted(lab: Lab) -> None:
    """The client's host crashes and is up again: the server's next data draws a RST from a host without memory."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.3)
    client.crash()
    lab.wait(0.5)
    server.send(RESPONSE)
    server.recv()
    server.close()
    lab.wait(0.2)
    lab.must_find(client, "half_open", "server", "peer_rebooted")
    lab.must_find(client, "reset_on_close", "client", "no_socket", level="may")


@scenario(quick=True)
def process_killed_idle(lab: Lab) -> None:
    """The server's process is killed with nothing unread: the kernel closes for it, in order, with FIN."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.1)
    server.kill()
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "graceful_close", "server")
    lab.must_not_find(client, "reset_on_close", "the kernel closed with FIN")


def _closes_into_the_void(lab: Lab, client: Sock) -> None:
    lab.drop("meta l4proto tcp")
    client.close()
    lab.wait(8)
    lab.must_find(client, "send_timeout", "client", level="may", vantages=NEAR)
    lab.must_find(client, "half_open", "server", level="may", vantages=NEAR)
    lab.must_find(client, "half_open", "client", level="may", vantages=NEAR)


@scenario(sysctl={"client": {"tcp_orphan_retries": 4}})
def last_ack_gives_up(lab: Lab) -> None:
    """The server has closed; when the client closes too the path is cut: its FIN is repeated five times, then LAST-ACK
    ends without a word.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    server.close()
    client.recv()
    lab.wait(0.2)
    _closes_into_the_void(lab, client)
    lab.must_find(client, "fin_wait_2_expired", "server", level="may")


@scenario(sysctl={"client": {"tcp_orphan_retries": 4}})
def fin_wait_1_gives_up(lab: Lab) -> None:
    """The path is cut when the client closes: its FIN is repeated five times, FIN-WAIT-1 ends without a word, and the
    server believes in the connection for ever.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.2)
    _closes_into_the_void(lab, client)


@scenario(sysctl={"client": {"tcp_fin_timeout": 3}})
def fin_wait_2_expired(lab: Lab) -> None:
    """The client closes; the server closes 5 s later, when the client's FIN-WAIT-2 has expired (tcp_fin_timeout = 3):
    its FIN draws a bare RST.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    client.close()
    server.recv()
    lab.wait(5)
    server.close()
    lab.wait(0.3)
    lab.must_find(client, "fin_wait_2_expired", "client")
    lab.must_find(client, "close_wait_leak", "server", level="may")
    lab.must_find(client, "reset_on_close", "client", "data_after_close", level="may")
    lab.must_not_find(client, "half_open", "the client had closed")


@scenario(slow=True)
def time_wait_full(lab: Lab) -> None:
    """An orderly close and the whole TIME-WAIT of 60 s, after which the same port serves again."""
    listener = lab.socket("server").bind().listen()
    for pause_s in (62.0, 0.1):
        client = lab.socket("client").bind(40095).connect()
        server = lab.accept(listener)
        exchange(client, server)
        finish(lab, client, server)
        lab.wait(pause_s)
        lab.must_find(client, "graceful_close", "client")


@scenario()
def zero_window_peer_vanished(lab: Lab) -> None:
    """The server's window closes, then its host vanishes: the client's window probes go unanswered, and it gives up
    after 6 s (TCP_USER_TIMEOUT).
    """
    listener = lab.socket("server").bind().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096).listen()
    client = lab.socket("client").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384).connect()
    server = lab.accept(listener)
    client.tcp(socket.TCP_USER_TIMEOUT, 6000)

    def cut() -> None:
        lab.wait(1.5)
        lab.drop('oifname "s0"')
        server.crash()

    together(lambda: client.sendall(b"The quick brown fox jumps over the lazy dog.\n" * 4000), cut)
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "zero_window", "server")
    lab.must_find(client, "send_timeout", "client", level="may", vantages=NEAR)
    lab.must_find(client, "half_open", "client", level="may", vantages=NEAR)


@scenario(quick=True, only_ipv4=True)
def blind_reset(lab: Lab) -> None:
    """Somebody forges RSTs in the server's name: one outside the client's window (dropped), one inside it but not
    exact (a challenge ACK, RFC 5961 3). The connection lives on.
    """
    client, server, _ = lab.pair(port=40096)
    exchange(client, server)
    client.tcp(TCP_REPAIR, 1).tcp(TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
    expected = client.raw.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
    client.tcp(TCP_REPAIR, REPAIR_OFF_NO_PROBE)
    source, target = (lab.network.addresses[role][0] for role in ("server", "client"))
    for off in (0x4000_0000, 1000):
        forged = _ip(source, target, _rst(source, target, 40096, seq=(expected + off) & 0xFFFFFFFF))
        lab.raw("router", forged, target, whole=True)
        lab.wait(0.1)
    exchange(client, server)
    finish(lab, client, server)
    lab.must_find(client, "graceful_close", "client")
    lab.must_find(client, "injected_reset", "server", level="may", vantages=NEAR)
    for label in ("reset_on_close", "half_open"):
        lab.must_not_find(client, label, "no RST was accepted; the connection went on")


def _rst(source: str, target: str, port: int, *, seq: int) -> bytes:
    """A bare RST from the usual port, with its checksum (RFC 9293 3.1)."""
    head = struct.pack(">HHIIBBHHH", PORT, port, seq, 0, 5 << 4, RST, 0, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">HH", socket.IPPROTO_TCP, len(head))
    total = sum(struct.unpack(f">{len(pseudo + head) // 2}H", pseudo + head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:16] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]


def _ip(source: str, target: str, payload: bytes) -> bytes:
    """An IPv4 header of a new host's kernel; the sending kernel fills length, identification and checksum in."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    return struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses + payload
