"""Finds the calls of a library that threads are in already, by the return addresses on their stacks.

A probe on a function sees calls that begin after it was attached. A call that runs then has left two addresses on the stack of its
thread: one within the function, where what it called comes back to, and above that one in its caller, behind an instruction that
calls. Nothing is stopped and nothing but memory is read; a thread that is on a CPU does not show its stack, and is tried again.
What lies on a stack may be left over from a call that has ended. Whoever uses this looks twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.elf import Elf, NotElf

MOST_STACK: Final = 1 << 20
"""Bytes of a stack that are read, from its innermost frame on."""
LARGEST_FRAME: Final = 4096
"""Bytes of the frame of one of the functions."""
PATIENCE_S: Final = 0.1
"""How long threads that are on a CPU are tried again."""
STEP_S: Final = 0.002
_MAP: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+ *(.*)")
_CALL_RELATIVE: Final = 0xE8
_CALL_INDIRECT: Final = 0xFF
_CALL_BY_TABLE: Final = b"\xff\x15"
_JUMP_BY_TABLE: Final = b"\xff\x25"
"""Of x86-64, relative to the next instruction: what a call of a linked function leads through."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class MemoryMapping:
    """A mapping of a process: addresses, offset in the file, and what leads to that from here."""

    start: int
    end: int
    offset: int
    executable: bool
    file: str
    """Path below /proc/PID/map_files, "" if no file is mapped."""
    name: bytes


@dataclass(frozen=True)
class UnderWay:
    """A call that a thread is in."""

    tid: int
    function: int
    slot: int
    """Address on the stack of what it will return to within the function."""
    returns_to: tuple[str, int] | None
    """File and offset in it where the call will return to, None if that is not known."""


@dataclass(frozen=True)
class StackScan:
    """What the stacks of a process showed."""

    calls: tuple[UnderWay, ...]
    running: tuple[int, ...]
    """Threads that were on a CPU all the time."""


def under_way(pid: int, name: re.Pattern[bytes], functions: Sequence[str], patience_s: float = PATIENCE_S) -> StackScan:
    """Return the calls of the library whose name matches that threads of process `pid` are in: the outermost of each thread."""
    maps = _maps(pid)
    library = [each for each in maps if each.executable and name.search(each.name)]
    if not library:
        return StackScan((), ())
    extents = _extents(library, functions)
    waiting = _tasks(pid) if extents else []
    calls: list[UnderWay] = []
    deadline = time.monotonic() + patience_s
    while waiting:
        waiting = [tid for tid in waiting if not _look_at(pid, tid, maps, library, extents, calls)]
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(STEP_S)
    return StackScan(tuple(calls), tuple(waiting))


def still_there(pid: int, call: UnderWay) -> bool:
    """Whether a thread's stack is still as it was: it has not left the call."""
    with suppress(OSError, ValueError):
        pointer = _stack_pointer(pid, call.tid)
        return pointer is None or pointer <= call.slot
    return False


def _maps(pid: int) -> list[MemoryMapping]:
    ranges = []
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            if fields := _MAP.fullmatch(line):
                start, end, offset = (int(fields[place], 16) for place in (1, 2, 4))
                file = f"/proc/{pid}/map_files/{start:x}-{end:x}" if fields[5].startswith(b"/") else ""
                ranges.append(MemoryMapping(start, end, offset, fields[3][2:3] == b"x", file, fields[5]))
    return ranges


