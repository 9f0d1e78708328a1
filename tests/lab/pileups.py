"""The scenarios in which connections of one service pile up in a state, or are reset by the dozen.

Registered beside those of crowds.py. Bounded: 1,200 short connections or some dozens of long ones at most.
"""

from __future__ import annotations

from .lab import Lab
from .scenarios import exchange, scenario
from .sockets import Sock

MANY = 1_200  # above the thousand of CRITERIA.md
DOZENS = 30
HELD_S = 13.0


def _short_connections(lab: Lab, *, server_first: bool) -> None:
    listener = lab.socket("server").bind().listen()
    for _ in range(MANY):
        client = lab.socket("client").connect()
        server = lab.accept(listener)
        exchange(client, server)
        for sock in (server, client) if server_first else (client, server):
            sock.close()
        lab.forget(client, server)
    lab.wait(0.3)


@scenario()
def time_wait_pileup_client(lab: Lab) -> None:
    """1,200 short connections that the client closes first: 1,200 of its ports are in TIME-WAIT."""
    _short_connections(lab, server_first=False)
    lab.must_find(None, "time_wait_pileup", "client", "client_closes_first")


@scenario()
def time_wait_pileup_server(lab: Lab) -> None:
    """1,200 short connections that the server closes first: the server holds 1,200 in TIME-WAIT."""
    _short_connections(lab, server_first=True)
    lab.must_find(None, "time_wait_pileup", "server", "server_closes_first")


def _half_closed(lab: Lab, *, closer: str) -> None:
    """Dozens of connections that one side closes and the other does not, over a few seconds."""
    listener = lab.socket("server").bind().listen()
    for _ in range(DOZENS):
        client = lab.socket("client").connect()
        server = lab.accept(listener)
        exchange(client, server)
        first, second = (client, server) if closer == "client" else (server, client)
        first.close()
        second.recv()
        lab.wait(0.05)
        forgetful = "server" if closer == "client" else "client"
        lab.must_find(client, "close_wait_leak", forgetful, level="may")
    lab.wait(HELD_S)
    last = lab.socket("client").connect()  # the capture's clock stands still when nothing is sent
    exchange(last, lab.accept(listener))
    lab.must_find(None, "close_wait_pileup", forgetful, f"{forgetful}_does_not_close")
    lab.must_find(None, "fin_wait_2_pileup", closer, f"{forgetful}_does_not_close")
    lab.must_find(None, "connection_leak", "client", level="may")


@scenario()
def close_wait_pileup(lab: Lab) -> None:
    """Thirty connections that the client closes and the server never does: CLOSE-WAIT there, FIN-WAIT-2 here."""
    _half_closed(lab, closer="client")


@scenario()
def fin_wait_2_pileup(lab: Lab) -> None:
    """Thirty connections that the server closes and the client never does: FIN-WAIT-2 there, CLOSE-WAIT here."""
    _half_closed(lab, closer="server")


def _keep(lab: Lab, *, pause_s: float) -> list[tuple[Sock, Sock]]:
    listener = lab.socket("server").bind().listen()
    kept = []
    for _ in range(DOZENS):
        client = lab.socket("client").connect()
        server = lab.accept(listener)
        exchange(client, server)
        kept.append((client, server))
        lab.wait(pause_s)
    return kept


@scenario()
def connection_leak(lab: Lab) -> None:
    """A client opens thirty connections over 12 s, uses each once, and closes none."""
    _keep(lab, pause_s=0.4)
    lab.wait(0.5)
    lab.must_find(None, "connection_leak", "client")


@scenario()
def stable_pool(lab: Lab) -> None:
    """A client opens a pool of thirty connections at once and uses it for 12 s: no leak, though none is closed."""
    kept = _keep(lab, pause_s=0)
    for _ in range(12):
        lab.wait(1)
        for client, server in kept:
            exchange(client, server)
    lab.must_not_find(None, "connection_leak", "the pool does not grow")


@scenario()
def reset_storm(lab: Lab) -> None:
    """Of eighty connections the server ends sixty with SO_LINGER 0 after its answer, all within a few seconds."""
    listener = lab.socket("server").bind().listen()
    for number in range(80):
        client = lab.socket("client").connect()
        server = lab.accept(listener)
        exchange(client, server)
        if number % 4:
            server.linger0()
            lab.must_find(client, "reset_on_close", "server", "linger_0")
        else:
            lab.must_not_find(client, "reset_on_close", "an orderly close")
        server.close()
        client.recv()
        client.close()
        lab.wait(0.02)
    lab.wait(0.2)
    lab.must_find(None, "reset_storm", "server")
