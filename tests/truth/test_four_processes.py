"""Four processes load at once through two mounts: every event belongs to the right process, mount and phase."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import cvtrace

from cvtrace.analysis.attribution.study import Study, study_of
from cvtrace.analysis.evidence.complete import collect_evidence
from cvtrace.analysis.joins.phases import NAMES
from cvtrace.analysis.storage.tables import storage_tables
from cvtrace.analysis.summary.rows import phase_rows
from cvtrace.lab.origin import AccessEntry, control, read_access_log
from cvtrace.lab.stack import Options, Stack, temporary, wipe_client_cache
from cvtrace.probes.events import Opcode
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root
FOUR = Path(__file__).with_name("fleet_of_four.py")


@dataclass(frozen=True)
class Process:
    """What one process logged: its mount and its calls, (what, start_ns, end_ns)."""

    pid: int
    mount: int
    calls: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Four:
    """A recording of four processes, what they logged, and what the two origins served."""

    study: Study
    processes: tuple[Process, ...]
    connections: tuple[int, ...]
    served: tuple[list[AccessEntry], ...]

    def requests_of(self, process: Process) -> np.ndarray:
        """Tell which requests threads of a process sent."""
        tid, tgid = self.study.recording.target_threads
        return np.isin(self.study.requests.asker, tid[tgid == process.pid])


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    folder = tmp_path_factory.mktemp("four")
    options = Options(size_bytes=24_000_000, client="lab", chunk_bytes=2 << 20)
    with temporary(options) as first, temporary(options) as two:
        stacks = tuple(wipe_client_cache(stack) for stack in (first, two))
        yield observe(stacks, folder)


def observe(stacks: tuple[Stack, ...], folder: Path) -> Four:
    models = [str(stack.model) for stack in (*stacks, *stacks)]
    log, trace = folder / "log", folder / "trace"
    connections = tuple(os.minor(stack.mountpoint.stat().st_dev) for stack in stacks)
    served_before = [len(read_access_log(stack.access_log)) for stack in stacks]
    mounted = [word for stack in stacks for word in ("--mount", stack.mountpoint)]
    options = ["--probes", "ebpf", "--no-summary", "-o", trace, *mounted]
    cvtrace("run", *options, "--", sys.executable, FOUR, log, *models)
    for stack in stacks:
        control(stack.control, {"command": "wait_idle"})
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    mounts = {str(stack.model): number for number, stack in enumerate(stacks)}
    served = tuple(
        read_access_log(stack.access_log)[before:] for stack, before in zip(stacks, served_before, strict=True)
    )
    processes = tuple(
        Process(line["pid"], mounts[line["model"]], tuple(tuple(call) for call in line["calls"])) for line in logged
    )
    return Four(study_of(read_trace(trace)), processes, connections, served)


def test_the_four_loads_overlap(four: Four) -> None:
    loads = [call for process in four.processes for call in process.calls if call[0] == "load"]
    assert len(loads) == 4
    assert max(start for _, start, _ in loads) < min(end for _, _, end in loads)
    assert four.study.recording.meta["lost"] == {}


def test_every_request_is_of_the_mount_that_its_process_used(four: Four) -> None:
    # THEN each process has sent requests, to its own mount alone
    for process in four.processes:
        connection = four.study.requests.connection[four.requests_of(process)]
        assert len(connection) > 10
        assert set(connection.tolist()) == {four.connections[process.mount]}
    # AND no READ of the target is of a process that is none of them
    in_processes = np.any([four.requests_of(process) for process in four.processes], axis=0)
    reads = four.study.requests.by_target & four.study.requests.is_(Opcode.READ)
    assert not (reads & ~in_processes).any()


def test_every_request_is_of_the_phase_that_its_process_was_in(four: Four) -> None:
    table = four.study.requests
    for process in four.processes:
        of_process = np.flatnonzero(four.requests_of(process))
        row = four.study.request_phase[of_process]
        for name in ("load", "tokenizer", "prefill", "decode"):
            spans = [(start, end) for call, start, end in process.calls if call == name]
            within = np.any(
                [(table.sent[of_process] >= start) & (table.sent[of_process] < end) for start, end in spans], axis=0
            )
            # The script's clock is read around the call: what lies between the two may be said of neither.
            assert set(np.array(NAMES)[row[within]].tolist()) <= {name, "between", "script"}
            assert (row[~within] != NAMES.index(name)).all()

    # AND of each mount, whoever of its two processes came first, most was read in the load
    reading = four.study.request_phase[table.is_(Opcode.READ) & table.by_target] == NAMES.index("load")
    assert reading.sum() > 20


def test_each_mount_counts_what_was_traced_of_it(four: Four) -> None:
    # GIVEN the counters of both clients, and the logs of both origins
    study = four.study
    for number, connection in enumerate(four.connections):
        (mount,) = [mount for mount in study.mounts if mount.connection == connection]
        on_mount = study.requests.connection == connection
        # THEN reads and opens are as the client counted, fetches as its origin served
        assert int((study.requests.is_(Opcode.READ) & on_mount).sum()) == mount.counter_delta("cvmfs.n_fs_read")
        assert int((study.requests.is_(Opcode.OPEN) & on_mount).sum()) == mount.counter_delta("cvmfs.n_fs_open")
        fetched = study.gets.daemon == mount.daemon_pid
        lines = sorted(line.split()[1] for line, is_fetched in zip(study.gets.line, fetched, strict=True) if is_fetched)
        assert lines == sorted(entry.path for entry in four.served[number]) != []


def test_tokens_and_phases_of_all_four_are_reported(four: Four) -> None:
    rows = {row.name: row for row in phase_rows(four.study, collect_evidence(four.study), storage_tables(four.study))}
    assert rows["decode"].count == 4 * 8
    assert rows["load"].count >= 4
    assert all(abs(sum(row.classes.values()) - row.wall_s) <= 0.001 * row.wall_s + 1e-6 for row in rows.values())
