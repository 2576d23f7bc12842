"""The CVMFS client's side: each mount, its daemon, where it fetches from, and whether its cache holds the model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.daemon import cache_managers
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, chosen_mounts, describe, is_below, read_xattrs
from cvtrace.probes.cvmfs.quota import MEBIBYTE, megabytes
from cvtrace.probes.cvmfs.talk import ask
from cvtrace.probes.doctor.client_library import client_functions
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, WARNING, Finding

ANSWER_S: Final = 1.0
XATTRS: Final = ("user.host", "user.proxy", "user.pubkeys", "user.nopen", "user.ndownload", "user.rx")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
PARAMETER: Final = re.compile(r"^(CVMFS_\w+)=(.*?)(?:\s+# from .*)?$", re.MULTILINE)
_GROUP: Final = "cvmfs"

_UNUSUAL: Final = {
    "CVMFS_STREAMING_CACHE": "reads are streamed, not cached: what is read again is fetched again",
    "CVMFS_FUSE_PASSTHROUGH": "reads may pass the daemon by: they are not counted and not seen",
    "CVMFS_CACHE_PRIMARY": "not the plain disk cache: hits and misses in it are not told apart",
    "CVMFS_ALIEN_CACHE": "the cache is shared with others and has no quota: nothing is evicted by this client",
}
_OFF: Final = ("", "no", "off", "0", "false")


@dataclass(frozen=True)
class Client:
    """A mount with what its client says of itself."""

    mount: Mount
    xattrs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    quota_bytes: int | None = None
    used_bytes: int | None = None
    talk_error: str | None = None


def examine_client(mounts: Sequence[str], model: Path | None) -> tuple[list[Finding], bool]:
    """Return what was found on the mounts that hold `mounts` (default: on all), and whether there is one to observe.

    Raises CannotObserve if one of the paths is not on a CVMFS mount.
    """
    points = chosen_mounts(mounts)
    if not points:
        mend = "ls /cvmfs/<repository> (where autofs runs), or cvtrace lab up"
        return [Finding(_GROUP, "mounts", FAILED, "no CVMFS mount found", mend), *_model_alone(model)], False
    clients = [_meet(describe(point)) for point in points]
    paths = ", ".join(each.mount.path for each in clients)
    found = [Finding(_GROUP, "mounts", OK, paths), *_model_alone(model, clients)]
    for client in clients:
        found += _of_mount(client, model)
    return found, any(client.mount.answers for client in clients)


def _meet(mount: Mount) -> Client:
    if not mount.answers:
        return Client(mount)
    try:
        xattrs = within(ANSWER_S, partial(read_xattrs, mount.path, XATTRS))
    except (NoAnswer, OSError):
        xattrs = {}
    try:
        parameters = dict(PARAMETER.findall(ask(mount, "parameters", ANSWER_S)))
        quota = megabytes(ask(mount, "cache limit get", ANSWER_S)) or megabytes(parameters.get("CVMFS_QUOTA_LIMIT"))
        used = re.search(r"\((\d+) Bytes\)", ask(mount, "cache size", ANSWER_S))
    except OSError as failure:
        reason = os.strerror(failure.errno) if failure.errno else str(failure)
        return Client(mount, xattrs, talk_error=reason)
    return Client(mount, xattrs, parameters, quota, int(used[1]) if used else None)


def _of_mount(client: Client, model: Path | None) -> list[Finding]:
    mount = client.mount
    if not mount.answers:
        mend = f"umount -l {mount.path}, then mount it again"
        return [Finding(_GROUP, "mount", FAILED, mount.error or "does not answer", mend, mount.path)]
    own_model = model if model is not None and is_below(str(model.absolute()), mount.path) else None
    checks: tuple[Callable[[], Finding | None], ...] = (
        lambda: _daemon(client),
        lambda: client_functions(mount),
        lambda: _talk(client),
        lambda: _counters(client),
        lambda: _server(client),
        lambda: _proxy(client),
        lambda: _public_key(client),
        lambda: _quota(client, own_model),
        lambda: _space(client, own_model),
        lambda: _managers(client),
        lambda: _options(client),
    )
    return [found for check in checks if (found := check()) is not None]


def _finding(client: Client, name: str, status: str, says: str, mend: str | None = None) -> Finding:
    return Finding(_GROUP, name, status, says, mend, client.mount.path)


def _daemon(client: Client) -> Finding:
    daemon, version = client.mount.daemon, client.mount.version
    if daemon is None:
        mend = "run cvtrace where the client runs: on the host, or with --pid=host"
        return _finding(client, "daemon", FAILED, client.mount.error or "not found", mend)
    if not daemon.is_alive:
        return _finding(client, "daemon", FAILED, f"pid {daemon.pid} is gone", "mount the repository again")
    return _finding(client, "daemon", OK, f"{daemon.client} {version or ''} (pid {daemon.pid})".replace("  ", " "))


def _talk(client: Client) -> Finding:
    if client.talk_error is None:
        return _finding(client, "cvmfs_talk", OK, "answers")
    says = f"{client.talk_error}: reads and bytes of the client's own count are not compared"
    return _finding(client, "cvmfs_talk", FAILED, says, f"{SUDO} run …")


def _counters(client: Client) -> Finding:
    missing = [name for name in ("user.nopen", "user.ndownload", "user.rx") if name not in client.xattrs]
    if not missing:
        return _finding(client, "attributes", OK, "opens, downloads and bytes received are shown to this user")
    says = f"{', '.join(missing)} not shown to this user: without root nothing is counted"
    return _finding(
        client, "attributes", WARNING, says, "CVMFS_XATTR_PRIVILEGED_GIDS, or no CVMFS_XATTR_PROTECTED_XATTRS"
    )


def _server(client: Client) -> Finding:
    host = client.xattrs.get("user.host", "")
    if "://" in host:
        return _finding(client, "server", OK, host)
    return _finding(client, "server", FAILED, host or "no server is set", "set CVMFS_SERVER_URL, cvmfs_config reload")


def _proxy(client: Client) -> Finding:
    proxy, host = client.xattrs.get("user.proxy", ""), urlsplit(client.xattrs.get("user.host", "")).hostname
    if not proxy:
        return _finding(client, "proxy", UNKNOWN, "the client does not tell")
    if proxy != "DIRECT" or host in LOOPBACK:
        return _finding(client, "proxy", OK, proxy)
    says = "DIRECT: every node fetches from the server itself"
    return _finding(client, "proxy", WARNING, says, "set CVMFS_HTTP_PROXY to a proxy of the site")


def _public_key(client: Client) -> Finding:
    named = client.parameters.get("CVMFS_PUBLIC_KEY", "")
    unreadable = [path for path in named.split(":") if path and not os.access(path, os.R_OK)]
    if unreadable:
        says = f"{unreadable[0]} cannot be read: the next mount will fail"
        return _finding(client, "public_key", FAILED, says, "install it, or correct CVMFS_PUBLIC_KEY")
    if "PUBLIC KEY" in client.xattrs.get("user.pubkeys", ""):
        return _finding(client, "public_key", OK, named or "the client holds one")
    return _finding(client, "public_key", UNKNOWN, "the client does not show one")


def _quota(client: Client, model: Path | None) -> Finding:
    if client.quota_bytes is None:
        if client.parameters.get("CVMFS_QUOTA_LIMIT", "").startswith("-"):
            return _finding(client, "cache_quota", OK, "none: nothing is evicted")
        if client.talk_error is None:
            return _finding(client, "cache_quota", UNKNOWN, "the client does not tell")
        return _finding(client, "cache_quota", UNKNOWN, "only the talk socket tells", f"{SUDO} doctor")
    quota, used = _mb(client.quota_bytes), client.used_bytes
    says = quota if used is None else f"{quota}, {_mb(used)} used"
    if model is None or (size := model_bytes(model)) <= client.quota_bytes:
        return _finding(client, "cache_quota", OK, says)
    says = f"{says}: the model's {_mb(size)} do not fit, it evicts itself while it is read"
    mend = f"CVMFS_QUOTA_LIMIT={-(-size * 5 // 4 // MEBIBYTE)}, then cvmfs_config reload"
    return _finding(client, "cache_quota", FAILED, says, mend)


def _space(client: Client, model: Path | None) -> Finding:
    daemon = client.mount.daemon
    try:
        if daemon is None or daemon.workspace is None:
            raise PermissionError
        status = os.statvfs(f"/proc/{daemon.pid}/cwd")
    except OSError:
        return _finding(client, "cache_space", UNKNOWN, "only root may look at the cache", f"{SUDO} doctor")
    free = status.f_bavail * status.f_frsize
    wanted = max((client.quota_bytes or 0) - (client.used_bytes or 0), 0)
    if model is not None:
        wanted = min(wanted or model_bytes(model), model_bytes(model))
    if free >= wanted:
        return _finding(client, "cache_space", OK, f"{_mb(free)} free at {daemon.workspace}")
    says = f"{_mb(free)} free at {daemon.workspace}, where {_mb(wanted)} may be written"
    status_of = FAILED if model is not None else WARNING
    return _finding(client, "cache_space", status_of, says, "make room, or lower CVMFS_QUOTA_LIMIT")


def _managers(client: Client) -> Finding | None:
    workspace = client.mount.daemon.workspace if client.mount.daemon else None
    managers = cache_managers({workspace}) if workspace else []
    if not managers:
        return None
    pids = ", ".join(str(manager.pid) for manager in managers)
    return _finding(client, "shared_cache", OK, f"the cache manager (pid {pids}) is observed, too")


def _options(client: Client) -> Finding:
    if client.talk_error is not None:
        return _finding(client, "options", UNKNOWN, "only the talk socket tells", f"{SUDO} doctor")
    unusual = [
        f"{name}={value}: {_UNUSUAL[name]}"
        for name, value in client.parameters.items()
        if name in _UNUSUAL and value.lower() not in _OFF and value != "posix"
    ]
    if unusual:
        return _finding(client, "options", WARNING, "; ".join(unusual))
    return _finding(client, "options", OK, "no streaming, tiered, external or alien cache, no FUSE passthrough")


def _model_alone(model: Path | None, clients: Sequence[Client] = ()) -> list[Finding]:
    """Say what is wrong with the model's folder itself."""
    if model is None:
        return []
    if not is_there(model):
        return [Finding(_GROUP, "model", FAILED, f"{model} is not there", "name the folder with genai_config.json")]
    path = str(model.absolute())
    holding = [client.mount.path for client in clients if is_below(path, client.mount.path)]
    if not holding:
        says = f"{model} is not on the mounts observed: loading it does not use them"
        return [Finding(_GROUP, "model", WARNING, says)]
    return [Finding(_GROUP, "model", OK, f"{_mb(model_bytes(model))} on {holding[0]}")]


def is_there(path: Path) -> bool:
    """Return whether a path exists; a mount that hangs does not hang this."""
    try:
        return within(ANSWER_S, partial(os.access, path, os.R_OK))
    except (NoAnswer, OSError):
        return False


def model_bytes(folder: Path) -> int:
    """Return the size of all files of a model: a file, or a folder with all in it, links followed."""

    def total() -> int:
        if folder.is_file():
            return folder.stat().st_size
        return sum((Path(where) / name).stat().st_size for where, _, names in os.walk(folder) for name in names)

    try:
        return within(ANSWER_S, total)
    except (NoAnswer, OSError):
        return 0


def _mb(size: int) -> str:
    return f"{size / MEBIBYTE:,.0f} MB"
