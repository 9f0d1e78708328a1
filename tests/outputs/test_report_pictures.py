"""Pictures as pieces of a page: names of their own, nothing that acts, PNG where SVG would be too large."""

from __future__ import annotations

import base64
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import observer
from observer.plots.inline import Drawing, draw_inline, embedded
from observer.registry import Plot, collect

NS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@pytest.fixture(scope="module")
def queue(captures: Path) -> Any:
    return observer.read(captures / "accept-queue-full.pcap")


def ids_of(text: str) -> set[str]:
    return set(re.findall(r'\bid="([^"]*)"', text))


def test_pictures_share_no_names(queue: Any) -> None:
    drawing = Drawing(queue)
    assert drawing.prepare([5, 6]) == ""
    pictures = [drawing("population"), drawing("states"), drawing("ladder", 5), drawing("ladder", 6)]
    names = [ids_of(text) for text in pictures]
    assert all(names)
    assert len(set.union(*names)) == sum(map(len, names))
    for text, own in zip(pictures, names, strict=True):
        used = set(re.findall(r'href="#([^"]*)"', text)) | set(re.findall(r"url\(#([^)]*)\)", text))
        assert used <= own


def test_the_same_picture_each_time(queue: Any) -> None:
    assert Drawing(queue)("states") == Drawing(queue)("states")


def test_nothing_to_see(queue: Any) -> None:
    assert Drawing(queue)("time_wait") == "", "nobody was in TIME-WAIT"


def test_calls_of_all_at_once_are_those_of_each(queue: Any) -> None:
    from observer.findings import call_columns

    asked: list[list[int]] = []

    def calls(streams: Any) -> Any:
        asked.append(list(streams))
        return call_columns(queue, streams)

    together, alone = Drawing(queue, calls), Drawing(queue)
    for drawing in (together, alone):
        drawing.prepare([5, 7])
    assert [together("ladder", n) for n in (5, 7)] == [alone("ladder", n) for n in (5, 7)]
    assert asked == [[5, 7]]


def test_a_large_picture_becomes_a_png(queue: Any) -> None:
    text = draw_inline(collect(Plot)["population"], queue, key="k", label='a "b" <c>', largest=100)
    found = re.fullmatch(
        r'<img class="picture" alt="a &quot;b&quot; &lt;c&gt;" src="data:image/png;base64,(.*)">', text
    )
    assert found and base64.b64decode(found[1]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<g><foreignObject><a/></foreignObject></g>",
        '<path onload="alert(1)" d="M 0 0"/>',
        '<image href="http://example.org/a.png"/>',
        '<use xlink:href="https://example.org/a.svg#b"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        "<style>@import url(http://example.org)</style>",
        "<!-- a comment --><metadata>who</metadata>",
        '<a href="javascript:alert(1)"><path d="M 0 0"/></a>',
    ],
)
def test_what_acts_or_asks_is_left_out(inside: str) -> None:
    text = embedded(f"<svg {NS}>{inside}</svg>".encode(), "k", "label")
    for word in ("script", "alert", "example", "onload", "foreignObject", "javascript", "svg+xml", "comment", "who"):
        assert word not in text, text


def test_text_stays_escaped() -> None:
    text = embedded(f"<svg {NS}><text>&lt;script&gt; &amp; &quot;</text></svg>".encode(), "k", '"><script>')
    assert "<script" not in text
    assert "&lt;script&gt; &amp;" in text


def packet(client: bool, flags: str, seq: int, ack: int, time_s: float) -> Any:
    from scapy.all import IP, TCP

    ends = [("10.0.0.1", 40000), ("10.0.0.2", 80)]
    (source, sport), (target, dport) = ends if client else ends[::-1]
    made = IP(src=source, dst=target) / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack)
    made.time = 1_800_000_000 + time_s
    return made


def closing(times: list[float]) -> list[Any]:
    told = [(True, "S", 1, 0), (False, "SA", 9, 2), (True, "A", 2, 10), (True, "FA", 2, 10), (False, "FA", 10, 3),
            (True, "A", 3, 11)]  # fmt: skip
    return [packet(*one, time_s) for one, time_s in zip(told, times, strict=True)]


@pytest.mark.parametrize(
    "packets",
    [
        [packet(True, "S", 1, 0, 0)],
        [packet(True, "R", 1, 1, 0)],
        [packet(True, "A", 1, 1, 0)],
        closing([0.0] * 6),
        closing([0.0, 0.1, 0.0, 0.0, 0.1, 0.0]),  # TIME-WAIT begins where the capture ends
    ],
    ids=["one SYN", "one RST", "one ACK", "all at once", "times run backwards"],
)
def test_next_to_nothing_is_drawn_without_a_warning(packets: list[Any]) -> None:
    drawing = Drawing(observer.read(packets))
    drawing.prepare([0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = {plot.name: drawing(plot.name, 0 if plot.scope == "flow" else None) for plot in collect(Plot).values()}
    assert drawn["ladder"].startswith("<svg") and drawn["states"].startswith("<svg")
