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
    network_s="s: time that it waited for the network",
    cache_s="s: time that it waited for the client, the client's cache on disk, and FUSE",
    compute_s="s: time in the target's own code, or waiting for its own threads",
    other_s="s: time blocked on files and sockets that are not on CVMFS, or asleep",
    unattributed_s="s: time that no rule explains",
)

RUN: Final = _texts(
    trace="text: folder of the trace",
    target="text: command line of the target, as JSON",
    exit_code="n: exit code of the target",
    signal="text: signal that ended the target, if one did",
    host="text: name of the machine",
    started="text: start of the recording, ISO 8601",
    duration_s="s: time from the start to the end of the target",
    probes="text: probe: ebpf, strace or portable",
    events="n: recorded events",
    lost="n: lost events",
    damage="text: description of damage to the trace",
    cache_state="text: state of the caches: cold, warm, hot, mixed or none",
    question="text: question of the verdict: generation, inference or program",
    answer="text: the verdict: yes, no or inconclusive",
    generation_hits_cvmfs="text: the verdict if the question is generation, else inconclusive",
    tokens="n: tokens of all sequences of a batch",
    steps="n: calls that made the tokens",
    failed_steps="n: calls that should make a token and returned an error",
    fuse_requests="n: FUSE requests of generation",
    fuse_reads="n: FUSE READ requests of generation",
    fuse_read_bytes="bytes: bytes that these READs returned",
    http_fetches="n: GETs of generation",
    http_bytes="bytes: size of their bodies, as transferred (compressed)",
    blocked_s="s: time that generation was blocked on CVMFS",
    spin_overlap_s="s: upper bound of the time that tokens spun for a thread blocked on CVMFS: see docs/classes.md",
    tokens_affected="text: indices of the tokens that needed CVMFS, as JSON",
)

PHASES: Final = _texts(
    name="text: import, load, tokenizer, prefill, decode, run, teardown, script, or the script's own",
    start_s="s: begin of its first call, since the start of the target",
    wall_s="s: wall time; the five groups add up to it",
    count="n: calls; for decode the tokens",
    **{name: f"{column.unit}: {column.meaning}" for name, column in GROUPS.items()},
    fuse_requests="n: FUSE requests of the target",
    fuse_reads="n: READ requests among them",
    fuse_read_bytes="bytes: bytes that these READs returned",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects that the client fetched because they were not in its cache",
    http_fetches="n: GETs that requests of the phase caused",
    http_bytes="bytes: size of their bodies, as transferred (compressed)",
    faults="n: page faults whose page was not in the page cache",
    page_cache_bytes="bytes: bytes of pages that were used without a READ",
    disk_bytes="bytes: part of fuse_read_bytes that came from the client's cache",
    network_bytes="bytes: part of fuse_read_bytes that came from objects fetched in the same phase",
    hits_cvmfs="text: whether the phase needed CVMFS: yes, no or inconclusive",
    span_s="s: all time within the phase, including nested phases",
    cleanups="n: clean-ups of the client's cache that began in the phase",
    cleanup_s="s: duration of these clean-ups",
    cleanup_bytes="bytes: bytes that these clean-ups removed",
    backoff_s="s: time that threads of the client slept after failures",
    backoff_waited_s="s: part of backoff_s for which the phase waited",
    cache_state="text: state of the caches: cold, warm-disk, warm-memory, warm, hot, mixed or none",
    fetch_wait_s="s: time that the phase waited for fetches",
    sequential_fetch_s="s: part of fetch_wait_s in which at most one fetch was in progress",
    spin_overlap_s="s: part of compute.cpu that may be spinning for a thread blocked on CVMFS, upper bound: see docs/classes.md",
    daemon_starved_s="s: part of the waits for CVMFS in which the client's thread had no CPU: see docs/classes.md",
    unobserved_requests="n: FUSE requests of the target to mounts that were not observed",
)

CLASSES: Final = _texts(
    phase="text: name of the phase",
    **{"class": "text: class of time: see docs/classes.md"},
    time_s="s: time of the phase in this class",
)

TOKENS: Final = _texts(
    index="index: number of the token, from 0",
    start_s="s: begin, since the start of the target",
    wall_s="s: duration of the call of GenerateNextToken",
    **{name: f"{column.unit}: {column.meaning}" for name, column in GROUPS.items()},
    fuse_reads="n: READ requests for the token",
)

