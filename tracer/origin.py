"""Where what this process has comes from: from who called it, or from root. Only the former is the target's."""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cvtrace.tracer.user import User

SET_BY_SUDO: Final = frozenset({"HOME", "LOGNAME", "MAIL", "PATH", "SHELL", "USER", "TERM"})
BECOMES_ROOT: Final = frozenset({"sudo", "sudo-rs", "doas", "pkexec"})
TERMINAL_VARIABLES: Final = re.compile(r"TERM|COLORTERM|LANG|LANGUAGE|LC_[A-Z]+|TZ")
"""What a login over a network keeps of the environment, too: how to write to the terminal."""
LOGIN_DEFS: Final = Path("/etc/login.defs")
PATH_OF_USERS: Final = "/usr/local/bin:/usr/bin:/bin"
PATH_OF_ROOT: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING: Final = 1


def called_directly(user: User) -> bool:
    """Return whether no process of root's lies between this one and `user`, who called it through sudo, doas or pkexec.

    Then terminal, streams and environment are what `user` had. In a shell of root's that sudo started, they are root's.
    """
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text(errors="replace")
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    try:
        real, effective = (int(word) for word in fields["Uid"].split()[:2])
    except (KeyError, ValueError):
        return False
    return real == user.uid or (effective == 0 and fields.get("Name") in BECOMES_ROOT)


def caller_environment(environ: Mapping[str, str], user: User) -> dict[str, str]:
    """Return the environment for the target: under another user that user's, as far as it can be known.

    sudo drops VIRTUAL_ENV, PATH and most of the rest, but the sudo process itself still holds what it was called
    with; what was given on sudo's command line (`sudo NAME=value cvtrace …`) is in ours and wins.
    """
    if not user.is_other:
        return dict(environ)
    environ_of_sudo = {
        name: value for name, value in environ.items() if not name.startswith(("SUDO_", "DOAS_", "PKEXEC_"))
    }
    before = _environment_of_sudo(user.uid)
    if before is None:
        merged = {**environ_of_sudo, "PATH": environ.get("PATH", os.defpath)}
    else:
        merged = {**before, **{name: value for name, value in environ_of_sudo.items() if name not in SET_BY_SUDO}}
    if before is None or "HOME" not in before:
        merged.update(HOME=user.home, USER=user.name, LOGNAME=user.name, SHELL=_shell(user))
    return merged


def environment_apart(environ: Mapping[str, str], user: User, caller: User | None) -> dict[str, str]:
    """Return the environment for a target that must have nothing of ours: what `user` called sudo with, else that of a login."""
    before = _environment_of_sudo(user.uid) if caller is not None and caller.uid == user.uid else None
    if before is not None:
        return before
    terminal = {name: value for name, value in environ.items() if TERMINAL_VARIABLES.fullmatch(name)}
    login = {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": _shell(user), "PATH": _path(user)}
    return {**terminal, **login}


def _path(user: User) -> str:
    """Return PATH as login(1) sets it."""
    name = "ENV_SUPATH" if user.uid == 0 else "ENV_PATH"
    try:
        text = LOGIN_DEFS.read_text(errors="replace")
    except OSError:
        text = ""
    match = re.search(rf"^\s*{name}\s+(?:PATH=)?(\S+)", text, re.MULTILINE)
    return match[1] if match else PATH_OF_ROOT if user.uid == 0 else PATH_OF_USERS


def _shell(user: User) -> str:
    try:
        return pwd.getpwuid(user.uid).pw_shell or "/bin/sh"
    except KeyError:
        return "/bin/sh"


def _environment_of_sudo(uid: int) -> dict[str, str] | None:
    """Return the environment that the sudo above this process was called with, if `uid` called it."""
    pid = os.getppid()
    while pid > 1:
        proc = Path("/proc") / str(pid)
        try:
            name, _, fields = (proc / "stat").read_text(errors="replace").rpartition(")")
            if name.partition("(")[2] == "sudo":
                pairs = (proc / "environ").read_bytes().split(b"\0")
                held = dict(os.fsdecode(pair).split("=", 1) for pair in pairs if pair.find(b"=") > 0)
                return held if held.get("USER") == _name(uid) or held.get("LOGNAME") == _name(uid) else None
            pid = int(fields.split()[1])
        except OSError:
            return None
    return None


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def new_keyring() -> None:
    """Leave the session keyring of root's, whose keys its holders may read (keyrings(7)). Kernels without keys have none."""
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None)
