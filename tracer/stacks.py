"""Sampling the target's stacks beside a recording (`--stacks`): which processes, from when until when, and into the trace."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.probe import CannotObserve
from cvtrace.probes.stacks.able import Samplers, descendants, execution, is_python
from cvtrace.probes.stacks.frames import Samples
from cvtrace.probes.stacks.native import NativeSampler
from cvtrace.probes.stacks.process import Identity
from cvtrace.probes.stacks.python import RATE_HZ, PythonSampler
from cvtrace.tracer.folder import FRAMES_PARQUET, SAMPLES_PARQUET
from cvtrace.tracer.store import TraceWriter

LOOK_S: Final = 0.2
"""How often processes that have become Python are looked for."""
MOST_PROCESSES: Final = 16
"""That are sampled at a time."""
MOST_DESCENDANTS: Final = 1000
OTHER_USER: Final = "the stacks of process {pid} were not sampled: it runs as another user than the program"


class StackSampling:
    """The samplers of one recording."""

    def __init__(self, samplers: Samplers, identity: Identity) -> None:
        self._samplers = samplers
        self._identity = identity
        self._pid = 0
        self._native: NativeSampler | None = None
        self._python: dict[int, PythonSampler] = {}
        self._executions: dict[int, tuple[str, int]] = {}
        self._ended: list[PythonSampler] = []
        self._looked_s = 0.0
        self._missing: list[str] = []

    def before_release(self, pid: int) -> None:
        """Sample compiled code of a process that has not begun. Raises CannotObserve."""
        self._pid = pid
        if self._samplers.perf is None:
            return
        self._native = NativeSampler(self._samplers.perf, pid, self._identity)
        try:
            self._native.begin()
        except OSError as error:
            raise CannotObserve(f"--stacks: perf cannot record here: {error.strerror or error}") from None

    def tend(self) -> None:
        """Sample the processes that have become Python since the last call."""
        if self._samplers.py_spy is None or not self._pid or time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s = time.monotonic()
        for pid in descendants(self._pid, MOST_DESCENDANTS):
            self._look_at(pid, self._samplers.py_spy)

    def _look_at(self, pid: int, py_spy: str) -> None:
        executed = execution(pid)
        if executed is None:
            return
        if self._executions.get(pid) == executed:
            sampler = self._python.get(pid)
            if sampler is not None and not sampler.look():
                self._ended.append(self._python.pop(pid))
            return
        if not is_python(pid) or len(self._python) >= MOST_PROCESSES:
            return
        self._executions[pid] = executed
        if pid in self._python:  # it has executed another program
            self._leave(pid)
        if identity_of(pid) != self._identity:
            self._missing.append(OTHER_USER.format(pid=pid))
            return
        sampler = PythonSampler(py_spy, pid, self._identity, self._samplers.keeps)
        try:
            sampler.begin()
        except OSError as error:
            self._missing.append(f"py-spy did not start: {error.strerror or error}")
            return
        self._python[pid] = sampler

    def _leave(self, pid: int) -> None:
        sampler = self._python.pop(pid)
        sampler.stop()
        self._ended.append(sampler)

    def stop(self) -> None:
        """Stop sampling."""
        for pid in list(self._python):
            self._leave(pid)
        if self._native is not None:
            self._native.stop()

    def write_to(self, writer: TraceWriter) -> None:
        """Write what was sampled into the trace, and how into its meta.json."""
        from cvtrace.tracer.stack_tables import tables_of  # loads pyarrow

        samples = Samples()
        if self._native is not None:
            self._native.add_to(samples)
        for sampler in self._ended:
            sampler.add_to(samples)
        redaction = writer.redaction
        if samples.ts:
            rows, frames = tables_of(samples, redaction.path, redaction.name) if redaction else tables_of(samples)
            writer.add_file(SAMPLES_PARQUET, rows)
            writer.add_file(FRAMES_PARQUET, frames)
        writer.update_meta(stacks=self._meta(samples))

    def _meta(self, samples: Samples) -> dict[str, Any]:
        missing = list(self._missing)
        if self._native is not None and self._native.problem:
            missing.append(self._native.problem)
        if samples.dropped:
            missing.append(f"{samples.dropped:,} samples were dropped: there were too many")
        if any(sampler.failures for sampler in self._ended):
            missing.append("py-spy could not sample all of the time")
        by = [*(["py-spy"] if self._ended else []), *(["perf"] if self._native is not None else [])]
        return {
            "by": by,
            "rate_hz": RATE_HZ,
            "samples": len(samples.ts),
            "stacks": len(samples.stacks),
            "missing": list(dict.fromkeys(missing)),
        }


def identity_of(pid: int) -> Identity | None:
    """Return whom a process runs as, None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    numbers = {line.partition(":")[0]: line.split()[1:] for line in status.splitlines() if line[:3] in ("Uid", "Gid")}
    return Identity(int(numbers["Uid"][1]), int(numbers["Gid"][1]))
