"""Puts the BPF programs together for this kernel and says what it does not offer."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes import namespaces
from cvtrace.probes.ebpf import btf, client, kprobes, uprobes
from cvtrace.probes.ebpf.kprobes import Attachment, Chosen, Kprobes, NoKprobes
from cvtrace.probes.ebpf.records import declarations
from cvtrace.probes.ebpf.ring import record_bytes
from cvtrace.probes.ebpf.syscalls import numbers
from cvtrace.probes.events import EVENT, TEXT
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.probes.phases.runtimes.table import RUNTIMES
from cvtrace.probes.probe import CannotObserve

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"
EXIT: Final = "sched/sched_process_exit"
REQUESTS: Final = "fuse_requests.h"
NAMESPACES: Final = 4
"""PID namespaces that processes may be named in, besides the initial one."""
_TRACEFS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


@dataclass(frozen=True)
class Rung:
    """A program and the tracepoints it needs; `hides` says what is not seen without it, empty if nobody misses it."""

    program: str
    tracepoints: tuple[str, ...]
    hides: str
    shared: tuple[str, ...] = ()
    """Programs that go before this one or the one on kprobes."""
    traced: Kprobes | None = None
    """Another way to read the tracepoints, for kernels whose own way tells too little."""
    kprobes: tuple[Kprobes, ...] = ()
    """What sees the same where the tracepoints are missing; the first that this kernel allows is taken."""


RUNGS: Final = (
    Rung(
        "fuse.bpf.c",
        ("fuse/fuse_request_send", "fuse/fuse_request_end"),
        "the kernel has no FUSE tracepoints (6.11 and newer do): how long a request waits for the daemon is not seen",
        (REQUESTS,),
        kprobes.FUSE_TRACED,
        (kprobes.FUSE, kprobes.FUSE_WITHOUT_BTF),
    ),
    Rung(
        "pages.bpf.c",
        ("filemap/mm_filemap_fault", "filemap/mm_filemap_get_pages", "filemap/mm_filemap_map_pages"),
        "the kernel has no filemap tracepoints (6.12 and newer have them): reads served by the page cache are not seen",
        kprobes=(kprobes.PAGES,),
    ),
    Rung(
        "readahead.bpf.c",
        (
            "filemap/mm_filemap_fault",
            "readahead/page_cache_sync_ra",
            "readahead/page_cache_async_ra",
            "readahead/page_cache_ra_unbounded",
        ),
        "",  # 6.18 and newer have them; no class and no verdict needs them
    ),
    Rung(
        "sched.bpf.c",
        ("sched/sched_switch", "sched/sched_waking"),
        "the scheduler's tracepoints are missing: who waited for whom is not seen",
    ),
)
BASE: Final = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit", "sched/sched_process_fork")


@dataclass(frozen=True)
class Source:
    """A program text for BCC, and a sentence for each rung that is missing."""

    text: str
    programs: tuple[str, ...]
    missing: tuple[str, ...]
    attachments: tuple[Attachment, ...] = ()
    """Kprobes; everything else bcc attaches by the names in `text`, and the probe by the libraries of the target."""


def _available(tracefs: Path, tracepoints: tuple[str, ...]) -> bool:
    return all((tracefs / "events" / name / "format").is_file() for name in tracepoints)


def tracefs() -> Path:
    """Return where tracefs is mounted. Raises CannotObserve if it is not."""
    for path in _TRACEFS:
        if (path / "events" / "sched").is_dir():
            return path
    raise CannotObserve(
        "tracefs is not mounted, so there are no tracepoints: run `mount -t tracefs tracefs /sys/kernel/tracing` as root"
    )


def function_programs(name: str, functions: int) -> str:
    """Return a pair of programs for each of so many functions; `name`: those of the library that marks `phase`s, or the `client`'s."""
    return "".join(
        f"int {name}_enter_{index}(struct pt_regs *ctx) {{ return {name}_enter(ctx, {index}); }}\n"
        f"int {name}_exit_{index}(struct pt_regs *ctx) {{ return {name}_exit(ctx, {index}); }}\n"
        for index in range(functions)
    )


