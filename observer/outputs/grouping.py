"""Like findings as one: what people read when a listener has ten thousand half-established connections.

Findings with the same code, severity, cause and endpoint are alike.  Of these, what shares a listener or a host is one
group; what shares none is one group as soon as it is too much to read singly.  A population's finding takes in the
findings of the connections that make it up, unless they are worse than it.

Computed with numpy over raw columns: no pandas, and no more than a few octets for each finding.

Never here: layout, or what a finding means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy

from observer.outputs.display_filter import Place, filter_of
from observer.registry import Finding, collect
from observer.schema import ENDPOINTS, GRADES, NULL_TIME, SEVERITIES, Addresses, Coded, Columns

Ints = Any

PLACES: Final = 8
"""Groups of like findings by what they share; the rest is one more group."""
SHARES: Final = {"listener": 0.1, "server": 0.1, "client": 0.25}
"""Share of like findings from which on a place is worth an entry of its own; what is spread evenly has no place."""
MANY: Final = 1000
"""Connections of a population from which on its place says more than their numbers."""
SINGLES: Final = 3
"""Like findings that share nothing and are told one by one."""
FRAMES: Final = 100
"""Frame numbers of evidence that a group keeps, those of its worst findings first; single findings have all."""
TEXTS: Final = 3
"""Different texts of one kind that a group keeps, the most frequent first."""


class Group(NamedTuple):
    """Findings that are told as one.

    Attributes
    ----------
    code, title, severity, cause, endpoint
        What all of them have in common; the title as people say it.
    cause_meaning
        What the cause means; None: it speaks for itself.
    grade
        The strongest of them.
    grades
        How many have which grade.
    findings
        How many findings these are, absorbed ones not counted.
    population
        Whether they are about populations.
    scope
        What they share: connection (it is one), listener, server, client (addresses), or capture (nothing).
    client_addr, client_port, server_addr, server_port
        What of these all have in common; else None.
    connections, clients, listeners
        How many different ones are concerned, as far as the findings name them.
    streams
        Numbers of the connections, ascending.
    example
        The worst connection's number; None: no connection is named.
    begin_ns, end_ns
        From the first begin to the last end, ns since 1970; None: not known, or `lasting`.
    lasting
        How many had not ended.
    frames
        Evidence, that of the worst findings first, at most `FRAMES`.
    frame_count
        How many frames of evidence there are in all.
    summary, remedy
        Of the worst finding.
    unknown
        What the tap cannot tell, the most frequent sentences first.
    absorbed
        Codes of findings of single connections that these explain, and how many.
    filter, filter_shows
        Wireshark's display filter for the connections, and whether it shows them exactly, more, some, or nothing.
    rows
        Their rows in the table of findings, the worst first.
    """

    code: str
    title: str
    severity: str
    grade: str
    cause: str | None
    cause_meaning: str | None
    endpoint: str | None
    population: bool
    scope: str
    client_addr: str | None
    client_port: int | None
    server_addr: str | None
    server_port: int | None
    findings: int
    grades: dict[str, int]
    connections: int
    clients: int
    listeners: int
    streams: list[int]
    example: int | None
    begin_ns: int | None
    end_ns: int | None
    lasting: int
    frames: list[int]
    frame_count: int
    summary: str
    remedy: str | None
    unknown: list[str]
    absorbed: dict[str, int]
    filter: str
    filter_shows: str
    rows: list[int]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of this class, except `rows`, which belong to a run and not to the capture."""
        return {name: value for name, value in self._asdict().items() if name != "rows"}


def group(findings: Columns, *, absorb: bool = True) -> list[Group]:
    """Group the rows of a table of findings, the worst first.

    Parameters
    ----------
    findings
        Raw columns, the worst row first, with the column `streams` beside the documented ones (see
        `findings.table.find`).
    absorb
        Whether populations take in the findings of their connections.
    """
    if not findings.rows:
        return []
    rows = _Rows(findings)
    owners = _owners(rows) if absorb else numpy.full(rows.count, -1, numpy.int64)
    absorbed: dict[int, list[int]] = {}
    for row in numpy.flatnonzero(owners >= 0).tolist():
        absorbed.setdefault(int(owners[row]), []).append(row)
    known = collect(Finding)
    groups = []
    for bucket in _alike(rows, numpy.flatnonzero(owners < 0)):
        for scope, members in _places(rows, bucket):
            taken = [row for member in members.tolist() for row in absorbed.get(member, ())] if absorbed else []
            groups.append(_group(rows, scope, members, taken, known))
    return sorted(groups, key=_worst_first)


