"""The report: what `cvtrace report --format json` prints, as frozen dataclasses. Fields are added, never renamed.

Times are seconds, `_bytes` are bytes; `start_s` counts from the start of the target. A count that the probe could not
observe is None.
"""

from dataclasses import dataclass
from typing import Any, Final

from cvtrace.analysis.contract.evidence_schema import AccessCheck, Check, Numbering
from cvtrace.analysis.contract.program_schema import Folder, Import, ImportedPackage, Run
from cvtrace.analysis.contract.stack_schema import CodeLine, StackSampling
from cvtrace.analysis.contract.storage_schema import (
    Chunk,
    ClientCache,
    Fetch,
    Fetching,
    File,
    Layer,
    Operator,
    OperatorLayer,
    Prefetching,
    Tensor,
)
from cvtrace.analysis.contract.verdict_schema import Answer, Verdict
from cvtrace.analysis.contract.whatif_schema import WhatIf

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
    """The recorded run, and how complete its recording is."""

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
    """Names and secrets that may still be in the trace."""
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
class Finding:
    """A problem or an advice; `severity` is high, medium or low.

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
class Report:
    """The whole report on one trace."""

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
    lines: tuple[CodeLine, ...] = ()
    stacks: StackSampling | None = None
    """None where stacks were not sampled."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON contract as plain dicts and lists."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(each) for name, each in vars(value).items()}
    return value
