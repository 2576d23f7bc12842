"""The life of one recording once a probe observes: begin, follow the target to its end, stop, finish.

The same for a target that is started (`run.py`) and for one that runs already (`attach.py`); what differs are the abstract methods.
"""

from __future__ import annotations

import contextlib
import math
import resource
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from cvtrace.probes.probe import HasBuffer, HasWakeupFd, MeasuresCost
from cvtrace.tracer.drain import Drain
from cvtrace.tracer.environment import count
from cvtrace.tracer.mount_changes import MountChanges
from cvtrace.tracer.new_trace import command_meta
from cvtrace.tracer.observation import Observation
from cvtrace.tracer.options import RecordingResult
from cvtrace.tracer.privileges import give_up
from cvtrace.tracer.signals import Signals
from cvtrace.tracer.stacks import StackSampling
from cvtrace.tracer.target_limits import TargetLimits
from cvtrace.tracer.user import User

LOOK_AFTER_S: Final = 0.5
LIMITS_EVERY_S: Final = 0.1
"""How often daemons are looked after: a dead one makes the trace say since when."""

BUFFER_STEP: Final = 4
"""How many times larger a buffer is recommended when one was too small."""


class Session(ABC):
    """The part of a recording in which a probe is attached."""

    exit_code = 0
    """Of the recording: the target's own."""
    extra_signals: tuple[signal.Signals, ...] = ()
    """Signals that are noted besides those of every recording."""

    def __init__(self, observation: Observation, stacks: StackSampling | None = None) -> None:
        self.observation = observation
        self.stacks = stacks
        self.options = observation.options
        self.probe = observation.probe
        self.mounts = MountChanges(observation)
        self.drain = Drain(observation, self.mounts.add_other_mounts)
        self.limits = TargetLimits()
        self._limits_s = 0.0
        """When they were looked at."""
        self._until_s = math.inf
        self._looked_s = 0.0
        """When daemons were looked after."""

    @abstractmethod
    def prepare(self, stack: contextlib.ExitStack) -> None:
        """Have the target there and known to the probe, if it can be before the recording begins; `stack` ends with the recording."""

    @abstractmethod
    def join(self) -> None:
        """Have the target known to the probe, in the first moment of the recording."""

    @abstractmethod
    def release(self, signals: Signals) -> None:
        """Let the target run: all that the trace has to say at the begin is said."""

    @abstractmethod
    def discard(self) -> None:
        """End what `prepare` has started: the recording could not begin."""

    @abstractmethod
    def end_descriptors(self) -> Sequence[int]:
        """Descriptors that are readable when there is news of the target's end."""

    @abstractmethod
    def target_pid(self) -> int:
        """Return the process whose tree is recorded, as /proc here shows it."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Take note of what has become of the target; return whether it has ended."""

    def time_left_s(self) -> float:
        """How long the recording may go on."""
        return self._until_s - time.monotonic()

    @abstractmethod
    def is_detached(self, signals: Sequence[int]) -> bool:
        """Act on signals that came; return whether the recording is to end and the target to go on."""

    @abstractmethod
    def end(self, signals: Signals) -> str:
        """Return how the target ended, as meta.json has it."""

    @abstractmethod
    def after_end(self, end: str, signals: Signals) -> None:
        """Do what is to be done before the recording's last moment."""

    @abstractmethod
    def after_stop(self) -> None:
        """Add what is there when the probe has stopped."""

    @abstractmethod
    def users(self) -> tuple[User, ...]:
        """Whose files and processes are worked with from when the target runs."""

    def target_meta(self) -> dict[str, Any]:
        """Return what is known of the target, as meta.json has it."""
        return {**command_meta(self.observation.command), **self.limits.meta()}

    def record(self) -> RecordingResult:
        """Record until the target ends or is left alone."""
        writer = self.observation.writer
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(Signals(self.extra_signals))
            try:
                self._begin(stack, signals)
            except BaseException:
                self.discard()
                if self.stacks is not None:
                    self.stacks.stop()
                self.observation.abandon()
                raise
            try:
                end = self._follow(signals)
                self.after_end(end, signals)
                end_ns = time.monotonic_ns()
                if self.options.max_bytes is not None:
                    self.drain.until_ns = end_ns
                count(self.observation.environment.observed)
                self._stop()
                self._finish(end, end_ns)
            except BaseException:
                try:
                    self.probe.stop()
                finally:
                    writer.close()  # what was written stays readable
                raise
        return RecordingResult(writer.path, self.exit_code, writer.error)

    def _begin(self, stack: contextlib.ExitStack, signals: Signals) -> None:
        observation = self.observation
        self.prepare(stack)
        count(observation.environment.observed)
        observation.environment.meet()
        observation.start_ns = time.monotonic_ns()
        self.join()
        observation.writer.update_meta(
            probe=self.probe.name,
            sees=sorted(self.probe.sees),
            target=self.target_meta(),
            clock=observation.clock_meta(),
            mounts=observation.mounts_meta(),
            mounts_left_out=observation.environment.left_out_meta(),
            missing=observation.missing_meta(),
        )
        if self.options.for_s is not None:
            self._until_s = time.monotonic() + self.options.for_s
        if self.stacks is not None:
            self.stacks.before_release(self.target_pid())
        self.release(signals)
        if self.stacks is not None:
            self.stacks.tend()
        give_up(self.probe, self.users())

    def _follow(self, signals: Signals) -> str:
        """Drain until the target has ended or is to be left alone; returns how that came, as meta.json has it."""
        self._looked_s = time.monotonic()
        self.mounts.begin(signals)
        for descriptor in self.end_descriptors():
            signals.watch(descriptor)
        if isinstance(self.probe, HasWakeupFd):
            signals.watch(self.probe.wakeup_fd)
        while not self.has_ended():
            ready = signals.wait(min(self.probe.drain_every_s, max(self.time_left_s(), 0.0)))
            if self.is_detached(signals.take()):
                return "detached"
            self.tend(ready)
        return self.end(signals)

    def tend(self, ready: set[int]) -> None:
        """Do what is due after a wait, at whose end these descriptors were `ready`."""
        self.drain.take()
        self.mounts.take(ready)
        self.look_at_limits()
        if self.stacks is not None:
            self.stacks.tend()
        if time.monotonic() - self._looked_s >= LOOK_AFTER_S:
            self._looked_s = time.monotonic()
            self.mounts.look_for_deaths()

    def look_at_limits(self) -> None:
        """Look at the limits of the target's cgroups, now and then."""
        pid, now_s = self.target_pid(), time.monotonic()
        if now_s - self._limits_s >= LIMITS_EVERY_S:
            self._limits_s = now_s
            self.limits.look(pid)

    def _stop(self) -> None:
        if self.options.watch is not None:
            self.options.watch.close()
        if self.stacks is not None:
            self.stacks.stop()
        self.mounts.look_for_deaths()
        self.drain.take()
        self.mounts.close()
        self.probe.stop()
        self.drain.take_all()
        self.after_stop()
        if self.stacks is not None:
            self.stacks.write_to(self.observation.writer)

    def _finish(self, end: str, end_ns: int) -> None:
        observation, losses = self.observation, self.probe.losses()
        observation.writer.finish(
            self.options.progress,
            target=self.target_meta(),
            clock=observation.clock_meta(end_ns),
            mounts=observation.mounts_meta(),
            other_mounts=observation.environment.other_mounts.meta(),
            missing=observation.missing_meta(),
            lost={name: number for name, number in losses.by_kind.items() if number},
            lost_by_cpu=losses.by_cpu,
            end=end,
            recorder=self._recorder_meta(),
        )
        if losses.total and isinstance(self.probe, HasBuffer):
            self.options.say(_too_small(losses.total, self.probe.buffer_bytes))
        self.drain.say_error()
        dropped = observation.writer.meta.get("dropped")
        if dropped:
            self.options.say(
                f"{dropped['events']:,} events were dropped for room (--max-size): the trace has what came later"
            )

    def _recorder_meta(self) -> dict[str, Any]:
        """Return what the recording itself has cost so far."""
        max_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        costs = self.probe.costs if isinstance(self.probe, MeasuresCost) else {}
        return {"drain_cpu_s": self.drain.cpu_ns / 1e9, "max_rss_bytes": max_rss_bytes, **costs}


def _too_small(lost: int, buffer_bytes: int) -> str:
    return f"{lost:,} events lost: run again with --buffer {math.ceil(BUFFER_STEP * buffer_bytes / 1e6)}MB"
