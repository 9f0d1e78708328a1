"""Roles where no SYN was captured: alike for all connections of a listener."""

from __future__ import annotations

import pytest

import observer

scapy = pytest.importorskip("scapy.all")


def segment(source: str, sport: int, destination: str, dport: int, flags: str = "A", seq: int = 1000) -> object:
    header = scapy.TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=2000)
    return scapy.IP(src=source, dst=destination) / header


def test_the_lower_port_listens_when_nothing_else_is_known() -> None:
    flows = observer.read([segment("10.0.0.9", 443, "10.0.0.1", 50000)]).flows
    assert flows.server_port.tolist() == [443] and flows.roles.tolist() == ["port"]


def test_several_peers_make_a_listener() -> None:
    """Clients below and above the listener's port: the same end listens in all."""
    packets = [
        segment(f"10.0.0.{i}", port, "10.0.1.1", 50000) for i, port in enumerate((33000, 41000, 60000, 50000), 1)
    ]
    flows = observer.read(packets).flows
    assert flows.server_port.tolist() == [50000] * 4
    assert flows.server_addr.tolist() == ["10.0.1.1"] * 4
    assert flows.roles.tolist() == ["listener"] * 4
    assert flows.client_packets.tolist() == [1] * 4 and flows.server_packets.tolist() == [0] * 4
    assert flows.client_state.tolist() == ["ESTABLISHED"] * 4


def test_a_seen_opening_tells_of_the_others() -> None:
    packets = [
        segment("10.0.0.1", 40000, "10.0.1.1", 50000, "S"),
        segment("10.0.0.2", 33000, "10.0.1.1", 50000),
    ]
    obs = observer.read(packets)
    assert obs.flows.server_port.tolist() == [50000, 50000]
    assert obs.flows.roles.tolist() == ["seen", "listener"]
    changes = obs.transitions[obs.transitions.stream == 1]
    assert changes.endpoint.tolist() == ["client"] and changes.to_state.tolist() == ["ESTABLISHED"]
    assert obs.packets([1]).direction.tolist() == ["client"]
    assert set(obs.events[obs.events.stream == 1].endpoint) == {"client"}
