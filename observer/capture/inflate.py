"""gzip and zstd as streams of octets in constant memory, with all that stands before a damage.

Both take the containers apart themselves (headers, blocks, trailers) and leave only the decompression proper
to a library, because no library tells what was decompressed before an error, and zstandard not even that a
stream was cut.  Never here: files, captures.

Sources: RFC 1952 (gzip), RFC 8878 (zstd).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

GZIP_INPUT: Final = 65536
"""Octets of compressed input taken at once."""
GZIP_OUTPUT: Final = 1 << 17
"""Octets decompressed at once.  On a damaged pipe, which cannot be read again, up to so many before it are lost."""
GZIP_HEADER_MAX: Final = 1 << 18
"""A header with a longer file name or comment is damage; RFC 1952 names no limit."""
ZSTD_BLOCK_MAX: Final = 1 << 17
"""RFC 8878 3.1.1.2.4: Block_Maximum_Size is at most 128 KiB."""


class StreamDamageError(Exception):
    """Compressed octets that cannot be used.  Everything before them was delivered."""


class Raw(Protocol):
    """Where compressed octets come from."""

    def read(self, size: int, /) -> bytes:
        """Some octets, as soon as there are any; none at the end."""
        ...

    def again(self) -> Raw | None:
        """The same octets from the beginning, or None if they cannot be read twice."""
        ...

    def close(self) -> None: ...


class Inflated(Protocol):
    """Decompressed octets."""

    def readinto(self, view: memoryview, /) -> int:
        """Fill some of the view as soon as there is anything; 0 at the end.  Raises StreamDamageError."""
        ...


class _Zlib:
    """The standard library's decompressor with the interface of isal's."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=-15)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._pending

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    _pending = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # a full output may hide more inside the decompressor even if all input is consumed
        self._pending = len(out) == max_length
        return out


def _library() -> tuple[Callable[[], Any], Callable[[bytes, int], int]]:
    """Makers of raw deflate decompressors and the CRC: isal (three times faster) or the standard library."""
    try:
        from isal import igzip_lib, isal_zlib
    except ImportError:
        import zlib

        return _Zlib, zlib.crc32
    return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE), isal_zlib.crc32


class Gzip:
    """Decompresses gzip, any number of members.

    An error inside the deflate stream does not tell how much was decompressed before it.  Where the input can
    be read again that is done, the last octets one by one; otherwise the last GZIP_OUTPUT may be missing.
    """

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._make, self._crc32 = _library()
        self._feed = b""
        self._inner: Any = None  # None between members
        self._crc = 0
        self._length = 0
        self._members = 0
        self._produced = 0
        self._salvaged = b""
        self._failed = ""

    def readinto(self, view: memoryview, /) -> int:
        """Fill some of the view; see Inflated."""
        while not self._failed:
            if self._inner is None and not self._next_member():
                return 0
            try:
                out = self._step(min(len(view), GZIP_OUTPUT))
            except StreamDamageError:
                raise
            except Exception as error:  # isal_zlib.error, zlib.error: their modules need not be there
                self._failed = f"the gzip stream is corrupt ({error})"
                self._salvaged = self._salvage()
                break
            if out:
                view[: len(out)] = out
                return len(out)
        if self._salvaged:
            out, self._salvaged = self._salvaged[: len(view)], self._salvaged[len(view) :]
            view[: len(out)] = out
            return len(out)
        raise StreamDamageError(self._failed)

    def _step(self, room: int) -> bytes:
        """Decompress a piece; at the end of a member verify its trailer."""
        inner = self._inner
        if inner.eof:
            self._end_member()
            return b""
        feed = b""
        if inner.needs_input:
            feed, self._feed = self._feed or self._raw.read(GZIP_INPUT), b""
            if not feed:
                raise StreamDamageError("the gzip stream is cut: it ends inside a member")
        out: bytes = inner.decompress(feed, room)
        self._crc = self._crc32(out, self._crc)
        self._length += len(out)
        self._produced += len(out)
        return out

    def _more(self) -> bool:
        piece = self._raw.read(GZIP_INPUT)
        self._feed += piece
        return bool(piece)

    def _end_member(self) -> None:
        # what was read of it already stays if reading is given up while a pipe is waited for, and begun again
        self._feed = self._feed or bytes(self._inner.unused_data)
        while len(self._feed) < 8:
            if not self._more():
                raise StreamDamageError("the gzip stream is cut: its checksum is missing")
        self._inner = None
        crc, length = int.from_bytes(self._feed[:4], "little"), int.from_bytes(self._feed[4:8], "little")
        self._feed = self._feed[8:]
        if crc != self._crc or length != self._length & 0xFFFFFFFF:
            raise StreamDamageError("the gzip stream's checksum is wrong: what was decompressed cannot be trusted")

    def _next_member(self) -> bool:
        """Read a member's header; False at the end of the input."""
        while self._members and not self._feed.lstrip(b"\0"):
            self._feed = b""  # padding of tapes, as gzip(1) ignores it
            if not self._more():
                return False
        if self._members:
            self._feed = self._feed.lstrip(b"\0")
        while (end := _gzip_header(self._feed)) == 0:
            if not self._more():
                if self._feed:
                    raise StreamDamageError("the gzip stream is cut inside a header")
                return False
        if end < 0:
            what = "something that is not gzip follows the gzip stream" if self._members else "the gzip header is wrong"
            raise StreamDamageError(what)
        self._feed = self._feed[end:]
        self._inner, self._crc, self._length = self._make(), 0, 0
        self._members += 1
        return True

    def _salvage(self) -> bytes:
        """What stands between the last delivered octet and the error, by decompressing again."""
        raw = self._raw.again()
        if raw is None:
            return b""
        again = Gzip(_Once(raw))
        view = memoryview(bytearray(GZIP_OUTPUT))
        found = bytearray()
        try:
            while again._produced < self._produced:
                again.readinto(view[: self._produced - again._produced])
            while len(found) <= GZIP_OUTPUT and again.readinto(view[:1]):
                found += view[:1]
        except StreamDamageError:
            pass
        finally:
            raw.close()
        return bytes(found)


