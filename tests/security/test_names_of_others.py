"""What a trace of one user holds of others who use the same mount: that they asked, and no name of what they asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cvtrace_run import CVTRACE
from lab_mount import Lab, LabMount, lab
from throwaway import PYTHON, Somebody
from tiny import open_to_all

from cvtrace.analysis import analyse
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

THEIRS = ("thesis-of-ben", "chapter-on-strikes", "not-there-but-wanted")
FILES = {
    "own/weights-of-ann": bytes(range(256)) * 4000,
    "own/shared-by-both": b"both read it" * 1000,
    f"{THEIRS[0]}/{THEIRS[1]}": b"nobody's business" * 50_000,
}
READS = """
import os, sys
print(flush=True)
for round in range(int(sys.argv[2])):
    for name in sys.argv[3:]:
        path = os.path.join(sys.argv[1], name)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        os.read(descriptor, 1 << 20)
        os.close(descriptor)
"""
OWN = """
import os, sys, time
begin = time.monotonic()
open(os.path.join(sys.argv[1], "own/weights-of-ann"), "rb").read()
open(os.path.join(sys.argv[1], "own/shared-by-both"), "rb").read()
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[3]) and time.monotonic() - begin < 60:
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    open_to_all(folder)
    with lab(folder, FILES) as found:
        yield found


@pytest.fixture
def cold(site: Lab) -> Iterator[LabMount]:
    """Mount with nothing in the client's cache."""
    shutil.rmtree(site.folder / "cache", ignore_errors=True)
    with site.mount() as mounted:
        yield mounted


def contents(trace: Path) -> bytes:
    """Return every text of a trace, unpacked, one after the other."""
    parts = [path.read_bytes() for path in trace.iterdir() if path.suffix != ".parquet"]
    for path in trace.glob("*.parquet"):
        table = pq.read_table(path)
        for name in table.column_names:
            values = table.column(name).to_pylist()
            if values and isinstance(values[0], bytes | str):
                parts += [value if isinstance(value, bytes) else value.encode() for value in values]
    return b"\n".join(parts)


@pytest.mark.parametrize("probes", ["ebpf", "strace", "portable"])
def test_names_that_others_ask_for_are_not_in_a_trace(cold: LabMount, here: Path, ben: Somebody, probes: str) -> None:
    """Before: names that anybody looked up on the mount, and paths of what was fetched for them, were in the trace."""
    # GIVEN a target that reads its own files, and another user who reads others of the mount meanwhile
    began, ended, trace = here / "began", here / "ended", here / "trace"
    command = [*CVTRACE, "run", "--probes", probes, "--no-summary", "-o", trace, "--mount", cold.root]
    with subprocess.Popen([*command, "--", sys.executable, "-c", OWN, cold.root, began, ended]) as target:
        while not began.exists():
            assert target.poll() is None
        paths = [f"{THEIRS[0]}/{THEIRS[1]}", f"{THEIRS[0]}/{THEIRS[2]}", "own/shared-by-both"]
        other = ben.start([PYTHON, "-c", READS, cold.root, "20", *paths], stdout=subprocess.PIPE)
        other.communicate()
        ended.touch()
        assert target.wait(60) == 0
    assert other.returncode == 0

    # THEN no name of theirs is in it; of what both read, the name is the target's
    found = contents(trace)
    for name in THEIRS:
        assert name.encode() not in found, name
    if probes != "portable":
        report = analyse(read_trace(trace))
        paths_read = {Path(row.path).name for row in report.files if row.reads}
        assert {"weights-of-ann", "shared-by-both"} <= paths_read
        # AND what they did is still told apart from what the target did: the client's counters agree
        assert all(check.agree is not False for check in report.checks), report.checks
