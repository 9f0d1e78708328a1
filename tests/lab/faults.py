"""The scenarios in which one connection ends badly, one side dies, or one side does not do its part.

Registered beside those of scenarios.py, in the same form. Behaviour noted here was measured on Linux 6.18.
"""

from __future__ import annotations

import socket

from .lab import Lab
from .scenarios import REQUEST, exchange, finish, scenario
from .sockets import PORT, TCP_USER_TIMEOUT, together

# How a connection ends badly


@scenario(quick=True)
def linger0_client(lab: Lab) -> None:
    """The client closes with SO_LINGER 0: RST instead of FIN, no TIME-WAIT, and recv() of the server fails."""
    client, server, _ = lab.pair()
    exchange(client, server)
    client.linger0()
    lab.wait(0.1)
    client.close()
    lab.wait(0.1)
    server.recv()
    server.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "client", "linger_0")


@scenario(quick=True)
def linger0_server(lab: Lab) -> None:
    """The server closes with SO_LINGER 0 after its answer: the client's recv() fails with ECONNRESET."""
    client, server, _ = lab.pair()
    exchange(client, server)
    server.linger0()
    lab.wait(0.1)
    server.close()
    client.recv()
    client.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "server", "linger_0")


@scenario(quick=True)
def close_with_unread_data(lab: Lab) -> None:
    """The server closes while a request lies unread in its buffer: RST instead of FIN, and its answer is lost."""
    client, server, _ = lab.pair()
    exchange(client, server)
    lab.wait(0.1)
    client.send(REQUEST)
    lab.wait(0.1)
    server.close()
    client.recv()
    client.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "server", "unread_data")


@scenario(quick=True)
def data_after_close(lab: Lab) -> None:
    """The server has closed both halves; the client sends all the same, and a bare RST answers it."""
    client, server, _ = lab.pair()
    exchange(client, server)
    server.close()
    lab.wait(0.2)
    client.send("one more thing\n")
    lab.wait(0.1)
    client.send("and another\n")
    client.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "server", "data_after_close")


@scenario(quick=True)
def rst_answers_fin(lab: Lab) -> None:
    """The client's FIN is answered by RST: the server closes with SO_LINGER 0 as soon as it reads the end of file."""
    client, server, _ = lab.pair()
    exchange(client, server)
    server.linger0()
    client.close()
    server.recv()
    server.close()
    lab.wait(0.2)
    lab.must_find(client, "reset_on_close", "server", "after_peer_fin")


@scenario(quick=True)
def process_killed(lab: Lab) -> None:
    """The server's process is killed while a request is unread: the kernel closes for it, with RST."""
    client, server, _ = lab.pair()
    exchange(client, server)
    client.send(REQUEST)
    lab.wait(0.1)
    server.kill()
    client.recv()
    client.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "server", "unread_data")


@scenario(quick=True)
def injected_reset(lab: Lab) -> None:
    """The router forges a RST to the client in the midst of a healthy connection; the server knows nothing of it."""
    client, server, _ = lab.pair(port=40051)
    for _ in range(3):
        exchange(client, server)
        lab.wait(0.05)
    lab.rule(f"tcp sport 40051 tcp dport {PORT} meta length > 60 reject with tcp reset")
    client.send(REQUEST)
    client.recv()
    client.close()
    lab.wait(0.5)
    lab.must_find(client, "injected_reset", "server", vantages=("client", "middle"))


@scenario(quick=True)
def listener_closed(lab: Lab) -> None:
    """The server closes its listener while three connections wait in the accept queue: the kernel resets all three."""
    listener = lab.socket("server").bind().listen()
    clients = [lab.socket("client").connect() for _ in range(3)]
    for client in clients[1:]:
        client.send(REQUEST)
    lab.wait(0.1)
    listener.close()
    lab.wait(0.1)
    for client in clients:
        client.recv()
        client.close()
        lab.must_find(client, "reset_on_close", "server", "listener_closed")
    lab.wait(0.1)


@scenario()
def reset_lost(lab: Lab) -> None:
    """The server resets, the RST is lost; the client learns of it only when its next data draws a bare RST."""
    client, server, _ = lab.pair()
    exchange(client, server)
    server.linger0()
    lab.drop("tcp flags rst")
    server.close()
    lab.wait(1)
    lab.flush()
    client.send("are you there?\n")
    client.recv()
    client.close()
    lab.wait(0.1)
    lab.must_find(client, "reset_on_close", "server", "linger_0", vantages=("server",))
    lab.must_find(client, "half_open", "client", None, vantages=("client", "middle"))


@scenario()
def icmp_established(lab: Lab) -> None:
    """The router answers everything for the server with ICMP host unreachable: the client gives up after 4 s, no
    RST.
    """
    client, server, _ = lab.pair()
    client.tcp(TCP_USER_TIMEOUT, 4000)
    exchange(client, server)
    lab.wait(0.2)
    lab.rule('oifname "s0" reject with icmpx type host-unreachable')
    server.crash()
    client.send("are you there?\n")
    client.recv()
    client.close()
    lab.wait(0.2)
    near = ("client", "middle")
    lab.must_find(client, "icmp_unreachable", "client", "host", vantages=near)
    lab.must_find(client, "send_timeout", "client", level="may", vantages=near)
    lab.must_find(client, "half_open", "client", "peer_vanished", level="may", vantages=near)


# How one side dies


