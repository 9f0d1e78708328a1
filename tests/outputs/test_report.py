"""The report: what stands in it, that it is the same each time, and that nothing of a capture becomes markup."""

from __future__ import annotations

import io
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from output_samples import START_NS, findings, flows, verdict

import observer
from observer.cli import main
from observer.errors import OptionError
from observer.outputs.grouping import group
from observer.outputs.report.cards import CARDS, LADDERS, SHORT, cards, rest_words, to_draw
from observer.outputs.report.page import write, write_report
from observer.outputs.report.rows import finding_sheet, flow_sheet, reset_sheet, some_of_each
from observer.schema import Coded

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&\x1b[31m\u202e\x07"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, ids, texts; complains about what is not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1][0] == tag, (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[str(attributes["id"])] = json.loads(data)
        elif tag not in ("script", "style"):
            self.words.append(data)

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class Blank:
    """Draws nothing, at once."""

    state_colours: dict[str, str] = {}  # noqa: RUF012

    def prepare(self, streams: Any) -> str:
        return ""

    def __call__(self, name: str, stream: int | None = None) -> str:
        return ""


def plain_report(source: Any, path: Path, **options: Any) -> None:
    """Write a report without pictures, which are what takes time."""
    write_report(observer.read(source), path, drawing=Blank(), version="1", **options)


def report_of(source: Any, folder: Path, *, pictures: bool = False) -> Page:
    path = folder / "report.html"
    if pictures:
        observer.read(source).report(path)
    else:
        plain_report(source, path)
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def queue(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return report_of(captures / "accept-queue-full.pcap", tmp_path_factory.mktemp("report"), pictures=True)


# --- what stands in it ---------------------------------------------------------------------------------------
def test_the_answer_stands_first(queue: Page) -> None:
    text = queue.text()
    order = [
        "Accept queue overflow",
        "Findings",
        "Remedy",
        "Pictures",
        "All findings",
        "What was captured",
        "confirmed",
    ]
    places = [text.index(word, text.index("Capture How to read")) for word in order[:-1]]
    assert places == sorted(places)
    assert "tcp.stream in {5..8}" in text and "net.core.somaxconn" in text
    assert all(word in text for word in ("probable", "suspected", "TIME-WAIT", "retracted"))


def test_backquotes_become_code_and_nothing_else_does(captures: Path, tmp_path: Path) -> None:
    plain_report(captures / "close-wait-leak.pcap", tmp_path / "report.html")
    raw = (tmp_path / "report.html").read_text("utf-8")
    assert "<code>ss -tnp state close-wait</code>" in raw
    from observer.outputs.report.page import _spoken

    assert str(_spoken("a `<b>` & c\x1b")) == "a <code>&lt;b&gt;</code> &amp; c\\x1b"


def test_every_link_leads_somewhere_and_every_id_is_there_once(queue: Page) -> None:
    ids = queue.ids()
    assert len(ids) == len(set(ids))
    for attributes in queue.all("a") + queue.all("use"):
        target = str(attributes["href"])
        assert target.startswith("#") and target[1:] in ids, target
    for _, attributes in queue.elements:
        for target in re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attributes.values()))):
            assert target in ids


def test_the_worst_example_has_its_ladder_in_its_card(queue: Page) -> None:
    assert [name for name in queue.ids() if re.fullmatch(r"ladder-\d+", name)] == ["ladder-5"]
    shapes = [
        attributes for attributes in queue.all("svg") if str(attributes.get("aria-label")).startswith("Stream 5.")
    ]
    assert len(shapes) == 1
    assert "SYN,ACK seq 0 ack 1" in queue.text(), "words of pictures stay words"


def test_pictures_without_content_are_left_out(captures: Path, tmp_path: Path) -> None:
    ids = report_of(captures / "orderly-close-client.pcap", tmp_path, pictures=True).ids()
    assert "picture-time_wait" in ids and "picture-states" in ids
    assert "picture-resets" not in ids, "there is no RST"
    assert "picture-matrix" not in ids, "one client, one listener"


def test_a_healthy_capture_says_so(captures: Path, tmp_path: Path) -> None:
    page = report_of(captures / "orderly-close-client.pcap", tmp_path)
    assert "Nothing was found in 1 connection" in page.text()
    assert "finding-1" not in page.ids()


def test_a_capture_without_tcp_is_a_page_too(tmp_path: Path) -> None:
    empty = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    page = report_of(io.BytesIO(empty), tmp_path)
    assert "No TCP connection in this capture" in page.text()
    assert not page.all("svg")


def test_what_could_change_the_findings_stands_before_them(captures: Path, tmp_path: Path) -> None:
    whole = (captures / "accept-queue-full.pcap").read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole[:-10])
    page = report_of(cut, tmp_path)
    ids = page.ids()
    assert ids.index("doubts") < ids.index("findings")
    damage = observer.read(cut).capture.damages[0]
    before = page.text().split("What was captured")[0]
    assert damage.message in before and f"octet {damage.offset:,}" in before


