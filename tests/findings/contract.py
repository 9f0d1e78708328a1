"""What each verdict must be, whatever it says: the contract that outputs and people rely on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import observer
from observer.findings.verdict import Verdict
from observer.registry import Finding, collect
from observer.schema import ENDPOINTS, GRADES, SEVERITIES

FINDINGS = collect(Finding)
ENDINGS = re.compile(r"[.!?](?:\s|$)")


def faults(observation: observer.Observation, verdict: Verdict) -> Iterator[str]:
    """Everything that breaks the contract."""
    finding = FINDINGS[verdict.code]
    if verdict.grade not in GRADES or verdict.severity not in SEVERITIES:
        yield f"grade {verdict.grade}, severity {verdict.severity}"
    if verdict.endpoint is not None and verdict.endpoint not in ENDPOINTS:
        yield f"endpoint {verdict.endpoint}"
    if finding.causes and verdict.cause not in finding.causes:
        yield f"cause {verdict.cause} is none of {list(finding.causes)}"
    if not verdict.frames or verdict.frames != sorted(set(verdict.frames)):
        yield f"frames {verdict.frames}"
    if verdict.frames and not 1 <= verdict.frames[0] <= verdict.frames[-1] <= observation.capture.frames:
        yield f"frames {verdict.frames} of {observation.capture.frames}"
    if verdict.begin is None or not observation.begin_ns <= verdict.begin <= observation.end_ns:
        yield f"begin {verdict.begin}"
    if verdict.end is not None and not (verdict.begin or 0) <= verdict.end <= observation.end_ns:
        yield f"end {verdict.end} with begin {verdict.begin}"
    yield from _text_faults(verdict)


def _text_faults(verdict: Verdict) -> Iterator[str]:
    if not 1 <= len(ENDINGS.findall(verdict.summary)) <= 2 or not verdict.summary.endswith("."):
        yield f"not one or two sentences: {verdict.summary!r}"
    if not all(text.isprintable() for text in (verdict.summary, verdict.remedy or "", verdict.unknown or "")):
        yield "control characters"
    if re.search(r"\b(?:None|nan)\b|\s-\d", verdict.summary):
        yield f"a number that is none: {verdict.summary!r}"
    if not verdict.remedy:
        yield "no remedy"
