"""Which connections are chosen."""

from __future__ import annotations

import ipaddress

import numpy
import output_samples as samples
import pytest

from observer import schema
from observer.errors import OptionError
from observer.outputs.selection import Selection, instant

FLOWS = samples.flows(500)
FRAME = schema.from_columns("flows", FLOWS)


@pytest.mark.parametrize("host", ["10.0.1.7", "10.0.1.0/28", "2001:db8::/32", "[2001:db8::1]", "0.0.0.0/0"])
def test_host(host: str) -> None:
    wanted = ipaddress.ip_network(host.strip("[]"))
    inside = [
        any(ipaddress.ip_address(address) in wanted for address in pair)
        for pair in zip(FRAME.client_addr, FRAME.server_addr, strict=True)
    ]
    assert Selection(hosts=(host,)).mask(FLOWS, 0).tolist() == inside
    assert any(inside)


def test_port_and_state() -> None:
    port = int(FRAME.server_port[3])
    assert (
        Selection(ports=(port,)).mask(FLOWS, 0).tolist()
        == ((FRAME.client_port == port) | (FRAME.server_port == port)).tolist()
    )
    either = (FRAME.client_state == "TIME_WAIT") | (FRAME.server_state == "TIME_WAIT")
    assert Selection(states=("time-wait",)).mask(FLOWS, 0).tolist() == either.tolist()
    assert Selection(states=("server:CLOSED",)).mask(FLOWS, 0).tolist() == (FRAME.server_state == "CLOSED").tolist()
    both = Selection(states=("server:CLOSED", "client:LISTEN"), ports=(port,)).mask(FLOWS, 0)
    assert not both.any() or numpy.flatnonzero(both).tolist() == [3]


def test_times_overlap() -> None:
    first, last = FLOWS["first_time"], FLOWS["last_time"]
    chosen = Selection(since="+0.3", until="+0.4").mask(FLOWS, samples.START_NS)
    assert (
        chosen.tolist()
        == ((last >= samples.START_NS + 300_000_000) & (first <= samples.START_NS + 400_000_000)).tolist()
    )
    assert 0 < chosen.sum() < 500


@pytest.mark.parametrize(
    "text", ["1795227123.123456789", "2026-11-21T02:12:03.123456+00:00", "2026-11-21 03:12:03.123456+01:00"]
)
def test_instants(text: str) -> None:
    assert abs(instant(text, 0) - samples.START_NS) < 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": ("10.0.0.300",)}, {"hosts": ("example.org",)}, {"ports": (65536,)}, {"states": ("OPEN",)},
        {"states": ("me:CLOSED",)}, {"since": "yesterday"}, {"until": "NaN"}, {"until": "1e400"},
        {"since": "+inf"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Selection(**wrong).check()  # type: ignore[arg-type]


def test_words() -> None:
    selection = Selection(hosts=("10.0.0.1",), ports=(80, 443), since="+1")
    assert selection.words(samples.START_NS) == (
        "host 10.0.0.1, port 80 or 443, since 2026-11-21 02:12:04.123 UTC"
    )  # fmt: skip
    assert not Selection()
