"""Observing with strace: slow, but it needs neither BPF nor symbols.

OVERHEAD. Every call of a traced thread stops it twice. A cold load becomes 6 to 8 times slower, a warm one 2 to 3 times,
a loop of one-byte reads 370 times: times are those of the slowed run, counts and bytes are exact.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes import namespaces
from cvtrace.probes.capabilities import Capability
from cvtrace.probes.events import Events, Sight, Texts, no_events, no_texts
from cvtrace.probes.probe import CannotObserve, Losses, Scope
from cvtrace.probes.processes import lives
from cvtrace.probes.strace import processes
from cvtrace.probes.strace.command import DAEMON_CALLS, TARGET_CALLS, attach_command, target_command
from cvtrace.probes.strace.daemon import DaemonTranslator
from cvtrace.probes.strace.logs import Log, LogReader
from cvtrace.probes.strace.target import TargetTranslator
from cvtrace.probes.strace.translator import Translator
from cvtrace.probes.trusted import trusted_program

ATTACH_S: Final = 15.0
SETTLE_S: Final = 1.0
"""How long the threads of a daemon may take to wait for requests again; one that computes or waits for a disk does not."""
DETACH_S: Final = 10.0
GRACE_S: Final = 2.0
"""How long strace may take to end by itself after its target did."""
STEP_S: Final = 0.01
LOG: Final = "log"
"""Name of the FIFO that the target's strace writes to."""
JUMP_NS: Final = 100_000_000
"""The wall clock is led by less than this within a recording (adjtimex(2): 0.5 ms per second); more is a jump."""

MISSING: Final = (
    "strace sees no page faults: weights that are used from a mapping show only as FUSE requests of the daemon.",
    "strace sees no FUSE queue: the time between asking and the daemon's receiving is not split from the wait.",
    "strace sees no scheduler: running, being runnable and being blocked outside of a traced call cannot be distinguished.",
    "strace slows what it traces (a cold load 6 to 8 times, a warm one 2 to 3 times): counts are exact, times are not.",
)


@dataclass
class Stream:
    """One strace: its log, its translator, and its process if the probe started it (else the target became it)."""

    log: Log
    translator: Translator
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    """The process it was attached to."""
    was_stopped: bool = False
    """Whether that process had been stopped before."""
    finished: bool = False


