"""File systems of another user that call themselves cvmfs2 and give unexpected answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from strange_site import COUNTERS, Hostile, hostile_mount
from throwaway import Somebody

from cvtrace.probes.cvmfs.counters import Counters, counters, counters_of
from cvtrace.probes.cvmfs.mounts import Mount, mount_points
from cvtrace.probes.cvmfs.survey import describe, survey

pytestmark = pytest.mark.root
LATE_S = 10.0
"""Far more than any deadline, on a machine that does much else; far less than what the attacks got."""


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < LATE_S


def described(mount: Hostile) -> Mount:
    with soon():
        return describe(mount.point)


def read_counters(mount: Hostile) -> Counters:
    with soon():
        return counters(described(mount))


@pytest.mark.parametrize(
    "attributes",
    [
        {"user.pid": "\u00b2"},
        {"user.pid": "9" * 5000},
        {"user.pid": "-1"},
        {"user.pid": "1"},
        {"user.fqrn": "x/../../../etc"},
        {"user.fqrn": "\x1b[2J"},
        {"user.version": "2.12.0\n\x1b]0;owned\x07"},
        {"user.version": "9" * 60_000},
        {"user.fqrn": "\xff\xfe\x00"},
    ],
    ids=["superscript", "digits", "negative", "init", "slashes", "escape", "newline", "long", "binary"],
)
def test_impossible_attributes_are_ignored(ann: Somebody, attributes: dict[str, str]) -> None:
    """`user.pid` of "²" and one of 5000 digits ended every recording with a traceback; a name led out of the cache."""
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org", **attributes}) as mount:
        description = described(mount)
        assert description.is_odd == (attributes != {"user.pid": "1"})
        assert description.daemon is None or description.daemon.pid == mount.process.pid
        assert "/" not in description.fqrn
        for text in (description.fqrn, description.version or "", description.error or ""):
            assert text.isprintable()
            assert len(text) < 300


@pytest.mark.parametrize("request_name", ["getxattr", "getattr", "lookup", "statfs", "readlink", "opendir"])
def test_queries_to_a_hanging_mount_time_out(ann: Somebody, request_name: str) -> None:
    """Each mount that hangs held every recording up for 3 s, and for 2 to 4 s at its end."""
    with hostile_mount(ann, hang=[request_name], xattrs={"user.fqrn": "evil.org"}) as mount:
        description = described(mount)
        assert description.path == str(mount.path)
        if request_name in ("getxattr", "getattr"):
            assert (
                description.error
                == f"{mount.path} does not answer within 1.5 s: its cvmfs2 hangs or its network is gone"
            )
            assert not description.answers


def test_mounts_that_hang_are_queried_in_parallel(ann: Somebody, mount: Path) -> None:
    """Three mounts that hang took 25 s of every recording."""
    with contextlib.ExitStack() as stack:
        hostile = [stack.enter_context(hostile_mount(ann, hang=["getxattr"])) for _ in range(6)]
        points = [mount_.point for mount_ in hostile] + [point for point in mount_points() if point.path == str(mount)]
        with soon():
            mounts = survey(points).mounts
            read = counters_of(mounts)
    # THEN the one that answers is known, with its counters
    assert [mount.answers for mount in mounts] == [False] * 6 + [True]
    assert mounts[-1].daemon is not None
    assert read[-1].error is None
    assert all("does not answer" in (row.error or "") for row in read[:-1])


@pytest.mark.parametrize("manner", ["silent", "endless", "drip"])
def test_an_endless_answer_is_cut(ann: Somebody, manner: str) -> None:
    """An endless answer filled the recorder with 1.8 GB; one byte after the other held it up."""
    with hostile_mount(
        ann, xattrs={"user.fqrn": "evil.org", "user.nopen": "3"}, socket="listen", talk={"how": manner}
    ) as mount:
        read = read_counters(mount)
        # THEN what the attributes say is left, and one sentence says why
        assert read.values == {"nopen": 3}
        assert read.error is not None
        assert "talk socket of evil.org" in read.error


@pytest.mark.parametrize(
    "limit",
    ["\u00b2", "9" * 5000, "1" + "0" * 15, "-5", "4000\x00\x1b", ""],
    ids=["superscript", "digits", "exabytes", "negative", "escape", "nothing"],
)
def test_an_impossible_cache_limit_is_ignored(ann: Somebody, limit: str) -> None:
    """A limit of 10^15 MB made every trace "damaged"; "²" and 5000 digits ended the recording with a traceback."""
    answers = {"affairs": COUNTERS, "limit": limit}
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}, socket="listen", talk=answers) as mount, soon():
        (read,) = counters_of([described(mount)], with_quota=True)
    assert read.values == {"cvmfs.n_fs_open": 1, "cvmfs.n_fs_read": 2}
    assert read.quota_bytes is None


def test_invalid_numbers_are_left_out_of_the_counters(ann: Somebody) -> None:
    """Counters below zero and with more digits than a trace may hold went into meta.json."""
    lines = [f"cvmfs.n_fs_read|{value}|x" for value in ("\u00b2", "-7", "1" * 19, "1e9", "0x10", "")]
    affairs = "\n".join(["Name|Value|Description", *lines, "\x1bname|1|x", "cvmfs.n_fs_open|4|x"])
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}, socket="listen", talk={"affairs": affairs}) as mount:
        assert read_counters(mount).values == {"cvmfs.n_fs_open": 4}


@pytest.fixture
def of_root(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    """A socket that only root can reach."""
    folder = tmp_path / "root"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        (folder / "s").chmod(0o600)
        listener.listen(8)
        listener.setblocking(False)
        yield folder / "s", listener


def nobody_called(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_a_link_to_a_socket_of_root_is_not_followed(ann: Somebody, of_root: tuple[Path, socket.socket]) -> None:
    """Root wrote "internal affairs" to a socket that only root could reach."""
    path, listener = of_root
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}, socket="link", target=str(path)) as mount:
        read = read_counters(mount)
    assert nobody_called(listener)
    assert "no socket" in (read.error or "")


def test_a_hard_link_to_a_socket_of_root_is_not_used(ann: Somebody, of_root: tuple[Path, socket.socket]) -> None:
    """Where hard links are not protected (fs.protected_hardlinks=0), a second name led to root's socket as well."""
    path, listener = of_root
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}) as mount:
        os.link(path, mount.workspace / "cvmfs_io.evil.org")  # as the attacker can there
        read = read_counters(mount)
    assert nobody_called(listener)
    assert "belongs to user 0" in (read.error or "")


