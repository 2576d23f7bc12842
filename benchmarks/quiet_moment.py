"""Waits until other programs use little of the CPUs, and returns their share: what they take from a run is no error of a prediction."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

LOOK_S: Final = 0.2
PATIENCE_S: Final = 5.0
QUIET: Final = 0.05
"""Share of the CPUs that may be busy."""
IDLE, WAITING_FOR_DISK, GUEST = 3, 4, 8
"""Columns of /proc/stat: all others but those of guests, which are counted twice, are times in which a CPU was taken, by the hypervisor too."""


def busy_share() -> float:
    """Return which share of the CPUs is busy while this program sleeps."""
    before = _times()
    time.sleep(LOOK_S)
    spent = [after - earlier for earlier, after in zip(before, _times(), strict=True)][:GUEST]
    total = sum(spent)
    return 1 - (spent[IDLE] + spent[WAITING_FOR_DISK]) / total if total else 0.0


def _times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def wait_for_quiet() -> float:
    """Wait until the CPUs are quiet, or patience ends; return which share of them was busy at last."""
    deadline_s = time.monotonic() + PATIENCE_S
    share = busy_share()
    while share > QUIET and time.monotonic() < deadline_s:
        share = busy_share()
    return share
