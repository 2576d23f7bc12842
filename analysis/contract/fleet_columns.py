"""What every column of the tables of a fleet means, and in which unit; the one place for Parquet, data frames and docs/fleet.md.

Units are those of `columns`, and ns: whole nanoseconds, whose sums do not depend on the order in which they are added up.
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
    labels="text: what `key=value` folders above the trace say, such as job=17/site=a",
    script="text: script or program",
    started="text: when the recording began, by the node's clock, ISO 8601",
    start_unix_ns="ns: when the target began, by the node's clock, since 1970",
    probes="text: how it was observed: ebpf, strace, portable",
    events="n: events recorded",
    lost="n: events lost",
    exit_code="n: of the target",
    signal="text: that ended the target, if one did",
    question="text: question of the verdict: generation, inference or program",
    answer="text: yes, no or inconclusive",
    cache_state="text: cold, warm, hot, mixed or none",
    duration_s="s: life of the target",
    work_s="s: all phases together but teardown, script and between; of a program without any other, its life",
    load_s="s: load of the model",
    first_token_s="s: time to first token, median over the answers",
    tokens="n: tokens made",
    tokens_per_s="x: tokens after the first of each answer, per second",
    blocked_s="s: generation blocked on CVMFS",
    network_s="s: all phases, waiting for the network",
    cache_s="s: in the client, its cache on disk, and FUSE",
    compute_s="s: in the target's own code, or waiting for its own threads",
    other_s="s: blocked on anything but CVMFS, or asleep",
    unattributed_s="s: what no rule explains",
    fetches="n: GETs that were recorded",
    fetched_bytes="bytes: bodies of them, as sent",
    first_fetch_unix_ns="ns: when the first GET was handed to the client's download thread",
    proxy="text: address of the proxy that most GETs went to; empty without one",
    proxy_hits="n: answers that a proxy says came from its cache (X-Cache, Age)",
    proxy_misses="n: answers that a proxy says did not",
    warm_proxy_s="s: predicted time of all phases, if a proxy next door had every object (what-if near_proxy)",
    warm_proxy_saves_s="s: what that saves",
    quota_bytes="bytes: limit of the client's cache",
    working_set_bytes="bytes: all objects that the run used, unpacked",
    evicted="n: misses of objects that the client's cache had held",
    fetched_again="n: objects fetched more than once in the run",
    fetched_again_bytes="bytes: of the repeated GETs",
    thrash="yes/no: objects were evicted and fetched again within the run",
    clock_low_s="s: the node's clock is at least so much ahead of the servers' (Date of their answers)",
    clock_high_s="s: and at most so much",
    clock_error_s="s: largest error of the node's clock, as its kernel knows it from NTP; empty if it is not synchronised",
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
    bin_unix_ns="ns: when the stretch of time begins, by the node's clock",
    width_ns="ns: how long it is, a power of two",
    **{"class": "text: class of time"},
    time_ns="ns: time on the critical path in the stretch",
)
"""What each node did over time: at most 128 stretches a node."""

OBJECTS: Final = _columns(
    object="text: hash of the object, with its suffix; or the name of a file of the repository itself",
    path="text: file that it is of: /cvmfs/REPOSITORY/PATH, wherever a node has mounted the repository",
    nodes="+n: nodes that fetched it",
    fetches="+n: GETs for it",
    bytes="+bytes: bodies of them, as sent",
    network_ns="+ns: from connect to last byte, without waiting for the download thread",
    queue_ns="+ns: waiting for the client's download thread",
    first_unix_ns="<ns: when the first GET for it began, by that node's clock",
)
"""One row for each object (chunk, file, catalog) that any node fetched."""

FILES: Final = _columns(
    path="text: file: /cvmfs/REPOSITORY/PATH",
    nodes="+n: nodes that fetched a part of it",
    fetches="+n: GETs for its parts",
    bytes="+bytes: bodies of them, as sent",
    network_ns="+ns: from connect to last byte",
)
"""One row for each file that at least one node fetched a part of."""

LOAD: Final = _columns(
    proxy="text: address of the proxy; empty for GETs to servers",
    bin_unix_ns="ns: when the stretch of time begins",
    started="+n: GETs that began",
    bytes="+bytes: of GETs that began",
    waiting_ns="+ns: of GETs that waited for their first byte, all together",
    transfer_ns="+ns: of GETs of which bytes were coming, all together",
)
"""What the nodes wanted of a proxy over time; a stretch is LOAD_BIN_NS long."""

SKIPPED: Final = _columns(
    trace="text: folder",
    reason="text: why it does not count",
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
"""Phases that are not counted as work beside others."""
