"""Rows of the report on programs that generate no tokens: imports, runs of a session, folders. Part of the contract: see report_schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Import:
    """A module that a Python process of the target imported, as far as its interpreter marked that.

    What begins with `self_` is without the modules that it imported in turn, the rest is with them. `imported_by` is the module in whose
    import this one began, None for what a script imports itself. `count` are the tries, which may have `failed`. `blocked_s` was waited
    for CVMFS, `lookups` are FUSE requests for names and attributes. Counts are None where the probe sees no requests.
    """

    module: str
    process: int
    start_s: float
    wall_s: float
    self_s: float
    blocked_s: float | None
    self_blocked_s: float | None
    opens: int | None
    lookups: int | None
    reads: int | None
    read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None
    self_opens: int | None
    self_lookups: int | None
    self_reads: int | None
    self_read_bytes: int | None
    self_http_fetches: int | None
    self_http_bytes: int | None
    imported_by: str | None
    count: int
    failed: int


@dataclass(frozen=True)
class ImportedPackage:
    """The modules of one package (the first part of their names) together, over all processes.

    `wall_s` and `blocked_s` are those of imports of the package with all that it imported; what begins with `self_`, and the counts, are
    of its own modules only, so that they add up over packages.
    """

    package: str
    modules: int
    processes: int
    wall_s: float
    self_s: float
    blocked_s: float | None
    self_blocked_s: float | None
    opens: int | None
    lookups: int | None
    reads: int | None
    read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None


@dataclass(frozen=True)
class Run:
    """One call of `run` of a session of plain onnxruntime, and what it needed of CVMFS; `process` made the call."""

    index: int
    process: int
    start_s: float
    wall_s: float
    network_s: float
    cache_s: float
    compute_s: float
    other_s: float
    unattributed_s: float
    blocked_s: float | None
    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None


@dataclass(frozen=True)
class Folder:
    """A folder on a mount: the requests about what lies right in it, and with `total_` those about all that lies below it.

    `path` is empty for requests about what was never seen by name. `lookups` are requests for names and attributes, `files` those that
    were opened or read.
    """

    path: str
    requests: int
    lookups: int
    opens: int
    reads: int
    read_bytes: int
    http_fetches: int
    http_bytes: int
    blocked_s: float
    files: int
    total_requests: int
    total_http_fetches: int
    total_http_bytes: int
    total_blocked_s: float
