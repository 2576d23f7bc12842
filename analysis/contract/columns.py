"""What every column of the exported tables means, and in which unit: the one place for CSV, Parquet, OpenMetrics and docs/exports.md.

Units: s, bytes, n (a number of things), index, text, yes/no, x (a ratio). A cell that is empty was not observed, or there is no such thing.
"""

from typing import Final, NamedTuple

from cvtrace.analysis.contract.program_columns import OF_FOLDER, OF_IMPORT, OF_PACKAGE, OF_RUN


class Column(NamedTuple):
    """Unit and meaning."""

    unit: str
    meaning: str


def _texts(**columns: str) -> dict[str, Column]:
    """Read `unit: meaning` by name of column."""
    return {name: Column(*text.split(": ", 1)) for name, text in columns.items()}


GROUPS: Final = _texts(
    network_s="s: waiting for the network",
    cache_s="s: in the client, its cache on disk, and FUSE",
    compute_s="s: in the target's own code, or waiting for its own threads",
    other_s="s: blocked on anything but CVMFS, or asleep",
    unattributed_s="s: what no rule explains",
)

RUN: Final = _texts(
    trace="text: folder of the trace",
    target="text: command line, as JSON",
    exit_code="n: of the target",
    signal="text: that ended the target, if one did",
    host="text: machine",
    started="text: when, ISO 8601",
    duration_s="s: life of the target",
    probes="text: how it was observed: ebpf, strace, portable",
    events="n: events recorded",
    lost="n: events lost",
    damage="text: what is wrong with the trace",
    cache_state="text: cold, warm, hot, mixed or none",
    question="text: question of the verdict: generation, inference or program",
    answer="text: yes, no or inconclusive",
    generation_hits_cvmfs="text: the same for generation, inconclusive for other questions",
    tokens="n: tokens made, of all sequences of a batch",
    steps="n: calls that made them",
    failed_steps="n: calls that were to make a token and returned an error",
    fuse_requests="n: FUSE requests of generation",
    fuse_reads="n: FUSE READ requests of generation",
    fuse_read_bytes="bytes: brought by them",
    http_fetches="n: GETs of generation",
    http_bytes="bytes: bodies of them, as sent",
    blocked_s="s: generation blocked on CVMFS",
    spin_overlap_s="s: of tokens on a CPU, at most so much spinning for a thread blocked on CVMFS",
    tokens_affected="text: indices of the tokens that needed CVMFS, as JSON",
)

PHASES: Final = _texts(
    name="text: import, load, tokenizer, prefill, decode, run, teardown, script, or the script's own",
    start_s="s: since the start of the target",
    wall_s="s: wall time; the five groups add up to it",
    count="n: calls; tokens of decode",
    **{name: f"{column.unit}: {column.meaning}" for name, column in GROUPS.items()},
    fuse_requests="n: FUSE requests of the target",
    fuse_reads="n: READ requests among them",
    fuse_read_bytes="bytes: brought by READs",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects fetched because they were not there",
    http_fetches="n: GETs that requests of the phase caused",
    http_bytes="bytes: bodies of those GETs, as sent (compressed)",
    faults="n: page faults that found no page",
    page_cache_bytes="bytes: pages touched that needed no READ",
    disk_bytes="bytes: of fuse_read_bytes, from the client's cache",
    network_bytes="bytes: of fuse_read_bytes, from objects fetched in the same phase",
    hits_cvmfs="text: yes, no or inconclusive: whether the phase needed CVMFS",
    span_s="s: all the time within the phase, with the phases that nest in it",
    cleanups="n: evictions by the client that began in the phase",
    cleanup_s="s: they took",
    cleanup_bytes="bytes: they freed",
    backoff_s="s: a thread of the client slept after a failure",
    backoff_waited_s="s: of that, the phase waited",
    cache_state="text: cold, warm-disk, warm-memory, warm, hot, mixed or none",
    fetch_wait_s="s: waited for fetches",
    sequential_fetch_s="s: of that, while no two fetches were under way",
    spin_overlap_s="s: of compute.cpu, at most so much spinning for a thread blocked on CVMFS: see docs/classes.md",
    daemon_starved_s="s: of the waits for CVMFS, while the client's thread had no CPU: see docs/classes.md",
    unobserved_requests="n: FUSE requests of the target to mounts that were not observed",
)

CLASSES: Final = _texts(
    phase="text: name of the phase",
    **{"class": "text: see docs/classes.md"},
    time_s="s: of the phase's wall time in this class",
)

