"""Getting an object: from the cache, from the network, or from another worker that is fetching it already."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from typing import Final

from cvtrace.lab.client.cache import Cache, Transaction
from cvtrace.lab.client.content import Hash, Object
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector
from cvtrace.lab.client.download import Downloader, Failure
from cvtrace.lab.client.job import Job

_DESCRIPTOR: Final = struct.Struct("<i")


class Fetcher:
    """Opens objects by content hash and downloads what the cache lacks, each object once, however many ask for it."""

    def __init__(
        self, cache: Cache, downloader: Downloader, counters: Counters, injector: DelayInjector | None = None
    ) -> None:
        self._injector = injector or DelayInjector()
        self._cache = cache
        self._downloader = downloader
        self._counters = counters
        self._lock = threading.Lock()
        self._running: dict[Hash, list[int]] = {}
        self._wait_pipes: list[tuple[int, int]] = []

    def fetch(self, obj: Object) -> int:
        """Return a descriptor of the object's content; raises OSError (EIO when it cannot be had)."""
        self._counters.add("fetch.n_invocations")
        fd = self._cache.open(obj.hash)
        if fd is not None:
            return fd
        began_ns = time.monotonic_ns()
        fd = self._missing(obj)
        self._injector.handled("miss", began_ns, str(obj.hash))
        return fd

    def _missing(self, obj: Object) -> int:
        with self._lock:
            waiters = self._running.get(obj.hash)
            if waiters is None:
                fd = self._cache.open(obj.hash)  # it may have been committed since
                if fd is not None:
                    return fd
                self._running[obj.hash] = []
            else:
                pipe = self._wait_pipes.pop() if self._wait_pipes else os.pipe()
                waiters.append(pipe[1])
        if waiters is not None:
            return self._wait(pipe)
        return self._lead(obj)

    def close(self, fd: int) -> None:
        """Close what `fetch` returned."""
        self._cache.descriptors.close(fd)

    def _duplicate(self, fd: int) -> int:
        """Return a descriptor for another waiter, or a negative error; every waiter must be told something."""
        if fd < 0:
            return fd
        try:
            return self._cache.descriptors.duplicate(fd)
        except OSError as error:
            return -(error.errno or errno.EMFILE)

    def _wait(self, pipe: tuple[int, int]) -> int:
        fd: int = _DESCRIPTOR.unpack(os.read(pipe[0], _DESCRIPTOR.size))[0]
        with self._lock:
            self._wait_pipes.append(pipe)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd

    def _lead(self, obj: Object) -> int:
        fd = -errno.EIO
        try:
            fd = self._download(obj)
        except OSError as error:
            fd = -(error.errno or errno.EIO)
            raise
        finally:
            with self._lock:
                waiters = self._running.pop(obj.hash)
            for waiter in waiters:
                os.write(waiter, _DESCRIPTOR.pack(self._duplicate(fd)))
        return fd

    def _download(self, obj: Object) -> int:
        self._counters.add("fetch.n_downloads")
        transaction: Transaction = self._cache.begin(obj.size_bytes)
        job = Job(f"/data/{obj.hash.path}{obj.suffix}", transaction, obj.hash, obj.compressed)
        failure = self._downloader.download(job)
        if failure is not Failure.OK:
            transaction.abort()
            raise OSError(errno.EIO, f"{obj.description} cannot be downloaded ({failure.name.lower()})")
        return self._cache.commit(transaction, obj)
