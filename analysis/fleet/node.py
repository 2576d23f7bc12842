"""One trace of a fleet: the analysis of `cvtrace report`, and what of it travels: a few tables of at most some hundred rows each."""

import re
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import GROUP_COLUMNS, LABELS
from cvtrace.analysis.contract.fleet_columns import LOAD_BIN_NS, NO_WORK
from cvtrace.analysis.contract.quantities import script
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.storage_schema import Fetch
from cvtrace.analysis.fleet import clocks
from cvtrace.analysis.fleet.part import Part, part, skipped
from cvtrace.analysis.fleet.places import labels_of
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.summary.assemble import Analysis, full_analysis
from cvtrace.analysis.trace.intervals import Ints, ints
from cvtrace.tracer.errors import TraceDamaged
from cvtrace.tracer.store import Trace, read_trace

Also = Callable[[Analysis, str], None]
"""What else is to be done with the analysis of a trace, on the machine where it is made: (analysis, path)."""

OBJECT: Final = re.compile(r"/data/([0-9a-f]{2})/([0-9a-f]{36,}(?:-[a-z0-9]+)?[A-Z]?)$")
PART_OF: Final = "Part of "
"""How the client names a chunk of a file to its quota manager."""
ADDRESS_NOT_SEEN: Final = "(address not seen)"
"""Of a proxy to which the client had connected before the recording began."""
BINS: Final = 128
MOST_BINS_OF_GET: Final = 1 << 14
"""18 minutes: no GET waits for longer."""
MOST_BINS: Final = 1 << 22
"""Of all GETs of a trace."""
NEAR_PROXY: Final = "near_proxy"


def tables_of(path: str, also: Also | None = None) -> Part:
    """Analyse the trace at a path and return its tables; of one that cannot be, why. Never raises."""
    try:
        trace = read_trace(path)
        if trace.damage is not None:
            return skipped(path, trace.damage)
        analysis = full_analysis(trace)
        tables = part(**_tables(path, trace, analysis))
        if also is not None:
            also(analysis, path)
    except TraceDamaged as error:
        return skipped(path, _without_path(str(error), path))
    except MemoryError:
        return skipped(path, "there is not enough memory for it")
    except Exception as error:  # one trace must not end the fleet
        first = (str(error).splitlines() or [""])[0]
        return skipped(path, f"its analysis failed with {type(error).__name__}: {first}; `cvtrace report` shows where")
    return tables


def _without_path(sentence: str, path: str) -> str:
    """Return a sentence about a trace without its path, which stands beside it."""
    for prefix in (f"cannot read {path}: ", f"{path} is ", f"{path}: "):
        if sentence.startswith(prefix):
            return sentence.removeprefix(prefix)
    return sentence


def _tables(path: str, trace: Trace, analysis: Analysis) -> dict[str, Any]:
    report, study = analysis.report, analysis.study
    offset = clocks.wall_offset_ns(trace)
    start_ns = life(study.recording)[0] + offset
    gets = _Gets(report.fetches, start_ns, _paths(report))
    return {
        "nodes": {name: [value] for name, value in _node(path, trace, report, start_ns, gets).items()},
        "classes": _classes(path, report),
        "activity": _activity(path, study, offset),
        "objects": gets.objects(),
        "files": gets.files(),
        "load": gets.load(),
    }