class StraceProbe:
    """One strace per daemon and one for the target.

    `owner` is the (uid, gid) the target runs as, if not those of this process: its strace must be able to write its log.
    """

    name = "strace"
    title = "the strace probe"
    sees = frozenset({Sight.REQUESTS})
    capabilities: frozenset[Capability] = frozenset()
    helper = "strace"
    drain_every_s = 0.01

    def __init__(self, *, owner: tuple[int, int] | None = None) -> None:
        self._owner = owner
        self._strace = ""
        self._reader = LogReader()
        self._streams: list[Stream] = []
        self._folder: LogFolder | None = None
        self._fifo: Path | None = None
        self._target: int | None = None
        self._offset_ns = 0
        self._stopped = False
        self._end_ns: int | None = None
        self._others_threads: set[int] = set()
        """Threads that were seen not to be the target's, since the last drain began."""
        self._tracer = 0
        """The strace of the target, once it is known."""

    def start(self, scope: Scope) -> None:
        """Attach to every daemon. Raises CannotObserve, leaving nothing attached."""
        strace = trusted_program("strace")
        if strace is None:
            raise CannotObserve("strace is not installed: apt install strace (or dnf install strace)")
        self._strace = strace
        self._offset_ns = realtime_offset_ns()
        try:
            for daemon in scope.daemons:
                translator = DaemonTranslator(
                    realtime_offset_ns=self._offset_ns,
                    tgids=dict.fromkeys(processes.task_ids(daemon.pid), daemon.pid),
                    default_tgid=daemon.pid,
                )
                translator.is_target = self._is_target if _has_own_numbers(daemon.pid) else _is_never_target
                self._attach(daemon.pid, translator, DAEMON_CALLS)
        except BaseException:
            self.stop()
            raise

    def add_target(self, pid: int) -> None:
        """Trace a running process; one that is going to become `command()` is traced already."""
        self._target = pid
        if self._fifo is None:
            tgids = dict.fromkeys(processes.task_ids(pid), pid)
            translator = TargetTranslator(realtime_offset_ns=self._offset_ns, tgids=tgids)
            self._attach(pid, translator, TARGET_CALLS)

    def command(self, argv: list[str]) -> list[str]:
        """Return the command line that becomes `argv` under strace, with its process, parent and exit code unchanged."""
        self._folder = LogFolder(self._owner)
        self._fifo = self._folder.log
        translator = TargetTranslator(realtime_offset_ns=self._offset_ns, tgids=None)
        self._streams.append(Stream(self._reader.add(self._folder.reading), translator))
        return target_command(self._strace, argv, str(self._fifo))

    def drain(self) -> tuple[Events, Texts]:
        """Parse what the straces wrote since the last call; after `stop`, with the rest, flagged UNFINISHED."""
        self._follow_clock()
        self._others_threads.clear()
        streams = sorted(
            (stream for stream in self._streams if not stream.finished),
            key=lambda stream: isinstance(stream.translator, TargetTranslator),
        )
        # A thread is named by the target's log before it asks a daemon: that log is taken last and read first.
        lines = [(stream, stream.log.take()) for stream in streams]
        parts = [self._drain(stream, block) for stream, block in reversed(lines)]
        if not parts:
            return no_events(), no_texts()
        return np.concatenate([events for events, _ in parts]), np.concatenate([texts for _, texts in parts])

    def _follow_clock(self) -> None:
        """Notice that the wall clock jumped: strace prints its time, and it goes on while the machine is suspended."""
        offset_ns = realtime_offset_ns()
        if abs(offset_ns - self._offset_ns) > JUMP_NS:
            self._offset_ns = offset_ns
            for stream in self._streams:
                stream.translator.parser.set_offset(offset_ns)

    def _is_target(self, tid: int, ts: int) -> bool | None:
        """Return whether a thread is the target's: its log has lines of it, or the target's strace traces it.

        None for one that has ended: if it was the target's, its log will say so.
        """
        targets = [each.translator for each in self._streams if isinstance(each.translator, TargetTranslator)]
        if any(translator.had(tid, ts) for translator in targets):
            return True
        if tid in self._others_threads:
            return False
        if not self._tracer and self._target is not None:
            self._tracer = processes.tracer_of(self._target)
        if self._tracer and processes.tracer_of(tid) == self._tracer:
            return True
        if not processes.is_running(tid):  # a process that has ended has no tracer any more, whoever traced it
            return None
        self._others_threads.add(tid)
        return False

    def _drain(self, stream: Stream, lines: list[bytes]) -> tuple[Events, Texts]:
        stream.translator.parser.feed(lines)
        if isinstance(stream.translator, TargetTranslator):
            ended_ns = stream.translator.take_ended()
            for each in self._streams:
                if isinstance(each.translator, DaemonTranslator):
                    each.translator.decide(ended_ns)
        if self._stopped:
            stream.translator.finish(self._end_ns)
            stream.finished = True
        return stream.translator.columns.take()

    def stop(self) -> None:
        """Detach every strace and wait until it is gone; the daemons and a target that still runs go on as before."""
        if self._stopped:
            return
        self._end_ns = time.monotonic_ns()
        for stream in self._streams:
            if stream.process is not None and stream.process.poll() is None:
                stream.process.send_signal(signal.SIGTERM)
        self._stop_target()
        deadline = time.monotonic() + DETACH_S
        for stream in self._streams:
            if stream.process is not None:
                _end(stream.process, deadline)
                stream.log.ended.wait(GRACE_S)
                if not stream.was_stopped:
                    processes.let_run(stream.pid)
        self._reader.close()
        self._stopped = True
        if self._folder is not None:
            self._folder.remove()

    def living(self) -> tuple[int, ...]:
        """Return the processes of the target's tree that have not ended."""
        targets = [each.translator for each in self._streams if isinstance(each.translator, TargetTranslator)]
        return tuple(pid for translator in targets for pid in translator.processes() if lives(pid))

    def losses(self) -> Losses:
        """strace loses nothing; lines that could not be read are counted as `unparsed`."""
        unparsed = sum(stream.translator.parser.skipped for stream in self._streams)
        return Losses({"unparsed": unparsed} if unparsed else {})

    def missing(self) -> list[str]:
        """Return what strace cannot see."""
        return list(MISSING)

    def _attach(self, pid: int, translator: Translator, calls: tuple[str, ...]) -> None:
        if not processes.is_running(pid):
            raise CannotObserve(f"process {pid} is not running: there is nothing to attach strace to")
        if tracer := processes.tracer_of(pid):
            raise CannotObserve(f"process {pid} is already traced by process {tracer}: end that one first")
        reading, writing = os.pipe2(os.O_CLOEXEC)
        stops = processes.stops_of(pid)
        with tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    attach_command(self._strace, pid, f"/dev/fd/{writing}", calls),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    pass_fds=(writing,),
                    start_new_session=True,  # Ctrl-C is for the target
                )
            finally:
                os.close(writing)
            stopped = processes.is_stopped(pid)
            self._streams.append(Stream(self._reader.add(reading), translator, process, pid, stopped))
            _wait_attached(process, pid)
            if isinstance(translator, DaemonTranslator):
                _wait(lambda: processes.have_settled(pid, stops), process, SETTLE_S)
            if process.poll() is not None or processes.tracer_of(pid) != process.pid:
                complaints.seek(0)
                raise CannotObserve(_why_not(pid, complaints.read().decode(errors="replace")))

    def _stop_target(self) -> None:
        """Let a strace that the target became end with it, or make it detach from what still runs."""
        if self._fifo is None:
            return
        log = next(stream.log for stream in self._streams if stream.process is None)
        running = self._target is not None and processes.is_running(self._target)
        if not running and log.ended.wait(GRACE_S):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            tracers = [pid for pid in processes.with_argument(str(self._fifo)) if pid != self._target]
            for pid in tracers:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            if not tracers or log.ended.wait(DETACH_S):
                return


