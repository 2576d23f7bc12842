"""Users of this machine that exist for the tests only, and commands as them."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PYTHON = "/usr/bin/python3"
"""An interpreter that everybody can execute; that of the tests may lie in a closed home."""
SECRET = "s3cret of root's"

LOCK_S = 60.0
"""How long another useradd may hold /etc/passwd."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Somebody:
    """A user with an entry in /etc/passwd, a group and an empty home of mode 0700."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def under_sudo(self) -> dict[str, str]:
        """The variables that sudo sets for a root program when this user called it."""
        return {"SUDO_UID": str(self.uid), "SUDO_GID": str(self.gid), "SUDO_USER": self.name}

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a login."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def start(
        self, command: Sequence[str | Path], env: dict[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start a command as this user: no capability, no further group, in the user's home and environment unless said otherwise."""
        return subprocess.Popen(
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            env=self.environ if env is None else env,
            **{"cwd": self.home, "text": True, **popen},
        )

    def run(self, command: Sequence[str | Path], **popen: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user to its end."""
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)

    def owns(self, *paths: Path) -> None:
        """Give files and folders to this user, links themselves and not what they lead to."""
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def cannot() -> str | None:
    """Return why no users can be made here, if so."""
    if os.geteuid() != 0:
        return "only root can add users"
    missing = [name for name in ("useradd", "userdel") if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else None


@contextlib.contextmanager
def somebody() -> Iterator[Somebody]:
    """Add a user; remove it at the end, with its processes and its home."""
    name = f"cvt{os.getpid()}-{next(_numbers)}"
    home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    _locked("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--user-group", name)
    try:
        entry = pwd.getpwnam(name)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        yield Somebody(name, entry.pw_uid, entry.pw_gid, home)
    finally:
        _end_processes_of(pwd.getpwnam(name).pw_uid)
        _locked("userdel", "--force", name)
        shutil.rmtree(home, ignore_errors=True)


def _locked(*command: str) -> None:
    """Run a command that needs the lock on /etc/passwd, which tests that run at the same time may hold."""
    deadline_s = time.monotonic() + LOCK_S
    while True:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0 or (command[0] == "userdel" and "mail" in result.stderr):
            return
        assert "lock" in result.stderr, result.stderr
        assert time.monotonic() < deadline_s, result.stderr
        time.sleep(0.1)


def _end_processes_of(uid: int) -> None:
    """End what a test left running; the user is one that was made for it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == uid:
                os.kill(int(process.name), 9)


@contextlib.contextmanager
def sudoers(line: str) -> Iterator[None]:
    """Give somebody rights through sudo for a while; skips where there is no sudo."""
    folder = Path("/etc/sudoers.d")
    if shutil.which("sudo") is None or not folder.is_dir():
        pytest.skip("sudo is not installed")
    fd, name = tempfile.mkstemp(prefix="cvtrace-test-", dir=folder)
    try:
        os.write(fd, f"{line}\n".encode())
        os.fchmod(fd, 0o440)
        subprocess.run(["visudo", "-c", "-q", "-f", name], check=True)
        yield
    finally:
        os.close(fd)
        Path(name).unlink()