ANSWERS: Final = _texts(
    index="index: number of the answer (of an engine: of the request), from 0",
    start_s="s: begin of its prefill, since the start of the target",
    wall_s="s: from the begin of its prefill to the end of its last token",
    first_token_s="s: from the begin of its prefill to the end of its first token",
    tokens="n: tokens of all its sequences",
    steps="n: calls that made the tokens",
    failed_steps="n: calls that returned an error",
    hits_cvmfs="text: whether the answer needed CVMFS: yes, no or inconclusive",
    blocked_s="s: time that its thread was blocked on CVMFS",
    fuse_requests="n: FUSE requests during the answer",
    fuse_reads="n: READ requests among them",
    http_fetches="n: GETs that these requests caused",
)

FILES: Final = _texts(
    path="text: path of the file",
    opens="n: OPEN requests",
    reads="n: READ requests",
    read_bytes="bytes: bytes that READs returned",
    fetched_bytes="bytes: size of its fetched objects, as transferred (compressed)",
    amplification="x: bytes fetched for each byte read (fetched_bytes / read_bytes)",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects that the client fetched",
    blocked_s="s: time on the critical path that waited for requests on the file",
    asked_bytes="bytes: bytes of pages that the target read or that faults mapped, each page once",
    access="text: order of the reads: sequential, random or mixed; empty if nothing was read",
    used_bytes="bytes: lower bound of the bytes used: bytes that read() returned, and one page for each fault unless the next fault follows directly",
)

FETCHES: Final = _texts(
    url="text: URL of the request line; empty over HTTPS",
    path="text: file that needed the fetch, else the client's name for it",
    status="n: HTTP status; 0 if none was observed",
    start_s="s: hand-over to the download thread, since the start of the target",
    queue_s="s: time from the hand-over until it connected or sent the GET",
    connect_s="s: time to connect",
    request_s="s: time from the GET to the first byte",
    transfer_s="s: time that it waited for further bytes",
    fill_s="s: time to unpack, verify, write and commit",
    bytes="bytes: size of the body, as transferred (compressed)",
    proxy="text: address of the proxy",
    phase="text: phase of the request that needed the fetch",
    by_target="yes/no: whether a request of the target needed it",
    encrypted="yes/no: whether it used HTTPS; then bytes are those on the wire",
    prefetch="yes/no: whether the client fetched it in the background, for a bundle, without a request",
)

REQUESTS: Final = _texts(
    connection="index: FUSE connection (minor of the mount's st_dev)",
    unique="index: the kernel's number of the request",
    opcode="text: operation: READ, OPEN, LOOKUP …, as in linux/fuse.h",
    path="text: path of the file, for requests of the target",
    inode="index: FUSE nodeid; -1 if the client's receipt was not observed",
    offset="n: offset of a READ in the file, in bytes",
    read_bytes="bytes: bytes that a READ returned",
    asker="index: thread that sent the request",
    worker="index: thread of the client that answered; -1 if not observed",
    by_target="yes/no: whether the target sent the request",
    phase="text: phase in which it was sent",
    token="index: number of the token for which it was sent",
    sent_s="s: time at which the kernel queued it, since the start of the target",
    received_s="s: time at which the client read it",
    replied_s="s: time of the answer",
    error="n: 0 or -errno",
    cache_hits="n: objects found in the client's cache",
    cache_misses="n: objects that the client had to fetch",
    cache_shared="n: objects that another request was fetching",
    fetch="index: row in the table fetches, from 0, of the first GET that it caused",
    cause="text: reason why it was needed: see docs/report.md",
    tensor="text: tensor that most bytes of a READ belong to",
)

STACKS: Final = _texts(
    phase="text: name of the phase",
    thread="index: thread that carries the phase",
    file="text: file whose request the thread waited for",
    tensor="text: tensor whose bytes the thread waited for",
    **{"class": "text: class of time: see docs/classes.md"},
    time_s="s: time on the critical path",
    pieces="n: number of separate intervals",
)

MOUNTS: Final = _texts(
    path="text: mountpoint",
    fqrn="text: name of the repository",
    daemon_pid="index: process number of the client",
    client="text: type of the client: cvmfs2 or cvtrace-lab",
    version="text: version of the client",
    used="yes/no: whether the target used it",
)

OPERATORS: Final = _texts(
    phase="text: name of the phase",
    op_type="text: operator of onnxruntime",
    count="n: executed nodes",
    time_s="s: time in onnxruntime's own profile",
)

CHECKS: Final = _texts(
    name="text: compared count: fuse_reads, http_fetches, http_bytes, opens",
    traced="n: count in the trace; bytes for http_bytes",
    client="n: count of the client",
    agree="yes/no: whether the counts agree",
)

