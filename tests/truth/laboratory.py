"""A lab for one class of time at a time: a target that acts and logs, a lab that injects and logs, and what cvtrace found."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from cvtrace_run import CVTRACE
from slow_disk import SlowDisk

from cvtrace.analysis import analyse
from cvtrace.analysis.attribution.critical_path import CriticalPath as CriticalPath
from cvtrace.analysis.attribution.critical_path import critical_paths
from cvtrace.analysis.attribution.overlaps import Overlaps, overlaps
from cvtrace.analysis.attribution.study import Study, study_of
from cvtrace.analysis.attribution.workers import workers
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.joins.phases import Segments, life
from cvtrace.analysis.trace.intervals import Bools
from cvtrace.lab.client.delays import read_injected
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import AccessEntry, control, read_access_log
from cvtrace.lab.publish import publish
from cvtrace.lab.stack import Stack, remount, wipe_client_cache
from cvtrace.tracer.store import read_trace

ACTS = Path(__file__).with_name("acts.py")
CHUNK = 1 << 20
CHUNKS = 96
PATHS = 3000
"""Empty files beside it, so that the catalog has pages that nobody has read."""
TOLERANCE = 0.05


@dataclass(frozen=True)
class Act:
    """One thing that the target did, by its own log."""

    name: str
    tid: int
    start_ns: int
    end_ns: int
    cpu_ns: int
    runnable_ns: int
    blocked: int
    inside_ns: int = 0
    pages: tuple[tuple[int, int], ...] = ()
    """Pages of the model that the act made the kernel forget: first, last."""
    inode: int = 0

    @property
    def wall_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def cpu_s(self) -> float:
        return self.cpu_ns / 1e9

    @property
    def runnable_s(self) -> float:
        """Ready to run, without a CPU, as the kernel counted it."""
        return self.runnable_ns / 1e9

    @property
    def on_cpu_s(self) -> float:
        """On a CPU, for an act that never gave it away: interrupts, and what a hypervisor took, included."""
        assert self.blocked == 0, "the act was blocked"
        return self.wall_s - self.runnable_s

    @property
    def blocked_s(self) -> float:
        """Neither on a CPU nor ready to run."""
        return self.wall_s - self.cpu_s - self.runnable_s


@dataclass(frozen=True)
class Truth:
    """A line of the table: what was injected, and what was found in its class."""

    delay: str
    class_: str
    injected_s: float
    found_s: float

    @property
    def error(self) -> float:
        return self.found_s / self.injected_s - 1 if self.injected_s else float("inf")


@dataclass(eq=False)
class Run:
    """A traced run of acts.py with the logs of all that took part."""

    study: Study
    acts: dict[str, Act]
    served: list[AccessEntry]
    injected: list[dict[str, Any]]
    disk: list[dict[str, Any]]
    fed_ns: int = 0
    """When the target was given its input."""

    @cached_property
    def report(self) -> Report:
        return analyse(read_trace(self.study.recording.path))

    @cached_property
    def path(self) -> CriticalPath:
        """The critical paths of all acts, each through the thread that did it; `of` is the place in `acts`."""
        study, acts = self.study, list(self.acts.values())
        start, end, thread = (
            np.array(column, dtype=np.int64)
            for column in zip(*((act.start_ns, act.end_ns, act.tid) for act in acts), strict=True)
        )
        no_act = np.full(len(acts), -1, dtype=np.int64)
        segments = Segments(start, end, row=no_act, thread=thread, call=no_act)
        work = workers(study.recording, study.requests, study.opens, study.jobs, study.job_time)
        path, _, _ = critical_paths(study.recording, study.requests, work, study.waits, segments, study.phase_calls)
        return path

    @cached_property
    def bounds(self) -> Overlaps:
        """What overlaps the acts."""
        study, acts = self.study, list(self.acts.values())
        thread = np.array([act.tid for act in acts], dtype=np.int64)
        of = Segments(thread, thread, row=thread, thread=thread, call=thread)  # the threads are all that is looked at
        return overlaps(study.recording, study.requests, study.jobs, study.waits, self.path, of)

    def times_of(self, *acts: str) -> dict[str, float]:
        """Return the seconds of each class in acts, on the critical path through the thread that did each."""
        inside = self._of(*acts)
        times = np.bincount(self.path.value[inside], weights=self.path.length[inside], minlength=len(LABELS))
        return {name: spent / 1e9 for name, spent in zip(LABELS, times.tolist(), strict=True)}

    def spun_s(self, *acts: str) -> float:
        """Return how much of acts was at most spinning."""
        return int(self.bounds.spin[self._numbers(*acts)].sum()) / 1e9

    def starved_s(self, *acts: str) -> float:
        """Return how much of acts was waiting for a client without a CPU."""
        return int(self.bounds.starved[self._numbers(*acts)].sum()) / 1e9

    def _of(self, *acts: str) -> Bools:
        is_on: Bools = np.isin(self.path.of, self._numbers(*acts))
        return is_on

    def _numbers(self, *acts: str) -> list[int]:
        names = list(self.acts)
        return [names.index(act) for act in acts]

    def gets(self, act: str) -> list[AccessEntry]:
        """Return what the origin served during an act."""
        return [entry for entry in self.served if self._during(act, entry.start_ns)]

    def client(self, act: str, kind: str) -> list[dict[str, Any]]:
        """Return what the client logged during an act."""
        return [line for line in self.injected if line["what"] == kind and self._during(act, line["start_ns"])]

    def client_s(self, act: str, kind: str) -> float:
        """Return how long the client was slow on purpose during an act."""
        return _length_s(self.client(act, kind))

    def disk_s(self, act: str) -> float:
        """Return how long the client's disk was slow on purpose during an act."""
        return _length_s(line for line in self.disk if self._during(act, line["start_ns"]))

    def life_s(self) -> float:
        start_ns, end_ns = life(self.study.recording)
        return (end_ns - start_ns) / 1e9

    def _during(self, act: str, time_ns: int) -> bool:
        return self.acts[act].start_ns <= time_ns < self.acts[act].end_ns


