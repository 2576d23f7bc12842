"""The life of one recording: find the mounts, attach a probe, run the target, keep what was seen, detach, finish."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import platform
import re
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import cvtrace
from cvtrace.probes.credentials import hidden
from cvtrace.probes.cvmfs.choice import Wanted
from cvtrace.probes.events import UNFINISHED, Events, Kind
from cvtrace.probes.ladder import Settings, start_probe
from cvtrace.probes.namespaces import own_namespace, sees_initial
from cvtrace.probes.phases.hook import Counted, environment, parse_marks, written
from cvtrace.probes.phases.library import find_libraries
from cvtrace.probes.probe import AddsScope, CannotObserve, HasWakeupFd, KnowsCalls, KnowsNumbers, Probe
from cvtrace.tracer.environment import Environment, Observed, count, find_surroundings
from cvtrace.tracer.errors import TraceExists
from cvtrace.tracer.folder import NODES_PARQUET, PROFILE_PREFIX, PROFILES
from cvtrace.tracer.left import after_grace, left_behind, meta, sentence
from cvtrace.tracer.new_mounts import NewMounts
from cvtrace.tracer.numbers import Numbers, raw_records, without_doubles
from cvtrace.tracer.opening import LOOK_S, opened_by
from cvtrace.tracer.preload import preloading
from cvtrace.tracer.privileges import give_up
from cvtrace.tracer.redaction import Redaction
from cvtrace.tracer.relay import Relay, relayed
from cvtrace.tracer.signals import Signals, ended_by_signals, reached_target
from cvtrace.tracer.store import TraceWriter
from cvtrace.tracer.target import Command, Inheritance, Target, start_target
from cvtrace.tracer.user import User, acting_as

if TYPE_CHECKING:
    from cvtrace.tracer.parquet import Progress
    from cvtrace.tracer.watch import Watch

LOOK_AFTER_S: Final = 0.5
"""How often daemons are looked after: a dead one makes the trace say since when."""

LOOK_INTO_NAMESPACES_S: Final = 0.1

BUFFER_BYTES: Final = 32_000_000
"""Room for events if the user says nothing."""
BUFFER_STEP: Final = 4

MOST_ARGUMENTS: Final = 10_000
LONGEST_ARGUMENT: Final = 150_000
"""The kernel takes 128 kB."""
MOST_ARGUMENT_CHARACTERS: Final = 1_000_000
"""More is left out of meta.json: `argv_left_out` counts the arguments."""

MARKED: Final = (
    "phases are marked by an import hook, as no libonnxruntime-genai.so can be observed: they are missing where the "
    "target is not Python or ignores PYTHONPATH"
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to record."""

    directory: Path | None
    """Folder of the trace; None for `./cvtrace-<script>-<time>`."""
    force: bool
    probes: str
    """One of probes.ladder.CHOICES."""
    mounts: tuple[str, ...]
    """Paths on the mounts to observe; none for every CVMFS mount."""
    owner: User
    """Whose the trace is."""
    say: Say
    """Takes a sentence for the user."""
    progress: Progress | None = None
    """Told how far the finishing of the trace is."""
    ort_profile: bool = False
    """Whether onnxruntime is to write its own profile."""
    settings: Settings = field(default_factory=Settings)
    """What was asked of the probe."""
    redact: bool = False
    """Hash the paths in the trace."""
    watch: Watch | None = None
    """Shown what is drained."""
    note: Say | None = None
    """Takes what is said on a terminal only; None where there is none."""
    follow_daemons: bool = False
    """Whether to record on when the target has ended and processes that it started have not."""


@dataclass(frozen=True)
class RecordingResult:
    """A finished recording."""

    path: Path
    exit_code: int
    error: str | None
    """One sentence if the trace could not be written in full."""


