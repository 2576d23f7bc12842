"""Runs a command untraced, under cvtrace, and under the tools one would take otherwise, the client's daemon included."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
ATTACH_S = 15.0

Run = Callable[[Sequence[str], int], str]
"""Runs a command while the daemon of that number is traced as well (0: there is none); returns what it printed."""


@dataclass(frozen=True)
class Traced:
    """What a run under cvtrace left: its output, the trace's meta data and the recorder's memory while it recorded."""

    stdout: str
    meta: dict[str, Any]
    trace: Path
    rss_bytes: int


def last_json(printed: str) -> Any:
    """Return what a target printed: the last line that is JSON; some tools print lines of their own after it."""
    for line in reversed(printed.splitlines()):
        if re.fullmatch(r"\{.*\}|[0-9.]+", line):
            return json.loads(line)
    raise SystemExit(f"benchmark: the target printed nothing that can be read: {printed[-200:]!r}")


def untraced(argv: Sequence[str], daemon: int = 0) -> str:
    """Run `argv`; return what it printed. Raises CalledProcessError."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def cvtrace(
    argv: Sequence[str],
    trace: Path,
    *options: str,
    module: Sequence[str] = ("cvtrace",),
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Traced:
    """Run `argv` under `cvtrace run --probes ebpf`; the trace goes to `trace`, replacing an older one.

    `module` is what Python is to run as cvtrace, with arguments of its own.
    """
    shutil.rmtree(trace, ignore_errors=True)
    command = [sys.executable, "-m", *module, "run", "--probes", "ebpf", "--no-summary", "-o", str(trace), *options]
    recorder = subprocess.Popen(
        [*command, "--", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    memory = [0]
    watcher = threading.Thread(target=_watch, args=(recorder.pid, trace, memory))
    watcher.start()
    stdout, stderr = recorder.communicate()
    watcher.join()
    if recorder.returncode:
        raise SystemExit(
            f"benchmark: {' '.join(argv)} under cvtrace ended with {recorder.returncode}: {stderr.strip()}"
        )
    return Traced(stdout, json.loads((trace / "meta.json").read_text()), trace, memory[0])


def _watch(pid: int, trace: Path, memory: list[int]) -> None:
    """Keep the largest VmRSS of the recorder until it finishes the trace."""
    with contextlib.suppress(OSError, StopIteration):
        while not any((trace / name).exists() for name in ("events.parquet.new", "events.parquet")):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            memory[0] = max(memory[0], int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10)
            time.sleep(0.05)


def strace(argv: Sequence[str], daemon: int = 0) -> str:
    """Run `argv` under strace."""
    with _beside(["strace", "-f", "-o", "/dev/null", "-p", str(daemon)] if daemon else [], daemon):
        return untraced(["strace", "-f", "-o", "/dev/null", *argv])


def perf_trace(argv: Sequence[str], daemon: int = 0) -> str:
    """Run `argv` under perf trace."""
    with _beside(["perf", "trace", "-o", "/dev/null", "-p", str(daemon)] if daemon else [], 0):
        return untraced(["perf", "trace", "-o", "/dev/null", "--", *argv])


_CALLS = ("read", "pread64", "openat", "mmap", "write", "writev", "sendto", "recvfrom", "futex")


def bpftrace(argv: Sequence[str], daemon: int = 0) -> str:
    """Run `argv` under bpftrace, which prints each of nine calls with its duration."""
    is_cpid = f"pid == cpid || pid == {daemon}"
    entered = ",".join(f"tracepoint:syscalls:sys_enter_{name}" for name in _CALLS)
    events = ",".join(f"tracepoint:syscalls:sys_exit_{name}" for name in _CALLS)
    program = (
        f"{entered} /{is_cpid}/ {{ @at[tid] = nsecs; }} "
        f'{events} /@at[tid]/ {{ printf("%d %s %d %d\\n", tid, probe, args->ret, nsecs - @at[tid]); delete(@at[tid]); }}'
    )
    command = shlex.join([shutil.which(argv[0]) or argv[0], *argv[1:]])
    return untraced(["bpftrace", "-q", "-o", "/dev/null", "-e", program, "-c", command])


OTHER_TRACERS: dict[str, tuple[str, str, Run]] = {
    "strace": ("strace", "strace", strace),
    "perf trace": ("perf", "linux-perf", perf_trace),
    "bpftrace": ("bpftrace", "bpftrace", bpftrace),
}
"""Name -> its program, the package that has it, and how to run a command under it."""


def available_tracers(say: Callable[[str], None]) -> dict[str, Run]:
    """Return the other tools that are installed and work here; says why one is left out."""
    tracers = {}
    for name, (program, package, run) in OTHER_TRACERS.items():
        if shutil.which(program) is None:
            say(f"{name} is not installed (apt install {package}): left out")
            continue
        try:
            run(["true"], 0)
        except subprocess.CalledProcessError as error:
            say(f"{name} does not work here: left out ({(error.stderr.splitlines() or ['no word'])[-1]})")
            continue
        tracers[name] = run
    return tracers


@contextlib.contextmanager
def _beside(argv: list[str], ptraced: int) -> Iterator[None]:
    """Let a tracer run beside, once it is attached."""
    if not argv:
        yield
        return
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + ATTACH_S
        while ptraced and not _is_traced(ptraced) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if not ptraced:
            time.sleep(0.5)  # perf does not tell when it is attached; a little less traced is in its favour
        yield
    finally:
        process.terminate()
        process.wait()


def _is_traced(pid: int) -> bool:
    statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all("TracerPid:\t0\n" not in status for status in statuses)
