"""Unit and meaning of every column of the tables of a fleet: the source for Parquet, data frames and docs/fleet.md.

Units are those of `columns`, and ns: whole nanoseconds, so that sums do not depend on the order of addition.
"""

from typing import Final, NamedTuple


class FleetColumn(NamedTuple):
    """Unit and meaning; `combine` says how rows with the same key become one: `sum`, `min`, or empty for a part of the key."""

    unit: str
    meaning: str
    combine: str = ""


def _columns(**columns: str) -> dict[str, FleetColumn]:
    """Read `unit: meaning` by name of column; `+` before the unit is a sum over nodes, `<` the smallest."""
    result = {}
    for name, text in columns.items():
        unit, meaning = text.split(": ", 1)
        combine = {"+": "sum", "<": "min"}.get(unit[0], "")
        result[name] = FleetColumn(unit.lstrip("+<"), meaning, combine)
    return result


NODES: Final = _columns(
    trace="text: folder of the trace",
    host="text: machine",
    labels="text: labels from `key=value` names of folders above the trace, such as job=17/site=a",
    script="text: script or program",
    started="text: when the recording began, by the node's clock, ISO 8601",
    start_unix_ns="ns: when the target began, by the node's clock, since 1970",
    probes="text: probe: ebpf, strace or portable",
    events="n: events recorded",
    lost="n: events lost",
    exit_code="n: exit code of the target",
    signal="text: signal that ended the target; empty if none did",
    question="text: question of the verdict: generation, inference or program",
    answer="text: yes, no or inconclusive",
    cache_state="text: cold, warm, hot, mixed or none",
    duration_s="s: time from the start to the end of the target",
    work_s="s: sum of all phases except teardown, script and between; `duration_s` for a program without other phases",
    load_s="s: load of the model",
    first_token_s="s: time to first token, median over the answers",
    tokens="n: tokens made",
    tokens_per_s="x: tokens after the first of each answer, per second",
    blocked_s="s: time that generation was blocked on CVMFS",
    network_s="s: time of all phases in classes network.*",
    cache_s="s: time of all phases in classes cache.*",
    compute_s="s: time of all phases in classes compute.*",
    other_s="s: time of all phases in classes other.*",
    unattributed_s="s: time that no rule explains",
    fetches="n: GETs that were recorded",
    fetched_bytes="bytes: bodies of these GETs, as transferred (compressed)",
    first_fetch_unix_ns="ns: when the first GET was handed to the client's download thread",
    proxy="text: address of the proxy that most GETs went to; empty without one",
    proxy_hits="n: answers from the cache of a proxy, by its headers (X-Cache, Age)",
    proxy_misses="n: answers that a proxy fetched from a server, by its headers",
    warm_proxy_s="s: predicted time of all phases, if a near proxy had every object (what-if near_proxy)",
    warm_proxy_saves_s="s: time that such a proxy would save",
    quota_bytes="bytes: limit of the client's cache",
    working_set_bytes="bytes: size of all objects that the run used, uncompressed",
    evicted="n: misses of objects that were in the client's cache before",
    fetched_again="n: objects fetched more than once in the run",
    fetched_again_bytes="bytes: bodies of the repeated GETs",
    thrash="yes/no: objects were evicted and fetched again within the run",
    clock_low_s="s: lower bound of how far the node's clock is ahead of the servers' clocks (from the Date of their answers)",
    clock_high_s="s: upper bound of the same",
    clock_error_s="s: largest error of the node's clock, from the kernel's NTP state; empty if the clock is not synchronised",
)
"""One row for each trace that was read."""

CLASSES: Final = _columns(
    trace="text: folder of the trace",
    phase="text: phase",
    **{"class": "text: class of time"},
    time_ns="ns: time on the critical path",
)
"""One row for each trace, phase and class that took time."""

ACTIVITY: Final = _columns(
    trace="text: folder of the trace",
    bin_unix_ns="ns: begin of the interval, by the node's clock",
    width_ns="ns: length of the interval, a power of two",
    **{"class": "text: class of time"},
    time_ns="ns: time on the critical path in the interval",
)
"""What each node did over time, in at most 128 intervals for each node."""

OBJECTS: Final = _columns(
    object="text: hash of the object, with its suffix; for the repository's own files, such as .cvmfspublished, the name",
    path="text: file that the object belongs to, as /cvmfs/REPOSITORY/PATH wherever a node has mounted the repository",
    nodes="+n: nodes that fetched it",
    fetches="+n: GETs for it",
    bytes="+bytes: bodies of these GETs, as transferred (compressed)",
    network_ns="+ns: time from connect to last byte, without the wait for the download thread",
    queue_ns="+ns: time waited for the client's download thread",
    first_unix_ns="<ns: begin of the first GET for it, by that node's clock",
)
"""One row for each object (chunk, file, catalog) that any node fetched."""

FILES: Final = _columns(
    path="text: file, as /cvmfs/REPOSITORY/PATH",
    nodes="+n: nodes that fetched a part of it",
    fetches="+n: GETs for its parts",
    bytes="+bytes: bodies of these GETs, as transferred (compressed)",
    network_ns="+ns: time from connect to last byte",
)
"""One row for each file that at least one node fetched a part of."""

LOAD: Final = _columns(
    proxy="text: address of the proxy; empty for GETs to servers",
    bin_unix_ns="ns: begin of the interval",
    started="+n: GETs that began in the interval",
    bytes="+bytes: bodies of the GETs that began in the interval",
    waiting_ns="+ns: sum of the times that GETs waited for their first byte in the interval",
    transfer_ns="+ns: sum of the times that GETs received their bodies in the interval",
)
"""The load of all nodes on each proxy over time; an interval is LOAD_BIN_NS long."""

SKIPPED: Final = _columns(
    trace="text: folder of the trace",
    reason="text: why it was skipped",
)
"""One row for each trace that could not be read or analysed."""

FLEET_TABLES: Final = {
    "nodes": NODES,
    "classes": CLASSES,
    "activity": ACTIVITY,
    "objects": OBJECTS,
    "files": FILES,
    "load": LOAD,
    "skipped": SKIPPED,
}
LOAD_BIN_NS: Final = 1 << 26
"""67 ms."""
NO_WORK: Final = frozenset({"teardown", "script", "between"})
"""Phases that `work_s` leaves out if there are others."""
