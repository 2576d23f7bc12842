"""The parent of a target that has a session of its own: the session's leader, which tells how the target fares.

The leader must not be the target itself: a group of processes whose parents are all in other sessions cannot be stopped with
Ctrl-Z (setpgid(2), orphaned process groups).
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Callable
from typing import Final

from cvtrace.probes.capabilities import keep_only
from cvtrace.tracer.relay import IGNORED, Relay

_REPORT: Final = struct.Struct("<ii")
KILLED: Final = 9
"""The status of a process that was killed (wait(2))."""


class Monitor:
    """A process that waits for `target`, its child, and reports how it fares."""

    def __init__(self, pid: int, reports: int) -> None:
        self._pid = pid
        self.reports = reports
        """Readable when there is something to `take`."""
        first = self._report()
        if first is None:
            self._end()
            raise ChildProcessError("its parent could not start it")
        self.target = first[0]
        self.stopped = False
        """Whether the target was stopped from its terminal since this was last set to False."""
        os.set_blocking(reports, False)

    def _report(self) -> tuple[int, int] | None:
        data = os.read(self.reports, _REPORT.size)
        return _REPORT.unpack(data) if len(data) == _REPORT.size else None

    def take(self) -> int | None:
        """Return the status with which the target has ended, None while it lives."""
        try:
            report = self._report()
        except BlockingIOError:
            return None
        status = KILLED if report is None else report[1]  # no report: the monitor was killed, and the target with it
        if os.WIFSTOPPED(status):
            self.stopped = os.WSTOPSIG(status) != signal.SIGSTOP
            return None
        self._end()
        return status

    def reap(self) -> None:
        """Wait until it is gone; the target is about to end."""
        self._end()

    def _end(self) -> None:
        os.close(self.reports)
        os.waitpid(self._pid, 0)


def monitored(relay: Relay, become_target: Callable[[], None]) -> Monitor:
    """Start the target, which `become_target` turns a process into, in a session of its own with the relay's streams."""
    reports, reporting = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reports)
            _lead(relay, reporting, become_target)
        finally:
            os._exit(126)
    os.close(reporting)
    return Monitor(pid, reports)


def _lead(relay: Relay, reporting: int, become_target: Callable[[], None]) -> None:
    signal.set_wakeup_fd(-1)
    os.setsid()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    relay.enter()
    target = os.fork()
    if target == 0:
        os.setpgid(0, 0)
        if relay.terminal is not None:
            os.tcsetpgrp(relay.terminal, os.getpid())
        os.close(reporting)
        become_target()
    os.write(reporting, _REPORT.pack(target, 0))
    os.closerange(0, reporting)
    os.closerange(reporting + 1, os.sysconf("SC_OPEN_MAX"))
    with contextlib.suppress(OSError):
        keep_only(())
    while True:
        _, status = os.waitpid(target, os.WUNTRACED)
        os.write(reporting, _REPORT.pack(target, status))
        if not os.WIFSTOPPED(status):
            os._exit(0)
