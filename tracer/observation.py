"""What the parts of one recording share: the probe, the trace, the mounts, and what the trace says of all that in meta.json."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.cvmfs.choice import MountChoice
from cvtrace.probes.ladder import start_probe
from cvtrace.probes.namespaces import sees_initial
from cvtrace.probes.phases.library import LIBRARY
from cvtrace.probes.probe import KnowsNumbers, MarksPhases, Probe, SeesClientFunctions
from cvtrace.tracer.environment import Environment, Observed, find_environment
from cvtrace.tracer.new_trace import clock_meta, create_writer
from cvtrace.tracer.opening import OpenFile
from cvtrace.tracer.options import Options
from cvtrace.tracer.preload import preloading
from cvtrace.tracer.store import TraceWriter
from cvtrace.tracer.target import Command

MARKED: Final = (
    "phases are marked by an import hook, as no libonnxruntime-genai.so can be observed: they are missing where the "
    "target is not Python or ignores PYTHONPATH"
)

OWN_SYMBOLS: Final = (
    "the symbols that --phases names are not marked: only eBPF sees calls of libraries (run cvtrace as root)"
)


@dataclass
class Observation:
    """One recording, from when its probe observes."""

    command: Command
    options: Options
    writer: TraceWriter
    environment: Environment
    probe: Probe
    has_libraries: bool
    """Whether a GenAI library of the target is known."""
    missing: list[str]
    """Sentences about what is not seen, besides those of the probe and of the mounts."""
    start_ns: int = 0

    @property
    def marks_phases(self) -> bool:
        """Whether the probe sees the calls of a library that was known before the target began."""
        return self.has_libraries and isinstance(self.probe, MarksPhases)

    def abandon(self) -> None:
        """Stop observing and remove the trace: nothing was recorded."""
        try:
            self.probe.stop()
        finally:
            self.writer.abandon()

    def say_begun(self, title: str, addition: str = "") -> None:
        """Say on a terminal what is recorded, how, and into which folder."""
        if self.options.note is not None:
            now = datetime.datetime.now().strftime("%H:%M:%S")
            self.options.note(
                f"recording {title} with {self.probe.title} since {now}, into {self.writer.path}{addition}"
            )

    def missing_meta(self) -> list[str]:
        """Return one sentence for each thing that is not seen."""
        sentences = [*self.missing, *self.probe.missing(), *self.environment.errors(self.server_of)]
        if (
            isinstance(self.probe, MarksPhases) and self.probe.marks_phases
        ):  # the target may have loaded a library since
            sentences = [sentence for sentence in sentences if sentence != MARKED]
        return list(dict.fromkeys(sentences))

    def mounts_meta(self) -> list[dict[str, Any]]:
        """Return the observed mounts as meta.json has them."""
        library_of = self.probe.client_library if isinstance(self.probe, SeesClientFunctions) else lambda pid: None
        return [
            observed.meta() | self.environment.client_meta(observed, library_of) | self._daemon_meta(observed)
            for observed in self.environment.observed
        ]

    def update_mounts(self) -> None:
        """Let meta.json say what is known of the mounts now."""
        self.writer.update_meta(mounts=self.mounts_meta(), missing=self.missing_meta())

    def clock_meta(self, end_ns: int | None = None) -> dict[str, int | None]:
        """Return when the recording began and ended."""
        return clock_meta(self.start_ns, end_ns)

    def _daemon_meta(self, observed: Observed) -> dict[str, Any]:
        """Return the daemon's number in the initial PID namespace, as the events have it."""
        daemon = observed.mount.daemon
        if not isinstance(self.probe, KnowsNumbers) or (daemon is not None and sees_initial()):
            return {}
        number = None if daemon is None else self.probe.kernel_number(daemon.pid)
        server = self.server_of(observed.mount.device)
        return {"daemon_pid": number or server} | ({"error": None} if daemon is None and server else {})

    def server_of(self, device: int) -> int | None:
        """Return the number of who answers requests on a mount (st_dev), None if that is not known."""
        return self.probe.server_of(device) if isinstance(self.probe, KnowsNumbers) else None

    def kernel_number(self, pid: int) -> int:
        """Return the number that the events have of a process."""
        return (self.probe.kernel_number(pid) if isinstance(self.probe, KnowsNumbers) else None) or pid


@dataclass(frozen=True)
class Subject:
    """What is to be recorded, as far as it is known before anything is observed."""

    command: Command
    cwd: str
    uid: int
    """Whom it runs as."""
    open_libraries: Callable[[contextlib.ExitStack], Sequence[OpenFile]]
    """Opens the libraries of runtimes that it may load, until the stack is closed."""
    again: str = "run …"
    """How the verb is called, for sentences that tell to do so with more rights."""
    check: Callable[[Environment], None] = lambda environment: None
    """Raises if it cannot be recorded beside these daemons."""


def observe(subject: Subject, options: Options) -> Observation:
    """Find the mounts, create the trace, and start a probe.

    Raises CannotObserve, TraceExists, TraceUnwritable, or what `check` raises; then nothing is left behind.
    """
    command, writer = subject.command, create_writer(subject.command, options)
    try:
        users = frozenset({os.geteuid(), options.owner.uid, subject.uid})
        environment = find_environment(MountChoice.of(options.mounts, subject.cwd, command.argv, users))
        if writer.redaction is not None:
            writer.redaction.show(observed.mount.path for observed in environment.observed)
        subject.check(environment)
        with contextlib.ExitStack() as files:
            opened = subject.open_libraries(files)
            libraries = tuple(library.pinned for library in opened)
            with preloading():
                started = start_probe(options.probes, environment.scope(libraries), options.settings)
    except BaseException:
        writer.abandon()
        raise
    has_libraries = any(LIBRARY in os.path.basename(library.path) for library in opened)  # noqa: PTH119 - a text
    refusals = [refusal.replace("cvtrace run …", f"cvtrace {subject.again}") for refusal in started.refusals]
    for refusal in refusals:
        options.say(refusal)
    return Observation(command, options, writer, environment, started.probe, has_libraries, refusals)
