"""From what a caller names to one Capture: paths, globs, standard input, open files, octets, scapy packets.

Sources: DESIGN.md of the project names what `observer.read` takes; Python's glob module for patterns.
"""

from __future__ import annotations

import glob
import io
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from observer.capture.chunk import Chunk, Damage, FileInfo
from observer.capture.merge import BEFORE_ALL, Merged, Waiting
from observer.capture.pcap import PcapReader
from observer.capture.pcapng import PcapngReader
from observer.capture.reader import BUFFER_OCTETS, RECORDS_MAX, FileReader, Reader, Workspace
from observer.capture.scapy_list import ScapyReader, packets_of
from observer.capture.signatures import is_pcapng, looks_like, may_begin_capture, pcap_order
from observer.capture.source import Source, Spec, check_path, displayed, standard_input
from observer.errors import CaptureError
from observer.kernels import Engine, Interpreted
from observer.segments import RECORD_TIME


class Capture:
    """Frames of one or several captures in time order; iterating yields Chunks.

    After an exception in the middle (Ctrl-C while a pipe is waited for) everything that was handed over
    stands, and iterating may go on.

    Attributes
    ----------
    frames : int
        Handed over so far.
    octets_total : int or None
        Octets of all files as they lie on disk, None if a pipe is among them.
    damages : list of Damage
        Grows while reading.
    files : list of FileInfo
        In the order in which they were opened, which for several files is that of their first frames.
    """

    def __init__(self, specs: list[Spec], packets: list[Any] | None, *, engine: Engine, workspace: Workspace) -> None:
        self.frames = 0
        self.damages: list[Damage] = []
        self.files: list[FileInfo] = []
        self.octets_total = _total(specs) if packets is None else None
        self._specs = specs
        self._engine = engine
        self._workspace = workspace
        self._reader: Reader | None = None
        self._closed = False
        if packets is not None:
            info = FileInfo("list of packets", format="scapy")
            self.files.append(info)
            self._reader = ScapyReader(packets, info=info, workspace=workspace)
        elif all(spec.is_regular() for spec in specs):
            self._reader = self._start()  # what cannot be read is told at once; pipes would have to be waited for

    @property
    def octets_read(self) -> int:
        """Octets of the files that were consumed, compressed if they are."""
        return self._reader.octets_read if self._reader else 0

    def use(self, engine: Engine) -> None:
        """Run the kernels on another engine from the next chunk on."""
        self._engine = engine
        if self._reader:
            self._reader.use(engine)

    def close(self) -> None:
        """Close what was opened here.  Iterating ends."""
        self._closed = True
        if self._reader:
            self._reader.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._closed:
            raise StopIteration
        if self._reader is None:
            self._reader = self._start()
        chunk = self._reader.chunk(self.frames + 1)
        if chunk is None:
            raise StopIteration
        self.frames += chunk.count
        return chunk

    def _start(self) -> Reader:
        if len(self._specs) == 1:
            reader, info = open_file(self._specs[0], self.damages, self._engine, self._workspace)
            self.files.append(info)
            return reader
        waiting = [self._waiting(i, spec) for i, spec in enumerate(self._specs)]
        return Merged(waiting, engine=self._engine, workspace=self._workspace)

    def _waiting(self, index: int, spec: Spec) -> Waiting:
        """A file with the time of its first frame; on disk it is closed again until its turn."""
        damages: list[Damage] = []
        regular = spec.is_regular()
        workspace = Workspace(4096, 1) if regular else Workspace()
        reader, info = open_file(spec, damages, Interpreted(), workspace)
        chunk = reader.chunk(1)
        first_ns = int(chunk.records[RECORD_TIME]) if chunk else BEFORE_ALL

        def open_now(workspace: Workspace) -> tuple[Reader, FileInfo]:
            if regular:
                found = open_file(spec, self.damages, self._engine, workspace)
                self.files.append(found[1])
                return found
            self.files.append(info)
            return Begun(reader, chunk, damages, self.damages), info

        if regular:
            reader.close()
        return Waiting(first_ns, index, open_now)


class Begun:
    """A Reader whose first chunk was already read, to learn its time."""

    def __init__(self, reader: FileReader, chunk: Chunk | None, damages: list[Damage], target: list[Damage]) -> None:
        self._reader = reader
        self._first = chunk
        target += damages
        reader.report_to(target)

    @property
    def octets_read(self) -> int:
        return self._reader.octets_read

    def chunk(self, frame: int) -> Chunk | None:
        """See Reader.  The first chunk's numbers are settled by Merged."""
        first, self._first = self._first, None
        return first or self._reader.chunk(frame)

    def use(self, engine: Engine) -> None:
        """See Reader."""
        self._reader.use(engine)

    def close(self) -> None:
        """See Reader."""
        self._reader.close()


