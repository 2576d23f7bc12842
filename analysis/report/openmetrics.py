"""A run as OpenMetrics text (https://github.com/prometheus/OpenMetrics): for a Pushgateway or a node exporter's textfile collector.

Files, fetches and requests are not told: their names are too many for labels.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from cvtrace.analysis.contract.columns import PHASES
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.verdict_schema import ANSWERS
from cvtrace.analysis.report.names import printable

UNITS: Final = {"s": "seconds", "bytes": "bytes"}
QUANTILES: Final = (0.5, 0.9, 0.99)

Sample = tuple[dict[str, str], float | int]


def render(report: Report) -> str:
    """Return the text, from the first family to `# EOF`."""
    return "".join(
        f"{line}\n" for line in [*_run(report), *_phases(report), *_tokens(report), *_checks(report), "# EOF"]
    )


def _run(report: Report) -> Iterator[str]:
    trace, verdict = report.trace, report.verdict
    labels = {
        "target": " ".join(trace.target),
        "host": trace.host,
        "probes": trace.probes,
        "started": trace.started,
        "cache_state": report.cache_state or "",
    }
    yield from _family("cvtrace_run", "info", "The recording.", [(labels, 1)], suffix="_info")
    mounts = [
        ({"path": each.path, "fqrn": each.fqrn, "client": each.client, "version": each.version}, 1)
        for each in trace.mounts
        if each.used
    ]
    yield from _family("cvtrace_mount", "info", "A mount that the target used.", mounts, suffix="_info")
    name = "cvtrace_generation_hits_cvmfs"
    states: list[Sample] = [({name: each}, int(each == verdict.generation_hits_cvmfs)) for each in ANSWERS]
    yield from _family(name, "stateset", "Whether generating tokens hits CVMFS.", states)
    yield from _gauge(
        "cvtrace_run_duration", "s", "Time from the start to the end of the target.", [({}, trace.duration_s)]
    )
    yield from _gauge("cvtrace_events", "n", "Events recorded.", [({}, trace.events)])
    yield from _gauge("cvtrace_events_lost", "n", "Events lost.", [({}, trace.lost)])
    if trace.exit_code is not None:
        yield from _gauge("cvtrace_exit_code", "n", "Exit code of the target.", [({}, trace.exit_code)])
    figures = {
        "fuse_reads": ("n", "READ requests of generation."),
        "http_fetches": ("n", "GETs of generation."),
        "http_bytes": ("bytes", "Size of the bodies fetched in generation, as transferred (compressed)."),
        "blocked_s": ("s", "Time that generation was blocked on CVMFS."),
    }
    for column, (unit, meaning) in figures.items():
        yield from _gauge(f"cvtrace_generation_{_bare(column)}", unit, meaning, _observed({}, getattr(verdict, column)))


def _phases(report: Report) -> Iterator[str]:
    times: list[Sample] = [
        ({"phase": row.name, "class": name}, spent) for row in report.phases for name, spent in row.classes.items()
    ]
    yield from _gauge("cvtrace_phase_class", "s", "Wall time of the phase by class; adds up to its wall time.", times)
    for column, (unit, meaning) in PHASES.items():
        if unit not in ("s", "n", "bytes"):
            continue
        samples = [each for row in report.phases for each in _observed({"phase": row.name}, getattr(row, column))]
        yield from _gauge(f"cvtrace_phase_{_bare(column)}", unit, f"{meaning[0].upper()}{meaning[1:]}.", samples)


def _tokens(report: Report) -> Iterator[str]:
    walls = np.array([token.wall_s for token in report.tokens], dtype=np.float64)
    if not len(walls):
        return
    name = "cvtrace_token_seconds"
    yield from _head(name, "summary", "s", "Wall time of GenerateNextToken.")
    for quantile, value in zip(QUANTILES, np.quantile(walls, QUANTILES).tolist(), strict=True):
        yield _sample(name, {"quantile": str(quantile)}, value)
    yield _sample(f"{name}_count", {}, len(walls))
    yield _sample(f"{name}_sum", {}, float(walls.sum()))


def _checks(report: Report) -> Iterator[str]:
    traced = [({"what": each.name}, each.traced) for each in report.checks if each.traced is not None]
    yield from _gauge("cvtrace_traced", "n", "Count in the trace, over the whole run.", traced)
    of_client = [({"what": each.name}, each.client) for each in report.checks]
    yield from _gauge("cvtrace_counted_by_client", "n", "Count of the client, over the whole run.", of_client)


def _bare(column: str) -> str:
    """Return a column's name without its unit, which a metric carries in its own way."""
    return column.removesuffix("_s").removesuffix("_bytes")


def _observed(labels: dict[str, str], value: float | int | None) -> list[Sample]:
    return [] if value is None else [(labels, value)]


def _gauge(name: str, unit: str, meaning: str, samples: Sequence[Sample]) -> Iterator[str]:
    name = f"{name}_{UNITS[unit]}" if unit in UNITS else name
    yield from _family(name, "gauge", meaning, samples, unit=unit)


def _family(
    name: str, kind: str, meaning: str, samples: Sequence[Sample], unit: str = "", suffix: str = ""
) -> Iterator[str]:
    if samples:
        yield from _head(name, kind, unit, meaning)
        yield from (_sample(name + suffix, labels, value) for labels, value in samples)


def _head(name: str, kind: str, unit: str, meaning: str) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit in UNITS:
        yield f"# UNIT {name} {UNITS[unit]}"
    yield f"# HELP {name} {_escaped(meaning)}"


def _sample(name: str, labels: dict[str, str], value: float | int) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