def test_packets_of_a_pipe_are_gone(captures: Path, tmp_path: Path) -> None:
    page = report_of(io.BytesIO((captures / "accept-queue-full.pcap").read_bytes()), tmp_path, pictures=True)
    assert "No sequence diagrams:" in page.text() and "pipe" in page.text()
    assert "ladder-5" not in page.ids() and "picture-population" in page.ids()


def test_tables_have_the_numbers_of_the_observation(queue: Page, captures: Path) -> None:
    obs = observer.read(captures / "accept-queue-full.pcap")
    table = queue.data["data-connections"]
    assert sorted(row[0] for row in table["rows"]) == obs.flows.stream.tolist()
    assert len(queue.data["data-finding-list"]["rows"]) == len(obs.findings)
    assert [row[0] for row in queue.data["data-reset-list"]["rows"]] == obs.resets.stream.tolist()
    assert all(len(row) == len(table["kinds"]) for row in table["rows"])
    assert table["rows"][0][0] in obs.findings.stream.dropna().tolist(), "connections with findings come first"


# --- safe, whole, the same ---------------------------------------------------------------------------------
def hostile_capture(folder: Path) -> Path:
    """A pcapng whose interface, comments, hardware and file name are markup, and one connection in it."""
    from scapy.all import IP, TCP, Ether

    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    def option(code: int, text: str) -> bytes:
        octets = text.encode()
        return struct.pack("<HH", code, len(octets)) + octets + b"\0" * (-len(octets) % 4)

    end = struct.pack("<HH", 0, 0)
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    octets = block(0x0A0D0D0A, section + b"".join(option(code, HOSTILE) for code in (1, 2, 3, 4)) + end)
    octets += block(1, struct.pack("<HHI", 1, 0, 65535) + option(2, HOSTILE) + option(3, HOSTILE) + end)
    for number, (sport, dport, flags) in enumerate([(40000, 80, "S"), (80, 40000, "RA")]):
        frame = bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=sport, dport=dport, flags=flags, ack=1))
        head = struct.pack("<IIIII", 0, 0, number, len(frame), len(frame))
        octets += block(6, head + frame + b"\0" * (-len(frame) % 4) + option(1, HOSTILE) + end)
    path = folder / "<script>alert(3)<\u2044script>&\"'.pcapng"
    path.write_bytes(octets)
    return path


def test_nothing_of_a_capture_becomes_markup(tmp_path: Path) -> None:
    page = report_of(hostile_capture(tmp_path), tmp_path)
    raw = (tmp_path / "report.html").read_text("utf-8")
    scripts = page.all("script")
    assert [one.get("type") for one in scripts].count(None) == 1, "one script, and it is ours"
    assert "alert(" in page.text(), "it is told, as text"
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any(char in raw for char in "\x1b\u202e\x07")
    assert [one for one in page.all("img") if not str(one.get("src")).startswith("data:image/png;base64,")] == []


def test_json_cannot_end_its_element(tmp_path: Path) -> None:
    from observer.outputs.report.page import _json

    sheet = finding_sheet(findings(verdict(summary=HOSTILE)), START_NS)
    text = _json(sheet, [])
    assert not set("<>&\u202e\x1b") & set(text)
    shown = json.loads(text)["rows"][0]
    assert any("</script><script>alert(1)</script>" in str(cell) for cell in shown)


def test_the_page_asks_for_nothing(queue: Page) -> None:
    for _, attributes in queue.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:")), (name, value)
    policy = next(str(one["content"]) for one in queue.all("meta") if one.get("http-equiv"))
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy


