"""Objects that are opened while they are open: clients since 2.13 make no open(2) for that, and hits and objects are as before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lab_mount import Lab, LabMount, lab

from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.joins.cache_use import HIT
from cvtrace.analysis.summary.assemble import analyse
from cvtrace.tracer.store import Trace, read_trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs are recorded")]

CHUNK = 1_000_000
FILES = {"small": os.urandom(50_000), "weights": os.urandom(3 * CHUNK)}
SCRIPT = """
import os, sys
def opened(name):
    fd = os.open(f"{sys.argv[1]}/{name}", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd
first, second = opened("small"), opened("small")
os.pread(first, 100, 0)
os.pread(second, 100, 20_000)
one, two = opened("weights"), opened("weights")
for page, (fd, chunk) in enumerate([(one, 0), (two, 0), (one, 1), (two, 1), (two, 2), (one, 0), (two, 0), (two, 0)]):
    os.pread(fd, 100, chunk * 1_000_000 + 8192 * page + 4096)
for fd in (first, second, one, two):
    os.close(fd)
os.close(opened("small"))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), FILES, chunk_size=CHUNK) as served:
        (served.folder / "reads.py").write_text(SCRIPT)
        yield served


def recorded(mounted: LabMount, folder: Path, script: Path, probes: str) -> tuple[Trace, int]:
    """Record the script; return the trace, and how many lookups of objects were hits, as the client counts."""
    list(mounted.root.iterdir())
    before = mounted.counters()
    command = [sys.executable, "-m", "cvtrace", "run", "--no-summary", "--probes", probes, "--mount", mounted.root]
    command += ["-o", folder / "trace", script, mounted.root]
    subprocess.run([str(word) for word in command], check=True, timeout=120)
    after = mounted.counters()
    grown = {name: after[name] - before[name] for name in ("fetch.n_invocations", "fetch.n_downloads")}
    return read_trace(folder / "trace"), grown["fetch.n_invocations"] - grown["fetch.n_downloads"]


@pytest.mark.parametrize("probes", ["ebpf", "strace"])
@pytest.mark.parametrize("like", ["2.12", "2.13"])
def test_hits_and_objects_are_those_that_the_client_counts(served: Lab, tmp_path: Path, like: str, probes: str) -> None:
    # GIVEN files that are opened and read through several handles at a time, of a client that plays 2.12 or 2.13
    with served.mount(cache=tmp_path / "cache", like=like) as mounted:
        # WHEN that is recorded
        trace, hits_of_client = recorded(mounted, tmp_path, served.folder / "reads.py", probes)
        # THEN the content is right, and all that was open is closed
        assert (mounted.root / "weights").read_bytes() == FILES["weights"]
        descriptors = [str(path.readlink()) for path in Path(f"/proc/{mounted.mounted.pid}/fd").iterdir()]
        assert not [path for path in descriptors if str(mounted.mounted.workspace) in path and "/txn/" in path]
    # and hits and misses are those of the client
    report, study = analyse(trace), study_of(trace)
    assert sum(phase.cache_hits or 0 for phase in report.phases) == hits_of_client
    assert sum(phase.cache_misses or 0 for phase in report.phases) == 4
    assert all(check.agree for check in report.checks)
    # and each hit is of the object that the client had open: that of `small`, or a chunk
    hits = study.use.use_object[study.use.use == HIT]
    assert len(hits) == hits_of_client
    assert np.bincount(hits, minlength=4).max() >= 2
    # and with 2.13 there were fewer opens of objects than hits
    shown = int((study.opens.is_hit & (study.opens.request >= 0)).sum())
    assert (shown == hits_of_client) if like == "2.12" else (shown < hits_of_client)
