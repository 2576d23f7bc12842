"""Reading what kernel and client say of CVMFS mounts, on recorded text."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from cvtrace.probes.cvmfs import counters as counters_module
from cvtrace.probes.cvmfs import mounts as mounts_module
from cvtrace.probes.cvmfs import processes as processes_module
from cvtrace.probes.cvmfs.counters import counters, parse_internal_affairs
from cvtrace.probes.cvmfs.daemon import Process, cache_managers, find_daemon
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, MountPoint, mounts_of, parse_mountinfo
from cvtrace.probes.cvmfs.processes import started_at
from cvtrace.probes.cvmfs.xattrs import getxattr_of_libc

DATA = Path(__file__).parents[2] / "data"

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
45 27 0:39 / /cvmfs/atlas.cern.ch rw,nosuid,nodev,relatime shared:3 - fuse cvmfs2 rw,user_id=0,group_id=0,allow_other
46 27 0:40 / /cvmfs/a\040b.org ro,nosuid - fuse.cvmfs2 cvmfs2 ro,user_id=0
47 27 0:41 / /home/u/sshfs rw - fuse.sshfs host: rw
48 27 0:39 /sub /srv/bind rw - fuse cvmfs2 rw
49 27 0:42 / /cvmfs/old.org rw - fuse cvmfs2 rw
50 27 0:43 / /cvmfs/old.org rw - tmpfs tmpfs rw
51 27 0:44 / /cvmfs/cvmfs2 rw - autofs /etc/auto.cvmfs rw
garbage
"""


def test_mountinfo_gives_cvmfs_mounts_once_and_in_sight():
    # GIVEN a mountinfo with two CVMFS mounts, a bind mount of one, another file system, and one that is hidden
    # WHEN it is parsed
    mounts = parse_mountinfo(MOUNTINFO)
    # THEN the two are found, escapes undone
    assert mounts == [
        MountPoint("/cvmfs/atlas.cern.ch", os.makedev(0, 39)),
        MountPoint("/cvmfs/a b.org", os.makedev(0, 40)),
    ]
    assert [mount.connection for mount in mounts] == [39, 40]


def test_a_client_that_was_started_by_hand_is_known_by_its_arguments():
    # GIVEN a mount with the source of any FUSE file system
    text = "45 27 0:39 / /mnt/a rw - fuse /dev/fuse rw\n46 27 0:40 / /mnt/b rw - fuse /dev/fuse rw\n"
    # WHEN a running client names it THEN it is one of CVMFS
    assert parse_mountinfo(text) == []
    assert [mount.path for mount in parse_mountinfo(text, {"/mnt/a", "x"})] == ["/mnt/a"]


def test_mounts_of_paths_are_the_innermost_ones():
    # GIVEN a mount inside another
    outer, inner = MountPoint("/cvmfs/x.org", 1), MountPoint("/cvmfs/x.org/sub", 2)
    # WHEN paths are looked up
    chosen, strangers = mounts_of(["/cvmfs/x.org/sub/f", "/cvmfs/x.org/../x.org", "/cvmfs/x.organic"], [outer, inner])
    # THEN each is on the innermost mount, and a name that only begins alike is on none
    assert chosen == [inner, outer]
    assert strangers == ["/cvmfs/x.organic"]


def test_counters_of_internal_affairs():
    # GIVEN what a real client answered
    text = (DATA / "talk" / "internal_affairs.txt").read_text()
    # WHEN it is parsed
    values = parse_internal_affairs(text)
    # THEN the counters have the client's names and values
    assert values["cvmfs.n_fs_open"] == 29
    assert values["cvmfs.n_fs_read"] == 15
    assert values["cvmfs.n_fs_lookup"] == 9
    assert values["fetch.n_invocations"] == 30
    assert values["fetch.n_downloads"] == 6
    assert values["download.n_requests"] == 9
    assert values["download.sz_transferred_bytes"] == 1382888
    assert values["download.sz_transfer_time"] == 56
    assert len(values) == 120


@pytest.mark.parametrize(
    "text", ["", "Cache Mode: read-write\n", "Name|Value|Description\n", "Name|Value|Description\nx|y|z"]
)
def test_an_answer_without_counters_is_an_error(text):
    with pytest.raises(OSError, match="no counters"):
        parse_internal_affairs(text)


def test_within_returns_the_answer_or_the_error():
    assert within(10, lambda: {"a": [1, None, "\udcff"]}) == {"a": [1, None, "\udcff"]}
    with pytest.raises(FileNotFoundError):
        within(10, lambda: Path("/no/such/file").stat())


