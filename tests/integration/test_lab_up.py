"""The lab as a whole: real processes, real mounts, real crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from tiny import open_to_all

from cvtrace.lab import stack as lab
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import read_access_log
from cvtrace.lab.stack import mounts, processes

pytestmark = pytest.mark.root

SMALL = lab.Options(size_bytes=4_000_000, client="lab")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for state and mountpoint; whatever a test leaves up is taken down."""
    yield tmp_path
    lab.down(state=tmp_path / "state", purge=True, force=True)


def bring_up(folder: Path, **changes: object) -> lab.Stack:
    return lab.up(replace(SMALL, mount=folder / "mnt", **changes), state=folder / "state")  # type: ignore[arg-type]


def cvtrace(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CVTRACE, *argv], capture_output=True, text=True, check=False)


def nothing_is_left(stack: lab.Stack) -> bool:
    ended = not processes.is_running(stack.origin_pid) and not processes.is_running(stack.client_pid)
    return ended and mounts.filesystem_type(stack.mountpoint) is None


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    return processes.wait_until(condition, timeout_s)


def test_up_mounts_the_models_and_down_leaves_nothing(folder: Path) -> None:
    # WHEN
    stack = bring_up(folder, mapped_too=True)

    # THEN
    assert lab.status(state=folder / "state").up
    assert {path.name for path in stack.model.iterdir()} >= {"genai_config.json", "model.onnx", "model.onnx.data"}
    assert "disable_prepacking" in (stack.mapped_model / "genai_config.json").read_text()
    assert os.getxattr(stack.mountpoint, "user.fqrn") == stack.fqrn.encode()
    assert int(os.getxattr(stack.mountpoint, "user.pid")) == stack.client_pid
    assert any(entry.path.endswith("/.cvmfspublished") for entry in read_access_log(stack.access_log))

    # WHEN
    assert lab.down(state=folder / "state", purge=True)

    # THEN
    assert nothing_is_left(stack)
    assert list(folder.iterdir()) == []
    assert not lab.down(state=folder / "state")


def test_up_twice_is_up_once(folder: Path) -> None:
    # GIVEN
    first = bring_up(folder)

    # WHEN / THEN
    messages: list[str] = []
    options = replace(SMALL, mount=folder / "mnt")
    assert lab.up(options, state=folder / "state", say=messages.append) == first
    assert messages == ["the lab is already up"]
    with pytest.raises(LabError, match=r"up with quota_bytes .*`cvtrace lab down` first"):
        bring_up(folder, quota_bytes=1 << 30)


def test_a_second_up_builds_nothing_again(folder: Path) -> None:
    # GIVEN
    bring_up(folder)
    lab.down(state=folder / "state")

    # WHEN
    messages: list[str] = []
    lab.up(replace(SMALL, mount=folder / "mnt"), state=folder / "state", say=messages.append)

    # THEN
    assert not any(text.startswith(("building", "publishing", "mending")) for text in messages)


@pytest.mark.parametrize("victim", ["client", "origin", "both"])
def test_a_killed_process_is_reported_and_replaced(folder: Path, victim: str) -> None:
    # GIVEN
    stack = bring_up(folder)
    pids = {"client": [stack.client_pid], "origin": [stack.origin_pid]}
    pids["both"] = pids["client"] + pids["origin"]

    # WHEN
    for pid in pids[victim]:
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda pid=pid: not processes.is_running(pid))  # type: ignore[misc]

    # THEN
    status = lab.status(state=folder / "state")
    assert not status.up
    assert len(status.problems) == len(pids[victim])

    # WHEN
    mended = bring_up(folder)

    # THEN
    assert lab.status(state=folder / "state").up
    assert nothing_is_left(replace(stack, mountpoint=folder / "elsewhere"))
    assert (mended.model / "genai_config.json").read_text()


def test_names_may_contain_spaces_and_non_ascii_letters(folder: Path) -> None:
    # WHEN
    stack = lab.up(replace(SMALL, mount=folder / "m ö\\unt"), state=folder / "my stäte")

    # THEN
    assert lab.status(state=folder / "my stäte").up
    assert (stack.model / "genai_config.json").read_text()
    assert lab.down(state=folder / "my stäte", purge=True)
    assert nothing_is_left(stack)


def test_down_clears_a_dead_mount_away(folder: Path) -> None:
    # GIVEN
    stack = bring_up(folder)
    os.kill(stack.client_pid, signal.SIGKILL)
    assert eventually(lambda: not mounts.answers(stack.mountpoint))

    # WHEN
    assert lab.down(state=folder / "state")

    # THEN
    assert nothing_is_left(stack)


def test_up_repairs_an_up_that_was_killed(folder: Path) -> None:
    # GIVEN a `lab up` that dies as soon as it has started the origin
    argv = [*CVTRACE, "lab", "up", "--size", "4MB", "--client", "lab"]
    argv += ["--state", str(folder / "state"), "--mount", str(folder / "mnt")]
    starting = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually((folder / "state" / "origin.sock").exists)
    starting.kill()
    starting.wait()

    # WHEN
    status = lab.status(state=folder / "state")
    stack = bring_up(folder)

    # THEN
    assert not status.up
    assert lab.status(state=folder / "state").up
    origins = [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if _mentions(entry, stack.control)]
    assert len(origins) == 1


def _mentions(cmdline: Path, path: Path) -> bool:
    try:
        return os.fsencode(path) in cmdline.read_bytes().split(b"\0")
    except OSError:
        return False