def _worst_first(one: Group) -> tuple[Any, ...]:
    severity, grade = SEVERITIES.index(one.severity), GRADES.index(one.grade)
    return -severity, not one.population, grade, -one.findings, one.rows[0]


class _Rows:
    """The columns of findings that grouping looks at, as arrays."""

    def __init__(self, findings: Columns) -> None:
        def numbers(name: str) -> Ints:
            return numpy.asarray(findings.get(name, numpy.full(findings.rows, -1)), numpy.int64)

        self.count = findings.rows
        self.addresses: Addresses | None = findings.addresses
        self.code: Coded = findings["code"]
        self.cause: Coded = findings.get("cause", Coded(numpy.full(findings.rows, -1), []))
        self.codes, self.causes = (numpy.asarray(coded.codes, numpy.int64) for coded in (self.code, self.cause))
        self.severity, self.grade, self.stream, self.endpoint = map(
            numbers, ("severity", "grade", "stream", "endpoint")
        )
        self.client, self.client_port, self.server, self.server_port = map(
            numbers, ("client_addr", "client_port", "server_addr", "server_port")
        )
        self.listener = numpy.where(self.server_port < 0, -1, self.server << 16 | self.server_port)
        self.begin, self.end = numbers("begin"), numbers("end")
        nothing: list[Any] = [None] * findings.rows
        self.frames: Sequence[list[int]] = findings["frames"]
        self.streams: Sequence[list[int] | None] = findings.get("streams", nothing)
        self.summary: Sequence[str] = findings["summary"]
        self.remedy: Sequence[str | None] = findings.get("remedy", nothing)
        self.unknown: Sequence[str | None] = findings.get("unknown", nothing)

    def text(self, address: int) -> str | None:
        """Return an address by its code."""
        return self.addresses.text(address) if self.addresses is not None and address >= 0 else None


def _owners(rows: _Rows) -> Ints:
    """Return for each row the row of the worst population that takes it in, -1 for none."""
    owners = numpy.full(rows.count, -1, numpy.int64)
    single = rows.stream >= 0
    for row in numpy.flatnonzero(~single).tolist():
        streams = rows.streams[row]
        if streams:
            inside = numpy.isin(rows.stream, numpy.array(streams, numpy.int64))
            owners[inside & single & (owners < 0) & (rows.severity <= rows.severity[row])] = row
    return owners


def _alike(rows: _Rows, chosen: Ints) -> Iterator[Ints]:
    """Part the chosen rows by what makes findings alike; each part keeps the order of the table."""
    key = rows.codes[chosen]
    for part, size in (
        (rows.severity, len(SEVERITIES)), (rows.causes, len(rows.cause.values)), (rows.endpoint, len(ENDPOINTS)),
        (numpy.minimum(rows.stream, 0), 1),
    ):  # fmt: skip
        key = key * (size + 1) + part[chosen] + 1
    for value in _ranked(key)[1]:
        yield chosen[key == value]


class _Distinct(NamedTuple):
    """Numbers from 0 for the different values, and the values."""

    rank: Ints
    values: list[int]


def _ranked(values: Ints) -> _Distinct:
    """Number the different values; numpy.unique would import masked arrays (15 ms)."""
    order = numpy.argsort(values, kind="stable")
    ordered = values[order]
    new = numpy.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    rank = numpy.empty(len(values), numpy.int64)
    rank[order] = numpy.cumsum(new) - 1
    return _Distinct(rank, ordered[new].tolist())


def _places(rows: _Rows, bucket: Ints) -> Iterator[tuple[str, Ints]]:
    """Part like findings by the listener or host that most of them share, then that most of the rest share."""
    if len(bucket) == 1:
        yield "connection", bucket
        return
    # of equals the first: a listener says more than a host, and servers are shared more often than clients
    shared = [
        (scope, _ranked(values[bucket]))
        for scope, values in (("listener", rows.listener), ("server", rows.server), ("client", rows.client))
    ]
    left = numpy.ones(len(bucket), bool)
    for _ in range(PLACES):
        counts = [numpy.bincount(ranked.rank[left], minlength=len(ranked.values)) for _, ranked in shared]
        for count, (_, ranked) in zip(counts, shared, strict=True):
            if ranked.values[0] == -1:
                count[0] = 0  # what has none of the kind does not share it
        for i, (scope, _) in enumerate(shared):
            counts[i][counts[i] < SHARES[scope] * len(bucket)] = 0
        best = max(range(len(shared)), key=lambda i: (int(counts[i].max()), -i))
        if int(counts[best].max()) <= 1:
            break
        mine = left & (shared[best][1].rank == int(counts[best].argmax()))
        left &= ~mine
        yield shared[best][0], bucket[mine]
        if not left.any():
            return
    rest = bucket[left]
    if len(rest) <= SINGLES:
        for row in rest.tolist():
            yield "connection", numpy.array([row])
    else:
        yield "capture", rest


