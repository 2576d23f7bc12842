"""cvtrace with one part of the recording left out: `python -m benchmarks.run_ablated PART run …`. For benchmarks/ablation.py alone."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cvtrace.cli import main
from cvtrace.probes.ebpf import loader, probe, syscalls
from cvtrace.probes.ebpf.probe import EbpfProbe

BUFFER: tuple[str, ...] = ("--buffer", "512MB")
"""Room for a whole run, for a recorder that does not drain."""


def without_rungs(*programs: str) -> Callable[[], None]:
    """Return what leaves the programs of rungs out."""

    def leave_out() -> None:
        loader.RUNGS = tuple(rung for rung in loader.RUNGS if rung.program not in programs)  # type: ignore[misc]

    return leave_out


def without_calls(side: dict[str, object], *names: str) -> Callable[[], None]:
    """Return what makes the programs pass over system calls of one side; without names, over all of them."""

    def leave_out() -> None:
        for name in names or tuple(side):
            side.pop(name, None)

    return leave_out


def without_draining() -> None:
    """Let the recorder sleep until the target has ended."""
    EbpfProbe.drain_every_s = 3600.0  # type: ignore[assignment, misc]


def without_client_functions() -> None:
    """Attach to no function of the client's library."""
    probe.EbpfProbe._attach_client = lambda *_: None  # type: ignore[assignment, method-assign]


PARTS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "scheduler": without_rungs("sched.bpf.c"),
    "FUSE requests": without_rungs("fuse.bpf.c"),
    "page cache and readahead": without_rungs("pages.bpf.c", "readahead.bpf.c"),
    "readahead": without_rungs("readahead.bpf.c"),
    "calls of the target": without_calls(syscalls.TARGET),  # type: ignore[arg-type]
    "calls of the daemon": without_calls(syscalls.DAEMON),  # type: ignore[arg-type]
    "the daemon's writes and receives": without_calls(syscalls.DAEMON, "write", "recvfrom"),  # type: ignore[arg-type]
    "functions of the client": without_client_functions,
    "draining while the target runs": without_draining,
}
"""What can be left out, by the name in the table."""


if __name__ == "__main__":
    PARTS[sys.argv.pop(1)]()
    main()
