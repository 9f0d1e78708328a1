"""The contract of every finding: what it declares, and what each of its verdicts must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import observer
from observer import schema
from observer.findings.judging import Judging
from observer.findings.verdict import Verdict
from observer.registry import Finding, collect
from observer.schema import SEVERITIES
from observer.tcp.events import EVENT_NAMES
from tests.findings.contract import faults

CONNECTION_CODES = (
    "half_established", "half_open", "half_open_reconnect", "send_timeout", "keepalive_timeout", "zero_window",
    "reset_on_close", "refused", "handshake_aborted", "accept_overflow_reset", "half_established_reset",
    "syn_timeout", "syn_dropped", "icmp_unreachable", "injected_reset", "close_wait_leak", "fin_wait_2_expired",
)  # fmt: skip
POPULATION_CODES = (
    "time_wait_pileup", "port_exhaustion", "accept_queue_overflow", "syn_flood", "close_wait_pileup",
    "fin_wait_2_pileup", "connection_leak", "reset_storm",
)  # fmt: skip
PROMISED = (*CONNECTION_CODES, *POPULATION_CODES)
"""DESIGN.md, "Finding codes"."""
FINDINGS = collect(Finding)
FOLDER = Path(__file__).resolve().parents[2] / "captures"
OWN = sorted(path for path in FOLDER.iterdir() if ".pcap" in path.name)


# --- what is declared ---------------------------------------------------------------------------------------------


def test_every_promised_code_exists_once() -> None:
    assert sorted(FINDINGS) == sorted(PROMISED), "collect() refuses two of one name"


@pytest.mark.parametrize("code", PROMISED)
def test_declares_what_people_are_told(code: str) -> None:
    finding = FINDINGS[code]
    assert finding.severity in SEVERITIES
    assert 3 <= len(finding.title) <= 60 and finding.title == finding.title.strip()
    for text in (finding.definition, finding.remedy):
        assert text.endswith((".", "?", ")")) and len(text) > 20 and text.isprintable()
    assert re.search(r"RFC \d+|Linux|measured|\(\d\)", finding.source), "a criterion without a source"
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", cause) and meaning for cause, meaning in finding.causes.items())


@pytest.mark.parametrize("code", PROMISED)
def test_is_woken_by_events_that_exist(code: str) -> None:
    finding = FINDINGS[code]
    assert (finding.judge is not None) == (code in CONNECTION_CODES)
    names = {name for name, _ in EVENT_NAMES}
    assert all(wake.event in names for wake in finding.wakes)
    assert (finding.judge is None) != (finding.survey is None)
    if finding.judge is not None:
        assert finding.wakes or finding.wakes_flows, "it would never be asked"


def test_causes_are_told_apart_where_there_are_several() -> None:
    assert all(finding.causes for finding in FINDINGS.values() if finding.judge is not None)


# --- what each verdict must be ------------------------------------------------------------------------------------


@cache
def observation_of(path: Path) -> observer.Observation:
    return observer.read(str(path))


def every_verdict() -> Iterator[tuple[str, observer.Observation, Verdict]]:
    for path in OWN:
        observation = observation_of(path)
        for verdict in Judging(observation).verdicts():
            yield path.name, observation, verdict


def test_every_verdict_keeps_the_contract() -> None:
    broken = [(name, verdict, what) for name, seen, verdict in every_verdict() for what in faults(seen, verdict)]
    assert not broken, "\n" + "\n".join(map(str, broken))
    assert len({verdict.code for *_, verdict in every_verdict()}) >= 17, "the captures show most findings"


def test_evidence_of_a_connection_is_its_own_frames() -> None:
    """ICMP errors aside, whose frames hold no segment of the connection itself."""
    for name, observation, verdict in every_verdict():
        if verdict.stream is None or verdict.code == "icmp_unreachable":
            continue
        own = set(observation.packets([verdict.stream]).frame)
        assert set(verdict.frames) <= own, (name, verdict)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_table_is_as_declared_and_worst_first(path: Path) -> None:
    table = observation_of(path).findings
    schema.validate("findings", table)
    assert len(table) == len(Judging(observation_of(path)).verdicts())
    ranks = [-SEVERITIES.index(severity) for severity in table.severity]
    assert ranks == sorted(ranks)


def test_a_capture_without_segments_has_no_findings() -> None:
    from scapy.all import IP, UDP

    observation = observer.read([IP(src="10.0.0.1", dst="10.0.0.2") / UDP()])
    assert observation.findings.empty
    schema.validate("findings", observation.findings)


def test_what_the_capture_lost_is_always_named() -> None:
    observation = observer.read(str(FOLDER / "peer-vanished.pcap"))
    observation.capture.files[0].dropped_os = 7
    told = observation.findings.unknown
    assert len(told) and told.str.contains("lost 7 frames").all()
