"""What a capture holds, in a page of numbers: the data behind the terminal summary and `--json`.

Computed with numpy over raw columns: no pandas, so that a small capture is told about at once; few temporaries, so
that two million connections are counted in a second.

Never here: layout.  Sources: tcpdump.org's registry of link types.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol

import numpy

from observer.outputs.finding_rows import rows_as_json
from observer.outputs.grouping import Group, group
from observer.schema import CERTAINTIES, ENDINGS, NULL_TIME, STATES, TAPS, Coded, Columns

if typing.TYPE_CHECKING:
    Ints = numpy.ndarray[Any, numpy.dtype[Any]]

    class FileFacts(Protocol):
        """What is asked of a capture file."""

        name: str
        format: str
        compression: str
        link_types: Sequence[int]
        frames: int
        dropped_interface: int | None
        dropped_os: int | None

    class DamageFacts(Protocol):
        """What is asked of a damage."""

        file: str
        offset: int
        frame: int
        message: str

    class CaptureFacts(Protocol):
        """What is asked of a capture that was read."""

        @property
        def files(self) -> Sequence[Any]:
            """Give a `FileFacts` for each file."""

        @property
        def damages(self) -> Sequence[Any]:
            """Give a `DamageFacts` for each damage."""

        @property
        def frames(self) -> int:
            """Count the frames."""

        @property
        def first_time_ns(self) -> int | None:
            """Tell the time of the first frame."""

        @property
        def last_time_ns(self) -> int | None:
            """Tell the time of the last frame."""

        @property
        def interrupted(self) -> bool:
            """Tell whether reading was interrupted."""


LINK_TYPES: Final = {
    0: "BSD loopback", 1: "Ethernet", 8: "SLIP", 9: "PPP", 10: "FDDI", 12: "raw IP", 14: "raw IP", 50: "PPP",
    51: "PPPoE", 101: "raw IP", 104: "Cisco HDLC", 105: "802.11", 107: "frame relay", 108: "OpenBSD loopback",
    113: "Linux cooked", 119: "802.11 (Prism)", 127: "802.11 (radiotap)", 163: "802.11 (AVS)", 192: "PPI",
    228: "raw IPv4", 229: "raw IPv6", 239: "NFLOG", 276: "Linux cooked v2",
}  # fmt: skip
"""LINKTYPE_ numbers of tcpdump.org in words."""
LISTENERS: Final = 5
"""Listeners in a summary."""
HANDSHAKES: Final = 5
"""Slow handshakes in a summary."""
PART_ROWS: Final = 8192
"""Connections looked at at once: their rows (4 MB) stay in the caches, and are memory that is used again."""


class File(typing.NamedTuple):
    """One capture file."""

    name: str
    format: str
    link_types: list[str]
    frames: int
    dropped: int
    """Frames that the capturing machine says it lost."""


class Skip(typing.NamedTuple):
    """Frames that gave no segment for one reason."""

    reason: str
    explanation: str
    frames: int
    octets: int | None
    damage: bool


class Outcome(typing.NamedTuple):
    """Connections that ended alike."""

    ended: str
    client_state: str
    client_assumed: bool
    server_state: str
    server_assumed: bool
    connections: int
    example: int
    """The first stream of them."""


class Listener(typing.NamedTuple):
    """One server address and port."""

    address: str
    port: int
    connections: int
    clients: int
    client_octets: int
    server_octets: int


class Handshake(typing.NamedTuple):
    """One connection's handshake."""

    stream: int
    client_address: str
    client_port: int
    server_address: str
    server_port: int
    handshake_ns: int
    syn_count: int
    synack_count: int