def _group(rows: _Rows, scope: str, members: Ints, absorbed: list[int], known: dict[str, Finding]) -> Group:
    worst = int(members[0])
    code = rows.code.values[int(rows.codes[worst])]
    finding = known.get(code)
    cause = rows.cause.values[int(rows.causes[worst])] if rows.causes[worst] >= 0 else None
    population = bool(rows.stream[worst] < 0)
    streams, example = _streams(rows, members)
    proved = any(rows.frames[row] for row in members.tolist())
    frames, frame_count = _frames(rows, members.tolist() if proved else absorbed)
    begins, ends = rows.begin[members], rows.end[members]
    begins = begins[begins != NULL_TIME]
    lasting = int((ends == NULL_TIME).sum())
    everyone = numpy.concatenate((members, numpy.array(absorbed, numpy.int64))) if population else members
    client, client_port = _same(rows.client, rows.client_port, members)
    server, server_port = _same(rows.server, rows.server_port, members)
    place = Place(rows.text(client), client_port, rows.text(server), server_port)
    # a population that names so many connections may name only some of them
    some = population and len(streams) >= MANY and any(place)
    show = filter_of([] if some else streams, place)
    return Group(
        **place._asdict(),
        code=code,
        title=finding.title if finding else code.replace("_", " "),
        severity=SEVERITIES[int(rows.severity[worst])],
        grade=GRADES[int(rows.grade[members].min())],
        cause=cause,
        cause_meaning=finding.causes.get(cause) if finding and cause else None,
        endpoint=ENDPOINTS[int(rows.endpoint[worst])] if rows.endpoint[worst] >= 0 else None,
        population=population,
        scope=scope,
        findings=len(members),
        grades={
            name: int(number)
            for name, number in zip(GRADES, numpy.bincount(rows.grade[members], minlength=len(GRADES)), strict=True)
            if number
        },
        connections=len(streams),
        clients=_kinds(rows.client[everyone]),
        listeners=_kinds(rows.listener[everyone]),
        streams=streams,
        example=example,
        begin_ns=int(begins.min()) if len(begins) else None,
        end_ns=None if lasting else int(ends.max()),
        lasting=lasting,
        frames=frames,
        frame_count=frame_count,
        summary=rows.summary[worst],
        remedy=rows.remedy[worst],
        unknown=_texts(rows.unknown, members),
        absorbed=_counted([rows.code.values[code] for code in rows.codes[absorbed].tolist()]) if absorbed else {},
        filter=show.text,
        filter_shows=show.shows,
        rows=members.tolist(),
    )


def _streams(rows: _Rows, members: Ints) -> tuple[list[int], int | None]:
    """Return the connections, each once and in order, and the worst of them."""
    own = rows.stream[members]
    if own[0] >= 0:
        return _ranked(own).values, int(own[0])
    found = [stream for row in members.tolist() for stream in rows.streams[row] or ()]
    return sorted(set(found)), found[0] if found else None


def _frames(rows: _Rows, members: Sequence[int]) -> tuple[list[int], int]:
    kept: dict[int, None] = {}
    count = 0
    for row in members:
        frames = rows.frames[row] or []
        count += len(frames)
        if len(kept) < FRAMES:
            kept.update(dict.fromkeys(frames))
    # the same frame may prove several findings; counting each once would cost as much memory as all of them
    return list(kept)[:FRAMES], len(kept) if len(kept) < FRAMES else max(count, FRAMES)


def _same(addresses: Ints, ports: Ints, members: Ints) -> tuple[int, int | None]:
    """Return the address that all members have, -1 for none, and their port if all have that, too."""
    address, port = int(addresses[members[0]]), int(ports[members[0]])
    if address < 0 or not (addresses[members] == address).all():
        return -1, None
    return address, port if port >= 0 and (ports[members] == port).all() else None


def _kinds(values: Ints) -> int:
    known = values[values >= 0]
    return len(_ranked(known).values) if len(known) else 0


def _texts(texts: Sequence[str | None], members: Ints) -> list[str]:
    return list(_counted([text for row in members.tolist() if (text := texts[row])]))[:TEXTS]


def _counted(names: list[str]) -> dict[str, int]:
    """Count names, the most frequent first, then by first appearance."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