@scenario()
def peer_vanished(lab: Lab) -> None:
    """The server's host loses power; the client sends, retransmits with back-off, and gives up after 5 s: ETIMEDOUT,
    no RST.
    """
    client, server, _ = lab.pair()
    client.tcp(TCP_USER_TIMEOUT, 5000)
    exchange(client, server)
    lab.wait(0.3)
    lab.drop('oifname "s0"')
    server.crash()
    lab.wait(0.2)
    client.send("are you there?\n")
    client.recv()
    client.close()
    lab.wait(0.2)
    near = ("client", "middle")
    lab.must_find(client, "send_timeout", "client", vantages=near)
    lab.must_find(client, "half_open", "client", "peer_vanished", vantages=near)


@scenario()
def peer_rebooted(lab: Lab) -> None:
    """The server's host crashes and is up again before the client sends: a RST from a host without memory answers."""
    client, server, listener = lab.pair()
    exchange(client, server)
    lab.wait(0.2)
    server.crash()
    listener.close()
    lab.network.unplug("server")
    lab.note("power off", role="server")
    lab.wait(1.0)
    lab.network.replug("server")
    lab.note("power on", role="server")
    lab.wait(0.5)
    client.send("are you there?\n")
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "half_open", "client", "peer_rebooted")
    lab.must_find(client, "reset_on_close", "server", "no_socket", level="may")


@scenario()
def half_open_reconnect(lab: Lab) -> None:
    """The client crashes and connects again from the same port: challenge ACK, RST, a new SYN, success (RFC 9293
    3.5.1).
    """
    client, server, listener = lab.pair(port=40061)
    exchange(client, server)
    lab.wait(0.3)
    client.crash()
    lab.wait(0.5)
    again = lab.socket("client").bind(40061).connect()
    accepted = lab.accept(listener)
    server.recv()
    server.close()
    exchange(again, accepted)
    finish(lab, again, accepted)
    lab.must_find(again, "half_open_reconnect", "server", "peer_restarted")
    lab.must_find(again, "half_open", "server", "peer_rebooted", level="may")
    lab.must_find(again, "graceful_close", "client")


@scenario()
def keepalive_timeout(lab: Lab) -> None:
    """The server's host vanishes under an idle connection; three keepalive probes go unanswered, then the client
    resets.
    """
    client, server, _ = lab.pair()
    client.keepalive(idle_s=2, interval_s=1, count=3)
    exchange(client, server)
    lab.wait(0.3)
    lab.drop('oifname "s0"')
    server.crash()
    client.recv()
    client.close()
    lab.wait(0.2)
    near = ("client", "middle")
    lab.must_find(client, "keepalive_timeout", "client", vantages=near)
    lab.must_find(client, "half_open", "client", "peer_vanished", vantages=near)


# Who does not read, who does not close


@scenario()
def zero_window(lab: Lab) -> None:
    """The server does not read for 4 s: its window closes, the client probes; then the server reads and all arrives."""
    listener = lab.socket("server").bind().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096).listen()
    client = lab.socket("client").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384).connect()
    server = lab.accept(listener)
    text = b"The quick brown fox jumps over the lazy dog.\n" * 400

    def write() -> None:
        client.sendall(text)
        client.shutdown()

    def read() -> None:
        lab.wait(4)
        server.read_to_end()

    together(write, read)
    server.close()
    client.recv()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "zero_window", "server")
    lab.must_find(client, "window_opened", "server")
    lab.must_find(client, "graceful_close", "client")
    lab.must_not_find(client, "send_timeout", "the peer lives and answers every probe")


@scenario()
def zero_window_for_good(lab: Lab) -> None:
    """The server never reads again: the client's send() blocks, fails with EAGAIN after 3 s, and the client resets."""
    listener = lab.socket("server").bind().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096).listen()
    client = lab.socket("client").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384).connect()
    lab.accept(listener)
    client.send_timeout(3)
    client.sendall(b"The quick brown fox jumps over the lazy dog.\n" * 4000)
    client.linger0()
    client.close()
    lab.wait(0.2)
    lab.must_find(client, "zero_window", "server")
    lab.must_find(client, "reset_on_close", "client", "linger_0")
    lab.must_not_find(client, "send_timeout", "the peer lives and answers every probe")


@scenario(sysctl={"client": {"tcp_fin_timeout": 3}})
def close_wait_leak(lab: Lab) -> None:
    """The server never closes after the client did: CLOSE-WAIT stays, the client's FIN-WAIT-2 expires after 3 s
    (tcp_fin_timeout), and what the server sends at last draws a bare RST.
    """
    client, server, listener = lab.pair()
    other = lab.socket("client").connect()
    forgotten = lab.accept(listener)
    exchange(client, server)
    exchange(other, forgotten)
    lab.wait(0.1)
    client.close()
    other.close()
    lab.wait(5)
    server.send("too late\n")
    lab.wait(0.2)
    for sock in (client, other):
        lab.must_find(sock, "close_wait_leak", "server")
    lab.must_find(client, "fin_wait_2_expired", "client", level="may")
    lab.must_find(client, "reset_on_close", "client", "data_after_close")


@scenario(sysctl={"client": {"tcp_tw_reuse": 1}})
def port_reuse(lab: Lab) -> None:
    """The client connects again from a port whose last connection is in its own TIME-WAIT: legal, after one second
    (tcp_tw_reuse).
    """
    listener = lab.socket("server").bind().listen()
    for pause_s in (1.2, 0.1):
        client = lab.socket("client").bind(40071).connect()
        server = lab.accept(listener)
        exchange(client, server)
        finish(lab, client, server)
        lab.wait(pause_s)
    lab.must_find(client, "time_wait_reused", "client")
    lab.must_find(client, "graceful_close", "client")
