"""Why a request was needed: the first touch of a page, a page or an object that had been there and was evicted, an open."""

from typing import Final

import numpy as np

from cvtrace.analysis.cache_use import CacheUse
from cvtrace.analysis.intervals import Bools, Ints, match, pick, ranges
from cvtrace.analysis.objects import CacheOpens
from cvtrace.analysis.recording import Recording
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Kind, Opcode

CAUSES: Final = ("first_touch", "evicted_page", "evicted_object", "new_file", "metadata")
FIRST_TOUCH, EVICTED_PAGE, EVICTED_OBJECT, NEW_FILE, METADATA = range(len(CAUSES))
PAGE: Final = 4096


def causes(recording: Recording, requests: Requests, opens: CacheOpens, use: CacheUse, chosen: Ints) -> dict[str, int]:
    """Count the causes of the chosen requests (indices), one cause each.

    evicted_object: the client missed an object it had found or fetched before in this recording. evicted_page: a READ
    of a page that was read, or seen in the page cache, before. first_touch: any other READ. new_file: OPEN.
    metadata: everything else.
    """
    read = requests.is_(Opcode.READ)[chosen]
    cause = np.where(read, FIRST_TOUCH, np.where(requests.is_(Opcode.OPEN)[chosen], NEW_FILE, METADATA))
    cause[read & _page_seen_before(recording, requests, chosen)] = EVICTED_PAGE
    cause[_object_seen_before(requests, opens, use, chosen)] = EVICTED_OBJECT
    count = np.bincount(cause, minlength=len(CAUSES))
    return {name: int(count[number]) for number, name in enumerate(CAUSES) if count[number]}


def _object_seen_before(requests: Requests, opens: CacheOpens, use: CacheUse, chosen: Ints) -> Bools:
    """Tell which requests missed an object that an earlier request had touched."""
    touched = opens.object >= 0
    objects, when = opens.object[touched], opens.rows.start[touched]
    first = np.full(len(opens.names) + 1, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, objects, when)
    missing = (use.misses[chosen] + use.shared[chosen]) > 0
    seen: Bools = missing & (first[use.object[chosen]] < requests.received[chosen])
    return seen


def _page_seen_before(recording: Recording, requests: Requests, chosen: Ints) -> Bools:
    """Tell which READs asked for a page of a file that was brought or seen before.

    A READ only asks for pages that are not cached: one that was there has been evicted.
    """
    reads = np.flatnonzero(requests.is_(Opcode.READ) & (requests.offset >= 0) & (requests.size > 0))
    file = requests.connection << 40 ^ requests.nodeid
    files = np.unique(file[chosen])
    reads = reads[np.isin(file[reads], files)]
    granule = _granule(requests.offset[reads], requests.size[reads])
    which, block = ranges(
        requests.offset[reads] // granule, -(-(requests.offset[reads] + requests.size[reads]) // granule)
    )
    pages = recording.of(Kind.PAGE_READ, Kind.PAGE_MAP)
    connections = _connection_of_device(recording, pages.a)
    of_page = connections << 40 ^ pages.b
    known = np.isin(of_page, files)
    pages, of_page = pages.where(known), of_page[known]
    # Both tracepoints tell the range that was asked for, and that some of it was there: of a read() its first page, of a
    # fault-around any page. The latter is proof only where the whole range lies in one block.
    number = pages.c & ((1 << 48) - 1)
    first = number * PAGE // granule
    last = ((number + np.maximum(pages.c >> 48, 1)) * PAGE - 1) // granule
    proof = (pages.kind == Kind.PAGE_READ) | (first == last)
    page, of_block = np.flatnonzero(proof), first[proof]
    when = np.concatenate([requests.sent[reads][which], pages.start[page]])
    key_file = np.searchsorted(files, np.concatenate([file[reads][which], of_page[page]])).astype(np.int64)
    key = key_file << 44 ^ np.concatenate([block, of_block])
    order = np.lexsort((when, key))
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (key[order][1:] == key[order][:-1]) & (when[order][1:] > when[order][:-1])
    owner = np.concatenate([reads[which], np.full(len(page), -1, dtype=np.int64)])[order]
    repeated = owner[again & (owner >= 0)]
    return np.isin(chosen, repeated)


def _granule(offset: Ints, size: Ints) -> int:
    """Return the largest block that all reads consist of, so that as few as possible are looked at."""
    if not len(offset):
        return PAGE
    common = int(np.gcd.reduce(np.concatenate([offset, -(-size // PAGE) * PAGE])))
    return max(common, 1)


def _connection_of_device(recording: Recording, device: Ints) -> Ints:
    """Return the connection of each st_dev, as meta.json pairs them; a device may also be given as the bare minor."""
    links = [mount.connection for mount in recording.mounts]
    devices = np.array([mount.device for mount in recording.mounts] + links, dtype=np.int64)
    return pick(np.array(links + links, dtype=np.int64), match(devices, device), device)