CHUNKS: Final = _texts(
    object="text: hash of the object",
    kind="text: kind of the object: chunk, file, catalog …",
    path="text: file that the object belongs to",
    offset_bytes="n: offset in the file at which it begins, in bytes",
    size_bytes="bytes: size, unpacked",
    asked_bytes="bytes: bytes of its pages that the target used, each page once",
    read_bytes="bytes: bytes that READs returned",
    fetched_bytes="bytes: fetched bytes, as transferred (compressed)",
    fetches="n: GETs",
    hits="n: requests that were answered from the client's cache",
    shared="n: requests that waited for a download of another request",
    misses="n: requests for which the client fetched the object",
    evictions="n: misses after the client's cache had held the object",
    blocked_s="s: time on the critical path that waited for requests on the object",
)

FETCHING: Final = _texts(
    waited_s="s: time on the critical path that waited for fetches",
    sequential_s="s: part of waited_s in which at most one fetch was in progress; prefetching saves at most this",
    sequential_share="x: sequential_s / waited_s",
    longest_s="s: longest of these waits",
    parallel_saves_at_most_s="s: upper bound of the time saved if everything is fetched at once at the first request",
    most_at_once="n: largest number of fetches in progress at once",
)

PREFETCHING: Final = _texts(
    fetches="n: fetches in the background, without a request",
    bytes="bytes: size of their bodies, as transferred (compressed)",
    objects="n: fetched objects, without the bundles themselves",
    used_objects="n: fetched objects that the target used",
    used_bytes="bytes: size of these objects, as transferred (compressed)",
    unused_objects="n: fetched objects that no request needed during the recording",
    unused_bytes="bytes: size of these objects, as transferred (compressed)",
    saves_at_most_s="s: upper bound of the time that they saved the target",
    waited_s="s: time on the critical path that waited for objects in the process of being prefetched",
    bundles="n: fetched bundles",
)
CLIENT_CACHE: Final = _texts(
    quota_bytes="bytes: size limit of the client's cache",
    working_set_bytes="bytes: size of all objects used, unpacked",
    objects_fetched="n: fetched objects",
    fetched_again="n: objects that were fetched again after an eviction",
    fetched_again_bytes="bytes: bytes fetched again, as transferred (compressed)",
    evicted="n: objects whose eviction was observed",
    thrash="yes/no: whether objects were evicted and fetched again within the run",
)

_USE: Final = _texts(
    reads="n: READ requests",
    read_bytes="bytes: bytes that READs returned",
    faults="n: page faults whose page was not in the page cache",
    fetched_bytes="bytes: share of the fetched objects, as transferred (compressed)",
    evictions="n: READs of pages or objects that were cached before",
    blocked_s="s: time on the critical path that waited for it",
    generation_reads="n: part of reads in decode",
    generation_blocked_s="s: part of blocked_s in decode",
)

TENSORS: Final = {
    **_texts(
        name="text: name of the tensor; empty for bytes of the file that belong to no tensor",
        dtype="text: type of its elements",
        shape="text: shape, as JSON",
        layer="index: layer of the model; empty if it belongs to none",
        path="text: path of the file",
        offset_bytes="n: offset in the file at which it begins, in bytes",
        size_bytes="bytes: size in the file",
    ),
    **_USE,
}

LAYERS: Final = {
    **_texts(
        layer="index: layer of the model; empty for tensors that belong to none",
        tensors="n: number of its tensors",
        size_bytes="bytes: size in the files",
    ),
    **_USE,
}

FAILURES: Final = _texts(
    what="text: operation that failed: read, open, look up, …",
    path="text: path of the file",
    offset_bytes="bytes: offset in the file",
    size_bytes="bytes: requested bytes",
    error="text: name of the errno; empty if only a signal shows the failure",
    count="n: failures of the same kind; the row describes the first",
    start_s="s: begin, since the start of the target",
    waited_s="s: time that the process waited for the error",
    pid="n: number of the process",
    signal="text: signal that ended the process after the failure",
    object="text: hash of the object that could not be fetched",
    url="text: URL of the last try",
    server="text: address of the server or proxy of the last try",
    proxied="yes/no: whether this is a proxy",
    outcomes="text: results of the client's tries, as JSON",
    statuses="text: HTTP statuses of the tries, 0 for none, as JSON",
    tries="n: requests and connections that the client tried",
    client_said="text: reason that the client gave",
)

