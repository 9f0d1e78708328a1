"""Opening interfaces to be watched, with machine code at hand before the first frame is looked at.

A file that is large may be begun interpreted; an interface that is busy would lose frames meanwhile.  And what root
keeps in its cache, the user that it becomes cannot read.  Never here: capturing, watching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from observer import kernels, privileges
from observer.observe import LARGE_OCTETS, Notice, Speed

if TYPE_CHECKING:
    from observer.capture.live import LiveCapture


def open_interfaces(
    interfaces: str | Sequence[str],
    *,
    bpf: str = "",
    user: str | None = None,
    notice: Notice | None = None,
    **more: Any,
) -> tuple[LiveCapture, kernels.Engine]:
    """Open interfaces, get machine code, and give root up if that was asked for, in this order.

    Parameters are those of `capture.live.open_live`, with its errors.

    Returns
    -------
    The capture, and what should run the kernels.
    """
    from observer.capture.live import open_live

    if user is not None:
        privileges.may_become(user)
    feed = open_live(interfaces, bpf=bpf, **more)
    try:
        with feed.relieved():  # making it takes some seconds, once on a machine; frames come already
            engine = _machine_code(notice)
        if user is not None:
            privileges.drop_to(user)
    except BaseException:
        feed.close()
        raise
    return feed, engine


def _machine_code(notice: Notice | None) -> kernels.Engine:
    """Kernels compiled, now; interpreted where that cannot be."""
    speed = Speed(notice)
    speed.wants_change(0, LARGE_OCTETS)
    return speed.engine
