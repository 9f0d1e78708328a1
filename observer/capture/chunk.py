"""What reading a capture hands over: chunks of frames, what is known about each file, what was damaged.

Never here: reading.  Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng (names of options).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

OctetArray = NDArray[numpy.uint8]
Int64Array = NDArray[numpy.int64]


@dataclass(slots=True)
class Chunk:
    """Some frames: the octets they stand in and one row for each.

    Valid until the next chunk is asked for: both arrays are used again.
    """

    octets: OctetArray
    """uint8; headers of the file format stand between the frames."""
    size: int
    """How many of the octets are filled; no frame reaches beyond."""
    records: Int64Array
    """int64, flat: row r has its cells at r * RECORD_STRIDE (see observer.segments, RECORD_...)."""
    count: int
    """Rows in use, at least 1."""
    base: int = 0
    """Octets of the file, decompressed if need be, before `octets[0]`; 0 where frames are of several files."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a file is not what its format demands.  What stood before it was used."""

    file: str
    """Name as in FileInfo.name."""
    offset: int
    """Octets from the beginning of the file; of a compressed file, of what it decompresses to."""
    frame: int
    """Number in this file, from 1, of the frame that was hit or that would have come next."""
    message: str
    """What is wrong and what was done about it."""
    decompressed: bool = False
    """The file is compressed, so offset counts decompressed octets."""

    def __str__(self) -> str:
        """One sentence.

        Examples
        --------
        >>> print(Damage("a.pcap", 1040, 7, "the file is cut"))
        a.pcap: at octet 1040, frame 7: the file is cut
        """
        what = "decompressed octet" if self.decompressed else "octet"
        return f"{self.file}: at {what} {self.offset}, frame {self.frame}: {self.message}"


@dataclass(slots=True)
class Interface:
    """An interface of a pcapng section, or the one of a pcap file."""

    link_type: int
    """LINKTYPE_ number of tcpdump.org's registry."""
    name: str = ""
    description: str = ""
    snaplen: int = 0
    """Octets kept of each frame; 0: all."""
    resolution: str = "1e-6"
    """Seconds that the time stamps count in: a power of ten (``1e-9``) or of two (``2^-20``)."""
    offset_s: int = 0
    """Seconds added to the time stamps (if_tsoffset)."""
    fcs_octets: int = 0
    """Octets of frame check sequence that end each frame, if the capture says so."""


@dataclass(slots=True)
class FileInfo:
    """One file of the capture and what it says about itself.

    All text came from the file: it may hold control characters, octets that are no UTF-8 stand as ``\\xNN``.
    """

    name: str
    format: str = "pcap"
    """``pcap``, ``pcapng`` or ``scapy``."""
    compression: str = ""
    """``gzip``, ``zstd`` or nothing."""
    link_types: list[int] = field(default_factory=list)
    """Each once, in the order in which the file names them."""
    snaplen: int = 0
    """Octets kept of each frame, the most of all interfaces; 0: all, or not known."""
    interfaces: list[Interface] = field(default_factory=list)
    """At most MAX_LISTED of them."""
    first_frame: int = 0
    """Number, in the whole capture, of its first frame; 0: it has none."""
    frames: int = 0
    received: int | None = None
    """Frames the interfaces received while capturing (isb_ifrecv); None: not told."""
    dropped_interface: int | None = None
    """Frames lost for want of resources of the interface (isb_ifdrop); None: not told."""
    dropped_os: int | None = None
    """Frames lost by the operating system while capturing (isb_osdrop); None: not told."""
    hardware: str = ""
    operating_system: str = ""
    application: str = ""
    notes: list[str] = field(default_factory=list)
    """What is odd about the file but no damage, a sentence each."""

    def kind(self) -> str:
        """Format with compression.

        Examples
        --------
        >>> FileInfo("a.pcap.gz", compression="gzip").kind()
        'pcap, gzip'
        """
        return f"{self.format}, {self.compression}" if self.compression else self.format

    def saw_link_type(self, link_type: int) -> None:
        """Take note of a link type."""
        if link_type not in self.link_types and len(self.link_types) < MAX_LISTED:
            self.link_types.append(link_type)

    def note(self, sentence: str) -> None:
        """Take note of an oddity, once."""
        if sentence not in self.notes and len(self.notes) < MAX_LISTED:
            self.notes.append(sentence)


MAX_LISTED = 256
"""Entries of any list of a FileInfo: a file made to exhaust memory must not get far."""
