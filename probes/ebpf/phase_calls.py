"""Sees the calls of the GenAI library that mark phases: attaches to each file of it before the target calls it, if that is possible.

Known before the start are the libraries of the interpreter that is run. Of a program in a chroot, a container or behind a wrapper, the
libraries it may load are looked for when it is executed; what is mapped and still not known is attached to then. A call that is
under way at that moment, or when a running process is attached to, is found on the stack of its thread.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.probes.ebpf import stacks, uprobes
from cvtrace.probes.ebpf.libraries import RuntimeLibraries, mapped
from cvtrace.probes.events import EVENT, Events, Kind, Texts
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.probes.phases.inside import libraries_inside
from cvtrace.probes.phases.library import LIBRARY as GENAI
from cvtrace.probes.phases.own import OwnFunction, library_pattern, symbols_of
from cvtrace.probes.phases.pointer_table import slots
from cvtrace.probes.phases.runtimes.table import LIBRARY, PROGRAM, RUNTIMES

GENAI_LIBRARY: Final = re.compile(GENAI.encode())
ORT: Final = "libonnxruntime.so"
PATIENCE_NS: Final = 25_000_000
"""How long after its open it is waited with libonnxruntime: a program that loads it for GenAI loads GenAI next."""
NOTE: Final = "note"
"""Phase of functions that take no time: to be in one of them is nothing."""
SLOTS: Final = {function.index: function.slot for function in FUNCTIONS if function.slot >= 0}
SYMBOLS: Final = tuple(function.symbol for function in FUNCTIONS)
MODELS: Final = tuple(runtime.model for runtime in RUNTIMES if runtime.model)
"""How names of files end that a load reads first."""
HURRY_S: Final = 0.001
LOOK_FOR_LIBRARY_S: Final = 0.01
OWN_MISSING: Final = "no file that the target loaded has these symbols of --phases: {names}"
ON_CPU: Final = "{count} of the threads were on a CPU when the recording began and did not show their stacks: it may have begun in the middle of a call"
BEGAN_BEFORE: Final = "the recording began in the middle of a {phase} ({symbol}): what happened before is not seen, the rest counts as {phase}"
LATE: Final = "{name} was loaded {late_ms:.0f} ms before its calls could be marked: and a model was opened in that time: its load is not told from the import"


@dataclass(frozen=True)
class _Late:
    """A library that was attached to when it had been loaded already, and no call of it was under way."""

    name: str
    opened_ns: int
    attached_ns: int


def shown(path: str) -> str:
    """Return how the user knows a library, which may be held open."""
    return os.readlink(path) if path.startswith("/proc/self/fd/") else path  # noqa: PTH115


def _shown(key: Any, call: Any) -> int:
    """Return the function that an event of a call names."""
    return int(call.shown) - 1 if call.shown else int(key.function)


def _without_calls(library: str) -> str:
    return (
        f"{library} exports none of the calls that mark phases (of GenAI, wheels before 0.7 do not): "
        "load, prefill and decode cannot be distinguished"
    )


class PhaseCalls:
    """The uprobes on GenAI libraries; `processes_of` returns, for a thread in an event, the processes of /proc that it may be in."""

    def __init__(self, processes_of: Callable[[int], Iterable[int]], own: tuple[OwnFunction, ...] = ()) -> None:
        self._own = tuple(function for function in own if function.symbol)
        self._own_seen: set[str] = set()
        self._bpf: Any = None
        self._processes_of = processes_of
        self._libraries = RuntimeLibraries(self._attach_running, processes_of, library_pattern(self._own))
        self._own_numbers = True
        self._late: _Late | None = None
        self._endless: set[tuple[int, int]] = set()
        """Calls (thread, function) whose return cannot be seen."""
        self._deferred: dict[int, int] = {}
        """Process -> when it opened a library that may be GenAI's."""
        self.links: list[int] = []
        self.missing: list[str] = []
        self._is_settled = False
        """Whether nothing but what is opened from now on can be a library of the target."""
        self.marks = False
        """Whether calls of a library are seen: from the start, or since the target loaded one."""

    def start(self, bpf: Any, libraries: tuple[str, ...], *, own_numbers: bool) -> None:
        """Attach to the functions that the libraries export; a version that lacks one simply never calls it.

        `own_numbers`: the threads that /proc shows have the kernel's numbers.
        """
        self._bpf, self._own_numbers = bpf, own_numbers
        uprobes.prepare(bpf, "phase")
        genai = [library for library in libraries if GENAI in shown(library).rpartition("/")[2]]
        for library in libraries:
            is_genai = library in genai
            if is_genai or not self._is_observed(os.stat(library).st_dev):  # noqa: PTH116
                self._libraries.know(library)
                if self._attach(library):
                    self.marks = True
                    self._is_settled |= is_genai
        if genai and not self._is_settled:
            self.missing.append(_without_calls(shown(genai[0])))

    @property
    def drain_every_s(self) -> float | None:
        """How soon there has to be another look, None if there is nothing to look for."""
        if self._libraries.wakeup_fd:
            return HURRY_S
        if self._deferred:
            return LOOK_FOR_LIBRARY_S
        return None if self._is_settled and not self.own_missing() else LOOK_FOR_LIBRARY_S

    def add_target(self, pid: int) -> None:
        """Take what a process has mapped already, and the calls it is in."""
        since_ns = time.monotonic_ns()
        self._libraries.look_into(pid)
        calls, running = self._add_under_way(pid, since_ns)
        self.missing += [BEGAN_BEFORE.format(phase=FUNCTIONS[number].phase, symbol=SYMBOLS[number]) for number in calls]
        if running and not calls:
            self.missing.append(ON_CPU.format(count=running))

    def notice(self, texts: Texts) -> None:
        """Attach to what programs that begin, and opens of libraries, in a drained block lead to."""
        for row in texts[texts["kind"] == Kind.PROC_EXEC]:
            for pid in self._processes_of(int(row["tid"])):
                self._look_inside(pid, os.fsdecode(bytes(row["text"])))
        self._libraries.notice(texts)
        self._libraries.look()
        for pid, opened_ns in list(self._deferred.items()):
            if time.monotonic_ns() >= opened_ns + PATIENCE_NS:
                del self._deferred[pid]
                self._libraries.look_into(pid, opened_ns)
        self._notice_missed(texts)

    def in_flight_calls(self) -> Events:
        """Return an event for each call that has not returned; its `dur` is 0."""
        rows = [
            (call.ts, 0, call.tgid, key.tid, Kind.PHASE, 0, 0, _shown(key, call), call.argument, 0)
            for key, call in self._bpf[b"phase_calls"].items()
        ]
        return np.array(rows, dtype=EVENT)

    def end_by_next(self, events: Events) -> Events:
        """Return an event for each call whose return could not be seen and whose thread has marked another one in a drained block: it
        had ended when that began."""
        ended = []
        for tid, function in sorted(self._endless):
            later = events[(events["kind"] == Kind.PHASE) & (events["tid"] == tid) & (events["a"] != function)]
            calls = self._bpf[b"phase_calls"]
            key = calls.Key(tid, function)
            if not len(later) or key not in calls:
                continue
            call, end_ns = calls[key], int(later["ts"].min())
            shown = _shown(key, call)
            ended.append((call.ts, max(end_ns - call.ts, 0), call.tgid, tid, Kind.PHASE, 0, 0, shown, 0, 0))
            self._endless.discard((tid, function))
            del calls[key]
        return np.array(ended, dtype=EVENT)

    def _look_inside(self, pid: int, program: str) -> None:
        name = os.fsencode(program).rpartition(b"/")[2]
        if PROGRAM.fullmatch(name) or symbols_of(self._own, os.fsdecode(name)):
            with suppress(OSError):
                path = f"/proc/{pid}/exe"
                status = os.stat(path)  # noqa: PTH116
                if self._libraries.is_new(status):
                    self._attach_early(path, status, program)
        for fd in libraries_inside(pid, program):
            try:
                status = os.fstat(fd)
                if self._libraries.is_new(status) and not self._is_observed(status.st_dev):
                    self._attach_early(f"/proc/self/fd/{fd}", status)
            finally:
                os.close(fd)

    def _is_observed(self, device: int) -> bool:
        """Whether a file is on a FUSE mount that is known: to look into it would fill its caches."""
        dev = os.major(device) << 20 | os.minor(device)
        with suppress(KeyError):
            return bool(self._bpf[b"devices"][ctypes.c_uint32(dev)].dev)
        return False

    def _attach_early(self, path: str, status: os.stat_result, name: str = "") -> None:
        with suppress(
            Exception
        ):  # bcc raises plain Exception; a library that is mapped is tried again, and then it is said
            if self._attach(path, name):
                self._libraries.remember(status)
                self.marks = self._is_settled = True

    def own_missing(self) -> list[str]:
        """Return a sentence about symbols of --phases that no file had."""
        names = [function.symbol for function in self._own if function.symbol not in self._own_seen]
        return [OWN_MISSING.format(names=", ".join(names))] if names else []

    def _attach(self, path: str, name: str = "") -> bool:
        """Attach to the functions of a library; return whether it has any."""
        symbols = symbols_of(self._own, (name or shown(path)).rpartition("/")[2])
        rounds = uprobes.own_functions(path, symbols) if symbols else []
        self._own_seen |= set(symbols) if rounds else set()
        offsets = uprobes.functions(path, SYMBOLS) or slots(path, SLOTS)
        for each in [*([offsets] if offsets else []), *rounds]:
            self.links += uprobes.attach(self._bpf, path, each)
        return bool(offsets or rounds)

    def _attach_running(self, pid: int, path: str, name: str, opened_ns: int) -> None:
        """Attach to a library that process `pid` of the target has loaded; it opened it at `opened_ns`, 0 if that was not seen."""
        if ORT in name and time.monotonic_ns() < opened_ns + PATIENCE_NS:
            self._libraries.forget(path)
            self._deferred[pid] = opened_ns
            return
        if ORT in name and any(mapped(pid, GENAI_LIBRARY)):
            return  # GenAI loads it for itself: each of its calls lies in one of GenAI's, which is marked
        try:
            attached = self._attach(path, name)
        except Exception as error:  # bcc raises plain Exception for everything
            self.missing.append(f"{shown(name)} cannot be attached to ({error}): its calls do not mark phases")
            return
        if not attached and symbols_of(self._own, name.rpartition("/")[2]):
            return  # `own_missing` says it
        if not attached:
            self.missing.append(_without_calls(shown(name)))
            return
        self.marks = self._is_settled = True
        if opened_ns:
            calls, _ = self._add_under_way(pid, opened_ns, patience_s=0.0)
            if not calls:
                self._late = _Late(shown(name), opened_ns, time.monotonic_ns())

    def _notice_missed(self, texts: Texts) -> None:
        """Say that calls were missed if a model's configuration was read after a library was loaded and before it was attached to."""
        late = self._late
        if late is None:
            return
        during = texts[
            (texts["kind"] == Kind.SYS_OPEN) & (texts["ts"] > late.opened_ns) & (texts["ts"] < late.attached_ns)
        ]
        if any(bytes(text).endswith(MODELS) for text in during["text"]):
            self.missing.append(LATE.format(name=late.name, late_ms=(late.attached_ns - late.opened_ns) / 1e6))
            self._late = None

    def _add_under_way(
        self, pid: int, since_ns: int, patience_s: float = stacks.PATIENCE_S
    ) -> tuple[tuple[int, ...], int]:
        """Note the calls that a process is in as begun at `since_ns`; return which, and how many threads could not be looked at."""
        if not self._own_numbers:
            return (), 0
        with suppress(OSError, ValueError):
            tgid = int(Path(f"/proc/{pid}/status").read_text(errors="replace").partition("Tgid:")[2].split()[0])
            scan = stacks.under_way(tgid, LIBRARY, SYMBOLS, patience_s)
            inside = [call for call in scan.calls if FUNCTIONS[call.function].phase != NOTE]
            functions = [call.function for call in inside if self._note(tgid, call, since_ns)]
            return tuple(dict.fromkeys(functions)), len(scan.running)
        return (), 0

    def _note(self, tgid: int, call: stacks.UnderWay, since_ns: int) -> bool:
        """Note a call that a thread is in, and see to it that its end is seen; False if it ended meanwhile, or is known."""
        calls = self._bpf[b"phase_calls"]
        key = calls.Key(call.tid, call.function)
        if key in calls:
            return False
        self._endless.add((call.tid, call.function))
        if call.returns_to is not None:
            path, offset = call.returns_to
            with suppress(Exception):  # bcc raises plain Exception: then its end is not seen
                self.links += uprobes.attach_returns(self._bpf, path, {call.function: offset})
                self._endless.discard((call.tid, call.function))
        calls[key] = calls.Leaf(since_ns, 0, 0, tgid, 0, 0, 0)
        if stacks.still_there(tgid, call):
            return True
        with suppress(KeyError):
            del calls[key]
        return False