def test_the_policy_lets_only_this_script_run(tmp_path: Path, captures: Path) -> None:
    import base64
    import hashlib

    path = tmp_path / "report.html"
    plain_report(captures / "refused.pcap", path)
    raw = path.read_text("utf-8")
    script = raw.split("<script>", 1)[1].split("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"sha256-{digest}" in raw.replace("&#43;", "+").replace("&#39;", "'")


def test_the_same_capture_gives_the_same_page(tmp_path: Path, captures: Path) -> None:
    for name in ("one", "two"):
        observer.read(captures / "reset-on-close.pcap").report(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_its_making_is_told_only_if_asked(tmp_path: Path, captures: Path) -> None:
    path = tmp_path / "report.html"
    plain_report(captures / "refused.pcap", path, made="made at noon")
    assert "made at noon" in path.read_text("utf-8")


def test_anything_but_a_report_is_not_written_over(tmp_path: Path, captures: Path) -> None:
    capture = tmp_path / "a.pcap"
    capture.write_bytes((captures / "refused.pcap").read_bytes())
    before = capture.read_bytes()
    with pytest.raises(OptionError, match="no report"):
        plain_report(capture, capture)
    assert capture.read_bytes() == before
    with pytest.raises(OptionError, match="no file"):
        plain_report(capture, tmp_path)
    for _ in range(2):
        plain_report(capture, tmp_path / "report.html")


def test_nothing_stays_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OptionError, match="No space"):
        write(tmp_path / "report.html", "<!doctype html>")
    assert list(tmp_path.iterdir()) == []


# --- limits ----------------------------------------------------------------------------------------------------
def test_of_many_connections_the_telling_ones_stay() -> None:
    table = flows(5000, ended=[3] * 5000, client_retransmitted=[0] * 5000, server_retransmitted=[0] * 5000)
    found = findings(verdict(stream=4321), verdict(stream=17, severity="warning"))
    sheet = flow_sheet(table, found, START_NS, 100)
    assert len(sheet.rows) == 100
    assert [row[0] for row in sheet.rows[:2]] == [4321, 17], "findings first, the worst first"
    assert "100 connections" in sheet.left_out and "5,000" in sheet.left_out and "-o DIR" in sheet.left_out
    assert flow_sheet(flows(100), findings(), START_NS, 100).left_out == ""


def test_members_of_a_population_are_telling() -> None:
    crowd = verdict("accept_queue_overflow", None, streams=[3, 5])
    sheet = flow_sheet(flows(50), findings(crowd), START_NS, 2)
    assert sorted(row[0] for row in sheet.rows) == [3, 5]
    assert [row[1] for row in sheet.rows] == ["accept_queue_overflow"] * 2


def test_of_many_findings_some_of_each_code_stay() -> None:
    many = [verdict(stream=n) for n in range(30)] + [verdict("refused", 40, severity="warning")]
    sheet = finding_sheet(findings(*many), START_NS, 10)
    assert len(sheet.rows) == 10 and "10 of 31 findings" in sheet.left_out
    assert any("refused" in row for row in sheet.rows)


@pytest.mark.parametrize(("kinds", "most"), [([0] * 9, 4), ([0, 1, 2, 0, 1, 2], 3), ([2, 2, 2, 0], 2), ([5], 9)])
def test_some_of_each(kinds: list[int], most: int) -> None:
    import numpy

    chosen = some_of_each(Coded(numpy.array(kinds), list("abcdef")), len(kinds), most).tolist()
    assert chosen == sorted(set(chosen)) and len(chosen) == min(most, len(kinds))
    if most >= len(set(kinds)):
        assert {kinds[at] for at in chosen} == set(kinds)


def test_few_ladders_of_the_different_kinds() -> None:
    many = [verdict(stream=n, server=(n % 40, 80), client=(n % 7, 1000 + n)) for n in range(300)]
    groups = group(findings(*many, verdict("refused", 400, severity="warning")))
    drawn = to_draw(groups)
    assert len(drawn) <= LADDERS and len(set(drawn)) == len(drawn)
    assert 400 in drawn, "another kind comes before another place of the same kind"
    told = cards(groups, START_NS, drawn)
    assert sum(one.ladder for one in told) == len(drawn)


def test_groups_that_are_not_told_are_counted() -> None:
    one = group(findings(verdict()))[0]
    assert rest_words([one] * (CARDS + SHORT)) == ""
    assert rest_words([one] * (CARDS + SHORT + 7)).startswith("7 further findings in 7 groups")


def test_empty_columns_are_left_out(captures: Path) -> None:
    obs = observer.read(captures / "refused.pcap")
    sheet = reset_sheet(obs.columns("resets"), obs.begin_ns)
    assert "what speaks for forgery" not in [head.title for head in sheet.heads]
    assert all(len(row) == len(sheet.heads) for row in sheet.rows)


@pytest.mark.parametrize("name", ["syn-flood.pcap", "time-wait-pileup.pcap.gz"])
def test_crowds_stay_small(name: str, captures: Path, tmp_path: Path) -> None:
    page = report_of(captures / name, tmp_path, pictures=True)
    assert (tmp_path / "report.html").stat().st_size < 10_000_000
    assert all(len(table["rows"]) <= 2000 for table in page.data.values())


# --- the command ---------------------------------------------------------------------------------------------
def test_the_command(
    tmp_path: Path, captures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    capture = str(captures / "accept-queue-full.pcap")
    assert main(["report", capture]) == 0
    assert "made 20" not in (tmp_path / "report.html").read_text("utf-8")
    assert main(["report", capture, "-o", "b.html", "--dated", "--fail-on", "problem"]) == 3
    assert "made 20" in (tmp_path / "b.html").read_text("utf-8")
    capsys.readouterr()
    assert main(["report", capture, "-o", str(tmp_path)]) == 2
    assert main(["report", capture, "-o", "missing/folder/d.html"]) == 2
    assert "there is no folder missing/folder" in capsys.readouterr().err, "told before the capture is read"
    assert main(["report"]) == 2
