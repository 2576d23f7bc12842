"""The five states of the caches: how each is brought about, and how it is verified, before a run and after it.

Before a run the residency of the files is looked at, which fetches nothing: the page cache of the CVMFS files, the objects in the client's
cache, and the page cache of the client's own cache files. After the run, the client's counters say how many requests for data it had, and how
many objects it downloaded: in `cold` some, in `warm-…` none but it was read, in `hot` and `local` it was not read at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import psutil

from cvtrace.analysis.bench.schema import COLD, HOT, LOCAL, WARM_DISK, WARM_MEMORY
from cvtrace.analysis.contract.quantities import pluralize, size
from cvtrace.experiment.copies import LocalCopy
from cvtrace.experiment.errors import NotReachable
from cvtrace.experiment.files import PATIENCE_S, Place
from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.counters import Counters, counters_of
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.cvmfs.talk import ask
from cvtrace.probes.residency.cache_files import InMemory, drop_from_memory, in_memory, read_into_memory
from cvtrace.probes.residency.survey import client_caches, drop_pages, residency
from cvtrace.probes.residency.warming import READERS, Piece, Warming

CLEANUP_S: Final = 120.0
DISK_S: Final = 600.0
NOTHING: Final = 0.01
"""Share of the bytes below which a cache counts as empty of them; above 1 - NOTHING it counts as holding them all."""
READS, DOWNLOADS, RECEIVED = "cvmfs.n_fs_read", "fetch.n_downloads", "download.sz_transferred_bytes"
MEMORY_SHARE: Final = 0.8


@dataclass(frozen=True)
class Counted:
    """What the clients counted during a run, all mounts together; None where a client does not tell."""

    reads: int | None
    fetches: int | None
    bytes_fetched: int | None


def check_reachable(states: Sequence[str], place: Place) -> dict[str, str]:
    """Return the states that cannot be reached with these files, each with a sentence. Changes nothing.

    Raises NotReachable if no state can be verified, because this user may not read the clients' counters or caches.
    """
    quotas = _check_clients(place)
    reasons: dict[str, str] = {}
    held = min((quota for quota in quotas if quota is not None), default=None)
    largest = max((each.size for file in place.files for each in file.objects or ()), default=0)
    way_out = "raise CVMFS_QUOTA_LIMIT, or leave the state out with --states"
    if held is not None and place.bytes > held:
        sentence = f"the client's cache is limited to {size(held)} and the files have {size(place.bytes)}: {way_out}"
        reasons |= dict.fromkeys((WARM_DISK, WARM_MEMORY), sentence)
    if held is not None and largest > held // 2:  # quota_posix.cc: the cache cleans up at half of its limit
        sentence = f"a cache of {size(held)} stores objects of at most half of that, and one object has {size(largest)}: {way_out}"
        reasons |= dict.fromkeys((COLD, WARM_DISK, WARM_MEMORY, HOT), sentence)
    memory = psutil.virtual_memory().total * MEMORY_SHARE
    if place.bytes > memory:
        sentence = f"the page cache cannot hold {size(place.bytes)} on a machine with {size(psutil.virtual_memory().total)} of memory"
        reasons |= dict.fromkeys((WARM_MEMORY, HOT, LOCAL), sentence)
    return {state: f"{state} cannot be reached: {reasons[state]}" for state in states if state in reasons}


def _check_clients(place: Place) -> list[int | None]:
    """Return the limit of each client's cache."""
    if any(file.objects is None and file.size for file in place.files):
        path = next(file.path for file in place.files if file.objects is None and file.size)
        raise NotReachable(
            f"the client does not list the chunks of {path}, so no state can be verified: use cvmfs2 2.11 or newer"
        )
    answers = counters_of(place.mounts, with_quota=True, seconds=PATIENCE_S)
    for mount, answer in zip(place.mounts, answers, strict=True):
        if answer.error is not None:
            raise NotReachable(
                f"this user may not read the counters of the client of {mount.path} or empty its cache ({answer.error}): run `{SUDO} bench …`"
            )
    if any(
        held is None
        for file, held in zip(place.files, client_caches(place.files, place.mounts), strict=True)
        if file.size
    ):
        raise NotReachable(
            f"this user cannot read the cache of the client of {place.mounts[0].path} (only root can, and only a plain disk cache): "
            f"run `{SUDO} bench …`"
        )
    return [answer.quota_bytes for answer in answers]


def bring_about(state: str, place: Place, copy: LocalCopy | None) -> None:
    """Bring the caches into a state, as far as the files are concerned. Raises NotReachable, OSError, NotLookedAt."""
    if state == LOCAL:
        assert copy is not None
        _from_disk(copy.read)
        return
    if state == COLD:
        drop_pages(place.files)
        for mount in place.mounts:
            _empty(mount)
        return
    _fetch_missing(place)
    if state == HOT:
        _read([Piece(file.path, 0, file.size, whole=True) for file in place.files if file.size], "hot")
        # A client fetches a file that is not chunked again when it is opened, if a cache smaller than all files has lost it.
        _read([Piece(file.path, 0, file.size) for file in place.files if len(file.objects or ()) == 1], "hot")
        return
    drop_pages(place.files)
    act = drop_from_memory if state == WARM_DISK else read_into_memory
    for mount in place.mounts:
        assert mount.daemon is not None
        _from_disk(partial(act, mount.daemon.pid, place.hashes_of(mount)))


