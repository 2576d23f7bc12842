"""Objects that a request found open: clients since 2.13 count the users of a descriptor, and make no open(2) for a second one.

An OPEN of a file that is not chunked then answers with the descriptor of the object as its handle. A READ of a chunked file goes on with another
object than the READ before it through the same handle, and opens none.
"""

import numpy as np

from cvtrace.analysis.joins.objects import CacheOpens
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct, pick
from cvtrace.analysis.trace.keys import descriptor_key, pair_key
from cvtrace.analysis.trace.recording import EventIndex, Recording
from cvtrace.probes.cvmfs.releases import may_count_references
from cvtrace.probes.events import Opcode


def reopened(
    recording: Recording,
    requests: Requests,
    opens: CacheOpens,
    object_of_open: Ints,
    reads: tuple[Ints, Ints],
    known: Ints,
) -> Ints:
    """Return the pairs (request, object; as in CacheUse, request * width + object) that no event of the cache shows; `known` are those that one does.

    `object_of_open` is the object that each open is of, also one of a transaction; `reads` are request and object of each read of a cache file, in order of time.
    """
    daemons = [mount.daemon_pid for mount in recording.mounts if may_count_references(mount.version)]
    counts = np.isin(requests.daemon, daemons)
    if not counts.any():
        return np.empty(0, dtype=np.int64)
    width = len(opens.names) + 1
    files = _files(recording, requests, opens, object_of_open, counts)
    pairs = [files, _chunks(requests, counts, *reads, width)]
    return np.setdiff1d(distinct(np.concatenate(pairs)), known)


def _files(recording: Recording, requests: Requests, opens: CacheOpens, object_of_open: Ints, counts: Bools) -> Ints:
    """Return the OPENs that answered with a descriptor, each with the object that this descriptor is of."""
    which = np.flatnonzero(counts & requests.is_(Opcode.OPEN) & requests.answered & (requests.error == 0))
    which = which[requests.handle[which] > 0]
    opened = np.flatnonzero(opens.rows.ret >= 0)
    rows = opens.rows.where(opened)
    by_descriptor = EventIndex(recording, rows, descriptor_key(rows.tgid, rows.ret))
    key = descriptor_key(requests.daemon[which], requests.handle[which])
    last = by_descriptor.asof_backward(key, requests.replying[which])
    an_object = pick(object_of_open, pick(opened[by_descriptor.order], last, -1), -1)
    return (which * (len(opens.names) + 1) + an_object)[an_object >= 0]


def _chunks(requests: Requests, counts: Bools, read_request: Ints, read_object: Ints, width: int) -> Ints:
    """Return the READs of chunked files that read another object than the READ before through the same handle."""
    handle = pick(requests.handle, read_request, 0)
    rows = np.flatnonzero((handle < 0) & (read_object >= 0) & (pick(counts.astype(np.int64), read_request, 0) == 1))
    request, an_object = read_request[rows], read_object[rows]
    key = pair_key(requests.daemon[request], requests.handle[request])
    is_open = counts & requests.is_(Opcode.OPEN)  # a handle of before the recording may have had the object open
    seen = np.isin(key, pair_key(requests.daemon[is_open], requests.handle[is_open]))
    order = np.argsort(key, kind="stable")
    before = np.append(True, (key[order][1:] != key[order][:-1]) | (an_object[order][1:] != an_object[order][:-1]))
    switches = np.zeros(len(rows), dtype=bool)
    switches[order] = before[: len(rows)]
    chosen = switches & seen
    return request[chosen] * width + an_object[chosen]
