"""Bytes of files that the target itself used, as far as the kernel tells: pages it read, faulted on or had mapped in."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, match, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind

PAGE: Final = 4096
PAGE_BITS: Final = 48
PAGE_MASK: Final = (1 << PAGE_BITS) - 1
NODE_BITS: Final = 40


def file_key(connection: Ints, nodeid: Ints) -> Ints:
    """Return one number for a file of a mount."""
    return connection << NODE_BITS ^ nodeid


def connection_of_device(recording: Recording, device: Ints) -> Ints:
    """Return the connection of each st_dev, as meta.json pairs them; a device may also be given as the bare minor."""
    links = [mount.connection for mount in recording.mounts]
    devices = np.array([mount.device for mount in recording.mounts] + links, dtype=np.int64)
    return pick(np.array(links + links, dtype=np.int64), match(devices, device), device)


@dataclass(frozen=True)
class Touched:
    """Ranges of files that the target used, one for each event; `file` as file_key makes it, `start` and `end` in bytes.

    `fault`: a fault on a page that was not there. A fault-around (neither `fault` nor `read`) maps some 16 pages, of which the
    target may use one or all, with no further event.
    """

    file: Ints
    start: Ints
    end: Ints
    when: Ints
    tid: Ints
    kind: Ints


def touched(recording: Recording) -> Touched:
    """Gather the events of pages of the target."""
    rows = recording.of(Kind.PAGE_READ, Kind.FAULT, Kind.PAGE_MAP)
    first = rows.c & PAGE_MASK
    count = np.where(rows.kind == Kind.FAULT, 1, np.maximum(rows.c >> PAGE_BITS, 1))
    return Touched(
        file=file_key(connection_of_device(recording, rows.a), rows.b),
        start=first * PAGE,
        end=(first + count) * PAGE,
        when=rows.start,
        tid=rows.tid,
        kind=rows.kind,
    )


def file_of(requests: Requests) -> Ints:
    """Return the file that each request is about."""
    return file_key(requests.connection, requests.nodeid)
