"""What is worth telling about a connection beside its states: one row each, with its frame.

An event row is int64 cells: time (ns), frame, ``stream << 1 | 1 if it concerns the server``, code, detail, and four
whose meaning depends on the event.
Ordinary life (an answered keepalive, a half-close, a recovered loss) is an event, never a finding.

Never judges: findings do.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, kernel
from observer.tcp.layout import CLIENT, G_EVENTS, STREAM

EVENT_STRIDE: Final = 9
EV_TIME: Final = 0
EV_FRAME: Final = 1
EV_WHO: Final = 2
EV_CODE: Final = 3
EV_DETAIL: Final = 4
EV_ADDRESS: Final = 5  # of icmp_error: 5, 6: who sent it, two cells of 64 bits
EV_FACTS: Final = 5  # of reset: RST_ bits
EV_GAP: Final = 6  # of reset: ns since its receiver's last segment; -1: there was none
EV_DATA_GAP: Final = 7  # of reset: ns since its receiver's last segment that took sequence space; -1: none
EV_OWN_GAP: Final = 8  # of reset: ns since its sender's last segment that took sequence space; -1: none

UNTOLD: Final = -(2**63)  # a detail that is not known (any more)

SYN_RETRANSMITTED: Final = 1
SYNACK_RETRANSMITTED: Final = 2
SYNACK_AFTER_ACK: Final = 3
DEFERRED_ACCEPT: Final = 4
SIMULTANEOUS_OPEN: Final = 5
FAST_OPEN: Final = 6
MIDSTREAM_PICKUP: Final = 7
NEW_INCARNATION: Final = 8
TIME_WAIT_REUSED: Final = 9
CHALLENGE_ACK: Final = 10
HALF_CLOSED: Final = 11
SIMULTANEOUS_CLOSE: Final = 12
RETRANSMISSION: Final = 13
OUT_OF_ORDER: Final = 14
DUPLICATE_FRAME: Final = 15
KEEPALIVE_PROBE: Final = 16
KEEPALIVE_ANSWERED: Final = 17
WINDOW_PROBE: Final = 18
ZERO_WINDOW: Final = 19
WINDOW_OPENED: Final = 20
RESET: Final = 21
RESET_IGNORED: Final = 22
RESET_FORGED: Final = 23
ICMP_ERROR: Final = 24
RETRACTION: Final = 25
STATELESS_SYNACK: Final = 26
LOST_SEGMENT: Final = 27
REFUSED: Final = 28
ECN: Final = 29
UNANSWERED: Final = 30
OLD_RESET: Final = 31

# what a RST looks like, and how its numbers stand to what was sent before (CRITERIA.md, two families of resets)
RST_FROM_SOCKET: Final = 1  # RST,ACK: from a socket, or in answer to a SYN
RST_WINDOW: Final = 2  # its window is not 0
RST_STAMPED: Final = 4  # it has the timestamp option
RST_IDENTIFIED: Final = 8  # its IPv4 identification is not 0
RST_AT_LAST_ACK: Final = 16  # its number is what its receiver's last segment acknowledged
RST_AT_NEXT: Final = 32  # its number is its sender's SND.NXT as far as the tap knows
RST_BEHIND: Final = 64  # its number is below that
RST_BEYOND: Final = 128  # its number is above that
RST_ACKS_FIN: Final = 256  # it acknowledges its receiver's FIN
RST_ACKS_ALL: Final = 512  # it acknowledges all octets that its receiver sent, its FIN aside
RST_ACCEPTABLE: Final = 1024  # its receiver can have accepted it (RFC 5961 3.2)
RST_UNACKED: Final = 2048  # its receiver had sent octets (a FIN aside) that its sender had not acknowledged before
RST_FIRST: Final = 4096  # its sender had sent nothing before
RST_ANSWERS_SYN: Final = (
    8192  # number 0 and the SYN acknowledged: what a host without listener sends (RFC 9293 3.10.7.1)
)
RST_OTHER_TTL: Final = 16384  # its TTL is not that of its sender's last segment
RST_NUMBER: Final = 32  # from this bit on: its number relative to its sender's first one, 31 bits

RST_FACTS: Final = {
    RST_FROM_SOCKET: "from_socket", RST_WINDOW: "window", RST_STAMPED: "stamped", RST_IDENTIFIED: "identified",
    RST_AT_LAST_ACK: "at_last_ack", RST_AT_NEXT: "at_next", RST_BEHIND: "behind", RST_BEYOND: "beyond",
    RST_ACKS_FIN: "acks_fin", RST_ACKS_ALL: "acks_all", RST_ACCEPTABLE: "acceptable", RST_UNACKED: "unacked",
    RST_FIRST: "first", RST_ANSWERS_SYN: "answers_syn",
    RST_OTHER_TTL: "other_ttl",
}  # fmt: skip
"""Names of the facts of a reset, by bit."""

EVENT_NAMES: Final = (
    ("", ""),
    ("syn_retransmitted", "the SYN again, same sequence number; detail: how often so far"),
    ("synack_retransmitted", "the SYN-ACK again; detail: how often so far"),
    ("synack_after_ack", "the SYN-ACK again although the handshake's ACK had passed; detail: how often so far"),
    ("deferred_accept", "the first repeat of the SYN-ACK came so late that accept is deferred (TCP_DEFER_ACCEPT)"),
    ("simultaneous_open", "both sides sent a SYN (RFC 9293 3.5, figure 7)"),
    ("fast_open", "data in the SYN, acknowledged by the SYN-ACK (RFC 7413); detail: octets"),
    ("midstream", "the capture begins after the connection's opening"),
    ("new_incarnation", "a SYN with a new number on a 4-tuple seen before; detail: the stream before"),
    ("time_wait_reused", "the new incarnation took the place of one in TIME-WAIT; detail: the stream before"),
    ("challenge_ack", "an ACK with old numbers answers a new SYN (RFC 5961 4, RFC 9293 3.5.1)"),
    ("half_closed", "it has sent FIN and goes on receiving; detail: octets in its peer's first segment after that"),
    ("simultaneous_close", "both FINs crossed (RFC 9293 3.6, figure 13)"),
    ("retransmission", "octets sent before; detail: sequence number relative to the first"),
    ("out_of_order", "arrived late at the tap; detail: sequence number relative to the first"),
    ("duplicate_frame", "the capture has the frame twice"),
    ("keepalive_probe", "SEG.SEQ = SND.NXT - 1 with nothing outstanding; detail: unanswered so far"),
    ("keepalive_answered", "the peer answered; detail: probes it took"),
    ("window_probe", "the peer's window is closed and is asked for; detail: probes so far"),
    ("zero_window", "it closed its receive window"),
    ("window_opened", "it opened its receive window again; detail: ns that it was closed"),
    ("reset", "RST; detail: 1 if it comes from a socket (RST,ACK), 0 if bare"),
    ("reset_ignored", "a RST that its receiver cannot have accepted (RFC 5961 3)"),
    ("reset_forged", "a RST whose TTL is not its pretended sender's; detail: difference"),
    ("icmp_error", "an ICMP error quotes it; detail: type * 256 + code"),
    ("retraction", "an assumption about it was wrong; detail: which (code of the state machine's event)"),
    ("stateless_synack", "it kept no request for its SYN-ACK (SYN cookie)"),
    ("lost_segment", "octets before this segment are missing in the capture"),
    ("refused", "RST,ACK answers the SYN: nobody listens"),
    ("ecn", "ECN was agreed on (RFC 3168 6.1.1)"),
    ("unanswered", "the same octets again, and no segment of the peer since; detail: how often so far"),
    ("old_incarnation_reset", "a RST ends what its peer kept of the incarnation before; detail: the stream before"),
)  # fmt: skip
"""Name and meaning of each event, by code."""


@kernel
def note(
    flows: Int64s, events: Int64s, g: Int64s, flow: int, x: int, code: int, detail: int, time: int, frame: int
) -> int:
    """Write an event that concerns the endpoint at block x."""
    row = g[G_EVENTS]
    g[G_EVENTS] = row + 1
    at = row * EVENT_STRIDE
    events[at + EV_TIME] = time
    events[at + EV_FRAME] = frame
    events[at + EV_WHO] = flows[flow + STREAM] << 1 | (1 if x != flow + CLIENT else 0)
    events[at + EV_CODE] = code
    events[at + EV_DETAIL] = detail
    return 0
