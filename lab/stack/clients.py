"""The client of a stack: the lab's own, or an installed cvmfs2."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.lab import client
from cvtrace.lab.errors import LabError
from cvtrace.lab.stack import mounts, processes

LAB: Final = "lab"


@dataclass(frozen=True)
class Mount:
    """What is to be mounted, and where."""

    fqrn: str
    mountpoint: Path
    url: str
    """Of the origin, without a path."""
    key: Path
    cache: Path
    quota_bytes: int
    state: Path

    @property
    def workspace(self) -> Path:
        """The client's folder; both clients get the same one."""
        return self.cache / self.fqrn


def find(asked: str) -> str:
    """Return `lab` or the absolute path of the cvmfs2 to use; raises LabError when it is not there."""
    if asked == LAB:
        return LAB
    name = "cvmfs2" if asked in ("auto", "cvmfs2") else asked
    found = shutil.which(name)
    if found:
        return str(Path(found).absolute())
    if asked == "auto":
        return LAB
    raise LabError(f"there is no client {name}: install cvmfs, or use --client lab")


def mount(which: str, wanted: Mount) -> int:
    """Mount and return the daemon's pid once it answers; raises LabError with the reason."""
    if which == LAB:
        url = f"{wanted.url}/cvmfs/{wanted.fqrn}"
        configuration = client.configure(
            wanted.fqrn, wanted.mountpoint, url, wanted.key, wanted.cache, wanted.quota_bytes, proxy="DIRECT"
        )
        return client.start(configuration).pid
    return _mount_cvmfs2(which, wanted)


def _mount_cvmfs2(program: str, wanted: Mount) -> int:
    run = wanted.state / "run"
    try:
        for folder in (run, wanted.workspace):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot use {error.filename} for the client: {error.strerror}") from error
    log = wanted.state / "cvmfs2.log"
    log.unlink(missing_ok=True)
    config = wanted.state / "cvmfs2.conf"
    config.write_text(
        f"CVMFS_SERVER_URL={wanted.url}/cvmfs/{wanted.fqrn}\n"
        "CVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_PUBLIC_KEY={wanted.key}\n"
        f"CVMFS_CACHE_DIR={wanted.workspace}\n"
        "CVMFS_SHARED_CACHE=no\n"
        f"CVMFS_QUOTA_LIMIT={max(1, wanted.quota_bytes >> 20)}\n"
        f"CVMFS_RELOAD_SOCKETS={run}\n"
        "CVMFS_CLAIM_OWNERSHIP=yes\n"
        "CVMFS_USE_GEOAPI=no\n"
        f"CVMFS_USYSLOG={log}\n"
    )
    options = f"config={config}" + (",allow_other" if os.geteuid() == 0 else "")
    argv = [program, "-o", options, wanted.fqrn, str(wanted.mountpoint)]
    environment = dict(os.environ) | _library_path(Path(program))
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        logged = log.read_text(errors="replace").splitlines() if log.exists() else []
        words = [*done.stdout.splitlines(), *done.stderr.splitlines(), *logged]
        raise LabError(
            f"{program} did not mount (exit code {done.returncode}): {words[-1] if words else 'no word'}; "
            "--client lab does without it"
        )
    return int(os.getxattr(wanted.mountpoint, "user.pid"))


def _library_path(program: Path) -> dict[str, str]:
    """Return where a cvmfs2 outside the system's folders has its library."""
    library = program.resolve().parent.parent / "lib"
    if "CVMFS_LIBRARY_PATH" in os.environ or not any(library.glob("libcvmfs_fuse*")):
        return {}
    return {"CVMFS_LIBRARY_PATH": str(library)}


def unmount(mountpoint: Path, pid: int, *, force: bool = False) -> None:
    """Unmount and wait for the daemon to end; a dead mount is taken away. Raises LabError when it is in use."""
    alive = mounts.answers(mountpoint)
    if alive and not force:
        client.unmount(mountpoint)
    else:
        mounts.detach(mountpoint)
    # A mount that was taken away from its readers lives on until they close their files: do not wait for that.
    patience_s = 10.0 if alive and not force else 0.5
    if pid and not processes.wait_until(lambda: not processes.is_running(pid), patience_s):
        processes.stop(pid, "the client")
