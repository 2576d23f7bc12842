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
    asked = [path for path in environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    cache: dict[str, str] | None = None
    waiting, seen = [os.path.realpath(program)], set[str]()
    for path in waiting:
        try:
            dynamic = Elf(path).dynamic()
        except (OSError, NotElf):
            continue
        origin = os.path.dirname(path)  # noqa: PTH120 - a text
        own = [folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin) for folder in dynamic.folders]
        folders = (*asked, *own) if dynamic.runpath else (*own, *asked)
        for name in dynamic.needed:
            if name in seen or len(seen) >= MOST:
                continue
            seen.add(name)
            found = _in_folders(name, folders)
            if found is None:
                cache = _cached() if cache is None else cache
                found = cache.get(name) or _in_folders(name, DEFAULT)
            if found is not None:
                waiting.append(os.path.realpath(found))
                yield waiting[-1]


def _in_folders(name: str, folders: tuple[str, ...]) -> str | None:
    paths = [name] if "/" in name else [f"{folder}/{name}" for folder in folders]
    return next((path for path in paths if Path(path).is_file()), None)


def _cached() -> dict[str, str]:
    """Return what the loader's cache has: name of a library -> path."""
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            told = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, errors="replace", check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        return dict(reversed(_CACHED.findall(told)))
    return {}
