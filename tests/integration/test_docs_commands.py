"""The commands of the documentation, run as they are written, page by page, in a mount namespace."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import after

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.unit.docs.blocks_of_commands import blocks, runnable_pages  # noqa: E402

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounts below /cvmfs")]
DOWN = "trap 'cvtrace lab down --purge --force >/dev/null 2>&1' EXIT"
LIMIT_S = 240.0


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """One run of these tests at a time: removing /cvmfs/models.cvtrace.test takes the mount on it away in every namespace."""
    with Path("/tmp/cvtrace-docs-commands.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def short() -> Iterator[Path]:
    """A state folder whose path is short enough for the address of a socket."""
    with tempfile.TemporaryDirectory(prefix="cvt-docs-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("page", runnable_pages())
def test_the_commands_of_a_page_work_as_written(page: str, tmp_path: Path, short: Path) -> None:
    # GIVEN the blocks of a page that can run, one after the other in one shell
    script = "\n".join(
        ["set -e", DOWN, *(block.text for block in blocks() if block.page == page and block.how == "run")]
    )
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "XDG_STATE_HOME": str(short),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    # WHEN they run in an empty folder
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        after("", "bash", "-c", script),
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    # THEN all of them succeed
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Does generation hit CVMFS?" in done.stderr or "is mounted on" in done.stdout
