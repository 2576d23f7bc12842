"""What the recorder may still do once its probes are attached and the target runs: what is written out here, no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cvtrace.probes.capabilities import Capability, keep_only
from cvtrace.tracer.user import User

ANY_PROBE: Final = frozenset(
    {
        # /proc/PID/cwd of the daemon, which leads to its talk socket, is for those who may trace it (proc(5)).
        Capability.SYS_PTRACE,
        # That socket is in a folder of the user cvmfs, and only that user may connect to it.
        Capability.DAC_OVERRIDE,
    }
)

BY_PROBE: Final = {
    # What the tables in the kernel hold is read at the end: for the fd alone since 5.19, for CAP_BPF before.
    "ebpf": frozenset({Capability.BPF}),
}

FOR_ANOTHER_USER: Final = frozenset(
    {
        # The trace is written as that user (setfsuid, setfsgid, setgroups).
        Capability.SETUID,
        Capability.SETGID,
        # Signals are passed on to the target, which is that user's.
        Capability.KILL,
    }
)


def needed(probe: str, users: Iterable[User]) -> frozenset[Capability]:
    """Return what a recorder with this probe needs until its end, for the trace and the target of `users`."""
    others = FOR_ANOTHER_USER if any(user.is_other for user in users) else frozenset()
    return ANY_PROBE | BY_PROBE.get(probe, frozenset()) | others


def give_up(probe: str, users: Iterable[User]) -> None:
    """Keep only what is `needed`. Raises OSError, which no kernel since 3.5 has a reason for."""
    keep_only(needed(probe, users))
