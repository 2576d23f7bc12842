"""The way of an event from the probe into the trace."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cvtrace.probes.events import UNFINISHED, Events, Kind
from cvtrace.probes.probe import KnowsCalls
from cvtrace.tracer.numbers import Numbers
from cvtrace.tracer.observation import Observation


class Drain:
    """Takes what the probe has seen and writes it, a block at a time.

    probe.drain()          from the kernel's rings, or strace's logs
    numbers.take()         marks tell which numbers threads have in PID namespaces; they are for the recorder alone
    writer.write()         to the disk, in blocks with checksums
    other_mounts.notice()   which FUSE mounts the target uses that are not observed
    calls                  calls that mark phases, kept until the target's own marks are read
    watch.take()           what `--watch` shows
    """

    def __init__(self, observation: Observation, add_other_mounts: Callable[[list[int]], None]) -> None:
        self.numbers = Numbers()
        self.calls: list[Events] = []
        """Calls that mark phases so far."""
        self.until_ns: int | None = None
        """When the recording ended, where what began later would take the room of what came before (--max-size)."""
        self.cpu_ns = 0
        """CPU time that draining has taken."""
        self._observation = observation
        self._add_other_mounts = add_other_mounts
        self._has_said_error = False

    def take(self) -> int:
        """Take what the probe has seen; returns how much that was."""
        before_ns = time.thread_time_ns()
        observation, options = self._observation, self._observation.options
        events, texts = observation.probe.drain()
        count = len(events) + len(texts)
        events = self.numbers.take(events)
        if self.until_ns is not None:
            events = events[events["ts"] <= self.until_ns]
        observation.writer.write(events, texts)
        self._add_other_mounts(observation.environment.other_mounts.notice(events))
        calls = events[events["kind"] & ~np.uint16(UNFINISHED) == Kind.PHASE]
        if len(calls):
            self.calls.append(calls)
        if options.watch is not None:
            probe = observation.probe
            in_flight = probe.calls_under_way if isinstance(probe, KnowsCalls) else tuple
            options.watch.take(events, lambda: probe.losses().total, in_flight)
        self.cpu_ns += time.thread_time_ns() - before_ns
        self.say_error()
        return count

    def take_all(self) -> None:
        """Take until there is nothing any more; after the probe has stopped."""
        while self.take():
            pass

    def say_error(self) -> None:
        """Say once why the trace cannot be written in full."""
        error = self._observation.writer.error
        if error and not self._has_said_error:
            self._has_said_error = True
            self._observation.options.say(error)