def test_within_stops_waiting_at_its_deadline():
    # GIVEN a call that hangs, and a pipe that a hanging child must not hold open
    reading, writing = os.pipe()
    start_s = time.monotonic()
    # WHEN it is given a tenth of a second
    with pytest.raises(NoAnswer):
        within(0.1, signal.pause)
    # THEN it is given up, and the pipe closes
    assert time.monotonic() - start_s < 5
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_pid_that_is_not_a_client_is_ignored():
    # GIVEN the number of a process that is not cvmfs2 (the daemon may live in another PID namespace)
    assert find_daemon(os.getpid(), "/cvmfs/no.such.repo", "no.such.repo") is None
    assert cache_managers([Process(1, 0, "/no/such/cache", "cvmfs2")]) == []


@contextlib.contextmanager
def client_of(fqrn):
    """A process that calls itself cvmfs2 and names a repository."""
    program = "open('/proc/self/comm', 'w').write('cvmfs2'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program, fqrn], stdin=PIPE, stdout=PIPE) as child:
        child.stdout.readline()
        yield child.pid
        child.communicate(b"\n")


def test_the_daemon_of_another_repository_is_ignored():
    # GIVEN a client, and the number that the daemon of another PID namespace gives for itself
    with client_of("x.test.org") as pid:
        # WHEN the number happens to be the client's THEN it is the daemon of its own repository only
        assert find_daemon(pid, "/cvmfs/x.test.org", "x.test.org").pid == pid
        assert find_daemon(pid, "/cvmfs/x.test.org.uk", "x.test.org.uk") is None
        assert find_daemon(pid, "/cvmfs/test.org", "test.org") is None


def test_where_there_is_no_proc_there_are_mounts_and_no_processes(monkeypatch):
    # GIVEN a system without /proc, as macOS
    monkeypatch.setattr(processes_module, "PROC", Path("/no/such/proc"))
    monkeypatch.setattr(mounts_module, "MOUNTINFO", Path("/no/such/proc/self/mountinfo"))
    # THEN nothing is raised
    assert find_daemon(1, "/cvmfs/x.test.org", "x.test.org") is None
    assert all(isinstance(point, MountPoint) for point in mounts_module.mount_points())


def test_attributes_are_read_through_the_c_library_too(tmp_path):
    try:
        os.setxattr(tmp_path, "user.test", b"value")
    except OSError:
        pytest.skip("the temporary folder has no extended attributes")
    assert getxattr_of_libc(str(tmp_path), "user.test") == b"value"
    with pytest.raises(OSError):
        getxattr_of_libc(str(tmp_path), "user.none")


def served_by_us(workspace: Path) -> Mount:
    """A mount whose daemon is this process, working in the current folder."""
    started = started_at(os.getpid())
    assert started is not None
    daemon = Process(os.getpid(), started, str(workspace), "cvmfs2", os.geteuid())
    return Mount(str(workspace), workspace.stat().st_dev, "talk.org", "2.12.0", daemon, None)


def listen(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(folder)
    listener.bind("cvmfs_io.talk.org")
    os.chdir(before)
    listener.listen(1)
    return listener


def test_counters_come_over_the_talk_socket_however_long_its_path(tmp_path, monkeypatch):
    # GIVEN a client in a workspace whose path is longer than a socket address may be
    workspace = tmp_path / ("w" * 120)
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    with listen(workspace) as listener:

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                assert caller.recv(100) == b"internal affairs"
                caller.sendall((DATA / "talk" / "internal_affairs.txt").read_bytes())

        server = threading.Thread(target=serve)
        server.start()
        # WHEN it is asked THEN the counters are there
        read = counters(served_by_us(workspace))
        server.join()
    assert read.error is None
    assert read.values["cvmfs.n_fs_read"] == 15


def test_a_query_to_a_silent_client_times_out(tmp_path, monkeypatch):
    # GIVEN a talk socket that nobody serves, its queue full
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(counters_module, "ANSWER_S", 3.0)  # the child has most of it
    with listen(tmp_path):
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for caller in waiting:
            caller.setblocking(False)
            caller.connect_ex("cvmfs_io.talk.org")
        # WHEN it is asked THEN one sentence says so
        read = counters(served_by_us(tmp_path))
        for caller in waiting:
            caller.close()
    assert read.values == {}
    assert read.error is not None
    assert "talk.org" in read.error


def test_non_ascii_digits_in_an_answer_do_not_end_a_recording():
    # GIVEN an answer with a superscript two, two signs and more digits than Python reads
    answer = f"Name|Value|Description\na|\u00b2|x\nb|--5|x\nc|{'9' * 5000}|x\nd|7|x\n"
    # THEN what is no number is left out
    assert parse_internal_affairs(answer) == {"d": 7}