TOKENS: Final = _texts(
    index="index: of the token, from 0",
    start_s="s: since the start of the target",
    wall_s="s: of the call of GenerateNextToken",
    **{name: f"{column.unit}: {column.meaning}" for name, column in GROUPS.items()},
    fuse_reads="n: READ requests for the token",
)

ANSWERS: Final = _texts(
    index="index: of the answer (of an engine: of the request), from 0",
    start_s="s: begin of its prefill, since the start of the target",
    wall_s="s: from the begin of its prefill to the end of its last token",
    first_token_s="s: from the begin of its prefill to the end of its first token",
    tokens="n: tokens of all its sequences",
    steps="n: calls that made them",
    failed_steps="n: calls that returned an error",
    hits_cvmfs="text: yes, no or inconclusive",
    blocked_s="s: its thread blocked on CVMFS",
    fuse_requests="n: FUSE requests in its time",
    fuse_reads="n: READ requests among them",
    http_fetches="n: GETs for them",
)

FILES: Final = _texts(
    path="text: of the file",
    opens="n: OPEN requests",
    reads="n: READ requests",
    read_bytes="bytes: brought by READs",
    fetched_bytes="bytes: of its objects, as sent (compressed)",
    amplification="x: fetched_bytes / read_bytes",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects fetched",
    blocked_s="s: the critical path waited for requests on it",
    asked_bytes="bytes: pages the target read or had mapped in, each once",
    access="text: sequential, random or mixed; empty if nothing was read",
    used_bytes="bytes: used at least: what read() returned, and a page for each fault that the next one does not follow",
)

FETCHES: Final = _texts(
    url="text: as in the request line; empty over HTTPS",
    path="text: file that needed it, else as the client named it",
    status="n: of HTTP; 0 if none was seen",
    start_s="s: handed to the download thread, since the start of the target",
    queue_s="s: until it was connected or sent",
    connect_s="s: connecting",
    request_s="s: sent to first byte",
    transfer_s="s: waiting for further bytes",
    fill_s="s: unpacking, checking, writing, committing",
    bytes="bytes: of the body, as sent (compressed)",
    proxy="text: address of the proxy",
    phase="text: of the request that needed it",
    by_target="yes/no: whether a request of the target needed it",
    encrypted="yes/no: over HTTPS; bytes are those on the wire",
    prefetch="yes/no: the client fetched it in the background, for a bundle, and no request asked for it",
)

REQUESTS: Final = _texts(
    connection="index: FUSE connection (minor of the mount's st_dev)",
    unique="index: the kernel's number of the request",
    opcode="text: READ, OPEN, LOOKUP …, as in linux/fuse.h",
    path="text: of the file, of the target's requests",
    inode="index: FUSE nodeid; -1 if the client was not seen to get it",
    offset="n: of a READ, in bytes",
    read_bytes="bytes: a READ brought",
    asker="index: thread that sent the request",
    worker="index: thread of the client that answered; -1 if not seen",
    by_target="yes/no: whether the target sent the request",
    phase="text: in which it was sent",
    token="index: for which it was sent",
    sent_s="s: queued by the kernel, since the start of the target",
    received_s="s: read by the client",
    replied_s="s: answered",
    error="n: 0 or -errno",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects it had to fetch",
    cache_shared="n: objects another request was fetching already",
    fetch="index: row in fetches, from 0, of the first GET it caused",
    cause="text: why it was needed: see docs/classes.md",
    tensor="text: that most of the bytes of a READ belong to",
)

STACKS: Final = _texts(
    phase="text: name of the phase",
    thread="index: that carries it",
    file="text: whose request was waited for",
    tensor="text: whose bytes were waited for",
    **{"class": "text: see docs/classes.md"},
    time_s="s: of the critical path",
    pieces="n: separate stretches of time",
)

MOUNTS: Final = _texts(
    path="text: where it is mounted",
    fqrn="text: name of the repository",
    daemon_pid="index: process of the client",
    client="text: cvmfs2 or cvtrace-lab",
    version="text: of the client",
    used="yes/no: whether the target used it",
)

OPERATORS: Final = _texts(
    phase="text: name of the phase",
    op_type="text: operator of onnxruntime",
    count="n: nodes run",
    time_s="s: from onnxruntime's own profile",
)

CHECKS: Final = _texts(
    name="text: fuse_reads, http_fetches, http_bytes, opens",
    traced="n: as traced; bytes for http_bytes",
    client="n: as the client counted",
    agree="yes/no: whether both agree",
)

