"""What a notebook shows: complete, escaped, well-formed."""

from __future__ import annotations

import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import observer
from observer.outputs import html
from observer.outputs.text import plain

VOID = {"img", "br", "hr"}


class Tags(HTMLParser):
    """Collects tags, and complains if they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words(shown: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", shown, flags=re.DOTALL)).split())


CAPTURES = ["accept-queue-full.pcap", "orderly-close-client.pcap", "syn-flood.pcap", "icmp-unreachable.pcap"]


@pytest.mark.parametrize("name", CAPTURES)
def test_an_observation_is_told_in_full(captures: Path, name: str) -> None:
    obs = observer.read(captures / name)
    shown = obs._repr_html_()
    assert set(Tags(shown).seen) <= {
        "style",
        "div",
        "span",
        "b",
        "code",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "img",
    }
    said = words(shown)
    assert name in said
    summary = obs.summary()
    for one in summary.finding_groups:
        assert one.summary in unescape(said)
        assert one.severity.upper() in said
        assert one.grade in said
    assert sum(outcome.connections for outcome in summary.outcomes) == len(obs.flows)
    assert ("<img" in shown) == any(one.example is not None for one in summary.finding_groups)
    if not summary.finding_groups:
        assert "No findings in" in said


@pytest.mark.parametrize("name", CAPTURES)
def test_a_connection_is_told_in_full(captures: Path, name: str) -> None:
    obs = observer.read(captures / name)
    shown = obs.flow(0)._repr_html_()
    Tags(shown)
    assert "<img" in shown
    assert "The story, segment by segment" in shown
    assert str(obs.flow(0).row.client_port) in words(shown)


def test_what_a_capture_says_cannot_act(captures: Path, tmp_path: Path) -> None:
    evil = tmp_path / '<script>alert("1")&amp;.pcap'
    evil.write_bytes((captures / "refused.pcap").read_bytes())
    obs = observer.read(evil)
    for shown in (obs._repr_html_(), obs.filter(port=5999)._repr_html_(), obs.explain()._repr_html_()):
        seen = Tags(shown)
        assert "script" not in seen.seen
        assert "&lt;script&gt;alert(" in shown
        assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_text_is_escaped_and_keeps_its_shape() -> None:
    told = html.Told([plain("<b>a & b</b>", "problem"), (), (("x  ", ""), ("y", "state"))])
    assert str(told) == "<b>a & b</b>\n\nx  y"
    shown = told._repr_html_()
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in shown
    assert Tags(shown).seen == ["style", "pre", "span", "span"]


def test_damage_and_caveats_stand_before_the_findings(captures: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    octets = (captures / "accept-queue-full.pcap").read_bytes()
    cut.write_bytes(octets[:-10])
    said = words(observer.read(cut)._repr_html_())
    assert said.index("Damage") < said.index("worst first")


def test_colours_read_on_light_and_dark() -> None:
    """3 : 1 at least on white and on the dark grey of notebooks (WCAG 2.1, 1.4.11); words say the same."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colours = [found for style in html.TEXT_STYLES.values() for found in re.findall(r"color:(#\w{6})", style)]
    assert colours
    for colour in colours:
        assert 1.05 / (luminance(colour) + 0.05) >= 3.5
        assert (luminance(colour) + 0.05) / (luminance("#1E1E1E") + 0.05) >= 3.5


# --- the explorer -------------------------------------------------------------------------------------------
def test_explorer_shows_what_is_chosen(captures: Path) -> None:
    pytest.importorskip("ipywidgets")
    obs = observer.read(captures / "accept-queue-full.pcap")
    panel = obs.explore().panel
    assert len(panel.chooser.options) == len(obs.findings)
    assert "<img" in panel.body.value
    panel.view.value = "story"
    assert "<pre" in panel.body.value
    panel.kind.value = "connections"
    assert [entry.stream for _, entry in panel.chooser.options] == obs.flows.stream.tolist()
    panel.search.value = "reset 40174"
    assert [entry.stream for _, entry in panel.chooser.options] == [5]
    assert "stream 5" in panel.body.value
    panel.view.value = "time-sequence"
    assert "<img" in panel.body.value
    panel.search.value = "no such thing"
    assert not panel.chooser.options
    assert "Nothing to choose" in panel.body.value


def test_explorer_of_a_pipe_says_what_is_missing(captures: Path) -> None:
    pytest.importorskip("ipywidgets")
    with (captures / "accept-queue-full.pcap").open("rb") as file:
        panel = observer.read(file).explore().panel
    assert "pipe" in panel.body.value
    panel.view.value = "story"
    assert "pipe" in panel.body.value


def test_explorer_without_widgets_is_static_and_says_so(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explorer = observer.read(captures / "accept-queue-full.pcap").explore()
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "install ipywidgets" in bundle["text/html"]
    assert "accept queue overflow" in bundle["text/html"]
    assert "accept queue overflow" in repr(explorer)


def test_explorer_with_widgets_has_a_static_view_beside_them(captures: Path) -> None:
    pytest.importorskip("ipywidgets")
    bundle = observer.read(captures / "refused.pcap").explore()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "connection refused" in bundle["text/html"]


def test_explorer_of_nothing(tmp_path: Path, captures: Path) -> None:
    pytest.importorskip("ipywidgets")
    empty = tmp_path / "empty.pcap"
    empty.write_bytes((captures / "refused.pcap").read_bytes()[:24])
    obs = observer.read(empty)
    assert "Nothing to choose" in obs.explore().panel.body.value
    assert "no TCP segments" in obs._repr_html_()
