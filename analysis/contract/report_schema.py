"""The report: what `cvtrace report --format json` prints, as frozen dataclasses. Fields are added, never renamed.

Times are seconds, `_bytes` are bytes; `start_s` counts from the start of the target. A count that the probe could not
observe is None.
"""

from dataclasses import dataclass
from typing import Any, Final

from cvtrace.analysis.contract.classes import FETCH_PARTS
from cvtrace.analysis.contract.program_schema import Folder, Import, ImportedPackage, Run
from cvtrace.analysis.contract.verdict_schema import Answer, Verdict

SCHEMA: Final = "cvtrace-report/1"


@dataclass(frozen=True)
class MountInfo:
    """A mount that was observed; `used`: the target asked something of it, or touched a page or opened a file there."""

    path: str
    fqrn: str
    daemon_pid: int
    client: str
    version: str
    used: bool


@dataclass(frozen=True)
class TraceInfo:
    """What was traced, and how well."""

    path: str
    target: tuple[str, ...]
    exit_code: int | None
    host: str
    started: str
    duration_s: float
    probes: str
    events: int
    lost: int
    missing: tuple[str, ...]
    mounts: tuple[MountInfo, ...]
    damage: str | None
    signal: str | None = None
    """Name of the signal that ended the target, if one did; `exit_code` is 128 + its number then."""
    redacted: bool = False
    """Whether names were hashed (`--redact`)."""
    privacy: tuple[str, ...] = ()
    """What names and secrets may be in the trace all the same."""
    still_running: tuple[str, ...] = ()
    """Names of processes that the target started and that went on when the recording ended."""


@dataclass(frozen=True)
class Phase:
    """One row of the table of phases. The five groups and `classes` each add up to `wall_s`.

    `fuse_requests` and what follows counts what threads of the target asked for in the phase; `unobserved_requests` went to FUSE mounts
    that were not observed, of which those to a CVMFS are among `fuse_requests` and `fuse_reads`. Of `fuse_read_bytes`,
    `network_bytes` came from objects fetched in the same phase, `disk_bytes` from the client's cache; `page_cache_bytes`
    were touched and needed no read at all. `span_s` of a phase that the script named is all the time within it, with the
    calls of the library and the phases that nest in it, which have rows of their own; else it is `wall_s`.

    `cleanups` and `backoff_s` are the client's, whoever caused them: evictions that began in the phase, and the time of it in
    which a thread of the client slept after a failure; `backoff_waited_s` of that the phase waited, which is in `network.queue`.

    `cache_state` is cold, warm-disk, warm-memory, warm, hot, mixed or none; `fetch_wait_s` was waited for fetches, and
    `sequential_fetch_s` of it while no two were under way.
    `spin_overlap_s` is part of `compute.cpu`, `daemon_starved_s` of the waits for CVMFS (analysis.overlaps).
    """

    name: str
    start_s: float
    wall_s: float
    count: int
    network_s: float
    cache_s: float
    compute_s: float
    other_s: float
    unattributed_s: float
    classes: dict[str, float]
    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    cache_hits: int | None
    cache_misses: int | None
    http_fetches: int | None
    http_bytes: int | None
    faults: int | None
    page_cache_bytes: int | None
    disk_bytes: int | None
    network_bytes: int | None
    hits_cvmfs: str
    span_s: float
    cleanups: int | None = None
    cleanup_s: float | None = None
    cleanup_bytes: int | None = None
    backoff_s: float | None = None
    backoff_waited_s: float | None = None
    cache_state: str | None = None
    fetch_wait_s: float | None = None
    sequential_fetch_s: float | None = None
    spin_overlap_s: float | None = None
    daemon_starved_s: float | None = None
    unobserved_requests: int | None = None


@dataclass(frozen=True)
class Token:
    """One call of GenerateNextToken."""

    index: int
    start_s: float
    wall_s: float
    network_s: float
    cache_s: float
    compute_s: float
    other_s: float
    unattributed_s: float
    fuse_reads: int | None


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
class Failure:
    """Something the target wanted of a mount and did not get; `count` alike ones of one file, the first is told.

    `what` is read, open, look up, …; `error` the name of the errno, empty where only the signal shows it. `signal` ended process `pid`
    after it. The rest is what the client tried for it, as far as it was seen: `outcomes` of its tries in words, `statuses` (0: none),
    `server` the peer that was asked last (a proxy if `proxied`), `client_said` the client's own reason, `object` the hash.
    """

    what: str
    path: str
    offset_bytes: int | None
    size_bytes: int | None
    error: str
    count: int
    start_s: float
    waited_s: float
    pid: int
    signal: str | None = None
    object: str | None = None
    url: str | None = None
    server: str | None = None
    proxied: bool = False
    outcomes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    tries: int = 0
    client_said: str | None = None


