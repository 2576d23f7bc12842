"""What the load of a model meets on its way: its objects, where they are, the kernel's requests, the daemon's limits, and the network.

Each line says a value, why it matters, and the command that changes it. Nothing is fetched and nothing is read, unless the user agrees to have the
network measured.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.strict import line
from cvtrace.probes.doctor.finding import OK, UNKNOWN, WARNING, Finding, pluralize, seconds_of, size_of
from cvtrace.probes.doctor.limits import limits_of
from cvtrace.probes.doctor.link import Link, NotMeasured, Source, measure
from cvtrace.probes.doctor.meeting import Client
from cvtrace.probes.residency.objects import Object
from cvtrace.probes.residency.survey import File, FileResidency, NotLookedAt, residency
from cvtrace.probes.residency.warming import READERS

GROUP: Final = "model"
LARGEST_CHUNK: Final = 32 << 20
"""A publisher that cuts files into chunks makes none larger than 16 MiB, or twice that where it was told to."""
MOST_REQUEST: Final = 1 << 20
"""The largest read that the kernel sends in one request (FUSE_MAX_MAX_PAGES of 4 KiB, and the buffer of a client)."""
ALMOST: Final = 0.8


@dataclass(frozen=True)
class Load:
    """A model on a mount, and what the user who called allows."""

    client: Client
    path: Path
    files: Sequence[File]
    may_measure: Callable[[str], bool] | None
    """Takes what would be sent, one sentence; None: it is not wanted."""
    switch: Callable[[], None]
    """Gives a child the rights of that user."""


def examine_loading(load: Load) -> list[Finding]:
    """Return what a load of the model meets; nothing if the client does not list the model's objects."""
    files = [file for file in load.files if file.size]
    objects = [each for file in files for each in file.objects or ()]
    if not objects or any(file.objects is None for file in files):
        return []
    findings = [_objects(load, files, objects), _residency(load, files)]
    findings += [each for each in (_readahead(load, objects), _daemon_limits(load)) if each is not None]
    return findings + _network(load, files, objects)


def _finding(load: Load, name: str, status: str, sentence: str, mend: str | None = None) -> Finding:
    return Finding(GROUP, name, status, line(sentence, 1000), mend and line(mend, 1000), load.client.mount.path)


def _objects(load: Load, files: Sequence[File], objects: Sequence[Object]) -> Finding:
    total, largest = sum(each.size for each in objects), max(each.size for each in objects)
    whole = max((file for file in files if len(file.objects or ()) == 1), key=lambda file: file.size, default=None)
    sentence = (
        f"{pluralize(len(files), 'file')} in {pluralize(len(objects), 'object')} of {size_of(total / len(objects))} on average, the largest "
        f"{size_of(largest)}: the first touch of any byte fetches its whole object"
    )
    if whole is None or whole.size <= LARGEST_CHUNK:
        return _finding(load, "objects", OK, sentence)
    sentence = f"{os.path.basename(whole.path)} ({size_of(whole.size)}) is one object: opening it waits until all of it is fetched, by one connection"  # noqa: PTH119
    return _finding(
        load, "objects", WARNING, sentence, "on the publisher: CVMFS_USE_FILE_CHUNKING=true, then publish it again"
    )


def _residency(load: Load, files: Sequence[File]) -> Finding:
    name = "residency"
    try:
        rows = residency(files, [load.client.mount])
    except NotLookedAt as failure:
        return _finding(load, name, UNKNOWN, str(failure))
    remote = [row.remote_bytes for row in rows]
    if None in remote:
        return _finding(load, name, UNKNOWN, "only root can look into the client's cache", f"{SUDO} doctor")
    missing = sum(each or 0 for each in remote)
    pages = sum(row.page_cache_bytes or 0 for row in rows)
    sentence = f"{size_of(pages)} in the page cache, {size_of(_only_on_disk(rows))} in the client's cache only"
    if not missing:
        return _finding(load, name, OK, sentence)
    sentence += f", {size_of(missing)} on the server only: reads of those wait for the network"
    return _finding(load, name, OK, sentence, f"cvtrace warmup {shlex.quote(str(load.path))}")


def _only_on_disk(rows: Sequence[FileResidency]) -> int:
    return sum(
        each.size - pages
        for row in rows
        for each, is_cached, pages in zip(
            row.file.objects or (), row.cached or (), row.page_cache or (0,) * len(row.cached or ()), strict=True
        )
        if is_cached
    )


