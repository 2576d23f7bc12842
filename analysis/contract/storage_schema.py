"""Rows of the report on bytes: files, fetches, chunks, tensors and layers, and the operators that used them. Part of the contract: see report_schema."""

from dataclasses import dataclass

from cvtrace.analysis.contract.classes import FETCH_PARTS


@dataclass(frozen=True)
class File:
    """A file on a mount. `fetched_bytes` are those of its objects as sent, compressed; `amplification` is None if
    nothing was read or nothing fetched. `asked_bytes` are those of pages that the target read or had mapped in, each once,
    `used_bytes` those that it used at least: what read() returned, and a page for each fault that is not followed by the next one.
    `access` is sequential, random or mixed, None if nothing was read."""

    path: str
    opens: int
    reads: int
    read_bytes: int
    fetched_bytes: int
    amplification: float | None
    cache_hits: int
    cache_misses: int
    blocked_s: float
    asked_bytes: int | None
    access: str | None = None
    used_bytes: int | None = None


@dataclass(frozen=True)
class Fetch:
    """One GET. Its times (classes.FETCH_PARTS) add up to its life, from handed to the download thread to committed."""

    url: str
    path: str
    status: int
    start_s: float
    queue_s: float
    connect_s: float
    request_s: float
    transfer_s: float
    fill_s: float
    bytes: int
    proxy: str | None
    phase: str | None
    by_target: bool
    encrypted: bool
    """Over HTTPS: `url` is empty, `status` 0, `bytes` are those on the wire."""
    prefetch: bool = False
    """The client fetched it in the background, for a bundle; no request asked for it."""

    @property
    def life_s(self) -> float:
        """The time from handed over to committed."""
        return sum(float(getattr(self, part.column)) for part in FETCH_PARTS)


@dataclass(frozen=True)
class Chunk:
    """An object of the client's cache that the target used: a chunk of a file, a whole file, a catalog.

    `offset_bytes` is where in the file it begins, `size_bytes` its size unpacked: None if that is not known. `evictions`
    counts the misses after the cache had held it; `shared` are waits for another's download.
    """

    object: str
    kind: str
    path: str
    offset_bytes: int | None
    size_bytes: int | None
    asked_bytes: int | None
    read_bytes: int
    fetched_bytes: int
    fetches: int
    hits: int
    shared: int
    misses: int
    evictions: int
    blocked_s: float


@dataclass(frozen=True)
class Fetching:
    """Waiting for fetches, on the critical path: `sequential_s` of `waited_s` while no two were under way.

    Prefetching would save at most `sequential_s`; fetching all at once, when they are asked for, at most that less the longest.
    """

    waited_s: float
    sequential_s: float
    sequential_share: float | None
    longest_s: float
    parallel_saves_at_most_s: float
    most_at_once: int


@dataclass(frozen=True)
class ClientCache:
    """Use of the client's cache by the run. `working_set_bytes` are all objects used, unpacked; of those that were cached before,
    as far as they were read. `thrash`: objects were evicted and fetched again, within the run."""

    quota_bytes: int | None
    working_set_bytes: int
    objects_fetched: int
    fetched_again: int
    fetched_again_bytes: int
    evicted: int
    thrash: bool


@dataclass(frozen=True)
class Prefetching:
    """Files of bundles, which clients fetched in the background without a FUSE request.

    `fetches` counts all fetches, `bundles` those of the bundle files themselves, `objects` and `bytes` the objects that the others brought.
    The target used `used_objects`; no process used `unused_objects` during the recording. Without the prefetching, the target would have
    waited at most `saves_at_most_s` longer. It waited `waited_s` for objects whose prefetch was not finished.
    """

    fetches: int
    bytes: int
    objects: int
    used_objects: int
    used_bytes: int
    unused_objects: int
    unused_bytes: int
    saves_at_most_s: float
    waited_s: float
    bundles: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model and the bytes of the file it lies in, or (name "") the bytes of that file that belong to none.

    A READ counts for the tensor that most of its bytes belong to, bytes for the tensor they belong to, so that both add up to the
    file's. `fetched_bytes` are the share of the objects fetched, `evictions` READs of what had been there before, `faults` those
    that found no page. `generation_…` is the part of it in decode (or in the runs of a session).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layer: int | None
    path: str
    offset_bytes: int
    size_bytes: int
    reads: int
    read_bytes: int
    faults: int | None
    fetched_bytes: int
    evictions: int
    blocked_s: float
    generation_reads: int
    generation_blocked_s: float


@dataclass(frozen=True)
class Layer:
    """The tensors of one layer of the model together; `layer` is None for those of no layer (embeddings, head)."""

    layer: int | None
    tensors: int
    size_bytes: int
    reads: int
    read_bytes: int
    faults: int | None
    fetched_bytes: int
    evictions: int
    blocked_s: float
    generation_reads: int
    generation_blocked_s: float


@dataclass(frozen=True)
class OperatorLayer:
    """The nodes of one layer of the model in one phase; `layer` is None for nodes whose names contain no layer."""

    phase: str
    layer: int | None
    count: int
    time_s: float


@dataclass(frozen=True)
class Operator:
    """The nodes of one operator in one phase, from onnxruntime's own profile."""

    phase: str
    op_type: str
    count: int
    time_s: float
