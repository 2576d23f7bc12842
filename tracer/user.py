"""Who asked for the recording, and doing things on the file system as that user.

Under sudo the recorder is root, but the script runs as the caller and the trace is the caller's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import pwd
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.capabilities import none_effective
from cvtrace.probes.command import SUDO
from cvtrace.tracer.errors import UnknownUser

NO_USER_ID: Final = 2**32 - 1
"""(uid_t)-1, which system calls take for "leave it as it is" (setresuid(2))."""


@dataclass(frozen=True)
class User:
    """A user of this machine, with the groups a login would give."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @property
    def is_other(self) -> bool:
        """Whether this is somebody else than the user of this process."""
        return self.uid != os.geteuid()


def current_user() -> User:
    """Return the user this process runs as."""
    return _by_uid(os.geteuid(), os.getegid(), tuple(os.getgroups()))


def calling_user(environ: Mapping[str, str]) -> User:
    """Return the user who asked: under sudo (sudo-rs, run0), doas or pkexec the one who called it, otherwise the user of this process.

    Raises UnknownUser when that is not clear: guessing would run the script as root.
    """
    if os.geteuid() != 0:
        return current_user()
    if os.getuid() != 0:
        raise UnknownUser("cvtrace was started set-user-ID, which it is not made for: use sudo")
    by_uid = {
        user.uid: user for user in (_by_sudo(environ), _by_doas(environ), _by_pkexec(environ)) if user is not None
    }
    callers = [user for uid, user in by_uid.items() if uid != 0]
    if len(callers) > 1:
        raise UnknownUser(
            f"SUDO_UID, DOAS_USER and PKEXEC_UID name both {callers[0].name} and {callers[1].name}: unset those that are not meant"
        )
    return callers[0] if callers else current_user()


def _by_sudo(environ: Mapping[str, str]) -> User | None:
    if "SUDO_UID" not in environ:
        return None
    uid, gid = _number("SUDO_UID", environ["SUDO_UID"]), environ.get("SUDO_GID")
    return _by_uid(uid, None if gid is None else _number("SUDO_GID", gid), None)


def _by_pkexec(environ: Mapping[str, str]) -> User | None:
    return _by_uid(_number("PKEXEC_UID", environ["PKEXEC_UID"]), None, None) if "PKEXEC_UID" in environ else None


def _by_doas(environ: Mapping[str, str]) -> User | None:
    if "DOAS_USER" not in environ:
        return None
    try:
        return _by_uid(pwd.getpwnam(environ["DOAS_USER"]).pw_uid, None, None)
    except (KeyError, ValueError):
        raise UnknownUser("DOAS_USER names no user of this machine: unset it to record as root") from None


def _number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= NO_USER_ID:
        raise UnknownUser(f"{name} is not the number of a user: unset it to record as root")
    return int(text)


def user_named(name: str) -> User:
    """Return the user called `name`. Raises UnknownUser if there is none or it may not be taken on."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UnknownUser(f"there is no user {name} on this machine") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise UnknownUser(f"only root can run the script as another user: {SUDO} run --user {name} …")
    return _by_uid(entry.pw_uid, None, None)


def _by_uid(uid: int, gid: int | None, groups: tuple[int, ...] | None) -> User:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a number without an entry, as in many containers
        own_gid = uid if gid is None else gid
        return User(uid, own_gid, groups or (own_gid,), str(uid), "/")
    own_gid = entry.pw_gid if gid is None else gid
    own_groups = tuple(os.getgrouplist(entry.pw_name, own_gid)) if groups is None else groups
    return User(uid, own_gid, own_groups, entry.pw_name, entry.pw_dir)


def switch_user(user: User) -> None:
    """Let this process be `user`'s for good, with the user's groups. Raises PermissionError."""
    os.setgroups(list(user.groups))
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def succeeds_as(user: User, call: Callable[[], object]) -> bool:
    """Return whether `call` raises no OSError in a process of `user`'s, made for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child makes a call and ends
        pid = os.fork()
    if pid == 0:
        try:
            switch_user(user)
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


_libc = ctypes.CDLL(None, use_errno=True)

_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
"""Number of setgroups(2) (the kernel's tables of system calls)."""


def _set_groups(groups: Sequence[int]) -> None:
    """Set the groups of this thread; the C library would set those of all, and abort when one of them may not."""
    number = _SETGROUPS.get(platform.machine())
    if number is None:
        os.setgroups(list(groups))
    elif _libc.syscall(number, ctypes.c_size_t(len(groups)), (ctypes.c_uint32 * len(groups))(*groups)) != 0:
        raise PermissionError(f"cannot take groups: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Let this thread look up, create and remove files with the permissions of `user`, and no others.

    setfsuid(2) counts for the calling thread alone, so a probe in another thread keeps its privileges, and it works on
    file systems where root is nobody (NFS). It takes only the capabilities that override permissions (capabilities(7));
    the others are set aside too: with CAP_SYS_PTRACE a path could lead through another's /proc/PID/cwd.
    """
    if user is None or os.geteuid() != 0 or user.uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    _set_groups(user.groups)
    _libc.setfsgid(user.gid)
    _libc.setfsuid(user.uid)
    try:
        if _libc.setfsuid(-1) != user.uid:  # setfsuid reports nothing; asking again is the documented check
            raise PermissionError(f"cannot act as {user.name} (uid {user.uid})")
        with none_effective():
            yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(gid)
        _set_groups(groups)
