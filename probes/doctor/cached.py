"""How much of a model is in the client's cache, and which of its files the client could not open at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.quota import MEBIBYTE
from cvtrace.probes.cvmfs.strict import line
from cvtrace.probes.doctor.finding import FAILED, OK, UNKNOWN, Finding, size_of
from cvtrace.probes.doctor.meeting import Client
from cvtrace.probes.doctor.model import Model

ANSWER_S: Final = 5.0
MOST_FILES: Final = 10_000
MOST_PAGES: Final = 10_000
HASH: Final = re.compile(r"[0-9a-f]{40,64}(?:-[a-z0-9]+)?[A-Z]?")
CHUNK: Final = re.compile(r"^([0-9a-f]{40,64}(?:-[a-z0-9]+)?[A-Z]?),(\d{1,18}),(\d{1,18})$", re.MULTILINE)
_GROUP: Final = "cvmfs"


@dataclass(frozen=True)
class Object:
    """An object of the repository that a file consists of."""

    hash: str
    size_bytes: int
    suffixes: tuple[str, ...]
    """With which letters the client may write it: P for a chunk."""


def cached(client: Client, model: Model | None) -> Finding | None:
    """Return how many bytes of the model the client has in its cache; None without a model on this mount."""
    if model is None:
        return None
    name, mount = "model_cached", client.mount
    if mount.daemon is None or not os.access(f"/proc/{mount.daemon.pid}/cwd/.", os.R_OK | os.X_OK):
        return Finding(
            _GROUP, name, UNKNOWN, "only root can look into the client's cache", f"{SUDO} doctor", mount.path
        )
    try:
        have, of = within(ANSWER_S, partial(_count, model.path, Path(f"/proc/{mount.daemon.pid}/cwd")))
    except (NoAnswer, OSError, ValueError):
        return Finding(
            _GROUP, name, UNKNOWN, "the client does not say which objects the model consists of", None, mount.path
        )
    share = 100.0 * have / of if of else 100.0
    sentence = f"{size_of(have)} of {size_of(of)} ({share:.0f} %) of the model are in the client's cache"
    return Finding(_GROUP, name, OK, sentence, None, mount.path)


def unchunked(client: Client, model: Model | None) -> Finding | None:
    """Return which file of the model is too large to be opened: unchunked, and above half of the quota. None if there is none."""
    if model is None or not client.quota_bytes:
        return None
    try:
        path, size = within(ANSWER_S, partial(_largest_unchunked, model.path))
    except (NoAnswer, OSError, ValueError):
        return None
    if not size or size <= client.quota_bytes // 2:
        return None
    sentence = (
        f"{path} ({size_of(size)}) is not chunked and larger than half of the quota ({size_of(client.quota_bytes)}): "
        "the client cannot open it"
    )
    mend = f"CVMFS_QUOTA_LIMIT={-(-size * 2 // MEBIBYTE) + 1}, then cvmfs_config reload; or publish it in chunks"
    return Finding(_GROUP, "unchunked_file", FAILED, line(sentence, 1000), mend, client.mount.path)


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of the model."""
    if path.is_file():
        yield path
        return
    for number, file in enumerate(file for file in sorted(path.rglob("*")) if file.is_file()):
        if number >= MOST_FILES:
            return
        yield file


def _count(path: Path, workspace: Path) -> tuple[int, int]:
    """In a child: return the bytes of the model that are in the cache, and all of them."""
    have = of = 0
    for file in _files(path):
        for each in _objects(file):
            of += each.size_bytes
            places = (workspace / each.hash[:2] / f"{each.hash[2:]}{suffix}" for suffix in each.suffixes)
            have += each.size_bytes if any(place.is_file() for place in places) else 0
    return have, of


def _largest_unchunked(path: Path) -> tuple[str, int]:
    """In a child: return the largest file of the model that is one object, and its size."""
    sizes = ((str(file), file.stat().st_size) for file in _files(path) if _chunk_count(file) < 2)
    return max(sizes, key=lambda each: each[1], default=("", 0))


def _chunk_count(file: Path) -> int:
    return int(os.getxattr(file, "user.chunks"))


def _objects(file: Path) -> Iterator[Object]:
    """Yield what a file consists of, as the client says. Raises OSError if it does not."""
    if _chunk_count(file) < 2:
        value = os.getxattr(file, "user.hash").decode("ascii", "replace")
        if not HASH.fullmatch(value):
            raise ValueError(value)
        yield Object(value, file.stat().st_size, ("",))
        return
    for page in _pages(file):
        for digest, _, size in CHUNK.findall(page):
            yield Object(digest, int(size), ("P", ""))


def _pages(file: Path) -> Iterator[str]:
    """Yield the pages of the chunk list: `user.chunk_list~0`, `~1`, …, or the only one of a client without pages."""
    count = 1
    with contextlib.suppress(OSError):
        pages = re.search(rb"\d{1,9}", os.getxattr(file, "user.chunk_list~?"))  # "num_pages, 3"
        count = min(int(pages[0]), MOST_PAGES) if pages else 1
    for number in range(count):
        name = f"user.chunk_list~{number}" if count > 1 else "user.chunk_list"
        yield os.getxattr(file, name).decode("ascii", "replace")
