"""A bundle of the files that a run used: its files, its trigger, the time that it saves, and its limits."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.bundle_schema import PREFIX, SCHEMA, BundleFile, BundlePlan, BundlePrediction
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.joins.cache_use import FETCHED, SHARED
from cvtrace.analysis.storage.chunks import CHUNK, FILE, UNKNOWN, chunks
from cvtrace.analysis.storage.needed import needed_ranges
from cvtrace.analysis.trace.intervals import add_by_group
from cvtrace.analysis.trace.recording import Mount
from cvtrace.analysis.whatif.bundle_limits import limits
from cvtrace.analysis.whatif.path_waits import NETWORK, link, path_waits
from cvtrace.analysis.whatif.prefetching import Cost, Need, queued, replay

LAB_ERROR: Final = 0.10
"""The largest error of a predicted saving in the table of docs/bundle.md, as a share of the measured run, and at least 10 %."""
BUNDLE_BYTES_PER_PATH: Final = 100
ASSUMPTIONS: Final = (
    "eight files are fetched at a time, and the chunks of a file one after the other; one thread of the client unpacks them, as in this run",
    "what was fetched in this run is not in the client's cache, and what was not fetched is",
    "the program does the same in the same time, whatever else the client does meanwhile",
)


class NoBundle(Exception):
    """No bundle can be made from this trace; one sentence that says why, and what to do."""


@dataclass(frozen=True)
class Listing:
    """What the client lists of a file that is there now: its size, and hash and size of each of its objects (none if it does not tell)."""

    size_bytes: int
    objects: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class UsedFile:
    """A file that the run used; `path` from the root of the repository."""

    path: str
    first_ns: int
    used_bytes: int


@dataclass(frozen=True)
class Choice:
    """The files of one repository in the order of their first use, and which of them is the trigger."""

    mount: Mount
    trigger: UsedFile
    files: tuple[UsedFile, ...]
    before: tuple[UsedFile, ...]
    """Used before the trigger, or at the same time."""
    elsewhere: dict[str, int]
    """Other repository -> how many of its files were used."""


def choose(study: Study, trigger: str | None) -> Choice:
    """Choose repository and trigger, or take the trigger that is named, by its path in the mount or from the root of the repository. Raises NoBundle."""
    if not study.recording.sees_requests:
        raise NoBundle(
            f"the {study.recording.probe} probe records no files: record the run with eBPF or strace (as root), then make a bundle of it"
        )
    if study.recording.meta.get("redacted"):
        raise NoBundle("the paths in this trace are hashed (--redact): record the run without --redact")
    by_mount = _files_by_mount(study)
    if not by_mount:
        raise NoBundle("this run used no file on CVMFS whose name was seen: record one that does")
    mounts = {mount.path: mount for mount in study.recording.mounts}
    path = _mount_of(by_mount, trigger) if trigger else max(by_mount, key=lambda each: _used_bytes(by_mount[each]))
    files = by_mount[path]
    chosen = _named(files, trigger, path) if trigger else _first_of_main_folder(files)
    after = tuple(file for file in files if file.first_ns > chosen.first_ns and file.path != chosen.path)
    if not after:
        raise NoBundle(
            f"the run used no file after {path}{chosen.path} was opened: there is nothing that a client could prefetch then; "
            "name another trigger with --trigger"
        )
    before = tuple(file for file in files if file.first_ns <= chosen.first_ns and file.path != chosen.path)
    elsewhere = {mounts[each].fqrn: len(by_mount[each]) for each in by_mount if each != path}
    return Choice(mounts[path], chosen, after, before, elsewhere)


def _files_by_mount(study: Study) -> dict[str, list[UsedFile]]:
    """Return the files that the run used by mount, each in the order of first use; bundles themselves are left out."""
    mounts = sorted((mount.path for mount in study.recording.mounts if mount.path), key=len, reverse=True)
    first: dict[tuple[str, str], int] = {}
    used: dict[tuple[str, str], int] = {}
    for each in needed_ranges(study):
        path = next((path for path in mounts if each.path.startswith(f"{path}/")), None)
        if path is None or posixpath.basename(each.path).startswith(PREFIX):
            continue
        key = path, each.path.removeprefix(path)
        first[key] = min(first.get(key, each.first_ns), each.first_ns)
        used[key] = used.get(key, 0) + each.size
    by_mount: dict[str, list[UsedFile]] = {}
    for key in sorted(first, key=lambda each: first[each]):
        by_mount.setdefault(key[0], []).append(UsedFile(key[1], first[key], used[key]))
    return by_mount


def _used_bytes(files: Sequence[UsedFile]) -> int:
    return sum(file.used_bytes for file in files)


def _mount_of(by_mount: Mapping[str, list[UsedFile]], trigger: str) -> str:
    """Return the mount of a trigger that is named."""
    inside = [path for path in by_mount if trigger.startswith(f"{path}/")]
    holding = [path for path, files in by_mount.items() if any(file.path == trigger for file in files)]
    if inside or holding:
        return max(inside, key=len) if inside else holding[0]
    paths = " or ".join(by_mount)
    raise NoBundle(f"the run opened no {trigger} on {paths}: name a file that it opened, such as {_example(by_mount)}")


def _example(by_mount: Mapping[str, list[UsedFile]]) -> str:
    path, files = next(iter(by_mount.items()))
    return f"{path}{files[0].path}"


def _named(files: Sequence[UsedFile], trigger: str, path: str) -> UsedFile:
    relative = trigger.removeprefix(path) if trigger.startswith(f"{path}/") else trigger
    for file in files:
        if file.path == relative:
            return file
    raise NoBundle(f"the run opened no {trigger}: name a file that it opened, such as {path}{files[0].path}")


def _first_of_main_folder(files: Sequence[UsedFile]) -> UsedFile:
    """Return the file that was used first in the folder of which most bytes were used: what else opens it needs the same files, most likely."""
    total: dict[str, int] = {}
    for file in files:
        folder = posixpath.dirname(file.path)
        total[folder] = total.get(folder, 0) + file.used_bytes
    main = max(total, key=lambda folder: total[folder])
    return next(file for file in files if posixpath.dirname(file.path) == main)


def plan(study: Study, choice: Choice, listings: Mapping[str, Listing]) -> BundlePlan:
    """Return the bundle and what it saves; `listings` has what is known of files as they are now, by path in the repository. Raises NoBundle."""
    files = tuple(file for file in choice.files if _can_be_listed(file.path))
    if not files:
        raise NoBundle("no name of the files is UTF-8 and shorter than 4 kB, as those in a bundle have to be")
    table = _Objects(study, choice.mount)
    rows = tuple(_row(file, table, listings.get(file.path)) for file in files)
    sentences = limits(
        study, choice.mount, rows, _names(choice.before), choice.elsewhere, len(choice.files) - len(files)
    )
    return BundlePlan(
        schema=SCHEMA,
        trace=str(study.recording.path),
        fqrn=choice.mount.fqrn,
        mountpoint=choice.mount.path,
        directory=posixpath.dirname(choice.trigger.path) or "/",
        name=PREFIX + posixpath.basename(choice.trigger.path),
        trigger=choice.trigger.path,
        files=rows,
        prediction=_prediction(study, choice, rows, table, listings),
        does_not_help=sentences,
    )


def _names(files: Sequence[UsedFile]) -> tuple[str, ...]:
    return tuple(file.path for file in files)


def _can_be_listed(path: str) -> bool:
    """Return whether a client takes a path from a bundle: JSON is UTF-8, and a path has to fit into its queue."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return queued([path]) == 1


