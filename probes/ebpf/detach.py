"""Detaches without waiting: the kernel takes some 70 ms for each tracepoint, whoever closes its last descriptor.

A child that holds duplicates of the descriptors lets the recorder close its own at once; the child then ends, and the kernel
detaches on its account. Nothing is observed any more by then: the table of observed processes is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LARGEST_FD = 1 << 20


def descriptors(bpf: Any, links: Iterable[int]) -> list[int]:
    """Return the descriptors that keep programs attached."""
    tables = (bpf.tracepoint_fds, bpf.raw_tracepoint_fds, bpf.uprobe_fds)
    kprobes = [fd for programs in bpf.kprobe_fds.values() for fd in programs.values()]
    return [*links, *kprobes, *(fd for table in tables for fd in table.values())]


@contextmanager
def held_by_child(fds: Iterable[int]) -> Iterator[None]:
    """Within the context, a process that is nobody's child any more holds `fds`, and nothing else; then it ends."""
    descriptors = sorted(set(fds))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            if os.fork() == 0:
                _hold(descriptors, reader)
        os._exit(0)
    os.close(reader)
    os.waitpid(child, 0)
    try:
        yield
    finally:
        os.close(writer)


def _hold(descriptors: list[int], reader: int) -> None:
    """Close all but `descriptors`, above all the terminal and pipes that somebody waits for the end of; wait for the parent."""
    os.setsid()
    low = 0
    for fd in sorted({*descriptors, reader}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _LARGEST_FD)
    os.read(reader, 1)
