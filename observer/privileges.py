"""What a live capture may do: whether it may begin, and how the process gives up root once it has begun.

Dropping follows tcpdump's -Z: supplementary groups, group, user, in this order, real, effective and saved; then it is
tried whether any of it comes back.  Never here: capturing.
Sources: capabilities(7), setresuid(2), packet(7), proc(5); the check: "Setuid Demystified" (Chen, Wagner, Dean 2002).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from observer.errors import OptionError

CAPABILITY = "CAP_NET_RAW"
"""What a packet socket needs on Linux (packet(7)); promiscuous mode needs nothing more."""


def remedy() -> str:
    """The command that starts this very command with what capturing needs, as a part of a sentence.

    sudo has a PATH of its own, so the command is named with its folder.
    """
    if os.geteuid() == 0:
        return f"root has it unless it was taken away: start the container or service with {CAPABILITY} added"
    command = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    if command.name == "__main__.py":
        words = [sys.executable, "-m", command.parent.name]
    elif os.access(command, os.X_OK) and command.is_file():
        words = [str(command.resolve())]
    else:
        words = ["observer"]
    again = shlex.join(["sudo", *words, *sys.argv[1:]])
    return f"run it as root: {again} (with --user NAME it stays root only until the interfaces are open)"


def denied(interface: str) -> str:
    """One sentence for an interface that this process may not capture, naming the capability and the command."""
    if sys.platform != "linux":
        return f"{interface}: this user may not capture; {remedy()}"
    return f"{interface}: capturing needs the capability {CAPABILITY}, which {_me()} does not have; {remedy()}"


def _me() -> str:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    return f"user {os.geteuid()}"


def may_become(user: str) -> None:
    """Raise OptionError if `drop_to` would fail: no such user, or nothing that allows to change the user."""
    entry = _entry(user)
    if entry.pw_uid != os.geteuid() and os.geteuid() != 0:
        raise OptionError(f"--user {user}: only root can become another user, and this is {_me()}; {remedy()}")


def drop_to(user: str) -> None:
    """Become an unprivileged user for good.

    What the process has opened stays open, and modules can be imported from everywhere as before (on Linux).  What else
    is opened later must be readable for that user.

    Raises
    ------
    OptionError
        There is no such user, it is root, or root could not be given up; then the process should end.
    """
    entry = _entry(user)
    may_become(user)
    uid, gid = entry.pw_uid, entry.pw_gid
    if os.geteuid() == 0:
        opened = _opened(sys.path) if sys.platform == "linux" else {}
        try:
            os.initgroups(entry.pw_name, gid)
            _set_all(os, gid, uid)
        except OSError as error:  # root in a container that lacks CAP_SETUID or CAP_SETGID
            raise OptionError(f"--user {user}: this process may not change its user ({error.strerror})") from None
        _redirect_imports(opened)
    left = privileges_left(uid, gid)
    if left:
        raise OptionError(f"--user {user}: root could not be given up ({left}); nothing was captured")


def _set_all(system: Any, gid: int, uid: int) -> None:
    """Real, effective and saved ids; where there are no saved ones (macOS), setuid of root sets all."""
    if hasattr(system, "setresuid"):
        system.setresgid(gid, gid, gid)
        system.setresuid(uid, uid, uid)
    else:
        system.setgid(gid)
        system.setuid(uid)


def privileges_left(uid: int, gid: int) -> str:
    """What remains of root in a process that should be this user; empty if nothing does."""
    if (os.getuid(), os.geteuid()) != (uid, uid) or (os.getgid(), os.getegid()) != (gid, gid):
        return "the ids did not change"
    for name, call in (("setuid", os.setuid), ("setgid", os.setgid)):
        with contextlib.suppress(OSError):
            call(0)
            return f"{name}(0) brings it back"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("CapPrm", "CapEff", "CapAmb") and int(value, 16):
                return f"{name} is {value.strip()}"
    return ""


def give(path: str | os.PathLike[str], user: str) -> None:
    """Make a file or folder this user's own, so that a process that became it can go on writing there."""
    entry = _entry(user)
    if os.geteuid() == 0:
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _opened(folders: Iterable[str]) -> dict[str, int]:
    """A descriptor of each folder, by which it is reached even where a folder above it is closed to the new user."""
    found = {}
    for folder in dict.fromkeys(folders):
        with contextlib.suppress(OSError, ValueError):
            found[folder] = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return found


def _redirect_imports(opened: dict[str, int]) -> None:
    """Let modules be imported by those descriptors where their folders cannot be reached any more.

    A Python below /root, as pyenv installs it, is closed to everybody else, and much is imported when it is first
    needed, in Python itself too (an encoding, the modules that print an error).
    """
    moved = {}
    for folder, descriptor in opened.items():
        if os.access(folder or ".", os.R_OK | os.X_OK):
            os.close(descriptor)
        else:
            moved[folder] = f"/proc/self/fd/{descriptor}"
    if not moved:
        return
    sys.path[:] = [_moved(folder, moved) for folder in sys.path]
    for module in list(sys.modules.values()):
        path = getattr(module, "__path__", None)
        if isinstance(path, list):
            path[:] = [_moved(folder, moved) for folder in path]


def _moved(folder: str, moved: dict[str, str]) -> str:
    """The new name of a folder that is one of those, or lies in one, the innermost.

    Examples
    --------
    >>> _moved("/root/lib/site-packages/pandas", {"/root/lib": "/x", "/root/lib/site-packages": "/y"})
    '/y/pandas'
    """
    for old in sorted(moved, key=len, reverse=True):
        if folder == old or (old and folder.startswith(old.rstrip("/") + "/")):
            return moved[old] + folder[len(old.rstrip("/")) :]
    return folder


def _entry(user: str) -> Any:
    """The user's line of the password database; by name, or by number."""
    try:
        import pwd
    except ImportError:
        raise OptionError(f"--user {user}: this system has no users to change to") from None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise OptionError(f"--user {user}: there is no such user; `getent passwd` lists them") from None
    if entry.pw_uid == 0:
        raise OptionError(f"--user {user}: is root itself; name an unprivileged user, for example nobody")
    return entry
