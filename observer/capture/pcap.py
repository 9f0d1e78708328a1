"""Reads pcap files: micro- and nanoseconds, both byte orders, Kuznetzov's records, several files in a row.

Sources: draft-ietf-opsawg-pcap-05; libpcap's sf-pcap.c for what old versions did.
"""

from __future__ import annotations

from typing import Final, Literal

from observer.capture.chunk import MAX_LISTED, Interface
from observer.capture.reader import LENGTH_MAX, SNAPLEN_MAX, FileReader
from observer.capture.scan import (
    ANOTHER_FILE,
    FRACTION_NS,
    HEADER,
    LIMIT,
    LINK,
    LITTLE,
    MAGIC_NANO,
    NEED,
    SWAPPED,
    scan_pcap,
)
from observer.capture.signatures import pcap_order
from observer.kernels import Bound, Engine

HEADER_OCTETS: Final = 24
MAGIC_KUZNETZOV: Final = 0xA1B2CD34
RECORD_OCTETS: Final = 16
RECORD_OCTETS_KUZNETZOV: Final = 24


class PcapReader(FileReader):
    """Reads a pcap file; its source's head tells that it is one."""

    def bound(self, engine: Engine) -> Bound:
        """See FileReader."""
        return engine.bind(scan_pcap, self.workspace.octets, self._state, self.workspace.records)

    def begin(self) -> None:
        """Read the file header at the first octet that is not consumed."""
        self._cells[HEADER] = RECORD_OCTETS
        if self.wait_for(HEADER_OCTETS):
            return  # the file is cut inside its header: `unfinished` tells
        head = self.octets(0, HEADER_OCTETS)
        found = pcap_order(head)
        if found is not None:
            self._take_header(head, found[0], "little" if found[1] == "little" else "big")
            self.consume(HEADER_OCTETS)

    def _take_header(self, head: bytes, magic: int, order: Literal["little", "big"]) -> None:
        major, minor = int.from_bytes(head[4:6], order), int.from_bytes(head[6:8], order)
        snaplen, link = int.from_bytes(head[16:20], order), int.from_bytes(head[20:24], order)
        cells, info = self._cells, self.info
        cells[LITTLE] = order == "little"
        cells[HEADER] = RECORD_OCTETS_KUZNETZOV if magic == MAGIC_KUZNETZOV else RECORD_OCTETS
        cells[FRACTION_NS] = 1 if magic == MAGIC_NANO else 1000
        cells[LINK] = link & 0xFFFF
        cells[LIMIT] = min(max(snaplen, SNAPLEN_MAX), LENGTH_MAX)
        # sf-pcap.c: before version 2.3 and in 543.0 the lengths were swapped, in 2.3 sometimes
        cells[SWAPPED] = (major, minor) <= (2, 3) or major == 543
        info.saw_link_type(link & 0xFFFF)
        info.snaplen = max(info.snaplen, snaplen)
        # pcap-05 4: bit 26 says that the upper four bits count 16-bit words of frame check sequence
        fcs_octets = 2 * (link >> 28) if link >> 26 & 1 else 0
        if fcs_octets:
            info.note(f"each frame ends with {fcs_octets} octets of frame check sequence")
        if link & 0x0BFF0000:
            info.note(f"unknown bits stand beside the link type (0x{link:08x}); only the type was used")
        if magic == MAGIC_KUZNETZOV:
            info.note("written with Kuznetzov's longer record headers")
        if major not in (2, 543):
            self.damage(4, f"pcap version {major}.{minor} is unknown; the file was read as version 2.4")
        resolution = "1e-9" if magic == MAGIC_NANO else "1e-6"
        info.interfaces.append(Interface(link & 0xFFFF, snaplen=snaplen, resolution=resolution, fcs_octets=fcs_octets))
        del info.interfaces[MAX_LISTED:]

    def settle(self, status: int) -> None:
        """See FileReader."""
        if status == ANOTHER_FILE:
            if not self.wait_for(HEADER_OCTETS):
                self.info.note("several pcap files stand one behind the other in it; all were read")
                self.begin()
            return
        head = self.octets(0, RECORD_OCTETS)
        order: Literal["little", "big"] = "little" if self._cells[LITTLE] else "big"
        captured = int.from_bytes(head[8:12], order)
        self.damage(
            0,
            f"a frame cannot have {captured} captured octets (at most {self._cells[LIMIT]}): "
            "the rest of the file cannot be read",
        )
        self.finish()

    def unfinished(self, octets: int) -> str:
        """See FileReader."""
        if self._base + self._start == 0:
            return f"the file is cut: it ends after {octets} of the {HEADER_OCTETS} octets of its header"
        if octets < self._cells[HEADER]:
            return f"the file is cut: it ends after {octets} of the {self._cells[HEADER]} octets of a record header"
        return f"the file is cut: of a record of {self._cells[NEED]} octets {octets} are there; it is left out"
