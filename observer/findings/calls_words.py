"""What a change of state means to the socket calls of its endpoint, as data: call, outcome, sentence.

Outcomes are those of Linux, whose source decides: an error is handed to the first call that asks, recv() or send();
after that recv() returns 0 and send() fails with EPIPE.  `{side}` in a sentence is the endpoint, `{other}` its peer.

Never here: what happened.  Sources: net/ipv4/tcp_input.c tcp_reset (errno by state), tcp_timer.c tcp_write_err
(sk_err_soft, else ETIMEDOUT), tcp.c tcp_recvmsg (SOCK_DONE before sk_err), net/ipv4/icmp.c icmp_err_convert,
net/ipv6/icmp.c icmpv6_err_convert; POSIX connect(), accept(), send(), recv().
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Told(NamedTuple):
    """What one call does."""

    call: str
    outcome: str
    sentence: str


_AFTER: Final = "(the first call gets it; from then on recv() returns 0, send() fails with EPIPE)"
_SHUT: Final = "nobody asks if the {side} has closed the socket instead of shutting down its sending half"

CONNECTED: Final = Told(
    "connect", "ok",
    "connect() returns success: the SYN-ACK has arrived, which says nothing of accept() at the {other}",
)  # fmt: skip
CONNECTED_BOTH: Final = Told("connect", "ok", "connect() returns success: both sides have opened at once")
ACCEPTABLE: Final = Told(
    "accept", "ok", "accept() can return from here on: the {side}'s kernel has taken the handshake's last ACK"
)
SENDS: Final = Told(
    "send", "ok", "send() returns as soon as the {side}'s kernel has buffered the octets, acknowledged or not"
)
RECEIVES: Final = Told("recv", "ok", "recv() returns what the {other} sends, as it comes")
_REFUSED: Final = Told("connect", "ECONNREFUSED", "connect() fails with ECONNREFUSED: a RST answers the SYN")
_END: Final = Told(
    "recv", "eof", "recv() returns 0 (end of file) behind the last octet: the {other} has closed its sending half"
)
_END_IF: Final = Told("recv", "eof", f"recv() returns 0 (end of file): the {{other}} has closed too; {_SHUT}")
_NEVER_RESET: Final = Told(
    "accept", "blocked", "accept() never returns this connection: a RST ended it before the handshake was complete"
)
_RESET: Final = (
    Told("recv", "ECONNRESET", f"recv() fails with ECONNRESET: the {{other}} has reset the connection {_AFTER}"),
    Told("send", "ECONNRESET", f"send() fails with ECONNRESET: the {{other}} has reset the connection {_AFTER}"),
)
_RESET_IF: Final = Told(
    "recv", "ECONNRESET", f"recv() fails with ECONNRESET: the {{other}} has reset the connection; {_SHUT}"
)
_NO_SOCKET: Final = "the {other} has no such connection, and its RST says so only because the {side} sent something"
_LOST: Final = tuple(
    Told(call, "ECONNRESET", f"{call}() fails with ECONNRESET: {_NO_SOCKET} {_AFTER}") for call in ("recv", "send")
)
_LOST_IF: Final = Told("recv", "ECONNRESET", f"recv() fails with ECONNRESET: {_NO_SOCKET}; {_SHUT}")
_GONE: Final = (
    Told("recv", "ETIMEDOUT", f"recv() fails with ETIMEDOUT: what the {{side}} had sent was never answered {_AFTER}"),
    Told("send", "ETIMEDOUT", f"send() fails with ETIMEDOUT: what the {{side}} had sent was never answered {_AFTER}"),
)
_GONE_IF: Final = Told("recv", "ETIMEDOUT", f"recv() fails with ETIMEDOUT: the FIN was never answered; {_SHUT}")
ACCEPT_NEVER: Final = Told(
    "accept", "blocked",
    "accept() never returns this connection: the {side} gave its request up before the handshake was complete",
)  # fmt: skip

BY_CHANGE: Final[dict[tuple[str, str], tuple[Told, ...]]] = {
    ("rcv_synack", "SYN_SENT"): (CONNECTED,),
    ("rcv_ack_of_syn", "SYN_RECEIVED"): (ACCEPTABLE,),
    ("midstream", "UNKNOWN"): (),
    ("rcv_fin", "SYN_RECEIVED"): (ACCEPTABLE, _END),
    ("rcv_fin", "ESTABLISHED"): (_END,),
    ("rcv_fin", "FIN_WAIT_1"): (_END_IF,),
    ("rcv_fin", "FIN_WAIT_2"): (_END_IF,),
    ("rcv_rst", "SYN_SENT"): (_REFUSED,),
    ("rcv_bare_rst", "SYN_SENT"): (_REFUSED,),
    ("rcv_rst", "SYN_RECEIVED"): (_NEVER_RESET,),
    ("rcv_rst", "ESTABLISHED"): _RESET,
    ("rcv_rst", "UNKNOWN"): _RESET,
    ("rcv_rst", "FIN_WAIT_1"): (_RESET_IF,),
    ("rcv_rst", "FIN_WAIT_2"): (_RESET_IF,),
    ("rcv_rst", "CLOSE_WAIT"): (
        Told("send", "EPIPE", "send() fails with EPIPE: the {other} had closed, and has reset the connection since"),
    ),
    ("rcv_bare_rst", "SYN_RECEIVED"): (_NEVER_RESET,),
    ("rcv_bare_rst", "ESTABLISHED"): _LOST,
    ("rcv_bare_rst", "UNKNOWN"): _LOST,
    ("rcv_bare_rst", "FIN_WAIT_1"): (_LOST_IF,),
    ("rcv_bare_rst", "FIN_WAIT_2"): (_LOST_IF,),
    ("rcv_bare_rst", "CLOSE_WAIT"): (
        Told("send", "EPIPE", "send() fails with EPIPE: the {other} has closed both halves, and answers octets by RST"),
    ),
    ("snd_rst", "SYN_RECEIVED"): (
        Told("accept", "blocked", "accept() never returns this connection: the {side}'s kernel has answered it by RST"),
    ),
    ("give_up", "SYN_SENT"): (Told("connect", "ETIMEDOUT", "connect() fails with ETIMEDOUT: no SYN was answered"),),
    ("give_up", "SYN_RECEIVED"): (ACCEPT_NEVER,),
    ("give_up", "ESTABLISHED"): _GONE,
    ("give_up", "CLOSE_WAIT"): (_GONE[1],),
    ("give_up", "FIN_WAIT_1"): (_GONE_IF,),
    ("expire", "SYN_RECEIVED"): (ACCEPT_NEVER,),
    ("icmp", "SYN_RECEIVED"): (ACCEPT_NEVER,),
    ("replaced", "SYN_RECEIVED"): (ACCEPT_NEVER,),
}
"""By (cause, state before) of a transition, for an endpoint that did not open actively or is in SYN-SENT.

