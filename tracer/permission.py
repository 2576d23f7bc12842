"""What somebody who became root through sudo, doas or pkexec for cvtrace alone may have it do: no more than without it.

Who may become root for anything is not held up: sudo itself is asked for that (sudoers(5)).
"""

from __future__ import annotations

import os
import subprocess
from typing import Final

from cvtrace.probes.trusted import trusted_program
from cvtrace.tracer.errors import UnknownUser
from cvtrace.tracer.user import User, succeeds_as

SHELL: Final = "/bin/sh"
ANSWER_S: Final = 10.0
AS_ROOT: Final = "from a shell of root's, without SUDO_UID, DOAS_USER and PKEXEC_UID in the environment"


def check_may_trace(pid: int, name: str, user: User) -> None:
    """Raise CannotObserve unless `user`, who asked, may trace the process, or may do anything here.

    The kernel decides: /proc/PID/mem opens for those who may attach with ptrace(2), Yama's restrictions and processes
    that are not dumpable included.
    """
    if not user.is_other:
        return
    if succeeds_as(user, lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))):
        return
    if not may_do_anything(user, "root"):
        from cvtrace.probes.probe import CannotObserve  # loads numpy, which the other checks do without

        raise CannotObserve(
            f"{user.name} may not trace process {pid} ({name}) with ptrace(2), and may not run every command as root: "
            f"run `cvtrace attach {pid}` {AS_ROOT}"
        )


def check_may_run_as(caller: User, runs_as: User) -> None:
    """Raise UnknownUser unless `caller`, who called, may run a program as `runs_as`."""
    if not caller.is_other or runs_as.uid == caller.uid or may_do_anything(caller, runs_as.name):
        return
    raise UnknownUser(
        f"sudo does not allow {caller.name} to run every program as {runs_as.name}: run `cvtrace run --user {runs_as.name} …` {AS_ROOT}"
    )


def check_may_mount(caller: User) -> None:
    """Raise UnknownUser unless `caller`, who called, may run every command as root: the lab writes and mounts at the paths of its options."""
    if caller.is_other and not may_do_anything(caller, "root"):
        raise UnknownUser(
            f"sudo does not allow {caller.name} to run every command as root: run the lab as {caller.name}, without sudo, or {AS_ROOT}"
        )


def may_do_anything(user: User, runs_as: str) -> bool:
    """Return whether sudo would give `user` a shell of `runs_as`'s; no without sudo."""
    sudo = trusted_program("sudo")
    if sudo is None:
        return False
    command = [sudo, "-n", "-l", "-U", user.name, "-u", runs_as, "--", SHELL]
    try:
        result = subprocess.run(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