def record(command: Command, options: Options) -> RecordingResult:
    """Run the command under observation.

    Raises CannotObserve, TraceExists, TraceUnwritable or NotStarted with one sentence; then nothing has run and nothing
    is left behind.
    """
    inheritance = Inheritance()
    with (
        ended_by_signals(),
        relayed(command.user, inheritance.streams) if command.is_apart else contextlib.nullcontext() as relay,
    ):
        writer = create_writer(command, options)
        return _observe(command, options, writer, inheritance, relay)


def _observe(
    command: Command, options: Options, writer: TraceWriter, inheritance: Inheritance, relay: Relay | None
) -> RecordingResult:
    try:
        users = frozenset({os.geteuid(), options.owner.uid, command.user.uid})
        environment = find_surroundings(Wanted.of(options.mounts, os.getcwd(), command.argv, users))  # noqa: PTH109
        if writer.redaction is not None:
            writer.redaction.show(observed.mount.path for observed in environment.observed)
        user = command.user
        other = (user.uid, user.gid) if user.is_other else None
        with opened_by(user, LOOK_S, lambda: _libraries(command)) as files, preloading():
            libraries = tuple(file.pinned for file in files)
            started = start_probe(options.probes, environment.scope(libraries), other, options.settings)
    except BaseException:
        writer.abandon()
        raise
    for refusal in started.refusals:
        options.say(refusal)
    missing = list(started.refusals)
    sees_library = started.probe.name == "ebpf" and bool(libraries)
    if not sees_library and started.probe.name != "strace":  # strace says so itself
        missing.append(MARKED)
    session = Session(command, options, writer, environment, started.probe, missing, wants_marks=not sees_library)
    try:
        return session.run(inheritance, relay)
    except CannotObserve:  # nothing has run yet
        started.probe.stop()
        writer.abandon()
        raise


def _libraries(command: Command) -> tuple[str, ...]:
    """Return where the GenAI library of a target is; as its user."""
    return find_libraries(command.python, command.environ, program=command.executable)


