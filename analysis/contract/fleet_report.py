"""The report on a fleet: what `cvtrace fleet --format json` prints. Fields are added, never renamed.

Times are seconds, times of day are seconds since 1970 by the nodes' own clocks.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

FLEET_SCHEMA: Final = "cvtrace-fleet/1"


@dataclass(frozen=True)
class Spread:
    """Distribution of a figure over the nodes that have it."""

    name: str
    unit: str
    nodes: int
    least: float
    p10: float
    median: float
    p90: float
    p99: float
    most: float


@dataclass(frozen=True)
class Excess:
    """A class of time that a node spent more of than the median node that ran the same script."""

    name: str
    time_s: float


@dataclass(frozen=True)
class SlowNode:
    """A node that worked longer than the median of the nodes with the same script, and the classes of time that it spent more on.

    `straggler`: its time is far above that of the others.
    """

    node: str
    trace: str
    script: str
    work_s: float
    median_s: float
    over_s: float
    why: tuple[Excess, ...]
    straggler: bool


@dataclass(frozen=True)
class Start:
    """How the nodes began to fetch, and what waited at the proxy or server that most waited for.

    `within_s` is from the first node's first GET to that by which nine of ten nodes had begun. `most_waiting` GETs waited for their
    first byte at once, on average over the fullest stretch of `bin_s`, which began `peak_s` after the first GET; `waited_s` is the mean
    time to a first byte. `herd`: most nodes began at once, and their GETs waited for each other's.
    """

    nodes: int
    within_s: float
    first_unix_s: float
    proxy: str
    most_waiting: float
    peak_s: float
    bin_s: float
    waited_s: float
    most_bytes_per_s: float
    herd: bool


@dataclass(frozen=True)
class Moment:
    """A stretch of time, `start_s` after the first GET of any node: GETs that began in it and the bytes of their bodies, and how many GETs
    on average waited for their first byte and for more bytes."""

    start_s: float
    width_s: float
    begun: int
    bytes: int
    waiting: float
    coming: float


@dataclass(frozen=True)
class Shared:
    """What the nodes fetched together. `repeated` is what a proxy would have had already, if it had begun empty; `shared_objects`
    were fetched by two nodes or more.

    `warm_proxy_saves_s` is what a near proxy that has every object would have saved, all nodes together, and `median_saves_s` of the
    median node (what-if near_proxy of each trace); `one_link_s` is what all bytes take on a link of 1 Gbit/s. `hits` and `misses` are
    answers of which a proxy says whether it had them in its cache.
    """

    objects: int
    shared_objects: int
    fetches: int
    bytes: int
    repeated_fetches: int
    repeated_bytes: int
    warm_proxy_saves_s: float | None
    median_saves_s: float | None
    predicted_nodes: int
    one_link_s: float
    hits: int
    misses: int


@dataclass(frozen=True)
class SharedObject:
    """An object or file: by how many nodes it was fetched, and how often."""

    object: str
    path: str
    nodes: int
    fetches: int
    bytes: int
    repeated_bytes: int
    network_s: float


@dataclass(frozen=True)
class EvictingNode:
    """A node whose client's cache evicted what the run needed again."""

    node: str
    trace: str
    evicted: int
    fetched_again: int
    fetched_again_bytes: int
    quota_bytes: int | None
    working_set_bytes: int
    thrash: bool


@dataclass(frozen=True)
class Clocks:
    """How far the nodes' clocks may differ. Times are not corrected: they are those of the nodes.

    Clocks of two nodes differ by `apart_at_least_s` and by no more than `apart_at_most_s` (None: not known for every node; `bounded`
    nodes are). `behind` and `ahead` are the nodes that differ by the former, if it is not 0.
    """

    nodes: int
    synchronised: int
    largest_error_s: float | None
    bounded: int
    apart_at_least_s: float
    apart_at_most_s: float | None
    behind: str | None
    ahead: str | None


@dataclass(frozen=True)
class Skipped:
    """A trace that was skipped."""

    trace: str
    reason: str


@dataclass(frozen=True)
class FleetReport:
    """The whole report on a fleet; its tables are described in fleet_columns."""

    schema: str
    nodes: int
    hosts: int
    scripts: tuple[str, ...]
    events: int
    lost: int
    verdicts: dict[str, dict[str, int]]
    """Question -> answer -> nodes."""
    spreads: tuple[Spread, ...]
    slowest: tuple[SlowNode, ...]
    stragglers: int
    start: Start | None
    timeline: tuple[Moment, ...]
    shared: Shared
    objects: tuple[SharedObject, ...]
    """Sorted by the bytes that were fetched repeatedly; at most MOST_OBJECTS."""
    files: tuple[SharedObject, ...]
    evicting: tuple[EvictingNode, ...]
    observed: int
    """Nodes on which requests could be observed; waits, GETs and evictions of the others are unknown."""
    failed: tuple[str, ...]
    """Nodes whose target returned another exit code than 0, or was ended by a signal."""
    clocks: Clocks
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists for JSON."""
        return asdict(self)
