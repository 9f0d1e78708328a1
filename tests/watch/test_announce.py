"""Announcements: each once, then what is new of it."""

from __future__ import annotations

from typing import Any

from observer.watch import Announcer


def row(**given: Any) -> dict[str, Any]:
    base = {"code": "half_open", "stream": 3, "endpoint": "client", "cause": None, "severity": "problem"}
    base |= {"grade": "suspected", "begin": 5, "end": None, "server_addr": "10.0.0.2", "server_port": 80}
    return base | given


def kinds(announcer: Announcer, *rows: dict[str, Any], **options: bool) -> list[tuple[str, str]]:
    return [(change.kind, change.row["code"]) for change in announcer.update(rows, **options)]


def test_two_alike_of_one_connection_are_two() -> None:
    announcer = Announcer()
    first, second = row(code="zero_window", begin=5, end=7), row(code="zero_window", begin=9)
    assert kinds(announcer, first) == [("raised", "zero_window")]
    assert kinds(announcer, second, first) == [("raised", "zero_window")]
    assert kinds(announcer, first, second | {"end": 12}) == [("ended", "zero_window")]


def test_what_turns_out_to_be_something_else_is_one_change() -> None:
    announcer = Announcer()
    announcer.update([row(code="syn_timeout")])
    (change,) = announcer.update([row(code="syn_dropped", endpoint="server")])
    assert change.kind == "changed" and change.before is not None and change.before["code"] == "syn_timeout"


def test_what_was_wrong_is_withdrawn() -> None:
    announcer = Announcer()
    announcer.update([row()])
    assert kinds(announcer) == [("withdrawn", "half_open")]
    assert not announcer.rows()


def test_populations_are_told_by_place() -> None:
    announcer = Announcer()
    one, other = row(stream=None), row(stream=None, server_port=81)
    assert kinds(announcer, one, other) == [("raised", "half_open")] * 2
    assert kinds(announcer, one, other) == []


def test_a_population_that_was_forgotten_is_not_withdrawn() -> None:
    announcer = Announcer()
    announcer.update([row(stream=None)])
    assert kinds(announcer, forgot=True) == []
    assert len(announcer.rows()) == 1


def test_retired_connections_stay_known_and_are_never_told_again() -> None:
    announcer = Announcer()
    announcer.update([row(), row(stream=4)])
    announcer.retire({3})
    assert kinds(announcer, row(stream=4)) == []
    assert {one["stream"] for one in announcer.rows()} == {3, 4}