def open_file(spec: Spec, damages: list[Damage], engine: Engine, workspace: Workspace) -> tuple[FileReader, FileInfo]:
    """Open one capture and read its header.  Raises CaptureError if it is none."""
    source = Source(spec)
    head, info = source.head, FileInfo(spec.name, compression=source.compression)
    kind: type[FileReader] | None = None
    if pcap_order(head):
        kind = PcapReader
    elif is_pcapng(head):
        kind, info.format = PcapngReader, "pcapng"
    elif len(head) < 4 and may_begin_capture(head):
        kind = PcapReader  # empty, or cut inside the magic number: damage, not misuse
    if kind is None:
        source.close()
        what, remedy = looks_like(head)
        inside = f"{source.compression}-compressed, and inside " if source.compression else ""
        remedy = "; " + remedy.replace("{file}", shlex.quote(spec.name) if spec.path else "FILE") if remedy else ""
        raise CaptureError(f"{spec.name}: is no pcap or pcapng capture; it looks like {inside}{what}{remedy}")
    return kind(source, info=info, damages=damages, engine=engine, workspace=workspace), info


def open_capture(
    sources: Any,
    *,
    engine: Engine | None = None,
    buffer_octets: int = BUFFER_OCTETS,
    records_max: int = RECORDS_MAX,
) -> Capture:
    """Open captures as one, in time order.

    Parameters
    ----------
    sources
        A path or glob pattern, ``-`` for standard input, an open binary file, the octets of a capture, a list of
        any of these, or a list of scapy packets.
    engine
        What runs the kernels; interpreted if not given.  See `Capture.use`.
    buffer_octets
        Octets read at once; grows where a frame needs it.
    records_max
        Rows of a chunk at most.

    Raises
    ------
    CaptureError
        If something cannot be opened or is no capture.  For pipes that turns out when iterating begins.

    Examples
    --------
    >>> header = bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 01000000")
    >>> record = bytes.fromhex("01000000 02000000 01000000 3c000000") + b"!"
    >>> with open_capture(header + record) as capture:
    ...     [chunk.records[1:6].tolist() for chunk in capture]
    [[1, 60, 1000002000, 1, 1]]
    """
    packets = packets_of(sources)
    specs = list(_specs(sources)) if packets is None else []
    if packets is None and not specs:
        raise CaptureError("no capture was named")
    return Capture(specs, packets, engine=engine or Interpreted(), workspace=Workspace(buffer_octets, records_max))


def _total(specs: list[Spec]) -> int | None:
    total = 0
    for spec in specs:
        if spec.path is not None and spec.is_regular():
            total += spec.path.stat().st_size
        elif isinstance(spec.file, io.BytesIO):
            total += len(spec.file.getbuffer())
        else:
            return None
    return total


def _specs(sources: Any) -> Iterable[Spec]:
    """Specs of whatever was named, in order; patterns give their files sorted by name."""
    if isinstance(sources, bytes | bytearray | memoryview):
        yield Spec("octets in memory", file=io.BytesIO(sources))
    elif isinstance(sources, str | os.PathLike):
        yield from _paths(os.fspath(sources))
    elif hasattr(sources, "read") or hasattr(sources, "readinto"):
        if isinstance(sources, io.TextIOBase):
            raise CaptureError(f"{_name_of(sources)}: is open for reading text; open it in mode 'rb'")
        yield Spec(_name_of(sources), file=sources)
    elif isinstance(sources, Iterable):
        for one in sources:
            yield from _specs(one)
    else:
        raise CaptureError(
            f"a capture cannot be read from {type(sources).__name__!r}; "
            "give a path, '-', an open binary file or a list of scapy packets"
        )


def _paths(name: str | bytes) -> Iterable[Spec]:
    name = os.fsdecode(name)
    if name == "-":
        yield Spec("standard input", file=standard_input())
        return
    path = Path(name)
    if not os.path.lexists(path):
        if glob.has_magic(name):
            found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  patterns of shells, absolute or not
            if not found:
                raise CaptureError(f"{displayed(name)}: no file matches this pattern; check the path")
            for one in found:
                check_path(Path(one))
                yield Spec(displayed(one), path=Path(one))
            return
        if name.startswith("~"):
            path = path.expanduser()
    check_path(path)
    yield Spec(displayed(path), path=path)


def _name_of(file: Any) -> str:
    name = getattr(file, "name", None)
    return displayed(name) if isinstance(name, str | os.PathLike) else "open file"
