"""Requests of the target to FUSE mounts that are not observed: excluded by --mount, not CVMFS, or in the target's mount namespace."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvtrace_run import run, script, trace_of
from ebpf_recording import of_kind
from namespaces import unshare
from tiny import open_to_all, tiny_mount
from waiting import wait_until

from cvtrace.analysis.trace.recording import recording
from cvtrace.probes.events import Kind, Opcode

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

READS = "import sys\nfor path in sys.argv[1:]: print(len(open(path, 'rb').read()))\n"
IN_ITS_OWN_NAMESPACE = """
import os, subprocess, sys, time
mount, workspace = sys.argv[2:]
daemon = subprocess.Popen([sys.executable, sys.argv[1], mount, workspace, 'x.test.org'], env={**os.environ, 'TINY_SOURCE': 'inside'})
while not os.path.exists(mount + '/model'): time.sleep(0.01)
print(len(open(mount + '/model', 'rb').read()))
subprocess.run(['umount', mount], check=True)
daemon.wait()
"""


@pytest.fixture
def second_mount(tmp_path: Path) -> Iterator[Path]:
    """Mount another CVMFS."""
    (tmp_path / "other").mkdir()
    open_to_all(tmp_path)
    with tiny_mount(tmp_path / "other", fqrn="other.test.org") as (path, _):
        yield path


@contextlib.contextmanager
def stranger(folder: Path) -> Iterator[Path]:
    """Mount one file with FUSE that has nothing to do with CVMFS."""
    mount, workspace = folder / "plain", folder / "plain-workspace"
    mount.mkdir()
    workspace.mkdir()
    program = [sys.executable, Path(__file__).with_name("tiny_mount.py"), mount, workspace, "plain"]
    daemon = subprocess.Popen(program, env={**os.environ, "TINY_SOURCE": "sshfs"}, stderr=subprocess.DEVNULL)
    try:
        wait_until((mount / "model").exists, "it is mounted")
        yield mount
    finally:
        subprocess.run(["umount", mount], check=False)
        daemon.wait()


def other_mounts(meta: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["path"]: mount for mount in meta["other_mounts"]}


def test_reads_of_the_target_on_excluded_mounts_are_recorded(workdir: Path, mount: Path, second_mount: Path) -> None:
    # GIVEN a recording of one mount; another CVMFS mount and a mount of something else
    with stranger(workdir) as plain:
        reads = subprocess.Popen(
            [sys.executable, "-c", "import sys\nwhile True: open(sys.argv[1], 'rb').read()", str(plain / "model")]
        )
        try:
            # WHEN the target reads from the others, while a stranger does as well
            result = run(mount, script(READS), str(second_mount / "model"), str(plain / "model"), probes="ebpf")
        finally:
            reads.kill()
            reads.wait()
        devices = {path: path.stat().st_dev for path in (mount, second_mount, plain)}
    trace = trace_of(result)

    # THEN both are named, with their type and source, as used
    mounts = other_mounts(trace.meta)
    assert [mounts[str(path)]["used"] for path in (second_mount, plain)] == [True, True]
    assert (mounts[str(plain)]["type"], mounts[str(plain)]["source"]) == ("fuse", "sshfs")
    assert {path: mounts[str(path)]["device"] for path in (second_mount, plain)} == {
        path: devices[path] for path in (second_mount, plain)
    }
    assert str(mount) not in mounts

    # THEN each request is there that the target sent, with its times, and none of the stranger's
    sends = of_kind(trace.events, Kind.FUSE_SEND)
    assert set(sends["tgid"][np.isin(sends["b"], [devices[second_mount], devices[plain]])].tolist()) == {
        trace.meta["target"]["pid"]
    }
    for path in (second_mount, plain):
        opcodes = (sends["c"][sends["b"] == mounts[str(path)]["connection"]] >> np.uint64(32)).tolist()
        assert Opcode.OPEN in opcodes
    opcodes = (sends["c"][sends["b"] == mounts[str(second_mount)]["connection"]] >> np.uint64(32)).tolist()
    assert Opcode.READ in opcodes
    assert (sends["dur"] > 0).all()

    # THEN the pages that it touched are there, and none of that is taken for something of the observed mount
    page_reads = of_kind(trace.events, Kind.PAGE_READ)
    assert {devices[second_mount], devices[plain]} <= set(page_reads["a"].tolist())
    read = recording(trace)
    assert set(read.of(Kind.FUSE_SEND).b.tolist()) <= {devices[mount]}
    assert devices[second_mount] in of_kind(read.unobserved_events, Kind.FUSE_SEND)["b"].tolist()
    assert not np.isin(read.of(Kind.PAGE_READ).a, [devices[second_mount], devices[plain]]).any()


def test_requests_to_a_mount_in_the_targets_mount_namespace_are_recorded(workdir: Path, mount: Path) -> None:
    # GIVEN a target that mounts something in a mount namespace of its own
    (workdir / "inside").mkdir()
    (workdir / "workspace").mkdir()
    program = Path(__file__).with_name("tiny_mount.py")

    # WHEN it reads there
    words = [script(IN_ITS_OWN_NAMESPACE), str(program), str(workdir / "inside"), str(workdir / "workspace")]
    result = run(mount, "--", *unshare("--mount"), sys.executable, *words, probes="ebpf")

    # THEN the mount is named by the path that it has there
    trace = trace_of(result)
    assert result.stdout == "800000\n", result.stderr
    mounts = other_mounts(trace.meta)[str(workdir / "inside")]
    assert (mounts["used"], mounts["source"]) == (True, "inside")
    sends = of_kind(trace.events, Kind.FUSE_SEND)
    assert Opcode.READ in (sends["c"][sends["b"] == mounts["connection"]] >> np.uint64(32)).tolist()


def test_a_mount_that_the_target_does_not_use_is_listed_as_unused(
    workdir: Path, mount: Path, second_mount: Path
) -> None:
    # WHEN the target reads from the observed mount only
    result = run(mount, script(READS), str(mount / "model"), probes="ebpf")
    # THEN
    meta = json.loads(Path("trace/meta.json").read_text())
    assert other_mounts(meta)[str(second_mount)]["used"] is False, result.stderr
