"""The command lines: which calls strace is told to print, and how."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Final

STRING_BYTES: Final = 384
"""Bytes of each buffer that are printed: a FUSE header and the longest LOOKUP name (40 + 256), the head of a response."""

FORMAT: Final = ("-f", "-q", "-ttt", "-T", "-yy", "-xx", "-s", str(STRING_BYTES))

TRANSLATING: Final = "--pidns-translation"
"""Has strace (5.9 and newer) say what number a process in another PID namespace has in its own."""

PROCESSES: Final = ("clone", "clone3", "fork", "vfork")

DAEMON_CALLS: Final = (
    *("read", "write", "writev", "pread64", "close"),
    *("open", "openat", "openat2", "rename", "renameat", "renameat2"),
    *("connect", "sendto", "sendmsg", "recvfrom", "recvmsg"),
    *("poll", "ppoll", "futex", "restart_syscall"),
    *PROCESSES,
)

TARGET_CALLS: Final = (
    *("open", "openat", "openat2", "creat", "read", "readv", "pread64", "preadv", "preadv2"),
    *("mmap", "munmap", "close", "dup", "dup2", "dup3", "fcntl", "chdir", "fchdir", "getdents64"),
    *("readlink", "readlinkat", "execve", "execveat", *PROCESSES),
    *("futex", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "pause"),
    *("nanosleep", "clock_nanosleep", "wait4", "waitid", "restart_syscall", "flock", "fsync"),
    *("recvfrom", "recvmsg", "accept", "accept4", "connect", "io_uring_enter"),
)


@cache
def _format(strace: str) -> tuple[str, ...]:
    """Return the options that say how to print, as far as this strace knows them."""
    knows = subprocess.run([strace, TRANSLATING, "-V"], capture_output=True, check=False).returncode == 0
    return (*FORMAT, TRANSLATING) if knows else FORMAT


def attach_command(strace: str, pid: int, output: str, calls: tuple[str, ...]) -> list[str]:
    """Return the command that traces the running process `pid` and all its threads into the file `output`."""
    return [strace, *_format(strace), "-e", _trace(calls), "-o", output, "-p", str(pid)]


def target_command(strace: str, argv: list[str], output: str) -> list[str]:
    """Return the command that becomes `argv` and traces it into the file `output`.

    -DDD: strace is a grandchild in a session of its own, so that the process keeps its parent, its exit code and its
    terminal, and Ctrl-C reaches it and not strace. -I2: SIGTERM makes strace detach and leave the target running.
    --seccomp-bpf would be faster, but its filter outlives strace: a target that is let go would be killed.
    """
    return [strace, "-DDD", "-I2", *_format(strace), "-e", _trace(TARGET_CALLS), "-o", output, "--", *argv]


def _trace(calls: tuple[str, ...]) -> str:
    """Return the filter; `?` lets a strace that does not know a call ignore it (open on aarch64, openat2 before 5.6)."""
    return "trace=" + ",".join(f"?{name}" for name in calls)
