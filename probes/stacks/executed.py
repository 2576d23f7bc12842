"""Takes out of what perf recorded the mappings that a process had before it executed its program.

`perf script` keeps them beside the new ones, and looks a library's tables up at the lowest address that the library ever had in the process
(tools/perf/util/unwind-libunwind-local.c): without this, about half of the stacks end after one frame.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import IO, Final

_HEADER: Final = struct.Struct("<IHH")
_PIPE_HEADER_BYTES: Final = 16
_COMM, _FORK, _MMAP, _MMAP2 = 3, 7, 1, 10
_EXECUTED: Final = 1 << 13
"""PERF_RECORD_MISC_COMM_EXEC."""
_TIME_FROM_END: Final = 16
"""At the end of a record are thread, time and the number of the event (perf_event_open(2), sample_id)."""
_NOBODY: Final = struct.pack("<I", 0x7FFFFFF0)


def without_former_mappings(recorded: IO[bytes]) -> None:
    """Give mappings that an exec has undone, and forks that an exec followed, to a process that does not exist; in place."""
    size = recorded.seek(0, 2)
    if size <= _PIPE_HEADER_BYTES:
        return
    with mmap.mmap(recorded.fileno(), size) as data:
        executed: dict[int, int] = {}
        for at, kind, misc, end in _records(data):
            if kind == _COMM and misc & _EXECUTED:
                pid = _number(data, at + 8)
                executed[pid] = max(executed.get(pid, 0), _time(data, end))
        for at, kind, _, end in _records(data):
            if kind in (_MMAP, _MMAP2, _FORK) and _time(data, end) < executed.get(_number(data, at + 8), 0):
                data[at + 8 : at + 12] = _NOBODY
                if kind != _FORK:
                    data[at + 12 : at + 16] = _NOBODY
                else:  # pid, ppid, tid, ptid
                    data[at + 16 : at + 20] = _NOBODY


def _records(data: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Yield where each record begins, its type, its flags, and where it ends."""
    at = _PIPE_HEADER_BYTES
    while at + _HEADER.size <= len(data):
        kind, misc, size = _HEADER.unpack_from(data, at)
        if size < _HEADER.size + 8 or at + size > len(data):
            if size < _HEADER.size:
                return
            at += size
            continue
        yield at, kind, misc, at + size
        at += size


def _number(data: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _time(data: mmap.mmap, end: int) -> int:
    return int(struct.unpack_from("<Q", data, end - _TIME_FROM_END)[0])
