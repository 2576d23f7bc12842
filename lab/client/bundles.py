"""File bundles, as clients since 2.14 prefetch them: when a trigger is opened, the files of its bundle are fetched in the background.

A bundle is a JSON document `.cvmfsbundle-<trigger>` beside the trigger, which the catalog marks as one. Whoever opens the trigger writes
its path to a pipe and goes on. The thread `bm_dispatch` fetches and reads the bundle and writes the paths in it to a second pipe, and
eight threads `bm_fetcher` fetch these files into the cache, each one file at a time, its chunks one after the other. It is done as well as it can be: what finds a
pipe full is dropped. Source: bundle_mgr.cc of 2.14.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final

from cvtrace.lab.client.catalog import Catalogs, Entry
from cvtrace.lab.client.content import Object
from cvtrace.lab.client.fetch import Fetcher
from cvtrace.lab.client.threads import start_thread

PREFIX: Final = ".cvmfsbundle-"
POOL_SIZE: Final = 8
"""CVMFS_BUNDLE_POOL_SIZE, where nobody sets it."""
LONGEST_MESSAGE: Final = 4096
"""PIPE_BUF: what is not longer is written as a whole or not at all."""
LARGEST_BUNDLE_BYTES: Final = 64 << 20
DISPATCHER: Final = "bm_dispatch"
FETCHER: Final = "bm_fetcher"

_COMMAND: Final = struct.Struct("=i")
_LENGTH: Final = struct.Struct("=Q")
_FETCH: Final = 0
_TERMINATE: Final = 1


class _Queue:
    """Paths in a pipe: a command, a length, the path."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._reading = threading.Lock()

    def offer(self, path: str) -> bool:
        """Put a path in, unless it is too long or there is no room."""
        text = os.fsencode(path)
        message = _COMMAND.pack(_FETCH) + _LENGTH.pack(len(text)) + text
        if len(message) > LONGEST_MESSAGE:
            return False
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, message)
            return True
        return False

    def end(self) -> None:
        """End one reader, after it has read everything in the pipe."""
        os.set_blocking(self._writer, True)
        os.write(self._writer, _COMMAND.pack(_TERMINATE))

    def take(self) -> str | None:
        """Wait for a path; None when the reader is to end."""
        with self._reading:
            (command,) = _COMMAND.unpack(os.read(self._reader, _COMMAND.size))
            if command != _FETCH:
                return None
            (length,) = _LENGTH.unpack(os.read(self._reader, _LENGTH.size))
            return os.fsdecode(os.read(self._reader, length))


class Bundles:
    """The threads that prefetch, and their queues."""

    def __init__(self, catalogs: Catalogs, fetcher: Fetcher) -> None:
        self._catalogs = catalogs
        self._fetcher = fetcher
        self._triggers, self._files = _Queue(), _Queue()
        self._ending = False

    def start(self) -> None:
        """Start the threads."""
        start_thread(self._dispatch, DISPATCHER)
        for _ in range(POOL_SIZE):
            start_thread(self._fetch_files, FETCHER)

    def stop(self) -> None:
        """End the threads; queued paths are no longer fetched."""
        self._ending = True
        self._triggers.end()
        for _ in range(POOL_SIZE):
            self._files.end()

    def triggered(self, entry: Entry) -> None:
        """Queue a trigger that is being opened; never waits."""
        self._triggers.offer(entry.path)

    def _dispatch(self) -> None:
        while (trigger := self._triggers.take()) is not None:
            if self._ending:
                continue
            folder, _, name = trigger.rpartition("/")
            with contextlib.suppress(OSError):
                for path in self._listed(f"{folder}/{PREFIX}{name}"):
                    self._files.offer(path if path.startswith("/") else f"{folder}/{path.removeprefix('./')}")

    def _listed(self, bundle: str) -> list[str]:
        """Return the files that a bundle lists, none if it is not a bundle. Raises OSError if it cannot be fetched."""
        entry = self._catalogs.lookup(bundle)
        if entry is None or not entry.is_regular or entry.size_bytes > LARGEST_BUNDLE_BYTES:
            return []
        content = bytearray()
        for part in self._objects(entry):
            fd = self._fetcher.fetch(part)
            try:
                content += os.pread(fd, part.size_bytes or 0, 0)  # as the client reads it, without moving the offset
            finally:
                self._fetcher.close(fd)
        return dependencies(bytes(content))

    def _fetch_files(self) -> None:
        while (path := self._files.take()) is not None:
            if self._ending:
                continue
            with contextlib.suppress(OSError):  # it is fetched when it is needed, or fails then
                entry = self._catalogs.lookup(path)
                for part in self._objects(entry) if entry is not None and entry.is_regular else ():
                    self._fetcher.close(self._fetcher.fetch(part))

    def _objects(self, entry: Entry) -> Iterator[Object]:
        """Yield the objects of a file, in order."""
        if not entry.chunked:
            if entry.hash is not None:
                yield Object(entry.hash, entry.path, size_bytes=entry.size_bytes, compressed=entry.compressed)
            return
        for chunk in self._catalogs.chunks(entry):
            description = f"Part of {entry.path}"
            yield Object(chunk.hash, description, suffix="P", size_bytes=chunk.size_bytes, compressed=entry.compressed)


def dependencies(content: bytes) -> list[str]:
    """Return the paths that a bundle lists, in its order; none if it is not a bundle. Lines before it that begin with # are left out."""
    while content.startswith(b"#"):
        content = content.partition(b"\n")[2]
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return []
    listed = document.get("dependencies") if isinstance(document, dict) else None
    return [path for path in listed if isinstance(path, str) and path] if isinstance(listed, list) else []
