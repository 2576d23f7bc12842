"""`cvtrace bench` without root, on a client of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from unprivileged import NOBODY, as_nobody, cannot

from cvtrace.analysis.bench import read_bench

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(cannot() is not None, reason=str(cannot())),
    pytest.mark.skipif(shutil.which("fusermount3") is None, reason="fusermount3 is not installed"),
]

READS = """
import pathlib, sys, cvtrace
with cvtrace.phase("load"):
    for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        path.read_bytes()
"""
ALL = """
set -e
"$0" -m cvtrace lab up --size 1MB --mount "$1/mnt"
"$0" -m cvtrace bench -o out --repeats 1 reads.py "$1"/mnt/models/lab-1mb && code=0 || code=$?
"$0" -m cvtrace lab down --purge
exit $code
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "a user's"
        folder.mkdir()
        folder.parent.chmod(0o711)
        yield folder


def test_a_user_measures_on_a_client_of_ones_own(folder: Path) -> None:
    # GIVEN a user without any privilege, who has mounted the lab with fusermount3
    (folder / "reads.py").write_text(READS)
    os.chown(folder, NOBODY, NOBODY)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder / "s")}
    # WHEN the user measures in all states
    command = as_nobody(["sh", "-c", ALL, sys.executable, folder], folder, may_mount=True)
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False)
    # THEN all are reached, and the results tell what was not seen and what was done in another way
    assert done.returncode == 0, done.stderr
    made = read_bench(folder / "out")
    assert {run.state for run in made.runs if run.counts and not run.traced} == set(made.info.states)
    assert "as root it tells network, cache and compute apart" in done.stdout
    assert "the path of the copy takes the place of" in done.stderr
