"""One run of the script, from its start to its end. What it prints goes into a file, its input is empty, and Ctrl-C ends it with all its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.bench.times import RunTimes, run_times
from cvtrace.experiment.copies import LocalCopy
from cvtrace.experiment.errors import NotReachable, ScriptFailed
from cvtrace.experiment.files import rights_of
from cvtrace.experiment.states import rights_suffice
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.phases.hook import HOOK, parse_marks, written
from cvtrace.tracer.marks import phase_marks
from cvtrace.tracer.origin import new_keyring
from cvtrace.tracer.target import Command, find_command
from cvtrace.tracer.user import User, acting_as, switch_user

PACKAGES: Final = "onnxruntime,onnxruntime_genai"
"""What the hook wraps in an untraced run: no imports, which would cost time."""
ANALYSIS_S: Final = 600.0
GRACE_S: Final = 5.0
TIMED_OUT: Final = 124
"""Exit code of a run that was ended for its time, as timeout(1) has it."""
RECORDER_S: Final = 60.0
"""What `cvtrace run` may take besides to begin and to end a recording, on a busy machine; twice the time of the script is for the trace."""
LAST_LINES_BYTES: Final = 4096


@dataclass(frozen=True)
class Ended:
    """What is known of a run that has ended; `classes` and what follows are of a traced one."""

    exit_code: int
    total_s: float
    times: RunTimes
    classes: dict[str, float]
    verdict: str = ""
    bytes_read: int | None = None
    reads: int | None = None
    fetches: int | None = None
    bytes_fetched: int | None = None
    trouble: str = ""
    """Why the run does not count, whatever its exit code: it took too long, or its trace could not be used."""


@dataclass(frozen=True)
class Script:
    """What is run, as whom, and from where."""

    argv: tuple[str, ...]
    python: str | None
    directory: Path
    user: User
    caller: User
    timeout_s: float | None = None
    """How long a run may take."""

    @property
    def is_python(self) -> bool:
        """Whether an interpreter runs it that marks its calls."""
        return self.command(None).python is not None

    def words(self, copy: LocalCopy | None) -> tuple[str, ...]:
        """Return the arguments; with a copy that cannot be bound over the files, those that name it."""
        return self.argv if copy is None or rights_suffice() else copy.substituted(self.argv, self.directory)

    def command(self, copy: LocalCopy | None) -> Command:
        """Return the command line; with a copy that cannot be bound over the files, the one that names it. Raises WrongTarget."""
        return find_command(list(self.words(copy)), self.python, os.environ, self.user, self.caller)


def run_untraced(script: Script, copy: LocalCopy | None, output: Path) -> Ended:
    """Run the script with nothing but the marks of its calls. Raises WrongTarget, OSError, KeyboardInterrupt."""
    command = script.command(copy)
    with phase_marks(command, (), genai=True, profiled=False) as marks:
        environ = {**marks.environ, HOOK: PACKAGES}
        prepare = partial(_become, command, copy)
        limit_s = script.timeout_s
        exit_code, total_s = _run(list(command.argv), command.executable, environ, prepare, script, output, limit_s)
        with acting_as(command.user):
            events, texts = parse_marks(written(marks.path), time.monotonic_ns())
    if exit_code is None:
        return _took_too_long(limit_s, total_s)
    return Ended(exit_code, total_s, run_times(events, texts), {})


def _took_too_long(limit_s: float | None, total_s: float) -> Ended:
    trouble = f"the run did not end within {limit_s:g} s and was ended (--timeout)"
    return Ended(TIMED_OUT, total_s, RunTimes(), {}, trouble=trouble)


def run_with_calls(script: Script, copy: LocalCopy | None, output: Path, trace: Path) -> Ended:
    """Run a program that is not Python while the kernel tells of its calls of the GenAI library, and of nothing else.

    `trace` is made for it and removed. Raises WrongTarget, OSError, KeyboardInterrupt.
    """
    try:
        exit_code, total_s, limit_s = _recorded(script, copy, output, trace, "cvtrace.calls_alone", ())
        if exit_code is None:
            return _took_too_long(limit_s, total_s)
        answer, trouble = _asked_of_trace(_timed, script, trace)
    finally:
        with acting_as(script.user):
            shutil.rmtree(trace, ignore_errors=True)
    if answer is None:
        return Ended(exit_code, total_s, RunTimes(), {}, trouble=trouble)
    return Ended(exit_code, answer["total_s"], RunTimes(**answer["times"]), {})


def run_traced(script: Script, copy: LocalCopy | None, output: Path, trace: Path, mounts: Sequence[str]) -> Ended:
    """Run the script under `cvtrace run`, which leaves a trace, and analyse it. Raises WrongTarget, OSError, KeyboardInterrupt."""
    exit_code, total_s, limit_s = _recorded(script, copy, output, trace, "cvtrace", mounts)
    if exit_code is None:
        return _took_too_long(limit_s, total_s)
    answer, trouble = _asked_of_trace(_analysed, script, trace)
    if answer is None:
        return Ended(exit_code, total_s, RunTimes(), {}, trouble=trouble)
    times = RunTimes(**answer.pop("times"))
    return Ended(exit_code, times=times, **answer)


def _asked_of_trace(
    ask: Callable[[str, Callable[[], None]], dict[str, Any]], script: Script, trace: Path
) -> tuple[dict[str, Any] | None, str]:
    """Return what a child reads from a trace, or None and why it cannot."""
    try:
        return within(ANALYSIS_S, partial(ask, str(trace), rights_of(script.user))), ""
    except (NoAnswer, OSError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
        return None, f"the trace could not be analysed: {reason}"


def _recorded(
    script: Script, copy: LocalCopy | None, output: Path, trace: Path, module: str, mounts: Sequence[str]
) -> tuple[int | None, float, float | None]:
    """Run the script under `cvtrace run`, which Python has as `module`; return what `_run` does, and how long it might have taken."""
    argv = script.words(copy)
    with acting_as(script.user):
        shutil.rmtree(trace, ignore_errors=True)  # left by a run that was interrupted: no row names it
    command = [sys.executable, "-P", "-m", module, "run", "-o", str(trace), "--no-summary"]
    command += [word for mount in mounts for word in ("--mount", mount)]
    command += ["--python", script.python] if script.python else []
    command += [] if argv[0].endswith(".py") else ["--"]
    limit_s = None if script.timeout_s is None else 2 * script.timeout_s + RECORDER_S
    prepare = partial(_bind, copy)
    ended = _run([*command, *argv], sys.executable, _called_by(script), prepare, script, output, limit_s)
    return *ended, limit_s


def _called_by(script: Script) -> dict[str, str]:
    """Return the environment in which `cvtrace run` takes the script's user for its caller, who gets the trace."""
    if script.user.uid == script.caller.uid:
        return dict(os.environ)
    others = {name: value for name, value in os.environ.items() if name not in ("DOAS_USER", "PKEXEC_UID")}
    return others | {"SUDO_UID": str(script.user.uid), "SUDO_GID": str(script.user.gid)}


