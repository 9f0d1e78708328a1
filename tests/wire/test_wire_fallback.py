"""What only scapy knows is decoded through scapy; what it does not know stops costing time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from scapy.config import conf
from scapy.fields import ByteField, ShortField
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, bind_layers, split_layers

from observer import segments as s
from observer.wire import decoder as module
from tests.wire.catalogue import DST, SRC, ether, ip4, ip6, tcp4
from tests.wire.decoding import decode_everywhere, decode_with, frames_of

STRANGE_TYPE, STRANGE_PROTOCOL, STRANGE_LINK = 0x7373, 201, 165


class Strange(Packet):
    """A header that the kernels have never heard of."""

    name = "Strange"
    fields_desc = [ByteField("marker", 1), ShortField("more", 2)]  # noqa: RUF012  scapy wants a list

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        if self.marker == 9:
            raise ValueError("a dissector that fails")
        return IP if self.marker == 1 else super().guess_payload_class(payload)


@pytest.fixture(autouse=True)
def _strange() -> Iterator[None]:
    bind_layers(Ether, Strange, type=STRANGE_TYPE)
    bind_layers(IP, Strange, proto=STRANGE_PROTOCOL)
    conf.l2types.register(STRANGE_LINK, Strange)
    yield
    split_layers(Ether, Strange, type=STRANGE_TYPE)
    split_layers(IP, Strange, proto=STRANGE_PROTOCOL)
    del conf.l2types.num2layer[STRANGE_LINK]


HEADER = b"\x01\x00\x02"


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (1, ether(STRANGE_TYPE, HEADER + tcp4())),
        (1, ether(0x0800, ip4(STRANGE_PROTOCOL, HEADER + tcp4()))),
        (STRANGE_LINK, HEADER + tcp4()),
    ],
)
def test_found_by_scapy(link: int, frame: bytes) -> None:
    (row,) = decode_everywhere([frame], link)[0]
    assert (row.src, row.dst, row.src_port, row.length) == (SRC, DST, 50000, 15)
    assert row.encapsulation == s.ENCAP_OTHER


def test_unknown_to_scapy_too() -> None:
    frames = [ether(0x7374, bytes(40)), ether(0x0800, ip4(202, bytes(40))), ether(0x86DD, ip6(202, bytes(40)))]
    rows, decoder = decode_everywhere(frames)
    assert not rows
    assert {(e.reason, e.detail) for e in decoder.skipped} == {
        ("not_ip", "EtherType 0x7374"),
        ("ip_protocol", "protocol 202"),
    }
    _, decoder = decode_everywhere([bytes(60)], 299)
    assert [(e.reason, e.detail) for e in decoder.skipped] == [("unknown_link", "link type 299")]


def test_a_failing_dissector_is_no_error() -> None:
    rows, decoder = decode_everywhere([ether(STRANGE_TYPE, b"\x09\x00\x02" + tcp4())])
    assert not rows
    assert decoder.skipped[0].reason == "not_ip"


def test_fruitless_dissection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 32 tries of one number, and some more of all, frames are only counted."""
    tried: list[int] = []
    monkeypatch.setattr(module, "dissect", lambda hint, number, octets, version: tried.append(number))
    _, decoder = decode_with("compiled", [frames_of([ether(0x7374, bytes(40))] * 500)])
    assert decoder.skipped[0].count == 500
    assert len(tried) == 32
    tried.clear()
    many = [MANY + struct.pack("!H", 0xA000 + i) + bytes(40) for i in range(5000)]
    _, decoder = decode_with("compiled", [frames_of(many)])
    assert len(tried) == module.SCAPY_TRIES_ALL
    assert sum(entry.count for entry in decoder.skipped) == 5000
    assert len(decoder.skipped) < 1024


MANY = bytes(12)
