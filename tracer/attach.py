"""RecordingResult a process that runs already: from now until it ends, the time is over, or the user has seen enough."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path
from typing import Any

from cvtrace.probes.cvmfs.choice import Wanted
from cvtrace.probes.ladder import start_probe
from cvtrace.tracer.environment import count, find_surroundings
from cvtrace.tracer.errors import WrongTarget
from cvtrace.tracer.permission import check_may_trace
from cvtrace.tracer.preload import preloading
from cvtrace.tracer.privileges import give_up
from cvtrace.tracer.process import Process
from cvtrace.tracer.running import libraries_of
from cvtrace.tracer.session import LOOK_AFTER_S, Options, RecordingResult, Session, create_writer
from cvtrace.tracer.signals import Signals, ended_by_signals
from cvtrace.tracer.target import Command, Target

NO_LIBRARY = (
    "process {pid} maps no libonnxruntime-genai.so that can be observed: load, prefill and decode are not told apart"
)
NO_UPROBES = "only eBPF marks the phases of a process that runs already: load, prefill and decode are not told apart"
NO_MARKS = (
    "phases that a script names, and sessions of plain onnxruntime, are marked in processes that `cvtrace run` started, "
    "not in one that runs already"
)
NOTHING = "of a process that runs already the portable rung sees nothing but the client's counters"


def attach(process: Process, options: Options, for_s: float | None) -> RecordingResult:
    """Record `process` until it ends, for `for_s` seconds, or until SIGINT, SIGTERM or SIGHUP; then leave it as it was.

    Raises CannotObserve, WrongTarget, TraceExists or TraceUnwritable with one sentence; then nothing is left behind.
    """
    check_may_trace(process.pid, process.title, options.owner)
    command = Command(process.argv, "", {}, options.owner, process.title, None)
    with ended_by_signals(), contextlib.ExitStack() as files:
        writer = create_writer(command, options)
        try:
            users = frozenset({os.geteuid(), options.owner.uid, Path("/proc", str(process.pid)).stat().st_uid})
            environment = find_surroundings(Wanted.of(options.mounts, process.cwd, process.argv, users))
            if writer.redaction is not None:
                writer.redaction.show(observed.mount.path for observed in environment.observed)
            if any(process.pid == daemon.pid for daemon in environment.scope(()).daemons):
                raise WrongTarget(f"process {process.pid} serves a mount: attach to one that reads from it")
            libraries = tuple(library.pinned for library in libraries_of(process.pid, files))
            with preloading():
                started = start_probe(options.probes, environment.scope(libraries))
        except BaseException:
            writer.abandon()
            raise
        missing = [refusal.replace("cvtrace run …", f"cvtrace attach {process.pid}") for refusal in started.refusals]
        for refusal in missing:
            options.say(refusal)
        missing += _missing(process, started.probe.name, libraries)
        session = _Attached(command, options, writer, environment, started.probe, missing, wants_marks=False)
        return session.follow(process, for_s)


class _Attached(Session):
    """A recording whose target is nobody's child, and is not told anything."""

    process: Process

    def follow(self, process: Process, for_s: float | None) -> RecordingResult:
        self.process = process
        with Signals() as signals:
            self._attach()
            try:
                end = self._wait(signals, None if for_s is None else time.monotonic() + for_s)
                end_ns = time.monotonic_ns()
                count(self.environment.observed)
                self._stop()
                self._finish(None, end, end_ns)
            except BaseException:
                try:
                    self.probe.stop()
                finally:
                    self.writer.close()  # what was written stays readable
                raise
        return RecordingResult(self.writer.path, 0, self.writer.error)

    def _attach(self) -> None:
        try:
            count(self.environment.observed)
            self.environment.meet()
            self.start_ns = time.monotonic_ns()
            self.probe.add_target(self.process.pid)
            if not self.process.is_alive:
                raise WrongTarget(f"process {self.process.pid} ended before it could be recorded")
            devices = tuple(observed.mount.device for observed in self.environment.observed)
            if self.probe.name != "portable":
                self.writer.write(*self.process.open_files(devices, self.start_ns))
            self.writer.update_meta(
                probe=self.probe.name,
                target=self._target_meta(None),
                clock=self._clock(None),
                mounts=self._mounts_meta(),
                missing=self._missing(),
            )
            give_up(self.probe.name, (self.options.owner,))
            named = f"{self.process.title} (pid {self.process.pid})"
            self._say_begun(named, "; Ctrl-C ends the recording, the process goes on")
        except BaseException:
            self.probe.stop()
            self.writer.abandon()
            raise

    def _wait(self, signals: Signals, until_s: float | None) -> str:
        """Drain until the process ends, or somebody asks to end; returns `end`."""
        looked_s = time.monotonic()
        self._watch(signals)
        with self.process.ending() as ended:
            if ended is not None:
                signals.watch(ended)
            while self.process.is_alive:
                now_s = time.monotonic()
                left_s = math.inf if until_s is None else until_s - now_s
                if signals.take() or left_s <= 0:
                    return "detached"
                self._catch_up(signals.wait(min(self.probe.drain_every_s, left_s)))
                if now_s - looked_s >= LOOK_AFTER_S:
                    looked_s = now_s
                    self._look_after_daemons()
            return "exited"

    def _target_meta(self, target: Target | None) -> dict[str, Any]:
        process = self.process
        told = {"pid": self._kernel_number(process.pid), "cwd": process.cwd, "user": process.user, "attached": True}
        return {**super()._target_meta(target), **told}


def _missing(process: Process, probe: str, libraries: tuple[str, ...]) -> list[str]:
    found = [NO_MARKS]
    if probe != "ebpf":
        found.append(NO_UPROBES)
    elif not libraries:
        found.append(NO_LIBRARY.format(pid=process.pid))
    if probe == "portable":
        found.append(NOTHING)
    children = process.children()
    if children:
        found.append(
            f"{children} {'child' if children == 1 else 'children'} of process {process.pid} ran already and "
            f"{'is' if children == 1 else 'are'} not recorded: attach to them by their own numbers"
        )
    return found
