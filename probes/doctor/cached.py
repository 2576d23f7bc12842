"""How much of a model is in the client's cache, and which of its files the client could not open at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.quota import MEBIBYTE
from cvtrace.probes.cvmfs.strict import line
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, Finding, size_of
from cvtrace.probes.doctor.meeting import Client
from cvtrace.probes.doctor.model import Model
from cvtrace.probes.residency.survey import File, NotLookedAt, client_caches, files_of

ANSWER_S: Final = 5.0
_GROUP: Final = "cvmfs"


def files_of_model(client: Client, model: Model | None) -> list[File] | None:
    """Return the files of the model, a folder or a file on the client's mount; None without a model, or if its client does not list them."""
    if model is None:
        return None
    try:
        return files_of([str(model.path.absolute())], [client.mount], lambda: None, ANSWER_S)
    except (NotLookedAt, OSError):
        return None


def cached(client: Client, model: Model | None, files: Sequence[File] | None) -> Finding | None:
    """Return how many bytes of the model the client has in its cache; None without a model on this mount."""
    if model is None:
        return None
    name, mount = "model_cached", client.mount
    if mount.daemon is None or not os.access(f"/proc/{mount.daemon.pid}/cwd/.", os.R_OK | os.X_OK):
        return Finding(
            _GROUP, name, UNKNOWN, "only root can look into the client's cache", f"{SUDO} doctor", mount.path
        )
    listed = [file for file in files or () if file.size]
    objects = [file.objects for file in listed]
    if files is None or None in objects:
        return Finding(
            _GROUP, name, UNKNOWN, "the client does not say which objects the model consists of", None, mount.path
        )
    held = client_caches(listed, [mount])
    if None in held:
        return Finding(_GROUP, name, UNKNOWN, "the client's cache is not a plain disk cache", None, mount.path)
    pairs = [
        pair
        for file, holds in zip(listed, held, strict=True)
        for pair in zip(file.objects or (), holds or (), strict=True)
    ]
    have, of = sum(each.size for each, is_held in pairs if is_held), sum(each.size for each, _ in pairs)
    share = 100.0 * have / of if of else 100.0
    sentence = f"{size_of(have)} of {size_of(of)} ({share:.0f} %) of the model are in the client's cache"
    return Finding(_GROUP, name, OK, sentence, None, mount.path)


def unchunked(client: Client, files: Sequence[File] | None) -> Finding | None:
    """Return which file of the model is too large to be opened: unchunked, and above half of the quota. None if there is none."""
    if not client.quota_bytes:
        return None
    whole = [file for file in files or () if file.objects is not None and len(file.objects) == 1]
    largest = max(whole, key=lambda file: file.size, default=None)
    if largest is None or largest.size <= client.quota_bytes // 2:
        return None
    sentence = (
        f"{largest.path} ({size_of(largest.size)}) is not chunked and larger than half of the quota ({size_of(client.quota_bytes)}): "
        "the client cannot open it"
    )
    mend = (
        f"CVMFS_QUOTA_LIMIT={-(-largest.size * 2 // MEBIBYTE) + 1}, then cvmfs_config reload; or publish it in chunks"
    )
    return Finding(_GROUP, "unchunked_file", FAILED, line(sentence, 1000), mend, client.mount.path)
