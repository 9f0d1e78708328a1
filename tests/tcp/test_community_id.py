"""Community ID against the specification's published baseline (corelight/community-id-spec, baseline/*.json)."""

import ipaddress

import pytest

from observer.errors import OptionError
from observer.tcp.community_id import community_id, community_ids

SMTP = ("2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25)
HTTP = ("128.232.110.120", "66.35.250.204", 34855, 80)
PUBLISHED = [
    (*SMTP, 0, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    (*HTTP, 0, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (*SMTP, 1, "1:eJYTW6AOzFLlSUoESovMjnu7rMw="),
    (*HTTP, 1, "1:3V71V58M3Ksw/yuFALMcW0LAHvc="),
]


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@pytest.mark.parametrize(("src", "dst", "src_port", "dst_port", "seed", "expected"), PUBLISHED)
def test_published(src: str, dst: str, src_port: int, dst_port: int, seed: int, expected: str) -> None:
    forth = (packed(src), packed(dst), src_port, dst_port)
    back = (packed(dst), packed(src), dst_port, src_port)
    assert community_id(*forth, seed) == community_id(*back, seed) == expected
    assert community_ids([forth, back], seed) == [expected, expected]


def test_equal_addresses_are_ordered_by_port() -> None:
    host = packed("127.0.0.1")
    forth, back = (host, host, 9, 4000), (host, host, 4000, 9)
    assert community_id(*forth) == community_id(*back)
    assert community_ids([forth, back]) == [community_id(*forth)] * 2
    assert community_id(host, host, 9, 4001) != community_id(*forth)


@pytest.mark.parametrize(
    "arguments",
    [
        (b"abc", b"abcd", 1, 2),
        (b"abcd", b"a" * 16, 1, 2),
        (b"abcd", b"abcd", 65536, 2),
        (b"abcd", b"abcd", 1, 2, 65536),
    ],
)
def test_misuse(arguments: tuple) -> None:
    with pytest.raises(OptionError):
        community_id(*arguments)
