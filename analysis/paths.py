"""Which file a request is about, and which of the target's calls touch a CVMFS file."""

import posixpath
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.intervals import Bools, Ints, latest_within, pick
from cvtrace.analysis.recording import Recording, Rows
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Kind, Opcode

AT_FDCWD: Final = (-100, 0xFFFFFF9C)
"""As a sign-extended and as a plain 32-bit argument."""

ROOT: Final = 1
"""FUSE_ROOT_ID."""


@dataclass(frozen=True)
class Calls:
    """System calls of the target, sorted by (thread, start), and whether each is about a file on a mount."""

    rows: Rows
    on_mount: Bools
    mount: Ints
    """Index of the mount whose path an open names, -1 for other calls and other files."""
    places: Ints
    """Position of each call in `lanes` of target threads."""


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
    rows = recording.of(Kind.SYS_OPEN, Kind.SYS_READ, Kind.SYS_MMAP, Kind.SYS_CLOSE, Kind.SYS_WAIT, Kind.SYS_CHDIR)
    lanes = recording.lanes(rows.tid)
    places = lanes.at(rows.tid, rows.start)
    order = np.argsort(places, kind="stable")
    rows, places = rows.where(order), places[order]
    opens = np.flatnonzero(rows.kind == Kind.SYS_OPEN)
    given = recording.text(rows.where(opens))
    resolved = _resolve(recording, rows.where(opens), given)
    asked = np.flatnonzero(requests.is_(Opcode.OPEN) & requests.by_target)
    enclosing = _enclosing(lanes.at(requests.asker[asked], requests.sent[asked]), places, rows, lanes.span_ns)
    inside = pick(rows.kind, enclosing, -1) == Kind.SYS_OPEN
    asked, enclosing = asked[inside], enclosing[inside]
    mount = np.full(len(rows), -1, dtype=np.int64)
    mount[opens] = _mount_of(recording, resolved)
    on_mount = mount >= 0
    on_mount[enclosing] = True
    on_mount |= _reads_of(recording, rows, on_mount)
    names = _looked_up(recording, requests)
    path_of_call = dict(zip(opens.tolist(), resolved, strict=True))
    for request, call in zip(asked.tolist(), enclosing.tolist(), strict=True):
        node = int(requests.connection[request]), int(requests.nodeid[request])
        if path_of_call.get(call):
            names[node] = path_of_call[call]
    return Calls(rows, on_mount, mount, places), Paths(names)


def _mount_of(recording: Recording, paths: list[str]) -> Ints:
    """Return the index of the mount below which each path lies, -1 if below none."""
    found = np.full(len(paths), -1, dtype=np.int64)
    for number, mount in enumerate(recording.mounts):
        if mount.path:
            prefix = mount.path + "/"
            found[[place for place, path in enumerate(paths) if path.startswith(prefix)]] = number
    return found


def enclosing_call(recording: Recording, calls: Calls, tid: Ints, from_ns: Ints, to_ns: Ints) -> Ints:
    """Return the index of the call in which a thread was over an interval, -1 if in none."""
    lanes = recording.lanes(calls.rows.tid)
    found = _enclosing(lanes.at(tid, from_ns), calls.places, calls.rows, lanes.span_ns)
    return np.where(pick(calls.rows.end, found, -1) >= to_ns, found, -1)


def _enclosing(positions: Ints, places: Ints, rows: Rows, span_ns: int) -> Ints:
    found = latest_within(places, positions, span_ns)
    length = pick(rows.end, found, 0) - pick(rows.start, found, 0)
    return np.where((found >= 0) & (positions - pick(places, found, 0) <= length), found, -1)


def _reads_of(recording: Recording, rows: Rows, on_mount: Bools) -> Bools:
    """Tell for every read whether its descriptor was last opened on a mount (open and close end what was before)."""
    opened = (rows.kind == Kind.SYS_OPEN) & (rows.ret >= 0)
    changes = np.flatnonzero(opened | (rows.kind == Kind.SYS_CLOSE))
    reads = np.flatnonzero((rows.kind == Kind.SYS_READ) | (rows.kind == Kind.SYS_MMAP))
    descriptor = np.where(opened, rows.ret, rows.a) & 0xFFFFFFFF
    process = np.searchsorted(recording.target_tgids, rows.tgid).astype(np.int64)
    key = process << 32 | descriptor
    lanes = recording.lanes(key[changes])
    # A descriptor is the new file's from the return of open, and nobody's from the start of close.
    places = lanes.at(key[changes], np.where(opened, rows.end, rows.start)[changes])
    order = np.argsort(places, kind="stable")
    wanted = lanes.at(key[reads], rows.start[reads])
    last = pick(changes[order], latest_within(places[order], wanted, lanes.span_ns), -1)
    result = np.zeros(len(rows), dtype=bool)
    result[reads] = (last >= 0) & on_mount[np.maximum(last, 0)] if len(rows) else False
    return result


def _resolve(recording: Recording, opens: Rows, given: list[str]) -> list[str]:
    """Make paths absolute: a relative one stands on the thread's directory or on the descriptor given."""
    moves = recording.of(Kind.SYS_CHDIR)
    moved_to = recording.text(moves)
    home = str((recording.meta.get("target") or {}).get("cwd") or "")
    resolved: list[str] = []
    by_descriptor: dict[tuple[int, int], str] | None = None
    for number, path in enumerate(given):
        if not path or path.startswith("/"):
            resolved.append(posixpath.normpath(path) if path else "")
            continue
        directory = int(opens.a[number])
        if directory in AT_FDCWD:
            base = _directory(moves, moved_to, int(opens.tgid[number]), int(opens.start[number]), home)
        else:
            by_descriptor = by_descriptor or _descriptors(opens, given)
            base = by_descriptor.get((int(opens.tgid[number]), directory), home)
        resolved.append(posixpath.normpath(posixpath.join(base, path)))
    return resolved


def _directory(moves: Rows, moved_to: list[str], tgid: int, when_ns: int, home: str) -> str:
    where = home
    for number in np.flatnonzero((moves.tgid == tgid) & (moves.start <= when_ns) & (moves.ret >= 0)).tolist():
        where = posixpath.join(where, moved_to[number])
    return where


def _descriptors(opens: Rows, given: list[str]) -> dict[tuple[int, int], str]:
    rows = zip(opens.tgid.tolist(), opens.ret.tolist(), given, strict=True)
    return {(tgid, fd): path for tgid, fd, path in rows if fd >= 0 and path.startswith("/")}


def _looked_up(recording: Recording, requests: Requests) -> dict[tuple[int, int], str]:
    """Follow the LOOKUPs of the recording from the root of each mount: parent and name give the child's path."""
    asked = np.flatnonzero(requests.is_(Opcode.LOOKUP) & (requests.node_of_reply > 0) & (requests.row >= 0))
    names = {(mount.connection, ROOT): mount.path for mount in recording.mounts}
    texts = recording.text(recording.all.where(requests.row[asked]))
    links = zip(
        requests.connection[asked].tolist(),
        requests.nodeid[asked].tolist(),
        requests.node_of_reply[asked].tolist(),
        texts,
        strict=True,
    )
    for connection, parent, child, name in links:
        above = names.get((connection, parent))
        if above is not None and name:
            names[connection, child] = f"{above}/{name}"
    return names
