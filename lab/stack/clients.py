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
class MountSettings:
    """What is to be mounted, and where."""

    fqrn: str
    mountpoint: Path
    url: str
    """Of the origin, without a path."""
    key: Path
    cache: Path
    quota_bytes: int
    state: Path
    like: str = client.DEFAULT_RELEASE
    """Which release the lab's client plays."""

    @property
    def workspace(self) -> Path:
        """The client's folder; both clients get the same one."""
        return self.cache / self.fqrn


def find(client: str) -> str:
    """Return `lab` or the absolute path of the cvmfs2 to use; raises LabError when it is not there."""
    if client == LAB:
        return LAB
    name = "cvmfs2" if client in ("auto", "cvmfs2") else client
    program = shutil.which(name)
    if program:
        return str(Path(program).absolute())
    if client == "auto":
        return LAB
    raise LabError(f"there is no client {name}: install cvmfs, or use --client lab")


def mount(client_name: str, settings: MountSettings) -> int:
    """Mount and return the daemon's pid once it answers; raises LabError with the reason."""
    if client_name == LAB:
        url = f"{settings.url}/cvmfs/{settings.fqrn}"
        configuration = client.configure(
            settings.fqrn,
            settings.mountpoint,
            url,
            settings.key,
            settings.cache,
            settings.quota_bytes,
            proxy="DIRECT",
            like=settings.like,
        )
        return client.start(configuration).pid
    return _mount_cvmfs2(client_name, settings)


def _mount_cvmfs2(program: str, settings: MountSettings) -> int:
    run = settings.state / "run"
    try:
        for folder in (run, settings.workspace):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot use {error.filename} for the client: {error.strerror}") from error
    log = settings.state / "cvmfs2.log"
    log.unlink(missing_ok=True)
    config = settings.state / "cvmfs2.conf"
    config.write_text(
        f"CVMFS_SERVER_URL={settings.url}/cvmfs/{settings.fqrn}\n"
        "CVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_PUBLIC_KEY={settings.key}\n"
        f"CVMFS_CACHE_DIR={settings.workspace}\n"
        "CVMFS_SHARED_CACHE=no\n"
        f"CVMFS_QUOTA_LIMIT={max(1, settings.quota_bytes >> 20)}\n"
        f"CVMFS_RELOAD_SOCKETS={run}\n"
        "CVMFS_CLAIM_OWNERSHIP=yes\n"
        "CVMFS_USE_GEOAPI=no\n"
        f"CVMFS_USYSLOG={log}\n"
    )
    options = f"config={config}" + (",allow_other" if os.geteuid() == 0 else "")
    argv = [program, "-o", options, settings.fqrn, str(settings.mountpoint)]
    environment = dict(os.environ) | _library_path(Path(program))
    result = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if result.returncode != 0:
        logged = log.read_text(errors="replace").splitlines() if log.exists() else []
        words = [*result.stdout.splitlines(), *result.stderr.splitlines(), *logged]
        raise LabError(
            f"{program} did not mount (exit code {result.returncode}): {words[-1] if words else 'no word'}; "
            "--client lab does without it"
        )
    return int(os.getxattr(settings.mountpoint, "user.pid"))


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