def _extents(library: Sequence[MemoryMapping], functions: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Return where each function begins and ends in memory."""
    extents: dict[int, tuple[int, int]] = {}
    for name in dict.fromkeys(each.name for each in library):
        mappings = [each for each in library if each.name == name]
        with suppress(OSError, NotElf):
            for number, (offset, size) in Elf(mappings[0].file).extents(functions).items():
                for mapping in mappings:
                    if mapping.offset <= offset < mapping.offset + mapping.end - mapping.start:
                        begin = mapping.start + offset - mapping.offset
                        extents[number] = begin, begin + size
    return extents


def _tasks(pid: int) -> list[int]:
    try:
        return [int(task) for task in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - names are wanted
    except OSError:
        return []


def _stack_pointer(pid: int, tid: int) -> int | None:
    """Return where the stack of a thread ends, None while it is on a CPU. Raises OSError if it is gone."""
    words = Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()
    return int(words[-2], 16) if len(words) >= 3 else None


def _look_at(
    pid: int,
    tid: int,
    maps: Sequence[MemoryMapping],
    library: Sequence[MemoryMapping],
    extents: Mapping[int, tuple[int, int]],
    calls: list[UnderWay],
) -> bool:
    """Add the call that a thread is in; returns False if the thread did not show its stack."""
    try:
        pointer = _stack_pointer(pid, tid)
    except (OSError, ValueError):
        return True  # it has ended
    if pointer is None:
        return False
    stack = next((each for each in maps if each.start <= pointer < each.end), None)
    if stack is None:
        return True
    begin = pointer & ~7
    words = _read(pid, begin, min(stack.end - begin, MOST_STACK))
    call = _outermost(words, extents)
    if call is not None:
        place, function = call
        above = words[place + 1 : place + 1 + LARGEST_FRAME // 8]
        called, back = _return(pid, above, maps, library, {begin: number for number, (begin, _) in extents.items()})
        calls.append(UnderWay(tid, function if called is None else called, begin + place * 8, back))
    return True


def _read(pid: int, address: int, size: int) -> Words:
    with suppress(OSError, OverflowError):
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(memory, size, address)
        finally:
            os.close(memory)
        return np.frombuffer(data[: len(data) & ~7], dtype="<u8")
    return np.empty(0, dtype="<u8")


def _outermost(words: Words, extents: Mapping[int, tuple[int, int]]) -> tuple[int, int] | None:
    """Return the place of the outermost address within one of the functions, and which one that is."""
    outermost: tuple[int, int] | None = None
    for function, (begin, end) in extents.items():
        places = np.flatnonzero((words > np.uint64(begin)) & (words <= np.uint64(end)))
        if len(places) and (outermost is None or places[-1] > outermost[0]):
            outermost = int(places[-1]), function
    return outermost


def _return(
    pid: int,
    words: Words,
    maps: Sequence[MemoryMapping],
    library: Sequence[MemoryMapping],
    entries: Mapping[int, int],
) -> tuple[int | None, tuple[str, int] | None]:
    """Return which function was called, and the file and offset that it returns to.

    That is the first address in other code, behind an instruction that calls one of `entries` (address -> function) by way of the
    table of linked functions; else behind one that calls through a register, where what it called cannot be known afterwards.
    """
    code = [each for each in maps if each.executable and each.file and each not in library]
    if not code:
        return None, None
    starts = np.array([each.start for each in code], dtype=np.uint64)
    ends = np.array([each.end for each in code], dtype=np.uint64)
    which = np.searchsorted(starts, words, side="right").astype(np.int64) - 1
    inside = (which >= 0) & (words < ends[np.maximum(which, 0)])
    unsure: tuple[str, int] | None = None
    for place in np.flatnonzero(inside).tolist():
        address, mapping = int(words[place]), code[int(which[place])]
        back = mapping.file, address - mapping.start + mapping.offset
        before = _read(pid, address - 8, 8).tobytes()
        called = entries.get(_called(pid, before, address))
        if called is not None:
            return called, back
        if unsure is None and _calls_by_register(before):
            unsure = back
    return None, unsure


def _called(pid: int, before: bytes, address: int) -> int:
    """Return the address that an instruction before `address` calls through a table of pointers, 0 if it does not."""
    if len(before) < 8:
        return 0
    if before[2:4] == _CALL_BY_TABLE:
        return _pointer(pid, address + _relative(before[4:]))
    if before[3] != _CALL_RELATIVE:
        return 0
    stub = address + _relative(before[4:])
    code = _read(pid, stub, 16).tobytes()
    place = code.find(_JUMP_BY_TABLE)
    if not 0 <= place <= len(code) - 6:
        return 0
    return _pointer(pid, stub + place + 6 + _relative(code[place + 2 : place + 6]))


def _relative(code: bytes) -> int:
    return int.from_bytes(code, "little", signed=True)


def _pointer(pid: int, address: int) -> int:
    words = _read(pid, address, 8)
    return int(words[0]) if len(words) else 0


def _calls_by_register(before: bytes) -> bool:
    return len(before) == 8 and (
        (before[6] == _CALL_INDIRECT and before[7] & 0xF8 in (0xD0, 0x10))
        or (before[5] == _CALL_INDIRECT and before[6] & 0xF8 == 0x50)
    )
