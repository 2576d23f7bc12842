"""The folder of a model that the doctor is given, looked at with the rights of who asked: it may lead anywhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.deadline import NoAnswer, within

ANSWER_S: Final = 1.0


@dataclass(frozen=True)
class AsUser:
    """The user who asked, if that is not the user of this process: what is that user's is looked at and executed as that user."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    def become(self) -> None:
        """Let this process, a child of one thread, be that user's for good."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


@dataclass(frozen=True)
class Model:
    """A file or folder: whether who asked can read it, and the size of all files in it, links followed."""

    path: Path
    readable: bool
    bytes: int

    def __str__(self) -> str:
        return str(self.path)


def look_at(path: Path | None, as_user: AsUser | None) -> Model | None:
    """Look at a model, in a child: a mount that hangs does not hang this."""
    if path is None:
        return None
    try:
        readable, size = within(ANSWER_S, partial(_look, path, as_user))
    except (NoAnswer, OSError):
        return Model(path, readable=False, bytes=0)
    return Model(path, bool(readable), int(size))


def _look(path: Path, as_user: AsUser | None) -> tuple[bool, int]:
    if as_user is not None:
        as_user.become()
    if not os.access(path, os.R_OK):
        return False, 0
    try:
        if path.is_file():
            return True, path.stat().st_size
        return True, sum((Path(where) / name).stat().st_size for where, _, names in os.walk(path) for name in names)
    except OSError:
        return True, 0
