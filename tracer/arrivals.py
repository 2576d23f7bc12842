"""Mounts that appear while a recording runs: an automounter's, a client that was restarted or reloaded."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.daemon import Process, cache_managers
from cvtrace.probes.cvmfs.mounts import MountPoint, describe, mount_points, mounts_of
from cvtrace.tracer.surroundings import Observed

MOUNTINFO: Final = Path("/proc/self/mountinfo")


class Arrivals:
    """Tells of CVMFS mounts that were not there before; only of those that hold `paths`, if there are any.

    The kernel says when the table of mounts changes (proc(5): POLLPRI on mountinfo). New mounts are asked who they are in a thread: the
    recorder must not wait for a client that hangs. `descriptors` get ready when there is news.
    """

    def __init__(self, paths: Sequence[str], known: Sequence[MountPoint]) -> None:
        self._paths = paths
        self._present = {(point.path, point.device) for point in known}
        self._described: queue.SimpleQueue[tuple[Observed, list[Process], threading.Event]] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = not MOUNTINFO.exists()  # on another system nothing is told
        if not self._closed:
            self._table = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
            self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.counted = threading.Event()
        """A client that appeared has told its counters; whoever took note of that clears it."""

    @property
    def descriptors(self) -> dict[int, int]:
        """Descriptors and the events of poll(2) that tell of news, once; `appeared` and `described` have to be called then."""
        return {} if self._closed else {self._table: select.POLLPRI, self._news: select.POLLIN}

    def appeared(self) -> list[MountPoint]:
        """Return the mounts that appeared since the last call; what they are is told by `described`, soon."""
        if self._closed:
            return []
        points = mount_points()
        if self._paths:
            points, _ = mounts_of(self._paths, points)
        new = [point for point in points if (point.path, point.device) not in self._present]
        self._present = {(point.path, point.device) for point in points}
        for point in new:
            threading.Thread(target=self._describe, args=(point,), daemon=True).start()
        return new

    def _describe(self, point: MountPoint) -> None:
        observed, watched = Observed(describe(point)), threading.Event()
        daemon = observed.mount.daemon
        managers = cache_managers({daemon.workspace}) if daemon and daemon.workspace else []
        self._described.put((observed, managers, watched))
        self._tell()
        watched.wait()
        observed.count()
        self.counted.set()
        self._tell()

    def _tell(self) -> None:
        with self._closing:  # closed, its number may be another file's
            if not self._closed:
                os.eventfd_write(self._news, 1)

    def described(self) -> list[tuple[Observed, list[Process], threading.Event]]:
        """Return what was learnt about mounts that appeared, with the cache managers that serve them.

        When the event is set, because the daemon is observed from now on, the client is asked for its counters, soon.
        """
        found: list[tuple[Observed, list[Process], threading.Event]] = []
        if self._closed:
            return found
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)
        while not self._described.empty():
            found.append(self._described.get())
        return found

    def close(self) -> None:
        """Look no more."""
        with self._closing:
            if not self._closed:
                self._closed = True
                os.close(self._table)
                os.close(self._news)