class _Once:
    """A Raw that is not read a third time."""

    def __init__(self, raw: Raw) -> None:
        self.read = raw.read
        self.close = raw.close

    def again(self) -> None:
        return None


def _gzip_header(octets: bytes) -> int:
    """Length of the gzip header (RFC 1952 2.3); 0 if more octets are needed, -1 if it is none."""
    if not b"\x1f\x8b\x08".startswith(octets[:3]):
        return -1
    if len(octets) < 10:
        return 0
    flags, at = octets[3], 10
    if flags & 4:  # FEXTRA
        at += 2 + int.from_bytes(octets[at : at + 2], "little")
    for bit in (8, 16):  # FNAME, FCOMMENT
        if flags & bit:
            zero = octets.find(b"\0", at)
            if zero < 0:
                return 0 if len(octets) < GZIP_HEADER_MAX else -1
            at = zero + 1
    if flags & 2:  # FHCRC
        at += 2
    return at if at <= len(octets) else 0


class Zstd:
    """Decompresses zstd, any number of frames, block by block.

    A block decompresses to 128 KiB at most, so a block at a time bounds the memory whatever the ratio, and all
    blocks before a damaged one are delivered.
    """

    def __init__(self, raw: Raw) -> None:
        import zstandard

        self._raw = raw
        self._maker = zstandard.ZstdDecompressor()
        self._inner: Any = None  # None between frames
        self._feed = b""
        self._checksum = False
        self._last = False  # the frame's last block was decompressed
        self._out = memoryview(b"")

    def readinto(self, view: memoryview, /) -> int:
        """Fill some of the view; see Inflated."""
        while not self._out:
            if not self._step():
                return 0
        piece = self._out[: len(view)]
        view[: len(piece)] = piece
        self._out = self._out[len(piece) :]
        return len(piece)

    def _have(self, size: int) -> bool:
        """Whether so many octets of input are there, after reading on."""
        if len(self._feed) >= size:
            return True
        pieces, length = [self._feed], len(self._feed)
        try:
            while length < size and (piece := self._raw.read(GZIP_INPUT)):
                pieces.append(piece)
                length += len(piece)
        finally:  # reading may be given up while a pipe is waited for, and begun again
            self._feed = b"".join(pieces)
        return length >= size

    def _take(self, size: int) -> bytes:
        if not self._have(size):
            raise StreamDamageError("the zstd stream is cut: it ends inside a frame")
        piece, self._feed = self._feed[:size], self._feed[size:]
        return piece

    def _decompress(self, piece: bytes) -> None:
        try:
            self._out = memoryview(self._inner.decompress(piece))
        except Exception as error:  # zstandard.ZstdError
            raise StreamDamageError(f"the zstd stream is corrupt ({error})") from None

    def _step(self) -> bool:
        """The next frame header, block or checksum; False at the end of the input."""
        if self._inner is None:
            return self._next_frame()
        if self._last:
            self._end_frame()
            return True
        self._have(3)
        head = int.from_bytes(self._feed[:3], "little")  # RFC 8878 3.1.1.2: last, type, size
        self._last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if kind == 3 or (kind != 1 and size > ZSTD_BLOCK_MAX):
            raise StreamDamageError("the zstd stream is corrupt (an impossible block)")
        self._decompress(self._take(3 + (1 if kind == 1 else size)))
        return True

    def _end_frame(self) -> None:
        inner, self._inner, self._last = self._inner, None, False
        if not self._checksum:
            return
        if not self._have(4):
            raise StreamDamageError("the zstd stream is cut: its checksum is missing")
        try:
            inner.decompress(self._take(4))
        except Exception:  # zstandard.ZstdError
            message = "the zstd stream's checksum is wrong: what was decompressed cannot be trusted"
            raise StreamDamageError(message) from None

    def _next_frame(self) -> bool:
        if not self._have(4):
            if self._feed:
                raise StreamDamageError("the zstd stream is cut: it ends inside a header")
            return False
        magic = int.from_bytes(self._feed[:4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # RFC 8878 3.1.2: to be skipped
            left = int.from_bytes(self._take(8)[4:], "little")
            while left:
                if not self._have(1):
                    raise StreamDamageError("the zstd stream is cut: it ends inside a frame")
                left -= len(self._take(min(left, len(self._feed))))
            return True
        if magic != 0xFD2FB528:
            raise StreamDamageError("something that is not zstd follows the zstd stream")
        self._have(5)
        flags = self._feed[4] if len(self._feed) > 4 else 0
        single = flags >> 5 & 1
        # RFC 8878 3.1.1.1: window descriptor, dictionary, content size
        size = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        self._checksum = bool(flags & 4)
        self._inner = self._maker.decompressobj()
        self._decompress(self._take(size))
        return True
