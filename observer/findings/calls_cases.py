"""What one connection's calls did where more than a single change of state tells it.

It answers three questions that every engineer meets: why send() succeeds on a half-established connection, why recv()
fails only after a send, and why an endpoint that only receives never notices that its peer is gone.

Never here: what a single change of state means (calls_words.py).  Sources: CRITERIA.md, "The socket view"; Linux
net/ipv4/tcp_timer.c (tcp_write_err: sk_err_soft, else ETIMEDOUT), tcp_fastopen.c; RFC 1122 4.2.3.6 (keepalive).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from observer.findings.calls_words import SENDS, Told, errno_of_icmp
from observer.findings.case import Case, End, Note, Step
from observer.findings.words import SECOND, duration, times
from observer.registry import Finding, Wake
from observer.schema import ENDINGS, STATES

if TYPE_CHECKING:
    from observer.options import Options

LONG_TRIP: Final = SECOND // 5
"""A round trip of the handshake from here on may be a loss or a pause: Linux repeats after 200 ms at least
(TCP_RTO_MIN)."""
KEEPALIVE_PROBES: Final = 2
"""Unanswered ones before a RST, at least: with one there is no interval to compare the RST's delay with."""
KEEPALIVE_SLACK: Final = 0.3
"""How far the RST may stand from the probes' interval (timers run late, INFERENCE.md)."""
GONE_BY: Final = frozenset({"expire", "give_up", "snd_rst", "rcv_rst", "replaced"})
"""Causes by which an endpoint loses a connection of which its peer may know nothing."""
WAITING: Final = frozenset({"ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2"})
"""States in which recv() waits."""
SENDING: Final = frozenset({"ESTABLISHED", "CLOSE_WAIT"})
"""States in which send() is possible (RFC 9293 3.10.2); who has sent FIN has nothing more to send."""


class Row(NamedTuple):
    """What one call of an endpoint did."""

    endpoint: str
    told: Told
    time: int
    frame: int
    certainty: str
    instead: tuple[tuple[str, str], ...] = ()
    """Plain rows of this endpoint, as (call, outcome), that it replaces."""


def marker() -> Finding:
    """What marks the connections of which `calls_of` has something to say."""
    return Finding(
        name="calls",
        title="calls",
        definition="Connections whose calls take more than a change of state to tell.",
        source="CRITERIA.md, the socket view",
        severity="info",
        remedy="",
        wakes=[
            Wake(name)
            for name in (
                "synack_after_ack", "stateless_synack", "zero_window", "unanswered", "icmp_error", "fast_open",
            )
        ],
        wakes_flows=_one_is_gone_or_probed,
    )  # fmt: skip


def _one_is_gone_or_probed(flows: Mapping[str, Any], options: Options) -> Any:
    """One endpoint waits, the other is closed, and no FIN has ended it; or a reset one had seen keepalive probes."""
    import numpy

    waiting = numpy.array([STATES.index(state) for state in sorted(WAITING)])
    closed, fin, reset = STATES.index("CLOSED"), ENDINGS.index("fin"), ENDINGS.index("reset")
    client, server = flows["client_state"], flows["server_state"]
    lost = numpy.isin(client, waiting) & (server == closed) | numpy.isin(server, waiting) & (client == closed)
    probes = numpy.maximum(flows["client_keepalives"], flows["server_keepalives"])
    return lost & (flows["ended"] != fin) | (probes >= KEEPALIVE_PROBES) & (flows["ended"] == reset)


def calls_of(case: Case) -> Iterator[Row]:
    """What a connection's calls did beside what single changes of state tell, or instead of it."""
    yield from _fast_open(case)
    half = list(_half_established(case))
    yield from half
    for end in case.ends:
        yield from _keepalive(case, end)
        yield from _unanswered(case, end, known=bool(half))
        yield from _blocked(case, end)
        if not half:
            yield from _never_notices(case, end)


def after(case: Case, end: End, time: int) -> int:
    """When an endpoint had what passed the tap at this time: half a round trip between the two later.

    Where the opening was repeated the round trip may be that of something else.
    """
    trip = end.count("rtt_ns")
    once = case.flow["syn_count"] == 1 and case.flow["synack_count"] == 1
    return time + trip // 2 if once and 0 < trip < LONG_TRIP else time


def _up(end: End) -> Step | None:
    """Its first step behind the handshake."""
    return next((step for step in end.steps if step.to_state in ("ESTABLISHED", "CLOSE_WAIT")), None)


# --- why did send() succeed on a half-established connection? -------------------------------------------