class Session:
    """The part of a recording in which a probe is attached."""

    def __init__(
        self,
        command: Command,
        options: Options,
        writer: TraceWriter,
        environment: Environment,
        probe: Probe,
        missing: list[str],
        *,
        wants_marks: bool,
    ) -> None:
        self.command = command
        self.options = options
        self.writer = writer
        self.environment = environment
        self.probe = probe
        self.missing = missing
        self.wants_marks = wants_marks
        self.start_ns = 0
        self.told_error = False
        self.drain_ns = 0
        self.calls: list[Events] = []
        """Phase marks of the probe so far."""
        self.numbers = Numbers()
        self.look_s = 0.0
        """When to look next at the target's numbers in PID namespaces."""
        self.new_mounts = NewMounts(environment.wanted, environment.points())

    def run(self, inheritance: Inheritance, relay: Relay | None = None) -> RecordingResult:
        profiled = self.options.ort_profile
        counted = self.environment.counted() if self.probe.name == "portable" else ()
        with (
            Signals(() if relay is None else (signal.SIGTSTP,)) as signals,
            _phase_marks(self.command, counted, genai=self.wants_marks, profiled=profiled) as marks,
        ):
            target = self._start(marks, inheritance, signals, relay)
            try:
                end, exit_code = self._follow(target, signals, relay)
                if relay is not None:
                    (relay.leave if end == "detached" else relay.suspend)()
                self._look_for_left(target, marks, signals)
                end_ns = time.monotonic_ns()
                count(self.environment.observed)
                self._stop(marks)
                self._finish(target, end, end_ns)
            except BaseException:
                try:
                    self.probe.stop()
                finally:
                    self.writer.close()  # what was written stays readable
                raise
        return RecordingResult(self.writer.path, exit_code, self.writer.error)

    def _start(self, marks: _Marks, inheritance: Inheritance, signals: Signals, relay: Relay | None) -> Target:
        argv = self.probe.command(list(self.command.argv))
        target = None
        try:
            target = start_target(self.command, argv, marks.environ, inheritance, relay)
            self.probe.add_target(target.pid)
            count(self.environment.observed)
            self.environment.meet()
            self.start_ns = time.monotonic_ns()
            self.writer.update_meta(
                probe=self.probe.name,
                target=self._target_meta(target),
                clock=self._clock(None),
                mounts=self._mounts_meta(),
                mounts_left_out=self.environment.left_out_meta(),
                missing=self._missing(),
            )
            if signals.take():
                raise KeyboardInterrupt
            self._say_begun(self.command.title)
            target.release()
            if relay is not None:
                relay.begin()
            give_up(self.probe.name, (self.command.user, self.options.owner))
        except BaseException:
            if target is not None:
                target.discard()
            self.probe.stop()
            self.writer.abandon()
            raise
        return target

    def _say_begun(self, what: str, more: str = "") -> None:
        if self.options.note is not None:
            probe = {"ebpf": "eBPF"}.get(self.probe.name, f"the {self.probe.name} probe")
            now = datetime.datetime.now().strftime("%H:%M:%S")
            self.options.note(f"recording {what} with {probe} since {now}, into {self.writer.path}{more}")

    def _watch(self, signals: Signals) -> None:
        """Let the wait for signals end when there is something to do before its time."""
        for descriptor, events in self.new_mounts.descriptors.items():
            signals.watch(descriptor, events)
        if isinstance(self.probe, HasWakeupFd):
            signals.watch(self.probe.wakeup_fd)
        self.writer.update_meta(other_mounts=self.environment.elsewhere.meta())
        self._look_after_mounts()

    def _catch_up(self, ready: set[int]) -> None:
        """Take what the probe has seen, and see to mounts if one of the descriptors that are `ready` has news of them."""
        self._keep()
        if not ready.isdisjoint(self.new_mounts.descriptors):
            self._look_after_mounts()

    def _follow(self, target: Target, signals: Signals, relay: Relay | None) -> tuple[str, int]:
        """Drain until the target ends, or a second SIGTERM asks to leave it alone; returns `end` and the exit code."""
        interrupted, terminations, looked_s = False, 0, time.monotonic()
        self._watch(signals)
        if target.monitor is not None:
            signals.watch(target.monitor.reports)
        while not target.poll():
            if relay is not None and target.take_stop():
                _stop_with(target, relay)
            ready = signals.wait(self.probe.drain_every_s)
            for number in signals.take():
                interrupted |= number == signal.SIGINT
                terminations += number == signal.SIGTERM
                if terminations > 1:
                    self.options.say(
                        f"asked twice to end: {self.command.title} (pid {target.pid}) goes on, the trace ends here"
                    )
                    return "detached", 128 + signal.SIGTERM
                if relay is not None or not reached_target(number):
                    target.send(number)
            self._catch_up(ready)
            self._look_into_namespaces(target.pid)
            if time.monotonic() - looked_s >= LOOK_AFTER_S:
                looked_s = time.monotonic()
                self._look_after_daemons()
        interrupted |= signal.SIGINT in signals.take()  # it may have ended by it before we looked
        interrupted |= relay is not None and target.signal == signal.SIGINT  # its own terminal's
        end = "interrupted" if interrupted else "signalled" if target.signal else "exited"
        return end, target.exit_code or 0

    def _look_for_left(self, target: Target, marks: _Marks, signals: Signals) -> None:
        """Record what goes on after the target until it ends, if that is wished; else say what does."""
        if target.exit_code is None:  # left alone
            return
        path = str(marks.path)
        left = after_grace(self.probe, path, target.pid)
        if left and self.options.follow_daemons:
            self.options.say(
                f"{self.command.title} has ended; recording until what it started ends (Ctrl-C: until now)"
            )
            looked_s = time.monotonic()
            while left and not signals.take():
                self._catch_up(signals.wait(min(self.probe.drain_every_s, LOOK_AFTER_S)))
                if time.monotonic() - looked_s >= LOOK_AFTER_S:
                    looked_s = time.monotonic()
                    self._look_after_daemons()
                    left = left_behind(self.probe, path, target.pid)
        if left:
            said = sentence(left, self.command.title)
            self.missing.append(said)
            self.options.say(said)
            self.writer.update_meta(still_running=meta(left))

    def _look_into_namespaces(self, pid: int) -> None:
        """Learn the numbers that the target's threads have in PID namespaces, where the probe does not tell them."""
        now_s = time.monotonic()
        if not isinstance(self.probe, KnowsNumbers) and now_s >= self.look_s:
            self.numbers.look(pid)
            self.look_s = now_s + LOOK_INTO_NAMESPACES_S

    def _keep(self) -> int:
        """Take what the probe has seen; returns how much that was."""
        before_ns = time.thread_time_ns()
        events, texts = self.probe.drain()
        events = self.numbers.take(events)
        self.writer.write(events, texts)
        self._add_others(self.environment.elsewhere.notice(events))
        self.calls.append(events[events["kind"] & ~np.uint16(UNFINISHED) == Kind.PHASE])
        if self.options.watch is not None:
            under_way = self.probe.calls_under_way if isinstance(self.probe, KnowsCalls) else tuple
            self.options.watch.take(events, lambda: self.probe.losses().total, under_way)
        self.drain_ns += time.thread_time_ns() - before_ns
        if self.writer.error and not self.told_error:
            self.told_error = True
            self.options.say(self.writer.error)
        return len(events) + len(texts)

    def _add_others(self, devices: list[int]) -> None:
        """Observe what the target does on FUSE mounts that were not known."""
        if devices:
            if isinstance(self.probe, AddsScope):
                self.probe.add_scope((), (), devices)
            self.writer.update_meta(other_mounts=self.environment.elsewhere.meta())

    def _look_after_daemons(self) -> None:
        for observed in self.environment.deaths():
            daemon, at_s = observed.mount.daemon, ((observed.ended_ns or 0) - self.start_ns) / 1e9
            sentence = (
                f"cvmfs2 (pid {daemon.pid if daemon else '?'}) of {observed.mount.path} exited while it was traced, at "
                f"{at_s:.1f} s; from there on nothing of it is seen"
            )
            self.missing.append(sentence)
            if observed.is_named or len(self.environment.observed) == 1:  # another may be none of the user's business
                self.options.say(sentence)
            self.writer.update_meta(mounts=self._mounts_meta(), missing=self._missing())

    def _look_after_mounts(self) -> None:
        """Observe mounts that appear. Their pages and requests at once, their daemons when they said who they are."""
        adding = self.probe if isinstance(self.probe, AddsScope) else None
        appeared = self.new_mounts.appeared()
        self.environment.elsewhere.observe(point.device for point in appeared)
        if appeared and adding:
            adding.add_scope((), [point.device for point in appeared])
        self._add_others(self.environment.elsewhere.look())
        for observed, managers, watched in self.new_mounts.described():
            self.environment = self.environment.with_mount(observed)
            if adding:
                found = replace(self.environment, observed=(observed,), managers=tuple(managers))
                adding.add_scope(found.daemons(), (observed.mount.device,))
            watched.set()
            at_s = (time.monotonic_ns() - self.start_ns) / 1e9
            self.missing.append(
                f"{observed.mount.path} was mounted while the recording ran: what its cvmfs2 did before {at_s:.1f} s is not seen"
            )
            self.writer.update_meta(mounts=self._mounts_meta(), missing=self._missing())
        if self.new_mounts.counted.is_set():
            self.new_mounts.counted.clear()
            self.writer.update_meta(mounts=self._mounts_meta())

    def _stop(self, marks: _Marks | None = None) -> None:
        if self.options.watch is not None:
            self.options.watch.close()
        self._look_after_daemons()
        self._keep()
        self.new_mounts.close()
        self.probe.stop()
        while self._keep():
            pass
        if marks is not None:
            events = marks.write_to(self.writer, self.numbers, self.calls)
            self.calls.append(events[events["kind"] == Kind.PHASE])
            if self.options.ort_profile:
                self._add_profile(marks)

    def _add_profile(self, marks: _Marks) -> None:
        from cvtrace.tracer.profile import nodes_of, read_profiles  # loads pyarrow

        with acting_as(marks.user):
            profiles = read_profiles(marks.path.parent)
        redaction = self.writer.redaction
        nodes, missing = nodes_of(profiles, self.calls, redaction.node if redaction else str)
        self.missing += missing
        for name, data in zip(PROFILES, () if redaction else profiles, strict=False):  # they are full of names
            self.writer.add_file(name, data)
        if nodes is not None:
            self.writer.add_file(NODES_PARQUET, nodes)

    def _finish(self, target: Target | None, end: str, end_ns: int) -> None:
        losses = self.probe.losses()
        self.writer.finish(
            self.options.progress,
            target=self._target_meta(target),
            clock=self._clock(end_ns),
            mounts=self._mounts_meta(),
            other_mounts=self.environment.elsewhere.meta(),
            missing=self._missing(),
            lost={name: count for name, count in losses.by_kind.items() if count},
            lost_by_cpu=losses.by_cpu,
            end=end,
            recorder=self._recorder_meta(),
        )
        if losses.total and self.probe.name == "ebpf":
            self.options.say(_too_small(losses.total, self.options.settings.buffer_bytes))
        if self.writer.error and not self.told_error:
            self.options.say(self.writer.error)

    def _recorder_meta(self) -> dict[str, Any]:
        """Return what the recording itself has cost so far."""
        max_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        costs = getattr(self.probe, "costs", {})  # of those that can tell
        return {"drain_cpu_s": self.drain_ns / 1e9, "max_rss_bytes": max_rss_bytes, **costs}

    def _missing(self) -> list[str]:
        said = [*self.missing, *self.probe.missing(), *self.environment.errors(self._server_of)]
        if getattr(self.probe, "marks_phases", False):  # the target loaded a library that can be observed
            said = [sentence for sentence in said if sentence != MARKED]
        return list(dict.fromkeys(said))

    def _mounts_meta(self) -> list[dict[str, Any]]:
        library_of = getattr(self.probe, "client_library", lambda _: None)  # only some probes can tell
        return [
            observed.meta() | self.environment.client_meta(observed, library_of) | self._daemon_meta(observed)
            for observed in self.environment.observed
        ]

    def _daemon_meta(self, observed: Observed) -> dict[str, Any]:
        """Return the daemon's number in the initial PID namespace, as the events have it."""
        daemon = observed.mount.daemon
        if not isinstance(self.probe, KnowsNumbers) or (daemon is not None and sees_initial()):
            return {}
        known = None if daemon is None else self.probe.kernel_number(daemon.pid)
        server = self._server_of(observed.mount.device)
        return {"daemon_pid": known or server} | ({"error": None} if daemon is None and server else {})

    def _server_of(self, device: int) -> int | None:
        return self.probe.server_of(device) if isinstance(self.probe, KnowsNumbers) else None

    def _kernel_number(self, pid: int) -> int:
        """Return the number that the events have of a process."""
        return (self.probe.kernel_number(pid) if isinstance(self.probe, KnowsNumbers) else None) or pid

    def _target_meta(self, target: Target | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if target is not None:
            found = {"pid": self._kernel_number(target.pid), "exit_code": target.exit_code, "signal": target.signal}
        return {**_target_meta(self.command), **found}

    def _clock(self, end_ns: int | None) -> dict[str, int | None]:
        offset_ns = time.time_ns() - time.monotonic_ns()
        return {"start_ns": self.start_ns, "end_ns": end_ns, "realtime_offset_ns": offset_ns}


def _stop_with(target: Target, relay: Relay) -> None:
    """Stop the caller's job as the target was stopped, with Ctrl-Z say; once the job goes on, let the target go on."""
    relay.suspend()
    noted = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTSTP)  # and here it stays until it goes on
    signal.signal(signal.SIGTSTP, noted)
    relay.resume()
    target.send(signal.SIGCONT)


