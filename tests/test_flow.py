"""One connection: its tables, its story, its pictures, its packets for scapy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import observer
from observer import schema

pytest.importorskip("scapy")
NAMES = (
    "accept-queue-full.pcap", "ipv6.pcap", "keepalive-answered.pcapng", "loss-recovered.pcap",
    "time-wait-pileup.pcap.gz", "zero-window.pcap",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_scapy_packets_are_those_of_the_file(captures: Path, name: str) -> None:
    from scapy.utils import rdpcap

    every = rdpcap(str(captures / name))
    obs = observer.read(captures / name)
    for stream in range(min(3, len(obs.flows))):
        flow = obs.flow(stream)
        wanted = [every[frame - 1] for frame in flow.packets.frame]
        got = flow.scapy()
        assert [bytes(packet) for packet in got] == [bytes(packet) for packet in wanted]
        assert [packet.time for packet in got] == [packet.time for packet in wanted]
        assert [packet.wirelen for packet in got] == [packet.wirelen for packet in wanted]


def test_scapy_packets_come_back_themselves(captures: Path) -> None:
    from scapy.utils import rdpcap

    packets = rdpcap(str(captures / "ipv6.pcap"))
    obs = observer.read(packets)
    assert all(a is packets[frame - 1] for a, frame in zip(obs.flow(1).scapy(), obs.flow(1).packets.frame, strict=True))


def test_scapy_packets_over_several_files(captures: Path) -> None:
    obs = observer.read([captures / "refused.pcap", captures / "ipv6.pcap"])
    last = obs.flow(len(obs.flows) - 1)
    assert next(packet.sport for packet in last.scapy()) == last.row.client_port


def test_raw_ip_and_unknown_links_are_dissected_as_far_as_scapy_can() -> None:
    from observer.frames import Octets, _packet

    ip4 = bytes.fromhex("45000028000100004006a6d10a0001020a000202") + bytes(20)
    assert _packet(Octets(ip4, 40, 1_500_000_000, 101)).name == "IP"
    ip6 = bytes.fromhex("6000000000143a40") + bytes(32)
    assert _packet(Octets(ip6, 40, 0, 229)).name == "IPv6"
    assert _packet(Octets(b"\xff\x00", 2, 0, 101)).name == "Raw"
    assert _packet(Octets(b"", 0, 0, 101)).name == "Raw"
    assert _packet(Octets(b"abc", 3, 0, 65_000)).name == "Raw"
    assert float(_packet(Octets(ip4, 40, 1_500_000_000, 101)).time) == 1.5


def test_packets_of_a_pipe_are_gone(captures: Path) -> None:
    with (captures / "ipv6.pcap").open("rb") as file:
        obs = observer.read(file)
    with pytest.raises(observer.ObserverError, match="pipe"):
        obs.flow(0).scapy()
    assert "pipe" in obs.flow(0)._repr_html_()


def test_packets_of_a_file_that_is_gone_or_cut_are_an_error_and_a_sentence(captures: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    shutil.copyfile(captures / "ipv6.pcap", path)
    obs = observer.read(path, keep={0})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(observer.ObserverError, match="changed"):
        obs.flow(0).scapy()
    path.unlink()
    assert "No picture of stream 1" in obs.flow(1)._repr_html_()
    assert "<img" in obs.flow(0)._repr_html_()


@pytest.mark.parametrize("table", ["flows", "packets", "transitions", "events", "calls", "findings", "resets"])
def test_tables_are_those_of_the_whole_for_this_connection(captures: Path, table: str) -> None:
    obs = observer.read(captures / "accept-queue-full.pcap")
    own = schema.from_columns(table, obs.flow(6).columns(table))
    schema.validate(table, own)
    if table not in ("packets", "findings"):
        whole = getattr(obs, table)
        assert len(own) == (whole.stream == 6).sum() > 0
    if table == "findings":
        assert set(own["code"]) == {"accept_queue_overflow", "half_established", "half_established_reset"}


def test_unknown_table_is_misuse(captures: Path) -> None:
    with pytest.raises(observer.OptionError):
        observer.read(captures / "ipv6.pcap").flow(0).columns("population")


def test_story_prints_and_has_colours_in_a_notebook(captures: Path) -> None:
    told = observer.read(captures / "peer-rebooted.pcap").flow(0).explain()
    assert repr(told) == str(told)
    assert told.startswith("stream 0")
    assert "half-open" in told
    assert told._repr_html_().count("<pre") == 1


def test_picture_is_a_png_and_stands_in_a_figure_of_ones_own(captures: Path) -> None:
    from matplotlib.figure import Figure

    flow = observer.read(captures / "peer-rebooted.pcap").flow(0)
    assert flow.picture().startswith(b"\x89PNG")
    ax = Figure().add_subplot()
    assert flow.plot(ax=ax) is ax
    assert flow.plot("sequence", ax=Figure().add_subplot()).get_title(loc="left")


def test_large_captures_are_not_read_again_to_show_a_value(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obs = observer.read(captures / "peer-rebooted.pcap")
    monkeypatch.setattr("observer.flow.QUICK_FRAMES", 3)
    shown = obs.flow(0)._repr_html_()
    assert "<img" not in shown
    assert "obs.flow(0).plot()" in shown
