"""Objects of the client's cache one by one: what the target asked for, read and fetched of each, and how often it was gone.

A chunk's place in its file follows from a READ that the client answers from it: the file's offset of the READ, less the offset in
the cache file that the worker read from, is where the chunk begins. Its size is what the client told its quota manager when it
put the object into its cache; of objects that lay there before, it is not known.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.path import add_by_request
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.joins.bytes_used import file_of, used_in_windows
from cvtrace.analysis.joins.cache_use import FETCHED, HIT, SHARED, cached_since
from cvtrace.analysis.joins.requests import DIRECT_IO
from cvtrace.analysis.storage.file_map import LARGEST_FILE, Axis, FileMap, union
from cvtrace.analysis.storage.reloads import suffix
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, empty, match, pick
from cvtrace.probes.events import Opcode

KINDS: Final = ("file", "chunk", "catalog", "certificate", "history", "metainfo", "")
FILE, CHUNK, CATALOG, CERTIFICATE, HISTORY, METAINFO, UNKNOWN = range(len(KINDS))
SUFFIXES: Final = {"": FILE, "P": CHUNK, "C": CATALOG, "X": CERTIFICATE, "H": HISTORY, "M": METAINFO}
WHOLE: Final = re.compile(r"/data/[0-9a-f]{2}/[0-9a-f]+")
HUGE: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Chunks:
    """Objects that the target used, one entry each, sorted by file and place; bytes and times by the target only.

    `object` numbers CacheOpens.names, `kind` KINDS. `file` is the file that was read or opened for it (keys.file_key, -1:
    none), `offset` where in it the object begins (-1: not known, or at several places), `size` its bytes unpacked (-1: not known);
    `reach` is how much of it was seen to be there. `requested` are bytes of pages that the target read or had mapped in, each once,
    `read` those that READs brought, `fetched` those of GETs (packed). `hits`, `shared` and `misses` count requests that found it,
    waited for another's download, or fetched it, `evictions` the misses after it had been in the cache. `blocked_ns` is the target's.
    """

    object: Ints
    kind: Ints
    file: Ints
    connection: Ints
    nodeid: Ints
    offset: Ints
    size: Ints
    reach: Ints
    requested: Ints
    read: Ints
    fetched: Ints
    fetches: Ints
    hits: Ints
    shared: Ints
    misses: Ints
    evictions: Ints
    blocked_ns: Ints

    def __len__(self) -> int:
        return len(self.object)

    @property
    def end(self) -> Ints:
        """Where in the file each object ends, as far as is known."""
        length = np.where(self.size >= 0, self.size, self.reach)
        return np.where(self.offset >= 0, self.offset + length, -1)


def object_of_request(study: Study) -> Ints:
    """Return the object that each request was for: the one it missed, else opened, read or fetched first; -1 for none."""
    use = study.use
    fetched = _first_of(study, study.gets.request, study.get_object)
    read = _first_of(study, use.read_request, use.read_object)
    return np.where(use.object >= 0, use.object, np.where(read >= 0, read, fetched))


def _first_of(study: Study, request: Ints, an_object: Ints) -> Ints:
    """Return the first object that is paired with each request, -1 for none."""
    first = np.full(len(study.requests), -1, dtype=np.int64)
    backwards = np.flatnonzero((request >= 0) & (an_object >= 0))[::-1]
    first[request[backwards]] = an_object[backwards]
    return first


def blocked_ns(study: Study, rows: tuple[int, ...] = ()) -> Ints:
    """Return how long the target was blocked for each request, in these rows of phases or in all."""
    chosen = np.isin(study.segments.row, rows) if rows else np.ones(len(study.segments), dtype=bool)
    return add_by_request(study.critical_path, len(study.requests), BLOCKED_ON_CVMFS, chosen)


def chunks(study: Study) -> Chunks:
    """Build the table of objects."""
    use, gets, requests, count = study.use, study.gets, study.requests, len(study.opens.names)
    by_target = np.append(requests.by_target, False)
    of_target = by_target[use.use_request]
    since = cached_since(study.opens, study.jobs)
    again = (use.use == FETCHED) & (since[use.use_object] < pick(requests.received, use.use_request, -1))
    of_get = np.where(study.gets_of_target, study.get_object, -1)
    reading = np.append(requests.by_target & requests.is_(Opcode.READ), False)[use.read_request]
    request_object = object_of_request(study)
    of_request = np.where(requests.by_target, request_object, -1)

    def uses(chosen: Bools) -> Ints:
        return add_by_group(
            np.where(chosen & of_target, use.use_object, -1), np.ones(len(of_target), dtype=np.int64), count
        )

    file, offset, reach, from_read = _places(study, reading, of_request, count)
    columns = {
        "object": np.arange(count, dtype=np.int64),
        "kind": _kinds(study, offset, from_read, count),
        "file": pick(file_of(requests), file, -1),
        "connection": pick(requests.connection, file, -1),
        "nodeid": pick(requests.nodeid, file, -1),
        "offset": offset,
        "size": _sizes(study, count),
        "reach": reach,
        "requested": np.zeros(count, dtype=np.int64),
        "read": add_by_group(np.where(reading, use.read_object, -1), use.read_bytes, count)
        + add_by_group(_streamed(study, of_request), requests.read_bytes, count),
        "fetched": add_by_group(of_get, gets.body_bytes, count),
        "fetches": add_by_group(of_get, np.ones(len(gets), dtype=np.int64), count),
        "hits": uses(use.use == HIT),
        "shared": uses(use.use == SHARED),
        "misses": uses(use.use == FETCHED),
        "evictions": uses(again),
        "blocked_ns": add_by_group(of_request, blocked_ns(study), count),
    }
    used = sum(columns[name] for name in ("read", "fetches", "hits", "shared", "misses")) > 0
    order = np.flatnonzero(used)
    order = order[np.lexsort((columns["object"][order], columns["offset"][order], columns["file"][order]))]
    table = Chunks(**{name: column[order] for name, column in columns.items()})
    return Chunks(**{**vars(table), "requested": requested_bytes_of_chunks(study, table)})


def _places(study: Study, reading: Bools, of_request: Ints, count: int) -> tuple[Ints, Ints, Ints, Bools]:
    """Return, per object, a request for the file it is of (-1), its place there (-1), its reach, and whether READs read it."""
    use, requests = study.use, study.requests
    rows = np.flatnonzero(reading & (use.read_object >= 0))
    rows = rows[np.lexsort((use.read_at[rows], use.read_request[rows]))]
    request, an_object, length = use.read_request[rows], use.read_object[rows], use.read_bytes[rows]
    before = np.cumsum(length) - length
    first = np.append(True, request[1:] != request[:-1])[: len(rows)]
    before -= np.maximum.accumulate(np.where(first, before, 0))
    start = requests.offset[request] + before - use.read_offset[rows]
    plausible = (requests.offset[request] >= 0) & (start >= 0) & (start < LARGEST_FILE)
    low = np.full(count, HUGE, dtype=np.int64)
    high = np.full(count, -1, dtype=np.int64)
    np.minimum.at(low, an_object[plausible], start[plausible])
    np.maximum.at(high, an_object[plausible], start[plausible])
    reach = np.zeros(count, dtype=np.int64)
    np.maximum.at(reach, an_object, np.clip(use.read_offset[rows], 0, LARGEST_FILE) + length)
    file = np.full(count, -1, dtype=np.int64)
    turn = np.flatnonzero(of_request >= 0)[::-1]
    file[of_request[turn]] = turn
    file[an_object[::-1]] = request[::-1]
    read = np.zeros(count, dtype=bool)
    read[an_object] = True
    named = np.isin(pick(requests.opcode, file, -1), (Opcode.READ, Opcode.OPEN))
    return np.where(named, file, -1), np.where(low == high, low, -1), reach, read


def _streamed(study: Study, of_request: Ints) -> Ints:
    """Return the object of each READ that was answered from what it fetched, without any file of the cache; -1 for others."""
    streamed = np.full(len(of_request), -1, dtype=np.int64)
    fetching = study.gets.request[study.gets_of_target]
    streamed[fetching] = of_request[fetching]
    cached = study.use.read_request
    streamed[cached[cached >= 0]] = -1
    return np.where(study.requests.is_(Opcode.READ), streamed, -1)


def _kinds(study: Study, offset: Ints, read: Bools, count: int) -> Ints:
    """Return the kind of each object: as its URL says, else what was done with it."""
    gets = study.gets
    by_url = np.array(
        [SUFFIXES.get(suffix(line), UNKNOWN) if WHOLE.search(line) else UNKNOWN for line in gets.line] or [0]
    )
    kind = np.full(count, UNKNOWN, dtype=np.int64)
    in_read = np.zeros(count, dtype=bool)
    opened = study.opens.is_hit & (study.opens.request >= 0)
    in_read[study.opens.object[opened & np.append(study.requests.is_(Opcode.READ), False)[study.opens.request]]] = True
    kind[read] = FILE
    kind[in_read | (offset > 0)] = CHUNK
    named = (gets.object >= 0) & (by_url != UNKNOWN)
    kind[gets.object[named]] = by_url[named]
    return kind


def _sizes(study: Study, count: int) -> Ints:
    size = np.full(count, -1, dtype=np.int64)
    known = (study.jobs.object >= 0) & (study.jobs.inserted_bytes >= 0)
    np.maximum.at(size, study.jobs.object[known], np.minimum(study.jobs.inserted_bytes[known], LARGEST_FILE))
    return size


def used_bytes(study: Study) -> tuple[Ints, Ints, Ints]:
    """Return (file, start, end) of the pages that the target read or had mapped in, each once."""
    parts = [(empty(), empty(), empty())]
    for pages in used_in_windows(study.recording):
        parts.append(union(Axis.of(pages.file, pages.end), pages.file, pages.start, pages.end))
    file, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    return union(Axis.of(file, end), file, start, end)


def requested_bytes_of_chunks(study: Study, table: Chunks) -> Ints:
    """Return the bytes of pages of each object that the target read or had mapped in, each once."""
    known = np.flatnonzero(table.offset >= 0)
    axis = Axis.of(table.file[known], table.end[known])
    placed = FileMap.of(axis, table.file[known], table.offset[known], table.end[known], known)
    pieces = placed.split(*union(axis, *used_bytes(study)))
    return add_by_group(pieces.value, pieces.end - pieces.start, len(table))


def requested_bytes_of_files(study: Study, file: Ints) -> Ints:
    """Return the bytes of pages of each file (keys.file_key, distinct) that the target read or had mapped in, each once.

    What goes past the page cache is asked for by the READs themselves. The end of a file is known from a READ that brought less than it asked for.
    """
    requests = study.requests
    used_file, used_start, used_end = used_bytes(study)
    place = match(file, file_of(requests))
    short = (
        requests.reads
        & requests.answered
        & (requests.read_bytes < requests.size)
        & (requests.error == 0)
        & (place >= 0)
    )
    size = np.full(len(file) + 1, HUGE, dtype=np.int64)
    np.minimum.at(size, place[short], (requests.offset + requests.read_bytes)[short])
    end = np.minimum(used_end, size[match(file, used_file)])
    read, begin, stop = _direct(study)
    of_page, first = np.concatenate([used_file, read]), np.concatenate([used_start, begin])
    end = np.concatenate([end, stop])
    axis = Axis.of(file, end)
    of, start, stop = union(axis, of_page, first, end)
    return add_by_group(match(file, of), stop - start, len(file))


def _direct(study: Study) -> tuple[Ints, Ints, Ints]:
    """Return what the target read that bypassed the page cache (O_DIRECT, or a mount that says so): file, begin and end of each READ."""
    requests = study.requests
    past = np.unique(file_of(requests)[requests.is_(Opcode.OPEN) & ((requests.open_flags & DIRECT_IO) != 0)])
    direct = requests.direct | (requests.is_(Opcode.READ) & np.isin(file_of(requests), past))
    chosen = requests.by_target & direct & (requests.read_bytes > 0)
    begin = requests.offset[chosen]
    return file_of(requests)[chosen], begin, begin + requests.read_bytes[chosen]