def _too_small(lost: int, buffer_bytes: int | None) -> str:
    larger = BUFFER_STEP * (buffer_bytes or BUFFER_BYTES)
    return f"{lost:,} events lost: run again with --buffer {math.ceil(larger / 1e6)}MB"


class _Marks:
    """Phase marks that the target writes itself: `cvtrace.phase`, and what the import hook wraps."""

    def __init__(self, path: Path, environ: dict[str, str], user: User) -> None:
        self.path = path
        self.environ = environ
        self.user = user

    def write_to(self, writer: TraceWriter, numbers: Numbers, calls: Sequence[Events]) -> Events:
        """Add the marks to the trace, without those of `calls`, which the probe has seen, and return them."""
        with acting_as(self.user):  # what the target points to, it must be able to read itself
            data = written(self.path)
        raw = without_doubles(numbers.translate(raw_records(data)), calls)
        events, texts = parse_marks(raw.tobytes(), time.monotonic_ns())
        writer.write(events, texts)
        return events


@contextlib.contextmanager
def _phase_marks(command: Command, counted: tuple[Counted, ...], *, genai: bool, profiled: bool) -> Iterator[_Marks]:
    environ = dict(command.environ)
    try:
        with acting_as(command.user):
            folder = Path(tempfile.mkdtemp(prefix="cvtrace-marks-"))
    except OSError as error:
        raise CannotObserve(
            f"{command.user.name} cannot create a folder in {tempfile.gettempdir()} ({error.strerror}), where the target's marks go: "
            "set TMPDIR to one that can be written to"
        ) from error
    marks = folder / "marks"
    profile = str(folder / PROFILE_PREFIX) if profiled else ""
    try:
        yield _Marks(marks, environment(marks, environ, counted, genai=genai, profile=profile), command.user)
    finally:
        with acting_as(command.user):
            shutil.rmtree(folder, ignore_errors=True)


