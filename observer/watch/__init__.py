"""Live observation: the tables of what is being captured, and findings as soon as they can be proved.

Never here: libpcap (capture.live), text (outputs), or anything about TCP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from observer.options import Options
    from observer.watch.announce import Announcer as Announcer
    from observer.watch.announce import Change as Change
    from observer.watch.loop import Live as Live
    from observer.watch.watcher import Watcher as Watcher

__all__ = ["Announcer", "Change", "Live", "Watcher", "live"]

_HOMES = {"Announcer": "announce", "Change": "announce", "Live": "loop", "Watcher": "watcher"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a command's help must not pay for the loop."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    from observer.watch.loop import Live

    if (interfaces is None) == (source is None):
        raise OptionError("name interfaces, or a source to read as it grows: one of both")
    if interfaces is None:
        from observer.capture.live_pipe import open_growing

        if bpf or capture:
            raise OptionError("a pipe is read as it comes: filter where it is captured (tcpdump -U -w - FILTER)")
        return Live(open_growing(source), options=options)
    from observer.watch.opening import open_interfaces

    feed, engine = open_interfaces(interfaces, bpf=bpf, **capture)
    return Live(feed, options=options, engine=engine)
