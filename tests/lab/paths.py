"""The scenarios of paths that treat directions or sizes differently, or take long.

Registered beside those of scenarios.py and faults.py. Behaviour noted here was measured on Linux 6.18.
"""

from __future__ import annotations

from .lab import Lab
from .scenarios import REQUEST, RESPONSE, exchange, finish, scenario
from .sockets import PORT, TCP_USER_TIMEOUT

LARGE_OCTETS = 700


@scenario()
def mtu_black_hole(lab: Lab) -> None:
    """The path loses what is larger than 700 octets and says nothing (no ICMP): handshake and request pass, the large
    answer never does; the server gives up after 5 s (TCP_USER_TIMEOUT).
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    server.tcp(TCP_USER_TIMEOUT, 5000)
    lab.drop(f"meta length > {LARGE_OCTETS}")
    client.send(REQUEST)
    server.recv()
    server.send(RESPONSE * 30)
    lab.wait(8)
    server.recv()
    lab.must_find(client, "send_timeout", "server", vantages=("server",))
    lab.must_find(client, "half_open", "server", level="may")
    for label in ("zero_window", "half_established", "injected_reset"):
        lab.must_not_find(client, label, "large packets are lost, that is all")


@scenario()
def one_way_path(lab: Lab) -> None:
    """After a first exchange nothing of the server arrives any more, while everything of the client does: its request
    is acknowledged in vain, and the client gives up after 5 s (TCP_USER_TIMEOUT).
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    client.tcp(TCP_USER_TIMEOUT, 5000)
    lab.drop('iifname "s0"')
    client.send(REQUEST)
    server.recv()
    server.send(RESPONSE)
    lab.wait(8)
    client.recv()
    lab.must_find(client, "send_timeout", "client", vantages=("client", "middle"))
    lab.must_find(client, "send_timeout", "server", level="may")
    for endpoint in ("client", "server"):
        lab.must_find(client, "half_open", endpoint, level="may")
    lab.must_not_find(client, "zero_window", "both windows are open")
    lab.must_not_find(client, "half_established", "the handshake was finished")


@scenario(delay_s=0.75)
def long_way(lab: Lab) -> None:
    """A path of 1.5 s there and back, longer than the first time-outs: SYN and SYN-ACK are repeated though nothing is
    lost, and all is well.
    """
    client, server, _ = lab.pair()
    exchange(client, server)
    finish(lab, client, server)
    lab.wait(2.5)
    lab.must_find(client, "graceful_close", "client")
    for label in ("half_established", "half_open", "send_timeout", "syn_timeout", "syn_dropped"):
        lab.must_not_find(client, label, "only the way is long")


@scenario()
def data_after_a_long_silence(lab: Lab) -> None:
    """A firewall forgets an idle connection and refuses the next data with RST in the server's name; the server never
    hears of it.
    """
    client, server, _ = lab.pair()
    for _ in range(2):
        exchange(client, server)
    lab.wait(3)
    lab.rule(f"tcp dport {PORT} tcp flags & (syn|rst) == 0 reject with tcp reset")
    client.send(REQUEST)
    client.recv()
    lab.wait(0.5)
    lab.flush()
    lab.must_find(client, "injected_reset", "server", vantages=("client",), otherwise=("half_open",))
    lab.must_find(client, "half_open", "client", level="may")
    lab.must_find(client, "injected_reset", "server", level="may")
    lab.must_not_find(client, "reset_on_close", "the server has not closed")
