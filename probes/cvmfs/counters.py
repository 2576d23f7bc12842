"""What the client itself counted: `internal affairs` over its talk socket, or its extended attributes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cvtrace.probes.cvmfs import strict
from cvtrace.probes.cvmfs.attributes import read_xattrs
from cvtrace.probes.cvmfs.deadline import NoAnswer, all_within
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.cvmfs.quota import LIMIT, megabytes
from cvtrace.probes.cvmfs.talk import ask

ANSWER_S: Final = 1.5
"""How long all mounts together may take."""
TALK_SHARE: Final = 0.6
"""Which part of that the talk socket may take, so that the attributes can still be read."""
TALK: Final = "internal affairs"
HEADING: Final = "Name|Value|Description"
"""Line above the counters in the answer (cvmfs/statistics.cc)."""
MOST: Final = 1000
"""A client of 2.12 has 120."""

XATTRS: Final = (
    "user.nopen",
    "user.ndownload",
    "user.ndiropen",
    "user.nioerr",
    "user.nclg",
    "user.rx",
    "user.hitrate",
)
"""Readable by anybody: opens, downloads, opened folders, I/O errors, catalogs, kB received, hit rate in %."""


@dataclass(frozen=True)
class Counters:
    """Counters by the client's names (`cvmfs.n_fs_read`), or by attribute (`nopen`) without the socket."""

    values: dict[str, int]
    error: str | None
    """One sentence if the talk socket could not be asked."""
    asked_ns: int = 0
    answered_ns: int = 0
    """Between these the client read its counters."""
    quota_bytes: int | None = None
    """The limit of its cache, if asked for and told."""


def counters(mount: Mount) -> Counters:
    """Ask the daemon of `mount` for its counters, else its extended attributes. Never hangs or raises."""
    return counters_of([mount])[0]


def counters_of(mounts: Sequence[Mount], *, with_quota: bool = False, seconds: float | None = None) -> list[Counters]:
    """Ask the daemons of all mounts at the same time, and for the limits of their caches, too."""
    most_s = ANSWER_S if seconds is None else seconds
    began_ns = time.monotonic_ns()
    answers = all_within(most_s, [partial(_ask, mount, with_quota, most_s) for mount in mounts])
    return [
        _counters(mount, answer, began_ns, time.monotonic_ns(), most_s)
        for mount, answer in zip(mounts, answers, strict=True)
    ]


def _counters(mount: Mount, answer: Any, began_ns: int, ended_ns: int, seconds: float) -> Counters:
    if isinstance(answer, dict):
        return Counters(**answer)
    if isinstance(answer, NoAnswer):
        error = f"{mount.path} does not answer within {seconds:g} s: its counters are unknown"
    else:
        error = f"{mount.path} cannot be read: {os.strerror(answer.errno) if answer.errno else answer}"
    return Counters({}, error, began_ns, ended_ns)


def _ask(mount: Mount, with_quota: bool, seconds: float) -> dict[str, Any]:
    """In the child. Return the fields of Counters."""
    until_s = time.monotonic() + seconds * TALK_SHARE
    asked_ns, error = time.monotonic_ns(), None
    try:
        values = parse_internal_affairs(ask(mount, TALK, until_s - time.monotonic()))
        answered_ns = time.monotonic_ns()
    except OSError as failure:
        reason = os.strerror(failure.errno) if failure.errno else str(failure)
        error = f"the talk socket of {mount.fqrn} cannot be read ({reason}): reads and bytes are not compared"
        answers = read_xattrs(mount, XATTRS)
        read = ((name.removeprefix("user."), strict.number(value)) for name, value in answers.items())
        values = {name: value for name, value in read if value is not None}
        answered_ns = time.monotonic_ns()
    quota = _quota(mount, until_s - time.monotonic()) if with_quota and error is None else None
    return {
        "values": values,
        "error": error,
        "asked_ns": asked_ns,
        "answered_ns": answered_ns,
        "quota_bytes": quota,
    }


def _quota(mount: Mount, left_s: float) -> int | None:
    try:
        return megabytes(ask(mount, LIMIT, left_s))
    except OSError:
        return None


def parse_internal_affairs(text: str) -> dict[str, int]:
    """Return the raw counters in the answer to `internal affairs`: lines of name|value|description."""
    values: dict[str, int] = {}
    for line in text.partition(HEADING)[2].split("\n"):
        name, _, columns = line.partition("|")
        value = strict.number(columns.partition("|")[0])
        if value is not None and strict.COUNTER.fullmatch(name) and len(values) < MOST:
            values[name] = value
    if not values:
        raise OSError("the answer holds no counters")
    return values
