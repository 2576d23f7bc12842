"""What /proc says of processes that a recording left behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MOST_ENVIRONMENT: Final = 1 << 20


def lives(pid: int) -> bool:
    """Whether `pid` is a process, not a thread of one, that has not ended."""
    status = _status(pid)
    return status.get("Tgid") == str(pid) and status.get("State", "Z")[:1] not in ("Z", "X")


def name_of(pid: int) -> str:
    """Return the name of a process, "" if it is gone."""
    return _status(pid).get("Name", "")


def carrying(variable: str, value: str) -> tuple[int, ...]:
    """Return the processes whose environment has `variable` with this value: what a process was given, all that it starts has, too.

    Only those that this user may look at, and none that was started with another environment.
    """
    setting = os.fsencode(f"{variable}={value}")
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError), (process / "environ").open("rb") as file:
            if setting in file.read(MOST_ENVIRONMENT).split(b"\0"):
                pids.append(int(process.name))
    return tuple(pids)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
