"""Giving up root: what cannot be is said before anything happens, and what was done is checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from live_net import a_user, in_child

from observer import privileges
from observer.errors import OptionError

needs_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")


@pytest.mark.parametrize(
    ("user", "words"), [("no such user", "there is no such user"), ("root", "root itself"), ("0", "root")]
)
def test_users_that_cannot_be(user: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as told:
        privileges.may_become(user)
    assert "\n" not in str(told.value)


@needs_root
def test_only_root_can_become_another() -> None:
    user = a_user()

    def other() -> str:
        privileges.drop_to("daemon" if user == "nobody" else "nobody")
        return "became another"

    told = in_child(other, user=user)
    assert told.startswith("OptionError: --user")
    assert "sudo" in told


@needs_root
def test_all_ids_groups_and_capabilities_go() -> None:
    import pwd

    entry = pwd.getpwnam(a_user())

    def drop() -> str:
        privileges.drop_to(entry.pw_name)
        status = Path("/proc/self/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return "|".join(fields[name].strip() for name in ("Uid", "Gid", "CapEff", "CapPrm", "Groups"))

    uids, gids, effective, permitted, groups = in_child(drop).split("|")
    assert set(uids.split()) == {str(entry.pw_uid)}
    assert set(gids.split()) == {str(entry.pw_gid)}
    assert int(effective, 16) == int(permitted, 16) == 0
    assert "0" not in groups.split()


@needs_root
def test_what_is_left_of_root_is_noticed() -> None:
    uid = os.geteuid()
    assert privileges.privileges_left(uid + 1, os.getegid()) == "the ids did not change"
    assert "brings it back" in privileges.privileges_left(uid, os.getegid())


@needs_root
def test_modules_can_be_imported_from_folders_that_are_closed_to_the_user(tmp_path: Path) -> None:
    """As with a Python below /root: the folder above is closed, those below are open."""
    user, closed = a_user(), tmp_path / "closed"
    package = closed / "lib" / "closed_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "later.py").write_text("FOUND = 'found'")
    (closed / "lib" / "also_later.py").write_text("FOUND = 'found too'")
    closed.chmod(0o700)

    def drop() -> str:
        sys.path.insert(0, str(closed / "lib"))
        import closed_package  # type: ignore[import-not-found]

        privileges.drop_to(user)
        if os.access(closed, os.X_OK):
            return "the folder is open"
        import also_later  # type: ignore[import-not-found]
        import closed_package.later  # type: ignore[import-not-found]

        return f"{closed_package.later.FOUND}, {also_later.FOUND}"

    assert in_child(drop) == "found, found too"


@needs_root
def test_give(tmp_path: Path) -> None:
    import pwd

    user = a_user()
    privileges.give(tmp_path, user)
    assert tmp_path.stat().st_uid == pwd.getpwnam(user).pw_uid


def test_denied_names_the_interface_the_capability_and_a_command() -> None:
    told = privileges.denied("eth0")
    assert told.startswith("eth0: ")
    assert "\n" not in told
    if sys.platform == "linux":
        assert "CAP_NET_RAW" in told
        if os.geteuid():
            assert "sudo" in told
