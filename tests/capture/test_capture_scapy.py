"""Lists of scapy packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import build
import pytest
from reading import expected, read

from observer.errors import CaptureError

scapy = pytest.importorskip("scapy.all")


def packet() -> Any:
    return scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / scapy.IP() / scapy.TCP()


def test_packets_of_a_file(tmp_path: Path) -> None:
    some = [(1_700_000_000_123_456_789 + i, bytes(packet() / bytes([i]))) for i in range(50)]
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(some, nano=True))
    packets = scapy.rdpcap(str(path))
    result = read(packets, records_max=7)
    assert result.frames == expected(some)
    assert result.files[0].kind() == "scapy"
    assert read(list(packets)).frames == expected(some)
    assert read(packets[0]).frames == expected(some[:1])


def test_time_of_packets_that_were_built() -> None:
    one = packet()
    one.time = 1581109434.258190
    assert read([one]).frames[0].time_ns == 1581109434258190000
    for odd in (-1.0, float("nan"), float("inf"), 1e300, None):
        one.time = odd
        assert 0 <= read([one]).frames[0].time_ns < 1 << 62


def test_link_types() -> None:
    packets = [packet(), scapy.IP() / scapy.TCP(), scapy.IPv6() / scapy.TCP(), scapy.CookedLinux() / scapy.IP()]
    assert [one.link for one in read(packets).frames] == [1, 101, 101, 113]
    with pytest.raises(CaptureError, match="packet 2 of the list begins with 'TCP'"):
        read([packet(), scapy.TCP()])


def test_length_on_the_wire() -> None:
    one = packet()
    one.wirelen = 1500
    assert read([one]).frames[0].wire == 1500


def test_misuse() -> None:
    with pytest.raises(CaptureError, match="either packets or captures"):
        read([packet(), "a.pcap"])
    assert read(scapy.PacketList([])).frames == []


def test_large_packets() -> None:
    packets = [packet() / bytes(60_000) for _ in range(50)]
    assert [one.octets for one in read(packets, buffer_octets=1000).frames] == [bytes(one) for one in packets]
