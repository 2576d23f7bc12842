"""The CVMFS client's side: each mount, its daemon, where it fetches from, and whether its cache holds the model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from cvtrace.probes.command import SUDO
from cvtrace.probes.credentials import without_user_info
from cvtrace.probes.cvmfs.choice import MountChoice
from cvtrace.probes.cvmfs.daemon import Process
from cvtrace.probes.cvmfs.deadline import all_within
from cvtrace.probes.cvmfs.mounts import chosen_mounts, is_below
from cvtrace.probes.cvmfs.processes import clients
from cvtrace.probes.cvmfs.quota import MEBIBYTE
from cvtrace.probes.cvmfs.strict import line
from cvtrace.probes.cvmfs.survey import survey
from cvtrace.probes.doctor.cached import cached, files_of_model, unchunked
from cvtrace.probes.doctor.client_library import client_functions
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, WARNING, Finding, size_of
from cvtrace.probes.doctor.loading import Load, examine_loading
from cvtrace.probes.doctor.meeting import KEYS, Client, meet
from cvtrace.probes.doctor.model import Model

ANSWER_S: Final = 1.0
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_GROUP: Final = "cvmfs"

_UNUSUAL: Final = {
    "CVMFS_STREAMING_CACHE": "reads are streamed, not cached: what is read again is fetched again",
    "CVMFS_FUSE_PASSTHROUGH": "reads may bypass the daemon: they are neither counted nor seen",
    "CVMFS_CACHE_PRIMARY": "not the plain disk cache: hits and misses in it cannot be distinguished",
    "CVMFS_ALIEN_CACHE": "the cache is shared and has no quota: this client evicts nothing",
}
_OFF: Final = ("", "no", "off", "0", "false")


MayMeasure = Callable[[str], bool]
"""Takes what would be sent to measure the network, one sentence."""


def examine_client(
    mounts: Sequence[str],
    model: Model | None,
    may_measure: MayMeasure | None = None,
    switch: Callable[[], None] = lambda: None,
) -> tuple[list[Finding], bool]:
    """Return what was found on the mounts that hold `mounts` (default: on all), and whether there is one to observe.

    The network is measured if `may_measure` is given and agrees, by a child that `switch` gives the rights of the user who called.

    Raises CannotObserve if one of the paths is not on a CVMFS mount.
    """
    known = clients()
    choice = MountChoice(tuple(mounts), () if model is None else (str(model.path.absolute()),), _users())
    points, left_out = choice.split(chosen_mounts(mounts, known))
    unobserved = [
        Finding(_GROUP, "left_out", OK, line(f"{each.path}: {each.why}"), None, each.path) for each in left_out
    ]
    if not points:
        mend = "ls /cvmfs/<repository> (where autofs runs), or cvtrace lab up"
        return [
            Finding(_GROUP, "mounts", FAILED, "no CVMFS is mounted", mend),
            *unobserved,
            *_model_alone(model),
        ], False
    met = survey(points, known)
    answers = meet(met.mounts)
    findings = [Finding(_GROUP, "mounts", OK, ", ".join(each.path for each in points)), *unobserved]
    findings += _model_alone(model, answers)
    libraries = all_within(ANSWER_S, [partial(_library, each) for each in answers])
    for client, library in zip(answers, libraries, strict=True):
        findings += _of_mount(client, model, met.managers, library, may_measure, switch)
    return findings, any(client.mount.answers for client in answers)


def _users() -> frozenset[int]:
    """Return whose mounts are examined unasked: those of who runs this, and of who called sudo."""
    called = os.environ.get("SUDO_UID", "")
    return frozenset({os.geteuid(), *([int(called)] if re.fullmatch("[0-9]{1,10}", called) else [])})


def _library(client: Client) -> dict[str, str | None] | None:
    """In a child: the library is where the client says."""
    library = client_functions(client.mount) if client.mount.answers else None
    return None if library is None else vars(library)


def _of_mount(
    client: Client,
    model: Model | None,
    managers: Sequence[Process],
    library: object,
    may_measure: MayMeasure | None,
    switch: Callable[[], None],
) -> list[Finding]:
    mount = client.mount
    if not mount.answers:
        mend = f"umount -l {mount.path}, then mount it again"
        return [Finding(_GROUP, "mount", FAILED, mount.error or "does not answer", mend, mount.path)]
    own_model = model if model is not None and is_below(str(model.path.absolute()), mount.path) else None
    files = files_of_model(client, own_model)
    checks: tuple[Callable[[], Finding | None], ...] = (
        lambda: _daemon(client),
        lambda: Finding(**library) if isinstance(library, dict) else None,
        lambda: _talk(client),
        lambda: _counters(client),
        lambda: _server(client),
        lambda: _proxy(client),
        lambda: _public_key(client),
        lambda: _quota(client, own_model),
        lambda: cached(client, own_model, files),
        lambda: unchunked(client, files),
        lambda: _space(client, own_model),
        lambda: _managers(client, managers),
        lambda: _options(client),
    )
    findings = [finding for check in checks if (finding := check()) is not None]
    if own_model is not None and files:
        findings += examine_loading(Load(client, own_model.path.absolute(), files, may_measure, switch))
    return findings


def _finding(client: Client, name: str, status: str, sentence: str, mend: str | None = None) -> Finding:
    return Finding(_GROUP, name, status, line(sentence, 1000), mend and line(mend, 1000), client.mount.path)


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
    sentence = f"{client.talk_error}: reads and bytes of the client's own count are not compared"
    return _finding(client, "cvmfs_talk", FAILED, sentence, f"{SUDO} run …")


def _counters(client: Client) -> Finding:
    missing = [name for name in ("user.nopen", "user.ndownload", "user.rx") if name not in client.xattrs]
    if not missing:
        return _finding(client, "attributes", OK, "this user can read opens, downloads and bytes")
    sentence = f"{', '.join(missing)} not readable for this user: without root the client's counters are missing"
    return _finding(
        client, "attributes", WARNING, sentence, "CVMFS_XATTR_PRIVILEGED_GIDS, or no CVMFS_XATTR_PROTECTED_XATTRS"
    )


def _server(client: Client) -> Finding:
    host = without_user_info(client.xattrs.get("user.host", ""))
    if "://" in host:
        return _finding(client, "server", OK, host)
    return _finding(client, "server", FAILED, host or "no server is set", "set CVMFS_SERVER_URL, cvmfs_config reload")


def _proxy(client: Client) -> Finding:
    proxy = without_user_info(client.xattrs.get("user.proxy", ""))
    host = _host_name(without_user_info(client.xattrs.get("user.host", "")))
    if not proxy:
        return _finding(client, "proxy", UNKNOWN, "the client does not say")
    if proxy != "DIRECT" or host in LOOPBACK:
        return _finding(client, "proxy", OK, proxy)
    sentence = "DIRECT: each node fetches from the server"
    return _finding(client, "proxy", WARNING, sentence, "set CVMFS_HTTP_PROXY to a proxy of the site")


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # brackets that hold no address
        return None


def _public_key(client: Client) -> Finding:
    keys = client.parameters.get(KEYS, "")
    if client.unreadable_keys:
        sentence = f"{client.unreadable_keys[0]} cannot be read: the next mount will fail"
        return _finding(client, "public_key", FAILED, sentence, "install it, or correct CVMFS_PUBLIC_KEY")
    if "PUBLIC KEY" in client.xattrs.get("user.pubkeys", ""):
        return _finding(client, "public_key", OK, keys or "the client holds one")
    return _finding(client, "public_key", UNKNOWN, "the client does not show one")


def _quota(client: Client, model: Model | None) -> Finding:
    if client.quota_bytes is None:
        if client.parameters.get("CVMFS_QUOTA_LIMIT", "").startswith("-"):
            return _finding(client, "cache_quota", OK, "none: nothing is evicted")
        if client.talk_error is None:
            return _finding(client, "cache_quota", UNKNOWN, "the client does not say")
        return _finding(client, "cache_quota", UNKNOWN, "only the talk socket shows it", f"{SUDO} doctor")
    quota, used = size_of(client.quota_bytes), client.used_bytes
    sentence = quota if used is None else f"{quota}, {size_of(used)} used"
    if model is None or (size := model.bytes) <= client.quota_bytes:
        return _finding(client, "cache_quota", OK, sentence)
    sentence = f"{sentence}: the model needs {size_of(size)}, so the client evicts parts of it while it is read"
    mend = f"CVMFS_QUOTA_LIMIT={-(-size * 5 // 4 // MEBIBYTE)}, then cvmfs_config reload"
    return _finding(client, "cache_quota", FAILED, sentence, mend)


def _space(client: Client, model: Model | None) -> Finding:
    daemon, free = client.mount.daemon, client.free_bytes
    if daemon is None or free is None:
        return _finding(client, "cache_space", UNKNOWN, "only root can read the cache", f"{SUDO} doctor")
    needed_bytes = max((client.quota_bytes or 0) - (client.used_bytes or 0), 0)
    if model is not None:
        needed_bytes = min(needed_bytes or model.bytes, model.bytes)
    if free >= needed_bytes:
        return _finding(client, "cache_space", OK, f"{size_of(free)} free at {daemon.workspace}")
    sentence = f"{size_of(free)} free at {daemon.workspace}, where {size_of(needed_bytes)} may be written"
    status_of = FAILED if model is not None else WARNING
    return _finding(client, "cache_space", status_of, sentence, "free space, or lower CVMFS_QUOTA_LIMIT")


def _managers(client: Client, managers: Sequence[Process]) -> Finding | None:
    daemon = client.mount.daemon
    of_daemon = [each for each in managers if daemon and (each.uid, each.workspace) == (daemon.uid, daemon.workspace)]
    if not of_daemon:
        return None
    pids = ", ".join(str(manager.pid) for manager in of_daemon)
    return _finding(client, "shared_cache", OK, f"the cache manager (pid {pids}) is observed too")


def _options(client: Client) -> Finding:
    if client.talk_error is not None:
        return _finding(client, "options", UNKNOWN, "only the talk socket shows it", f"{SUDO} doctor")
    unusual = [
        f"{name}={value}: {_UNUSUAL[name]}"
        for name, value in client.parameters.items()
        if name in _UNUSUAL and value.lower() not in _OFF and value != "posix"
    ]
    if unusual:
        return _finding(client, "options", WARNING, "; ".join(unusual))
    return _finding(client, "options", OK, "no streaming, tiered, external or alien cache, no FUSE passthrough")


def _model_alone(model: Model | None, clients: Sequence[Client] = ()) -> list[Finding]:
    """Say what is wrong with the model's folder itself."""
    if model is None:
        return []
    if not model.readable:
        return [Finding(_GROUP, "model", FAILED, f"{model} is not there", "name the folder with genai_config.json")]
    path = str(model.path.absolute())
    holding = [client.mount.path for client in clients if is_below(path, client.mount.path)]
    if not holding:
        sentence = f"{model} is not on an observed mount"
        return [Finding(_GROUP, "model", WARNING, sentence)]
    return [Finding(_GROUP, "model", OK, f"{size_of(model.bytes)} on {holding[0]}")]
