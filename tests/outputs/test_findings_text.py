"""How groups of findings look: the answer first, in 80 columns, without colour, nothing that acts on a terminal."""

from __future__ import annotations

from typing import Any

import output_samples as samples
import pytest

from observer.findings.verdict import Verdict
from observer.outputs.findings_text import render_findings, title_of
from observer.outputs.grouping import group


def told(*verdicts: Verdict, **options: Any) -> list[str]:
    facts = {"connections": 9, "begin_ns": samples.START_NS, **options}
    return ["".join(text for text, _ in line) for line in render_findings(group(samples.findings(*verdicts)), **facts)]


GOLDEN = """\
Findings   5 problems, 1 warning in 9 connections
  PROBLEM   confirmed  half-established connection: 4 times at 10.0.1.9:5001
                       from 10.0.1.2
      Stream 5: connect() succeeded, accept() cannot.
      Cause: The listener's accept queue is full, so the kernel drops the
      handshake's last ACK.
      Of these 3 confirmed, 1 suspected.
      Server side, from 1.02 s on (2026-11-21 02:12:04.143 UTC),
      1 still so at the end
      Frames 31, 35, 39, 88   Wireshark: tcp.stream in {5..8}
      Remedy: Accept faster.
      Not known: the tap is at the client

  PROBLEM   probable   test of one: [2001:db8::1]:40001 -> 10.0.1.9:80
      Gone.
      Client side, at 2 s (2026-11-21 02:12:05.123 UTC)
      Frame 7   Wireshark: tcp.stream eq 1

  WARNING   confirmed  test of many: 10.0.1.9:5001
      Many of them.
      Explains the findings of its connections: test_of_one 1.
      Frames 1, 2, 3, 4   Wireshark: tcp.stream in {2, 3}"""


def test_golden() -> None:
    half = {"cause": "accept_queue_full", "unknown": "the tap is at the client"}
    at = samples.START_NS + 2_000_000_000
    one = {"endpoint": "client", "remedy": None}
    page = told(
        *(samples.verdict(stream=stream, **half) for stream in (5, 6, 7)),
        samples.verdict(stream=8, end=None, grade="suspected", frames=[31, 88], **half),
        samples.verdict("test_of_one", 1, grade="probable", begin=at, end=at, frames=[7], summary="Gone.",
                        client=(1, 40_001), server=(9, 80), **one),
        samples.verdict("test_of_one", 2, severity="info", **one),
        samples.verdict("test_of_many", None, severity="warning", endpoint=None, begin=None, frames=[1, 2, 3, 4],
                        streams=[3, 2], summary="Many of them.", remedy=None),
    )  # fmt: skip
    assert page == GOLDEN.split("\n")


def test_a_healthy_capture_has_one_line() -> None:
    assert told(connections=12041) == ["No findings in 12,041 connections"]


def test_what_is_only_worth_knowing_is_short() -> None:
    page = told(*(samples.verdict("reset_on_close", i, severity="info") for i in range(3)))
    assert page == [
        "Findings   3 worth knowing in 9 connections",
        "  INFO      confirmed  " + page[1][23:],
        *page[2:-1],
        "      Wireshark: tcp.stream in {0..2}",
    ]
    assert "Remedy" not in " ".join(page)


def test_filters_stay_in_one_line_where_they_can() -> None:
    ends = {"client": (1, 1), "server": (1, 5001), "frames": list(range(10**6, 10**6 + 50))}
    page = told(*(samples.verdict("x", i, **ends) for i in range(0, 3 * 10**9, 10**8)))
    assert "      Wireshark: ipv6.addr eq 2001:db8::1 and tcp.port eq 1 and ipv6.addr eq" in page
    page = told(*(samples.verdict("x", i, **ends) for i in range(9 * 10**5, 9 * 10**5 + 12, 3)))
    assert "      Wireshark: tcp.stream in {900000, 900003, 900006, 900009}" in page


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_and_the_page_ends(width: int) -> None:
    verdicts = [
        samples.verdict(f"code_{i}", stream=i, client=(1, 65535), server=(1, 65535), unknown="word " * 40,
                        severity=("problem", "warning", "info")[i % 3], summary="word " * 60 + "end.",
                        cause="cause", frames=list(range(10**9, 10**9 + 50)), streams=[])
        for i in range(90)
    ]  # fmt: skip
    page = told(*verdicts, width=width)
    assert [line for line in page if len(line) > width] == []
    assert page[-1] == "  and 74 more in 74 groups (--json, -o DIR)"
    assert len(page) < 250


def test_nothing_from_a_capture_acts_on_the_terminal() -> None:
    bad = "\x1b[31mred\u202e\x07"
    page = told(samples.verdict(f"c{bad}", summary=bad, remedy=bad, unknown=bad, cause=bad))
    assert all(line.isprintable() for line in page)


@pytest.mark.parametrize(
    ("verdicts", "title"),
    [
        ([samples.verdict("x_y", 1)], "x y: 10.0.1.2:40001 -> 10.0.1.9:5001"),
        ([samples.verdict("x", i, client=(i, 1)) for i in (2, 3)], "x: twice at 10.0.1.9:5001 from 2 clients"),
        ([samples.verdict("x", i, server=(9, i)) for i in (2, 3)],
         "x: twice at 10.0.1.9, 2 ports from 10.0.1.2"),
        ([samples.verdict("x", i, server=(i, i)) for i in (2, 3)], "x: twice from 10.0.1.2 to 2 listeners"),
        ([samples.verdict("x", i, server=(i, i), client=(20 + i, 1)) for i in range(5)],
         "x: 5 times between 5 clients and 5 listeners"),
        ([samples.verdict("x", None)], "x: 10.0.1.9:5001"),
        ([samples.verdict("x", None, client=(2, -1))], "x: 10.0.1.2 -> 10.0.1.9:5001"),
        ([samples.verdict("x", None, client=(2, -1), server=None)], "x: 10.0.1.2"),
        ([samples.verdict("x", None, server=None)], "x"),
        ([samples.verdict("x", None, begin=i) for i in range(3)], "x: 10.0.1.9:5001, 3 times"),
    ],
)  # fmt: skip
def test_titles(verdicts: list[Verdict], title: str) -> None:
    (one,) = group(samples.findings(*verdicts))
    assert title_of(one) == title
