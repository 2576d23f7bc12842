"""Recording a command from its first instruction to its end: the target is a child of the recorder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from cvtrace.probes.events import Kind, Sight
from cvtrace.probes.phases.library import find_libraries, find_runtime_libraries
from cvtrace.probes.phases.own import OwnFunction
from cvtrace.probes.probe import KnowsNumbers, MarksPhases
from cvtrace.probes.stacks.able import samplers, uses_musl
from cvtrace.probes.stacks.process import Identity
from cvtrace.tracer.folder import NODES_PARQUET, PROFILES
from cvtrace.tracer.marks import Marks, phase_marks
from cvtrace.tracer.observation import MARKED, OWN_SYMBOLS, Observation, Subject, observe
from cvtrace.tracer.opening import LOOK_S, OpenFile, opened_by
from cvtrace.tracer.options import Options, RecordingResult
from cvtrace.tracer.relay import Relay, relayed
from cvtrace.tracer.session import LOOK_AFTER_S, Session
from cvtrace.tracer.signals import Signals, ended_by_signals, reached_target
from cvtrace.tracer.stacks import StackSampling
from cvtrace.tracer.still_running import meta, sentence, survivors, survivors_after_grace
from cvtrace.tracer.target import Command, Inheritance, Target, start_target
from cvtrace.tracer.user import User, acting_as

LOOK_INTO_NAMESPACES_S: Final = 0.1


def record(command: Command, options: Options) -> RecordingResult:
    """Run the command under observation.

    Raises CannotObserve, TraceExists, TraceUnwritable or NotStarted with one sentence; then nothing has run and nothing
    is left behind.
    """
    inheritance, user = Inheritance(), command.user
    stacks = _sampling(command) if options.stacks else None
    if user.is_other:
        options = replace(options, settings=replace(options.settings, owner=(user.uid, user.gid)))

    def open_libraries(files: contextlib.ExitStack) -> list[OpenFile]:
        return files.enter_context(opened_by(user, LOOK_S, lambda: _libraries(command, options.settings.own)))

    with (
        ended_by_signals(),
        relayed(user, inheritance.streams) if command.is_apart else contextlib.nullcontext() as relay,
    ):
        subject = Subject(command, os.getcwd(), user.uid, open_libraries)  # noqa: PTH109
        observation = observe(subject, options)
        if not observation.marks_phases:
            observation.missing.append(MARKED)
        if any(each.symbol for each in options.settings.own) and not isinstance(observation.probe, MarksPhases):
            observation.missing.append(OWN_SYMBOLS)
        return _Launched(observation, inheritance, relay, stacks).record()


def _libraries(command: Command, own: tuple[OwnFunction, ...]) -> tuple[str, ...]:
    """Return where the libraries of runtimes are that a target may load, that of GenAI first; as its user."""
    genai = find_libraries(command.python, command.environ, program=command.executable)
    return (*genai, *find_runtime_libraries(command.python, command.environ, program=command.executable, own=own))


def _sampling(command: Command) -> StackSampling:
    """Return what samples the stacks of a command. Raises CannotObserve."""
    with acting_as(command.user):
        is_musl = uses_musl(command.python or command.executable)
    needed = samplers(command.title, is_python=command.python is not None, is_musl=is_musl)
    return StackSampling(needed, Identity(command.user.uid, command.user.gid))


class _Launched(Session):
    """A recording whose target is started for it."""

    target: Target | None = None
    marks: Marks

    def __init__(
        self, observation: Observation, inheritance: Inheritance, relay: Relay | None, stacks: StackSampling | None
    ) -> None:
        super().__init__(observation, stacks)
        self.command = observation.command
        self.inheritance = inheritance
        self.relay = relay
        if relay is not None:
            self.extra_signals = (signal.SIGTSTP,)
        self._is_interrupted = False
        self._terminations = 0
        self._namespaces_s = 0.0
        """When to look next at the target's numbers in PID namespaces."""

    @property
    def _started(self) -> Target:
        assert self.target is not None
        return self.target

    def users(self) -> tuple[User, ...]:
        return self.command.user, self.options.owner

    def prepare(self, stack: contextlib.ExitStack) -> None:
        counters = () if Sight.REQUESTS in self.probe.sees else self.observation.environment.counter_sources()
        self.marks = stack.enter_context(
            phase_marks(
                self.command,
                counters,
                genai=not self.observation.marks_phases,
                profiled=self.options.ort_profile,
                own=self.options.settings.own,
            )
        )
        argv = self.probe.command(list(self.command.argv))
        self.target = start_target(self.command, argv, self.marks.environ, self.inheritance, self.relay)
        self.probe.add_target(self.target.pid)

    def join(self) -> None:
        """It waits before its exec, and the probe knows it."""

    def release(self, signals: Signals) -> None:
        if signals.take():
            raise KeyboardInterrupt
        self.observation.say_begun(self.command.title)
        self._started.release()
        if self.relay is not None:
            self.relay.begin()

    def discard(self) -> None:
        if self.target is not None:
            self.target.discard()

    def end_descriptors(self) -> Sequence[int]:
        monitor = self._started.monitor
        return () if monitor is None else (monitor.reports,)

    def target_pid(self) -> int:
        return self._started.pid

    def has_ended(self) -> bool:
        if self._started.poll():
            return True
        if self.relay is not None and self._started.take_stop():
            _stop_with(self._started, self.relay)
        return False

    def is_detached(self, signals: Sequence[int]) -> bool:
        """Pass signals on to the target; a second SIGTERM asks to leave it alone."""
        for number in signals:
            self._is_interrupted |= number == signal.SIGINT
            self._terminations += number == signal.SIGTERM
            if self._terminations > 1:
                self.options.say(
                    f"received a second signal: {self.command.title} (pid {self._started.pid}) continues, and the trace ends here"
                )
                self.exit_code = 128 + signal.SIGTERM
                return True
            if self.relay is not None or not reached_target(number):
                self._started.send(number)
        if self.time_left_s() > 0:
            return False
        pid = self.observation.kernel_number(self._started.pid)
        sentence = f"the recording ended when its time was over (--for): {self.command.title} (pid {pid}) continues"
        self.observation.missing.append(f"{sentence}, and what it did later is not in the trace")
        self.options.say(sentence)
        return True

    def tend(self, ready: set[int]) -> None:
        super().tend(ready)
        now_s = time.monotonic()
        if not isinstance(self.probe, KnowsNumbers) and now_s >= self._namespaces_s:
            self.drain.numbers.look(self._started.pid)
            self._namespaces_s = now_s + LOOK_INTO_NAMESPACES_S

    def end(self, signals: Signals) -> str:
        self.exit_code = self._started.exit_code or 0
        self._is_interrupted |= signal.SIGINT in signals.take()  # it may have ended by it before we looked
        self._is_interrupted |= self.relay is not None and self._started.signal == signal.SIGINT  # its own terminal's
        return "interrupted" if self._is_interrupted else "signalled" if self._started.signal else "exited"

    def after_end(self, end: str, signals: Signals) -> None:
        """Record what goes on after the target until it ends, if that is wished; else say what does."""
        if self.relay is not None:
            (self.relay.leave if end == "detached" else self.relay.suspend)()
        if self._started.exit_code is None:  # left alone
            return
        title, marks, pid = self.command.title, str(self.marks.path), self._started.pid
        living = survivors_after_grace(self.probe, marks, pid)
        if living and self.options.follow_daemons:
            self.options.say(f"{title} has ended; recording until what it started ends (Ctrl-C: until now)")
            looked_s = time.monotonic()
            while living and not signals.take():
                super().tend(signals.wait(min(self.probe.drain_every_s, LOOK_AFTER_S)))
                if time.monotonic() - looked_s >= LOOK_AFTER_S:
                    looked_s = time.monotonic()
                    living = survivors(self.probe, marks, pid)
        if living:
            self.observation.missing.append(sentence(living, title))
            self.options.say(sentence(living, title))
            self.observation.writer.update_meta(still_running=meta(living))

    def after_stop(self) -> None:
        """Add what the target has written itself."""
        events = self.marks.write_to(self.observation.writer, self.drain.numbers, self.drain.calls)
        self.drain.calls.append(events[events["kind"] == Kind.PHASE])
        if self.options.ort_profile:
            self._add_profile()

    def _add_profile(self) -> None:
        from cvtrace.tracer.profile import nodes_of, read_profiles  # loads pyarrow

        with acting_as(self.marks.user):
            profiles = read_profiles(self.marks.path.parent)
        writer = self.observation.writer
        redaction = writer.redaction
        nodes, missing = nodes_of(profiles, self.drain.calls, redaction.node if redaction else str)
        self.observation.missing += missing
        for name, data in zip(PROFILES, () if redaction else profiles, strict=False):  # they are full of names
            writer.add_file(name, data)
        if nodes is not None:
            writer.add_file(NODES_PARQUET, nodes)

    def target_meta(self) -> dict[str, Any]:
        target = self._started
        pid = self.observation.kernel_number(target.pid)
        return {**super().target_meta(), "pid": pid, "exit_code": target.exit_code, "signal": target.signal}


def _stop_with(target: Target, relay: Relay) -> None:
    """Stop the caller's job as the target was stopped, with Ctrl-Z say; once the job goes on, let the target go on."""
    relay.suspend()
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTSTP)  # and here it stays until it goes on
    signal.signal(signal.SIGTSTP, handler)
    relay.resume()
    target.send(signal.SIGCONT)
