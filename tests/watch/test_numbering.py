"""Numbers that stay while the tracker counts anew."""

from __future__ import annotations

import numpy

from observer.schema import Coded, Columns
from observer.watch.numbering import Numbering


def forgetting(*keeps: list[bool]) -> Numbering:
    numbering = Numbering()
    for keep in keeps:
        numbering.forget(numpy.array(keep))
    return numbering


def test_numbers_stay_through_two_forgettings() -> None:
    numbering = forgetting([True, False, True, False], [False, True, True])  # 0 2 | 4, then 2 and 4
    assert numbering.of([0, 1, 2]).tolist() == [2, 4, 5]
    assert numbering.total(3) == 6
    assert [numbering.held(number, 3) for number in range(7)] == [None, None, 0, None, 1, 2, None]


def test_everything_forgotten() -> None:
    numbering = forgetting([False, False])
    assert numbering.of([0, -1]).tolist() == [2, -1] and numbering.held(1, 1) is None and numbering.held(2, 1) == 0


def test_every_column_that_names_a_connection() -> None:
    numbering = forgetting([False, True, True])
    events = Columns("events", 2, {
        "stream": numpy.array([0, 1]), "event": Coded(numpy.array([0, 1]), ["reset", "new_incarnation"]),
        "detail": Coded(numpy.array([0, 0]), ["0"]),
    })  # fmt: skip
    made = numbering.columns(events)
    assert made["stream"].tolist() == [1, 2]
    assert [made["detail"].values[code] for code in made["detail"].codes] == ["0", "1"]
    flows = Columns("flows", 1, {"stream": numpy.arange, "previous_stream": numpy.array([-1])})
    assert numbering.columns(flows).part(0, 1)["previous_stream"].tolist() == [-1]
    findings = Columns("findings", 1, {"stream": numpy.array([-1]), "streams": [[0, 1]]})
    assert numbering.columns(findings)["streams"] == [[1, 2]]
