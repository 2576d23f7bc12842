"""The summary for the terminal: the answer, its proof, a table of phases, the state of the caches, the agreement."""

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cvtrace.analysis.assemble import analyse
from cvtrace.analysis.model import MountInfo, Phase, Report
from cvtrace.analysis.report.quantities import counted, seconds, size
from cvtrace.tracer.store import read_trace

COLOURS: Final = {"yes": "bold red", "no": "bold green", "inconclusive": "bold yellow"}
CHECKS: Final = {"fuse_reads": "reads", "opens": "opens", "http_fetches": "downloads", "http_bytes": "bytes"}
CAUSES: Final = {
    "first_touch": "first touch of a page",
    "evicted_page": "evicted page",
    "evicted_object": "object evicted from the client's cache",
    "new_file": "opened file",
    "metadata": "path lookup",
}
TOP_CLASSES: Final = 3
SHOWN_MOUNTS: Final = 3
COLUMNS: Final = 80
"""Width in a pipe, and the least in a terminal."""


def render(report: Report, width: int = COLUMNS, color: bool = False) -> str:
    """Return the summary as lines of at most `width` columns, with ANSI colours if wanted."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(Text(_title(report)))
    console.print()
    _answer(console, report)
    if report.phases:
        console.print()
        console.print(_phases(report))
    console.print()
    for line in (*_time_lines(report), *_cache_lines(report), *_agreement(report), *_lacking(report)):
        console.print(Padding(Text(line), (0, 0, 0, 0)))
    console.print(
        Text(f"Full report: cvtrace report {report.trace.path} --format json", no_wrap=True, overflow="ignore")
    )
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def summary(path: Path) -> str:
    """Return the summary of the trace at `path`, as wide and as colourful as stderr is. Raises TraceDamaged."""
    terminal = sys.stderr.isatty()
    width = max(shutil.get_terminal_size().columns, COLUMNS) if terminal else COLUMNS
    return render(analyse(read_trace(path)), width, color=terminal and "NO_COLOR" not in os.environ)


def _title(report: Report) -> str:
    trace = report.trace
    parts = [
        _script(trace.target),
        _mounts(trace.mounts),
        f"probes: {trace.probes}",
        f"{trace.events:,} events, {trace.lost:,} lost",
    ]
    return " · ".join(parts)


def _script(argv: tuple[str, ...]) -> str:
    """Return the name of the script, also of one that a wrapper (sh -c …, python) is given, else of the program."""
    if not argv:
        return "a running process"
    scripts = (word for word in argv if word.endswith(".py") and "\n" not in word)
    return next(scripts, argv[0]).rpartition("/")[2]


def _mounts(mounts: tuple[MountInfo, ...]) -> str:
    """Return the mounts the target used; if it used none, the first of all."""
    used = [
        f"{each.fqrn or each.path} ({each.client} {each.version}, pid {each.daemon_pid})"
        for each in mounts
        if each.used
    ]
    if used:
        return f"CVMFS: {', '.join(used)}"
    names = [each.fqrn or each.path for each in mounts]
    if len(names) > SHOWN_MOUNTS:
        names = [*names[:SHOWN_MOUNTS], f"{len(names) - SHOWN_MOUNTS} more"]
    return f"CVMFS not used ({', '.join(names)})" if names else "no CVMFS mount observed"


def _answer(console: Console, report: Report) -> None:
    verdict = report.verdict
    answer = verdict.generation_hits_cvmfs
    line = Text("Does generation hit CVMFS?  ", style="bold")
    console.print(line.append(answer.upper(), style=COLOURS[answer]))
    lines = []
    if verdict.tokens:
        lines.append(
            f"{counted(verdict.tokens, 'token')}: {counted(verdict.fuse_reads, 'read')}, "
            f"{counted(verdict.http_fetches, 'fetch')}, {seconds(verdict.blocked_s)} blocked on /cvmfs."
        )
    if answer == "yes":
        lines.append(_how(report))
    if answer == "inconclusive":
        lines += [f"Why: {reason}." for reason in verdict.missing]
    if verdict.proof and verdict.tokens:
        lines.append(f"{'Proof' if answer != 'inconclusive' else 'Known'}: {'; '.join(verdict.proof)}.")
    if answer == "yes" and verdict.missing:
        lines.append(f"At least that; not certain: {'; '.join(verdict.missing)}.")
    for each in lines:
        console.print(Padding(Text(each), (0, 0, 0, 2)))


def _how(report: Report) -> str:
    verdict = report.verdict
    affected = verdict.tokens_affected
    shown = ", ".join(str(index) for index in affected[:8]) + (" …" if len(affected) > 8 else "")
    why = ", ".join(f"{CAUSES.get(name, name)} ×{count:,}" for name, count in verdict.causes.items())
    read, fetched = size(verdict.fuse_read_bytes), size(verdict.http_bytes)
    whom = f"{counted(len(affected), 'token')} affected ({shown})" if affected else "between tokens"
    return f"{whom}: {read} read, {fetched} fetched. Why: {why}."


def _phases(report: Report) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("phase", no_wrap=True)
    for name in ("wall", "network", "cache", "compute", "other", "reads"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("page/disk/net", justify="right", no_wrap=True)
    table.add_column("fetched", justify="right", no_wrap=True)
    for row in report.phases:
        name = f"{row.name} ×{row.count:,}" if row.name == "decode" else row.name
        times = (row.wall_s, row.network_s, row.cache_s, row.compute_s, row.other_s)
        table.add_row(
            name, *(seconds(each) for each in times), f"{row.fuse_reads:,}", _sources(row), size(row.http_bytes)
        )
    return table


def _sources(row: Phase) -> str:
    """Return where the bytes came from, in percent: page cache, client's disk cache, network."""
    parts = (row.page_cache_bytes, row.disk_bytes, row.network_bytes)
    total = sum(parts)
    if not total:
        return "–"
    shares = [round(100 * part / total) for part in parts]
    return "/".join(str(share) for share in shares) + " %"


