"""The table of populations against the obvious way to count: one endpoint, one step at a time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

import observer
from observer import Options, schema
from observer.findings import population
from observer.findings.population import population_columns
from observer.schema import STATES, Addresses, Coded, Columns

UNCOUNTED = ("CLOSED", "LISTEN")


def counted_naively(obs: observer.Observation) -> set[tuple[Any, ...]]:
    """Scope, address, port, endpoint, state, time, count."""
    flows, live = obs.flows, obs.transitions[obs.transitions.certainty != "retracted"]
    steps = list(zip(live.stream, live.endpoint, live.time, live.from_state, live.to_state, strict=True))
    begun = {(stream, endpoint): before for stream, endpoint, _, before, _ in reversed(steps)}
    for stream in flows.index:
        for endpoint in ("client", "server"):
            if begun.get((stream, endpoint), flows[f"{endpoint}_state"][stream]) == "UNKNOWN":
                steps.append((stream, endpoint, flows.first_time[stream], "CLOSED", "UNKNOWN"))
    changes: dict[tuple[Any, ...], dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for stream, endpoint, time, before, after in steps:
        flow = flows.loc[stream]
        for place in (("listener", flow.server_addr, flow.server_port), ("host", flow[f"{endpoint}_addr"], None)):
            for state, by in ((before, -1), (after, 1)):
                if state not in UNCOUNTED:
                    changes[*place, endpoint, state][time] += by
    rows = set()
    for key, by_time in changes.items():
        count = 0
        for time in sorted(by_time):
            count += by_time[time]
            if by_time[time]:
                rows.add((*key, time, count))
    return rows


def told(table: pandas.DataFrame) -> set[tuple[Any, ...]]:
    columns = ("scope", "addr", "port", "endpoint", "state", "time", "count")
    rows = zip(*(table[column] for column in columns), strict=True)
    return {tuple(None if value is pandas.NA else value for value in row) for row in rows}


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "many hosts over a long time"])
def test_population_of_every_capture_is_what_one_counts(
    captures: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    if not packed:  # as if place, state and time did not fit one number
        monkeypatch.setattr(population, "SORTED_BITS", 0)
    seen = 0
    for path in sorted(captures.glob("*.pcap*")):
        obs = observer.read(path)
        rows = told(obs.population)
        assert rows == counted_naively(obs), path.name
        assert obs.population["count"].min() >= 0
        seen += len(rows)
    assert seen > 10_000


def test_rows_stand_in_order_and_each_is_a_change(captures: Path) -> None:
    table = observer.read(captures / "time-wait-pileup.pcap.gz").population
    place = ["scope", "addr", "port", "endpoint", "state"]
    groups = table.groupby(place, observed=True, dropna=False)
    assert groups["time"].is_monotonic_increasing.all()
    assert (groups["count"].diff().dropna() != 0).all()
    # each place and state stands together
    number = groups.ngroup()
    assert (number != number.shift()).sum() == groups.ngroups
    schema.validate("population", table)


def test_three_hundred_in_time_wait(captures: Path) -> None:
    path = captures / "time-wait-pileup.pcap.gz"
    table = observer.read(path, options=Options(time_wait_s=0.01)).population
    waiting = table[(table["state"] == "TIME_WAIT") & (table["scope"] == "host")]
    assert waiting.endpoint.unique().tolist() == ["client"]
    assert 0 < waiting["count"].max() < 300
    kept = observer.read(path).population
    waiting = kept[(kept["state"] == "TIME_WAIT") & (kept["scope"] == "host")]
    assert waiting["count"].tolist() == list(range(1, 301))


def test_a_capture_without_connections_has_an_empty_table() -> None:
    from scapy.all import IP, UDP

    table = observer.read([IP(src="10.0.0.1", dst="10.0.0.2") / UDP()]).population
    assert len(table) == 0
    assert set(table.columns) == {"time", "scope", "addr", "port", "endpoint", "state", "count"}


class Pretended:
    """A source whose one connection has a time stamp before its first segment's: the capture's clock ran backwards."""

    options = Options()
    begin_ns, end_ns, lost_frames = 1000, 2000, 0

    def columns(self, table: str) -> Columns:
        one = {
            name: numpy.array([value])
            for name, value in {
                "client_addr": 0, "server_addr": 1, "client_port": 40000, "server_port": 80,
                "client_state": STATES.index("SYN_SENT"), "server_state": STATES.index("CLOSED"),
                "first_time": 1000, "last_time": 2000,
            }.items()
        }  # fmt: skip
        return Columns(table, 1, one, Addresses.of(["10.0.0.1", "10.0.0.2"]))

    def history(self, first: int, stop: int) -> Columns:
        row = {
            "stream": 0, "endpoint": 0, "time": 500, "frame": 1, "from_state": STATES.index("CLOSED"),
            "to_state": STATES.index("SYN_SENT"), "certainty": 0, "proof_frame": -1,
        }  # fmt: skip
        columns: dict[str, Any] = {name: numpy.array([value]) for name, value in row.items()}
        return Columns("transitions", 1, {**columns, "cause": Coded(numpy.zeros(1, int), ["snd_syn"])})


def test_times_outside_of_the_capture_are_kept() -> None:
    columns = population_columns(Pretended())
    assert columns["time"].tolist() == [500, 500]
    assert columns["count"].tolist() == [1, 1]
    assert columns["port"].tolist() == [80, -1]
    assert columns["addr"].tolist() == [1, 0]
