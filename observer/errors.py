"""What can go wrong for the caller.  Bad packets are data and counted; only misuse and unreadable input raise.

Every error is a sentence a person can act on: it names the file, the place in it and the remedy.
"""

from __future__ import annotations


class ObserverError(Exception):
    """Base of all errors that this package raises on purpose."""


class CaptureError(ObserverError):
    """A capture that cannot be opened or is not a capture at all.

    Damage further on is not raised: what stood before it is used and the damage is reported in `skipped`.
    """


class OptionError(ObserverError):
    """An option, filter or name that does not exist or has an impossible value."""