class _Objects:
    """The objects that the run used of each file of a mount, and what fetching them took."""

    def __init__(self, study: Study, mount: Mount) -> None:
        self._study = study
        gets, parts = study.gets, study.job_time.parts_ns()
        count = len(study.opens.names) + 1
        of = np.where(study.gets_of_target, study.get_object, -1)
        self._latency = add_by_group(of, parts["connect_s"] + parts["request_s"], count)
        self._receiving = add_by_group(of, parts["transfer_s"] + parts["fill_s"], count)
        self._unpacking = add_by_group(of, parts["fill_s"], count)
        self._bytes = add_by_group(of, gets.body_bytes, count)
        self._fetched = add_by_group(of, np.ones(len(gets), dtype=np.int64), count) > 0
        self.of_file: dict[str, list[int]] = {}
        """Path in the repository -> objects that the run used of it, in order."""
        objects = chunks(study)
        names = study.file_paths.of(objects.connection, objects.nodeid)
        content = np.isin(objects.kind, (FILE, CHUNK, UNKNOWN)) & (objects.file >= 0)
        for row in np.flatnonzero(content).tolist():
            if names[row].startswith(f"{mount.path}/"):
                self.of_file.setdefault(names[row].removeprefix(mount.path), []).append(int(objects.object[row]))
        speed = link(study).bytes_per_s
        self._ns_per_byte = 1e9 / speed if speed else 0.0
        fetched = np.flatnonzero(self._fetched)
        self._usual_latency = int(np.median(self._latency[fetched])) if len(fetched) else 0
        self._fetched_unpacking = int(self._unpacking[fetched].sum())
        self._fetched_bytes = max(int(self._bytes[fetched].sum()), 1)

    def fetched(self, path: str) -> list[int]:
        """Return the objects of a file that were fetched in the run."""
        return [each for each in self.of_file.get(path, []) if self._fetched[each]]

    def bytes_of(self, objects: Sequence[int]) -> int:
        """Return the bytes of these objects as sent."""
        return int(sum(self._bytes[each] for each in objects))

    def cost(self, an_object: int) -> Cost:
        """Return what fetching an object took; alone, it takes as long as it took."""
        receiving, unpacking = int(self._receiving[an_object]), int(self._unpacking[an_object])
        wire = min(round(int(self._bytes[an_object]) * self._ns_per_byte), receiving)
        return Cost(int(self._latency[an_object]) + receiving - max(wire, unpacking), wire, unpacking)

    def usual(self, size_bytes: int) -> Cost:
        """Return the usual time of this run to fetch so many bytes."""
        unpacking = round(size_bytes * self._fetched_unpacking / self._fetched_bytes)
        return Cost(self._usual_latency, round(size_bytes * self._ns_per_byte), unpacking)

    def unused(self, listing: Listing, path: str) -> list[int]:
        """Return the sizes of the objects that a file has now and that the run did not use, if the run fetched others of it."""
        if not self.fetched(path):
            return []
        names = self._study.opens.names
        known = {names[each].partition("-")[0] for each in self.of_file.get(path, [])}
        return [size for name, size in listing.objects if name.partition("-")[0] not in known]


