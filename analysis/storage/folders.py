"""Folders on the mounts: what was asked about what lies in each, and for how long the target was blocked for that."""

import posixpath
from collections.abc import Iterator
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.program_schema import Folder
from cvtrace.analysis.joins.bytes_used import file_of
from cvtrace.analysis.joins.requests import PATHS
from cvtrace.analysis.storage.chunks import blocked_ns
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, pick
from cvtrace.probes.events import Opcode

OF_FOLDERS: Final = (Opcode.LOOKUP, Opcode.OPENDIR, Opcode.READDIR, Opcode.READDIRPLUS, Opcode.RELEASEDIR)
"""Requests whose node is a folder: the one looked into."""
OF_FILES: Final = (Opcode.OPEN, Opcode.READ)


def folder_rows(study: Study) -> tuple[Folder, ...]:
    """Return the folders that the target asked about, and those above them, the ones it waited for longest first."""
    requests = study.requests
    chosen = np.flatnonzero(requests.by_target & requests.expects_reply)
    if not len(chosen):
        return ()
    key = file_of(requests)[chosen]
    nodes, first, node = np.unique(key, return_index=True, return_inverse=True)
    at = chosen[first]
    is_folder = np.zeros(len(nodes), dtype=bool)
    is_folder[node[np.isin(requests.opcode[chosen], OF_FOLDERS)]] = True
    folders = _folders(study, at, is_folder)
    names = tuple(dict.fromkeys(folders))
    number = {name: place for place, name in enumerate(names)}
    of_node = np.array([number[folder] for folder in folders], dtype=np.int64)
    place = np.full(len(requests), -1, dtype=np.int64)
    place[chosen] = of_node[node]
    used = np.unique(node[np.isin(requests.opcode[chosen], OF_FILES)])
    files = np.bincount(of_node[used], minlength=len(names)).astype(np.int64)
    return _rows(study, names, np.column_stack([_sums(study, place, len(names)), files]))


def _folders(study: Study, at: Ints, is_folder: Bools) -> list[str]:
    """Return the folder that each node is, or lies in; empty where its path was never seen."""
    requests, known = study.requests, study.file_paths.names
    links = zip(requests.connection[at].tolist(), requests.nodeid[at].tolist(), is_folder.tolist(), strict=True)
    roots = {mount.path for mount in study.recording.mounts}
    names = []
    for connection, node, folder in links:
        path = known.get((connection, node), "")
        names.append(path if folder or path in roots else posixpath.dirname(path))
    return names


def _sums(study: Study, place: Ints, count: int) -> Ints:
    """Return requests, lookups, opens, reads, bytes read, fetches, bytes fetched and ns blocked of each folder, as columns."""
    requests, gets = study.requests, study.gets
    of_get = pick(place, gets.request, -1)
    ones = np.ones(len(requests), dtype=np.int64)
    return np.column_stack(
        [
            add_by_group(place, ones, count),
            add_by_group(place, np.isin(requests.opcode, PATHS), count),
            add_by_group(place, requests.is_(Opcode.OPEN), count),
            add_by_group(place, requests.reads, count),
            add_by_group(place, requests.read_bytes, count),
            add_by_group(of_get, np.ones(len(of_get), dtype=np.int64), count),
            add_by_group(of_get, gets.body_bytes, count),
            add_by_group(place, blocked_ns(study), count),
        ]
    )


REQUESTS, LOOKUPS, OPENS, READS, READ_BYTES, FETCHES, FETCHED_BYTES, BLOCKED_NS, FILES = range(9)


def _upwards(folder: str, roots: set[str]) -> Iterator[str]:
    """Return a folder and those above it, up to the root of its mount."""
    passed = [folder]
    while passed[-1] not in roots and passed[-1] not in ("", "/"):
        passed.append(posixpath.dirname(passed[-1]))
    yield from passed if passed[-1] in roots else [folder]


def _rows(study: Study, names: tuple[str, ...], direct: Ints) -> tuple[Folder, ...]:
    """Add up what lies below each folder, and return the rows."""
    roots = {mount.path for mount in study.recording.mounts}
    total: dict[str, Ints] = {}
    by_name = dict(zip(names, direct, strict=True))
    for name, sums in by_name.items():
        for folder in _upwards(name, roots):
            total[folder] = total.get(folder, np.zeros_like(sums)) + sums
    nothing = np.zeros(direct.shape[1], dtype=np.int64)
    rows = [_row(name, by_name.get(name, nothing).tolist(), sums.tolist()) for name, sums in total.items()]
    return tuple(sorted(rows, key=lambda row: (-row.total_blocked_s, -row.total_requests, row.path)))


def _row(name: str, direct: list[int], total: list[int]) -> Folder:
    return Folder(
        path=name,
        requests=direct[REQUESTS],
        lookups=direct[LOOKUPS],
        opens=direct[OPENS],
        reads=direct[READS],
        read_bytes=direct[READ_BYTES],
        http_fetches=direct[FETCHES],
        http_bytes=direct[FETCHED_BYTES],
        blocked_s=direct[BLOCKED_NS] / 1e9,
        files=direct[FILES],
        total_requests=total[REQUESTS],
        total_http_fetches=total[FETCHES],
        total_http_bytes=total[FETCHED_BYTES],
        total_blocked_s=total[BLOCKED_NS] / 1e9,
    )