`rcv_bare_rst` is `rcv_rst` by a RST that no socket sent: it always answers something."""

BY_CHANGE_OF_OPENER: Final[dict[tuple[str, str], tuple[Told, ...]]] = {
    ("rcv_ack_of_syn", "SYN_RECEIVED"): (CONNECTED_BOTH,),
    ("rcv_fin", "SYN_RECEIVED"): (CONNECTED_BOTH, _END),
    ("rcv_rst", "SYN_RECEIVED"): (
        Told("connect", "ECONNRESET", "connect() fails with ECONNRESET: the {other} has reset the simultaneous open"),
    ),
    ("give_up", "SYN_RECEIVED"): (
        Told("connect", "ETIMEDOUT", "connect() fails with ETIMEDOUT: its SYN-ACK was never acknowledged"),
    ),
    ("rcv_bare_rst", "SYN_RECEIVED"): (
        Told("connect", "ECONNRESET", "connect() fails with ECONNRESET: the {other} has reset the simultaneous open"),
    ),
    **{(cause, "SYN_RECEIVED"): () for cause in ("snd_rst", "expire", "icmp", "replaced")},
}
"""The same after SYN-SENT (simultaneous open, RFC 9293 3.5, figure 7), where it differs."""

STILL: Final[dict[str, Told]] = {
    "SYN_SENT": Told("connect", "blocked", "connect() waits: no SYN is answered in this capture"),
    "SYN_RECEIVED": Told(
        "accept", "blocked",
        "accept() does not return this connection: its handshake is not completed in this capture",
    ),
}  # fmt: skip
"""By the state in which the capture leaves an endpoint."""

UNREACHABLE: Final = "connect() fails with {errno}: an ICMP error (type {kind} code {code}) answers the SYN"

_NET: Final = "ENETUNREACH"
_HOST: Final = "EHOSTUNREACH"
_V4_UNREACHABLE: Final = (
    _NET, _HOST, "ENOPROTOOPT", "ECONNREFUSED", "EMSGSIZE", "EOPNOTSUPP", _NET, "EHOSTDOWN", "ENONET", _NET, _HOST,
    _NET, _HOST, _HOST, _HOST, _HOST,
)  # fmt: skip
"""ICMP type 3 by code: net/ipv4/icmp.c, icmp_err_convert."""
_V6_UNREACHABLE: Final = (_NET, "EACCES", _HOST, _HOST, "ECONNREFUSED", "EACCES", "EACCES")
"""ICMPv6 type 1 by code: net/ipv6/icmp.c, tab_unreach."""


def errno_of_icmp(version: int, kind: int, code: int) -> str:
    """Name the errno that Linux makes of an ICMP error, by IP version, type and code.

    Examples
    --------
    >>> errno_of_icmp(4, 3, 1), errno_of_icmp(4, 3, 3), errno_of_icmp(6, 1, 0), errno_of_icmp(4, 11, 0)
    ('EHOSTUNREACH', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH')
    """
    unreachable, table, exceeded = (1, _V6_UNREACHABLE, 3) if version == 6 else (3, _V4_UNREACHABLE, 11)
    if kind == unreachable and code < len(table):
        return table[code]
    return _HOST if kind == exceeded else "EPROTO"
