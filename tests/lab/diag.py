"""Polls inet_diag in several namespaces: ``diag.py SECONDS ROLE=NAMESPACE ...``; JSON lines on standard output.

The states SYN-RECEIVED (request sockets) and TIME-WAIT (small sockets) have no tracepoint, so they are polled. Each
line is one poll in which something changed: ``{"role", "t0", "t1", "previous", "changed": {"local>remote": state or
null}}``, times in epoch nanoseconds; ``previous`` is when the poll before it began. Ends when its standard input
closes. Runs alone (no relative imports), so that the laboratory's own work cannot hold it up. It never sees a state
that lasts less than one poll.

Sources: sock_diag(7), linux/inet_diag.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import struct
import sys
import time

_CLONE_NEWNET = 0x40000000
NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ALL_BUT_LISTEN_AND_CLOSED = 0x1FFF & ~(1 << 10) & ~(1 << 7)
_NAMES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    11: "CLOSING",
    12: "SYN_RECV",
}


def connect(namespace: str) -> socket.socket:
    """A diagnosis socket inside the namespace."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(there, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    os.close(there)
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)


def dump(netlink: socket.socket) -> dict[str, str]:
    """``local>remote`` -> state name of every TCP socket that the namespace has, listeners left out."""
    found: dict[str, str] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        body = struct.pack("<BBBxI48x", family, socket.IPPROTO_TCP, 0, _ALL_BUT_LISTEN_AND_CLOSED)
        netlink.send(struct.pack("<IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        done = False
        while not done:
            data = netlink.recv(1 << 18)
            position = 0
            while position + 16 <= len(data):
                length, kind = struct.unpack_from("<IH", data, position)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    done = True
                    break
                _entry(data, position + 16, found)
                position += (length + 3) & ~3
    return found


def _entry(data: bytes, at: int, found: dict[str, str]) -> None:
    family, state = data[at], data[at + 1]
    if state not in _NAMES:
        return
    sport, dport = struct.unpack_from(">HH", data, at + 4)
    octets = 4 if family == socket.AF_INET else 16
    local = _name(family, data[at + 8 : at + 8 + octets], sport)
    remote = _name(family, data[at + 24 : at + 24 + octets], dport)
    # A request, a TIME-WAIT and a new socket may share a 4-tuple for a moment: a full socket wins.
    if f"{local}>{remote}" not in found or _NAMES[state] not in ("SYN_RECV", "TIME_WAIT"):
        found[f"{local}>{remote}"] = _NAMES[state]


def _name(family: int, address: bytes, port: int) -> str:
    text = socket.inet_ntop(family, address)
    return f"{text}:{port}" if family == socket.AF_INET else f"[{text}]:{port}"


def main() -> None:
    interval_s = float(sys.argv[1])
    sockets = {role: connect(namespace) for role, _, namespace in (arg.partition("=") for arg in sys.argv[2:])}
    known: dict[str, dict[str, str]] = {role: {} for role in sockets}
    previous = dict.fromkeys(sockets, time.time_ns())
    print(json.dumps({"ready": sorted(sockets)}), flush=True)
    while not select.select([0], [], [], interval_s)[0]:
        for role, netlink in sockets.items():
            begin = time.time_ns()
            now = dump(netlink)
            if now != known[role]:
                changed: dict[str, str | None] = {k: v for k, v in now.items() if known[role].get(k) != v}
                changed |= dict.fromkeys(known[role].keys() - now.keys())
                line = {"role": role, "t0": begin, "t1": time.time_ns(), "previous": previous[role], "changed": changed}
                print(json.dumps(line), flush=True)
                known[role] = now
            previous[role] = begin


if __name__ == "__main__":
    main()