def _half_established(case: Case) -> Iterator[Row]:
    """The client is ESTABLISHED, the server is not: send() succeeds, recv() waits."""
    evidence = case.server.said("synack_after_ack", "stateless_synack")
    up, joined = _up(case.client), _up(case.server)
    if not evidence or up is None or (joined is not None and joined.time <= evidence[0].time):
        return
    repeated = bool(case.server.said("synack_after_ack"))
    time = after(case, case.client, up.time)
    sends = "send() returns success although "
    sends += "the server has not" if repeated else "nothing shows that the server has"
    sends += " completed the handshake: "
    if joined is None:
        sends += "it means only that the client's kernel holds the octets; nothing ever acknowledges them"
    else:
        sends += f"the client's kernel holds the octets until the server takes them, {_later(joined, up)} later"
    yield Row("client", Told("send", "ok", sends), time, up.frame, "sent", (("send", "ok"),))
    if joined is not None:
        return
    if not repeated:
        yield from _forgotten(case)
    waits = _waiting(case, up, repeated=repeated)
    if waits:
        certainty = "sent" if repeated else "assumed"
        yield Row("client", Told("recv", "blocked", waits), time, evidence[0].frame, certainty)


def _waiting(case: Case, up: Step, *, repeated: bool) -> str:
    """Why and how long the client's recv() waits on a half-established connection; "": it does not."""
    reset = case.client.last("rcv_rst")
    waits = (
        "recv() waits: the server never completed the handshake" if repeated else "recv() waits: no word of the server"
    )
    if reset is not None and case.client.count("octets"):
        return f"{waits}, until the client's own octets draw a RST {_later(reset, up)} later"
    if reset is not None:
        return f"{waits}, until it answers by RST {_later(reset, up)} later"
    if case.client.state not in WAITING:
        return ""
    if case.client.count("octets"):
        return f"{waits}, until a RST answers the client's own octets or its kernel gives them up (ETIMEDOUT)"
    return f"{waits}; a client that only receives is never told, only sending or keepalive would find out"


def _forgotten(case: Case) -> Iterator[Row]:
    """The server sent one SYN-ACK and was never heard again: two causes leave the same trace."""
    expired = case.server.last("expire")
    if expired is None:
        return
    text = "accept() seems never to return this connection: the server has kept no request for it (SYN cookie, full"
    text += " queue); if it vanished right after the handshake, accept() has returned"
    told = Told("accept", "blocked", text)
    yield Row("server", told, expired.time, expired.frame, expired.certainty, (("accept", "blocked"),))


def _later(step: Step, earlier: Step) -> str:
    return duration(max(step.time - earlier.time, 0))


# --- why does a receiver never notice a dead peer? ------------------------------------------------------


def _never_notices(case: Case, end: End) -> Iterator[Row]:
    """The peer has lost the connection; who only receives is not told."""
    other = case.other(end)
    if case.one_way or end.state not in WAITING or other.state != "CLOSED" or not other.steps:
        return
    lost, up = other.steps[-1], _up(end)
    if lost.cause not in GONE_BY or end.said("unanswered") or up is None or up.certainty == "assumed":
        return
    shut = "" if end.state == "ESTABLISHED" else "; nobody asks if its socket is closed, not shut down"
    # who gave up had no answer: this endpoint may be gone itself
    if_there = f" if the {end.name} is still there" if lost.cause == "give_up" else ""
    recv = (
        f"recv() waits for ever{if_there}: the {other.name} is gone, and an endpoint that only receives sends nothing"
    )
    recv += f" that would find out (keepalive would){shut}"
    yield Row(end.name, Told("recv", "blocked", recv), lost.time, lost.frame, lost.certainty)
    if end.state == "ESTABLISHED" and not if_there:
        send = f"send() would still return success: the kernel buffers; only the answer shows that the {other.name}"
        yield Row(end.name, Told("send", "ok", send + " is gone"), lost.time, lost.frame, lost.certainty)


def _unanswered(case: Case, end: End, *, known: bool) -> Iterator[Row]:
    """Octets sent again and again: send() had succeeded, the error comes with the end of the repeats."""
    notes = end.said("unanswered")
    if not notes or notes[-1].time < case.other(end).last_time:
        return
    first = last = notes[-1]
    for note in reversed(notes):
        if note.value > first.value:
            break
        first = note
    if not known:
        text = f"send() has returned success, yet its octets are sent again {times(last.value)} and nothing answers"
        yield Row(end.name, SENDS._replace(sentence=text), first.time, first.frame, "sent")
    yield from _gave_up(case, end, last)


def _gave_up(case: Case, end: End, last: Note) -> Iterator[Row]:
    """The endpoint's kernel stopped trying: with which errno, after how many repeats."""
    step = end.last("give_up")
    if step is None or step.time < last.time:
        return
    errno = _soft_error(case, end)
    why = f"the kernel gave up after {last.value} retransmissions without answer"
    if errno != "ETIMEDOUT":
        why += ", and an ICMP error had said why"
    calls = {"ESTABLISHED": ("recv", "send"), "CLOSE_WAIT": ("send",), "FIN_WAIT_1": ("recv",)}
    for call in calls.get(step.from_state, ()):
        told = Told(call, errno, f"{call}() fails with {errno}: {why}")
        yield Row(end.name, told, step.time, step.frame, step.certainty, ((call, "ETIMEDOUT"),))


