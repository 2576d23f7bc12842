"""A wait for another process of the target is followed into what that process waited for, for each way to communicate.

What is right is said by the reader: how long its read took by its own clock.
"""

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
from lab_mount import lab
from waits_of_processes import CHUNK, WAYS

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.attribution.study import Study, study_of
from cvtrace.analysis.contract.classes import Class
from cvtrace.lab.origin import Injection
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]
SCRIPT = Path(__file__).with_name("waits_of_processes.py")
DELAY_S = 0.08
NETWORK = [int(class_) for class_ in Class if class_.group in ("network", "cache")]


@dataclass(frozen=True)
class Waited:
    """A recording of a script that waits in all ways, and what it logged: way -> (start, end, seconds its reader read)."""

    study: Study
    report: Report
    log: dict[str, tuple[int, int, float]]

    def classes_s(self, way: str) -> dict[str, float]:
        """Return the seconds of each class of the waiting thread in a way."""
        start, end, _ = self.log[way]
        pid = np.array([self.study.recording.target_pid])
        path = self.study.threads.between(pid, np.array([start]), np.array([end]))
        spent = np.bincount(path.value, weights=path.length, minlength=len(Class))
        return {class_.label: float(spent[class_]) / 1e9 for class_ in Class}


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waited]:
    folder = tmp_path_factory.mktemp("processes")
    delay = Injection(match="*P", first_byte_delay_s=DELAY_S)
    files = {"data": os.urandom(CHUNK * (len(WAYS) + 1))}
    with lab(folder, files, chunk_size=CHUNK, injections=(delay,)) as served, served.mount() as mounted:
        log, trace = folder / "log", folder / "trace"
        mounted.drop_caches()
        options = ["--probes", "ebpf", "--no-summary", "-o", trace, "--mount", mounted.root]
        cvtrace("run", *options, "--", sys.executable, SCRIPT, mounted.root / "data", log, *WAYS)
        trace_ = read_trace(trace)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        yield Waited(study_of(trace_), analyse(trace_), {name: (start, end, took) for name, start, end, took in lines})


@pytest.mark.parametrize("way", WAYS)
def test_a_wait_for_a_process_is_followed_into_that_process(waited: Waited, way: str) -> None:
    # GIVEN a process that waited for another one, whose read waited for the origin
    start, end, took_s = waited.log[way]
    assert took_s >= DELAY_S

    # WHEN
    classes = waited.classes_s(way)

    # THEN the wait is what the read waited for: the server above all, and nothing is "not of CVMFS"
    assert classes["network.request"] >= 0.9 * DELAY_S
    assert sum(spent for name, spent in classes.items() if name.startswith(("network", "cache"))) >= 0.9 * took_s
    assert classes["other.io"] + classes["other.idle"] <= 0.1 * took_s, classes
    assert sum(classes.values()) == pytest.approx((end - start) / 1e9, rel=0.001)


def test_a_sleep_is_idle_also_if_its_timer_interrupts_another_process(waited: Waited) -> None:
    classes = waited.classes_s("sleep")
    assert classes["other.idle"] >= 0.95 * 0.2, classes
