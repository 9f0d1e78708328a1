"""Reconstructs the RFC 9293 state of both endpoints of every TCP connection in a capture.

>>> import observer
>>> obs = observer.read("captures/accept-queue-full.pcap")  # doctest: +SKIP
>>> obs.flows, obs.transitions, obs.events, obs.skipped     # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from observer.errors import CaptureError, ObserverError, OptionError

if TYPE_CHECKING:
    from observer.flow import Flow as Flow
    from observer.observation import Observation as Observation
    from observer.observe import read as read
    from observer.options import Options as Options
    from observer.watch import live as live

__version__ = "0.1.0"
__all__ = ["CaptureError", "Flow", "Observation", "ObserverError", "OptionError", "Options", "live", "read"]

_HOMES = {"read": "observe", "Observation": "observation", "Flow": "flow", "Options": "options", "live": "watch"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import observer` alone costs next to nothing."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"observer.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'observer' has no attribute {name!r}")
