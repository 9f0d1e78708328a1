"""The RFC 9293 state machine of one endpoint, as data, and the theory by which a passive observer drives it.

Theory of operation
-------------------
1. The machine is DATA.  `TRANSITIONS` below says for a state and an event which state follows, why, and where the
   RFC says so.  Kernels get the same rows as a small array (`transition_array`); nothing else decides about states.

2. Each endpoint has a machine of its own.  A segment that passes the tap is two events: *sent* by one endpoint, which
   is certain, and *towards* the other, which is not: it may be lost or ignored after the tap.  So each entry of an
   endpoint's history has a certainty:

   ``sent``          the endpoint itself sent the segment that implies the event
   ``acknowledged``  the event was assumed, and something the endpoint sent later proves it (the proof frame)
   ``assumed``       a segment towards the endpoint passed the tap; nothing yet shows that it arrived
   ``timer``         a time-out that the stack's profile makes due, without a segment
   ``retracted``     it was assumed, and something the endpoint sent later contradicts it (the proof frame)

3. Each endpoint keeps a short log of events (`evidence.py`); its state is the fold of this table over the log.
   Retracting an assumption takes its entry out and folds again, so all that rested on it falls with it.  "Seen =
   received" is the error that this tool exists to avoid: a server that repeats its SYN-ACK is still in
   SYN-RECEIVED, whatever ACK passed the tap; an endpoint whose FIN does not acknowledge the peer's FIN had not
   received it.

4. Time comes from the packets.  Timers are looked at when the flow's next segment comes and at the end of the capture,
   and take effect at the instant at which they were due.

5. Capture order decides; time stamps that run backwards do no harm.  About a direction that was never seen nothing
   is claimed: its endpoint stays UNKNOWN.

The order of work for a segment x -> y (`segment.py`): timers that were due before it; corrections because x evidently
lives; what x's sending proves about x; what x's acknowledgment proves; x's own FIN; bookkeeping; only then what y may
have received.

Sources: RFC 9293 3.3.2 and 3.10; RFC 5961; RFC 7413; RFC 1337; rules measured against the Linux kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy
    import numpy.typing

CLOSED: Final = 0
LISTEN: Final = 1
SYN_SENT: Final = 2
SYN_RECEIVED: Final = 3
ESTABLISHED: Final = 4
FIN_WAIT_1: Final = 5
FIN_WAIT_2: Final = 6
CLOSE_WAIT: Final = 7
CLOSING: Final = 8
LAST_ACK: Final = 9
TIME_WAIT: Final = 10
UNKNOWN: Final = 11

STATES: Final = (
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RECEIVED",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
    "UNKNOWN",
)
"""State names by code."""

NONE: Final = 0
SENT: Final = 1
ACKNOWLEDGED: Final = 2
ASSUMED: Final = 3
TIMER: Final = 4
RETRACTED: Final = 5
CERTAINTIES: Final = ("none", "sent", "acknowledged", "assumed", "timer", "retracted")
"""Certainty names by code; ``none`` only where nothing was logged yet."""

SND_SYN: Final = 1
SND_SYNACK: Final = 2
RCV_SYN: Final = 3
RCV_SYNACK: Final = 4
RCV_ACK_OF_SYN: Final = 5
MIDSTREAM: Final = 6
SND_FIN: Final = 7
RCV_FIN: Final = 8
RCV_ACK_OF_FIN: Final = 9
SND_RST: Final = 10
RCV_RST: Final = 11
ICMP: Final = 12
GIVE_UP: Final = 13
EXPIRE: Final = 14
REPLACED: Final = 15
EVENT_COUNT: Final = 16

EVENTS: Final = (
    "",
    "snd_syn",
    "snd_synack",
    "rcv_syn",
    "rcv_synack",
    "rcv_ack_of_syn",
    "midstream",
    "snd_fin",
    "rcv_fin",
    "rcv_ack_of_fin",
    "snd_rst",
    "rcv_rst",
    "icmp",
    "give_up",
    "expire",
    "replaced",
)
"""Event names by code, as they stand in the column `cause` of the transitions."""


class Transition(NamedTuple):
    """One row of the machine: in `state`, `event` leads to `to`."""

    state: int
    event: int
    to: int
    reason: str
    source: str


_OPENING: Final = (
    Transition(CLOSED, SND_SYN, SYN_SENT, "active open", "RFC 9293 3.10.1"),
    Transition(LISTEN, SND_SYN, SYN_SENT, "a listener that opens actively itself", "RFC 9293 3.10.1"),
    Transition(UNKNOWN, SND_SYN, SYN_SENT, "active open", "RFC 9293 3.10.1"),
    Transition(CLOSED, SND_SYNACK, SYN_RECEIVED, "passive open: the SYN reached a listener", "RFC 9293 3.10.7.2"),
    Transition(LISTEN, SND_SYNACK, SYN_RECEIVED, "passive open: the SYN reached a listener", "RFC 9293 3.10.7.2"),
    Transition(UNKNOWN, SND_SYNACK, SYN_RECEIVED, "passive open whose SYN was not captured", "RFC 9293 3.10.7.2"),
    Transition(SYN_SENT, SND_SYNACK, SYN_RECEIVED, "simultaneous open: it has the SYN", "RFC 9293 3.5, figure 7"),
    Transition(SYN_SENT, RCV_SYN, SYN_RECEIVED, "simultaneous open", "RFC 9293 3.5, figure 7"),
    Transition(SYN_SENT, RCV_SYNACK, ESTABLISHED, "its SYN is acknowledged: connect() returns", "RFC 9293 3.10.7.3"),
    Transition(SYN_RECEIVED, RCV_ACK_OF_SYN, ESTABLISHED, "its SYN is acknowledged: accept() can return",
               "RFC 9293 3.10.7.4"),
    Transition(UNKNOWN, MIDSTREAM, ESTABLISHED, "it takes part in a connection whose opening was not captured",
               "RFC 9293 3.3.2"),
)  # fmt: skip

_CLOSING: Final = (
    Transition(ESTABLISHED, SND_FIN, FIN_WAIT_1, "active close", "RFC 9293 3.10.4"),
    Transition(SYN_RECEIVED, SND_FIN, FIN_WAIT_1, "close before the handshake ended", "RFC 9293 3.10.4"),
    Transition(UNKNOWN, SND_FIN, FIN_WAIT_1, "close; the opening was not captured", "RFC 9293 3.10.4"),
    Transition(CLOSE_WAIT, SND_FIN, LAST_ACK, "passive close", "RFC 9293 3.10.4"),
    Transition(ESTABLISHED, RCV_FIN, CLOSE_WAIT, "the peer closed: recv() returns 0", "RFC 9293 3.10.7.4"),
    Transition(SYN_RECEIVED, RCV_FIN, CLOSE_WAIT, "the peer closed at once", "RFC 9293 3.10.7.4"),
    Transition(FIN_WAIT_1, RCV_FIN, CLOSING, "simultaneous close", "RFC 9293 3.10.7.4"),
    Transition(FIN_WAIT_2, RCV_FIN, TIME_WAIT, "the peer closed too", "RFC 9293 3.10.7.4"),
    Transition(FIN_WAIT_1, RCV_ACK_OF_FIN, FIN_WAIT_2, "its FIN is acknowledged", "RFC 9293 3.10.7.4"),
    Transition(CLOSING, RCV_ACK_OF_FIN, TIME_WAIT, "its FIN is acknowledged", "RFC 9293 3.10.7.4"),
    Transition(LAST_ACK, RCV_ACK_OF_FIN, CLOSED, "its FIN is acknowledged: all is over", "RFC 9293 3.10.7.4"),
    Transition(TIME_WAIT, EXPIRE, CLOSED, "2 MSL passed", "RFC 9293 3.4.2"),
    Transition(SYN_RECEIVED, EXPIRE, CLOSED, "the request was dropped after its last repeat, without a word",
               "Linux net.ipv4.tcp_synack_retries"),
    Transition(FIN_WAIT_2, EXPIRE, CLOSED, "closed by close() and never answered by a FIN",
               "Linux net.ipv4.tcp_fin_timeout"),
)  # fmt: skip

_LIVE: Final = tuple(range(SYN_SENT, UNKNOWN + 1))  # a RST does not move a listener (RFC 9293 3.10.7.2)


def _ends() -> tuple[Transition, ...]:
    """Rows that lead from every state to CLOSED."""
    causes = (
        (SND_RST, "it reset the connection, or had none", "RFC 9293 3.5.2"),
        (RCV_RST, "reset by an acceptable RST", "RFC 9293 3.5.3, RFC 5961 3.2"),
        (ICMP, "an ICMP error answered its SYN", "RFC 1122 4.2.3.9"),
        (GIVE_UP, "its retransmissions were never answered", "RFC 9293 3.8.3"),
        (REPLACED, "a new incarnation took the place", "RFC 9293 3.5.1, RFC 6191"),
    )
    return tuple(
        Transition(state, event, CLOSED, reason, source) for event, reason, source in causes for state in _LIVE
    )


TRANSITIONS: Final[tuple[Transition, ...]] = _OPENING + _CLOSING + _ends()
"""The whole machine.  A (state, event) that is not here changes nothing."""


class Machine(NamedTuple):
    """The machine for those who show it: its rows, and the names of their events."""

    rules: tuple[Transition, ...]
    events: tuple[str, ...]


MACHINE: Final = Machine(TRANSITIONS, EVENTS)

INITIAL_STATE: Final = CLOSED
"""An endpoint whose opening is captured begins here; others begin UNKNOWN."""

TABLE_SIZE: Final = len(STATES) * EVENT_COUNT


def transition_array() -> numpy.typing.NDArray[numpy.int64]:
    """The machine as int64 of shape (12 * 16,): the state after (state, event) at ``state * EVENT_COUNT + event``.

    Examples
    --------
    >>> int(transition_array()[SYN_SENT * EVENT_COUNT + RCV_SYNACK]) == ESTABLISHED
    True
    """
    import numpy

    table = numpy.repeat(numpy.arange(len(STATES), dtype=numpy.int64), EVENT_COUNT)
    for row in TRANSITIONS:
        table[row.state * EVENT_COUNT + row.event] = row.to
    return table
