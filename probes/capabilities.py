"""Gives capabilities up for good: of this thread, as the kernel keeps them per thread (capabilities(7)).

Python has nothing for this, and what the package index has is no longer maintained; these are two system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final


class Capability(IntEnum):
    """The capabilities that are named anywhere here (linux/capability.h)."""

    DAC_OVERRIDE = 1
    KILL = 5
    SETGID = 6
    SETUID = 7
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39
    CHECKPOINT_RESTORE = 40


_VERSION_3: Final = 0x20080522
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def keep_only(capabilities: Collection[Capability]) -> None:
    """Give up every capability of this thread but `capabilities`, for itself and for all that it will start or become.

    What it has not got it does not get; a process without privileges calls this in vain and safely. Raises OSError.
    """
    _prctl(
        _PR_SET_NO_NEW_PRIVS, 1
    )  # a program that is executed cannot win any back: not by set-user-ID, not by being root
    with contextlib.suppress(OSError):  # before Linux 4.3
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(PermissionError):  # without CAP_SETPCAP the bounding set stays: no_new_privs makes it moot
        number = 0
        while _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:  # EINVAL after the last one this kernel knows
            if number not in capabilities:
                _prctl(_PR_CAPBSET_DROP, number)
            number += 1
    _set(held() & _mask(capabilities))


def keep_none() -> None:
    """Give up every capability of this thread, and nothing else: programs that it starts may still be set-user-ID."""
    with contextlib.suppress(OSError):  # before Linux 4.3
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set(0)


def keep_as_another_user(uid: int, gid: int, capabilities: Collection[Capability]) -> None:
    """Become another user for good, with `capabilities` and no others, also in the program that is executed next. Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    mask = _mask(capabilities)
    _capset([(word, word, word) for word in (mask >> 32 * half & 0xFFFFFFFF for half in range(2))])
    for capability in capabilities:
        zero = ctypes.c_ulong(0)
        raised = _libc.prctl(
            _PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(capability), zero, zero
        )
        if raised != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl(PR_CAP_AMBIENT_RAISE, {capability.name}): {os.strerror(number)}")


def held(tid: int | None = None) -> int:
    """Return the permitted capabilities of a thread of this process, as a bit mask."""
    status = Path(f"/proc/self/task/{tid}/status") if tid else Path("/proc/thread-self/status")
    line = next(line for line in status.read_text().splitlines() if line.startswith("CapPrm"))
    return int(line.split()[1], 16)


@contextlib.contextmanager
def none_effective() -> Iterator[None]:
    """Let this thread use no capability for a while. It keeps them permitted, which is how it gets them back."""
    before = _data()
    during = [(0, permitted, inheritable) for _, permitted, inheritable in before]
    _capset(during)
    try:
        yield
    finally:
        _capset(before)


def _mask(capabilities: Collection[Capability]) -> int:
    return sum(1 << capability for capability in capabilities)


def _set(mask: int) -> None:
    words = [mask >> 32 * half & 0xFFFFFFFF for half in range(2)]
    _capset([(word, word, 0) for word in words])


def _data() -> list[tuple[int, int, int]]:
    """Return effective, permitted and inheritable capabilities of this thread, 32 at a time."""
    halves = (_Data * 2)()
    header = _Header(_VERSION_3, 0)
    if _libc.capget(ctypes.byref(header), ctypes.byref(halves)) != 0:
        raise OSError(ctypes.get_errno(), f"capget: {os.strerror(ctypes.get_errno())}")
    return [(half.effective, half.permitted, half.inheritable) for half in halves]


def _capset(words: Sequence[tuple[int, int, int]]) -> None:
    halves = (_Data * 2)(*(_Data(*word) for word in words))
    header = _Header(_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(halves)) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def _prctl(operation: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(operation, ctypes.c_ulong(argument), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({operation}): {os.strerror(number)}")
