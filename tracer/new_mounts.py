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

from cvtrace.probes.cvmfs.choice import MountChoice
from cvtrace.probes.cvmfs.daemon import Process, serves
from cvtrace.probes.cvmfs.mounts import MountPoint, cvmfs_and_others, mounts_of
from cvtrace.probes.cvmfs.processes import clients
from cvtrace.probes.cvmfs.survey import survey
from cvtrace.tracer.environment import Observed, count

MOUNTINFO: Final = Path("/proc/self/mountinfo")
MOST: Final = 64
"""How many mounts that appear are asked who they are: somebody may mount and unmount all the time."""


class NewMounts:
    """Tells of CVMFS mounts that were not there before; only of those that are the `choice`.

    The kernel says when the table of mounts changes (proc(5): POLLPRI on mountinfo). New mounts are asked who they are in a thread: the
    recorder must not wait for a client that hangs. `descriptors` get ready when there is news.
    """

    def __init__(self, choice: MountChoice, known: Sequence[MountPoint]) -> None:
        self._choice = choice
        self._present = {(point.path, point.device) for point in known}
        self._remaining = MOST
        self._described: queue.SimpleQueue[tuple[Observed, tuple[Process, ...], threading.Event]] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = not MOUNTINFO.exists()  # on another system nothing is told
        if not self._closed:
            self._table = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
            self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._uncertain = {(point.path, point.device) for point in cvmfs_and_others()[1]}
        self.has_counters = threading.Event()
        """A client that appeared has told its counters; whoever took note of that clears it."""

    @property
    def descriptors(self) -> dict[int, int]:
        """Descriptors and the events of poll(2) that tell of news, once; `appeared` and `described` have to be called then."""
        return {} if self._closed else {self._table: select.POLLPRI, self._news: select.POLLIN}

    def appeared(self) -> list[MountPoint]:
        """Return the mounts that appeared since the last call; what they are is told by `described`, soon."""
        if self._closed:
            return []
        cvmfs, uncertain = cvmfs_and_others()
        new = self._new(cvmfs, self._present)
        self._present = {(point.path, point.device) for point in cvmfs}
        for point in new:
            self._ask(point, is_certain=True)
        unknown = self._new(uncertain, self._uncertain)
        self._uncertain = {(point.path, point.device) for point in uncertain}
        for point in unknown:  # a client that was started by hand, or something else
            self._ask(point, is_certain=False)
        return new

    def _new(self, points: list[MountPoint], present: set[tuple[str, int]]) -> list[MountPoint]:
        """Return the mounts to observe that were not there; as many as may still be asked."""
        if self._choice.paths:
            points, _ = mounts_of(self._choice.paths, points)
        fresh = [point for point in points if (point.path, point.device) not in present]
        observed = self._choice.split(fresh)[0][: self._remaining]
        self._remaining -= len(observed)
        return observed

    def _ask(self, point: MountPoint, *, is_certain: bool) -> None:
        threading.Thread(target=self._describe, args=(point, is_certain), daemon=True).start()

    def _describe(self, point: MountPoint, is_certain: bool) -> None:
        known = clients()
        if not is_certain and not serves(known, point.path, point.owner, point.connection):
            return
        surveyed = survey([point], known)
        observed, watched = Observed(surveyed.mounts[0], is_named=self._choice.names(point)), threading.Event()
        self._described.put((observed, surveyed.managers, watched))
        self._tell()
        watched.wait()
        count([observed])
        self.has_counters.set()
        self._tell()

    def _tell(self) -> None:
        with self._closing:  # closed, its number may be another file's
            if not self._closed:
                os.eventfd_write(self._news, 1)

    def described(self) -> list[tuple[Observed, tuple[Process, ...], threading.Event]]:
        """Return what was learnt about mounts that appeared, with the cache managers that serve them.

        When the event is set, because the daemon is observed from now on, the client is asked for its counters, soon.
        """
        descriptions: list[tuple[Observed, tuple[Process, ...], threading.Event]] = []
        if self._closed:
            return descriptions
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)
        while not self._described.empty():
            descriptions.append(self._described.get())
        return descriptions

    def close(self) -> None:
        """Look no more."""
        with self._closing:
            if not self._closed:
                self._closed = True
                os.close(self._table)
                os.close(self._news)