PROCESSES: Final = _texts(
    pid="n: number of the process",
    parent="n: number of the process that created it",
    command="text: program that it executed, else that of its parent",
    start_s="s: begin, since the start of the target",
    wall_s="s: time from its creation to the end of its main thread; the five groups add up to it",
    exit_code="n: exit code, if known",
    signal="text: signal that ended it",
    threads="n: threads with at least one event",
    network_s="s: time that its main thread waited for the network",
    cache_s="s: time that its main thread waited for the client, the client's cache on disk, and FUSE",
    compute_s="s: time of its main thread in its own code, or waiting for threads of the target",
    other_s="s: time that its main thread was blocked on files and sockets that are not on CVMFS, or asleep",
    unattributed_s="s: time of its main thread that no rule explains",
    fuse_requests="n: FUSE requests of all its threads",
    fuse_reads="n: FUSE READ requests that did not fail",
    fuse_read_bytes="bytes: bytes that these READs returned",
    failed_requests="n: FUSE requests that the client answered with an error",
    http_fetches="n: GETs that its requests caused",
    http_bytes="bytes: size of their bodies, as transferred (compressed)",
)

FINDINGS: Final = _texts(
    id="text: name of the rule",
    severity="text: importance: high, medium or low",
    title="text: the problem",
    evidence="text: what shows the problem",
    advice="text: what to do",
    saves_s="s: time that the advice saves at most",
)

OPERATOR_LAYERS: Final = _texts(
    phase="text: name of the phase",
    layer="index: layer of the model; empty for nodes whose names contain no layer",
    count="n: executed nodes",
    time_s="s: time in onnxruntime's own profile",
)

KERNEL_REQUESTS: Final = _texts(
    path="text: mountpoint",
    first="n: the kernel's number of the first FUSE request in the trace",
    last="n: the kernel's number of the last FUSE request in the trace",
    requests="n: request numbers in the trace",
    missing="n: numbers between first and last that are not in the trace; empty if this kernel numbers in another way",
    unanswered="n: requests that the kernel sent and whose receipt by the client was not observed",
)

ACCESS_LOG: Final = _texts(
    file="text: name of the log",
    format="text: format of the log: common or combined, Squid, cvtrace lab",
    of_proxy="yes/no: whether a proxy wrote it",
    lines="n: lines in the log",
    unreadable="n: lines in an unknown format",
    elsewhere="n: lines of other repositories",
    fetches="n: GETs in the trace",
    matched="n: GETs that are in the trace and in the log",
    traced_bytes="bytes: bytes of the matched GETs in the trace",
    log_bytes="bytes: bytes of the matched GETs in the log",
    bytes_differ="n: matched GETs whose sizes differ",
    only_in_trace="n: GETs that are not in the log",
    only_in_log="n: lines that are not in the trace, of this client or of an unknown client",
    unknown_client="yes/no: whether the client of these lines is unknown",
    of_others="n: lines of other clients",
    at_edges="n: lines that may be from before or after the recording",
    in_decode="n: part of only_in_log that may be from the time in which a token was generated",
    clock_ahead_s="s: time by which the log's clock is ahead of the trace's",
    examples="text: some paths that are only in the log, as JSON",
    behind_proxy="yes/no: whether the client used a proxy, and this log is from the server behind it",
    agree="yes/no: whether trace and log agree; empty if it is not known",
    without_path="n: GETs that were not compared: external data, whose paths a trace does not contain",
)

WHAT_IF: Final = _texts(
    rtt_s="s: round trip to the server in this run",
    rtt_from="text: source of rtt_s",
    bytes_per_s="x: lower bound of the bandwidth to the server, in bytes per second",
)

PREDICTIONS: Final = _texts(
    name="text: name of the prediction",
    what="text: what is changed",
    wall_s="s: predicted duration of the whole run",
    assumptions="text: assumptions of the prediction, as JSON",
    lab_error="x: largest error of this kind of prediction in the lab, as a share of the predicted run; empty if not measured",
    reason="text: why there is no prediction",
)

PREDICTED_PHASES: Final = _texts(
    prediction="text: name of the prediction",
    phase="text: name of the phase",
    measured_s="s: measured time",
    predicted_s="s: predicted time",
)

LINES: Final = _texts(
    file="text: source file of the line",
    line="index: number of the line; empty if it is not known",
    function="text: function that the line is in",
    library="text: library or program of compiled code; empty for Python",
    waited_s="s: time that the thread on the critical path waited in this line",
    blocked_s="s: part of waited_s for CVMFS",
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
    "lines": LINES,
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