def _time_lines(report: Report) -> list[str]:
    lines = []
    for row in report.phases:
        waiting = row.network_s + row.cache_s
        if row.wall_s and waiting > 0.02 * row.wall_s and row.name not in ("import", "script"):
            top = sorted(row.classes.items(), key=lambda item: -item[1])[:TOP_CLASSES]
            lines.append(
                f"Time of {row.name}: " + ", ".join(f"{name} {seconds(spent)}" for name, spent in top if spent) + "."
            )
    if report.tokens:
        walls = np.array([token.wall_s for token in report.tokens])
        middle, high = np.percentile(walls, [50, 99])
        total = float(walls.sum())
        rate = f", {len(walls) / total:,.1f} tokens/s" if total else ""
        lines.append(f"Per token: median {seconds(float(middle))}, p99 {seconds(float(high))}{rate}.")
    wall = sum(row.wall_s for row in report.phases)
    unknown = sum(row.unattributed_s for row in report.phases)
    share = f" ({100 * unknown / wall:.1f} %)" if wall else ""
    return [*lines, f"Unattributed: {seconds(unknown)}{share}."]


def _cache_lines(report: Report) -> list[str]:
    mine = [fetch for fetch in report.fetches if fetch.by_target]
    line = f"Cache state: {report.cache_state}."
    if mine:
        got = sum(fetch.bytes for fetch in mine)
        read = sum(row.fuse_read_bytes for row in report.phases)
        line += f"  {counted(len(mine), 'fetch')} {_together(report)}, {size(got)}"
        line += f"; {got / read:.1f}x of the {size(read)} read." if read else "."
    others = len(report.fetches) - len(mine)
    return [line, *([f"{counted(others, 'fetch')} for others or for the client itself."] if others else [])]


def _together(report: Report) -> str:
    """Tell how many GETs were under way at once."""
    mine = [fetch for fetch in report.fetches if fetch.by_target]
    sent = np.array([each.start_s + each.queue_s + each.connect_s for each in mine])
    until = sent + np.array([each.request_s + each.transfer_s + each.fill_s for each in mine])
    order = np.argsort(np.concatenate([until, sent]), kind="stable")
    steps = np.concatenate([-np.ones(len(mine)), np.ones(len(mine))])[order]
    most = int(np.cumsum(steps).max())
    return "one after the other" if most <= 1 else f"up to {most} at once"


def _agreement(report: Report) -> list[str]:
    if not report.checks:
        return []
    parts = [
        f"{CHECKS.get(check.name, check.name)} {check.traced:,} {'=' if check.agree else '≠'} {check.client:,}"
        for check in report.checks
    ]
    return [f"Agreement with {_client(report)}: {', '.join(parts)}."]


def _client(report: Report) -> str:
    return next((mount.client for mount in report.trace.mounts if mount.used), "cvmfs2")


def _lacking(report: Report) -> list[str]:
    briefly = [text.partition(":")[0].rstrip(".") for text in report.trace.missing]
    lines = [f"Not observed: {'; '.join(briefly)}."] if briefly else []
    if report.trace.damage:
        lines.append(f"Incomplete: {report.trace.damage}.")
    return lines
