"""The libraries that a program is linked to, found as the dynamic loader would (ld.so(8)), without running anything."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cvtrace.probes.elf import Elf, NotElf

MOST: Final = 500
"""Libraries that are looked into, at most."""
DEFAULT: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CACHED: Final = re.compile(r"^\s*(\S+) \(.*\) => (\S+)$", re.MULTILINE)


def linked_libraries(program: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths of the libraries that `program` needs, and of those that they need; none for what is no ELF file."""
    library_path = [path for path in environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    cache: dict[str, str] | None = None
    waiting, visited = [os.path.realpath(program)], set[str]()
    for path in waiting:
        try:
            dynamic = Elf(path).dynamic()
        except (OSError, NotElf):
            continue
        origin = os.path.dirname(path)  # noqa: PTH120 - a text
        run_path = [folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin) for folder in dynamic.folders]
        folders = (*library_path, *run_path) if dynamic.runpath else (*run_path, *library_path)
        for name in dynamic.needed:
            if name in visited or len(visited) >= MOST:
                continue
            visited.add(name)
            library = _in_folders(name, folders)
            if library is None:
                cache = _cached() if cache is None else cache
                library = cache.get(name) or _in_folders(name, DEFAULT)
            if library is not None:
                waiting.append(os.path.realpath(library))
                yield waiting[-1]


def _in_folders(name: str, folders: tuple[str, ...]) -> str | None:
    paths = [name] if "/" in name else [f"{folder}/{name}" for folder in folders]
    return next((path for path in paths if Path(path).is_file()), None)


def _cached() -> dict[str, str]:
    """Return what the loader's cache has: name of a library -> path."""
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            listing = subprocess.run(
                [ldconfig, "-p"], capture_output=True, text=True, errors="replace", check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        return dict(reversed(_CACHED.findall(listing)))
    return {}
