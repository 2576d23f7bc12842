"""Programs that root may execute: those that nobody but root can change.

Under sudo PATH is the caller's where sudoers(5) has no secure_path; a `strace` in the caller's folder would run as root.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


def trusted_program(name: str) -> str | None:
    """Return the path of a program: for root the first one on PATH that only root can change, for others the first on PATH."""
    if os.geteuid() != 0:
        return shutil.which(name)
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = (shutil.which(name, path=folder) for folder in dict.fromkeys(folders) if folder.startswith("/"))
    return next((path for path in candidates if path is not None and is_roots(path)), None)


def is_roots(path: str) -> bool:
    """Return whether only root can change the file, or what is found at its path, links on the way included."""
    try:
        return all(_only_root_writes(each) for each in _ways(path))
    except OSError:
        return False


def _ways(path: str) -> Iterator[Path]:
    real = Path(path).resolve(strict=True)
    yield real
    yield from real.parents
    link = Path(path)
    yield from link.parents
    while link.is_symlink():
        link = link.parent / link.readlink()
        yield from link.parents


def _only_root_writes(path: Path) -> bool:
    status = path.stat()
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
