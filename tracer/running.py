"""The GenAI library of a process that runs already: in its maps, or where its interpreter would find it.

Nothing of the process is executed, and what it says of itself (arguments, environment, links) is only where to look: below its
own root, with the rights of its user, for plain files.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final

from cvtrace.probes.phases.library import LIBRARY, PACKAGE
from cvtrace.tracer.opening import MOST_FILES, OpenFile, opened_by
from cvtrace.tracer.user import User

MOST_BYTES: Final = 1 << 24
"""Of a file in /proc/PID that the process has a say in."""
MOST_PLACES: Final = 512
LOOK_S: Final = 5.0
_PACKAGES: Final = re.compile(rb"(/[^\0\n]*?/(?:site|dist)-packages)/")
_VERSIONS: Final = range(8, 21)
"""Minor versions of Python 3."""


def libraries_of(pid: int, files: ExitStack) -> list[OpenFile]:
    """Return the GenAI libraries that a process has mapped, or else may map; `files` closes them. None without the rights of root."""
    if os.geteuid() != 0:
        return []
    libraries = _mapped(pid, files)
    if libraries:
        return libraries
    user = _least_of(pid)
    if user is None:
        return []
    with contextlib.suppress(OSError):
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        files.callback(os.close, root)
        places = list(islice(_places(pid), MOST_PLACES))
        unique: dict[tuple[int, int], OpenFile] = {}
        for file in files.enter_context(opened_by(user, LOOK_S, lambda: places, root)):
            status = os.fstat(file.fd)
            unique.setdefault((status.st_dev, status.st_ino), file)
        return list(unique.values())
    return []


def _mapped(pid: int, files: ExitStack) -> list[OpenFile]:
    """Open what is mapped: the very files, wherever they are by now (proc(5), map_files)."""
    files_by_name: dict[bytes, OpenFile] = {}
    for line in _read(pid, "maps").splitlines():
        fields = line.split(None, 5)
        if (
            len(fields) < 6
            or LIBRARY.encode() not in fields[5]
            or fields[5] in files_by_name
            or len(files_by_name) == MOST_FILES
        ):
            continue
        begin, _, end = fields[0].partition(b"-")
        with contextlib.suppress(OSError, ValueError):
            place = os.open(f"/proc/{pid}/map_files/{int(begin, 16):x}-{int(end, 16):x}", os.O_PATH | os.O_CLOEXEC)
            files.callback(os.close, place)
            if stat.S_ISREG(os.fstat(place).st_mode):
                files_by_name[fields[5]] = OpenFile(place, os.fsdecode(fields[5]))
    return list(files_by_name.values())


def _least_of(pid: int) -> User | None:
    """Return the user of a process with the least rights: of a set-user-ID program the one who called it. None if it has ended."""
    fields = dict(line.split(b":", 1) for line in _read(pid, "status").splitlines() if b":" in line)
    try:
        uids, gids = ([int(word) for word in fields[name].split()[:2]] for name in (b"Uid", b"Gid"))
        groups = tuple(int(word) for word in fields[b"Groups"].split())
    except (KeyError, ValueError):
        return None
    which = 0 if uids[0] != 0 else 1
    return User(uids[which], gids[which], groups, str(uids[which]), "/")


def _places(pid: int) -> Iterator[str]:
    """Yield paths, as the process sees them, where its interpreter would find the library."""
    maps = _read(pid, "maps")
    folders = [os.fsdecode(folder) for folder in dict.fromkeys(_PACKAGES.findall(maps))]
    pairs = [pair for pair in _read(pid, "environ").split(b"\0") if pair.find(b"=") > 0]
    environ: Mapping[str, str] = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
    folders += environ.get("PYTHONPATH", "").split(os.pathsep)
    for prefix in _prefixes(pid, environ):
        folders += [f"{prefix}/lib/python3.{minor}/site-packages" for minor in _VERSIONS]
    for folder in dict.fromkeys(folders):
        if folder.startswith("/"):
            yield f"{folder}/{PACKAGE}/{LIBRARY}"
    for folder in environ.get("LD_LIBRARY_PATH", "").split(":"):
        if folder.startswith("/"):
            yield f"{folder}/{LIBRARY}"


def _prefixes(pid: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the environments that the process may use: that of its command, of its variables, and of its interpreter."""
    command = os.fsdecode(_read(pid, "cmdline").partition(b"\0")[0])
    if Path(command).name.startswith("python"):
        yield str(Path(command).parent.parent)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if name in environ:
            yield environ[name]
    with contextlib.suppress(OSError):
        yield str(Path(f"/proc/{pid}/exe").readlink().parent.parent)


def _read(pid: int, name: str) -> bytes:
    try:
        with Path(f"/proc/{pid}/{name}").open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""
