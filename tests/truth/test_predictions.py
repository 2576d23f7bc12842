"""What reading takes with everything in the page cache, predicted from reading without, against reading again.

On a busy machine both wait for CPUs that others have, each in its own way. So what is compared is without these waits.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, succeed

from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.summary.assemble import Analysis, full_analysis
from cvtrace.analysis.whatif.own_time import own_time
from cvtrace.lab.publish import publish
from cvtrace.lab.stack import Options, Stack, drop_mount_cache, temporary, warm, wipe_client_cache
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).with_name("touch_and_read.py")
FILES = ("touch-1", "read-1", "touch-2", "read-2", "touch-3", "read-3")
SIZE = 32 << 20
BOUNDS = {"touch": (0.65, 1.3), "read": (0.2, 1.3)}
"""Of what reading again takes, on a busy machine. To copy what the client has just written takes less time than to copy what is no
longer in the caches of the CPU, so for a program that only copies the prediction may be too short."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Files in a lab, whose client has them in its cache."""
    if os.geteuid() != 0:
        pytest.skip("truth tests mount a file system and load BPF programs: they need root")
    source = tmp_path_factory.mktemp("files") / "source"
    source.mkdir()
    for name in FILES:
        (source / name).write_bytes(random.Random(name).randbytes(1 << 20) * (SIZE >> 20))
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        publish(source, fqrn=stack.fqrn, store=stack.store, at="/files")
        shutil.rmtree(source)
        stack = wipe_client_cache(stack)
        warm(stack, stack.mountpoint / "files")
        yield stack


@pytest.fixture(scope="module")
def analysis(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Record the script with nothing in the page cache when it reads each file for the first time."""
    trace = tmp_path_factory.mktemp("traces") / "trace"
    command = [*CVTRACE, "run", "--no-summary", "--probes", "ebpf", "-o", str(trace), "--mount", str(stack.mountpoint)]
    drop_mount_cache(stack.mountpoint)
    succeed([*command, "--", sys.executable, str(SCRIPT), *(str(stack.mountpoint / "files" / name) for name in FILES)])
    return full_analysis(read_trace(trace))


@pytest.mark.parametrize("phase", ["touch", "read"])
def test_everything_in_the_page_cache_takes_what_was_predicted(analysis: Analysis, phase: str) -> None:
    # GIVEN what a phase took on CPUs and waited for the client, and what is predicted of it
    report, study = analysis.report, analysis.study
    assert report.what_if is not None
    in_memory = next(each for each in report.what_if.predictions if each.name == "in_memory")
    predicted_s = {row.name: row.predicted_s for row in in_memory.phases}[phase]
    rows = {row.name: row for row in report.phases}
    waiting_s = {name: row.classes[Class.COMPUTE_WAIT.label] for name, row in rows.items()}
    ousted_s = int(own_time(study).ousted[study.phases.names.index(phase)]) / 1e9
    assert predicted_s is not None

    # WHEN it does the same again
    again = f"{phase} again"
    again_s = rows[again].wall_s - waiting_s[again]

    # THEN
    assert rows[phase].wall_s - waiting_s[phase] > 2 * again_s, "there is nothing to predict: both read alike"
    low, high = BOUNDS[phase]
    assert low <= (predicted_s - (waiting_s[phase] - ousted_s)) / again_s <= high
