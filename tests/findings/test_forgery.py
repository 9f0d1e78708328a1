"""Resets in another's name: votes, never one bit."""

from __future__ import annotations

import pytest

from observer.segments import ACK_FLAG, RST
from tests.findings.telling import Tale
from tests.tcp.segments import MASK


def settled(tale: Tale | None = None) -> Tale:
    """Enough segments of both sides that their TTLs are known to be constant."""
    tale = (tale or Tale()).open()
    for _ in range(4):
        tale.server.data()
        tale.client.data()
    tale.server.ack()
    return tale


def test_a_ttl_far_off_and_a_sender_that_goes_on() -> None:
    tale = settled()
    tale.server.bare_reset(ttl=120, lost=True)
    tale.wait(1).server.data()
    tale.client.ack()
    one = tale.one("injected_reset")
    assert (one.grade, one.severity, one.endpoint, one.cause) == ("probable", "problem", "server", "third_party")
    assert "60 above" in one.summary and "went on" in one.summary
    assert one.frames == [15]
    assert not {"reset_on_close", "half_open"} & set(tale.codes())


def test_a_ttl_far_off_alone_is_suspected() -> None:
    tale = settled()
    tale.client.data()
    tale.server.bare_reset(ttl=250)
    one = tale.one("injected_reset")
    assert (one.grade, one.severity) == ("suspected", "warning")


def test_a_ttl_of_the_next_hop_is_one_vote() -> None:
    tale = settled()
    tale.client.data()
    tale.server.bare_reset(ttl=61)
    assert "problem" not in {one.severity for one in tale.found() if one.code == "injected_reset"}


@pytest.mark.parametrize("live", [True, False])
def test_a_genuine_reset_is_not_forged(live: bool) -> None:
    tale = settled()
    tale.client.data()
    (tale.server.reset if live else tale.server.bare_reset)()
    assert "injected_reset" not in tale.codes()


def test_resets_of_guessed_numbers() -> None:
    """Several at once, each with another number: who owns the connection needs no guess."""
    tale = settled()
    for step in (0, 1460, 2920):
        tale.now -= 9_999_000
        tale.server.bare_reset(seq=(tale.server.next + step) & MASK, ttl=120)
    one = tale.one("injected_reset")
    assert one.grade == "probable"
    assert "different numbers" in one.summary


def test_one_reset_for_each_segment_in_flight_is_genuine() -> None:
    """A host without the connection answers every segment; each RST has the number that segment acknowledged."""
    tale = settled()
    tale.server.fin()
    tale.client.ack()
    for _ in range(4):
        tale.client.data()
    for _ in range(4):
        tale.server.bare_reset()
    assert "injected_reset" not in tale.codes()


def test_a_scanner_s_own_kernel_is_no_third_party() -> None:
    """A raw socket sent the SYN, so the kernel answers the SYN-ACK with RST; the raw socket goes on all the same."""
    tale = Tale()
    tale.client.syn()
    tale.wait(0.05).server.synack()
    tale.client.bare_reset(seq=tale.client.next, lost=True)
    tale.wait(15).client.data()
    tale.server.bare_reset()
    assert "problem" not in {one.severity for one in tale.found() if one.code == "injected_reset"}


def test_a_reset_that_does_not_acknowledge_the_syn() -> None:
    """Copied from the SYN by somebody on the path; the server takes the SYN all the same."""
    tale = Tale()
    tale.client.syn()
    tale.server.send(RST | ACK_FLAG, 1, ack=tale.client.iss, lost=True)
    tale.wait(1).server.synack()
    tale.client.ack()
    tale.client.data()
    tale.server.ack()
    one = tale.one("injected_reset")
    assert (one.grade, one.severity, one.endpoint) == ("suspected", "warning", "server")
    assert one.frames == [2]
    assert tale.codes() == ["injected_reset"]
