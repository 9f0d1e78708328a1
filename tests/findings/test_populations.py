"""Population findings on crowds made of arrays: each criterion at its threshold, and what must not be found."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from observer.findings import around as near
from observer.findings.survey import Survey
from observer.findings.verdict import Verdict
from observer.options import Options
from tests.findings import crowd_samples as samples
from tests.findings.crowd_samples import COMPLETE, SERVER, crowd, found, spans, survey

CLIENT_SIDE, SERVER_SIDE = 0, 1


def waiting(
    count: int,
    *,
    rate: float,
    side: int = CLIENT_SIDE,
    until: float = 30.0,
    options: Options | None = None,
    **given: Any,
) -> Survey:
    """So many connections, one after another, that end in TIME-WAIT for 60 s."""
    first = numpy.arange(count) / rate
    stretches = spans(numpy.arange(count), side, first + 0.01, first + 60.01, until=until)
    people = crowd(first, client_state="TIME_WAIT" if side == CLIENT_SIDE else "CLOSED", server_state="CLOSED", **given)
    return survey(people, until=until, states={"TIME_WAIT": stretches}, options=options)


# --- TIME-WAIT -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [CLIENT_SIDE, SERVER_SIDE])
def test_a_thousand_in_time_wait_are_a_pile_up_and_one_less_is_none(side: int) -> None:
    assert found("time_wait_pileup", waiting(999, rate=100, side=side)) == []
    (verdict,) = found("time_wait_pileup", waiting(1000, rate=100, side=side))
    assert verdict.endpoint == ("client", "server")[side]
    assert verdict.cause == f"{verdict.endpoint}_closes_first"
    assert verdict.summary.startswith("1,000 connections in TIME-WAIT at once")
    assert (verdict.client, verdict.server) == ((7, -1) if side == CLIENT_SIDE else None, (1, 80))
    assert verdict.end is None
    assert verdict.unknown is not None and "60 s" in verdict.unknown


def test_time_wait_that_is_over_before_the_next_comes_does_not_pile_up() -> None:
    assert found("time_wait_pileup", waiting(2000, rate=10, until=210)) == []
    (verdict,) = found("time_wait_pileup", waiting(2000, rate=20, until=210))
    assert "1,200 connections" in verdict.summary  # 60 s at 20/s
    assert verdict.end is not None


def test_the_threshold_of_time_wait_is_an_option() -> None:
    assert found("time_wait_pileup", waiting(99, rate=100, options=Options(time_wait_pileup=100))) == []
    assert len(found("time_wait_pileup", waiting(100, rate=100, options=Options(time_wait_pileup=100)))) == 1


def test_a_share_of_a_small_range_of_ports_is_a_pile_up() -> None:
    options = Options(ephemeral_ports=(50000, 50049))
    few = numpy.arange(50000, 50009)
    assert found("time_wait_pileup", waiting(9, rate=10, port=few, options=options)) == []
    (verdict,) = found("time_wait_pileup", waiting(10, rate=10, port=numpy.arange(50000, 50010), options=options))
    assert "20 % of the 50 ports" in verdict.summary
    assert verdict.severity == "warning"


@pytest.mark.parametrize(
    ("count", "severity"), [(5646, "info"), (5647, "warning"), (25408, "warning"), (25409, "problem")]
)
def test_how_bad_time_wait_is_goes_by_the_share_of_the_ports(count: int, severity: str) -> None:
    first = 40000 - 32768
    ports = 32768 + (first + numpy.arange(count)) % 28232
    (verdict,) = found("time_wait_pileup", waiting(count, rate=count / 20, port=ports))
    assert verdict.severity == severity


def test_a_load_that_goes_on_and_will_take_all_ports_is_a_warning() -> None:
    (verdict,) = found("time_wait_pileup", waiting(3000, rate=471, until=6.5))
    assert verdict.severity == "warning"
    assert "last port is taken" in verdict.summary
    (verdict,) = found("time_wait_pileup", waiting(3000, rate=469, until=6.5))
    assert verdict.severity == "info"
    (verdict,) = found("time_wait_pileup", waiting(3000, rate=471, until=30))
    assert verdict.severity == "info"
    assert "would have been taken" in verdict.summary


def test_a_server_never_runs_out_of_ports_by_its_own_time_wait() -> None:
    people = waiting(28000, rate=2000, side=SERVER_SIDE, port=32768 + numpy.arange(28000))
    (verdict,) = found("time_wait_pileup", people)
    assert verdict.severity == "warning"
    assert found("port_exhaustion", people) == []


def test_a_holder_with_many_services_is_told_of_once() -> None:
    many = waiting(2000, rate=100, server=(1 << 16) + 80 + numpy.arange(2000) % 4)
    (verdict,) = found("time_wait_pileup", many)
    assert (verdict.client, verdict.server) == ((7, -1), None)
    assert "of several services" in verdict.summary


def test_two_clients_are_two_tuple_spaces() -> None:
    pair = waiting(3000, rate=500, client=7 + numpy.arange(3000) % 2)
    assert [verdict.client for verdict in found("time_wait_pileup", pair)] == [(7, -1), (8, -1)]


# --- ports -----------------------------------------------------------------------------------------------


def test_all_ports_taken_at_once() -> None:
    options = Options(ephemeral_ports=(50000, 50049))
    ports = numpy.arange(50000, 50049)
    (verdict,) = found("port_exhaustion", waiting(49, rate=100, port=ports, options=options))
    assert (verdict.grade, verdict.severity, verdict.cause) == ("probable", "problem", "ports_used_up")
    assert "EADDRNOTAVAIL" in verdict.summary
    assert found("port_exhaustion", waiting(48, rate=100, port=ports[:48], options=options)) == []


def test_ports_used_again_as_soon_as_their_time_wait_is_over() -> None:
    """The range is larger than what this client may use: only the moments of reuse tell that it has no other port."""
    first = numpy.concatenate([numpy.arange(2000) * 0.02, 60.5 + numpy.arange(2000) * 0.02])
    ports = 40000 + numpy.arange(4000) % 2000
    stretches = spans(numpy.arange(4000), CLIENT_SIDE, first + 0.01, first + 60.01, until=101)
    people = crowd(first, port=ports, client_state="TIME_WAIT", server_state="CLOSED")
    (verdict,) = found("port_exhaustion", survey(people, until=101, states={"TIME_WAIT": stretches}))
    assert "2,000 of 2,000 later openings" in verdict.summary
    assert verdict.grade == "probable"
    later = first + numpy.where(numpy.arange(4000) >= 2000, 10, 0)  # ten seconds after: the port was one of many
    people = crowd(later, port=ports, client_state="TIME_WAIT", server_state="CLOSED")
    assert found("port_exhaustion", survey(people, until=121, states={"TIME_WAIT": stretches})) == []


@pytest.mark.parametrize(("refused", "severity"), [(1, "warning"), (9, "warning"), (10, "problem")])
def test_syns_into_time_wait(refused: int, severity: str) -> None:
    first = numpy.concatenate([numpy.arange(refused), 100 + numpy.arange(refused)])
    people = crowd(first, bits=COMPLETE)
    stretches = spans(numpy.arange(refused), SERVER_SIDE, first[:refused], first[:refused] + 200, until=150)
    old = {refused + number: number for number in range(refused)}
    events = {"challenge_ack": [(100.0 + number, 0, refused + number) for number in range(refused)]}
    of = survey(people, until=150, states={"TIME_WAIT": stretches}, events=events, previous=old)
    (verdict,) = found("port_exhaustion", of)
    assert (verdict.severity, verdict.cause, verdict.grade) == (severity, "refused_by_time_wait", "confirmed")
    assert verdict.streams == list(range(refused, 2 * refused))
    assert found("port_exhaustion", survey(people, until=150, events=events, previous=old)) == []


# --- SYN floods ------------------------------------------------------------------------------------------

LONE = near.SAW_SYN
ANSWERED = near.SAW_SYN | near.SAW_SYNACK


def flood(count: int, bits: int, *, until: float = 10.0, over: float = 2.0, **given: Any) -> list[Verdict]:
    people = crowd(numpy.arange(count) * over / count, bits=bits, client_state="SYN_SENT", **given)
    return found("syn_flood", survey(people, until=until))


@pytest.mark.parametrize(("bits", "grade"), [(LONE, "probable"), (ANSWERED, "confirmed")])
def test_a_hundred_openings_that_nobody_completes_are_a_flood(bits: int, grade: str) -> None:
    assert flood(99, bits) == []
    (verdict,) = flood(100, bits)
    assert (verdict.grade, verdict.severity, verdict.endpoint, verdict.server) == (grade, "problem", "server", (1, 80))
    assert "from 1 address" in verdict.summary
    (verdict,) = flood(100, bits, client=numpy.arange(100))
    assert "from 100 addresses" in verdict.summary


@pytest.mark.parametrize(
    "bits",
    [
        ANSWERED | near.COMPLETED,
        LONE | near.CLOSED_BY_RESET,
        LONE | near.SYN_REPEATED,
        ANSWERED | near.SYN_REPEATED,
        LONE | near.CLIENT_SPOKE,
        near.MIDSTREAM,
    ],
)
def test_completed_refused_repeated_and_unseen_openings_are_no_flood(bits: int) -> None:
    """A service that is down is asked again and again; one direction only shows that the client went on."""
    assert flood(500, bits) == []


def test_openings_spread_over_hours_are_no_flood() -> None:
    assert flood(500, ANSWERED, over=7200, until=7300) == []


def test_a_scan_of_ports_or_hosts_is_no_flood() -> None:
    assert flood(5000, LONE, server=(1 << 16) + 1 + numpy.arange(5000)) == []
    assert flood(5000, LONE, server=(numpy.arange(5000) << 16) + 22) == []


def test_a_flood_that_the_capture_cuts_short_is_suspected_only() -> None:
    (verdict,) = flood(400, LONE, over=0.9, until=0.9)
    assert (verdict.grade, verdict.severity) == ("suspected", "warning")
    assert verdict.unknown is not None and "the capture ends" in verdict.unknown


def test_handshakes_in_flight_at_the_end_of_a_busy_service_are_no_flood() -> None:
    first = numpy.linspace(0, 20, 10_000)
    bits = numpy.where(first > 19.5, LONE, COMPLETE)
    assert (bits == LONE).sum() > 100
    assert found("syn_flood", survey(crowd(first, bits=bits), until=20)) == []


def test_unreachable_openings_are_no_flood() -> None:
    people = crowd(numpy.arange(500) / 100, bits=LONE)
    errors = {"icmp_error": [(0.1, 769, stream) for stream in range(500)]}
    assert found("syn_flood", survey(people, until=20, events=errors)) == []


# --- CLOSE-WAIT, FIN-WAIT-2 ------------------------------------------------------------------------------


def half_closed(count: int, *, held: float, side: int, until: float = 200.0, **given: Any) -> Survey:
    first = numpy.linspace(0, 0.1, count)
    stretches = {
        "CLOSE_WAIT": spans(numpy.arange(count), side, first, first + held, until=until),
        "FIN_WAIT_2": spans(numpy.arange(count), 1 - side, first, first + held, until=until),
    }
    return survey(crowd(first), until=until, states=stretches, **given)


@pytest.mark.parametrize("side", [CLIENT_SIDE, SERVER_SIDE])
def test_twenty_that_stay_half_closed_are_a_pile_up(side: int) -> None:
    culprit, waits = ("client", "server")[side], ("server", "client")[side]
    assert found("close_wait_pileup", half_closed(19, held=100, side=side)) == []
    assert found("close_wait_pileup", half_closed(20, held=0.15, side=side)) == []
    (verdict,) = found("close_wait_pileup", half_closed(20, held=100, side=side))
    assert (verdict.endpoint, verdict.cause, verdict.grade) == (culprit, f"{culprit}_does_not_close", "probable")
    (verdict,) = found("fin_wait_2_pileup", half_closed(20, held=100, side=side))
    assert (verdict.endpoint, verdict.cause, verdict.severity) == (waits, f"{culprit}_does_not_close", "warning")


@pytest.mark.parametrize(
    ("count", "held", "side", "expected"),
    [
        (100, 300, SERVER_SIDE, ("probable", "problem")),
        (99, 300, SERVER_SIDE, ("probable", "warning")),
        (100, 30, CLIENT_SIDE, ("probable", "warning")),  # an idle pool
        (100, 300, CLIENT_SIDE, ("probable", "problem")),
        (100, 5, SERVER_SIDE, ("suspected", "info")),  # slow, but they close
    ],
)
def test_how_bad_close_wait_is(count: int, held: float, side: int, expected: tuple[str, str]) -> None:
    (verdict,) = found("close_wait_pileup", half_closed(count, held=held, side=side))
    assert (verdict.grade, verdict.severity) == expected


def test_half_closes_that_are_used_do_not_count() -> None:
    used = {"half_closed": [(0.1, 1460, stream) for stream in range(1, 30)]}
    assert found("close_wait_pileup", half_closed(30, held=100, side=SERVER_SIDE, events=used)) == []
    empty = {"half_closed": [(0.1, 0, stream) for stream in range(30)]}
    assert len(found("close_wait_pileup", half_closed(30, held=100, side=SERVER_SIDE, events=empty))) == 1


def test_connections_that_half_close_one_after_another_do_not_pile_up() -> None:
    first = numpy.arange(100) * 2.0
    stretches = spans(numpy.arange(100), SERVER_SIDE, first, first + 1.5, until=300)
    assert found("close_wait_pileup", survey(crowd(first), until=300, states={"CLOSE_WAIT": stretches})) == []


# --- leaks -----------------------------------------------------------------------------------------------


def test_connections_that_are_never_closed_leak() -> None:
    growing = numpy.arange(20) * 4.0
    (verdict,) = found("connection_leak", survey(crowd(growing), until=80))
    assert (verdict.endpoint, verdict.grade, verdict.severity) == ("client", "probable", "warning")
    assert (verdict.client, verdict.server) == ((7, -1), (1, 80))
    (verdict,) = found("connection_leak", survey(crowd(growing / 4), until=20))
    assert verdict.grade == "suspected"
    assert found("connection_leak", survey(crowd(growing[:19]), until=80)) == []
    assert found("connection_leak", survey(crowd(growing / 10), until=8)) == []  # too short to say anything


@pytest.mark.parametrize(
    "pool",
    [
        crowd(numpy.linspace(0, 0.1, 50)),  # opened at once and kept
        crowd(numpy.arange(50) * 2.0, last=99.0),  # grows, and all are used
        crowd(numpy.arange(50) * 2.0, client=numpy.arange(50)),  # one of each client
        crowd(numpy.arange(50) * 2.0, client_state="CLOSED", server_state="CLOSED"),  # closed
        crowd(numpy.arange(50) * 2.0, client_state="FIN_WAIT_2"),  # the client did close
        crowd(numpy.arange(50) * 2.0, bits=near.MIDSTREAM),  # were there before
    ],
)
def test_pools_and_busy_clients_leak_nothing(pool: near.Crowd) -> None:
    assert found("connection_leak", survey(pool, until=100)) == []


def test_a_client_that_closes_most_leaks_nothing() -> None:
    people = crowd(numpy.arange(100) * 1.0)
    people.client_state[::4] = samples.state("CLOSED")
    assert found("connection_leak", survey(people, until=110)) == []


# --- accept queue ----------------------------------------------------------------------------------------


def victim(stream: int, begin: float, end: float | None, code: str = "half_established", **given: Any) -> Verdict:
    grade, cause = given.pop("grade", "probable"), given.pop("cause", "accept_queue_full")
    close = None if end is None else int(samples.ns(end))
    return Verdict(
        grade=grade, summary="", cause=cause, begin=int(samples.ns(begin)), end=close, frames=[stream * 10 + 3],
        stream=stream, server=(1, 80), client=(7, 40000 + stream), code=code, severity="problem", **given,
    )  # fmt: skip


def episodes(*victims: Verdict) -> list[Verdict]:
    by_code: dict[str, list[Verdict]] = {}
    for one in victims:
        by_code.setdefault(one.code, []).append(one)
    return found("accept_queue_overflow", survey(crowd(numpy.arange(50) * 1.0), until=100, verdicts=by_code))


def test_victims_of_a_full_accept_queue_are_one_episode_until_it_is_calm() -> None:
    (one,) = episodes(victim(3, 1, 4, grade="confirmed"), victim(4, 13, 15), victim(5, 2, 3, "accept_overflow_reset"))
    assert (one.begin, one.end) == (samples.ns(1), samples.ns(15))
    assert one.server == (1, 80) and sorted(one.streams) == [3, 4, 5]
    assert (
        "3 of 16 connections" in one.summary
        and "2 half-established (" in one.summary
        and "1 reset at once (" in one.summary
    )
    first, second = episodes(
        *(victim(number, at, at + 1, grade="confirmed") for number, at in enumerate([1, 2, 12.5, 40, 41]))
    )
    assert (first.end, second.begin, second.end) == (samples.ns(13.5), samples.ns(40), samples.ns(42))


def test_an_episode_that_lasts_has_no_end() -> None:
    (one,) = episodes(victim(3, 1, None, grade="confirmed"), victim(4, 90, 91))
    assert one.end is None


def test_one_lost_ack_is_no_episode() -> None:
    assert episodes(victim(3, 1, 2, cause="final_ack_lost"), victim(4, 1, 2, cause="final_ack_lost")) == []
    assert episodes(victim(3, 1, 2)) == []
    assert len(episodes(victim(3, 1, 2, grade="confirmed"))) == 1


def test_victims_between_many_that_are_served_suffer_from_loss() -> None:
    assert episodes(victim(3, 1, 2), victim(4, 8, 9)) == []
    assert episodes(victim(3, 1, 2, grade="suspected"), victim(4, 8, 9, grade="suspected")) == []
    assert len(episodes(victim(3, 1, 2, grade="suspected"), victim(4, 1.5, 9, grade="suspected"))) == 1


def test_dropped_syns_alone_are_suspected_from_the_third_on() -> None:
    assert episodes(victim(3, 1, 2, "syn_dropped"), victim(4, 1, 2, "syn_dropped")) == []
    (one,) = episodes(*(victim(number, 1, 2, "syn_dropped") for number in (3, 4, 5)))
    assert one.grade == "suspected" and one.unknown is not None


# --- reset storms ----------------------------------------------------------------------------------------


def resets(
    count: int, total: int, *, over: float = 40.0, by: int = near.RESET_BY_SERVER, **given: Any
) -> list[Verdict]:
    bits = numpy.full(total, COMPLETE)
    bits[:count] |= near.CLOSED_BY_RESET | by
    people = crowd(numpy.arange(total) * over / count, bits=bits)
    return found("reset_storm", survey(people, until=10_000, **given))


def test_a_storm_is_fifty_resets_and_three_in_ten() -> None:
    assert resets(49, 50) == []
    assert resets(50, 167) == []
    (verdict,) = resets(50, 166)
    assert (verdict.endpoint, verdict.severity, verdict.grade) == ("server", "warning", "confirmed")
    assert "50 of 166 connections (30 %) ended by reset" in verdict.summary
    (verdict,) = resets(50, 60, by=0)
    assert verdict.endpoint == "client"


def test_a_server_that_resets_fifty_at_once_is_a_storm_whatever_their_share() -> None:
    assert resets(50, 5000, over=1.5) == []
    assert len(resets(50, 5000, over=0.9)) == 1
    assert resets(50, 5000, over=0.9, by=0) == []


def test_a_storm_names_its_classes_and_is_as_bad_as_they_are() -> None:
    told = [victim(number, 1, 2, "refused", cause="no_listener") for number in range(40)]
    (verdict,) = resets(60, 100, verdicts={"refused": told})
    assert verdict.cause == "refused (no listener)"
    assert verdict.summary.endswith("40 refused (no listener), 20 no class.")
    assert verdict.severity == "problem"
    assert verdict.streams == list(range(60))


def test_two_listeners_are_two_storms() -> None:
    bits = numpy.full(200, COMPLETE | near.CLOSED_BY_RESET)
    people = crowd(numpy.arange(200) * 1.0, bits=bits, server=SERVER + numpy.arange(200) % 2)
    assert [verdict.server for verdict in found("reset_storm", survey(people, until=300))] == [(1, 80), (1, 81)]
