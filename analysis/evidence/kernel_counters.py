"""The kernel's own count of FUSE requests: it numbers those of a connection one after the other, so a gap is a missed one.

`fuse_get_unique` (fs/fuse/dev.c) adds 2 for each request, FORGETs included; before Linux 4.20 it added 1. An INTERRUPT
has the number of the request it is for, plus 1.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.contract.evidence_schema import Numbering
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.analysis.trace.recording import Mount, Recording
from cvtrace.probes.events import Opcode

STEPS: Final = (1, 2)
MOST_MISSING: Final = 0.1
"""Share of numbers from which on they are not taken for consecutive: another kernel may number in another way."""


@dataclass(frozen=True)
class KernelCount:
    """The numbering of each mount, and what it says of the recording."""

    mounts: tuple[Numbering, ...]
    proof: tuple[str, ...]
    missing: tuple[str, ...]


def kernel_count(recording: Recording, mounts: tuple[Mount, ...], requests: Requests) -> KernelCount:
    """Look for gaps in the numbers of the requests of each of these mounts."""
    if not recording.sees_requests:
        return KernelCount((), (), ())
    numberings = tuple(each for mount in mounts if (each := _numbering(mount, requests)) is not None)
    consecutive = [each for each in numberings if each.missing is not None]
    gaps = [
        f"{pluralize(each.missing, 'FUSE request')} of {each.path} between the kernel's numbers {each.first:,} and "
        f"{each.last:,} were not recorded"
        for each in consecutive
        if each.missing
    ]
    complete = [f"{each.first:,} to {each.last:,}" for each in consecutive if not each.missing and each.requests > 1]
    proof = (
        [f"all kernel FUSE requests from {' and from '.join(complete)} are accounted for"]
        if complete and not gaps
        else []
    )
    return KernelCount(numberings, tuple(proof), tuple(gaps))


def _numbering(mount: Mount, requests: Requests) -> Numbering | None:
    of_mount = (requests.connection == mount.connection) & (requests.opcode != Opcode.INTERRUPT)
    numbers = np.unique(requests.unique[of_mount])
    if not len(numbers):
        return None
    unanswered = of_mount & requests.expects_reply & ~requests.seen_by_daemon
    return Numbering(
        path=mount.path,
        first=int(numbers[0]),
        last=int(numbers[-1]),
        requests=len(numbers),
        missing=_missing(numbers),
        unanswered=int(unanswered.sum()),
    )


def _missing(numbers: Ints) -> int | None:
    """Return how many numbers are absent between the first and the last; None if they are not consecutive at all."""
    steps = np.diff(numbers)
    step = int(steps.min()) if len(steps) else STEPS[-1]
    if step not in STEPS or bool((steps % step).any()):
        return None
    missing = int((steps // step - 1).sum())
    return missing if missing <= MOST_MISSING * (len(numbers) + missing) else None
