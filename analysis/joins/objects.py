"""What requests did with the client's cache: which objects they found, missed, waited for and read."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind

HASH: Final = re.compile(rb"(?:^|/)([0-9a-f]{2})/([0-9a-f]{38,}(?:-[a-z0-9]+)?)[A-Z]?(?=[ ?]|$)")
"""`XX/<38 hex>` of a cache path or a URL: the object's hash, its algorithm if it is not SHA-1, a suffix letter."""

TRANSACTION: Final = re.compile(rb"(?:^|/)txn/")
LIBRARY: Final = re.compile(rb"(?:^|/)libcvmfs_fuse[^/]*\.so")
"""What a client loads all of its work from, again when it is reloaded (cvmfs_config reload)."""
MISSING: Final = -2
"""-ENOENT: the object is not in the cache."""
HASH_TEXT: Final = 160
"""Bytes of a cache path that are looked at."""


def object_names(texts: list[bytes]) -> list[str]:
    """Return the hash that each path or request line names, empty for none."""
    matches = (HASH.search(text) for text in texts)
    return [(each[1] + each[2]).decode() if each else "" for each in matches]


@dataclass(frozen=True)
class CacheOpens:
    """Opens by the daemon, sorted by (thread, start). `object` numbers `names`; -1 is another file."""

    rows: Rows
    names: tuple[str, ...]
    object: Ints
    transaction: Bools
    request: Ints
    library: Bools
    """Opens of the client's own library."""

    @property
    def is_miss(self) -> Bools:
        """Opens of objects that the cache does not have."""
        is_miss: Bools = (self.object >= 0) & (self.rows.ret == MISSING)
        return is_miss

    @property
    def is_hit(self) -> Bools:
        """Opens of objects that the cache has."""
        is_hit: Bools = (self.object >= 0) & (self.rows.ret >= 0)
        return is_hit


def cache_opens(recording: Recording, requests: Requests) -> CacheOpens:
    """Read the daemon's opens: which object, for which request."""
    rows = recording.of(Kind.CACHE_OPEN)
    lanes = recording.lanes(rows.tid)
    order = np.argsort(lanes.at(rows.tid, rows.start), kind="stable")
    rows = rows.where(order)
    index = recording.text_index(rows)
    column = np.append(recording.texts["text"], np.zeros(1, dtype="S1"))[index].astype(f"S{HASH_TEXT}")
    unique, inverse = np.unique(column, return_inverse=True)
    named = object_names(unique.tolist())
    names = tuple(sorted({name for name in named if name}))
    number = {name: place for place, name in enumerate(names)}
    of_unique = np.array([number.get(name, -1) for name in named], dtype=np.int64)
    in_transaction = np.array([bool(TRANSACTION.search(text)) for text in unique.tolist()], dtype=bool)
    return CacheOpens(
        rows=rows,
        names=names,
        object=of_unique[inverse.ravel()],
        transaction=in_transaction[inverse.ravel()],
        request=requests.of_worker(rows.tid, rows.start),
        library=np.array([bool(LIBRARY.search(text)) for text in unique.tolist()], dtype=bool)[inverse.ravel()],
    )
