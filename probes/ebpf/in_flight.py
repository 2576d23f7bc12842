"""What is under way in the programs' tables: entered when observing begins, and made events of when it stops."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvtrace.probes.ebpf.loader import Slots
from cvtrace.probes.ebpf.records import ABSENCE, CALL, CALLS, REQUEST, ROLE_TARGET, SERVING
from cvtrace.probes.ebpf.syscalls import TARGET, numbers
from cvtrace.probes.events import EVENT, Events, Kind


def task_ids(pid: int) -> list[int]:
    """Return the threads of a process, none if it is gone."""
    return [int(task.name) for task in Path(f"/proc/{pid}/task").glob("[0-9]*")]


def in_flight_calls(tgid: int) -> Iterator[tuple[int, int]]:
    """Yield (tid, number of the call) for each thread of `tgid` that is blocked in a system call."""
    for task in Path(f"/proc/{tgid}/task").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            number = int((task / "syscall").read_text().split()[0])  # "running" for a thread that runs
            if number >= 0:
                yield int(task.name), number


def note_in_flight_calls(bpf: Any, slots: Slots, tgid: int, role: int) -> None:
    """Enter the calls in which the threads of `tgid` are blocked already, so that their return is not missed.

    A daemon's workers spend their idle time in a read of /dev/fuse: the first request of each would be lost.
    """
    with mapped_table(bpf, b"calls", CALL, slots.thread) as mapped:
        calls = np.frombuffer(mapped, dtype=CALL)
        calls["role"][calls["tgid"] == tgid] = role  # the target may have started a daemon
        for tid, nr in in_flight_calls(tgid):
            slot = tid & (slots.thread - 1)
            call = (tid, tgid, nr, role, time.monotonic_ns())
            if calls["ts"][slot] == 0:
                calls[slot] = call
            elif calls["tid"][slot] != tid:
                displaced, count = bpf[b"calls_displaced"], bpf[b"displacements"]
                displaced[ctypes.c_uint32(tid)] = displaced.Leaf(*call)
                count[CALLS] = ctypes.c_uint64(count[CALLS].value + 1)
        del calls


def system_calls(bpf: Any, slots: Slots) -> Events:
    """Return an event for each call that a thread of the target is in; here and below `dur` is 0."""
    calls = _entries(bpf, b"calls", CALL, slots.thread)
    kinds = np.zeros(512, dtype=np.uint16)
    for name, kind_of_call in TARGET.items():
        kinds[numbers()[name]] = kind_of_call or 0
    # A daemon's open write, poll or futex says nothing that its request does not say better.
    calls = calls[calls["role"] == ROLE_TARGET]
    kind = kinds[np.minimum(calls["nr"], 511)]
    events = _events(calls, calls["tgid"], kind, np.where(kind == Kind.SYS_WAIT, calls["nr"], 0), 0, 0)
    return np.compress(kind != 0, events)


def absences(bpf: Any, slots: Slots) -> Events:
    """Return an event for each thread that is off the CPU."""
    off_cpu = _entries(bpf, b"off_cpu", ABSENCE, slots.thread)
    return _events(off_cpu, off_cpu["tgid"], Kind.OFFCPU, off_cpu["wake_ts"], off_cpu["waker"], off_cpu["state"])


def requests_sent(bpf: Any, slots: Slots) -> Events:
    """Return an event for each request that the kernel has sent and that has not ended."""
    sent = _entries(bpf, b"requests", REQUEST, slots.request)
    head = sent["opcode"].astype(np.uint64) << np.uint64(32) | sent["len"]
    return _events(sent, sent["tgid"], Kind.FUSE_SEND, sent["unique"], sent["key"]["connection"], head)


def requests_served(bpf: Any, slots: Slots) -> Events:
    """Return an event for each request that a daemon has read and not answered."""
    read = _entries(bpf, b"serving", SERVING, slots.request)
    key = read["key"]
    return _events(read, key["tgid"], Kind.FUSE_DAEMON, key["unique"], read["nodeid"], read["opcode_pid"])


def page_faults(bpf: Any) -> Events:
    """Return an event for each page fault that is handled, where kprobes see its begin."""
    rows = [
        (call.ts, 0, call.tgid, tid.value, Kind.FAULT, 0, 0, call.st_dev, call.inode, call.index)
        for tid, call in bpf[b"faults"].items()
    ]
    return np.array(rows, dtype=EVENT)


def mapped_table(bpf: Any, table: bytes, record: np.dtype[Any], slots: int) -> contextlib.closing[mmap.mmap]:
    """Map an array of the programs."""
    return contextlib.closing(mmap.mmap(bpf[table].map_fd, slots * record.itemsize, mmap.MAP_SHARED))


def _entries(bpf: Any, table: bytes, record: np.dtype[Any], slots: int) -> npt.NDArray[np.void]:
    """Return what is in a table of slots, and in the hash of what found its slot taken."""
    with mapped_table(bpf, table, record, slots) as mapped:
        inside = np.frombuffer(bytes(mapped), dtype=record)
    displaced = b"".join(bytes(entry) for entry in bpf[table + b"_displaced"].values())
    entries: npt.NDArray[np.void] = np.concatenate([inside, np.frombuffer(displaced, dtype=record)])
    return np.compress(entries["ts"] != 0, entries)


def _events(entries: npt.NDArray[np.void], tgid: Any, kind: Any, a: Any, b: Any, c: Any) -> Events:
    """Return an event for each entry, of its `ts` and `tid`."""
    events = np.zeros(len(entries), dtype=EVENT)
    events["ts"], events["tgid"], events["tid"], events["kind"] = entries["ts"], tgid, entries["tid"], kind
    events["a"], events["b"], events["c"] = a, b, c
    return events
