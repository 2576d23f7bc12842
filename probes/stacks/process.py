"""Programs that sample or unwind: started so that what the target says can do no harm."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from cvtrace.probes.capabilities import Capability, keep_as_another_user, keep_none

MOST_MEMORY_BYTES: Final = 2 << 30
_PR_SET_PDEATHSIG: Final = 1
_NICER: Final = -10

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """Whom a program runs as: that of the target, so that nothing is gained by deceiving it."""

    uid: int
    gid: int


def start(
    argv: Sequence[str],
    *,
    identity: Identity | None,
    most_bytes: int,
    keeps: Sequence[Capability] = (),
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program with an empty environment, bounded memory and files, and no capabilities but `keeps` where `identity` is another user's.

    Raises OSError if it cannot be started.
    """

    def restrict() -> None:
        with contextlib.suppress(OSError):  # a sampler that comes late sees little; it needs little
            os.setpriority(os.PRIO_PROCESS, 0, _NICER)
            Path("/proc/self/autogroup").write_text(f"{_NICER}\n")  # of a new session, sched(7)
        for limit, most in (
            (resource.RLIMIT_FSIZE, most_bytes),
            (resource.RLIMIT_AS, MOST_MEMORY_BYTES),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (most, most))
        if identity is not None and identity.uid != os.geteuid():
            if keeps:
                keep_as_another_user(identity.uid, identity.gid, keeps)
            else:
                os.setgroups([])
                os.setresgid(identity.gid, identity.gid, identity.gid)
                os.setresuid(identity.uid, identity.uid, identity.uid)
                keep_none()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return subprocess.Popen(
        list(argv),
        executable=argv[0],
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.DEVNULL if stderr is None else stderr,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        cwd="/",
        pass_fds=tuple(pass_fds),
        preexec_fn=restrict,
        start_new_session=True,  # Ctrl-C at the terminal is for the target
    )


def end(process: subprocess.Popen[bytes], number: signal.Signals, patience_s: float) -> bool:
    """Send a signal, and wait for the end; return whether it ended by itself. One that does not is killed."""
    with contextlib.suppress(OSError):
        process.send_signal(number)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        return False
    return True
