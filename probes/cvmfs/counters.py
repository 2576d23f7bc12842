"""What the client itself counted: `internal affairs` over its talk socket, or its extended attributes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, read_xattrs
from cvtrace.probes.cvmfs.talk import ask

ANSWER_S: Final = 2.0
TALK: Final = "internal affairs"
HEADING: Final = "Name|Value|Description"
"""Line above the counters in the answer (cvmfs/statistics.cc)."""

NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
"""A counter; what Python's isdigit() takes for digits is not always one."""

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


def counters(mount: Mount) -> Counters:
    """Ask the daemon of `mount` for its counters, else its extended attributes. Never hangs or raises."""
    try:
        return Counters(parse_internal_affairs(ask(mount, TALK, ANSWER_S)), None)
    except OSError as failure:
        reason = os.strerror(failure.errno) if failure.errno else str(failure)
        error = f"the talk socket of {mount.fqrn} cannot be read ({reason}): reads and bytes are not compared"
    try:
        answers = within(ANSWER_S, lambda: read_xattrs(mount.path, XATTRS))
    except NoAnswer:
        return Counters({}, f"{mount.path} does not answer within {ANSWER_S:.0f} s: its counters are unknown")
    except OSError as failure:
        return Counters({}, f"{mount.path} cannot be read: {os.strerror(failure.errno or 0)}")
    values = {name.removeprefix("user."): int(value) for name, value in answers.items() if NUMBER.fullmatch(value)}
    return Counters(values, error)


def parse_internal_affairs(text: str) -> dict[str, int]:
    """Return the raw counters in the answer to `internal affairs`: lines of name|value|description."""
    values = {}
    for line in text.partition(HEADING)[2].splitlines():
        name, _, rest = line.partition("|")
        value = rest.partition("|")[0]
        if name and NUMBER.fullmatch(value):
            values[name] = int(value)
    if not values:
        raise OSError("the answer holds no counters")
    return values
