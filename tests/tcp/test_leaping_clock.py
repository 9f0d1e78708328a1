"""Time stamps of a damaged capture leap by centuries: no sum of them may leave 64 bits (found by fuzzing)."""

from __future__ import annotations

import pytest

from observer import kernels
from observer.observe import read

scapy = pytest.importorskip("scapy.all")
CENTURIES = (315_000_000.4, 1_700_000_000.0, 0.0, 4_036_770_229.2, 315_000_000.4, 1.0, 4_036_700_000.5, 2.0, 3.0, 4.0)


def test_all_engines_agree() -> None:
    packets = []
    for number, when in enumerate(CENTURIES * 2):
        flags = ("PA", "FA", "FPA")[min(number, 2)]
        ends = ("10.0.0.1", "10.0.0.2", 40000, 80) if number != 2 else ("10.0.0.2", "10.0.0.1", 80, 40000)
        seq = 1000 if number == 0 else 1370
        header = scapy.TCP(sport=ends[2], dport=ends[3], flags=flags, seq=seq, ack=2342)
        packet = scapy.IP(src=ends[0], dst=ends[1]) / header / (b"x" * 370 if number == 0 else b"")
        packet.time = when
        packets.append(packet)
    slow = read(packets, engine=kernels.Interpreted())
    fast = read(packets, engine=kernels.Checked())
    assert len(slow.transitions) > 4
    assert slow.transitions.equals(fast.transitions)
    assert slow.flows.equals(fast.flows)