def returns_defines() -> list[str]:
    """Return what the programs have to know of the results of functions that mark phases: 1 or 0 for the index of a function."""
    lines = []
    for name, kind in (("RETURNS_POINTER", "pointer"), ("RETURNS_NOTHING", "nothing")):
        words = [0] * (len(FUNCTIONS) // 64 + 1)
        for function in FUNCTIONS:
            words[function.index // 64] |= (function.returns == kind) << function.index % 64
        bits = " : ".join(f"(f) < {64 * place + 64} ? {word}ULL >> ((f) & 63)" for place, word in enumerate(words))
        lines.append(f"#define {name}(f) (int)(({bits} : 0) & 1)")
    return lines


def tails_define() -> str:
    """Return how the programs recognise a name that ends as the libraries of runtimes do: the recorder is woken when one is opened."""
    words = [f"(t) == {int.from_bytes(tail, 'little')}ULL" for runtime in RUNTIMES for tail in runtime.tails]
    return f"#define IS_RUNTIME_TAIL(t) ({' || '.join(words)})"


@dataclass(frozen=True)
class Step:
    """What is used of a rung: its program on tracepoints, the one on kprobes, or none."""

    programs: tuple[str, ...]
    kprobes: Chosen | None = None
    missing: str = ""


def climb(rung: Rung, root: Path, types: Path = btf.SYSFS) -> Step:
    """Return what this kernel offers of `rung`; `root` is its tracefs, `types` the folder of its BTF."""
    traced, candidates, reasons = _available(root, rung.tracepoints), rung.kprobes, []
    if traced and (rung.traced is None or not rung.traced.is_meant_for(kprobes.release())):
        return Step((*rung.shared, rung.program))
    if traced and rung.traced:
        candidates = (rung.traced, *rung.kprobes)
    for candidate in candidates:
        try:
            functions = kprobes.traceable(root) if candidate.hooks else frozenset[str]()
            kprobes_of_rung = kprobes.choose(candidate, functions, types)
        except (NoKprobes, btf.NotInBtf) as reason:
            reasons.append(str(reason))
        else:
            return Step(("kprobes.h", *rung.shared, candidate.program), kprobes_of_rung)
    return Step((), missing=f"{rung.hides}; nor can kprobes help: {reasons[0]}" if reasons else rung.hides)


@dataclass(frozen=True)
class Slots:
    """How many slots the programs have for what is under way; powers of two."""

    thread: int = 65536
    displaced: int = 1024
    """Room for calls that find their slot taken; any number."""
    request: int = 4096
    device: int = 1024

    def defines(self) -> list[str]:
        """Return what the programs have to know."""
        return [f"#define {name.upper()}_SLOTS {number}" for name, number in vars(self).items()]


@dataclass(frozen=True)
class Rings:
    """How many pages the rings have."""

    event_pages: int
    text_pages: int

    def defines(self) -> list[str]:
        """Return what the programs have to know: also after how many records of one CPU the recorder is woken.

        If all CPUs write as much as that, an eighth of a ring is full: little to copy at once, and time for the recorder to come.
        """
        cpus = os.cpu_count() or 1
        lines = []
        for name, pages, record in (("EVENT", self.event_pages, EVENT), ("TEXT", self.text_pages, TEXT)):
            fit = pages * mmap.PAGESIZE // record_bytes(record)
            lines += [f"#define {name}_PAGES {pages}", f"#define {name}_WAKE {max(fit // 8 // cpus, 1)}"]
        return lines


def _has_argument(root: Path, tracepoint: str, argument: str) -> bool:
    """Whether a tracepoint of this kernel has an argument."""
    return f" {argument};" in (root / "events" / tracepoint / "format").read_text()


def _namespace_defines() -> list[str]:
    """Return what the programs have to know of PID namespaces; NAMESPACES where this process does not see the kernel's own numbers."""
    device = namespaces.device()
    lines = [f"#define NAMESPACE_DEVICE {os.major(device) << 20 | os.minor(device)}"]
    lines.append(f"#define INITIAL_NAMESPACE {namespaces.INITIAL}ULL")
    return lines if namespaces.sees_initial() else [*lines, f"#define NAMESPACES {NAMESPACES}"]


def source(rings: Rings, slots: Slots, rungs: tuple[Rung, ...] | None = None) -> Source:
    """Return the program for this kernel, with what it offers of `rungs` (None: all). Raises CannotObserve without the base layer."""
    root = tracefs()
    if not _available(root, BASE):
        raise CannotObserve("the kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS): use `--probes strace`")
    steps = [climb(rung, root) for rung in (RUNGS if rungs is None else rungs)]
    btf.forget()
    with_kprobes = [step.kprobes for step in steps if step.kprobes]
    optional = list(dict.fromkeys(name for step in steps for name in step.programs))
    needed = [name for name in (REQUESTS,) if name in optional]  # by the system calls
    programs = ["common.h", "calls.h", *needed, "syscalls.bpf.c", "processes.bpf.c", "phases.bpf.c", "client.bpf.c"]
    programs += [name for name in optional if name not in needed]
    defines = rings.defines() + slots.defines() + _namespace_defines()
    defines += ["#define FUSE_REQUESTS"] if needed else []
    defines += ["#define TELLS_GROUP_DEAD"] if _has_argument(root, EXIT, "group_dead") else []
    defines += [*returns_defines(), tails_define()]
    defines += [f"#define LOADED_NS {time.monotonic_ns()}ULL"]
    defines += [f"#define NR_{name} {number}" for name, number in numbers().items()]
    defines += [line for one in with_kprobes for line in one.defines]
    parts = ["#include <linux/types.h>", declarations(), "\n".join(defines)]
    parts += [(PROGRAMS / name).read_text(encoding="ascii") for name in programs]
    if kprobes.release() < uprobes.MULTI:  # they take time to compile
        parts.append(function_programs("phase", len(FUNCTIONS)))
        parts.append(function_programs("client", len(client.FUNCTIONS)))
    parts += [text for one in with_kprobes for text in one.programs]
    missing = tuple(step.missing for step in steps if step.missing)
    return Source(
        "\n".join(parts), tuple(programs), missing, tuple(hook for one in with_kprobes for hook in one.attachments)
    )