@dataclass(frozen=True)
class Process:
    """A process of the target. Times and `classes` are those of its main thread, and add up to `wall_s`; counts are those of all its
    threads. `command` is the program that it executed, or its parent's. `exit_code` and `signal` are None where they are not known."""

    pid: int
    parent: int | None
    command: str
    start_s: float
    wall_s: float
    exit_code: int | None
    signal: str | None
    threads: int
    network_s: float
    cache_s: float
    compute_s: float
    other_s: float
    unattributed_s: float
    classes: dict[str, float]
    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    failed_requests: int | None
    http_fetches: int | None
    http_bytes: int | None


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
    """What the run took of the client's cache. `working_set_bytes` are all objects used, unpacked; of those that were cached before,
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
    """What clients fetched in the background that no request asked for: the files of bundles.

    `objects` of `bytes` were fetched in `fetches` (a bundle itself is one of these, and no object). The target used `used_objects`; `unused_objects`
    were needed by no request of anybody while it was recorded. Without the prefetching, the target would have waited at most `saves_at_most_s` longer; it waited
    `waited_s` for objects that were just being prefetched. `bundles` is the number of bundles that were fetched.
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
class Finding:
    """Something worth knowing or changing; `severity` is high, medium or low.

    `title` and `evidence` are clauses with a subject and a verb, `advice` is an imperative. `saves_s` is what following the advice
    saves at most; None if that is not known.
    """

    id: str
    severity: str
    title: str
    evidence: str
    advice: str
    saves_s: float | None = None


@dataclass(frozen=True)
class OperatorLayer:
    """The nodes of one layer of the model in one phase; `layer` is None for those whose names tell of none."""

    phase: str
    layer: int | None
    count: int
    time_s: float


@dataclass(frozen=True)
class Operator:
    """The nodes of one operator in one phase, from onnxruntime's own profile them."""

    phase: str
    op_type: str
    count: int
    time_s: float


@dataclass(frozen=True)
class Check:
    """A number that was traced against what the client itself counted."""

    name: str
    traced: int | None
    client: int
    agree: bool | None


@dataclass(frozen=True)
class Numbering:
    """The numbers the kernel gave the FUSE requests of a mount while it was recorded.

    `missing` of them, between the first and the last, are not in the trace; None where this kernel does not number them
    one after the other. `unanswered` were sent, and the client was not seen to take them.
    """

    path: str
    first: int
    last: int
    requests: int
    missing: int | None
    unanswered: int


@dataclass(frozen=True)
class AccessCheck:
    """Traced fetches against the log of a server or proxy, within the time of the recording.

    `lines` of the file: `unreadable` ones are of no known format, `elsewhere` ones of other repositories. `only_in_log`
    are by this client, or by nobody knows whom where `unknown_client`; `of_others` are not. `at_edges` may have been made
    before or after the recording. `in_decode` may have been made while a token was generated. `bytes_differ` counts the
    `matched` ones that the log tells another size of. `without_path` counts the `fetches` that are not compared: external data is
    fetched by names, which a trace leaves out. `clock_ahead_s` is what the log's clock was ahead of the trace's.
    """

    file: str
    format: str
    of_proxy: bool
    lines: int
    unreadable: int
    elsewhere: int
    fetches: int
    matched: int
    traced_bytes: int
    log_bytes: int
    bytes_differ: int
    only_in_trace: int
    only_in_log: int
    unknown_client: bool
    of_others: int
    at_edges: int
    in_decode: int
    clock_ahead_s: float
    examples: tuple[str, ...]
    """Paths that are only in the log."""
    behind_proxy: bool
    """All fetches went to a proxy, and the log is of a server behind it: it has what the proxy did not have."""
    agree: bool | None
    """None where there was nothing to compare."""
    without_path: int = 0


@dataclass(frozen=True)
class PredictedPhase:
    """A phase as measured and as predicted; None where it cannot be predicted."""

    name: str
    measured_s: float
    predicted_s: float | None


@dataclass(frozen=True)
class Prediction:
    """What the run would take if something were otherwise; `wall_s` is None, and there is a `reason`, where that cannot be told.

    `lab_error` is the largest error of such predictions in the lab, as a share of the predicted run; None if not measured.
    """

    name: str
    what: str
    wall_s: float | None
    phases: tuple[PredictedPhase, ...]
    assumptions: tuple[str, ...]
    lab_error: float | None
    reason: str | None


@dataclass(frozen=True)
class WhatIf:
    """Predictions by replay of the critical path, and what the trace tells of the way to the server (None: nothing)."""

    rtt_s: float | None
    rtt_from: str
    bytes_per_s: float | None
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Report:
    """Everything that is said about one trace."""

    schema: str
    trace: TraceInfo
    verdict: Verdict
    cache_state: str | None
    phases: tuple[Phase, ...]
    tokens: tuple[Token, ...]
    files: tuple[File, ...]
    fetches: tuple[Fetch, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    operators: tuple[Operator, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    fetching: Fetching | None = None
    client_cache: ClientCache | None = None
    tensors: tuple[Tensor, ...] = ()
    layers: tuple[Layer, ...] = ()
    findings: tuple[Finding, ...] = ()
    operator_layers: tuple[OperatorLayer, ...] = ()
    kernel_requests: tuple[Numbering, ...] = ()
    access_log: AccessCheck | None = None
    what_if: WhatIf | None = None
    answers: tuple[Answer, ...] = ()
    runs: tuple[Run, ...] = ()
    imports: tuple[Import, ...] = ()
    import_packages: tuple[ImportedPackage, ...] = ()
    folders: tuple[Folder, ...] = ()
    failures: tuple[Failure, ...] = ()
    processes: tuple[Process, ...] = ()
    prefetching: Prefetching | None = None
    """None where nothing was prefetched, or where that cannot be observed."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON contract as plain dicts and lists."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(each) for name, each in vars(value).items()}
    return value
