"""What the recorder may still do once its probes are attached and the target runs: what is written out here, no more."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cvtrace.probes.capabilities import Capability, keep_none, keep_only
from cvtrace.tracer.user import User, acting_as, switch_user

if TYPE_CHECKING:
    from cvtrace.probes.probe import Probe

ANY_PROBE: Final = frozenset(
    {
        # /proc/PID/cwd of the daemon, which leads to its talk socket, is for those who may trace it (proc(5)).
        Capability.SYS_PTRACE,
        # That socket is in a folder of the user cvmfs, and only that user may connect to it.
        Capability.DAC_OVERRIDE,
    }
)

FOR_ANOTHER_USER: Final = frozenset(
    {
        # The trace is written as that user (setfsuid, setfsgid, setgroups).
        Capability.SETUID,
        Capability.SETGID,
        # Signals are passed on to the target, which is that user's.
        Capability.KILL,
    }
)


def needed(probe: Probe, users: Iterable[User]) -> frozenset[Capability]:
    """Return what a recorder with this probe needs until its end, for the trace and the target of `users`."""
    for_users = FOR_ANOTHER_USER if any(user.is_other for user in users) else frozenset()
    return ANY_PROBE | probe.capabilities | for_users


def give_up(probe: Probe, users: Iterable[User]) -> None:
    """Keep only what is `needed`. Raises OSError, which no kernel since 3.5 has a reason for.

    Files of Python's may be out of reach afterwards: see preload.py.
    """
    keep_only(needed(probe, users))


def be_for_good(user: User) -> None:
    """Let this process be `user`'s, with user, groups and without any capability; there is no way back.

    Call it in a process of one thread. Raises OSError, and leaves the process unusable for anything else, if that fails.
    """
    switch_user(user)
    keep_none()


LOADED_LATE: Final = ("numpy", "pyarrow", "rich", "secrets")
"""Of each place that programs are loaded from, one."""


def closed_to(user: User) -> Path | None:
    """Return a folder of programs that `user` cannot read, None if there is none: what is not loaded yet will be missing."""
    places = [Path(__file__), *(Path(spec.origin) for spec in map(_spec, LOADED_LATE) if spec and spec.origin)]
    with acting_as(user):
        for place in places:
            try:
                place.open("rb").close()
            except OSError:
                return place.parent
    return None


def _spec(name: str) -> Any:
    return importlib.util.find_spec(name)
