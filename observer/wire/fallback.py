"""What the kernels do not know and scapy does: dissected by scapy, slowly, and handed back as octets of IP.

scapy is imported when the first such frame comes.  Nothing that it does with a frame is an error here: what it
cannot dissect stays undecoded and is counted.  Never called again for protocols that it proved not to know.
Sources: scapy's documentation (conf.l2types, bind_layers, Packet.original).
"""

from __future__ import annotations

import logging
import struct
from typing import Any, Final

from observer.wire import reasons as why

OCTETS_MAX: Final = 65536
"""No more of a frame is given to scapy: its dissection copies what is left at every layer."""


class Found:
    """What scapy found: octets that begin with an IP header, or with TCP under the addresses already known."""

    __slots__ = ("is_ip", "octets")

    def __init__(self, octets: bytes, *, is_ip: bool) -> None:
        self.octets = octets
        self.is_ip = is_ip


def dissect(hint: int, number: int, octets: bytes, version: int) -> Found | None:
    """What `octets` hold, a frame of link type, EtherType or IP protocol `number`; None: nothing with TCP.

    Parameters
    ----------
    hint
        Which of them: UNKNOWN_LINK, NOT_IP (EtherType) or PROTOCOL_OTHER.
    number
        Its number.
    octets
        What was captured from there on.
    version
        Of the IP header before an IP protocol, 4 or 6.
    """
    loggers = [logging.getLogger(name) for name in ("scapy.runtime", "scapy.loading")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        return _dissect(hint, number, octets[:OCTETS_MAX], version)
    except Exception:
        return None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _dissect(hint: int, number: int, octets: bytes, version: int) -> Found | None:
    import scapy.layers.all  # noqa: F401  registers what scapy knows
    from scapy.config import conf
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    layer: Any
    if hint == why.UNKNOWN_LINK:
        known = conf.l2types.num2layer.get(number)
        if known is None:
            return None
        layer = known(octets)
    elif hint == why.NOT_IP:
        layer = Ether(bytes(12) + struct.pack("!H", number) + octets).payload
    elif version == 4:
        header = struct.pack("!BBHHHBBH8x", 0x45, 0, min(20 + len(octets), 65535), 0, 0, 64, number, 0)
        layer = IP(header + octets).payload
    else:
        header = struct.pack("!IHBB32x", 6 << 28, min(len(octets), 65535), number, 64)
        layer = IPv6(header + octets).payload
    while layer:
        if isinstance(layer, IP | IPv6):
            return Found(bytes(layer.original), is_ip=True)
        if isinstance(layer, TCP) and hint == why.PROTOCOL_OTHER:
            return Found(bytes(layer.original), is_ip=False)
        layer = layer.payload
    return None
