"""When a client took over a new catalog, and what had to be asked again for it.

When a catalog's time to live is over, the client fetches `.cvmfspublished`. If that names a new root catalog, it drops what the kernel
cached of the mount, pages included, and loads the new one (cvmfs/fuse_remount.cc of cvmfs 2.12). A client that is being mounted does
the same before it answers its first request: that is no reload.
"""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, latest_within, match, pick
from cvtrace.probes.events import Kind, Opcode

MANIFEST: Final = "/.cvmfspublished"
CATALOG: Final = "C"
NAMED: Final = (int(Opcode.LOOKUP), int(Opcode.GETATTR), int(Opcode.READLINK), int(Opcode.STATX))
"""Requests whose answer the kernel keeps for a while."""
NAME_BYTES: Final = 256
DRAIN_NS: Final = 90_000_000_000
"""The client asks for the manifest twice: it drops what is cached at the first, and loads the catalog after the second, at most
CVMFS_KCACHE_TIMEOUT (60 s) and a request later. Catalogs live longer than that."""


def suffix(line: str) -> str:
    """Return the letter behind the hash in a request line that says what kind of object it is, empty for whole files."""
    path = line.split(" ", 2)[1].partition("?")[0] if line.count(" ") else ""
    return path[-1] if path and "/data/" in path and path[-1].isupper() else ""


def is_manifest(study: Study) -> Bools:
    """Tell which GETs are for a manifest."""
    return np.array([MANIFEST in line for line in study.gets.line], dtype=bool)


def is_catalog(study: Study) -> Bools:
    """Tell which GETs are for a catalog."""
    return np.array([suffix(line) == CATALOG for line in study.gets.line], dtype=bool)


def reloads(study: Study) -> tuple[Ints, Ints]:
    """Return (daemon, time) of each new catalog that was taken over: when its manifest was first asked for, sorted by time."""
    gets, requests = study.gets, study.requests
    manifest, catalog = np.flatnonzero(is_manifest(study)), is_catalog(study)
    served = requests.seen_by_daemon
    takeovers = []
    for get in manifest[np.argsort(gets.sent[manifest], kind="stable")].tolist():
        daemon, when = int(gets.daemon[get]), int(gets.sent[get])
        later = manifest[(gets.daemon[manifest] == daemon) & (gets.sent[manifest] > when)]
        until = int(gets.sent[later].min()) if len(later) else study.recording.end_ns + 1
        new = (gets.daemon == daemon) & catalog & (gets.sent > when) & (gets.sent < until)
        before = served & (requests.daemon == daemon) & (requests.replied < when)
        if new.any() and before.any():
            earlier = gets.sent[manifest[(gets.daemon[manifest] == daemon) & (gets.sent[manifest] < when)]]
            earlier = earlier[earlier >= max(when - DRAIN_NS, int(requests.replied[before].min()))]
            takeovers.append((daemon, int(earlier[-1]) if len(earlier) else when))
    daemons, times = (
        np.array(column, dtype=np.int64) for column in (zip(*takeovers, strict=True) if takeovers else ((), ()))
    )
    return daemons, times


def client_reloads(study: Study) -> tuple[Ints, Ints]:
    """Return (daemon, time) of each open of the client's library after it had answered something: it was reloaded, and began anew."""
    opens, requests = study.opens, study.requests
    chosen = np.flatnonzero(opens.library & (opens.rows.ret >= 0))
    daemon, when = opens.rows.tgid[chosen], opens.rows.start[chosen]
    daemons = np.unique(requests.daemon[requests.seen_by_daemon])
    first = np.full(len(daemons), np.iinfo(np.int64).max, dtype=np.int64)
    served = requests.seen_by_daemon & requests.answered
    np.minimum.at(first, match(daemons, requests.daemon[served]), requests.replied[served])
    later = when > pick(first, match(daemons, daemon), np.iinfo(np.int64).max)
    return daemon[later], when[later]


def reload_before(study: Study, connection: Ints, when_ns: Ints) -> Ints:
    """Return when the client of each connection last took over a new catalog before a time, -1 if it did not."""
    return last_before(study, reloads(study), connection, when_ns)


def last_before(study: Study, events: tuple[Ints, Ints], connection: Ints, when_ns: Ints) -> Ints:
    """Return the time of the last of `events` (daemon, time) of the client of each connection before a time, -1 if there is none."""
    daemon, times = events
    if not len(daemon):
        return np.full(len(connection), -1, dtype=np.int64)
    pids = np.array([mount.daemon_pid for mount in study.recording.mounts], dtype=np.int64)
    links = np.array([mount.connection for mount in study.recording.mounts], dtype=np.int64)
    lanes = Lanes.of(daemon, study.recording.start_ns, study.recording.end_ns)
    places = lanes.at(daemon, times)
    order = np.argsort(places, kind="stable")
    query = lanes.at(pick(pids, match(links, connection), -connection), when_ns)
    return pick(times[order], latest_within(places[order], query, lanes.span_ns), -1)


def fetches_catalog(study: Study) -> Bools:
    """Tell which requests fetched a catalog."""
    fetches = np.zeros(len(study.requests), dtype=bool)
    request = study.gets.request[is_catalog(study)]
    fetches[request[request >= 0]] = True
    return fetches


def repeated_after(study: Study, reloaded: Ints) -> Bools:
    """Tell which requests for a name or its attributes came first after a reload, and had been answered before it."""
    requests = study.requests
    repeated = np.zeros(len(requests), dtype=bool)
    if not (reloaded >= 0).any():
        return repeated
    named = np.flatnonzero(np.isin(requests.opcode, NAMED))
    key = np.array(
        [requests.connection[named], requests.opcode[named], requests.nodeid[named], _names(study, named)],
        dtype=np.int64,
    )
    order = np.lexsort((requests.sent[named], *key))
    same = (key[:, order[1:]] == key[:, order[:-1]]).all(axis=0)
    earlier, later = named[order[:-1]], named[order[1:]]
    repeated[later[same & (requests.sent[earlier] < reloaded[later])]] = True
    return repeated


def _names(study: Study, request: Ints) -> Ints:
    """Return one number for the name that each request is about, 0 for none."""
    row = study.requests.row[request]
    index = np.full(len(row), -1, dtype=np.int64)
    known = row >= 0
    index[known] = study.recording.text_index(study.recording.of(Kind.FUSE_DAEMON).where(row[known]))
    texts = np.append(study.recording.texts["text"], np.zeros(1, dtype="S1"))[index].astype(f"S{NAME_BYTES}")
    _, number = np.unique(texts, return_inverse=True)
    return number.ravel().astype(np.int64)