CHUNKS: Final = _texts(
    object="text: hash of the object",
    kind="text: chunk, file, catalog …",
    path="text: file it belongs to",
    offset_bytes="n: where in the file it begins, in bytes",
    size_bytes="bytes: unpacked",
    asked_bytes="bytes: of its pages that the target used, each counted once",
    read_bytes="bytes: brought by READs",
    fetched_bytes="bytes: as sent (compressed)",
    fetches="n: GETs",
    hits="n: found in the cache",
    shared="n: waits for another's download",
    misses="n: not found in the cache",
    evictions="n: misses after the cache had held it",
    blocked_s="s: the critical path waited for requests on it",
)

FETCHING: Final = _texts(
    waited_s="s: the critical path waited for fetches",
    sequential_s="s: of that, while no two were under way; prefetching saves this at most",
    sequential_share="x: sequential_s / waited_s",
    longest_s="s: the longest of those waits",
    parallel_saves_at_most_s="s: if all were fetched at once at the first request",
    most_at_once="n: fetches under way at once, at most",
)

PREFETCHING: Final = _texts(
    fetches="n: fetches in the background that no request asked for",
    bytes="bytes: as sent",
    objects="n: objects that they brought, without the bundles themselves",
    used_objects="n: of them, used by the target",
    used_bytes="bytes: as sent",
    unused_objects="n: of them, needed by no request while it was recorded",
    unused_bytes="bytes: as sent",
    saves_at_most_s="s: the target would have waited longer without them, at most",
    waited_s="s: the critical path waited for objects that were being prefetched",
    bundles="n: bundles that were fetched",
)
CLIENT_CACHE: Final = _texts(
    quota_bytes="bytes: the client's limit",
    working_set_bytes="bytes: all objects used, unpacked",
    objects_fetched="n: objects",
    fetched_again="n: of them, fetched after they had been evicted",
    fetched_again_bytes="bytes: as sent",
    evicted="n: objects seen to be evicted",
    thrash="yes/no: objects were evicted and fetched again within the run",
)

_USE: Final = _texts(
    reads="n: READ requests",
    read_bytes="bytes: brought by READs",
    faults="n: page faults that found no page",
    fetched_bytes="bytes: its share of the objects fetched, as sent",
    evictions="n: READs of what had been there before",
    blocked_s="s: the critical path waited for it",
    generation_reads="n: of reads, in decode",
    generation_blocked_s="s: of blocked_s, in decode",
)

TENSORS: Final = {
    **_texts(
        name="text: of the tensor; empty for bytes of the file that belong to none",
        dtype="text: type of its elements",
        shape="text: as JSON",
        layer="index: of the model; empty for none",
        path="text: of the file",
        offset_bytes="n: where in the file it begins, in bytes",
        size_bytes="bytes: in the file",
    ),
    **_USE,
}

LAYERS: Final = {
    **_texts(
        layer="index: of the model; empty for tensors of no layer",
        tensors="n: of them",
        size_bytes="bytes: in the file",
    ),
    **_USE,
}

FAILURES: Final = _texts(
    what="text: what was wanted of the client: read, open, look up, …",
    path="text: of the file",
    offset_bytes="bytes: where in it",
    size_bytes="bytes: requested",
    error="text: name of the errno, empty where only a signal shows it",
    count="n: failures of the same kind; the row describes the first",
    start_s="s: since the start of the target",
    waited_s="s: for the error",
    pid="n: process",
    signal="text: that ended the process after it",
    object="text: hash of the object that could not be fetched",
    url="text: of the last try",
    server="text: address of the last try",
    proxied="yes/no: it was a proxy",
    outcomes="text: of the client's tries, as JSON",
    statuses="text: HTTP statuses of them, 0 for none, as JSON",
    tries="n: requests and connections that the client tried",
    client_said="text: the client's own reason",
)

PROCESSES: Final = _texts(
    pid="n: process",
    parent="n: the process that made it",
    command="text: program that it executed, or its parent's",
    start_s="s: since the start of the target",
    wall_s="s: from when it was made to the end of its main thread; the five groups add up to it",
    exit_code="n: where it is known",
    signal="text: that ended it",
    threads="n: threads that did something",
    network_s="s: its main thread waiting for the network",
    cache_s="s: its main thread in the client, its cache on disk, and FUSE",
    compute_s="s: its main thread in its own code, or waiting for threads of the target",
    other_s="s: its main thread blocked on anything but CVMFS, or asleep",
    unattributed_s="s: what no rule explains",
    fuse_requests="n: FUSE requests of all its threads",
    fuse_reads="n: FUSE READ requests that did not fail",
    fuse_read_bytes="bytes: brought by them",
    failed_requests="n: FUSE requests that the client did not do",
    http_fetches="n: GETs that its requests caused",
    http_bytes="bytes: bodies of them, as sent",
)

