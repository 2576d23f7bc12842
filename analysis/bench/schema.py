"""The dataclasses of a bench folder. Times are seconds, `_bytes` are bytes; None is what was not measured. Fields are added, never renamed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.contract.classes import LABELS

SCHEMA: Final = "cvtrace-bench"
VERSION: Final = 1

COLD: Final = "cold"
WARM_DISK: Final = "warm-disk"
WARM_MEMORY: Final = "warm-memory"
HOT: Final = "hot"
LOCAL: Final = "local"
STATES: Final = {
    COLD: "nothing of the files is in the client's cache or in the page cache",
    WARM_DISK: "the client's cache holds the files; nothing of them is in memory",
    WARM_MEMORY: "the client's cache holds the files, and its own files are in the page cache; no page of the CVMFS files is",
    HOT: "the pages of the CVMFS files are in the page cache",
    LOCAL: "a copy on a local disk, in the page cache",
}
"""Name of each state, in the order of tables, and what holds in it before a run."""

METRICS: Final = ("load_s", "first_token_s", "tokens_per_s", "total_s")
CLASS_COLUMNS: Final = tuple(f"{label}_s" for label in LABELS)


@dataclass(frozen=True)
class Run:
    """One run of the script: a row of runs.parquet and runs.csv.

    `verified`: the caches were in `state` before the run, and the client's counters agree after it; else `reason` is one sentence, and
    the run counts in no statistic. `repeated`: it repeats a run that was not verified. `order` counts the runs of the experiment from 0.
    `load_s` is the time in calls that load a model, `first_token_s` from the begin of the prefill to the end of the first token, `tokens_per_s`
    the rate of the tokens after the first, `total_s` the life of the process. `reads` and `fetches` are requests for data to the client, and its
    downloads, during the run. Of a traced run, `classes` are the seconds of each class of time in the load (in the whole run, if nothing was
    loaded), and `verdict` says whether generation hit CVMFS (whether the program waited for CVMFS, if it made no tokens).
    """

    variant: str
    sweep_value: float | None
    state: str
    round: int
    order: int
    verified: bool
    reason: str
    repeated: bool
    traced: bool
    exit_code: int
    started: str
    load_s: float | None
    first_token_s: float | None
    tokens: int | None
    tokens_per_s: float | None
    total_s: float | None
    reads: int | None = None
    fetches: int | None = None
    bytes_read: int | None = None
    bytes_fetched: int | None = None
    verdict: str = ""
    host: str = ""
    kernel: str = ""
    client_version: str = ""
    cvtrace_version: str = ""
    trace: str = ""
    classes: dict[str, float] = field(default_factory=dict)
    """Label of a class of time -> seconds; empty for an untraced run."""

    @property
    def counts(self) -> bool:
        """Whether statistics may use it."""
        return self.verified and self.exit_code == 0

    def row(self) -> dict[str, Any]:
        """Return the run as a row of the table: `classes` as one column each."""
        values = {name: value for name, value in vars(self).items() if name != "classes"}
        trace = values.pop("trace")
        return values | {f"{label}_s": self.classes.get(label) for label in LABELS} | {"trace": trace}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Run:
        """Return the run of a row; unknown columns are left out. Raises KeyError, TypeError."""
        classes = {label: row[f"{label}_s"] for label in LABELS if row.get(f"{label}_s") is not None}
        known = {name: row[name] for name in cls.__dataclass_fields__ if name in row and name != "classes"}
        return cls(**known, classes=classes)


@dataclass(frozen=True)
class Statistic:
    """One figure over the runs of a cell: `quartiles` are its spread, `interval` holds its median with 95 % (bootstrap).

    `ratio_to_local` divides the median by the one of the state `local` of the same variant and sweep value; `ratio_interval` holds it with 95 %.
    """

    n: int
    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]
    ratio_to_local: float | None = None
    ratio_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class SummaryRow:
    """The runs of one variant, sweep value and state; `left_out` were not verified or failed. A figure without runs is None."""

    variant: str
    sweep_value: float | None
    state: str
    n: int
    left_out: int
    load_s: Statistic | None
    first_token_s: Statistic | None
    tokens_per_s: Statistic | None
    total_s: Statistic | None

    def statistic(self, metric: str) -> Statistic | None:
        """Return the statistic of one of METRICS."""
        value: Statistic | None = getattr(self, metric)
        return value


@dataclass(frozen=True)
class Coefficient:
    """A term of a law, and what it multiplies, with a 95 % interval; `unit` is that of the value."""

    name: str
    value: float
    interval: tuple[float, float]
    unit: str


@dataclass(frozen=True)
class HeldOut:
    """What a law that was fitted without one value of the sweep predicts for it, and what was measured there."""

    sweep_value: float | None
    variant: str
    predicted_s: float
    interval: tuple[float, float]
    measured_s: float
    error: float
    """(predicted - measured) / measured."""


@dataclass(frozen=True)
class Law:
    """load = sum of coefficient x predictor, fitted for one state. `note` says what could not be fitted, and why."""

    state: str
    variant: str
    """Empty for a law over variants."""
    formula: str
    coefficients: tuple[Coefficient, ...]
    n: int
    residual_s: float
    """Median of the absolute difference of fit and measurement."""
    held_out: HeldOut | None = None
    note: str = ""


@dataclass(frozen=True)
class Variant:
    """What one variant runs: `argv` as it was given."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """The axis of a sweep, and its values in the unit of `unit`."""

    axis: str
    values: tuple[float, ...]
    unit: str = ""


@dataclass(frozen=True)
class Cell:
    """The files that a variant uses at a value of the sweep, and the objects that a client fetches for them."""

    variant: str
    sweep_value: float | None
    paths: tuple[str, ...]
    files: int
    bytes: int
    objects: int | None


@dataclass(frozen=True)
class TracingCost:
    """What tracing cost in one state: the median of traced runs divided by that of untraced ones."""

    variant: str
    sweep_value: float | None
    state: str
    traced: int
    untraced: int
    load_ratio: float | None
    total_ratio: float | None


@dataclass(frozen=True)
class BenchInfo:
    """What bench.json says besides its summary."""

    created: str
    command: tuple[str, ...]
    seed: int
    repeats: int
    states: tuple[str, ...]
    variants: tuple[Variant, ...]
    sweep: Sweep | None
    host: str
    versions: dict[str, str]
    trace_all: bool = False
    lab: dict[str, str] = field(default_factory=dict)
    """Options of the lab that the experiment ran on; empty for mounts of the user."""
    cells: tuple[Cell, ...] = ()
    finished: bool = False
    settings: str = ""
    """What a later command has to be equal to, to continue this folder."""


@dataclass(frozen=True)
class Bench:
    """A bench folder."""

    path: Path
    info: BenchInfo
    runs: tuple[Run, ...]
    summary: tuple[SummaryRow, ...]
    cost: tuple[TracingCost, ...]
    laws: tuple[Law, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what bench.json holds."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            **asdict(self.info),
            "summary": [asdict(row) for row in self.summary],
            "cost": [asdict(row) for row in self.cost],
            "laws": [asdict(law) for law in self.laws],
        }