def _empty(mount: Mount) -> None:
    try:
        ask(mount, "cleanup 0", seconds=CLEANUP_S)
    except OSError as failure:
        raise NotReachable(f"the client of {mount.path} did not empty its cache: {failure}") from None


def _from_disk(act: Callable[[], None]) -> None:
    """Call `act` on files of a disk in a child process, so that its rights and open files end with it."""
    try:
        within(DISK_S, act)
    except NoAnswer as failure:
        raise NotReachable(f"files of the client's cache or of the copy could not be read: {failure}") from None


def _fetch_missing(place: Place) -> None:
    missing = [
        Piece(file.path, each.offset, each.size)
        for file, held in zip(place.files, client_caches(place.files, place.mounts), strict=True)
        for each, is_held in zip(file.objects or (), held or (), strict=True)
        if not is_held
    ]
    _read(missing, "warm")


def _read(pieces: Sequence[Piece], state: str) -> None:
    if not pieces:
        return
    warming = Warming(pieces, READERS)
    warming.run(lambda _: None, every_s=0.02)
    if warming.progress.failures:
        raise NotReachable(f"{state} cannot be reached: {warming.progress.failures[0]}")


def why_not(state: str, place: Place, copy: LocalCopy | None) -> str:
    """Return in one sentence why the caches are not in a state; an empty text if they are. Fetches and reads nothing. Raises NotLookedAt."""
    if state == LOCAL:
        assert copy is not None
        return _unless_all("of the local copy", copy.resident_bytes(), copy.bytes, "in the page cache")
    rows = residency(place.files, place.mounts)
    held = sum(row.client_cache_bytes or 0 for row in rows)
    # The pages of a file that is not chunked cannot be looked at without fetching it: they were dropped with those of the others.
    pages = sum(row.page_cache_bytes or 0 for row in rows)
    if state == COLD:
        return _unless_none("of the files", held, place.bytes, "in the client's cache") or _unless_none(
            "of the files", pages, place.bytes, "in the page cache"
        )
    if state == HOT:
        return _unless_all("of the files", pages, place.bytes, "in the page cache")
    reason = _unless_all("of the files", held, place.bytes, "in the client's cache") or _unless_none(
        "of the files", pages, place.bytes, "in the page cache"
    )
    if reason:
        return reason
    memory = _cache_files(place)
    check = _unless_none if state == WARM_DISK else _unless_all
    return check("of the client's cache files", memory.resident_bytes, memory.bytes, "in the page cache")


def _cache_files(place: Place) -> InMemory:
    parts = []
    for mount in place.mounts:
        assert mount.daemon is not None
        try:
            total, resident = within(DISK_S, partial(_looked_at, mount.daemon.pid, place.hashes_of(mount)))
        except (NoAnswer, OSError) as failure:
            raise NotReachable(f"the cache of the client of {mount.path} could not be read: {failure}") from None
        parts.append(InMemory(total, resident))
    known = [part.resident_bytes for part in parts]
    return InMemory(sum(part.bytes for part in parts), None if None in known else sum(each or 0 for each in known))


def _looked_at(pid: int, hashes: Sequence[str]) -> list[int | None]:
    memory = in_memory(pid, hashes)
    return [memory.bytes, memory.resident_bytes]


def _unless_none(what: str, there: int | None, total: int, where: str) -> str:
    if there is None:
        return f"cvtrace could not determine how much {what} is {where}"
    return "" if there <= NOTHING * total else f"{size(there)} {what} were {where} before the run"


def _unless_all(what: str, there: int | None, total: int, where: str) -> str:
    if there is None:
        return f"cvtrace could not determine how much {what} is {where}"
    return (
        ""
        if there >= (1 - NOTHING) * total
        else f"only {size(there)} of {size(total)} {what} were {where} before the run"
    )


def count(place: Place) -> list[Counters]:
    """Return the counters of the clients."""
    return counters_of(place.mounts, seconds=PATIENCE_S)


def counted(before: Sequence[Counters], after: Sequence[Counters]) -> Counted:
    """Return what was counted between two readings."""
    return Counted(*(_grown(before, after, name) for name in (READS, DOWNLOADS, RECEIVED)))


def _grown(before: Sequence[Counters], after: Sequence[Counters], name: str) -> int | None:
    total = 0
    for earlier, later in zip(before, after, strict=True):
        if name not in earlier.values or name not in later.values:
            return None
        total += later.values[name] - earlier.values[name]
    return total


def contradiction(state: str, during: Counted) -> str:
    """Return why the clients' counters show that a run was not in its state; an empty text if they agree with it."""
    reads, fetches = during.reads, during.fetches
    if reads is None or fetches is None or min(reads, fetches) < 0:
        return "the client's counters could not all be read, or the client was restarted during the run"
    if state == COLD:
        return (
            ""
            if fetches
            else "the client fetched nothing during the run: the script does not read these files, or it read them from another place"
        )
    if fetches:
        return f"the client fetched {pluralize(fetches, 'object')} during the run: the script also reads files that were not named (name them with --model PATH), or another program uses the client"
    if state in (HOT, LOCAL) and reads:
        return f"the client answered {pluralize(reads, 'read')} during the run: the script also reads files that were not named (name them with --model PATH), or another program uses the client"
    if state in (WARM_DISK, WARM_MEMORY) and not reads:
        return "the client answered no read during the run: the script does not read these files"
    return ""


def rights_suffice() -> bool:
    """Return whether this process is root's, who may bind a copy over the files."""
    return os.geteuid() == 0
