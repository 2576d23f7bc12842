"""Files are opened with the rights of a user only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from throwaway import Somebody

from cvtrace.probes.capabilities import Capability, held
from cvtrace.probes.strace import probe as strace
from cvtrace.tracer.user import User, acting_as

pytestmark = pytest.mark.root


def user(somebody: Somebody) -> User:
    return User(somebody.uid, somebody.gid, (somebody.gid,), somebody.name, str(somebody.home))


def effective() -> int:
    status = Path("/proc/thread-self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def test_a_path_through_proc_of_a_root_process_cannot_be_opened(ann: Somebody, workdir: Path) -> None:
    """CAP_SYS_PTRACE stayed: a trace or marks folder could be put through /proc/PID/cwd of a process of root's."""
    inside = workdir / "closed" / "open"
    inside.mkdir(parents=True)
    inside.chmod(0o777)
    (workdir / "closed").chmod(0o700)
    with subprocess.Popen(["sleep", "60"], cwd=inside) as process:
        try:
            way = Path(f"/proc/{process.pid}/cwd")
            assert way.exists()
            with acting_as(user(ann)), pytest.raises(PermissionError):
                (way / "planted").mkdir()
            result = subprocess.run(
                [sys.executable, "-m", "cvtrace", "run", "-o", str(way / "trace"), "--", "true"],
                env={**os.environ, **ann.under_sudo},
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 2
            assert "Permission denied" in result.stderr
            assert not list(inside.iterdir())
        finally:
            process.kill()


def test_acting_as_a_user_drops_all_capabilities_and_restores_them(ann: Somebody) -> None:
    """All but seven capabilities were in effect while files were touched for a user."""
    before = effective()
    assert before & 1 << Capability.SYS_PTRACE
    with acting_as(user(ann)):
        assert effective() == 0
        assert held() == before
    assert effective() == before
    with pytest.raises(KeyError), acting_as(user(ann)):
        raise KeyError
    assert effective() == before


def test_the_fifo_of_strace_cannot_be_swapped(ann: Somebody, workdir: Path, secret: Path, monkeypatch) -> None:
    """In a TMPDIR of the attacker's, a link in place of the FIFO made root give its file to the attacker: chown went by path.

    The race is won for certain here: the swap comes between the two steps.
    """
    place = workdir / "tmp"
    place.mkdir()
    monkeypatch.setattr(strace.tempfile, "tempdir", str(place))
    mkfifo = os.mkfifo

    def swapped(name: object, mode: int, dir_fd: int) -> None:
        mkfifo(name, mode, dir_fd=dir_fd)
        [folder] = place.glob("cvtrace-strace-*")
        folder.rename(place / "gone")
        folder.mkdir()
        (folder / "log").symlink_to(secret)

    monkeypatch.setattr(os, "mkfifo", swapped)
    log = strace.LogFolder((ann.uid, ann.gid))
    assert os.fstat(log.reading).st_uid == ann.uid
    assert secret.stat().st_uid == 0
    os.close(log.reading)
    log.remove()
    assert (place / "gone").is_dir()
