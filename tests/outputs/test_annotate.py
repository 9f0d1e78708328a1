"""Captures with comments: the same frames, the comments where they belong, and nothing else changed."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import build
import output_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

import observer
from observer.capture import open_capture
from observer.cli import main
from observer.commands.shared import BAD_USAGE, DAMAGED, DONE
from observer.errors import OptionError
from observer.outputs.annotate import Annotated, Comments, Input, annotate
from observer.outputs.pcapng_blocks import BLOCK_OCTETS, comments_as_options
from observer.schema import Columns

CAPTURES = Path(__file__).parents[2] / "captures"
QUEUE = CAPTURES / "accept-queue-full.pcap"


def findings(*frames: int) -> Columns:
    return samples.findings(samples.verdict(frames=list(frames), summary="It is so."))


def annotated(octets: bytes, table: Columns, path: Path, piece: int = 1 << 20) -> Annotated:
    source = io.BytesIO(octets)
    with open_capture(octets) as capture:
        chunks = iter(capture)
        first = next(chunks, None)

        def every() -> Iterator[object]:
            if first is not None:
                yield first
                yield from chunks

        fill = lambda view: source.readinto(view[:piece])  # noqa: E731
        return annotate(Input(every(), capture.files[0], b"", fill), Comments(table), path, application="test")  # type: ignore[arg-type]


def frames_of(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """Time, length on the wire, link type and octets of every frame."""
    told = []
    with open_capture(octets) as capture:
        for chunk in capture:
            for offset, captured, wire, time_ns, link, _ in chunk.records[: chunk.count * 6].reshape(-1, 6).tolist():
                told.append((time_ns, wire, link, bytes(chunk.octets[offset : offset + captured])))
    return told


def blocks(octets: bytes, order: str = "<") -> Iterator[bytes]:
    at = 0
    while at < len(octets):
        (total,) = struct.unpack_from(order + "I", octets, at + 4)
        yield octets[at : at + total]
        at += total


def comments_of(octets: bytes, order: str = "<") -> dict[int, list[str]]:
    """Comments of enhanced and obsolete packet blocks, by their place among the packets."""
    found: dict[int, list[str]] = {}
    number = 0
    for one in blocks(octets, order):
        (kind,) = struct.unpack_from(order + "I", one)
        number += kind in (2, 3, 6)
        if kind not in (2, 6):
            continue
        at = 28 + (struct.unpack_from(order + "I", one, 20)[0] + 3 & ~3)
        while at + 4 < len(one):
            code, length = struct.unpack_from(order + "HH", one, at)
            if code == 1:
                found.setdefault(number, []).append(one[at + 4 : at + 4 + length].decode())
            at += 4 + (length + 3 & ~3)
    return found


FRAMES = build.frames(9)
TOLD = "half_established (confirmed): It is so."


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pcap_becomes_pcapng(order: str, nano: bool, tmp_path: Path) -> None:
    some = [build.Frame(frame.time_ns + nano * 1, frame.octets, 1500) for frame in FRAMES]
    octets = build.pcap(some, order=order, nano=nano, link=101)
    assert annotated(octets, findings(2, 9), tmp_path / "out") == Annotated(2, 0)
    made = (tmp_path / "out").read_bytes()
    assert frames_of(made) == frames_of(octets)
    assert comments_of(made) == {2: [TOLD], 9: [TOLD]}


def test_two_pcap_files_in_one_are_two_interfaces(tmp_path: Path) -> None:
    odd = [build.Frame(frame.time_ns + 7, frame.octets) for frame in FRAMES]
    octets = build.pcap(FRAMES) + build.pcap(odd, nano=True, link=276)
    annotated(octets, findings(12), tmp_path / "out")
    made = (tmp_path / "out").read_bytes()
    assert frames_of(made) == frames_of(octets) and list(comments_of(made)) == [12]


def test_a_capture_without_frames_keeps_its_link_type(tmp_path: Path) -> None:
    annotated(build.pcap([], link=113), findings(), tmp_path / "out")
    with open_capture(tmp_path / "out") as capture:
        assert list(capture) == [] and capture.files[0].link_types == [113] and capture.damages == []


def mixed(order: str) -> bytes:
    """Make a file with everything: counted frames are 1 EPB, 2 EPB with options, 3 old PB, 4 SPB, 5 EPB."""
    a, b = b"frame" * 9, b"other frame"
    return b"".join([
        build.shb(order=order, opts=[(4, b"someone")], length=400),
        build.idb(order=order, tsresol=9, opts=[(2, b"eth0")]),
        build.block(0x0BAD, bytes(BLOCK_OCTETS + 8), order=order),
        build.epb(a, 10**18, order=order),
        build.epb(a, 10**18 + 5, order=order, interface=7),  # of no interface: no frame
        build.epb(b, 10**18 + 1, order=order, opts=[(1, b"said before"), (2, bytes(4))]),
        build.block(4, bytes(8), order=order),
        build.opb(a, 10**18 + 2, order=order),
        build.spb(b, order=order),
        build.isb(order=order, opts=[(5, 3)]),
        build.epb(b"", 10**18 + 3, order=order),
    ])  # fmt: skip


@pytest.mark.parametrize("piece", [1 << 20, 37])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_is_copied_block_by_block(order: str, piece: int, tmp_path: Path) -> None:
    octets = mixed(order)
    assert annotated(octets, findings(1, 2, 3, 4, 5), tmp_path / "out", piece) == Annotated(4, 1)
    made = (tmp_path / "out").read_bytes()
    assert frames_of(made) == frames_of(octets) and len(frames_of(made)) == 5
    assert comments_of(made, order) == {1: [TOLD], 3: [TOLD, "said before"], 4: [TOLD], 6: [TOLD]}
    before, after = list(blocks(octets, order)), list(blocks(made, order))
    assert len(before) == len(after)
    assert after[0] == before[0][:16] + b"\xff" * 8 + before[0][24:]
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [0, 3, 5, 7, 10]
    for i in changed[1:]:
        assert after[i][8:28] == before[i][8:28]


@given(st.lists(st.integers(0, 3000), max_size=40), st.sets(st.integers(1, 40)), st.integers(1, 300))
def test_without_comments_nothing_changes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int],
                                          marked: set[int], piece: int) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("made") / "out"
    octets = build.pcapng(build.Frame(10**18 + i, bytes(size)) for i, size in enumerate(sizes))
    annotated(octets, findings(), path, piece)
    assert path.read_bytes() == octets
    annotated(octets, findings(*marked), path, piece)
    assert frames_of(path.read_bytes()) == frames_of(octets)
    assert list(comments_of(path.read_bytes())) == sorted(frame for frame in marked if frame <= len(sizes))


@pytest.mark.parametrize("missing", [1, 5, 11, 12, 30, 61])
def test_a_cut_file_is_copied_up_to_the_cut(missing: int, tmp_path: Path) -> None:
    octets = build.pcapng(FRAMES)[:-missing]
    annotated(octets, findings(1, 8, 9), tmp_path / "out")
    made = (tmp_path / "out").read_bytes()
    with open_capture(made) as capture:
        assert len(list(capture)) == 1 and capture.damages == []
    assert frames_of(made) == FRAMES_READ[:8] and list(comments_of(made)) == [1, 8]


FRAMES_READ = frames_of(build.pcapng(FRAMES))


def test_a_long_block_without_end_is_taken_back(tmp_path: Path) -> None:
    octets = build.pcapng(FRAMES) + build.block(0x0BAD, bytes(BLOCK_OCTETS * 2))[:-100]
    annotated(octets, findings(9), tmp_path / "out")
    assert frames_of((tmp_path / "out").read_bytes()) == FRAMES_READ
    assert len(list(blocks((tmp_path / "out").read_bytes()))) == 11


def test_several_findings_at_a_frame() -> None:
    verdicts = [samples.verdict(f"code_{i}", i, frames=[4], summary="\x1b[2J") for i in range(9)]
    told = Comments(samples.findings(*verdicts)).of(4)
    assert len(told) == 5 and told[0] == "code_0 (confirmed): \\x1b[2J" and told[-1] == "and 5 more findings"


def test_long_comments_are_cut_at_a_character() -> None:
    options = comments_as_options(["ä" * 70_000])
    code, length = struct.unpack_from("<HH", options)
    assert (code, length) == (1, 1000) and options[4:].decode() == "ä" * 500


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot write"):
        annotated(build.pcap(FRAMES), findings(1), tmp_path / "no" / "out")
    broken = Input(iter([None]), None, b"", io.BytesIO().readinto)  # type: ignore[list-item]
    with pytest.raises(AttributeError):
        annotate(broken, Comments(findings(1)), tmp_path / "out", application="test")
    assert list(tmp_path.iterdir()) == []


# --- the command --------------------------------------------------------------------------------------------
def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.pcap*")), ids=lambda path: path.name)
def test_annotated_captures_say_the_same(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    assert run("annotate", path, out) == DONE
    before, after = observer.read(path), observer.read(out)
    for table in ("flows", "transitions", "events", "findings"):
        left, right = (getattr(one, table).drop(columns="file", errors="ignore") for one in (before, after))
        assert left.astype(str).equals(right.astype(str)), table
    evidence = sorted({frame for frames in before.findings.frames for frame in frames})
    assert list(comments_of(out.read_bytes())) == evidence


def test_tshark_shows_the_comments(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    out = tmp_path / "out.pcapng"
    assert run("annotate", QUEUE, out, "--finding", "half_established_reset") == DONE
    command = ["tshark", "-r", str(out), "-Y", "frame.comment", "-Tfields", "-e", "frame.number", "-e", "frame.comment"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = observer.read(QUEUE).findings.query("code == 'half_established_reset'")
    assert [int(line.split("\t")[0]) for line in told] == sorted({f for frames in wanted.frames for f in frames})
    assert all("half_established_reset (confirmed): " in line for line in told)


def test_compressed_and_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    cut = tmp_path / "cut.pcap.gz"
    cut.write_bytes(gzip.compress(QUEUE.read_bytes()[:-10]))
    assert run("annotate", cut, tmp_path / "out") == DAMAGED
    err = capsys.readouterr().err
    assert "the file is cut" in err and "comments at " in err
    assert len(frames_of((tmp_path / "out").read_bytes())) == 82


@pytest.mark.parametrize(("name", "sentence"), [("in.pcap", "is the capture itself"), ("link", "is the capture itself"),
                                                (".", "no file name"), ("no/x", "cannot write")])  # fmt: skip
def test_bad_names_are_refused(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(QUEUE, "in.pcap")
    os.link("in.pcap", "link")
    assert run("annotate", "in.pcap", name) == BAD_USAGE
    assert sentence in capsys.readouterr().err
    assert Path("in.pcap").read_bytes() == QUEUE.read_bytes() and {path.name for path in tmp_path.iterdir()} == {
        "in.pcap",
        "link",
    }


def test_a_pipe_cannot_be_annotated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("annotate", "-", tmp_path / "out") == BAD_USAGE
    assert "read twice" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_capture(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "in"
    path.write_bytes(build.pcapng(build.frames(20_000, size=1000)))
    table = findings(*range(100, 20_000, 100))
    with open_capture(path) as capture, path.open("rb", buffering=0) as source:
        given = Input(iter(capture), capture.files[0], b"", source.readinto)
        tracemalloc.start()
        done = annotate(given, Comments(table), tmp_path / "out", application="test")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert done == Annotated(199, 0)
    assert peak < 4 << 20 < path.stat().st_size // 4
