"""What the clients of all mounts say of themselves, asked side by side by children that may hang."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from cvtrace.probes.cvmfs.attributes import read_xattrs
from cvtrace.probes.cvmfs.deadline import all_within
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.cvmfs.quota import LIMIT, megabytes
from cvtrace.probes.cvmfs.strict import line, number
from cvtrace.probes.cvmfs.talk import ask

ANSWER_S: Final = 2.0
SHARE: Final = 0.25
"""Which part of that each of attributes, talk socket and cache may take."""
XATTRS: Final = ("user.host", "user.proxy", "user.pubkeys", "user.nopen", "user.ndownload", "user.rx")
PARAMETER: Final = re.compile(r"^(CVMFS_\w{1,60})=(.{0,4000}?)(?:\s+# from .*)?$", re.MULTILINE | re.ASCII)
USED: Final = re.compile(r"\(([0-9]{1,18}) Bytes\)")
KEYS: Final = "CVMFS_PUBLIC_KEY"


@dataclass(frozen=True)
class Client:
    """A mount with what its client says of itself."""

    mount: Mount
    xattrs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    quota_bytes: int | None = None
    used_bytes: int | None = None
    talk_error: str | None = None
    free_bytes: int | None = None
    """Room where its cache is; None if this user may not look."""
    unreadable_keys: list[str] = field(default_factory=list)
    """Public keys that it is to check the repository with, and that cannot be read."""


def meet(mounts: Sequence[Mount]) -> list[Client]:
    """Ask the clients of those mounts that answer. Never hangs."""
    answering = [mount for mount in mounts if mount.answers]
    questions = [partial(question, mount) for mount in answering for question in (_talk, _attributes, _cache)]
    answers = iter(all_within(ANSWER_S, questions))
    clients = {mount: _client(mount, next(answers), next(answers), next(answers)) for mount in answering}
    return [clients.get(mount) or Client(mount) for mount in mounts]


def _client(mount: Mount, talk: Any, attributes: Any, cache: Any) -> Client:
    fields: dict[str, Any] = talk if isinstance(talk, dict) else {"talk_error": _reason(talk)}
    free = cache if isinstance(cache, int) else None
    return Client(mount, attributes if isinstance(attributes, dict) else {}, free_bytes=free, **fields)


def _reason(failure: Exception) -> str:
    code = failure.errno if isinstance(failure, OSError) else None
    return os.strerror(code) if code else str(failure)


def _attributes(mount: Mount) -> dict[str, str]:
    return read_xattrs(mount, XATTRS)


def _cache(mount: Mount) -> int | None:
    if mount.daemon is None or mount.daemon.workspace is None:
        return None
    status = os.statvfs(f"/proc/{mount.daemon.pid}/cwd")
    return status.f_bavail * status.f_frsize


def _talk(mount: Mount) -> dict[str, Any]:
    until_s = time.monotonic() + ANSWER_S * 3 * SHARE
    parameters = read_parameters(ask(mount, "parameters", until_s - time.monotonic()))
    quota = megabytes(ask(mount, LIMIT, until_s - time.monotonic()))
    keys = parameters.get(KEYS, "").split(":")
    return {
        "parameters": parameters,
        "quota_bytes": quota or megabytes(parameters.get("CVMFS_QUOTA_LIMIT")),
        "used_bytes": used_bytes(ask(mount, "cache size", until_s - time.monotonic())),
        "unreadable_keys": [path for path in keys if path and not os.access(path, os.R_OK)],
    }


def read_parameters(answer: str) -> dict[str, str]:
    """Return the settings in the answer to `parameters`."""
    return {name: line(value, 1000) for name, value in PARAMETER.findall(answer)}


def used_bytes(answer: str) -> int | None:
    """Return how full the cache is, from the answer to `cache size`."""
    used = USED.search(answer)
    return number(used[1]) if used else None
