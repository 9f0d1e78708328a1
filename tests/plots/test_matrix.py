"""Flow matrix: each connection is counted in one cell, and a cell is as bad as the worst finding in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import PolyCollection

import observer
from observer.errors import OptionError
from observer.plots.matrix import matrix
from observer.schema import SEVERITIES
from tests.plots.conversation import words_of
from tests.plots.crowd import CLOSED, RESET, Line, captured, crowd

NUMBERS = {"": 1, "k": 1000, "M": 1_000_000}


def cells(ax: Any) -> dict[tuple[int, int], str]:
    """Words in the cells by row and column."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in ax.texts}


def labels(axis: Any) -> list[str]:
    return [label.get_text().split("\n")[0] for label in axis.get_ticklabels()]


def severities(ax: Any) -> dict[tuple[int, int], str]:
    """What the legend calls the look of each cell's square."""
    found = {}
    for area in ax.findobj(PolyCollection):
        for path in area.get_paths():
            x, y = (path.vertices.min(axis=0) + path.vertices.max(axis=0)) / 2
            found[round(y), round(x)] = area.get_label()
    return found


def test_cells_are_the_table_of_clients_and_services() -> None:
    observation = crowd(120, clients=6, services=5)
    ax = matrix(observation)
    flows = observation.flows
    service = flows.server_addr.astype(str) + ":" + flows.server_port.astype(str)
    wanted = flows.groupby([flows.client_addr.astype(str), service], observed=True).size()
    rows, columns = labels(ax.yaxis), labels(ax.xaxis)
    got = {(rows[row], columns[column]): words for (row, column), words in cells(ax).items()}
    assert {key: int(words.split("/")[-1]) for key, words in got.items()} == wanted.to_dict()
    bad = flows.stream.isin(observation.findings.stream.dropna().astype(int))
    wanted_bad = bad.groupby([flows.client_addr.astype(str), service], observed=True).sum()
    assert {key: int(words.split("/")[0]) if "/" in words else 0 for key, words in got.items()} == wanted_bad.to_dict()
    assert "120 connections of 6 clients to 5 services" in ax.get_title(loc="left")
    assert f"{bad.sum()} with findings" in ax.get_title(loc="left")


def test_a_cell_is_as_bad_as_its_worst_finding(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    own = observation.findings[observation.findings.stream.notna()]
    worst = max(own.severity.tolist(), key=SEVERITIES.index)
    assert set(severities(matrix(observation)).values()) == {worst}
    quiet = captured([Line(0, ("10.0.0.1", 4000), ("10.0.0.2", 80), CLOSED)])
    assert set(severities(matrix(quiet)).values()) == {"no finding"}


def test_findings_about_all_of_a_service_stand_at_it(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    about = observation.findings[observation.findings.stream.isna()]
    assert len(about), "this capture has a finding about its listener"
    ax = matrix(observation)
    assert about.code.iloc[0] in " ".join(words_of(ax))
    assert [line.get_marker() for line in ax.get_lines()] == ["v"]
    assert f"{len(about)} finding" in ax.get_title(loc="left") and "about many at once" in ax.get_title(loc="left")


def test_a_finding_about_a_client_with_a_service_colours_their_cell() -> None:
    """TIME-WAIT piles up where one client opens and closes to one service again and again."""
    piling = [Line(0.01 * k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), CLOSED) for k in range(60)]
    innocent = [Line(0.01 * k, (f"10.0.0.{k}", 20_000), ("10.9.0.2", 80), CLOSED) for k in range(2, 5)]
    observation = captured([*piling, *innocent], options=observer.Options(time_wait_pileup=50))
    about = observation.findings[observation.findings.stream.isna()]
    assert about.code.tolist() == ["time_wait_pileup"] and about.client_addr.notna().all()
    for most, wanted in ((20, ("10.0.0.1", "10.9.0.1:80")), (1, ("10.0.0.1", "10.9.0.1:80"))):
        ax = matrix(observation, most=most)
        shown = severities(ax)
        row, column = labels(ax.yaxis).index(wanted[0]), labels(ax.xaxis).index(wanted[1])
        assert shown.pop((row, column)) == about.severity.iloc[0]
        assert set(shown.values()) == {"no finding"}
        assert not ax.get_lines(), "nothing is wrong with all of either"


def test_what_is_not_named_is_counted_together() -> None:
    observation = crowd(300, clients=12, services=9)
    ax = matrix(observation, most=3)
    assert labels(ax.yaxis)[-1] == "9 other clients" and labels(ax.xaxis)[-1] == "6 other services"
    assert len(labels(ax.yaxis)) == len(labels(ax.xaxis)) == 4
    assert sum(int(words.split("/")[-1]) for words in cells(ax).values()) == 300


def test_what_has_findings_is_named_before_what_is_busy() -> None:
    busy = [Line(0.1 * k, (f"10.0.0.{k % 9}", 20_000 + k), (f"10.9.0.{k % 9}", 80), CLOSED) for k in range(90)]
    bad = Line(3, ("10.0.1.1", 30_000), ("10.9.1.1", 81), RESET)
    observation = captured([*busy, bad])
    assert observation.findings.stream.notna().any(), "a reset is a finding"
    ax = matrix(observation, most=3)
    assert "10.0.1.1" in labels(ax.yaxis) and "10.9.1.1:81" in labels(ax.xaxis)


def test_squares_grow_with_the_number() -> None:
    lines = [Line(k, ("10.0.0.1", 20_000 + k), ("10.9.0.1", 80), CLOSED) for k in range(20)]
    lines.append(Line(1, ("10.0.0.2", 20_000), ("10.9.0.1", 80), CLOSED))
    (area,) = matrix(captured(lines)).findobj(PolyCollection)
    widths = [path.vertices[:, 0].max() - path.vertices[:, 0].min() for path in area.get_paths()]
    assert len(widths) == 2 and max(widths) > 1.5 * min(widths) and max(widths) <= 1


def test_no_row_at_all_is_misuse() -> None:
    with pytest.raises(OptionError, match="give 1 or more"):
        matrix(crowd(3), most=0)
