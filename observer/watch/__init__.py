"""Live observation: the tables of what is being captured, and findings as soon as they can be proved.

Never here: libpcap (capture.live), text (outputs), or anything about TCP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from observer.watch.announce import Announcer, Change
from observer.watch.loop import Live
from observer.watch.watcher import Watcher

if TYPE_CHECKING:
    from observer.options import Options

__all__ = ["Announcer", "Change", "Live", "Watcher", "live"]


def live(
    interfaces: str | Sequence[str] | None = None,
    *,
    source: Any = None,
    bpf: str = "",
    options: Options | None = None,
    **capture: Any,
) -> Live:
    """Observe interfaces, or a pipe that grows, in the background.

    Parameters
    ----------
    interfaces
        Name of an interface, several of them, or "any".
    source
        Instead of interfaces: a pipe ("-" is standard input, a FIFO's path, an open binary file), so that
        ``ssh host tcpdump -U -w -`` needs no root here.
    bpf
        Capture filter, as tcpdump's.
    options
        Timers and thresholds.
    capture
        What `capture.live.open_live` takes: snaplen, buffer_octets, promiscuous, user.

    Returns
    -------
    Live: in a ``with`` statement it captures until the block ends; its tables stay.

    Raises
    ------
    CaptureError
        No such interface, or no permission to capture (CAP_NET_RAW).
    OptionError
        A filter that libpcap does not understand, or neither interfaces nor a source.

    Examples
    --------
    >>> import observer
    >>> with observer.live("eth0", bpf="tcp port 443") as live:  # doctest: +SKIP
    ...     live.findings
    """
    from observer.errors import OptionError

    if (interfaces is None) == (source is None):
        raise OptionError("name interfaces, or a source to read as it grows: one of both")
    if interfaces is None:
        from observer.capture.live_pipe import open_growing

        if bpf or capture:
            raise OptionError("a pipe is read as it comes: filter where it is captured (tcpdump -U -w - FILTER)")
        return Live(open_growing(source), options=options)
    from observer.capture.live import open_live

    return Live(open_live(interfaces, bpf=bpf, **capture), options=options)
