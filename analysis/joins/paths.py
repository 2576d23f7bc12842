"""Which file a request is about, and which of the target's calls touch a CVMFS file."""

import posixpath
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, latest_within, pick
from cvtrace.analysis.trace.keys import descriptor_key
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind, Opcode

AT_FDCWD: Final = (-100, 0xFFFFFF9C)
"""As a sign-extended and as a plain 32-bit argument."""

CALLS: Final = (
    Kind.SYS_OPEN,
    Kind.SYS_READ,
    Kind.SYS_MMAP,
    Kind.SYS_CLOSE,
    Kind.SYS_WAIT,
    Kind.SYS_CHDIR,
    Kind.SYS_DUP,
    Kind.SYS_STAT,
    Kind.SYS_LIST,
    Kind.SYS_LINK,
)
"""Every call of the target is one of these; SYS_MAPPED only adds to SYS_MMAP, and SYS_UNMAP touches no file."""

ROOT: Final = 1
"""FUSE_ROOT_ID."""


COPIES_OF_COPIES: Final = 6
"""Descriptors that were copied up to 2^6 times one from the other keep their file."""
GENERATIONS: Final = 64


@dataclass(frozen=True)
class Calls:
    """System calls of the target, sorted by (thread, start), and whether each is about a file on a mount."""

    rows: Rows
    on_mount: Bools
    mount: Ints
    """Index of the mount whose path an open names, -1 for other calls and other files."""
    places: Ints
    """Position of each call in `lanes` of target threads."""
    origin: Ints
    """Index of the open that each read or mapping uses the descriptor of, -1 for other calls and where it was not seen."""
    opened: dict[int, str]
    """Index of an open -> path, absolute."""


@dataclass(frozen=True)
class Paths:
    """Paths of files on the mounts."""

    names: dict[tuple[int, int], str]
    """(connection, nodeid) -> path."""

    def of(self, connection: Ints, nodeid: Ints) -> list[str]:
        """Return the path of each node, `inode N` (of its mount) where it was never seen by name."""
        return [
            self.names.get((link, node)) or f"inode {node}"
            for link, node in zip(connection.tolist(), nodeid.tolist(), strict=True)
        ]


