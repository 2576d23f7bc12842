"""Reading the extended attributes of a mount, in a child that may hang, with no more rights than who mounted it has."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from typing import Final, Protocol

from cvtrace.probes.cvmfs.xattrs import getxattr

MOST_CHARACTERS: Final = 4096
CONTROL_BUT_NEWLINE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Mounted(Protocol):
    """What has to be known of a mount to read its attributes."""

    @property
    def path(self) -> str: ...
    @property
    def device(self) -> int: ...
    @property
    def owner(self) -> int: ...
    @property
    def group(self) -> int: ...


def read_xattrs(mount: Mounted, names: Iterable[str]) -> dict[str, str]:
    """Return those of the attributes that `mount` has. Raises OSError if it cannot be reached.

    For the child of `within`: as root it becomes who mounted, unless that is root, and stays so. The root of the mount is opened first and
    then asked, so that nothing else can take its place.
    """
    if not hasattr(os, "O_PATH"):
        return _read(mount.path, names)
    folder = os.open(mount.path, os.O_PATH | os.O_CLOEXEC)  # asks nobody: it is not the daemon that is looked up
    become(mount.owner, mount.group)
    if os.fstat(folder).st_dev != mount.device:  # tells a path that is not there from one without these attributes, too
        raise OSError(errno.ENODEV, "it was unmounted meanwhile", mount.path)
    return _read(f"/proc/self/fd/{folder}", names)


def _read(path: str, names: Iterable[str]) -> dict[str, str]:
    values = {}
    for name in names:
        try:
            values[name] = cleaned(getxattr(path, name))
        except OSError as failure:
            if failure.errno == errno.ENOTCONN:  # the daemon is dead, and stat was answered from the kernel's cache
                raise
    return values


def cleaned(value: bytes) -> str:
    """Return a value as text, cut to what an attribute is long at most, without control characters but newlines."""
    text = value.decode("utf-8", "replace").strip("\0\n ")
    return CONTROL_BUT_NEWLINE.sub("\N{REPLACEMENT CHARACTER}", text[:MOST_CHARACTERS])


def become(uid: int, gid: int) -> None:
    """Let this child be a user's for good: a mount lets in nobody else without `allow_other`, not even root.

    Does nothing unless this is root and the user somebody else. Who may not become another is refused by the mount itself.
    """
    if os.geteuid() != 0 or uid == 0:
        return
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError:
        return
