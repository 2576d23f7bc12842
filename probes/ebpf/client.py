"""Attaches to functions of the CVMFS client's library, where that has symbols: fetch, download, clean-up of the cache, back-off.

The client's program loads its library, and another version of it when it is reloaded. What a daemon has mapped is the very file,
also in a container. A file is attached to once, whoever maps it; which processes count is up to the programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.probes.ebpf.libraries import LibraryWatch, ProcessesOf, itself, mapped
from cvtrace.probes.ebpf.symbols import debug_file, locate
from cvtrace.probes.elf import NotElf
from cvtrace.probes.events import EVENT, NOT_KNOWN, Events, Kind

NAME: Final = re.compile(rb"libcvmfs_fuse(?!3?_stub)[^/\0]*\.so")
"""The library with the client's logic; the stub loads it, and another one when the client is reloaded."""

FUNCTIONS: Final = (
    "Fetcher::Fetch",
    "DownloadManager::Fetch",
    "PosixQuotaManager::DoCleanup",
    "DownloadManager::Backoff",
    "BackoffThrottle::Throttle",
)
"""In the order of the numbers in programs/client.bpf.c. All are in the sources of cvmfs 2.4 to 2.12, with the same arguments."""

KINDS: Final = (Kind.FETCH_CALL, Kind.DOWNLOAD_CALL, Kind.CLEANUP, Kind.BACKOFF, Kind.BACKOFF)
HAS_ARGUMENT: Final = (False, True, True, True, False)
"""Whether the event has the function's argument."""

HIDDEN: Final = (
    "shared downloads as cvmfs2 has them",
    "shared downloads as cvmfs2 has them",
    "clean-ups of its cache",
    "its back-off",
    "its back-off",
)
"""What is not seen without each of `FUNCTIONS`."""

DELETED: Final = " (deleted)"


@dataclass(frozen=True)
class ClientLibrary:
    """A library of the client, and which of `FUNCTIONS` can be seen in it."""

    name: str
    build_id: str | None
    offsets: dict[int, int]

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(FUNCTIONS[number] for number in sorted(self.offsets))

    @property
    def hidden(self) -> tuple[str, ...]:
        """Return what is not seen for want of symbols."""
        return tuple(dict.fromkeys(each for number, each in enumerate(HIDDEN) if number not in self.offsets))

    @property
    def mend(self) -> str:
        """Return how to get the symbols. The packages of the CVMFS project up to 2.13 keep them in the library itself."""
        install = "use the client's packages of the CVMFS project, which keep symbols"
        if self.build_id is None:
            return install
        return f"install the debug symbols of its package (/{debug_file(self.build_id)}), or {install}"

    def missing(self) -> str | None:
        """Return a sentence about what is not seen, None if all is."""
        if not self.hidden:
            return None
        lacks = (
            "no symbols"
            if not self.offsets
            else f"no symbol of {_and(each for each in FUNCTIONS if each not in self.functions)}"
        )
        build = f", build id {self.build_id}" if self.build_id else ""
        return f"{_and(self.hidden)} ({self.name} has {lacks}{build}): {self.mend}"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def read_library(pid: int, path: str, name: str) -> ClientLibrary:
    """Find the functions in the library at `path` that process `pid` has mapped as `name`. Raises OSError, or NotElf."""
    located = locate(path, dict(enumerate(FUNCTIONS)), (f"/proc/{pid}/root", "/"))
    return ClientLibrary(Path(name.removesuffix(DELETED)).name, located.build_id, located.offsets)


def libraries_of(pid: int) -> list[ClientLibrary]:
    """Return the client's libraries that a process has mapped. Raises OSError, such as when this user may not look."""
    Path(f"/proc/{pid}/maps").read_bytes()
    files = {name: path for path, name in mapped(pid, NAME)}
    return [read_library(pid, path, name) for name, path in files.items()]


class ClientFunctions(LibraryWatch):
    """Attaches to the functions of the client's library in every daemon that is looked into, and in what it loads later."""

    def __init__(self, attach: Callable[[str, dict[int, int]], None], processes_of: ProcessesOf = itself) -> None:
        super().__init__(NAME, Kind.CACHE_OPEN, processes_of)
        self._attach_to = attach
        self._libraries: dict[tuple[int, int], ClientLibrary] = {}
        self._of_process: dict[int, list[ClientLibrary]] = {}
        """All that a process has had, the latest at the end."""
        self._refusals: list[str] = []

    def look_into(self, pid: int, opened_ns: int = 0) -> bool:
        """Take what a process has mapped; goes on looking, as a client that is reloaded may have its old library still."""
        super().look_into(pid, opened_ns)
        return False

    def use(self, pid: int, path: str, name: str, key: tuple[int, int], *, is_new: bool, opened_ns: int = 0) -> None:
        """Attach to a library if it is new, and note who has it."""
        if is_new:
            try:
                library = read_library(pid, path, name)
                if library.offsets:
                    self._attach_to(path, library.offsets)
            except (OSError, NotElf):
                return  # the process is gone, or the file was cut meanwhile
            except Exception as error:  # bcc raises plain Exception for everything
                library = ClientLibrary(Path(name).name, None, {})
                self._refusals.append(f"functions of cvmfs2's {library.name}: it cannot be attached to ({error})")
            self._libraries[key] = library
        if key in self._libraries:
            process, library = _process_of(pid), self._libraries[key]
            had = [each for each in self._of_process.get(process, ()) if each is not library]
            self._of_process[process] = [*had, library]

    def library_of(self, pid: int) -> ClientLibrary | None:
        """Return the library that a process was last seen with; of its functions, those that are in all that it has had."""
        had = self._of_process.get(pid)
        if not had:
            return None
        offsets = {number: at for number, at in had[-1].offsets.items() if all(number in each.offsets for each in had)}
        return replace(had[-1], offsets=offsets)

    def missing(self) -> list[str]:
        """Return a sentence for each library that has not all of the functions."""
        if self._refusals:
            return self._refusals
        sentences = (library.missing() for had in self._of_process.values() for library in had)
        return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def in_flight_calls(bpf: Any) -> Events:
    """Return an event for each call that has not returned; its `dur` is 0."""
    rows = []
    for key, call in bpf[b"client_calls"].items():
        argument = call.argument if HAS_ARGUMENT[key.function] else 0
        freed = NOT_KNOWN if KINDS[key.function] is Kind.CLEANUP else 0
        rows.append((call.ts, 0, call.tgid, key.tid, KINDS[key.function], 0, 0, argument, freed, freed))
    return np.array(rows, dtype=EVENT)


def _process_of(tid: int) -> int:
    """Return the process of a thread. Raises OSError."""
    return int(Path(f"/proc/{tid}/status").read_text().partition("Tgid:")[2].split()[0])
