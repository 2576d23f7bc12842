"""Processes of the target that go on when it has ended: a daemon, a job in the background."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.phases.hook import MARKS
from cvtrace.probes.probe import HasHelper, KnowsProcesses, Probe
from cvtrace.probes.processes import carrying, lives, name_of

GRACE_S: Final = 0.2
"""How long those that are about to end, too, are waited for."""
STEP_S: Final = 0.01


@dataclass(frozen=True)
class Survivor:
    """A process that goes on."""

    pid: int
    name: str


def survivors(probe: Probe, marks: str, target: int) -> tuple[Survivor, ...]:
    """Return the processes of the target's tree that live: those the probe knows, and those that were given its file of `marks`."""
    pids = set(probe.living() if isinstance(probe, KnowsProcesses) else ())
    pids.update(pid for pid in carrying(MARKS, marks) if lives(pid))
    living = [Survivor(pid, name_of(pid)) for pid in sorted(pids - {target})]
    helper = probe.helper if isinstance(probe, HasHelper) else None
    return tuple(process for process in living if process.name and process.name != helper)


def survivors_after_grace(probe: Probe, marks: str, target: int) -> tuple[Survivor, ...]:
    """Return the processes that still live when those that end with the target have had the time to."""
    deadline = time.monotonic() + GRACE_S
    while (living := survivors(probe, marks, target)) and time.monotonic() < deadline:
        time.sleep(STEP_S)
    return living


def sentence(living: tuple[Survivor, ...], title: str) -> str:
    """Return what to say of them."""
    counts = Counter(process.name for process in living)
    names = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())
    which = "process that it started still runs" if len(living) == 1 else "processes that it started still run"
    pids = ", ".join(str(process.pid) for process in living[:5]) + (", …" if len(living) > 5 else "")
    return (
        f"{title} has ended, but {len(living)} {which} ({names}; pid {pids}): what happens from here on is not recorded; "
        "--follow-daemons records until all have ended"
    )


def meta(living: tuple[Survivor, ...]) -> list[dict[str, Any]]:
    """Return them as meta.json has them."""
    return [{"pid": process.pid, "name": process.name} for process in living]
