"""Hosts, listeners and findings as pictures of many connections name them.

Never here: drawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from observer.errors import OptionError
from observer.plots.subject import numbers, texts
from observer.plots.words import endpoint
from observer.schema import SEVERITIES, Columns

if TYPE_CHECKING:
    from observer.plots.subject import ObservationSubject

Array = Any

PORT_BITS: Final = 16
SEVERITY_RANKS: Final = tuple(reversed(SEVERITIES))
"""The worst first."""


class Worst(NamedTuple):
    """The worst finding of one connection; rank: 0 is the worst severity; more: how many others it has."""

    rank: int
    code: str
    more: int = 0

    @property
    def severity(self) -> str:
        return SEVERITY_RANKS[self.rank]


def listeners(flows: Columns) -> Array:
    """Who each connection goes to, as one number: address code and port."""
    return numbers(flows, "server_addr") << PORT_BITS | numbers(flows, "server_port")


def host_text(columns: Columns, code: int) -> str:
    """Return the address of a code as text."""
    return columns.addresses.text(code) if columns.addresses is not None and code >= 0 else "?"


def listener_text(columns: Columns, number: int) -> str:
    """Return a number of `listeners` as address and port."""
    return endpoint(host_text(columns, number >> PORT_BITS), number & (1 << PORT_BITS) - 1)


def flow_texts(flows: Columns, streams: Array, *, server: bool) -> list[str]:
    """Return names of connections: stream and client, and server if asked for."""
    clients = (numbers(flows, "client_addr") << PORT_BITS | numbers(flows, "client_port"))[streams].tolist()
    servers = listeners(flows)[streams].tolist()
    found = []
    # a table of some connections is in the same order, and names each by its number in Wireshark
    for stream, client, own in zip(numbers(flows, "stream")[streams].tolist(), clients, servers, strict=True):
        name = f"{stream}  {listener_text(flows, client)}"
        found.append(f"{name} > {listener_text(flows, own)}" if server else name)
    return found


def worst_by_stream(subject: ObservationSubject) -> dict[int, Worst]:
    """Return the worst finding of each connection that has one of its own."""
    findings = subject.columns("findings")
    streams = numbers(findings, "stream").tolist()
    severities = numbers(findings, "severity").tolist()
    worst: dict[int, Worst] = {}
    for stream, severity, code in zip(streams, severities, texts(findings, "code"), strict=True):
        one = Worst(len(SEVERITIES) - 1 - severity, code)
        if stream < 0:
            continue
        known = worst.get(stream)
        if known is None:
            worst[stream] = one
        else:
            worst[stream] = min(known, one, key=lambda finding: finding.rank)._replace(more=known.more + 1)
    return worst


def host_code(columns: Columns, address: str) -> int:
    """Return the code of an address given as text.

    Raises
    ------
    OptionError
        The capture has no such address.
    """
    import ipaddress

    try:
        text = str(ipaddress.ip_address(address))
    except ValueError:
        raise OptionError(f"{address!r} is no address") from None
    known = columns.addresses.texts() if columns.addresses is not None else []
    if text not in known:
        raise OptionError(f"the capture has no connection of {address}")
    return known.index(text)


def listener_number(flows: Columns, address: str, port: int) -> int:
    """Return a listener's number (see `listeners`), given its address as text and its port.

    Raises
    ------
    OptionError
        The capture has no connection to it.
    """
    number = host_code(flows, address) << PORT_BITS | port
    if not (listeners(flows) == number).any():
        raise OptionError(f"the capture has no connection to {endpoint(address, port)}")
    return number