def _readahead(load: Load, objects: Sequence[Object]) -> Finding | None:
    device = load.client.mount.device
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        ahead = int(setting.read_text()) * 1024
    except (OSError, ValueError):
        return None
    largest = max(each.size for each in objects)
    request = min(ahead, MOST_REQUEST)
    if request <= 0 or largest <= request:
        return _finding(load, "readahead", OK, f"read_ahead_kb is {ahead // 1024:,}: one request reads an object")
    if request == MOST_REQUEST:
        return _finding(
            load, "readahead", OK, f"read_ahead_kb is {ahead // 1024:,}: requests are as large as they can be"
        )
    sentence = (
        f"read_ahead_kb is {ahead // 1024:,}: reading an object of {size_of(largest)} in order takes "
        f"{pluralize(-(-largest // request), 'request')} to the daemon; {-(-largest // MOST_REQUEST):,} would do"
    )
    return _finding(load, "readahead", OK, sentence, f"echo 2048 | sudo tee {setting}")


def _daemon_limits(load: Load) -> Finding | None:
    daemon = load.client.mount.daemon
    if daemon is None:
        return None
    try:
        limits = limits_of(daemon.pid)
    except (OSError, ValueError):
        return _finding(load, "daemon_limits", UNKNOWN, "only root can see the daemon's limits", f"{SUDO} doctor")
    cpus = limits.cpus if limits.cpu_share is None else min(limits.cpus, limits.cpu_share)
    if cpus < 1:
        sentence = f"the daemon may use {cpus:.2g} of a CPU: unpacking and verifying what it fetches takes {1 / cpus:.0f} times as long"
        mend = "give the daemon's cgroup at least one CPU (cpu.max)"
        return _finding(load, "daemon_limits", WARNING, sentence, mend)
    most, in_use = limits.descriptors, limits.open_descriptors
    if most is not None and in_use is not None and in_use > ALMOST * most:
        sentence = (
            f"{in_use:,} of {most:,} descriptors of the daemon are open: when none is left, open() fails for everybody"
        )
        return _finding(load, "daemon_limits", WARNING, sentence, f"CVMFS_NFILES={most * 4}, then mount it again")
    opened = "" if most is None else f", and {most:,} descriptors{'' if in_use is None else f' ({in_use:,} open)'}"
    return _finding(load, "daemon_limits", OK, f"the daemon may use {cpus:g} CPUs{opened}")


def _network(load: Load, files: Sequence[File], objects: Sequence[Object]) -> list[Finding]:
    source = _source(load.client)
    if source is None:
        return [_finding(load, "network", UNKNOWN, "the client does not say where it fetches from")]
    sample = _sample(files)
    sentence = f"four requests go to {source}; they fetch {size_of(sample.size)} at most and keep nothing"
    if load.may_measure is None:
        mend = f"cvtrace doctor --model {shlex.quote(str(load.path))} --measure"
        return [_finding(load, "network", UNKNOWN, "not measured: round trip, bandwidth, the shortest cold load", mend)]
    if not load.may_measure(sentence):
        return [_finding(load, "network", UNKNOWN, "not measured")]
    try:
        link = measure(source, sample.path, load.switch)
    except NotMeasured as failure:
        return [_finding(load, "network", WARNING, str(failure), "look at the server and at CVMFS_HTTP_PROXY")]
    sentence = f"a round trip takes {seconds_of(link.round_trip_s)}, an object comes at {size_of(link.bytes_per_s)}/s, from {source}"
    return [_finding(load, "network", OK, sentence), _shortest_load(load, sample, link, objects)]


def _source(client: Client) -> Source | None:
    url, proxy = client.xattrs.get("user.host", ""), client.xattrs.get("user.proxy", "")
    if "://" not in url:
        return None
    return Source(url.rstrip("/"), None if proxy in ("", "DIRECT") else proxy)


@dataclass(frozen=True)
class _Sample:
    """The object that is fetched to measure."""

    path: str
    """Below the repository's URL."""
    size: int
    """Unpacked."""


def _sample(files: Sequence[File]) -> _Sample:
    """Return the largest chunk, or, if no file is chunked, the largest file."""
    chunked = [file for file in files if len(file.objects or ()) > 1]
    chosen = max((each for file in chunked or files for each in file.objects or ()), key=lambda each: each.size)
    return _Sample(f"data/{chosen.hash[:2]}/{chosen.hash[2:]}{'P' if chunked else ''}", chosen.size)


def _shortest_load(load: Load, sample: _Sample, link: Link, objects: Sequence[Object]) -> Finding:
    """Return how long a cold load takes at least: one reader waits for object after object; several share the bandwidth."""
    packed = min(link.bytes / sample.size, 1.0) if sample.size else 1.0
    total = sum(each.size for each in objects) * packed
    transfer_s = total / link.bytes_per_s
    alone_s = len(objects) * link.round_trip_s + transfer_s
    together_s = -(-len(objects) // READERS) * link.round_trip_s + transfer_s
    sentence = (
        f"{seconds_of(alone_s)} at least with empty caches and one reader: {len(objects):,} round trips and {size_of(total)} over the network; "
        f"{seconds_of(together_s)} with {READERS} readers"
    )
    return _finding(load, "shortest_cold_load", OK, sentence, f"cvtrace warmup {shlex.quote(str(load.path))}")
