"""Processes of another user that call themselves cvmfs2 are not taken for the daemon of a mount, and do not delay its search."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from strange_site import hostile_mount
from throwaway import PYTHON, Somebody
from waiting import wait_until

from cvtrace.probes.cvmfs.daemon import Process, cache_managers, find_daemon
from cvtrace.probes.cvmfs.mounts import mount_points
from cvtrace.probes.cvmfs.processes import Client, clients
from cvtrace.probes.cvmfs.survey import describe

pytestmark = pytest.mark.root
NAMED = (
    "open('/proc/self/comm', 'w').write('cvmfs2'); import os, sys; os.chdir(sys.argv[1]); print(flush=True); input()"
)
"""A process called cvmfs2, with any arguments, in any folder."""
UNREADABLE = """
import mmap, os, sys
open("/proc/self/comm", "w").write("cvmfs2")
path = sys.argv[1] + "/file"
first = os.open(path, os.O_RDWR)
page = mmap.mmap(first, 4096)
page[0] = 1  # a page that is to be written back when ...
second = os.open(path, os.O_RDWR)
print("ready", flush=True)
mmap.mmap(second, 4096, mmap.MAP_PRIVATE)  # ... the file is mapped uncached
"""
"""A process whose memory is locked for ever: it waits in mmap(2) for its own mount, which does not answer the write."""


@contextlib.contextmanager
def waiting(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate("\n")


@contextlib.contextmanager
def called_cvmfs2(user: Somebody, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [PYTHON, "-c", NAMED, user.home, *arguments]
    with waiting(user.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        yield process


def test_the_daemon_of_another_mount_is_not_traced_for_this_one(ann: Somebody, mount: Path) -> None:
    """`user.pid` could name any process called cvmfs2 with a fitting argument: root's daemon was traced as the attacker's."""
    (honest,) = [point for point in mount_points() if point.path == str(mount)]
    of_root = describe(honest)
    assert of_root.daemon is not None
    xattrs = {"user.fqrn": "tiny.test.org", "user.pid": str(of_root.daemon.pid)}
    with hostile_mount(ann, xattrs=xattrs) as hostile:
        description = describe(hostile.point)
        assert description.daemon is not None
        assert description.daemon.pid == hostile.process.pid
        assert description.daemon.uid == ann.uid


def test_a_process_of_another_user_is_not_taken_for_the_daemon_of_roots_mount(ann: Somebody, mount: Path) -> None:
    """Two processes that may serve a mount made its daemon unknown: reads and fetches were missing from everybody's trace."""
    (honest,) = [point for point in mount_points() if point.path == str(mount)]
    before = describe(honest)
    with called_cvmfs2(ann, mount, "tiny.test.org"), hostile_mount(ann, xattrs={"user.fqrn": "tiny.test.org"}):
        assert describe(honest) == before


def test_a_process_of_another_user_is_not_taken_for_the_cache_manager_of_root(ann: Somebody, tmp_path: Path) -> None:
    """Whoever called himself `cvmfs2 __cachemgr__` in a folder was traced with its mount."""
    with called_cvmfs2(ann, "__cachemgr__") as process:
        daemon = Process(1, 0, str(ann.home), "cvmfs2", 0)
        assert cache_managers([daemon]) == []
        (manager,) = cache_managers([Process(1, 0, str(ann.home), "cvmfs2", ann.uid)])
        assert manager.pid == process.pid


def test_an_unreadable_process_does_not_stop_a_recording(ann: Somebody, mount: Path) -> None:
    """A command line that never comes stopped whoever read it: every recording, for good."""
    with hostile_mount(ann, file=True, hang=["write"]) as hostile:
        process = ann.start([PYTHON, "-c", UNREADABLE, hostile.path], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            wait_until(lambda: not can_be_read(process.pid), "its command line cannot be read")
            began_s = time.monotonic()
            clients_ = clients()
            assert time.monotonic() - began_s < 10
            # THEN what ann has is left out, and root's daemon is known
            assert ann.uid not in [client.uid for client in clients_]
            (honest,) = [point for point in mount_points() if point.path == str(mount)]
            assert describe(honest).daemon is not None
        finally:
            hostile.process.kill()  # the connection ends, and with it the wait
            process.kill()
            process.communicate()


def can_be_read(pid: int) -> bool:
    return (
        subprocess.run(
            ["timeout", "-s", "KILL", "0.5", "cat", f"/proc/{pid}/cmdline"], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_a_set_user_id_program_counts_as_the_user_who_started_it(ann: Somebody, tmp_path: Path) -> None:
    """A set-user-ID program, started by the name of cvmfs2 and with its arguments, passed for a daemon of root's."""
    # GIVEN a process as the kernel shows one whose file belongs to root and has the bit
    process = Client(7, 1, uid=0, real_uid=ann.uid, arguments=("cvmfs2", "/cvmfs/x.org"), own_pid=7, threads=2)
    # THEN it serves neither root's mounts nor ann's
    for owner in (0, ann.uid):
        assert find_daemon(7, "/cvmfs/x.org", "x.org", owner=owner, among=[process]) is None


def test_on_kernels_without_connection_numbers_root_processes_are_tried_first(ann: Somebody) -> None:
    """Where two processes called themselves by the number that the mount told, neither was taken."""
    arguments = ("cvmfs2", "/cvmfs/x.org")
    of_root = Client(70, 1, uid=120, real_uid=0, arguments=arguments, own_pid=7, threads=9, has_fuse_open=True)
    stranger = Client(
        7, 1, uid=ann.uid, real_uid=ann.uid, arguments=arguments, own_pid=7, threads=2, has_fuse_open=True
    )
    daemon = find_daemon(7, "/cvmfs/x.org", "x.org", connection=39, among=[of_root, stranger])
    assert daemon is not None
    assert daemon.pid == 70
    # AND what has no FUSE connection open serves no mount
    idle = Client(7, 1, uid=ann.uid, real_uid=ann.uid, arguments=arguments, own_pid=7, threads=2, has_fuse_open=False)
    assert find_daemon(7, "/cvmfs/x.org", "x.org", owner=ann.uid, connection=39, among=[idle]) is None


def test_the_number_of_examined_processes_of_one_user_is_bounded(ann: Somebody, tmp_path: Path) -> None:
    """Every process called cvmfs2 was read, of whoever started thousands."""
    with contextlib.ExitStack() as stack:
        for _ in range(70):
            stack.enter_context(called_cvmfs2(ann, "x.org"))
        of_ann = [client for client in clients() if client.uid == ann.uid]
        assert 0 < len(of_ann) <= 64
