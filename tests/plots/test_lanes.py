"""State lanes: each bar is a stay in a state; many connections share lanes, and none is left out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest

import observer
from observer.errors import OptionError
from observer.plots.lanes import GROUPS, ORDERS, _alive, lanes
from observer.plots.stretches import most_at_once, stretches
from observer.schema import ENDPOINTS, STATES
from tests.plots.conversation import Conversation, queue_full, words_of
from tests.plots.crowd import crowd


def bars(ax: Any) -> list[tuple[str, float, float, float]]:
    """State, begin, end and top of each bar."""
    from matplotlib.collections import PolyCollection

    found = []
    for area in ax.findobj(PolyCollection):
        for path in area.get_paths():
            (left, top), (right, _) = path.vertices.min(axis=0), path.vertices.max(axis=0)
            found.append((area.get_label(), left, right, top))
    return found


def names(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_a_bar_for_each_stay_from_its_begin_to_its_end(captures: Path) -> None:
    observation = observer.read(captures / "accept-queue-full.pcap")
    got = stretches(observation)
    place = {stream: row for row, stream in enumerate(observation.flows.sort_values("first_time").stream.tolist())}
    first = observation.begin_ns
    wanted = [
        (STATES[state], (begin - first) / 1e9, (end - first) / 1e9, place[stream] + 0.42 * side)
        for stream, side, state, begin, end in zip(*(part.tolist() for part in got[:5]), strict=True)
    ]  # fmt: skip
    drawn = sorted(bars(lanes(observation)))
    assert [name for name, *_ in drawn] == [name for name, *_ in sorted(wanted)]
    assert numpy.array([one[1:] for one in drawn]) == pytest.approx(numpy.array([one[1:] for one in sorted(wanted)]))


def test_the_client_stands_above_its_server() -> None:
    drawn = bars(lanes(queue_full().read()))
    client = [top for state, _, _, top in drawn if state == "SYN_SENT"]
    server = [top for state, _, _, top in drawn if state == "SYN_RECEIVED"]
    assert client[0] < server[0]
    assert "ESTABLISHED" not in {state for state, _, _, top in drawn if top == server[0]}, "it was retracted"


def test_connections_are_named_and_their_findings_told() -> None:
    observation = queue_full().read()
    ax = lanes(observation)
    assert names(ax) == ["0  10.0.0.1:40000"]
    assert "10.0.0.2:80" in ax.get_ylabel() and "UTC" in ax.get_xlabel() and "1 connection" in ax.get_title(loc="left")
    own = observation.findings[observation.findings.stream == 0]
    told = f"{own.code.iloc[0]}" + (f" +{len(own) - 1}" if len(own) > 1 else "")
    assert told in words_of(ax)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"SYN-SENT", "SYN-RECEIVED", "ESTABLISHED"} <= set(legend)


def test_servers_are_named_where_they_differ() -> None:
    assert all(" > 10.9." in name for name in names(lanes(crowd(12))))


def test_orders() -> None:
    observation = crowd(36, services=4)
    flows = observation.flows
    streams = {order: [int(name.split()[0]) for name in names(lanes(observation, order=order))] for order in ORDERS}
    assert all(sorted(shown) == flows.stream.tolist() for shown in streams.values())
    assert flows.first_time[streams["start"]].is_monotonic_increasing
    assert (flows.last_time - flows.first_time)[streams["duration"]].is_monotonic_decreasing
    servers = flows.server_addr.astype(str)[streams["server"]].tolist()
    assert len(list(dict.fromkeys(servers))) == 1 + sum(a != b for a, b in pairwise(servers))
    rank = {"problem": 0, "warning": 1, "info": 2}
    worst: dict[int, int] = {}
    for row in observation.findings.dropna(subset="stream").itertuples():
        worst[row.stream] = min(worst.get(row.stream, 9), rank[row.severity])
    ranks = [worst.get(stream, 9) for stream in streams["finding"]]
    assert ranks == sorted(ranks) and len(set(ranks)) > 1


def test_an_unknown_order_names_those_that_there_are() -> None:
    with pytest.raises(OptionError, match="there are start, server, duration, finding"):
        lanes(Conversation().opening().read(), order="size")  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ORDERS)
def test_groups_hold_every_connection_once(order: Any) -> None:
    observation = crowd(300)
    ax = lanes(observation, order=order)
    labels = names(ax)
    assert 1 < len(labels) <= GROUPS
    sizes = [int(label.split("\n")[1].split(" connection")[0].replace(",", "")) for label in labels]
    assert sum(sizes) == len(observation.flows)
    assert len(ax.images) == 1
    assert "300 connections" in ax.get_title(loc="left")


def test_the_height_of_a_colour_is_the_share_of_the_group() -> None:
    """All are established at the end: from bottom to top of a lane, on both sides."""
    from observer.plots import style

    talks = Conversation()
    for port in range(40000, 40060):
        talks.packets += Conversation(port).opening().packets
    talks.wait(5).send(0, "A")
    image = numpy.asarray(lanes(talks.read()).images[0].get_array())
    green = [int(style.STATE_COLOURS["ESTABLISHED"][i : i + 2], 16) for i in (1, 3, 5)]
    assert (image[:, -2] == green).all(axis=1).mean() > 0.9


def test_few_and_many_are_told_apart_by_the_option() -> None:
    observation = crowd(20)
    assert not lanes(observation, most=20).images
    assert lanes(observation, most=19).images


def test_most_at_once_of_a_group_counts_one_side() -> None:
    ax = lanes(crowd(100), order="start", most=10)
    for label in names(ax):
        size, most = label.split("\n")[1].split(" connections, ")
        assert 0 < int(most.split()[0]) <= int(size)
    assert len(ENDPOINTS) == 2


def test_alive_is_that_of_counting_every_stretch() -> None:
    found = stretches(crowd(200))
    wanted = max(
        most_at_once(found.begin[found.endpoint == side], found.end[found.endpoint == side]) for side in range(2)
    )
    assert _alive(found) == wanted
    assert _alive(found.take(numpy.array([], numpy.int64))) == 0
