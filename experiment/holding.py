"""Keeping in memory, until a run has ended, what its state has in memory.

Where memory is short, or a machine reclaims it ahead of need, pages that no process has mapped go first: minutes or seconds after they were read, before
the script comes to them. Pages that are mapped stay. Mapping what is in the page cache asks nothing of a client, and changes nothing for the script.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator

from cvtrace.analysis.bench.schema import HOT, LOCAL, WARM_MEMORY
from cvtrace.experiment.copies import LocalCopy
from cvtrace.experiment.files import Place
from cvtrace.probes.residency.cache_files import opened
from cvtrace.tracer.user import acting_as


@contextlib.contextmanager
def held(state: str, place: Place, copy: LocalCopy | None) -> Iterator[None]:
    """Keep mapped what a state has in the page cache; what cannot be mapped is not held."""
    maps = []
    try:
        for descriptor in _descriptors(state, place, copy):
            with contextlib.suppress(OSError, ValueError):  # a file system without mappings; an empty file
                maps.append(mmap.mmap(descriptor, 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ))
        yield
    finally:
        for each in maps:
            each.close()


def _descriptors(state: str, place: Place, copy: LocalCopy | None) -> Iterator[int]:
    if state == WARM_MEMORY:
        for mount in place.mounts:
            assert mount.daemon is not None
            with contextlib.suppress(OSError):
                yield from (descriptor for descriptor, _ in opened(mount.daemon.pid, place.hashes_of(mount)))
    elif state == HOT:
        yield from _opened([file.path for file in place.files if file.size])
    elif state == LOCAL and copy is not None:
        with acting_as(copy.user):
            paths = [str(path) for path in copy.files()]
            yield from _opened(paths)


def _opened(paths: list[str]) -> Iterator[int]:
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
