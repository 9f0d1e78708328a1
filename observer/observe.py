"""The loop: chunks to segments to states.

    file -> Chunk -> rows of segments -> tracker -> Observation (observation.py)

Never decides anything about TCP or about formats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from observer import kernels
from observer.capture import open_capture
from observer.observation import CaptureInfo, Observation
from observer.options import Options
from observer.segments import RECORD_STRIDE, RECORD_TIME
from observer.tcp.tracker import Tracker
from observer.wire import Decoder

if TYPE_CHECKING:
    from observer.flow import Kept

Progress = Callable[[int, "int | None", int], None]
"""Called some times a second with octets read, octets in all (None: not known), frames read."""
Notice = Callable[[str], None]

SMALL_FRAMES: Final = 1500
"""Up to here interpreting is done before machine code would be loaded (30 us a frame against 60 ms)."""
UNCOMPILED_FRAMES: Final = 60_000
"""Up to here interpreting is done before machine code would be made (some seconds, once on a machine)."""
LARGE_OCTETS: Final = 4 << 20
"""A capture of at least this size is not begun interpreted."""
PROGRESS_S: Final = 0.2


class Speed:
    """Chooses between interpreted and compiled kernels as a capture turns out to be large."""

    def __init__(self, notice: Notice | None, engine: kernels.Engine | None = None) -> None:
        self.engine: kernels.Engine = engine or kernels.Interpreted()
        self._fixed = engine is not None
        self._notice = notice
        self._limit: int | None = None

    def wants_change(self, frames: int, octets: int | None) -> bool:
        """Whether to go on compiled, after so many frames of a capture of so many octets (None: not known)."""
        if self._fixed or (frames <= SMALL_FRAMES and (octets or 0) < LARGE_OCTETS):
            return False
        if self._limit is None:
            self._limit = SMALL_FRAMES if kernels.is_cached() else UNCOMPILED_FRAMES
        if frames <= self._limit and (octets or 0) < LARGE_OCTETS:
            return False
        self._fixed = True
        try:
            self.engine = kernels.Compiled(notice=self._notice)
        except (ImportError, OSError, RuntimeError) as error:  # no llvmlite for this machine: slow, but right
            if self._notice:
                self._notice(f"machine code cannot be had here ({error}); going on interpreted, some 100 times slower")
            return False
        return True


def read(
    sources: Any,
    *,
    options: Options | None = None,
    progress: Progress | bool | None = None,
    notice: Notice | None = None,
    keep: Collection[int] = (),
    engine: kernels.Engine | None = None,
) -> Observation:
    """Read captures and reconstruct both endpoints' states of every TCP connection in them.

    Parameters
    ----------
    sources
        A path, a glob pattern, "-" (standard input), an open binary file, a list of those, or a list of scapy packets.
        Several files are one capture in time order.
    options
        Timers and thresholds; default `Options()`.
    progress
        True: a bar, on a terminal or in a notebook, if it takes longer than a second.  Else called some times a second
        with octets read, octets in all or None, frames read.
    notice
        Told of what takes unexpectedly long (compiling, once on a machine).
    keep
        Streams whose packets are kept while reading, so that `Observation.flow(n).packets` needs no second reading.
    engine
        Run kernels this way; default: interpreted for small captures, compiled for larger ones.

    Returns
    -------
    The observation: tables as DataFrames, made when first asked for.

    Raises
    ------
    CaptureError
        A source cannot be opened or is no capture.  Damage further on is not raised, see `Observation.skipped`.

    Examples
    --------
    >>> from scapy.all import IP, TCP
    >>> obs = read([IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=40000, dport=80, flags="S")])
    >>> obs.flows.client_state.tolist(), obs.flows.server_state.tolist()
    (['SYN_SENT'], ['CLOSED'])
    """
    if isinstance(progress, bool):
        with _bar(progress) as shown:
            return read(sources, options=options, progress=shown, notice=notice, keep=keep, engine=engine)
    options = options or Options()
    speed = Speed(notice, engine)
    capture = open_capture(sources, engine=speed.engine)
    decoder = Decoder(speed.engine, options)
    tracker = Tracker(speed.engine, options)
    kept = _keeper(keep)
    info = CaptureInfo(files=capture.files, damages=capture.damages)
    try:
        _loop(capture, decoder, tracker, speed, info, progress, kept)
    except KeyboardInterrupt:
        info.interrupted = True
    finally:
        capture.close()
    info.frames = capture.frames
    decoder.finish()
    tracker.finish()
    if progress:
        progress(capture.octets_read, capture.octets_total, info.frames)
    return Observation(
        sources, options, info, decoder, tracker, kept,
        again=lambda streams: read(sources, options=options, keep=set(streams)).kept,
    )  # fmt: skip


def _bar(wanted: bool) -> AbstractContextManager[Progress | None]:
    if not wanted:
        return nullcontext()
    from observer.outputs.progress import bar

    return bar()


def _keeper(streams: Collection[int]) -> Kept | None:
    if not streams:
        return None
    from observer.flow import Kept

    return Kept(streams)


def _loop(
    capture: Any,
    decoder: Decoder,
    tracker: Tracker,
    speed: Speed,
    info: CaptureInfo,
    progress: Progress | None,
    kept: Kept | None,
) -> None:
    """Take the capture's chunks through decoding and tracking."""
    told = time.monotonic()
    for chunk in capture:
        frames = capture.frames
        if speed.wants_change(frames, capture.octets_total):
            for part in (capture, decoder, tracker):
                part.use(speed.engine)
        times = chunk.records[RECORD_TIME : chunk.count * RECORD_STRIDE : RECORD_STRIDE]
        if info.first_time_ns is None:
            info.first_time_ns = info.last_time_ns = int(times[0])
        info.last_time_ns = max(info.last_time_ns or 0, int(times[-1]))
        info.frames = frames
        batch = decoder.decode(chunk)
        if batch.count:
            marks = tracker.track(batch.rows, batch.count)
            if kept is not None:
                kept.take(batch.rows, marks, batch.count)
        if progress:
            now = time.monotonic()
            if now - told > PROGRESS_S:
                told = now
                progress(capture.octets_read, capture.octets_total, frames)
