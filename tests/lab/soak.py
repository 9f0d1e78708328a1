"""A soak: many connections at once, each behaving by chance, over a path that loses some of everything.

``soak(folder, seed=..., connections=..., loss_percent=...)`` plays one; the same seed gives the same plan (not the same
timing). It is no registered scenario, because what must be found depends on the seed. Never more threads than
``PARALLEL`` clients and as many server handlers.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .lab import Lab
from .scenarios import REQUEST, RESPONSE
from .sockets import Sock, now

PARALLEL = 24
FIRST_PORT = 20_000
BEHAVIOURS = ("client_first", "server_first", "half_closed", "linger_client", "linger_server", "both_at_once")
_WEIGHTS = (30, 25, 10, 10, 10, 15)


@dataclass(slots=True, frozen=True)
class Plan:
    """What one connection will do."""

    port: int
    behaviour: str
    rounds: int
    answer_octets: int
    pause_s: float


def plans(*, seed: int, connections: int) -> list[Plan]:
    """The plan of every connection of a soak, from its seed alone."""
    chance = random.Random(seed)
    return [
        Plan(
            FIRST_PORT + number,
            chance.choices(BEHAVIOURS, _WEIGHTS)[0],
            chance.randrange(0, 4),
            chance.choice((20, 400, 3000, 20_000)),
            chance.choice((0.0, 0.01, 0.05, 0.3)),
        )
        for number in range(connections)
    ]


def soak(
    folder: Path, *, seed: int, connections: int = 300, loss_percent: int = 2, delay_s: float = 0.01, ipv6: bool = False
) -> Lab:
    """Play a soak. What must be found follows from the kernel's record: who sent a RST, why, which tap saw it."""
    todo = {plan.port: plan for plan in plans(seed=seed, connections=connections)}
    about = f"{connections} connections by chance (seed {seed}) under {loss_percent} % loss each way."
    with Lab(f"soak_{seed}", about, folder, delay_s=delay_s, ipv6=ipv6) as lab:
        listener = lab.socket("server").bind().listen(512)
        lab.drop(f"numgen random mod 100 < {loss_percent}")
        stop = threading.Event()
        with ThreadPoolExecutor(PARALLEL) as clients, ThreadPoolExecutor(2 * PARALLEL) as servers:
            acceptor = threading.Thread(target=_accept, args=(lab, listener, todo, servers, stop), daemon=True)
            acceptor.start()
            list(clients.map(lambda plan: _client(lab, plan), todo.values()))
            stop.set()
            acceptor.join(10)
        lab.wait(1)
    reset = {row["flow"] for row in lab.truth["resets"] if row["kind"] == "sent"}
    for flow in lab.truth["states"]:
        if flow not in reset:
            lab.must_not_find(flow, "reset_on_close", "no kernel sent a RST")
    lab.truth["must_from_kernel"] = True
    return lab


def _accept(lab: Lab, listener: Sock, todo: dict[int, Plan], pool: ThreadPoolExecutor, stop: threading.Event) -> None:
    listener.raw.settimeout(0.2)
    while not stop.is_set():
        begin = now()
        try:
            raw, address = listener.raw.accept()
        except TimeoutError:
            continue
        raw.settimeout(None)
        sock = lab.adopt(Sock(lab.calls, lab.network, "server", raw))
        sock.local, sock.remote = listener.local, address[:2]  # not asked for: a RST may have come since
        lab.calls.add("server", listener.sid, "accept", "", begin, ret="ok", local=sock.local)
        lab.calls.add(
            "server", sock.sid, "accepted", listener.sid, now(), ret="ok", local=sock.local, remote=sock.remote
        )
        pool.submit(_server, sock, todo[address[1]])


def _client(lab: Lab, plan: Plan) -> Sock:
    sock = lab.socket("client").bind(plan.port)
    sock.patience(15)
    sock.connect()
    if sock.error:
        sock.close()
        return sock
    for _ in range(plan.rounds):
        sock.send(REQUEST)
        if not _read(sock, plan.answer_octets):
            break
        lab.wait(plan.pause_s)
    if plan.behaviour == "linger_client":
        sock.linger0()
    elif plan.behaviour == "half_close":
        sock.shutdown()
        sock.read_to_end()
    elif plan.behaviour in ("server_first", "linger_server"):
        sock.send("QUIT\n")
        sock.read_to_end()
    sock.close()
    return sock


def _server(sock: Sock, plan: Plan) -> None:
    sock.patience(15)
    while data := sock.recv():
        if b"QUIT" in data:
            if plan.behaviour == "linger_server":
                sock.linger0()
            break
        sock.sendall((RESPONSE * 500).encode()[: plan.answer_octets])
        if plan.behaviour == "both_at_once" and data.count(b"GET") and plan.rounds == 1:
            break
    sock.close()


def _read(sock: Sock, octets: int) -> bool:
    """Read an answer; False where the connection ended first."""
    while octets > 0:
        data = sock.recv()
        if not data:
            return False
        octets -= len(data)
    return True