FINDINGS: Final = _texts(
    id="text: of the rule",
    severity="text: high, medium or low",
    title="text: what it is",
    evidence="text: by what it is known",
    advice="text: what to do about it",
    saves_s="s: saved at most by following the advice",
)

OPERATOR_LAYERS: Final = _texts(
    phase="text: name of the phase",
    layer="index: of the model; empty for nodes whose names contain none",
    count="n: nodes run",
    time_s="s: from onnxruntime's own profile",
)

KERNEL_REQUESTS: Final = _texts(
    path="text: of the mount",
    first="n: the kernel's number of the first FUSE request in the trace",
    last="n: of the last one",
    requests="n: numbers that are in the trace",
    missing="n: numbers between first and last that are not; empty where this kernel numbers in another way",
    unanswered="n: requests sent that the client was not seen to take",
)

ACCESS_LOG: Final = _texts(
    file="text: name of the log",
    format="text: common or combined, Squid, cvtrace lab",
    of_proxy="yes/no: whether a proxy wrote it",
    lines="n: of the log",
    unreadable="n: of them, in no known format",
    elsewhere="n: of them, of other repositories",
    fetches="n: GETs that were traced",
    matched="n: of them, in the log as well",
    traced_bytes="bytes: of these, as traced",
    log_bytes="bytes: of these, as the log has them",
    bytes_differ="n: of these, of another size in the log",
    only_in_trace="n: GETs that the log lacks",
    only_in_log="n: lines that the trace lacks, by this client or by an unknown one",
    unknown_client="yes/no: whether it is not known whose those are",
    of_others="n: lines of other clients",
    at_edges="n: lines that may be of before or after the recording",
    in_decode="n: of only_in_log, perhaps made while a token was generated",
    clock_ahead_s="s: by which the log's clock was ahead",
    examples="text: paths that only the log has, as JSON",
    behind_proxy="yes/no: whether the client used a proxy, and this is the log of the server behind it",
    agree="yes/no: whether both are equal; empty if it is not known",
    without_path="n: of fetches, not compared: external data is fetched by names, which a trace leaves out",
)

WHAT_IF: Final = _texts(
    rtt_s="s: round trip to the server in this run",
    rtt_from="text: by what it is known",
    bytes_per_s="x: bandwidth to the server, at least, in bytes per second",
)

PREDICTIONS: Final = _texts(
    name="text: of the prediction",
    what="text: what would be otherwise",
    wall_s="s: predicted of the whole run",
    assumptions="text: what it assumes, as JSON",
    lab_error="x: largest error of such predictions in the lab, as a share of the predicted run; empty if not measured",
    reason="text: why there is no prediction",
)

PREDICTED_PHASES: Final = _texts(
    prediction="text: its name",
    phase="text: name of the phase",
    measured_s="s: as it was",
    predicted_s="s: as it would be",
)

RUNS: Final = _texts(**OF_RUN)
IMPORTS: Final = _texts(**OF_IMPORT)
IMPORT_PACKAGES: Final = _texts(**OF_PACKAGE)
FOLDERS: Final = _texts(**OF_FOLDER)

TABLES: Final = {
    "run": RUN,
    "phases": PHASES,
    "classes": CLASSES,
    "tokens": TOKENS,
    "answers": ANSWERS,
    "runs": RUNS,
    "files": FILES,
    "folders": FOLDERS,
    "imports": IMPORTS,
    "import_packages": IMPORT_PACKAGES,
    "fetches": FETCHES,
    "requests": REQUESTS,
    "stacks": STACKS,
    "mounts": MOUNTS,
    "operators": OPERATORS,
    "operator_layers": OPERATOR_LAYERS,
    "chunks": CHUNKS,
    "tensors": TENSORS,
    "layers": LAYERS,
    "fetching": FETCHING,
    "client_cache": CLIENT_CACHE,
    "prefetching": PREFETCHING,
    "failures": FAILURES,
    "processes": PROCESSES,
    "findings": FINDINGS,
    "checks": CHECKS,
    "kernel_requests": KERNEL_REQUESTS,
    "access_log": ACCESS_LOG,
    "what_if": WHAT_IF,
    "predictions": PREDICTIONS,
    "predicted_phases": PREDICTED_PHASES,
}
"""Table -> its columns, in their order."""
WHAT_IF_TABLES: Final = ("what_if", "predictions", "predicted_phases")
"""Tables that are written if they are asked for (`--what-if`)."""
