"""What a file is by its first octets, and what to say of one that is no capture.

Never reads.  Sources: tcpdump.org and Wireshark's list of capture formats, file(1)'s magic for the others.
"""

from __future__ import annotations

from typing import Final

HEAD_OCTETS: Final = 24
"""Octets that suffice to name a format.  No capture has a frame earlier, so a pipe is not waited for in vain."""

PCAP_MAGICS: Final = (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
"""Microseconds; nanoseconds; Kuznetzov's with longer record headers (Linux 2.0 patches, some SUSE and Red Hat)."""
PCAPNG_MAGIC: Final = b"\n\r\r\n"
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"

_CONVERT = "convert it with: editcap -F pcapng {file} out.pcapng"
_UNPACK = "unpack it first"
_FOREIGN: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"snoop\0\0\0", "a snoop capture (Solaris)", _CONVERT),
    (b"btsnoop\0", "a Bluetooth capture (btsnoop)", "it cannot hold TCP"),
    (b"GMBU", "a Microsoft Network Monitor capture", _CONVERT),
    (b"RTSS", "a Microsoft Network Monitor capture", _CONVERT),
    (b"TRSNIFF data", "a Sniffer capture", _CONVERT),
    (b"XCP\0", "a NetXRay capture", _CONVERT),
    (b"iptrace ", "an AIX iptrace capture", _CONVERT),
    (b"\x00\x00\x02\x00\x12\x05\x00\x10", "a K12 capture", _CONVERT),
    (b"\x1c\x00\x01\xac", "an Ixia capture (lcap)", _CONVERT),
    (b"\xac\x01\x00\x1c", "an Ixia capture (lcap)", _CONVERT),
    (b"\x54\x52\x00\x64\x00", "an HP-UX nettl trace", _CONVERT),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it: xz -dc {file} | observer read -"),
    (b"BZh", "compressed with bzip2", "unpack it: bzip2 -dc {file} | observer read -"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it: lz4 -dc {file} | observer read -"),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"\x1f\x9d", "compressed with compress", _UNPACK),
    (b"\x7fELF", "a program (ELF)", ""),
    (b"MZ", "a Windows program", ""),
    (b"\x89PNG", "a picture (PNG)", ""),
    (b"%PDF", "a PDF document", ""),
    (b"PAR1", "a Parquet table", ""),
    (b"<!", "a web page", ""),
    (b"<html", "a web page", ""),
)


def pcap_order(head: bytes) -> tuple[int, str] | None:
    """Magic and byte order (``little`` or ``big``) of a pcap file, or None if it is none.

    Examples
    --------
    >>> pcap_order(bytes.fromhex("d4c3b2a1"))
    (2712847316, 'little')
    """
    if len(head) < 4:
        return None
    little, big = int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")
    if little in PCAP_MAGICS:
        return little, "little"
    return (big, "big") if big in PCAP_MAGICS else None


def is_pcapng(head: bytes) -> bool:
    """Whether this is a section header, as far as it goes."""
    if head[:4] != PCAPNG_MAGIC:
        return False
    return len(head) < 12 or head[8:12] in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d")


def may_begin_capture(head: bytes) -> bool:
    """Whether a file of less than four octets could be the beginning of a capture."""
    magics = [magic.to_bytes(4, order) for magic in PCAP_MAGICS for order in ("little", "big")]
    return any(magic.startswith(head) for magic in (*magics, PCAPNG_MAGIC, ZSTD_MAGIC, GZIP_MAGIC))


def compression_of(head: bytes) -> str:
    """``gzip``, ``zstd`` or nothing."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    # a zstd stream may begin with a frame to be skipped: 0x184D2A50 to 0x184D2A5F, RFC 8878 3.1.2
    if head.startswith(ZSTD_MAGIC) or (len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return ""


def looks_like(head: bytes) -> tuple[str, str]:
    """What a file that is no capture looks like, and what can be done about it (may be empty).

    ``{file}`` in the remedy stands for the name of the file.

    Examples
    --------
    >>> looks_like(b"Hello, world")[0]
    'text'
    """
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            return what, remedy
    if not head.strip(b"\0"):
        return "zeros only", "it may have been left behind by a full disk or a crash"
    if head[:1] in (b"{", b"["):
        return "JSON", ""
    if all(32 <= octet < 127 or octet in b"\t\n\r\f\x1b" for octet in head):
        return "text", "if it is a listing of tcpdump or tshark, capture again with -w FILE"
    return f"nothing known (it begins with {head[:8].hex(' ')})", _CONVERT.replace(
        "convert", "if Wireshark opens it, convert"
    )