class _Gets:
    """The GETs of a trace as columns, times in ns of the wall clock."""

    def __init__(self, rows: Iterable[Fetch], start_ns: int, paths: list[str]) -> None:
        self.rows = list(rows)
        self.begin = start_ns + self._ns("start_s")
        self.queue, connect, request = self._ns("queue_s"), self._ns("connect_s"), self._ns("request_s")
        transfer = self._ns("transfer_s")
        self.network = connect + request + transfer
        self.sent = self.begin + self.queue + connect
        self.first = self.sent + request
        self.last = self.first + transfer
        self.bytes = ints([row.bytes for row in self.rows])
        self.proxy = [row.proxy or (ADDRESS_NOT_SEEN if "://" in row.url else "") for row in self.rows]
        self.path = paths

    def _ns(self, name: str) -> Ints:
        return np.rint(np.array([getattr(row, name) for row in self.rows], dtype=np.float64) * 1e9).astype(np.int64)

    def objects(self) -> dict[str, Any]:
        """Return the rows of `objects`."""
        names = [_object(row) for row in self.rows]
        keys, of = _numbered(list(zip(names, self.path, strict=True)))
        first = np.full(len(keys), np.iinfo(np.int64).max)
        np.minimum.at(first, of, self.begin)
        return {
            "object": [name for name, _ in keys],
            "path": [path for _, path in keys],
            **self._sums(of, len(keys)),
            "queue_ns": _sum(of, self.queue, len(keys)),
            "first_unix_ns": first,
        }

    def files(self) -> dict[str, Any]:
        """Return the rows of `files`."""
        keys, of = _numbered(self.path)
        return {"path": keys, **self._sums(of, len(keys))}

    def _sums(self, of: Ints, count: int) -> dict[str, Ints]:
        return {
            "nodes": np.ones(count, dtype=np.int64),
            "fetches": np.bincount(of, minlength=count),
            "bytes": _sum(of, self.bytes, count),
            "network_ns": _sum(of, self.network, count),
        }

    def load(self) -> dict[str, Any]:
        """Return the rows of `load`."""
        proxies, of = _numbered(self.proxy)
        rows: dict[tuple[int, int], list[int]] = {}
        starts = zip(of.tolist(), (self.begin // LOAD_BIN_NS).tolist(), self.bytes.tolist(), strict=True)
        for proxy, place, size in starts:
            row = rows.setdefault((proxy, place), [0, 0, 0, 0])
            row[0] += 1
            row[1] += size
        for column, begin, end in ((2, self.sent, self.first), (3, self.first, self.last)):
            which, place, length = _spread(begin, end)
            for proxy, at, ns in zip(of[which].tolist(), place.tolist(), length.tolist(), strict=True):
                rows.setdefault((proxy, at), [0, 0, 0, 0])[column] += ns
        keys = sorted(rows)
        columns = ints([rows[key] for key in keys]).reshape(-1, 4).T
        return {
            "proxy": [proxies[proxy] for proxy, _ in keys],
            "bin_unix_ns": ints([place for _, place in keys]) * LOAD_BIN_NS,
            **dict(zip(("started", "bytes", "waiting_ns", "transfer_ns"), columns, strict=True)),
        }


def _paths(report: Report) -> list[str]:
    """Return the file that each GET is of, as every node has it: /cvmfs/REPOSITORY/PATH, wherever the node has mounted the repository."""
    mounts = [mount for mount in report.trace.mounts if mount.used and mount.fqrn]
    paths = []
    for row in report.fetches:
        path = row.path.removeprefix(PART_OF)
        for mount in mounts:
            if path == mount.path or path.startswith(f"{mount.path}/"):
                path = f"/cvmfs/{mount.fqrn}{path.removeprefix(mount.path)}"
                break
        else:
            if (
                path.startswith("/") and not path.startswith("/cvmfs/") and len(mounts) == 1
            ):  # the client names files from the root of the repository
                path = f"/cvmfs/{mounts[0].fqrn}{path}"
        paths.append(path)
    return paths


def _spread(begin: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Cut intervals at the borders of bins of `load`: which interval, its bin, and how long it is in it."""
    end = np.maximum(begin, end)
    first = begin // LOAD_BIN_NS
    count = np.minimum(end // LOAD_BIN_NS - first + 1, MOST_BINS_OF_GET)
    if count.sum() > MOST_BINS:
        count = np.minimum(count, MOST_BINS // len(count) + 1)
    which = np.repeat(np.arange(len(begin)), count)
    place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    length = np.minimum(end[which], (place + 1) * LOAD_BIN_NS) - np.maximum(begin[which], place * LOAD_BIN_NS)
    there = length > 0
    return which[there], place[there], length[there]


def _numbered(names: list[Any]) -> tuple[list[Any], Ints]:
    """Return the distinct names in order, and the number of each."""
    distinct = sorted(set(names))
    place = {name: number for number, name in enumerate(distinct)}
    return distinct, ints([place[name] for name in names])


def _sum(of: Ints, amount: Ints, count: int) -> Ints:
    total = np.zeros(count, dtype=np.int64)
    np.add.at(total, of, amount)
    return total


def _object(row: Fetch) -> str:
    """Return what a GET is for: a hash with its suffix, or the last part of the URL; over HTTPS it is not known."""
    match = OBJECT.search(row.url)
    return match[1] + match[2] if match else row.url.rpartition("/")[2]


def _classes(path: str, report: Report) -> dict[str, Any]:
    rows = [
        (row.name, name, round(spent * 1e9))
        for row in report.phases
        for name, spent in row.classes.items()
        if spent > 0
    ]
    phases, classes, times = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
    return {"trace": [path] * len(rows), "phase": phases, "class": classes, "time_ns": times}


def _activity(path: str, study: Study, offset: int) -> dict[str, Any]:
    """Return how long each class took in each stretch of time; stretches are the same on all nodes, or nest."""
    pieces = study.critical_path
    empty: dict[str, Any] = {name: [] for name in ("trace", "bin_unix_ns", "width_ns", "class", "time_ns")}
    if not len(pieces.start):
        return empty
    start, end = pieces.start + offset, pieces.end + offset
    since, until = int(start.min()), int(end.max())
    width = 1 << max((until - since) // BINS, 1).bit_length()
    edges = np.arange(since // width, until // width + 2, dtype=np.int64) * width
    bins, classes, times = [], [], []
    for value in np.unique(pieces.value).tolist():
        of_class = pieces.value == value
        spent = np.diff(_elapsed(start[of_class], end[of_class], edges))
        there = np.flatnonzero(spent)
        bins.append(edges[there])
        times.append(spent[there])
        classes += [LABELS[value]] * len(there)
    return {
        "trace": [path] * len(classes),
        "bin_unix_ns": np.concatenate(bins),
        "width_ns": [width] * len(classes),
        "class": classes,
        "time_ns": np.concatenate(times),
    }


def _elapsed(start: Ints, end: Ints, edges: Ints) -> Ints:
    """Return how much of all intervals lies before each edge. Sums may run over, and run back: the difference is exact."""
    total = np.zeros(len(edges), dtype=np.int64)
    for sign, side in ((1, np.sort(start)), (-1, np.sort(end))):
        sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(side)])
        count = np.searchsorted(side, edges)
        total += sign * (count * edges - sums[count])
    return total


def _node(path: str, trace: Trace, report: Report, start_ns: int, gets: _Gets) -> dict[str, Any]:
    info, verdict, cache = report.trace, report.verdict, report.client_cache
    heads = clocks.answers(trace)
    warm_s, saves_s = _warm_proxy(report)
    proxies = [each for each in gets.proxy if each]
    is_seen = (
        report.fetching is not None
    )  # else no request could be observed, and nothing is known of what was waited for
    times: dict[str, float | None] = {name: sum(getattr(row, name) for row in report.phases) for name in GROUP_COLUMNS}
    return {
        "trace": path,
        "host": info.host,
        "labels": labels_of(path),
        "script": script(info.target),
        "started": info.started,
        "start_unix_ns": start_ns,
        **{name: getattr(info, name) for name in ("probes", "events", "lost", "exit_code", "signal")},
        "question": verdict.question,
        "answer": verdict.answer,
        "cache_state": report.cache_state,
        "duration_s": info.duration_s,
        "work_s": _work(report),
        "load_s": _wall(report, "load"),
        "first_token_s": _first_token(report),
        "tokens": verdict.tokens,
        "tokens_per_s": _tokens_per_s(report),
        "blocked_s": verdict.blocked_s,
        **(times if is_seen else {**times, "network_s": None, "cache_s": None}),
        "fetches": len(gets.rows) if is_seen else _counted(report, "http_fetches"),
        "fetched_bytes": int(gets.bytes.sum()) if is_seen else _counted(report, "http_bytes"),
        "first_fetch_unix_ns": int(gets.begin.min()) if gets.rows else None,
        "proxy": max(sorted(set(proxies)), key=proxies.count) if proxies else None,
        "proxy_hits": heads.hits,
        "proxy_misses": heads.misses,
        "warm_proxy_s": warm_s,
        "warm_proxy_saves_s": saves_s,
        **{
            name: getattr(cache, name) if cache and is_seen else None
            for name in (
                "quota_bytes",
                "working_set_bytes",
                "evicted",
                "fetched_again",
                "fetched_again_bytes",
                "thrash",
            )
        },
        "clock_low_s": heads.bounds.low_s,
        "clock_high_s": heads.bounds.high_s,
        "clock_error_s": clocks.clock_error_s(trace),
    }


def _counted(report: Report, name: str) -> int | None:
    """Return what the client's own counters say of all phases, None where they were not read."""
    numbers = [number for row in report.phases if (number := getattr(row, name)) is not None]
    return sum(numbers) if numbers else None


def _wall(report: Report, phase: str) -> float | None:
    walls = [row.wall_s for row in report.phases if row.name == phase]
    return sum(walls) if walls else None


def _work(report: Report) -> float:
    walls = [row.wall_s for row in report.phases if row.name not in NO_WORK]
    return sum(walls) if walls else report.trace.duration_s


def _first_token(report: Report) -> float | None:
    times = [answer.first_token_s for answer in report.answers if answer.first_token_s is not None]
    return median(times) if times else None


def _tokens_per_s(report: Report) -> float | None:
    verdict = report.verdict
    firsts = sum(answer.first_token_s is not None for answer in report.answers)
    further = (verdict.tokens or 0) - firsts
    part_of = verdict.further_tokens
    return further / part_of.wall_s if part_of is not None and part_of.wall_s and further > 0 else None


def _warm_proxy(report: Report) -> tuple[float | None, float | None]:
    """Return the predicted time of all phases behind a proxy that has everything, and what that saves."""
    predictions = report.what_if.predictions if report.what_if else ()
    near = next((each for each in predictions if each.name == NEAR_PROXY and each.wall_s is not None), None)
    if near is None or near.wall_s is None:
        return None, None
    return near.wall_s, sum(row.measured_s for row in near.phases) - near.wall_s
