"""Octets in: capture files, compressed files, pipes, several files as one.  Yields Chunks; knows no protocol."""

from observer.capture.chunk import Chunk, Damage, FileInfo, Interface
from observer.capture.opening import Capture, open_capture

__all__ = ["Capture", "Chunk", "Damage", "FileInfo", "Interface", "open_capture"]