def create_writer(command: Command, options: Options) -> TraceWriter:
    """Create the trace's folder. Raises TraceExists or TraceUnwritable."""
    now = datetime.datetime.now().astimezone()
    meta: dict[str, Any] = {
        "cvtrace": cvtrace.__version__,
        "started": now.isoformat(),
        "host": platform.node(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "pid_namespace": None if sees_initial() else own_namespace(),
        "target": _target_meta(command),
        "clock": {"start_ns": None, "end_ns": None, "realtime_offset_ns": time.time_ns() - time.monotonic_ns()},
        "probe": None,
        "missing": [],
        "lost": {},
        "mounts": [],
        "events": 0,
        "texts": 0,
        "end": None,
    }
    redaction = Redaction() if options.redact else None
    if options.directory is not None:
        return TraceWriter(options.directory, meta, options.owner, force=options.force, redaction=redaction)
    title = "run" if options.redact else re.sub(r"[^A-Za-z0-9._-]", "_", Path(command.title).stem)
    name = f"cvtrace-{title}-{now:%Y%m%d-%H%M%S}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        with contextlib.suppress(TraceExists):  # two recordings within one second
            return TraceWriter(Path(name + suffix), meta, options.owner, redaction=redaction)
    raise TraceExists(f"{name} is already there: choose another folder with -o DIR")


def _argv_meta(argv: Sequence[str]) -> dict[str, Any]:
    """Return the command line without what is known to be a password, and cut where it is longer than a report shows."""
    kept: list[str] = []
    left = MOST_ARGUMENT_CHARACTERS
    for word in hidden(argv)[:MOST_ARGUMENTS]:
        if len(word) > left:
            break
        kept.append(word[:LONGEST_ARGUMENT])
        left -= len(word)
    return {"argv": kept, **({"argv_left_out": len(argv) - len(kept)} if len(kept) < len(argv) else {})}


def _target_meta(command: Command) -> dict[str, Any]:
    return {
        **_argv_meta(command.argv),
        "pid": None,
        "cwd": os.getcwd(),  # noqa: PTH109 - as a string for JSON
        "user": command.user.name,
        "exit_code": None,
    }
