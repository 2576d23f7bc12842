"""Recording a process that runs already: from now until it ends, the time is over, or the user has seen enough."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.events import Sight
from cvtrace.probes.probe import MarksPhases
from cvtrace.probes.stacks.able import is_python, samplers, uses_musl
from cvtrace.tracer.environment import Environment
from cvtrace.tracer.errors import WrongTarget
from cvtrace.tracer.observation import Observation, Subject, observe
from cvtrace.tracer.options import Options, RecordingResult
from cvtrace.tracer.permission import check_may_trace
from cvtrace.tracer.process import Process
from cvtrace.tracer.running import libraries_of
from cvtrace.tracer.session import Session
from cvtrace.tracer.signals import Signals, ended_by_signals
from cvtrace.tracer.stacks import StackSampling, identity_of
from cvtrace.tracer.target import Command
from cvtrace.tracer.user import User

NO_LIBRARY: Final = "process {pid} maps no libonnxruntime-genai.so that can be observed: load, prefill and decode cannot be distinguished"
NO_UPROBES: Final = (
    "only eBPF marks the phases of a process that runs already: load, prefill and decode cannot be distinguished"
)
NO_MARKS: Final = (
    "phases that a script names, and sessions of plain onnxruntime, are marked in processes that `cvtrace run` started, "
    "not in one that runs already"
)
NO_CALLS: Final = "the portable probe sees only the client's counters of a process that runs already"


def attach(process: Process, options: Options) -> RecordingResult:
    """Record `process` until it ends, for as long as the options say, or until SIGINT, SIGTERM or SIGHUP; then leave it as it was.

    Raises CannotObserve, WrongTarget, TraceExists or TraceUnwritable with one sentence; then nothing is left behind.
    """
    check_may_trace(process.pid, process.title, options.owner)
    command = Command(process.argv, "", {}, options.owner, process.title, None)

    def check(environment: Environment) -> None:
        if any(process.pid == daemon.pid for daemon in environment.daemons()):
            raise WrongTarget(f"process {process.pid} serves a mount: attach to one that reads from it")

    stacks = _sampling(process) if options.stacks else None
    with ended_by_signals():
        try:
            uid = Path("/proc", str(process.pid)).stat().st_uid
        except FileNotFoundError:
            raise WrongTarget(f"process {process.pid} has ended already") from None
        open_libraries = partial(libraries_of, process.pid)
        observation = observe(
            Subject(command, process.cwd, uid, open_libraries, f"attach {process.pid}", check), options
        )
        observation.missing += _missing(process, observation)
        return _Attached(observation, process, stacks).record()


def _sampling(process: Process) -> StackSampling:
    """Return what samples the stacks of a process. Raises CannotObserve or WrongTarget."""
    identity = identity_of(process.pid)
    if identity is None:
        raise WrongTarget(f"process {process.pid} has ended already")
    is_musl = uses_musl(f"/proc/{process.pid}/exe")
    return StackSampling(samplers(process.title, is_python=is_python(process.pid), is_musl=is_musl), identity)


class _Attached(Session):
    """A recording whose target is no child of the recorder, and is left as it is."""

    def __init__(self, observation: Observation, process: Process, stacks: StackSampling | None) -> None:
        super().__init__(observation, stacks)
        self.process = process
        self._ending: int | None = None

    def users(self) -> tuple[User, ...]:
        return (self.options.owner,)

    def prepare(self, stack: contextlib.ExitStack) -> None:
        self._ending = stack.enter_context(self.process.ending())

    def join(self) -> None:
        self.probe.add_target(self.process.pid)
        if not self.process.is_alive:
            raise WrongTarget(f"process {self.process.pid} ended before it could be recorded")
        if Sight.REQUESTS in self.probe.sees:
            devices = tuple(observed.mount.device for observed in self.observation.environment.observed)
            self.observation.writer.write(*self.process.open_files(devices, self.observation.start_ns))

    def release(self, signals: Signals) -> None:
        title = f"{self.process.title} (pid {self.process.pid})"
        self.observation.say_begun(title, "; Ctrl-C ends the recording, the process goes on")

    def discard(self) -> None:
        """It runs, and goes on."""

    def end_descriptors(self) -> Sequence[int]:
        return () if self._ending is None else (self._ending,)

    def target_pid(self) -> int:
        return self.process.pid

    def has_ended(self) -> bool:
        return not self.process.is_alive

    def is_detached(self, signals: Sequence[int]) -> bool:
        return bool(signals) or self.time_left_s() <= 0

    def end(self, signals: Signals) -> str:
        return "exited"

    def after_end(self, end: str, signals: Signals) -> None:
        """Nothing is waited for."""

    def after_stop(self) -> None:
        """It writes nothing for the recorder."""

    def target_meta(self) -> dict[str, Any]:
        process, pid = self.process, self.observation.kernel_number(self.process.pid)
        return {**super().target_meta(), "pid": pid, "cwd": process.cwd, "user": process.user, "attached": True}


def _missing(process: Process, observation: Observation) -> list[str]:
    probe, sentences = observation.probe, [NO_MARKS]
    if not isinstance(probe, MarksPhases):
        sentences.append(NO_UPROBES)
    elif not observation.has_libraries:
        sentences.append(NO_LIBRARY.format(pid=process.pid))
    if Sight.REQUESTS not in probe.sees:
        sentences.append(NO_CALLS)
    children = process.children()
    if children:
        sentences.append(
            f"{children} {'child' if children == 1 else 'children'} of process {process.pid} ran already and "
            f"{'is' if children == 1 else 'are'} not recorded: attach to them by their own numbers"
        )
    return sentences
