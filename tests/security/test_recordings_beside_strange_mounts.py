"""Recordings while mounts of another user misbehave: they end in time, and the trace is complete."""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cvtrace_run import CVTRACE
from strange_site import COUNTERS, hostile_mount
from throwaway import Somebody

from cvtrace.probes.phases.hook import INJECT
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root
LATE_S = 30.0
"""Three mounts that hang took 25 s more than a recording takes."""
HANGS: dict[str, Any] = {"hang": ["getxattr", "getattr"]}


def recorded(*arguments: str | Path, probes: str = "portable") -> tuple[dict[str, Any], str]:
    """Record a program that does nothing; return the trace's meta.json and what was said."""
    began_s = time.monotonic()
    command = [*CVTRACE, "run", "--probes", probes, "-o", "trace", "--no-summary", *arguments, "--", "true"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - began_s < LATE_S
    trace = read_trace("trace")
    assert trace.damage is None
    report = subprocess.run(
        [*CVTRACE, "report", "trace", "--format", "json"], capture_output=True, text=True, check=True
    )
    json.loads(report.stdout)
    return trace.meta, result.stderr


def test_mounts_of_another_user_are_not_queried_and_not_mentioned(ann: Somebody, mount: Path, workdir: Path) -> None:
    """Three mounts that hang took 25 s of everybody's recording; each was observed, and could fill the recorder's buffer."""
    with contextlib.ExitStack() as stack:
        hostile = [stack.enter_context(hostile_mount(ann, shared=True, **HANGS)) for _ in range(3)]
        meta, stderr = recorded()
    paths = [mount["path"] for mount in meta["mounts"]]
    assert str(mount) in paths
    for mount_ in hostile:
        assert str(mount_.path) not in paths
        assert str(mount_.path) not in stderr
        (left_out,) = [
            mount_left_out for mount_left_out in meta["mounts_left_out"] if mount_left_out["path"] == str(mount_.path)
        ]
        assert left_out["why"] == f"user {ann.uid} mounted it: `--mount {mount_.path}` observes it"
    (honest,) = [item for item in meta["mounts"] if item["path"] == str(mount)]
    assert honest["error"] is None
    assert honest["counters_after"]["cvmfs.n_fs_open"] >= 0


@pytest.mark.parametrize("probes", ["ebpf", "portable"])
def test_a_requested_mount_that_hangs_is_reported_in_one_sentence(
    ann: Somebody, mount: Path, workdir: Path, probes: str
) -> None:
    """It held the recording up for 3 s when it was described, and for 4 s each time its counters were asked for."""
    with hostile_mount(ann, shared=True, **HANGS) as hostile:
        meta, _ = recorded("--mount", mount, "--mount", hostile.path, probes=probes)
    sentences = [reason for reason in meta["missing"] if str(hostile.path) in reason]
    assert sentences == [f"{hostile.path} does not answer within 1.5 s: its cvmfs2 hangs or its network is gone"]
    assert {mount["path"]: bool(mount["counters_after"]) for mount in meta["mounts"]} == {
        str(mount): True,
        str(hostile.path): False,
    }


def test_a_requested_mount_with_false_attributes_is_left_out(ann: Somebody, mount: Path, workdir: Path) -> None:
    """A traceback ended the recording."""
    with hostile_mount(ann, shared=True, xattrs={"user.fqrn": "evil.org", "user.pid": "\u00b2"}) as hostile:
        meta, _ = recorded("--mount", mount, "--mount", hostile.path)
    sentences = [reason for reason in meta["missing"] if str(hostile.path) in reason]
    assert sentences == [f"{hostile.path} is left out: its user.pid are not what a CVMFS client says"]
    assert [mount["path"] for mount in meta["mounts"]] == [str(mount)]


def test_a_limit_of_an_exabyte_does_not_damage_the_trace(ann: Somebody, mount: Path, workdir: Path) -> None:
    """The trace was "damaged", as the limit in bytes did not fit."""
    answers = {"affairs": COUNTERS, "limit": "1" + "0" * 15}
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}, socket="listen", talk=answers) as hostile:
        meta, _ = recorded("--mount", mount, "--mount", hostile.path)
    (evil,) = [mount for mount in meta["mounts"] if mount["path"] == str(hostile.path)]
    assert evil["quota_bytes"] is None
    assert evil["counters_after"]["cvmfs.n_fs_read"] == 2


def test_a_hanging_mount_that_appears_during_a_recording_does_not_delay_it(
    ann: Somebody, mount: Path, workdir: Path
) -> None:
    """A stranger's mount was taken in, and its daemon asked, whenever it appeared."""
    command = [
        *CVTRACE,
        "run",
        "--probes",
        "portable",
        "-o",
        "trace",
        "--no-summary",
        "--",
        "sh",
        "-c",
        "echo on; read line",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "on\n"
        with hostile_mount(ann, shared=True, **HANGS) as hostile:
            _, stderr = run.communicate("\n", timeout=120)
    assert run.returncode == 0
    assert str(hostile.path) not in stderr
    meta = read_trace("trace").meta
    assert str(hostile.path) not in [mount["path"] for mount in meta["mounts"]]
    assert not [reason for reason in meta["missing"] if str(hostile.path) in reason]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """What the target reads counters with, in the target itself."""
    monkeypatch.syspath_prepend(str(INJECT))
    yield importlib.import_module("_cvtrace_counts")
    for name in ("_cvtrace_counts", "_cvtrace_marks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("manner", ["silent", "endless", "drip"])
def test_the_target_does_not_wait_for_an_endless_answer(ann: Somebody, hook: ModuleType, manner: str) -> None:
    """The script hung for as long as bytes came, and took in all of them."""
    with hostile_mount(ann, socket="listen", talk={"how": manner}) as hostile:
        began_s = time.monotonic()
        with pytest.raises((ValueError, OSError)):
            hook.ask(str(hostile.workspace / "cvmfs_io.evil.org"), ann.uid)
        assert time.monotonic() - began_s < 5


def test_the_target_does_not_follow_a_link_to_a_socket_of_its_own_user(
    ann: Somebody, hook: ModuleType, tmp_path: Path
) -> None:
    """The script wrote "internal affairs" to whatever socket of its own user the link led to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        listener.setblocking(False)
        with (
            hostile_mount(ann, socket="link", target=str(tmp_path / "s")) as hostile,
            pytest.raises((ValueError, OSError)),
        ):
            hook.ask(str(hostile.workspace / "cvmfs_io.evil.org"), ann.uid)
        with pytest.raises(BlockingIOError):
            listener.accept()
