"""What /proc says of traced processes."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

STOPS: Final = 3
"""How often a waiting thread gives up its CPU until strace observes its call: two stops, and the wait that goes on."""
YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")


def task_ids(pid: int) -> list[int]:
    """Return the threads of a process; none if it is gone."""
    try:
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def status_field(tid: int, field: str) -> str:
    """Return a field of /proc/TID/status, "" if the thread is gone."""
    try:
        text = Path(f"/proc/{tid}/status").read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return ""


def tracer_of(tid: int) -> int:
    """Return the process that traces a thread, 0 if there is none."""
    return int(status_field(tid, "TracerPid") or 0)


def stops_of(pid: int) -> dict[int, int]:
    """Return how often each thread of a process gave up its CPU by itself; it does so at each stop for a tracer, too."""
    return {tid: int(status_field(tid, "voluntary_ctxt_switches") or 0) for tid in task_ids(pid)}


def have_settled(pid: int, before: dict[int, int]) -> bool:
    """Return whether every thread that waited in a system call when strace attached waits there again, now observed.

    It stopped to be attached, stopped again as the call began anew, and waits. Until then it may return from the
    call that strace has not seen begin, with a request of FUSE for example.
    """
    return all(stops >= before.get(tid, -STOPS) + STOPS for tid, stops in stops_of(pid).items())


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    return status_field(pid, "State")[:1] not in ("", "Z", "X")


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped, by a signal or by its tracer."""
    return status_field(pid, "State")[:1] in ("T", "t")


def with_argument(argument: str) -> list[int]:
    """Return the processes that have this word on their command line."""
    word = b"\0" + os.fsencode(argument) + b"\0"
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if word in (process / "cmdline").read_bytes():
                    pids.append(int(process.name))
    return pids


def let_run(pid: int) -> None:
    """Continue a process that was left stopped."""
    if status_field(pid, "State")[:1] == "T":
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def ptrace_is_restricted() -> bool:
    """Return whether Yama lets a process be traced by its ancestors or by root only."""
    try:
        return YAMA.read_text().strip() != "0"
    except OSError:
        return False
