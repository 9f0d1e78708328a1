"""Interfaces captured live over virtual cables: every frame that was sent, once and in order, whatever happens."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build import frames
from live_net import PATIENCE_S, Cables, a_user, cables, gather, in_child, numbers, rows, until
from reading import read

from observer import kernels
from observer.capture import live_watch
from observer.capture.live import LiveCapture, open_live
from observer.capture.live_interfaces import list_interfaces
from observer.capture.live_pcap import library
from observer.capture.live_writer import PcapngWriter
from observer.errors import CaptureError, OptionError
from observer.observe import read as observe
from observer.options import Options
from observer.tcp.tracker import Tracker
from observer.wire import Decoder

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
ETHERNET = 1
COOKED = 276  # LINKTYPE_LINUX_SLL2: 20 octets in the place of Ethernet's 14

needs_libpcap = pytest.mark.skipif(library() is None, reason="libpcap is not installed")


@pytest.fixture
def cable() -> Iterator[Cables]:
    with cables(0) as found:
        yield found


def some_frames(count: int, size: int = 60) -> list[bytes]:
    return [frame.octets for frame in frames(count, size=size)]


@needs_libpcap
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("records_max", [7, 4096])
def test_every_frame_once_in_order(cable: Cables, compiled: bool, records_max: int) -> None:
    sent = some_frames(3000)
    begin_ns = time.time_ns()
    with open_live("b0", compiled=compiled, records_max=records_max) as live:
        assert live.poll(0) is None
        cable.send(sent)
        got = gather(live, len(sent))
        [counts] = live.statistics()
    assert [one.octets for one in got] == sent
    assert all(one.wire == len(one.octets) and one.link == ETHERNET for one in got)
    stamps = [one.time_ns for one in got]
    assert stamps == sorted(stamps)
    second = 1_000_000_000  # clocks may be slewed meanwhile
    assert begin_ns - second <= stamps[0] <= stamps[-1] <= time.time_ns() + second
    assert (counts.frames, counts.received, counts.dropped_kernel, counts.lost_here) == (3000, 3000, 0, 0)
    assert (counts.name, counts.link_type, counts.state) == ("b0", ETHERNET, "capturing")
    assert live.files[0].received == live.files[0].frames == live.frames == 3000
    assert live.octets_read == sum(map(len, sent))
    assert live.statistics()[0].state == "ended"


@needs_libpcap
def test_snaplen_keeps_the_length_on_the_wire(cable: Cables) -> None:
    sent = some_frames(50, size=1000)
    with open_live("b0", snaplen=96) as live:
        cable.send(sent)
        got = gather(live, len(sent))
    assert [one.octets for one in got] == [frame[:96] for frame in sent]
    assert [one.wire for one in got] == [len(frame) for frame in sent]


@needs_libpcap
def test_nothing_is_lost_silently(cable: Cables) -> None:
    """More than the ring holds while nobody reads: what is missing is counted, and told."""
    sent = some_frames(20_000, size=1000)
    with open_live("b0", buffer_octets=1 << 20) as live:
        cable.send(sent)
        notice = until(live, "dropped")
        while live.poll(0.3) is not None:
            pass
        [counts] = live.statistics()
    assert counts.dropped_kernel
    assert counts.frames + counts.dropped_kernel == counts.received == len(sent)
    assert live.files[0].dropped_os == counts.dropped_kernel
    assert "dropped" in notice.sentence
    assert notice.interface == "b0"


@needs_libpcap
@pytest.mark.parametrize("names", [["b0"], ["b0", "b1"]])
def test_nothing_is_lost_in_long_work_between_polls(names: list[str]) -> None:
    """A thread takes what the ring cannot hold, and polls hand it over first, numbered on."""
    everything = some_frames(40_000, size=1000)
    sent, late = everything[:20_000], everything[20_000:]
    with cables(0, 1) as found, open_live(names, buffer_octets=8 << 20, records_max=250) as live:
        found.send(sent[:10])
        got = gather(live, 10)
        with live.relieved():
            for i in range(10, len(sent), 2000):
                found.send(sent[i : i + 2000])
                end = time.monotonic() + PATIENCE_S
                while live.statistics()[0].received - _taken(live) > 3000 and time.monotonic() < end:
                    time.sleep(0.01)  # the thread may be slow on a busy machine; the ring holds some six thousand
        # what waits is worked off slowly, while as many come as before: more than the ring holds
        while len(got) < len(sent) and (chunk := live.poll(PATIENCE_S)) is not None:
            assert numbers(chunk) == list(range(len(got) + 1, len(got) + 1 + chunk.count))
            got += rows(chunk)
            found.send(late[:250])
            sent, late = sent + late[:250], late[250:]
            time.sleep(0.02 if late else 0)
        [counts, *_] = live.statistics()
    assert counts.dropped_kernel == 0
    assert late == []
    assert [one.octets for one in got] == everything
    assert live.frames == len(everything)


def _taken(live: LiveCapture) -> int:
    return sum(one.frames for one in live.statistics())


@needs_libpcap
def test_frames_longer_than_the_batch_buffer_s_rest(cable: Cables) -> None:
    """A batch ends before a frame might not fit, and the next begins with it."""
    cable.ip("link", "set", "a0", "mtu", "60000")
    cable.ip("link", "set", "b0", "mtu", "60000")
    sent = some_frames(200, size=50_000)
    with open_live("b0") as live:
        cable.send(sent)
        got = gather(live, len(sent))
        assert live.statistics()[0].lost_here == 0
    assert [one.octets for one in got] == sent


@needs_libpcap
def test_filter(cable: Cables) -> None:
    sent = [bytes(12) + (0x88B5 + i % 2).to_bytes(2, "big") + i.to_bytes(46, "big") for i in range(100)]
    with open_live("b0", bpf="ether proto 0x88b6") as live:
        cable.send(sent)
        got = gather(live, 50)
        assert live.poll(0.3) is None
    assert [one.octets for one in got] == sent[1::2]


@needs_libpcap
def test_several_interfaces_are_merged_by_time() -> None:
    sent = some_frames(900)
    with cables(0, 1, 2) as found, open_live(["b0", "b1", "b2"]) as live:
        places: list[int] = []
        for i in range(0, 900, 10):
            found.send(sent[i : i + 10], i // 10 % 3)
        time.sleep(1)  # the kernel's timer hands over what it has within 0.1 s, unless the machine stands still
        got = gather(live, len(sent), each=lambda chunk: places.extend(chunk.interfaces.tolist()))
        counts = live.statistics()
    assert [one.octets for one in got] == sent
    assert places == [i // 10 % 3 for i in range(900)]
    assert [(one.name, one.frames) for one in counts] == [("b0", 300), ("b1", 300), ("b2", 300)]
    assert [one.name for one in live.files[0].interfaces] == ["b0", "b1", "b2"]


@needs_libpcap
def test_one_of_several_that_is_idle_holds_nothing_back() -> None:
    sent = some_frames(9000)
    with cables(0, 1) as found, open_live(["b1", "b0"]) as live:
        found.send(sent)
        assert [one.octets for one in gather(live, len(sent))] == sent


@needs_libpcap
def test_any(cable: Cables) -> None:
    sent = [bytes(12) + b"\x88\xb5" + i.to_bytes(46, "big") for i in range(20)]
    with open_live("any", bpf="ether proto 0x88b5") as live:
        assert live.link_types == [COOKED]
        cable.send(sent)
        got = gather(live, 40)  # each leaves a0 and enters b0
    assert sorted(one.octets[20:] for one in got) == sorted(frame[14:] for frame in sent for _ in range(2))
    with pytest.raises(OptionError, match="any"):
        open_live(["any", "b0"])


@needs_libpcap
def test_what_is_written_is_what_was_captured(cable: Cables, tmp_path: Path) -> None:
    sent = some_frames(3000)
    with open_live("b0", records_max=100) as live, PcapngWriter(tmp_path / "a.pcapng", live.files[0]) as writer:
        cable.send(sent)
        got = gather(live, len(sent), each=writer.write)
        live.statistics()
    written = read(tmp_path / "a.pcapng")
    assert written.frames == got
    assert written.damages == []
    [interface] = written.files[0].interfaces
    assert (interface.name, interface.resolution, interface.link_type) == ("b0", "1e-9", ETHERNET)
    assert (written.files[0].received, written.files[0].dropped_os) == (3000, 0)


@needs_libpcap
def test_live_and_from_a_file_the_same_segments_and_flows(cable: Cables) -> None:
    """What decoder and tracker make of live chunks is what they make of a file with the same frames."""
    path = CAPTURES / "accept-queue-full.pcap"
    sent = [one.octets for one in read(path).frames]
    engine = kernels.Interpreted()
    decoder, tracker = Decoder(engine, Options()), Tracker(engine, Options())

    def take(chunk: Any) -> None:
        batch = decoder.decode(chunk)
        tracker.track(batch.rows, batch.count)

    with open_live("b0") as live:
        cable.send(sent)
        gather(live, len(sent), each=take)
    saved = observe(path, engine=engine)
    assert tracker.stream_count == saved.tracker.stream_count > 0
    assert tracker.segment_count == saved.segments


# --- what happens to interfaces ------------------------------------------------------------------------


@needs_libpcap
def test_down_and_up_while_another_goes_on() -> None:
    with cables(0, 1) as found, open_live(["b0", "b1"]) as live:
        found.ip("link", "set", "b0", "down")
        assert until(live, "down").interface == "b0"
        assert [one.state for one in live.statistics()] == ["down", "capturing"]
        sent = some_frames(30)
        found.send(sent[:10], 1)
        got = gather(live, 10)
        found.ip("link", "set", "b0", "up")
        assert until(live, "up").interface == "b0"
        _send_when_running(found, live, sent[10:], got)
    assert {one.octets for one in got} == set(sent)


def _send_when_running(found: Cables, live: LiveCapture, frames: list[bytes], got: list[Any]) -> None:
    """Send into a0 until all of it has come: just after a link comes up, the kernel may still throw frames away."""
    end = time.monotonic() + PATIENCE_S
    while not set(frames) <= {one.octets for one in got} and time.monotonic() < end:
        found.send(frames, 0)
        while (chunk := live.poll(0.3)) is not None:
            got += rows(chunk)


@needs_libpcap
def test_removed_and_back_while_another_goes_on() -> None:
    with cables(0, 1) as found, open_live(["b0", "b1"]) as live:
        sent = some_frames(40)
        found.send(sent[:10], 0)
        got = gather(live, 10)
        found.ip("link", "delete", "b0")
        assert until(live, "gone").interface == "b0"
        assert live.statistics()[0].state == "gone"
        found.send(sent[10:20], 1)
        while len(got) < 20 and (chunk := live.poll(PATIENCE_S)) is not None:
            got += rows(chunk)
        found.plug(0)
        assert until(live, "back").interface == "b0"
        _send_when_running(found, live, sent[20:], got)
        counts = live.statistics()
    assert {one.octets for one in got} == set(sent)
    assert counts[0].state == "capturing"
    assert counts[0].frames + counts[1].frames == live.frames
    assert [one.name for one in live.files[0].interfaces] == ["b0", "b1"]


@needs_libpcap
def test_the_only_interface_removed_costs_no_processor_time(cable: Cables) -> None:
    with open_live("b0") as live:
        cable.ip("link", "delete", "b0")
        until(live, "gone")
        used = time.process_time()
        assert live.poll(1.0) is None
        assert time.process_time() - used < 0.5
        cable.plug(0)
        until(live, "back")


# --- what cannot be ------------------------------------------------------------------------------------


@needs_libpcap
def test_wrong_filter_is_one_sentence_in_libpcap_s_words(cable: Cables) -> None:
    with pytest.raises(OptionError, match=r"^the filter 'tcp prot 80' is wrong: .*(syntax|parse).*$") as told:
        open_live("b0", bpf="tcp prot 80")
    assert "\n" not in str(told.value)


@needs_libpcap
def test_interfaces_that_cannot_be(cable: Cables) -> None:
    with pytest.raises(CaptureError, match="b7: there is no such interface"):
        open_live(["b0", "b7"])
    cable.ip("link", "set", "b0", "down")
    with pytest.raises(CaptureError, match="b0: it is down"):
        open_live("b0")


@pytest.mark.parametrize(
    ("given", "words"),
    [({"interfaces": []}, "no interface"), ({"snaplen": 0}, "snaplen"), ({"buffer_octets": 1}, "buffer_octets")],
)
def test_options_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        open_live(**{"interfaces": "lo", **given})


def refused() -> str:
    """What a process without privileges is told."""
    try:
        with open_live("lo"):
            return "captured"
    except CaptureError as error:
        return str(error)


@needs_libpcap
@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_without_privileges_one_sentence_names_capability_and_command() -> None:
    library()
    told = refused() if os.geteuid() else in_child(refused, user=a_user())
    if told == "captured":
        pytest.skip("this process has the capability CAP_NET_RAW without being root")
    assert "CAP_NET_RAW" in told
    assert "sudo" in told
    assert "\n" not in told


@needs_libpcap
def test_user_is_given_up_for_good_and_capture_goes_on(cable: Cables) -> None:
    user, sent = a_user(), some_frames(100)

    def watch() -> str:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:  # opened as root, as the capture is
            raw.bind(("a0", 0))
            with open_live("b0", user=user) as live:
                for frame in sent:
                    raw.send(frame)
                came = [one.octets for one in gather(live, len(sent))] == sent
            ids = (*os.getresuid(), *os.getresgid(), *os.getgroups())
            try:
                os.setuid(0)
            except OSError:
                return f"{came} {0 in ids} stays"
            return f"{came} {0 in ids} came back"

    assert in_child(watch) == "True False stays"
    assert os.geteuid() == 0


@needs_libpcap
def test_an_interface_that_comes_back_after_root_was_given_up_is_told(cable: Cables) -> None:
    user = a_user()

    def watch() -> str:
        with open_live("b0", user=user) as live:
            os.write(opened[1], b"x")
            until(live, "gone")
            os.write(opened[1], b"x")
            return str(until(live, "denied").sentence)

    opened = os.pipe()

    def remove_and_plug() -> None:
        os.read(opened[0], 1)
        cable.ip("link", "delete", "b0")
        os.read(opened[0], 1)
        cable.plug(0)

    thread = threading.Thread(target=remove_and_plug)
    thread.start()
    told = in_child(watch)
    os.write(opened[1], b"xx")  # whatever the child did, the thread ends
    thread.join()
    for end in opened:
        os.close(end)
    assert "b0 is back, but" in told


# --- without libpcap -----------------------------------------------------------------------------------


def test_without_libpcap_scapy_s_socket_captures_and_says_what_it_costs(
    cable: Cables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_watch, "library", lambda: None)
    sent = some_frames(200)
    with open_live("b0") as live:
        [notice] = live.notices()
        assert (notice.kind, notice.interface) == ("slow", "b0")
        assert "libpcap" in notice.sentence
        cable.send(sent)
        got = gather(live, len(sent))
        [counts] = live.statistics()
    assert [(one.octets, one.wire, one.link) for one in got] == [(frame, len(frame), ETHERNET) for frame in sent]
    assert (counts.received, counts.dropped_kernel) == (200, 0)
    with pytest.raises(CaptureError, match="b9"):
        open_live("b9")
    with pytest.raises(CaptureError, match="libpcap"):
        open_live("any")


# --- listing -------------------------------------------------------------------------------------------


def test_listed_interfaces(cable: Cables) -> None:
    cable.plug(1)
    cable.ip("link", "set", "b1", "down")
    cable.ip("address", "add", "192.0.2.7/24", "dev", "b0")
    found = {one.name: one for one in list_interfaces()}
    assert {"a0", "b0", "a1", "b1", "lo"} <= set(found)
    assert (found["b0"].up, found["b0"].capture, found["b0"].loopback) == (True, True, False)
    assert (found["b1"].up, found["b1"].capture) == (False, False)
    assert found["lo"].loopback
    if library() is not None:
        assert found["b0"].link_type == ETHERNET
        assert "192.0.2.7" in found["b0"].addresses
        assert "down" in found["b1"].obstacle