class LogFolder:
    """A folder of root's with the FIFO that the target's strace writes to, which is `owner`'s (uid, gid).

    Who may rename the folder may have put something else in its place at any time: everything is done by descriptors, to
    what was made here. The folder may be entered by anybody, and listed or changed by nobody else. Raises CannotObserve.
    """

    def __init__(self, owner: tuple[int, int] | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="cvtrace-strace-"))
        self.log = self.path / LOG
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self.path, flags | os.O_DIRECTORY)
            os.mkfifo(LOG, 0o600, dir_fd=self._fd)
            self.reading = os.open(LOG, flags, dir_fd=self._fd)
            status = os.fstat(self.reading)
            if (
                os.fstat(self._fd).st_uid != os.geteuid()
                or status.st_uid != os.geteuid()
                or not stat.S_ISFIFO(status.st_mode)
            ):
                raise PermissionError("it belongs to somebody else")
            if owner is not None:
                os.fchown(self.reading, *owner)
                os.fchmod(self._fd, 0o711)
        except OSError as error:
            raise CannotObserve(
                f"{self.path} was replaced while it was made ({error}): set TMPDIR to a folder that only root may change"
            ) from None

    def remove(self) -> None:
        """Remove the FIFO, and the folder if it is still there."""
        with contextlib.suppress(OSError):
            os.unlink(LOG, dir_fd=self._fd)
            os.rmdir(self.path)  # noqa: PTH106
        os.close(self._fd)


def _has_own_numbers(daemon: int) -> bool:
    """Return whether the requests that a daemon reads name threads by the numbers that this process sees."""
    return namespaces.namespace_of(daemon) == namespaces.own_namespace()


def _is_never_target(tid: int, ts: int) -> bool:
    """Tell for a daemon in another PID namespace that a request is not the target's: its number may be a stranger's."""
    return False


def realtime_offset_ns() -> int:
    """Return CLOCK_REALTIME minus CLOCK_MONOTONIC, read as closely together as possible."""
    readings = []
    for _ in range(16):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, realtime - (before + after) // 2))
    return min(readings)[1]


def _wait_attached(process: subprocess.Popen[bytes], pid: int) -> None:
    """Wait until strace traces every thread, or has given up."""
    _wait(lambda: all(processes.tracer_of(tid) == process.pid for tid in processes.task_ids(pid)), process, ATTACH_S)


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a condition while strace runs, for so long at most."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(STEP_S)


def _why_not(pid: int, complaint: str) -> str:
    if not processes.is_running(pid):
        return f"process {pid} exited while strace was attaching to it"
    if "not permitted" in complaint:
        mend = "run with sudo"
        if processes.ptrace_is_restricted():
            mend += ", or allow it with: sudo sysctl kernel.yama.ptrace_scope=0"
        return f"strace is not allowed to attach to process {pid}: {mend}"
    last = complaint.strip().splitlines()[-1:] or ["it did not attach in time"]
    return f"strace could not attach to process {pid}: {last[0]}"


def _end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a strace that was told to detach; the kernel detaches for one that has to be killed."""
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
