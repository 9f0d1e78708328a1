"""Community ID version 1: a short text that names a flow alike in every tool that computes it.

The base64 of a SHA-1 over seed, the two endpoints in ascending order, the protocol number and the ports; direction
does not matter.  The same 4-tuple has the same identifier for ever: incarnations are not told apart.

Never here: protocols other than TCP.  Source: corelight/community-id-spec, version 1.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import b2a_base64
from hashlib import sha1
from struct import Struct
from typing import TYPE_CHECKING

from observer.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

TCP_AND_PADDING = b"\x06\x00"  # protocol 6, one octet of padding
PORTS = Struct(">HH")


def community_id(src: bytes, dst: bytes, src_port: int, dst_port: int, seed: int = 0) -> str:
    """The identifier of one TCP flow.

    src, dst: addresses, both of 4 or both of 16 octets in network order; ports 0 .. 65535; seed 0 .. 65535.
    Raises OptionError for anything else.

    Examples
    --------
    >>> community_id(bytes([128, 232, 110, 120]), bytes([66, 35, 250, 204]), 34855, 80)
    '1:LQU9qZlK+B5F3KDmev6m5PMibrg='
    """
    if len(src) not in (4, 16) or len(src) != len(dst):
        raise OptionError(f"addresses of {len(src)} and {len(dst)} octets are not two of 4 or two of 16")
    if not (0 <= src_port <= 0xFFFF and 0 <= dst_port <= 0xFFFF):
        raise OptionError(f"ports {src_port} and {dst_port} are not both in 0 .. 65535")
    start = seed_octets(seed)
    if (src, src_port) > (dst, dst_port):
        src, dst, src_port, dst_port = dst, src, dst_port, src_port
    digest = sha1(start + src + dst + TCP_AND_PADDING + PORTS.pack(src_port, dst_port), usedforsecurity=False)
    return "1:" + b64encode(digest.digest()).decode("ascii")


def community_ids(flows: Iterable[tuple[bytes, bytes, int, int]], seed: int = 0) -> list[str]:
    """The identifiers of many TCP flows, each (src, dst, src_port, dst_port) as for `community_id`, not checked.

    Examples
    --------
    >>> community_ids([(bytes([66, 35, 250, 204]), bytes([128, 232, 110, 120]), 80, 34855)])
    ['1:LQU9qZlK+B5F3KDmev6m5PMibrg=']
    """
    start = seed_octets(seed)
    pack, encode = PORTS.pack, b2a_base64
    texts = []
    for src, dst, src_port, dst_port in flows:
        # bytes compare like the numbers they stand for in network order; addresses decide, ports where they are equal
        if src < dst or (src == dst and src_port <= dst_port):
            data = start + src + dst + TCP_AND_PADDING + pack(src_port, dst_port)
        else:
            data = start + dst + src + TCP_AND_PADDING + pack(dst_port, src_port)
        texts.append("1:" + encode(sha1(data, usedforsecurity=False).digest(), newline=False).decode("ascii"))
    return texts


def seed_octets(seed: int) -> bytes:
    """The seed in network order; OptionError if it is not in 0 .. 65535."""
    if not 0 <= seed <= 0xFFFF:
        raise OptionError(f"seed {seed} is not in 0 .. 65535")
    return seed.to_bytes(2, "big")
