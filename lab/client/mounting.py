"""Mounting and unmounting from another process."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import cvtrace
from cvtrace.lab.client.releases import DEFAULT, RELEASES
from cvtrace.lab.errors import LabError

if TYPE_CHECKING:
    from cvtrace.lab.client.daemon import Configuration

DEFAULT_QUOTA_BYTES: Final = 4000 * 1024 * 1024
LOG_NAME: Final = "client.log"
CLIENT_MODULE: Final = "cvtrace.lab.client"
GRACE_S: Final = 1.0
"""How long a client may take to end by itself once its mount is gone here."""


@dataclass(frozen=True)
class Mounted:
    """A running client."""

    fqrn: str
    mountpoint: Path
    pid: int
    workspace: Path
    """The daemon's working directory: cache, talk socket and log."""


def configure(
    fqrn: str,
    mountpoint: Path | str,
    url: str,
    key: Path | str,
    cache: Path | str,
    quota_bytes: int = DEFAULT_QUOTA_BYTES,
    *,
    proxy: str | None = None,
    max_retries: int = 1,
    backoff_s: tuple[float, float] = (2.0, 10.0),
    timeout_s: int = 10,
    like: str = DEFAULT,
) -> Configuration:
    """Check what can be checked beforehand and return the configuration of a mount; raises LabError.

    `url` is the repository's (`http://host/cvmfs/<fqrn>`; `@fqrn@` stands for its name), `proxy` is "DIRECT", a URL, or None for
    CVMFS_HTTP_PROXY. The workspace is `cache/fqrn`. `like` is the release that is played (releases.RELEASES).
    """
    from cvtrace.lab.client.daemon import Configuration

    if not fqrn or "/" in fqrn or fqrn.startswith("."):
        raise LabError(f"'{fqrn}' is not a repository name: use one like models.example.org")
    if like not in RELEASES:
        raise LabError(f"the lab's client does not play cvmfs {like}: choose one of {', '.join(RELEASES)}")
    mountpoint = Path(mountpoint)
    try:
        is_directory = stat.S_ISDIR(mountpoint.stat().st_mode)
    except FileNotFoundError:
        is_directory = False
    except OSError as error:  # ENOTCONN: the client that served it is dead
        raise LabError(f"the mountpoint {mountpoint} is unusable ({error.strerror}): unmount it first") from error
    if not is_directory:
        raise LabError(f"the mountpoint {mountpoint} is not a directory: create it first")
    if os.path.ismount(mountpoint):
        raise LabError(f"something is mounted on {mountpoint} already: unmount it first")
    return Configuration(
        fqrn=fqrn,
        mountpoint=str(mountpoint.resolve()),
        url=url.replace("@fqrn@", fqrn).rstrip("/"),
        key=":".join(str(Path(path).resolve()) for path in str(key).split(":")),
        workspace=str(Path(cache).resolve() / fqrn),
        quota_bytes=quota_bytes,
        proxy=first_proxy(proxy or os.environ.get("CVMFS_HTTP_PROXY") or "DIRECT"),
        max_retries=max_retries,
        backoff_s=backoff_s,
        timeout_s=timeout_s,
        like=like,
    )


def first_proxy(proxies: str) -> str:
    """Return the first of the client's list of proxies (groups by semicolons, members by bars); "auto" is not known here."""
    names = [name.strip() for group in proxies.split(";") for name in group.split("|")]
    return next((name for name in names if name and name != "auto"), "DIRECT")


def start(configuration: Configuration) -> Mounted:
    """Start the client as a daemon and return when the mount answers; raises LabError with the reason otherwise."""
    workspace = Path(configuration.workspace)
    log = workspace / LOG_NAME
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        status = _launch(configuration, log)
    except OSError as error:
        raise LabError(
            f"the cache {workspace} cannot be used: {error.strerror}; choose another with --cache"
        ) from error
    if "pid" not in status:
        raise LabError(str(status.get("error", f"the client ended without a word; its log is {log}")))
    mounted = Mounted(configuration.fqrn, Path(configuration.mountpoint), int(str(status["pid"])), workspace)
    try:
        answer = os.getxattr(mounted.mountpoint, "user.fqrn")
    except OSError as error:
        raise LabError(f"{mounted.mountpoint} was unmounted again at once: see {log}") from error
    if answer != mounted.fqrn.encode():
        raise LabError(f"something else was mounted on {mounted.mountpoint} at the same time: unmount it first")
    return mounted


def serve_here(configuration: Configuration, ready: Callable[[], None]) -> NoReturn:
    """Mount, call `ready` and serve until unmounted, or ended by SIGTERM or SIGINT; ends the process, raises LabError."""
    from cvtrace.lab.client import daemon

    daemon.serve(configuration, ready)
    os._exit(0)  # libfuse's threads are gone, and with them what Python would wait for at a proper end


def unmount(mountpoint: Path | str, *, timeout_s: float = 10.0) -> None:
    """Unmount and wait until the client has ended; raises LabError, when files are in use, for example.

    A copy of the mount in another mount namespace (a container's) would keep the client alive: it is then asked to end.
    """
    mountpoint = Path(mountpoint)
    try:
        pid = int(os.getxattr(mountpoint, "user.pid"))
    except (OSError, ValueError):
        pid = 0  # not ours, not mounted, or its daemon is dead
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    result = subprocess.run([*command, str(mountpoint)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LabError(f"cannot unmount {mountpoint}: {result.stderr.strip() or 'is it mounted?'}")
    if not pid or _ends(pid, GRACE_S):
        return
    if _is_lab_client(pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    if not _ends(pid, timeout_s):
        raise LabError(f"{mountpoint} is unmounted, but its client (pid {pid}) does not end: kill {pid}")


def _ends(pid: int, timeout_s: float) -> bool:
    """Wait until a process has ended; returns whether it has."""
    deadline_s = time.monotonic() + timeout_s
    while is_running(pid):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def _is_lab_client(pid: int) -> bool:
    """Whether a process is a client of the lab: the mount says which one serves it, and may say anything."""
    try:
        return CLIENT_MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _launch(configuration: Configuration, log: Path) -> dict[str, object]:
    reader, writer = os.pipe()
    environment = dict(os.environ)
    root = str(Path(cvtrace.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", CLIENT_MODULE, json.dumps(asdict(configuration)), str(writer)]
    with log.open("ab") as output, os.fdopen(reader, "rb") as status:
        starter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writer,),
            start_new_session=True,
            env=environment,
        )
        os.close(writer)
        starter.wait()
        line = status.readline()
    result: dict[str, object] = json.loads(line) if line else {}
    return result


def is_running(pid: int) -> bool:
    """Whether any thread of a process runs; its first thread may be a zombie while others still hold files and directory."""
    with suppress(OSError):
        for status in Path(f"/proc/{pid}/task").glob("*/stat"):
            if status.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False
