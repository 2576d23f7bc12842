"""How a mount of the lab's client begins and ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from client_files import FILES
from cvtrace_run import CVTRACE
from lab_mount import FQRN, Lab, LabMount
from namespaces import unshare
from waiting import wait_until

from cvtrace.lab.client import configure, start, unmount
from cvtrace.lab.client.mounting import is_running
from cvtrace.lab.errors import LabError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]


@pytest.mark.parametrize("end", ["unmount", "umount", "SIGTERM"])
def test_the_client_ends_cleanly(served: Lab, end: str) -> None:
    # GIVEN a mount
    with served.mount() as mounted:
        pid = mounted.mounted.pid
        (mounted.root / "models/config.json").read_bytes()

        # WHEN it is ended in one way or another
        if end == "SIGTERM":
            os.kill(pid, signal.SIGTERM)
        elif end == "umount":
            subprocess.run(["umount", str(mounted.root)], check=True)
        else:
            unmount(mounted.root)

        # THEN mount, process and socket are gone, and it can be mounted again
        wait_until(lambda: not os.path.ismount(mounted.root), "unmounted")
        wait_until(lambda: not is_running(pid), "the client ended")
        assert not (mounted.mounted.workspace / f"cvmfs_io.{FQRN}").exists()
        assert (mounted.mounted.workspace / "client.log").read_text() == ""
    with served.mount() as again:
        assert (again.root / "models/config.json").read_bytes() == FILES["models/config.json"]
        assert again.counters()["cache.n_certificate_hits"] == 1


def test_a_client_ends_although_another_namespace_keeps_its_mount(served: Lab) -> None:
    # GIVEN a mount, and a copy of it in a mount namespace that was made since, as a container has it
    with served.mount() as mounted:
        pid = mounted.mounted.pid
        command = [*unshare("--mount", "--propagation", "private"), "sh", "-c", "echo; read end"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()

            # WHEN it is unmounted here / THEN its client ends all the same
            unmount(mounted.root)
            assert not is_running(pid)
            process.communicate(b"\n")


def test_busy_mount_is_not_unmounted(mounted: LabMount) -> None:
    # GIVEN a file held open / WHEN unmounting / THEN it is refused with a reason, and the file reads on
    with (mounted.root / "models/config.json").open("rb") as file:
        with pytest.raises(LabError, match="busy"):
            unmount(mounted.root)
        assert file.read() == FILES["models/config.json"]


def mount_command(served: Lab, mountpoint: Path, *more: str) -> list[str]:
    arguments = [FQRN, str(mountpoint), "--url", served.url, "--key", str(served.published.key_path)]
    return [*CVTRACE, "lab", "mount", *arguments, "--cache", str(served.folder / "cache"), *more]


def test_command_mounts_and_reports(served: Lab) -> None:
    # GIVEN the command line
    mountpoint = served.folder / "mnt"
    mountpoint.mkdir()
    command = mount_command(served, mountpoint, "--quota", "100MB")

    # WHEN it mounts / THEN it returns when the mount answers; and a second time it says why not, with exit code 2
    first = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    try:
        assert (first.returncode, first.stderr) == (0, "")
        assert (mountpoint / "models/config.json").read_bytes() == FILES["models/config.json"]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert second.returncode == 2
        assert "already" in second.stderr
        assert second.stderr.count("\n") == 1
    finally:
        unmount(mountpoint)


def test_foreground_ends_with_ctrl_c(served: Lab) -> None:
    # GIVEN a mount in the foreground
    mountpoint = served.folder / "mnt"
    mountpoint.mkdir()
    command = mount_command(served, mountpoint, "--foreground")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "is mounted on" in process.stdout.readline()
        assert (mountpoint / "models/config.json").read_bytes() == FILES["models/config.json"]

        # WHEN Ctrl-C is pressed / THEN it ends without an error and nothing stays mounted
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert not os.path.ismount(mountpoint)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_client_is_detected_and_can_be_replaced(served: Lab) -> None:
    # GIVEN a client that was killed
    with served.mount() as mounted:
        os.kill(mounted.mounted.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(mounted.mounted.pid), "the client is dead")

        # WHEN it is mounted again / THEN the reason why not is said; after unmounting it works
        with pytest.raises(LabError, match="unmount"):
            start(configure(FQRN, mounted.root, served.url, served.published.key_path, served.folder / "cache"))
        unmount(mounted.root)
    with served.mount() as again:
        assert (again.root / "models/config.json").read_bytes() == FILES["models/config.json"]
