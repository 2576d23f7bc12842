"""Numbers of the system calls that the BPF programs watch, and what an open call of each becomes."""

from __future__ import annotations

import platform
from typing import Final

from cvtrace.probes.events import Kind
from cvtrace.probes.probe import CannotObserve

_X86_64: Final = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "mmap": 9, "munmap": 11,
    "pread64": 17, "readv": 19, "writev": 20, "select": 23, "madvise": 28, "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35,
    "sendfile": 40, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "clone": 56,
    "vfork": 58, "getsockopt": 55, "wait4": 61,
    "semop": 65, "msgsnd": 69, "msgrcv": 70, "fcntl": 72, "flock": 73, "fsync": 74, "chdir": 80, "fchdir": 81, "rename": 82,
    "readlink": 89, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "mlock": 149, "mlockall": 151, "readahead": 187, "futex": 202,
    "io_getevents": 208, "io_submit": 209, "getdents64": 217, "semtimedop": 220, "fadvise64": 221, "clock_nanosleep": 230,
    "epoll_wait": 232, "mq_timedsend": 242, "mq_timedreceive": 243, "waitid": 247, "openat": 257, "newfstatat": 262, "renameat": 264,
    "readlinkat": 267, "pselect6": 270, "ppoll": 271, "splice": 275, "epoll_pwait": 281, "accept4": 288, "dup3": 292, "preadv": 295,
    "recvmmsg": 299, "process_vm_readv": 310, "renameat2": 316, "mlock2": 325, "copy_file_range": 326, "preadv2": 327, "statx": 332,
    "io_pgetevents": 333, "io_uring_enter": 426, "clone3": 435, "openat2": 437, "process_madvise": 440, "epoll_pwait2": 441, "futex_waitv": 449,
    "futex_wait": 455,
}  # fmt: skip

TARGET: Final[dict[str, Kind | None]] = {
    "read": Kind.SYS_READ, "pread64": Kind.SYS_READ, "readv": Kind.SYS_READ, "preadv": Kind.SYS_READ, "preadv2": Kind.SYS_READ,
    "splice": Kind.SYS_READ, "copy_file_range": Kind.SYS_READ, "sendfile": Kind.SYS_READ,
    "open": Kind.SYS_OPEN, "openat": Kind.SYS_OPEN, "openat2": Kind.SYS_OPEN, "mmap": Kind.SYS_MMAP,
    "close": Kind.SYS_CLOSE, "chdir": Kind.SYS_CHDIR, "fchdir": Kind.SYS_CHDIR, "getdents64": Kind.SYS_LIST,
    "readlink": Kind.SYS_LINK, "readlinkat": Kind.SYS_LINK, "munmap": Kind.SYS_UNMAP,
    **dict.fromkeys(("stat", "fstat", "lstat", "newfstatat", "statx"), Kind.SYS_STAT),
    **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), None),
    **dict.fromkeys(
        ("poll", "select", "nanosleep", "connect", "accept", "recvfrom", "recvmsg", "wait4", "flock", "fsync", "futex",
         "clock_nanosleep", "epoll_wait", "waitid", "pselect6", "ppoll", "epoll_pwait", "accept4", "write", "writev",
         "sendto", "io_uring_enter", "clone", "vfork", "clone3", "madvise", "pause", "sendmsg", "semop", "msgsnd", "msgrcv", "rt_sigtimedwait", "rt_sigsuspend",
         "mlock", "mlock2", "mlockall", "readahead", "io_getevents", "io_submit", "io_pgetevents", "semtimedop", "fadvise64",
         "mq_timedsend", "mq_timedreceive", "recvmmsg", "process_vm_readv", "process_madvise", "epoll_pwait2", "futex_waitv", "futex_wait"),
        Kind.SYS_WAIT,
    ),
}  # fmt: skip

DAEMON: Final[dict[str, Kind | None]] = {
    "read": None, "write": Kind.HANDOVER, "writev": Kind.FUSE_REPLY, "pread64": Kind.CACHE_READ,
    "open": Kind.CACHE_OPEN, "openat": Kind.CACHE_OPEN, "close": Kind.CACHE_CLOSE, "rename": Kind.CACHE_RENAME, "renameat": Kind.CACHE_RENAME,
    "renameat2": Kind.CACHE_RENAME, "connect": Kind.HTTP_CONNECT, "getsockopt": None, "sendto": Kind.HTTP_SEND,
    "recvfrom": Kind.HTTP_RECV, "poll": Kind.DAEMON_POLL, "epoll_wait": Kind.DAEMON_POLL, "futex": Kind.DAEMON_FUTEX,
}  # fmt: skip
"""Call -> kind it has when it is still open at the stop; None: not told, a worker that waits for requests is idle."""


def numbers() -> dict[str, int]:
    """Return the numbers of the watched calls on this machine. Raises CannotObserve where they are not known."""
    if platform.machine() != "x86_64":
        raise CannotObserve(
            f"the eBPF probe knows system calls of x86_64 only, this is {platform.machine()}: use `--probes strace`"
        )
    return _X86_64