def _row(file: UsedFile, table: _Objects, listing: Listing | None) -> BundleFile:
    fetched = table.fetched(file.path)
    unused = [table.usual(size) for size in table.unused(listing, file.path)] if listing else []
    return BundleFile(
        path=file.path,
        size_bytes=listing.size_bytes if listing else None,
        objects=max(len(listing.objects) if listing else 0, len(table.of_file.get(file.path, []))),
        fetched_objects=len(fetched),
        fetched_bytes=table.bytes_of(fetched),
        used_bytes=min(file.used_bytes, listing.size_bytes) if listing else file.used_bytes,
        background_s=sum(cost.alone for cost in [*map(table.cost, fetched), *unused]) / 1e9,
    )


def _prediction(
    study: Study, choice: Choice, rows: Sequence[BundleFile], table: _Objects, listings: Mapping[str, Listing]
) -> BundlePrediction:
    """Replay the run from the moment when the trigger was opened."""
    begin = choice.trigger.first_ns
    wall_s = int((study.segments.end - study.segments.start).sum()) / 1e9
    place: dict[int, int] = {}
    costs: list[Cost] = []
    files: list[list[int]] = []
    room = queued([row.path for row in rows])
    for number, row in enumerate(rows):
        numbers = []
        for an_object in table.fetched(row.path):
            place[an_object] = len(costs)
            numbers.append(len(costs))
            costs.append(table.cost(an_object))
        for size in table.unused(listings[row.path], row.path) if row.path in listings else ():
            numbers.append(len(costs))
            costs.append(table.usual(size))
        if numbers and number < room:
            files.append(numbers)
    needs = _needs(study, begin, place)
    waited_s = sum(need.waited for need in needs) / 1e9
    if not needs:
        reason = "no file of the bundle was fetched while the run waited for it: only a run on an empty cache shows what a bundle saves"
        return BundlePrediction(wall_s, None, None, waited_s, None, None, None, (), reason)
    result = replay(costs, files, needs, table.usual(BUNDLE_BYTES_PER_PATH * len(rows)))
    saves_s = -result.change / 1e9
    return BundlePrediction(
        measured_s=wall_s,
        predicted_s=wall_s - saves_s,
        saves_s=saves_s,
        fetch_wait_s=waited_s,
        predicted_wait_s=waited_s - saves_s,
        background_s=result.background / 1e9,
        lab_error=LAB_ERROR,
        assumptions=ASSUMPTIONS,
    )


def _needs(study: Study, begin: int, place: Mapping[int, int]) -> list[Need]:
    """Return the waits of the critical path for objects that are in the bundle, from `begin` on, in order."""
    waits, use = path_waits(study), study.use
    rows = np.flatnonzero((use.use == FETCHED) | (use.use == SHARED))
    of_request: dict[int, list[int]] = {}
    for request, an_object in zip(use.use_request[rows].tolist(), use.use_object[rows].tolist(), strict=True):
        if an_object in place:
            of_request.setdefault(request, []).append(place[an_object])
    waited = waits.of(*NETWORK, Class.CACHE_FILL)
    return [
        Need(int(waits.start[row]) - begin, int(waited[row]), tuple(sorted(of_request[int(waits.request[row])])))
        for row in np.argsort(waits.start, kind="stable").tolist()
        if int(waits.request[row]) in of_request and waits.start[row] >= begin and waited[row] > 0
    ]