def _soft_error(case: Case, end: End) -> str:
    """The errno of a time-out: of the last ICMP error since the peer was heard, else ETIMEDOUT."""
    errors = [note for note in end.said("icmp_error") if note.time >= case.other(end).last_time]
    if not errors:
        return "ETIMEDOUT"
    return errno_of_icmp(case.flow["version"], *divmod(errors[-1].value, 256))


def _keepalive(case: Case, end: End) -> Iterator[Row]:
    """Probes without answer, then a RST as late as one more probe would be: the kernel's doing, not close()."""
    step = end.last("snd_rst")
    probes = [note for note in end.said("keepalive_probe") if note.time > case.other(end).last_time]
    if step is None or len(probes) < KEEPALIVE_PROBES or step.time < probes[-1].time:
        return
    interval = probes[-1].time - probes[-2].time
    if abs(step.time - probes[-1].time - interval) > KEEPALIVE_SLACK * interval:
        return
    errno = _soft_error(case, end)
    calls = ("send",) if step.from_state == "CLOSE_WAIT" else ("recv", "send")
    for call in calls:
        text = f"{call}() fails with {errno}: {len(probes)} keepalive probes were not answered, the kernel gave up"
        yield Row(end.name, Told(call, errno, text), step.time, step.frame, step.certainty)
    yield from _doubtful(case.other(end), step, len(probes))


def _doubtful(end: End, reset: Step, probes: int) -> Iterator[Row]:
    """What a RST means to an endpoint that has not answered for long."""
    taken = end.last("rcv_rst")
    if taken is None or taken.frame != reset.frame or taken.from_state != "ESTABLISHED":
        return
    for call in ("recv", "send"):
        text = f"{call}() fails with ECONNRESET if the {end.name} is still there: it had not answered {probes} probes"
        told = Told(call, "ECONNRESET", text)
        yield Row(end.name, told, taken.time, taken.frame, taken.certainty, ((call, "ECONNRESET"),))


# --- a sender that waits ---------------------------------------------------------------------------------


def _blocked(case: Case, end: End) -> Iterator[Row]:
    """The peer's window is closed: send() blocks once its own buffer is full."""
    least = int(case.around.options.zero_window_s * SECOND)
    peer = case.other(end)
    notes = peer.said("zero_window", "window_opened")
    asked = [probe.time for probe in sorted(end.said("window_probe"), key=lambda probe: probe.time)]
    for index, note in enumerate(notes):
        if note.event != "zero_window" or end.before(note.frame) not in SENDING:
            continue
        follows = notes[index + 1] if index + 1 < len(notes) else None
        until = follows.time if follows else _ended(case, end, note)
        probes = bisect_right(asked, until) - bisect_left(asked, note.time)
        if until - note.time < least and not probes:
            continue
        span = f"for {duration(until - note.time)}"
        if follows is None:
            span += ", and it never opens again in this capture"
        text = f"send() blocks once the {end.name}'s own buffer is full: the {peer.name} announces window 0 {span},"
        text += f" its application does not read{f' (asked {times(probes)})' if probes else ''}"
        told = Told("send", "blocked", text)
        certainty = "acknowledged" if probes else "assumed"
        yield Row(end.name, told, after(case, end, note.time), note.frame, certainty)
        if follows is not None:
            text = f"send() goes on: the {peer.name} has opened its window again"
            told = SENDS._replace(sentence=text)
            yield Row(end.name, told, after(case, end, follows.time), follows.frame, "assumed")


def _ended(case: Case, end: End, note: Note) -> int:
    """When waiting for the window ended: with the endpoint's own end, or with the capture."""
    over = [step.time for step in end.steps if step.to_state == "CLOSED" and step.time >= note.time]
    return over[0] if over else case.around.end_ns


# --- Fast Open -------------------------------------------------------------------------------------------


def _fast_open(case: Case) -> Iterator[Row]:
    """Octets came with the SYN: both applications were on before the handshake was (RFC 7413)."""
    if not any(note.value > 0 for note in case.client.said("fast_open")):
        return
    syn, answer = case.client.last("snd_syn"), case.server.last("snd_synack")
    if syn is not None:
        text = "send() returns before the handshake is complete: its octets go with the SYN (TCP Fast Open)"
        yield Row("client", SENDS._replace(sentence=text), syn.time, syn.frame, "sent", (("send", "ok"),))
    if answer is not None:
        for call, text in (
            ("accept", "accept() can return before the handshake is complete: the SYN brought octets (TCP Fast Open)"),
            ("recv", "recv() returns the octets that came with the SYN (TCP Fast Open)"),
        ):
            yield Row("server", Told(call, "ok", text), answer.time, answer.frame, answer.certainty, ((call, "ok"),))
