"""The table of phases in the summary: no column and no cell of what is zero or was not observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.contract.classes import GROUPS, Class
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.analysis.joins.phases import NAMES
from cvtrace.analysis.report.lines import columns, fitted

LONGEST_NAME: Final = 18
"""Of a phase that a script named."""
MAIN: Final = ("load", "prefill", "decode", "run")
"""Phases that are never put together with others."""
NOTHING: Final = "–"


@dataclass(frozen=True)
class _Row:
    name: str
    wall_s: float
    times: tuple[float, ...]
    counts: tuple[int, int]

    def __add__(self, other: "_Row") -> "_Row":
        times = tuple(a + b for a, b in zip(self.times, other.times, strict=True))
        counts = (self.counts[0] + other.counts[0], self.counts[1] + other.counts[1])
        return _Row(self.name, self.wall_s + other.wall_s, times, counts)


SHOWN_AS: Final = {"cache": ("cache", "pages"), "unattributed": ("unknown",)}
"""Groups of classes whose columns have other names."""
TIMES: Final = tuple(name for group in GROUPS for name in SHOWN_AS.get(group, (group,)))
"""`network` and `cache` together are what was waited for CVMFS; `pages` is the kernel's work on pages that were in memory (cache.page)."""
WORTH: Final = 0.005
"""Share of a row from which on its work on pages is shown."""
COUNTS: Final = ("reads", "fetched")


def table(report: Report, width: int, most: int) -> list[str]:
    """Return heading and rows, together at most `most` lines; what is least waited for goes into one row at the end."""
    phases = [row for row in report.phases if row.wall_s]
    if not phases or most < 2:
        return []
    rows = _put_together(phases, most - 1)
    times = [place for place in range(len(TIMES)) if any(seconds(row.times[place]) != "0 s" for row in rows)]
    counts = [place for place in range(len(COUNTS)) if any(row.counts[place] for row in rows)]
    head = ["phase", "wall", *(TIMES[place] for place in times), *(COUNTS[place] for place in counts)]
    cells = [
        [row.name, seconds(row.wall_s), *(_time(row.times[place]) for place in times)]
        + [_count(row.counts[place], COUNTS[place]) for place in counts]
        for row in rows
    ]
    return columns([head, *cells], width)


def _put_together(phases: Sequence[Phase], most: int) -> list[_Row]:
    """Return a row for each phase; of more than `most`, the last one is the sum of those that matter least."""
    if len(phases) <= most:
        return [_row(phase) for phase in phases]
    weight = [(phase.name in MAIN, phase.network_s + phase.cache_s, phase.wall_s) for phase in phases]
    order = sorted(range(len(phases)), key=weight.__getitem__, reverse=True)
    separate, merged = sorted(order[: most - 1]), sorted(order[most - 1 :])
    total = _row(phases[merged[0]])
    for place in merged[1:]:
        total += _row(phases[place])
    name = f"{len(merged)} other phases" if separate else f"{len(merged)} phases"
    return [*(_row(phases[place]) for place in separate), _Row(name, total.wall_s, total.times, total.counts)]


def _row(phase: Phase) -> _Row:
    is_seen = phase.fuse_requests is not None
    pages = phase.classes[Class.CACHE_PAGE.label]
    cache_s = max(phase.cache_s - pages, 0.0)
    pages_s = pages if pages > WORTH * phase.wall_s else 0.0
    spent_s = {group: getattr(phase, f"{group}_s") for group in GROUPS}
    spent_s |= {"cache": cache_s, "pages": pages_s, "unknown": phase.unattributed_s}
    times = tuple(spent_s[name] for name in TIMES)
    return _Row(
        _name(phase),
        phase.wall_s,
        times if is_seen else (0.0,) * len(times),
        (phase.fuse_reads or 0, phase.http_bytes or 0),
    )


def _name(phase: Phase) -> str:
    name = fitted(phase.name, LONGEST_NAME)
    several = phase.name in ("decode", "run") or (phase.name not in NAMES and phase.count > 1)
    return f"{name} ×{phase.count:,}" if several else name


def _time(spent_s: float) -> str:
    return seconds(spent_s) if spent_s else NOTHING


def _count(number: int, column: str) -> str:
    if not number:
        return NOTHING
    return size(number) if column == "fetched" else f"{number:,}"