def target_calls(recording: Recording, requests: Requests) -> tuple[Calls, Paths]:
    """Find the target's calls on CVMFS files, and the paths of the nodes they opened."""
    rows = recording.of(*CALLS)
    lanes = recording.lanes(rows.tid)
    places = lanes.at(rows.tid, rows.start)
    order = np.argsort(places, kind="stable")
    rows, places = rows.where(order), places[order]
    opens = np.flatnonzero(rows.kind == Kind.SYS_OPEN)
    raw_paths = recording.text(rows.where(opens))
    resolved = _resolve(recording, rows.where(opens), raw_paths)
    open_requests = np.flatnonzero(requests.is_(Opcode.OPEN) & requests.by_target)
    # All of a request lies within the call; its middle does so even where two straces differ by 30 µs about when that began.
    sent, replying = requests.sent[open_requests], requests.replying[open_requests]
    middle = np.where(replying > sent, (sent + replying) // 2, sent)
    enclosing = _enclosing(lanes.at(requests.asker[open_requests], middle), places, rows, lanes.span_ns)
    inside = pick(rows.kind, enclosing, -1) == Kind.SYS_OPEN
    open_requests, enclosing = open_requests[inside], enclosing[inside]
    mount = np.full(len(rows), -1, dtype=np.int64)
    mount[opens] = _mount_of(recording, resolved)
    on_mount = mount >= 0
    on_mount[enclosing] = True
    on_mount |= (rows.kind == Kind.SYS_STAT) & (rows.ret == 0)
    origin = _origin_of(recording, rows)
    on_mount |= (origin >= 0) & on_mount[origin]
    names = _looked_up(recording, requests)
    path_of_call = dict(zip(opens.tolist(), resolved, strict=True))
    for request, call in zip(open_requests.tolist(), enclosing.tolist(), strict=True):
        node = int(requests.connection[request]), int(requests.nodeid[request])
        if path_of_call.get(call):
            names[node] = path_of_call[call]
    return Calls(rows, on_mount, mount, places, origin, path_of_call), Paths(names)


def _mount_of(recording: Recording, paths: list[str]) -> Ints:
    """Return the index of the mount below which each path lies, -1 if below none."""
    index = np.full(len(paths), -1, dtype=np.int64)
    for number, mount in enumerate(recording.mounts):
        if mount.path:
            prefix = mount.path + "/"
            index[[place for place, path in enumerate(paths) if path.startswith(prefix)]] = number
    return index


def enclosing_call(recording: Recording, calls: Calls, tid: Ints, from_ns: Ints, to_ns: Ints) -> Ints:
    """Return the index of the call in which a thread was over an interval, -1 if in none."""
    lanes = recording.lanes(calls.rows.tid)
    call = _enclosing(lanes.at(tid, from_ns), calls.places, calls.rows, lanes.span_ns)
    return np.where(pick(calls.rows.end, call, -1) >= to_ns, call, -1)


def _enclosing(positions: Ints, places: Ints, rows: Rows, span_ns: int) -> Ints:
    call = latest_within(places, positions, span_ns)
    length = pick(rows.end, call, 0) - pick(rows.start, call, 0)
    return np.where((call >= 0) & (positions - pick(places, call, 0) <= length), call, -1)


def _origin_of(recording: Recording, rows: Rows) -> Ints:
    """Return for every read, mapping and listing the open that its descriptor is of (open and close end what was before), else -1."""
    opened = ((rows.kind == Kind.SYS_OPEN) | (rows.kind == Kind.SYS_DUP)) & (rows.ret >= 0)
    changes = np.flatnonzero(opened | (rows.kind == Kind.SYS_CLOSE))
    copies = np.flatnonzero(rows.kind == Kind.SYS_DUP)
    uses = np.isin(rows.kind, (Kind.SYS_READ, Kind.SYS_MMAP, Kind.SYS_LIST))
    reads = np.flatnonzero(uses)
    process = np.searchsorted(recording.target_tgids, rows.tgid).astype(np.int64)
    changed = descriptor_key(process, np.where(opened, rows.ret, rows.a))
    used = descriptor_key(process, rows.a)
    lanes = recording.lanes(changed[changes])
    # A descriptor is the new file's from the return of open, and nobody's from the start of close.
    places = lanes.at(changed[changes], np.where(opened, rows.end, rows.start)[changes])
    order = np.argsort(places, kind="stable")

    def last_change(calls: Ints) -> Ints:
        query = lanes.at(used[calls], rows.start[calls])
        return pick(changes[order], latest_within(places[order], query, lanes.span_ns), -1)

    origin = np.arange(len(rows), dtype=np.int64)
    origin[copies] = last_change(copies)
    result = np.full(len(rows), -1, dtype=np.int64)
    if not len(rows):
        return result
    for _ in range(COPIES_OF_COPIES):  # each turn doubles how far back a copy is followed
        origin = np.where(origin >= 0, origin[origin], -1)
    last = pick(origin, last_change(reads), -1)
    result[reads] = np.where(pick(rows.kind, last, -1) == Kind.SYS_OPEN, last, -1)
    return result


def _resolve(recording: Recording, opens: Rows, raw_paths: list[str]) -> list[str]:
    """Make paths absolute: a relative one stands on the process's directory or on the descriptor given."""
    moves = recording.of(Kind.SYS_CHDIR)
    moved_to = recording.text(moves)
    copies = recording.of(Kind.SYS_DUP, Kind.PROC_FORK)
    folders = _Folders(str((recording.meta.get("target") or {}).get("cwd") or ""))
    resolved = [""] * len(opens)
    steps = [(int(end), 0, number) for number, end in enumerate(opens.end)]
    steps += [(int(end), 1, number) for number, end in enumerate(moves.end)]
    steps += [(int(end), 2, number) for number, end in enumerate(copies.end)]
    for _, source, number in sorted(steps):
        rows = (opens, moves, copies)[source]
        tgid, a, ret = int(rows.tgid[number]), int(rows.a[number]), int(rows.ret[number])
        if source == 0:
            resolved[number] = path = folders.absolute(tgid, a, raw_paths[number])
            folders.opened[tgid, ret] = path
        elif source == 1 and ret >= 0:
            folders.home[tgid] = folders.absolute(tgid, AT_FDCWD[0], moved_to[number]) or folders.of(tgid, a)
        elif rows.kind[number] == Kind.PROC_FORK:
            folders.parent[a] = tgid
        elif source == 2:
            folders.opened[tgid, ret] = folders.of(tgid, a)
    return resolved


class _Folders:
    """Where the processes of the target are, and what their descriptors are, at a moment of a walk through time."""

    def __init__(self, home: str) -> None:
        self.first_home = home
        self.home: dict[int, str] = {}
        self.opened: dict[tuple[int, int], str] = {}
        self.parent: dict[int, int] = {}

    def of(self, tgid: int, directory: int) -> str:
        """Return the path of a descriptor, or of the current directory for AT_FDCWD; a child has what its parent had."""
        for _ in range(GENERATIONS):
            known = self.home.get(tgid) if directory in AT_FDCWD else self.opened.get((tgid, directory))
            if known is not None:
                return known
            if self.parent.get(tgid, tgid) == tgid:
                break
            tgid = self.parent[tgid]
        return self.first_home

    def absolute(self, tgid: int, directory: int, path: str) -> str:
        """Return `path`, which stands on `directory` if it is relative; empty for none."""
        if not path:
            return ""
        return posixpath.normpath(path if path.startswith("/") else posixpath.join(self.of(tgid, directory), path))


def _looked_up(recording: Recording, requests: Requests) -> dict[tuple[int, int], str]:
    """Follow the LOOKUPs of the recording from the root of each mount: parent and name give the child's path."""
    lookups = np.flatnonzero(requests.is_(Opcode.LOOKUP) & (requests.node_of_reply > 0) & (requests.row >= 0))
    names = {(mount.connection, ROOT): mount.path for mount in recording.mounts}
    texts = recording.text(recording.of(Kind.FUSE_DAEMON).where(requests.row[lookups]))
    links = zip(
        requests.connection[lookups].tolist(),
        requests.nodeid[lookups].tolist(),
        requests.node_of_reply[lookups].tolist(),
        texts,
        strict=True,
    )
    for connection, parent, child, name in links:
        above = names.get((connection, parent))
        if above is not None and name:
            names[connection, child] = f"{above}/{name}"
    return names
