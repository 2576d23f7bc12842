"""Finding libonnxruntime-genai.so for a program that has just begun, where that program would: in its own root and environment.

A program in a chroot, a container or behind a wrapper script is known only when it is executed. Its files are looked at as data, through
/proc/PID/root, and nothing of it is run; links in there lead nowhere else (openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cvtrace.probes.phases.library import LIBRARY, PACKAGE

_OPENAT2: Final = 437
_RESOLVE_IN_ROOT: Final = 0x10
_RESOLVE_NO_MAGICLINKS: Final = 0x02
MOST_ENVIRONMENT: Final = 1 << 20
MOST_FOLDERS: Final = 64
PACKAGES: Final = ("site-packages", "dist-packages")
VARIABLES: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME")


def libraries_inside(pid: int, program: str) -> Iterator[int]:
    """Yield a descriptor (O_PATH, to be closed) of each library that process `pid`, which executes `program`, may load.

    For interpreters of Python, and for what LD_LIBRARY_PATH says; nothing for a process that is gone or must not be looked at.
    """
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for folder in list(dict.fromkeys(_folders(pid, program, root)))[:MOST_FOLDERS]:
            for name in _names(root, folder):
                if name.startswith(LIBRARY):
                    with contextlib.suppress(OSError):
                        yield open_inside(root, f"{folder}/{name}")
    finally:
        os.close(root)


def _folders(pid: int, program: str, root: int) -> Iterator[str]:
    """Yield the folders, in the process' root, that the library may be in."""
    environ = _environment(pid)
    yield from _split(environ.get("LD_LIBRARY_PATH"))
    executable = _link(pid, "exe")
    if not any(os.path.basename(path).startswith("python") for path in (program, executable)):  # noqa: PTH119 - names
        return
    yield from (f"{folder}/{PACKAGE}" for folder in _split(environ.get("PYTHONPATH")))
    executed = os.path.join(_link(pid, "cwd"), program)  # noqa: PTH118 - a path elsewhere
    prefixes = [os.path.dirname(os.path.dirname(path)) for path in (executed, executable) if path]  # noqa: PTH120
    prefixes += [environ[name] for name in VARIABLES if name in environ]
    prefixes += [f"{environ['HOME']}/.local"] if "HOME" in environ else []
    for prefix in dict.fromkeys([*prefixes, "/usr", "/usr/local"]):
        for name in _names(root, f"{prefix}/lib"):
            if name.startswith("python3"):
                yield from (f"{prefix}/lib/{name}/{packages}/{PACKAGE}" for packages in PACKAGES)


def open_inside(root: int, path: str, flags: int = 0) -> int:
    """Return a descriptor of what `path` means to a process with that root. Raises OSError."""
    how = struct.pack("<QQQ", os.O_PATH | os.O_CLOEXEC | flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    name = ctypes.create_string_buffer(os.fsencode(path))
    fd: int = libc.syscall(_OPENAT2, root, name, ctypes.create_string_buffer(how, len(how)), len(how))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return fd


def _names(root: int, folder: str) -> list[str]:
    try:
        opened = open_inside(root, folder, os.O_DIRECTORY)
    except (OSError, ValueError):
        return []
    try:
        return sorted(os.listdir(f"/proc/self/fd/{opened}"))  # noqa: PTH208 - names are wanted
    except OSError:
        return []
    finally:
        os.close(opened)


def _environment(pid: int) -> dict[str, str]:
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            pairs = file.read(MOST_ENVIRONMENT).split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")  # noqa: PTH115 - a text
    except OSError:
        return ""


def _split(paths: str | None) -> list[str]:
    return [path for path in (paths or "").split(os.pathsep) if path.startswith("/")]