def test_down_refuses_while_the_mount_is_in_use_and_force_does_not(folder: Path) -> None:
    # GIVEN
    stack = bring_up(folder)
    with (stack.model / "model.onnx").open("rb"):
        # WHEN / THEN
        with pytest.raises(LabError, match="cannot unmount"):
            lab.down(state=folder / "state")
        assert lab.status(state=folder / "state").up

        # WHEN
        lab.down(state=folder / "state", force=True)

    # THEN
    assert nothing_is_left(stack)


def test_a_wiped_cache_is_cold_and_a_read_one_warm(folder: Path) -> None:
    # GIVEN
    stack = bring_up(folder)
    read_bytes = lab.warm(stack)
    before = chunks_served(stack)

    # WHEN the kernel's cache of the mount is dropped, the client still has it all
    lab.drop_mount_cache(stack.mountpoint, stack.workspace)
    assert lab.warm(stack) == read_bytes
    assert chunks_served(stack) == before

    # WHEN the client's cache is wiped
    cold = lab.wipe_client_cache(stack)
    assert cold.client_pid != stack.client_pid
    assert lab.status(state=folder / "state").stack == cold
    lab.warm(cold)

    # THEN all is fetched again
    assert chunks_served(stack) == 2 * before


def chunks_served(stack: lab.Stack) -> int:
    from cvtrace.lab.origin import control

    control(stack.control, {"command": "wait_idle"})
    suffixes = ("C", "X")
    served = [entry.path for entry in read_access_log(stack.access_log) if "/data/" in entry.path]
    return sum(not path.endswith(suffixes) for path in served)


def test_injection_reaches_the_origin(folder: Path) -> None:
    # WHEN
    stack = bring_up(folder, delay_s=0.03, bandwidth_bytes_per_s=50e6)

    # THEN
    entries = read_access_log(stack.access_log)
    assert entries
    assert all(entry.delay_ns >= 30_000_000 for entry in entries)


def test_two_temporary_stacks_run_side_by_side() -> None:
    with lab.temporary() as first, lab.temporary() as second:
        assert first.mountpoint != second.mountpoint
        assert first.url != second.url
        assert (first.model / "model.onnx").read_bytes() == (second.model / "model.onnx").read_bytes()
    assert nothing_is_left(first)
    assert nothing_is_left(second)
    assert not first.state.exists()


def test_bad_options_are_refused_in_one_sentence_and_start_nothing(folder: Path) -> None:
    # GIVEN
    blocker = folder / "taken"
    blocker.mkdir()
    (blocker / "file").write_text("mine")

    # WHEN / THEN
    for changes, message in (
        ({"client": "/no/cvmfs2"}, "no client /no/cvmfs2"),
        ({"mount": blocker}, "is not empty"),
        ({"mount": Path("/proc")}, "something is mounted on /proc already"),
        ({"port": 1 << 20}, "did not start"),
        ({"size_bytes": 10}, "too small"),
    ):
        with pytest.raises(LabError, match=message):
            lab.up(replace(SMALL, **{"mount": folder / "mnt"} | changes), state=folder / "state")  # type: ignore[arg-type]
        assert lab.status(state=folder / "state").stack is None
        assert not (folder / "mnt").exists()


def test_lab_verbs_print_what_they_did(folder: Path) -> None:
    # GIVEN
    state = ["--state", str(folder / "state")]

    # WHEN
    up = cvtrace("lab", "up", "--size", "4MB", "--client", "lab", "--mount", str(folder / "mnt"), *state)

    # THEN
    assert up.returncode == 0, up.stderr
    assert f"{folder}/mnt/models/lab-4mb" in up.stdout
    result = cvtrace("lab", "status", "--json", *state)
    assert result.returncode == 0
    assert json.loads(result.stdout)["up"] is True
    assert cvtrace("lab", "down", *state).stdout == "the lab is down\n"
    result = cvtrace("lab", "status", *state)
    assert (result.returncode, result.stdout) == (1, "down\n")
    assert cvtrace("lab", "up", "--size", "much", *state).returncode == 2


def test_an_installed_cvmfs2_is_used(folder: Path) -> None:
    # GIVEN
    program = os.environ.get("CVTRACE_TEST_CVMFS2") or shutil.which("cvmfs2")
    if program is None:
        pytest.skip("no cvmfs2 is installed (or named by CVTRACE_TEST_CVMFS2)")

    # WHEN
    stack = bring_up(folder, client=program)

    # THEN
    assert lab.warm(stack) > 4_000_000
    assert lab.wipe_client_cache(stack).client_pid != stack.client_pid
    assert lab.down(state=folder / "state")
    assert nothing_is_left(stack)


def test_a_user_without_root_can_bring_it_up(tmp_path: Path) -> None:
    # GIVEN
    home = tmp_path / "home"
    home.mkdir()
    open_to_all(tmp_path)
    home.chmod(0o777)
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", f"HOME={home}"]
    verb = [*as_nobody, *CVTRACE, "lab"]
    state = ["--state", str(home / "state")]
    check = "import os, sys, cvtrace.lab.client; sys.exit(not os.access('/dev/fuse', os.R_OK | os.W_OK))"
    if subprocess.run([*as_nobody, sys.executable, "-c", check], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("another user cannot use this interpreter or /dev/fuse")

    # WHEN
    up = subprocess.run(
        [*verb, "up", "--size", "4MB", "--client", "lab", *state], capture_output=True, text=True, check=False
    )

    # THEN
    assert up.returncode == 0, up.stderr
    assert str(home / "state" / "mnt" / lab.FQRN) in up.stdout
    down = subprocess.run([*verb, "down", "--purge", *state], capture_output=True, text=True, check=False)
    assert down.returncode == 0, down.stderr
    assert list(home.iterdir()) == []
