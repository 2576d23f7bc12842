"""Processes of the target that go on when it has ended: a daemon, a job in the background."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.phases.hook import MARKS
from cvtrace.probes.probe import KnowsProcesses, Probe
from cvtrace.probes.processes import carrying, lives, name_of

GRACE_S: Final = 0.2
"""How long those that are about to end, too, are waited for."""
STEP_S: Final = 0.01
OWN: Final = {"strace": "strace"}
"""Probe -> process of its own that has the target's environment."""


@dataclass(frozen=True)
class Left:
    """A process that goes on."""

    pid: int
    name: str


def left_behind(probe: Probe, marks: str, target: int) -> tuple[Left, ...]:
    """Return the processes of the target's tree that live: those the probe knows, and those that were given its file of `marks`."""
    known = set(probe.living() if isinstance(probe, KnowsProcesses) else ())
    known.update(pid for pid in carrying(MARKS, marks) if lives(pid))
    found = [Left(pid, name_of(pid)) for pid in sorted(known - {target})]
    return tuple(each for each in found if each.name and each.name != OWN.get(probe.name))


def after_grace(probe: Probe, marks: str, target: int) -> tuple[Left, ...]:
    """Return the processes that still live when those that end with the target have had the time to."""
    deadline = time.monotonic() + GRACE_S
    while (left := left_behind(probe, marks, target)) and time.monotonic() < deadline:
        time.sleep(STEP_S)
    return left


def sentence(left: tuple[Left, ...], title: str) -> str:
    """Return what to say of them."""
    counts = Counter(each.name for each in left)
    names = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())
    which = "process that it started still runs" if len(left) == 1 else "processes that it started still run"
    pids = ", ".join(str(each.pid) for each in left[:5]) + (", …" if len(left) > 5 else "")
    return (
        f"{title} has ended, but {len(left)} {which} ({names}; pid {pids}): what happens from here on is not recorded; "
        "--follow-daemons records until all have ended"
    )


def meta(left: tuple[Left, ...]) -> list[dict[str, Any]]:
    """Return them as meta.json has them."""
    return [{"pid": each.pid, "name": each.name} for each in left]
