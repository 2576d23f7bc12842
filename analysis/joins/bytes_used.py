"""Bytes of files that the target itself used, as far as the kernel tells: pages it read, faulted on or had mapped in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, match, pick
from cvtrace.analysis.trace.keys import PAGE, file_key, first_page, page_count
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind

PAGES: Final = (Kind.PAGE_READ, Kind.FAULT, Kind.PAGE_MAP)


def connection_of_device(recording: Recording, device: Ints) -> Ints:
    """Return the connection of each st_dev, as meta.json pairs them; a device may also be given as the bare minor."""
    links = [mount.connection for mount in recording.mounts]
    devices = np.array([mount.device for mount in recording.mounts] + links, dtype=np.int64)
    return pick(np.array(links + links, dtype=np.int64), match(devices, device), device)


@dataclass(frozen=True)
class UsedRanges:
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


def used_ranges(recording: Recording) -> UsedRanges:
    """Gather the events of pages of the target."""
    return _ranges(recording, recording.of(*PAGES))


def used_in_windows(recording: Recording) -> Iterator[UsedRanges]:
    """Gather the events of pages of the target, those of a stretch of time at once: for sums over a long trace."""
    for rows in recording.windows(*PAGES):
        yield _ranges(recording, rows)


def _ranges(recording: Recording, rows: Rows) -> UsedRanges:
    first = first_page(rows.c)
    count = np.where(rows.kind == Kind.FAULT, 1, np.maximum(page_count(rows.c), 1))
    return UsedRanges(
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
