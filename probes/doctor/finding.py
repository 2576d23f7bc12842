"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
"""`warning`: it works, but not as one would want; `unknown`: this user cannot find out."""


def size_of(size_bytes: float) -> str:
    """Return a size in MB (10^6 bytes), from 10 GB on in GB."""
    megabytes = size_bytes / 1e6
    if megabytes >= 10_000:
        return f"{megabytes / 1000:,.1f} GB"
    return f"{megabytes:,.0f} MB" if megabytes >= 100 else f"{megabytes:,.1f} MB"


def seconds_of(seconds: float) -> str:
    """Return a time: 0.4 ms, 103 ms, 2.13 s."""
    if seconds >= 1:
        return f"{seconds:,.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"


def pluralize(number: int, noun: str) -> str:
    """Return a number of things: 1 file, 1,024 files."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Finding:
    """A check and its result."""

    group: str
    """`ebpf`, `strace`, `portable`, `cvmfs`, or `model`: what a load of the model meets."""
    name: str
    """Stable: scripts look for it."""
    status: str
    sentence: str
    """What was found, and what it hides if it is not ok."""
    mend: str | None = None
    """The command or setting that mends it."""
    mount: str | None = None


@dataclass(frozen=True)
class Examination:
    """All findings, and what follows for `cvtrace run`."""

    findings: tuple[Finding, ...]
    rung: str | None
    """The probe that `cvtrace run` uses here; None if there is no mount to observe."""
    probe: str | None = None
    """The probe that works on this machine, whether or not there is a mount."""

    @property
    def exit_code(self) -> int:
        """0: `cvtrace run` gives a full answer; 1: a check failed, the answer is partial; 3: there is no mount to observe."""
        if self.rung is None:
            return 3
        needed = [each for each in self.findings if each.group in (self.rung, "cvmfs")]
        return int(self.rung != "ebpf" or any(each.status == FAILED for each in needed))