def _length_s(lines: Any) -> float:
    return sum((line["end_ns"] - line["start_ns"] for line in lines), 0) / 1e9


@dataclass
class Laboratory:
    """A lab that is up, with a file of chunks that nobody has read."""

    stack: Stack
    folder: Path
    table: list[Truth]
    _chunk: int = 0
    _runs: int = 0

    @classmethod
    def set_up(cls, stack: Stack, folder: Path, table: list[Truth]) -> Laboratory:
        """Publish the file and mount what was published."""
        source = folder / "source"
        source.mkdir()
        (source / "data").write_bytes(random.Random(0).randbytes(CHUNKS * CHUNK))
        (source / "many").mkdir()
        for number in range(PATHS):
            (source / "many" / str(number)).touch()
        publish(source, fqrn=stack.fqrn, store=stack.store, at="/truth", chunk_size=CHUNK)
        shutil.rmtree(source)
        return cls(wipe_client_cache(stack), folder, table)

    @property
    def data(self) -> str:
        return str(self.stack.mountpoint / "truth" / "data")

    def fresh(self, chunks: int = 1) -> int:
        """Return the offset of a chunk, or of several, that nobody has read."""
        self._chunk += chunks
        assert self._chunk <= CHUNKS
        return (self._chunk - chunks) * CHUNK

    def origin(self, *injections: dict[str, Any]) -> list[Any]:
        """Return the act that makes the origin slow."""
        return ["origin", str(self.stack.control), {"command": "inject", "injections": list(injections)}]

    def hold(self, for_s: float) -> list[Any]:
        """Return the act that keeps the origin from accepting connections for a while."""
        return ["origin", str(self.stack.control), {"command": "hold_connections", "for_s": for_s}]

    def client(self, **injection: float) -> list[Any]:
        """Return the act that makes the client slow."""
        return ["client", str(self.stack.workspace / f"cvmfs_io.{self.stack.fqrn}"), injection]

    def remount(self, quota_bytes: int | None = None) -> None:
        """Let a new client, perhaps with another quota, take over the cache."""
        stack = replace(self.stack, quota_bytes=quota_bytes or self.stack.quota_bytes)
        deadline_s = time.monotonic() + 10
        while True:
            try:
                self.stack = remount(stack)
                return
            except LabError:  # whoever looks at all mounts of the machine keeps this one busy for a moment
                if time.monotonic() > deadline_s or not stack.mountpoint.is_mount():
                    raise
            time.sleep(0.05)

    def run(
        self,
        *acts: Sequence[Any],
        script: Path = ACTS,
        feed: Callable[[subprocess.Popen[bytes], Path], None] | None = None,
    ) -> Run:
        """Record a target that does the acts; `feed` is called meanwhile with the process and the target's log."""
        self._runs += 1
        trace, log = self.folder / f"acts-{self._runs}", self.folder / f"acts-{self._runs}.log"
        command = [*CVTRACE, "run", "--no-summary", "--probes", "ebpf", "-o", str(trace)]
        command += ["--mount", str(self.stack.mountpoint), "--", sys.executable, str(script), str(log)]
        command += [json.dumps(act) for act in acts]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        ) as run:
            feeder = threading.Thread(target=feed, args=(run, log)) if feed else None
            if feeder:
                feeder.start()
                feeder.join()
            try:
                output, _ = run.communicate(timeout=240)
            except subprocess.TimeoutExpired:
                run.kill()
                raise
        assert run.returncode == 0, output.decode()
        assert json.loads((trace / "meta.json").read_text())["lost"] == {}
        control(self.stack.control, {"command": "wait_idle"})
        control(self.stack.control, {"command": "inject", "injections": []})
        return Run(
            study=study_of(read_trace(trace)),
            acts=read_acts(log),
            served=read_access_log(self.stack.access_log),
            injected=read_injected(self.stack.workspace),
            disk=[json.loads(line) for line in self._disk_log.read_text().splitlines()]
            if self._disk_log.exists()
            else [],
        )

    @property
    def _disk_log(self) -> Path:
        return self.folder / "disk.log"

    @contextlib.contextmanager
    def slow_disk(self, delay_s: float) -> Iterator[None]:
        """Let all that is in the client's cache lie on a slow disk; the catalog, too, which a client opens once."""
        with SlowDisk(self.stack.workspace, self.folder / "disk", self._disk_log, delay_s) as disk:
            try:
                self.remount()
                yield
            finally:
                disk.give_back()
                self.remount()

    def check(
        self,
        description: str,
        class_: str,
        injected_s: float,
        found_s: float,
        felt_s: float = 0.0,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Note a line of the table, and compare.

        `felt_s` is what the one it was done to measured itself. On a busy machine that differs from what was done, because both sides wait
        for a CPU: what was found must lie between the two, or near. There the lower one may be small.
        """
        assert max(injected_s, felt_s) > 0.1, f"{description}: nothing was injected"
        self.table.append(Truth(description, class_, injected_s, found_s))
        assert found_s >= (1 - tolerance) * min(injected_s, felt_s or injected_s), description
        assert found_s <= (1 + tolerance) * max(injected_s, felt_s), description


def read_acts(log: Path) -> dict[str, Act]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["act"]: Act(line.pop("act"), **line) for line in lines}