@dataclass(kw_only=True)
class Summary:
    """A capture in numbers; `as_json` is its documented form."""

    files: list[File] = field(default_factory=list)
    frames: int = 0
    first_time_ns: int | None = None
    last_time_ns: int | None = None
    interrupted: bool = False
    damages: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    segments: int = 0
    quoted: int = 0
    selection: str = ""
    connections_in_capture: int = 0
    connections: int = 0
    client_octets: int = 0
    server_octets: int = 0
    retransmitted: int = 0
    packets: int = 0
    opening_not_seen: int = 0
    one_direction: int = 0
    tap: str | None = None
    tap_share: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    client_states: dict[str, int] = field(default_factory=dict)
    server_states: dict[str, int] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    listener_count: int = 0
    handshakes: int = 0
    handshake_median_ns: int | None = None
    slowest_handshakes: list[Handshake] = field(default_factory=list)
    finding_groups: list[Group] = field(default_factory=list)
    findings: Columns | None = None

    @property
    def undecodable(self) -> int:
        """Frames that may have held TCP and could not be decoded."""
        return sum(skip.frames for skip in self.skipped if skip.damage)

    @property
    def damaged(self) -> bool:
        """Whether the capture was damaged or partly undecodable: exit status 1."""
        return bool(self.damages or self.undecodable or self.interrupted or any(skip.damage for skip in self.skipped))

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints: the fields of this class, times in ns since 1970 UTC, `None` for unknown.

        `finding_groups` are findings as the summary tells them, `findings` each for itself.  `damaged` and
        `undecodable_frames` are added; keys stay the same from version to version.
        """
        rows = ("files", "skipped", "outcomes", "listeners", "slowest_handshakes")
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        told.update({name: [row._asdict() for row in told[name]] for name in rows})
        told["finding_groups"] = [one.as_json() for one in self.finding_groups]
        told["findings"] = [] if self.findings is None else rows_as_json(self.findings)
        return {**told, "undecodable_frames": self.undecodable, "damaged": self.damaged}


def summarise(
    capture: CaptureFacts,
    segments: int,
    skipped: Columns,
    flows: Columns,
    *,
    quoted: int = 0,
    findings: Columns | None = None,
    chosen: Any = None,
    selection: str = "",
) -> Summary:
    """Summarise a capture.

    Parameters
    ----------
    capture
        Files, frames, times and damages.
    segments
        Number of segments decoded.
    skipped, flows
        Raw columns.
    quoted
        Frames that hold no segment but an ICMP error that quotes one.
    findings
        Raw columns of the findings to tell about, the worst first.
    chosen
        Mask or ascending positions of the flows to tell about; None: all.
    selection
        How they were chosen, in words.
    """
    summary = Summary(
        files=[_file(file) for file in capture.files],
        frames=int(capture.frames),
        first_time_ns=_known(capture.first_time_ns),
        last_time_ns=_known(capture.last_time_ns),
        interrupted=bool(capture.interrupted),
        damages=[
            {"file": d.file, "offset": int(d.offset), "frame": int(d.frame), "message": d.message}
            for d in capture.damages
        ],
        skipped=_skips(skipped),
        segments=int(segments),
        quoted=int(quoted),
        selection=selection,
        connections_in_capture=flows.rows,
        finding_groups=group(findings) if findings is not None else [],
        findings=findings,
    )
    if chosen is not None:
        flows = flows.take(chosen)
    summary.connections = flows.rows
    if flows.rows:
        _count(summary, flows)
    return summary


def _known(time_ns: int | None) -> int | None:
    return None if time_ns is None or int(time_ns) == NULL_TIME else int(time_ns)


def _file(file: Any) -> File:
    compression = getattr(file, "compression", "")
    links = [LINK_TYPES.get(int(number), f"link type {int(number)}") for number in getattr(file, "link_types", ())]
    return File(
        name=str(file.name),
        format=f"{file.format}, {compression}" if compression else str(file.format),
        link_types=list(dict.fromkeys(links)),
        frames=int(getattr(file, "frames", 0) or 0),
        dropped=sum(int(getattr(file, name, 0) or 0) for name in ("dropped_interface", "dropped_os")),
    )


def _skips(skipped: Columns) -> list[Skip]:
    """Count skipped frames by reason: what is damage first, then the most frequent."""
    if not skipped.rows:
        return []
    reasons, explanations = (_texts(skipped[name]) for name in ("reason", "explanation"))
    rows = zip(
        reasons, explanations, *(numpy.asarray(skipped[name]).tolist() for name in ("damage", "frames", "octets")),
        strict=True,
    )  # fmt: skip
    found: dict[tuple[str, str], Skip] = {}
    for reason, explanation, damage, frames, octets in rows:
        key = (reason, explanation)
        old = found.get(key, Skip(reason, explanation, 0, 0, bool(damage)))
        total = None if octets < 0 or old.octets is None else old.octets + octets
        found[key] = old._replace(frames=old.frames + frames, octets=total)
    return sorted(found.values(), key=lambda skip: (not skip.damage, -skip.frames, skip.reason))


def _texts(raw: Any) -> list[str]:
    if isinstance(raw, Coded):
        return [raw.values[code] if code >= 0 else "" for code in numpy.asarray(raw.codes).tolist()]
    return [str(text) for text in raw]


class _Kept(typing.NamedTuple):
    """The columns that are needed whole: some octets per connection."""

    listener: Ints
    client: Ints
    client_octets: Ints
    server_octets: Ints
    handshake_ns: Ints


def _count(summary: Summary, flows: Columns) -> None:
    """Count connections a part at a time: the whole table is never in memory."""
    outcomes = numpy.zeros(len(ENDINGS) * (2 * len(STATES)) ** 2, numpy.int64)
    examples = numpy.full(len(outcomes), -1, numpy.int64)
    taps = numpy.zeros(len(TAPS), numpy.int64)
    kept = _Kept(*(numpy.empty(flows.rows, kind) for kind in ("i8", "i4", "i8", "i8", "i8")))
    start = 0
    for part in flows.parts(PART_ROWS):
        rows = slice(start, start + part.rows)
        start += part.rows
        _count_traffic(summary, part)
        key = _outcome_keys(part)
        counts = numpy.bincount(key, minlength=len(outcomes))
        outcomes += counts
        streams = numpy.asarray(part["stream"])
        for code in numpy.flatnonzero((counts > 0) & (examples < 0)).tolist():
            examples[code] = streams[int((key == code).argmax())]
        if "tap" in part:
            codes = numpy.asarray(part["tap"])
            taps += numpy.bincount(codes[codes >= 0].astype(numpy.int64), minlength=len(TAPS))
        kept.listener[rows] = part["server_addr"]
        kept.listener[rows] <<= 16
        kept.listener[rows] += numpy.asarray(part["server_port"])
        kept.client[rows] = part["client_addr"]
        kept.client_octets[rows] = part["client_octets"]
        kept.server_octets[rows] = part["server_octets"]
        kept.handshake_ns[rows] = part.get("handshake_ns", -1)
    if taps.sum():
        summary.tap = TAPS[int(taps.argmax())]
        summary.tap_share = round(float(taps.max() / taps.sum()), 3)
    _tell_outcomes(summary, outcomes, examples)
    _find_listeners(summary, flows, kept)
    _find_handshakes(summary, flows, kept.handshake_ns)


def _sum(flows: Columns, *names: str) -> int:
    return sum(int(numpy.asarray(flows[name]).sum(dtype=numpy.int64)) for name in names)


def _count_traffic(summary: Summary, flows: Columns) -> None:
    client, server = (numpy.asarray(flows[f"{side}_packets"]) for side in ("client", "server"))
    summary.packets += int(client.sum(dtype=numpy.int64) + server.sum(dtype=numpy.int64))
    # an unanswered SYN is no sign that the tap misses a direction
    syn = numpy.asarray(flows["syn_count"]) > 0
    summary.one_direction += int((((client == 0) | (server == 0)) & ~syn).sum())
    summary.opening_not_seen += int((numpy.asarray(flows["roles"]) != 0).sum())
    summary.client_octets += _sum(flows, "client_octets")
    summary.server_octets += _sum(flows, "server_octets")
    summary.retransmitted += _sum(flows, "client_retransmitted", "server_retransmitted")


def _outcome_keys(flows: Columns) -> Ints:
    """Return the combination of ending, both states and whether they are assumed as one integer."""
    assumed = CERTAINTIES.index("assumed")
    key = numpy.array(flows["ended"], numpy.int64)
    for side in ("client", "server"):
        key *= len(STATES)
        key += numpy.asarray(flows[f"{side}_state"])
        key *= 2
        key += numpy.asarray(flows[f"{side}_certainty"]) == assumed
    return key


def _tell_outcomes(summary: Summary, counts: Ints, examples: Ints) -> None:
    states = len(STATES)
    for code in numpy.argsort(-counts, kind="stable").tolist():
        number = int(counts[code])
        if not number:
            break
        rest, server = divmod(code, 2 * states)
        ended, client = divmod(rest, 2 * states)
        outcome = Outcome(
            ended=ENDINGS[ended],
            client_state=STATES[client // 2],
            client_assumed=bool(client % 2),
            server_state=STATES[server // 2],
            server_assumed=bool(server % 2),
            connections=number,
            example=int(examples[code]),
        )
        summary.outcomes.append(outcome)
        for total, name in (
            (summary.ended, outcome.ended),
            (summary.client_states, outcome.client_state),
            (summary.server_states, outcome.server_state),
        ):
            total[name] = total.get(name, 0) + number


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Return the distinct values and how often each occurs; numpy.unique would import masked arrays (15 ms)."""
    ordered = numpy.sort(values)
    first = numpy.flatnonzero(numpy.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[first], numpy.diff(numpy.concatenate((first, [len(ordered)])))


def _how_many(codes: Ints) -> int:
    """Return how many different codes there are, without sorting the millions of a flood."""
    seen = numpy.zeros(int(codes.max(initial=0)) + 1, bool)
    seen[codes] = True
    return int(numpy.count_nonzero(seen))


def _find_listeners(summary: Summary, flows: Columns, kept: _Kept) -> None:
    keys, counts = _distinct(kept.listener)
    summary.listener_count = len(keys)
    addresses = flows.addresses
    for at in numpy.argsort(-counts, kind="stable")[:LISTENERS].tolist():
        mine = kept.listener == keys[at]
        summary.listeners.append(
            Listener(
                address=addresses.text(int(keys[at]) >> 16) if addresses else "?",
                port=int(keys[at]) & 0xFFFF,
                connections=int(counts[at]),
                clients=_how_many(kept.client[mine]),
                client_octets=int(kept.client_octets[mine].sum()),
                server_octets=int(kept.server_octets[mine].sum()),
            )
        )


def _find_handshakes(summary: Summary, flows: Columns, spans: Ints) -> None:
    known = numpy.flatnonzero(spans >= 0)
    summary.handshakes = len(known)
    if not len(known):
        return
    seen = spans[known]
    summary.handshake_median_ns = int(numpy.partition(seen, len(seen) // 2)[len(seen) // 2])
    first = len(seen) - min(HANDSHAKES, len(seen))
    few = flows.take(numpy.sort(known[numpy.argpartition(seen, first)[first:]]))
    names = (
        "stream", "client_addr", "client_port", "server_addr", "server_port", "handshake_ns", "syn_count",
        "synack_count",
    )  # fmt: skip
    addresses = flows.addresses
    for row in zip(*(numpy.asarray(few[name]).tolist() for name in names), strict=True):
        stream, client, client_port, server, server_port, span, syns, synacks = row
        summary.slowest_handshakes.append(
            Handshake(
                stream=stream,
                client_address=addresses.text(client) if addresses else "?",
                client_port=client_port,
                server_address=addresses.text(server) if addresses else "?",
                server_port=server_port,
                handshake_ns=span,
                syn_count=syns,
                synack_count=synacks,
            )
        )
    summary.slowest_handshakes.sort(key=lambda handshake: (-handshake.handshake_ns, handshake.stream))