def _bind(copy: LocalCopy | None) -> None:
    if copy is not None and rights_suffice():
        copy.bind()


def _become(command: Command, copy: LocalCopy | None) -> None:
    """In the child, before its exec."""
    _bind(copy)
    if command.user.is_other:
        folder = os.getcwd()  # noqa: PTH109
        switch_user(command.user)
        if command.is_apart:
            new_keyring()
        os.chdir(folder)  # by its name, as that user


def _run(
    argv: list[str],
    executable: str,
    environ: dict[str, str],
    prepare: Callable[[], None],
    script: Script,
    output: Path,
    limit_s: float | None,
) -> tuple[int | None, float]:
    """Return the exit code (128+n for signal n; None if the run took too long) and the seconds from before the fork to the end."""
    with acting_as(script.user):
        stream = output.open("wb")
    with stream:
        start_s = time.monotonic()
        try:
            process = subprocess.Popen(
                argv,
                executable=executable,
                env=environ,
                cwd=script.directory,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepare,  # the threads of this process hold no lock of the interpreter's at this moment
            )
        except OSError as failure:
            raise ScriptFailed(f"cannot run {argv[0]}: {failure.strerror or failure}") from None
        except subprocess.SubprocessError:  # all that Python tells of a failure in `prepare`
            raise NotReachable(
                "local cannot be reached: the copy could not be put over the files in a mount namespace, which containers may forbid: "
                "leave the state out with --states"
            ) from None
        try:
            code = process.wait(limit_s)
            total_s = time.monotonic() - start_s
        except subprocess.TimeoutExpired:
            total_s = time.monotonic() - start_s
            _end(process)
            return None, total_s
        except BaseException:
            _end(process)
            raise
    return (128 - code if code < 0 else code), total_s


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run that was interrupted or takes too long, with all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with _uninterrupted():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C wait until what the first one began is done."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _timed(path: str, switch: Callable[[], None]) -> dict[str, Any]:
    """In the child, with the rights of the user whose trace it is: the times of the calls, and how long the program lived."""
    from cvtrace.analysis.joins.library_calls import life
    from cvtrace.analysis.trace.recording import recording
    from cvtrace.tracer.errors import TraceDamaged
    from cvtrace.tracer.store import read_trace

    switch()
    try:
        trace = read_trace(path)
        start_ns, end_ns = life(recording(trace))
    except TraceDamaged as reason:
        raise OSError(None, str(reason)) from None
    return {"total_s": (end_ns - start_ns) / 1e9, "times": vars(run_times(trace.events, trace.texts))}


def _analysed(path: str, switch: Callable[[], None]) -> dict[str, Any]:
    """In the child, with the rights of the user whose trace it is, who may have no right to read this program's own files."""
    from cvtrace.analysis import analyse
    from cvtrace.tracer.errors import TraceDamaged
    from cvtrace.tracer.store import read_trace

    switch()
    try:
        trace = read_trace(path)
        report = analyse(trace)
    except TraceDamaged as reason:
        raise OSError(None, str(reason)) from None
    loads = [phase for phase in report.phases if phase.name == "load"]
    chosen = loads or list(report.phases)
    classes = {name: sum(phase.classes[name] for phase in chosen) for name in chosen[0].classes} if chosen else {}
    times = run_times(trace.events, trace.texts)
    return {
        "total_s": report.trace.duration_s,
        "times": {**vars(times), "tokens": report.verdict.tokens if times.tokens else times.tokens},
        "classes": classes,
        "verdict": report.verdict.answer,
        "bytes_read": _sum(phase.fuse_read_bytes for phase in report.phases),
        "bytes_fetched": _sum(phase.http_bytes for phase in report.phases),
        "reads": _sum(phase.fuse_reads for phase in report.phases),
        "fetches": _sum(phase.http_fetches for phase in report.phases),
    }


def _sum(values: Iterator[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(each or 0 for each in known)


def last_line(output: Path, user: User) -> str:
    """Return the last line that a run printed."""
    with acting_as(user), contextlib.suppress(OSError), output.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - LAST_LINES_BYTES))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
    return ""