def test_a_repository_name_with_path_separators_opens_no_other_folder(
    ann: Somebody, of_root: tuple[Path, socket.socket]
) -> None:
    """The name became part of a path: one with slashes led to any socket."""
    path, listener = of_root
    with hostile_mount(ann, xattrs={"user.fqrn": f"x/../../../../../../..{path}"}) as mount:
        (mount.workspace / "cvmfs_io.x").mkdir()
        ann.owns(mount.workspace / "cvmfs_io.x")
        read_counters(mount)
    assert nobody_called(listener)


def test_a_socket_in_a_folder_writable_by_others_is_not_used(ann: Somebody) -> None:
    """Anybody who could write in the cache's folder could answer in the daemon's place."""
    with hostile_mount(
        ann, mode=0o777, xattrs={"user.fqrn": "evil.org"}, socket="listen", talk={"affairs": COUNTERS}
    ) as mount:
        read = read_counters(mount)
    assert "others can write" in (read.error or "")
    assert read.values == {}


def test_a_socket_of_another_users_process_is_not_used(ann: Somebody, ben: Somebody) -> None:
    """Nothing told who was at the other end."""
    with hostile_mount(ann, xattrs={"user.fqrn": "evil.org"}) as mount:
        path = mount.workspace / "cvmfs_io.evil.org"
        mount.workspace.chmod(0o777)
        program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True); input()"
        with ben.start(
            ["/usr/bin/python3", "-c", program, path.name],
            cwd=mount.workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as second:
            assert second.stdout is not None
            second.stdout.readline()
            mount.workspace.chmod(0o700)
            os.chown(path, ann.uid, ann.gid)
            read = read_counters(mount)
            second.communicate("\n")
    assert f"listens user {ben.uid}" in (read.error or "")
