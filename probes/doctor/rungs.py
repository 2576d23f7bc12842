"""The rungs `strace` and `portable`: a process is really traced, an attribute is really read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from cvtrace.probes.command import SUDO
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, WARNING, Finding
from cvtrace.probes.doctor.model import AsUser
from cvtrace.probes.phases.hook import environment
from cvtrace.probes.trusted import trusted_program

PTRACE_SCOPE: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
PARANOID: Final = Path("/proc/sys/kernel/perf_event_paranoid")
DEADLINE_S: Final = 1.5
ARMED: Final = "import sys; print(any(type(each).__module__ == '_cvtrace_marks' for each in sys.meta_path))"
"""Whether the import hook waits in an interpreter."""


def examine_strace() -> list[Finding]:
    """Trace a process of our own."""
    program = trusted_program("strace")
    if program is None:
        mend = "apt install strace, or dnf install strace"
        return [Finding("strace", "strace", FAILED, "not installed", mend), _ptrace_scope(), _paranoid()]
    return [_attach(program), _ptrace_scope(), _paranoid()]


def _attach(program: str) -> Finding:
    with subprocess.Popen([trusted_program("sleep") or "/bin/sleep", "60"], stdin=subprocess.DEVNULL) as victim:
        command = [program, "-f", "-qq", "-e", "trace=none", "-o", os.devnull, "-p", str(victim.pid)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
            attached = _traced_by(victim.pid, tracer)
            with contextlib.suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGINT)
            victim.kill()
            message = tracer.communicate()[1].strip()
    if attached:
        return Finding("strace", "strace", OK, "attached to a process and detached")
    reason = (message.splitlines() or ["it did not attach in time"])[0]
    return Finding("strace", "strace", FAILED, reason, f"{SUDO} run …; in a container: --cap-add SYS_PTRACE")


def _traced_by(pid: int, tracer: subprocess.Popen[str]) -> bool:
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and tracer.poll() is None:
        with contextlib.suppress(OSError):
            if f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{pid}/status").read_text():
                return True
        time.sleep(0.01)
    return False


def _ptrace_scope() -> Finding:
    try:
        scope = int(PTRACE_SCOPE.read_text())
    except (OSError, ValueError):
        return Finding("strace", "ptrace_scope", OK, "Yama does not restrict ptrace here")
    if scope == 0 or (scope < 3 and os.geteuid() == 0):
        return Finding("strace", "ptrace_scope", OK, f"{scope}: this user may attach")
    sentence = (
        f"{scope}: nobody may attach" if scope == 3 else f"{scope}: without root, processes cannot be attached to"
    )
    mend = "reboot: 3 cannot be lowered" if scope == 3 else "sysctl kernel.yama.ptrace_scope=0, or sudo"
    return Finding("strace", "ptrace_scope", FAILED, sentence, mend)


def _paranoid() -> Finding:
    try:
        level = int(PARANOID.read_text())
    except (OSError, ValueError):
        return Finding("strace", "perf_event_paranoid", UNKNOWN, "this system does not say")
    if level <= 1 or os.geteuid() == 0:
        return Finding("strace", "perf_event_paranoid", OK, f"{level}: does not restrict this user")
    sentence = f"{level}: perf events are for root only; cvtrace does not need them without root"
    return Finding("strace", "perf_event_paranoid", OK, sentence)


def examine_portable(
    python: str | None, environ: Mapping[str, str] = os.environ, as_user: AsUser | None = None
) -> list[Finding]:
    """Arm the import hook in the target's interpreter, and sample a process."""
    return [_hook(python or sys.executable, environ, as_user), _samples()]


def _hook(python: str, environ: Mapping[str, str], as_user: AsUser | None) -> Finding:
    becoming: dict[str, Any] = {}
    if as_user is not None:
        becoming = {"user": as_user.uid, "group": as_user.gid, "extra_groups": as_user.groups}
    try:
        result = subprocess.run(
            [python, "-c", ARMED],
            env=environment(Path(os.devnull), environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            start_new_session=True,
            **becoming,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("portable", "import_hook", FAILED, f"{python}: {error}", "name another with --python PATH")
    if result.stdout.strip() == "True":
        return Finding("portable", "import_hook", OK, f"{python} loads it: phases are marked")
    sentence = f"{python} does not load it (PYTHONPATH is ignored): phases cannot be distinguished"
    return Finding("portable", "import_hook", FAILED, sentence, "name another interpreter with --python PATH")


def _samples() -> Finding:
    from cvtrace.probes.portable.processes import usage

    missing = {"process.cpu_ns", "process.rss_bytes", "process.major_faults"} - set(usage(psutil.Process()))
    if missing:
        return Finding("portable", "samples", WARNING, f"this system does not show {', '.join(sorted(missing))}")
    return Finding("portable", "samples", OK, "CPU time, memory and page faults of a process can be read")
