"""The applications' socket calls in a truth file, each with its outcome and the connection that it belongs to.

Reads the truth of this laboratory and the kernel-truth files. Pure.

Sources: connect(2), accept(2), send(2), recv(2), socket(7) (SO_RCVTIMEO).
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONNECT, ACCEPT, SEND, RECV = "connect", "accept", "send", "recv"
_CALLS = {
    "connect": CONNECT,
    "connect_result": CONNECT,  # SO_ERROR of a connect() that did not wait
    "send": SEND,
    "sendall": SEND,
    "sendto(MSG_FASTOPEN)": SEND,
    "recv": RECV,
    "recv until EOF": RECV,
}
# A call whose own patience ended says nothing but that nothing had come.
_PATIENCE = ("EAGAIN", "EWOULDBLOCK", "EINPROGRESS", "TIMEOUT(python)")


@dataclass(slots=True, frozen=True)
class Call:
    """One socket call of an application: ``outcome`` is ok, eof, blocked (its patience ended) or an errno's name."""

    flow: str
    endpoint: str
    call: str
    outcome: str
    begin: float
    end: float
    octets: int | None = None


def expected_calls(truth: Mapping[str, Any]) -> list[Call]:
    """Every connect, accept, send and recv that ended, in order of its end."""
    found: list[Call] = []
    accepts: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    begun = {row["sid"]: row for row in truth.get("calls", ()) if row["call"] == "connect"}
    told = {row["sid"] for row in truth.get("calls", ()) if row["call"] == "connect_result"}
    for row in truth.get("calls", ()):
        call, begin = _CALLS.get(row["call"]), row["t0"]
        if row["call"] == "accept" and not row["err"]:
            accepts[row["sid"]].append(row)
        elif row["call"] == "accepted" and row["remote"]:
            accept = accepts[row["args"]].pop(0) if accepts[row["args"]] else row
            found.append(Call(_flow(row), row["role"], ACCEPT, "ok", accept["t0"], accept["t1"]))
        elif call and row["local"] and row["remote"]:
            if row["err"] == "EINPROGRESS" and row["sid"] in told:
                continue
            if row["call"] == "connect_result":
                begin = begun[row["sid"]]["t0"]
            found.append(Call(_flow(row), row["role"], call, _outcome(row), begin, row["t1"], _octets(row, call)))
    return sorted(found, key=lambda one: one.end)


def _flow(row: Mapping[str, Any]) -> str:
    """client>server, as in the truth's states."""
    local, remote = (f"[{a}]:{p}" if ":" in a else f"{a}:{p}" for a, p in (row["local"], row["remote"]))
    return f"{local}>{remote}" if row["role"] == "client" else f"{remote}>{local}"


def _outcome(row: Mapping[str, Any]) -> str:
    if row["err"]:
        return "blocked" if row["err"] in _PATIENCE else str(row["err"])
    if row["call"] == "connect_result" and row["ret"]:
        return errno.errorcode.get(row["ret"], str(row["ret"]))
    return "eof" if isinstance(row["ret"], str) and row["ret"].endswith("EOF") else "ok"


def _octets(row: Mapping[str, Any], call: str) -> int | None:
    """What was sent or received; None where the call failed or does not tell."""
    if row["err"] or call not in (SEND, RECV):
        return None
    shown = row["args"] if row["call"] == "sendall" else row["ret"]
    head = str(shown).split()[0] if shown is not None else ""
    return int(head) if head.isdigit() else None
