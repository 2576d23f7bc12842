"""What the summary says in words: one function for each block, each returning lines of any length."""

import re
from typing import Final

import numpy as np

from cvtrace.analysis.contract.evidence_schema import Check
from cvtrace.analysis.contract.quantities import listed, pluralize, script, seconds, size
from cvtrace.analysis.contract.report_schema import MountInfo, Report, TraceInfo
from cvtrace.analysis.contract.verdict_schema import GENERATION, Verdict
from cvtrace.analysis.report import programs
from cvtrace.analysis.report.lines import NO_BREAK

CHECKS: Final = {"fuse_reads": "reads", "opens": "opens", "http_fetches": "downloads", "http_bytes": "bytes"}
CAUSES: Final = {
    "first_touch": "first touch of a page",
    "evicted_page": "evicted page",
    "evicted_object": "object evicted from the client's cache",
    "new_file": "opened file",
    "metadata": "path lookup",
    "catalog_expired": "new catalog",
    "streaming_cache": "streamed without being cached",
    "direct_io": "read that bypassed the page cache",
    "client_reloaded": "page dropped by a reload of the client",
}
CHUNK: Final = re.compile(r"/data/[0-9a-f]{2}/[0-9a-f]+(?:-[a-z0-9]+)?P$")
"""Path of a chunk's URL; other suffixes are catalogs, none is a whole file."""
TOP_CLASSES: Final = 3
SHOWN_MOUNTS: Final = 3
SHOWN_RANGES: Final = 8
LONG_PART: Final = 72
"""Characters from which on a part of the title may be broken."""
WORTH_A_LINE: Final = 0.02
"""Share of a phase's time on CVMFS from which on its classes are told."""


def title(report: Report) -> str:
    """Return script, mounts, probe and events."""
    trace = report.trace
    parts = [
        script(trace.target),
        _mounts(trace),
        f"probes: {trace.probes}",
        f"{trace.events:,} events, {trace.lost:,} lost",
    ]
    return " · ".join(part.replace(" ", NO_BREAK) if len(part) < LONG_PART else part for part in parts)


def _served_by(mount: MountInfo) -> str:
    if not mount.daemon_pid:
        return f"its {mount.client} was not found"
    return f"{mount.client} {mount.version}, pid {mount.daemon_pid}"


def _mounts(trace: TraceInfo) -> str:
    """Return the mounts the target used; if it used none, the first of all."""
    used = [f"{each.fqrn or each.path} ({_served_by(each)})" for each in trace.mounts if each.used]
    if used:
        return f"CVMFS: {', '.join(used)}"
    names = [each.fqrn or each.path for each in trace.mounts]
    if len(names) > SHOWN_MOUNTS:
        names = [*names[:SHOWN_MOUNTS], f"{len(names) - SHOWN_MOUNTS} more"]
    if not names:
        return "no CVMFS mount observed"
    return f"CVMFS not used {until_it_ended(trace)}({', '.join(names)})"


def until_it_ended(trace: TraceInfo) -> str:
    """Return what is said of a target that used no mount, where processes that it started go on: they may use one later."""
    count = len(trace.still_running)
    if not count:
        return ""
    return f"until it ended; {f'{count} processes' if count > 1 else 'a process'} it started still ran "


def answer(report: Report) -> list[str]:
    """Return what stands below the verdict: its numbers, its reasons, its proof."""
    verdict = report.verdict
    if verdict.question != GENERATION:
        return programs.answer(report)
    reply = verdict.generation_hits_cvmfs
    lines = _numbers(report)
    if reply == "yes" and verdict.blocked_s is not None:
        lines.append(_how(report))
        lines += _spinning(report)
    if reply == "inconclusive":
        lines += [f"Why: {reason}." for reason in verdict.missing]
    if verdict.proof and verdict.steps:
        lines.append(f"{'Proof' if reply != 'inconclusive' else 'Known'}: {'; '.join(verdict.proof)}.")
    if reply == "yes" and verdict.missing:
        lines.append(f"This is the minimum; uncertain: {'; '.join(verdict.missing)}.")
    return lines


def tokens_in_words(verdict: Verdict) -> str:
    """Return how many tokens were made, or by how many steps where the size of the batch is not known."""
    if verdict.tokens is None:
        return f"{pluralize(verdict.steps, 'step')} of a batch"
    return pluralize(verdict.tokens, "token")


def _numbers(report: Report) -> list[str]:
    verdict = report.verdict
    tokens = tokens_in_words(verdict)
    if verdict.fuse_reads is None or verdict.http_fetches is None or verdict.blocked_s is None:
        parts = [f"{tokens}."] if verdict.steps else []
        if report.checks:
            counts = ", ".join(_client_count(check) for check in report.checks)
            parts.append(f"Over the whole run {_client(report)} counted {counts} for all processes.")
        return [" ".join(parts)] if parts else []
    if not verdict.steps:
        return []
    return [
        f"{tokens}: {pluralize(verdict.fuse_reads, 'read')}, {pluralize(verdict.http_fetches, 'fetch')}, "
        f"{seconds(verdict.blocked_s)} blocked on /cvmfs."
    ]


def _client_count(check: Check) -> str:
    if check.name == "http_bytes":
        return size(check.client) if check.client else "0 bytes"
    return pluralize(check.client, CHECKS.get(check.name, check.name).removesuffix("s"))


def _how(report: Report) -> str:
    verdict = report.verdict
    affected = verdict.tokens_affected
    causes = ", ".join(f"{CAUSES.get(name, name)} ×{count:,}" for name, count in verdict.causes.items())
    read, fetched = size(verdict.fuse_read_bytes or 0), size(verdict.http_bytes or 0)
    who = f"{pluralize(len(affected), 'token')} affected ({listed(affected, SHOWN_RANGES)})"
    return f"{who if affected else 'between tokens'}: {read} read, {fetched} fetched. Why: {causes}."


def _spinning(report: Report) -> list[str]:
    """Tell of time on a CPU that may have been waiting, if it matters beside what was surely waiting."""
    verdict = report.verdict
    spun_s, wall_s = verdict.spin_overlap_s or 0.0, sum(token.wall_s for token in report.tokens)
    if spun_s <= WORTH_A_LINE * wall_s:
        return []
    return [
        f"Up to {seconds(spun_s)} more: for that time generation was on a CPU while another of its threads was blocked on /cvmfs; "
        "a thread pool that spins cannot be distinguished from one that computes."
    ]


def times(report: Report) -> list[str]:
    """Return where the time of each phase on CVMFS went, the time per token, and what no rule explains."""
    return [*phase_times(report), *token_times(report)]


def phase_times(report: Report) -> list[str]:
    """Return where the time of each phase on CVMFS went."""
    lines = []
    for row in report.phases:
        waiting = row.network_s + row.cache_s
        if row.wall_s and waiting > WORTH_A_LINE * row.wall_s and row.name not in ("import", "script"):
            top = sorted(row.classes.items(), key=lambda item: -item[1])[:TOP_CLASSES]
            lines.append(
                f"Time of {row.name}: " + ", ".join(f"{name} {seconds(spent)}" for name, spent in top if spent) + "."
            )
    return lines


def token_times(report: Report) -> list[str]:
    """Return the time per token, of operators, and what no rule explains."""
    lines = _starved(report)
    if report.tokens:
        walls = np.array([token.wall_s for token in report.tokens])
        middle, high = np.percentile(walls, [50, 99])
        total = float(walls.sum())
        rate = f", {len(walls) / total:,.1f} tokens/s" if total else ""
        lines.append(f"Per token: median {seconds(float(middle))}, p99 {seconds(float(high))}{rate}.")
    lines += operators(report)
    wall = sum(row.wall_s for row in report.phases)
    unknown = sum(row.unattributed_s for row in report.phases)
    share = f" ({100 * unknown / wall:.1f} %)" if wall else ""
    return [*lines, f"Unattributed: {seconds(unknown)}{share}."]


def _starved(report: Report) -> list[str]:
    """Tell where the client itself had no CPU."""
    return [
        f"In {seconds(row.daemon_starved_s)} of {row.name}, the CVMFS client was waiting for a CPU."
        for row in report.phases
        if row.daemon_starved_s and row.daemon_starved_s > WORTH_A_LINE * row.wall_s
    ]


def operators(report: Report) -> list[str]:
    """Tell the slowest operators of decode, or else of what there is."""
    for phase in ("decode", "run", "prefill"):
        rows = [row for row in report.operators if row.phase == phase]
        total = sum(row.time_s for row in rows)
        if total:
            top = ", ".join(f"{row.op_type} {100 * row.time_s / total:.0f} %" for row in rows[:TOP_CLASSES])
            return [f"Slowest operators in {phase}: {top} of {seconds(total)}."]
    return []


def caches(report: Report) -> list[str]:
    """Return how warm the caches were, and how the fetches went."""
    fetches = [fetch for fetch in report.fetches if fetch.by_target]
    line = f"Cache state: {report.cache_state or 'not observed'}."
    if fetches:
        noun = "chunk" if all(CHUNK.search(fetch.url) for fetch in fetches) else "object"
        line += f"  {pluralize(len(fetches), noun)} fetched"
        line += f" {concurrency(report)}" if len(fetches) > 1 else ""
        line += f"{_amplified(report)}."
    other_fetches = len(report.fetches) - len(fetches)
    return [
        line,
        *([f"{pluralize(other_fetches, 'fetch')} for others or for the client itself."] if other_fetches else []),
    ]


def _amplified(report: Report) -> str:
    """Tell how much more was fetched (compressed) than read."""
    fetched = sum(fetch.bytes for fetch in report.fetches if fetch.by_target)
    read = sum(row.fuse_read_bytes or 0 for row in report.phases)
    if not read:
        return f"; {size(fetched)}, none of it read"
    ratio = fetched / read
    if 0.95 <= ratio < 1.05:
        return "; 1.0 bytes fetched for each byte read"
    if ratio < 1:
        return f"; {ratio:.2g} bytes fetched for each byte read (compressed)"
    return (
        f"; {ratio:,.0f} bytes fetched for each byte read"
        if ratio >= 100
        else f"; {ratio:.1f} bytes fetched for each byte read"
    )


def concurrency(report: Report, phase: str | None = None) -> str:
    """Tell how many GETs of the run, or of a phase, were under way at once."""
    fetches = [fetch for fetch in report.fetches if fetch.by_target and phase in (None, fetch.phase)]
    if not fetches:
        return ""
    sent = np.array([each.start_s + each.queue_s + each.connect_s for each in fetches])
    end = sent + np.array([each.request_s + each.transfer_s + each.fill_s for each in fetches])
    order = np.argsort(np.concatenate([end, sent]), kind="stable")
    steps = np.concatenate([-np.ones(len(fetches)), np.ones(len(fetches))])[order]
    at_once = int(np.cumsum(steps).max())
    return "one after the other" if at_once <= 1 else f"up to {at_once} at once"


def agreement(report: Report) -> list[str]:
    """Return what was traced against what the client counted."""
    parts = [
        f"{CHECKS.get(check.name, check.name)} {check.traced:,} {'=' if check.agree else '≠'} {check.client:,}"
        for check in report.checks
        if check.traced is not None
    ]
    return [f"Agreement with {_client(report)}: {', '.join(parts)}."] if parts else []


def access_log(report: Report) -> list[str]:
    """Return what was traced against the log of a server or proxy."""
    check = report.access_log
    if check is None:
        return []
    server = "proxy" if check.of_proxy else "server behind the proxy" if check.behind_proxy else "server"
    relation = (
        "=" if check.traced_bytes == check.log_bytes else "≠" if check.bytes_differ else "≤"
    )  # heads of the responses
    parts = [f"{check.matched:,} of {pluralize(check.fetches, 'fetch')} matched"]
    parts += [f"bytes {check.traced_bytes:,} {relation} {check.log_bytes:,}"] if check.matched else []
    parts += [f"{check.without_path:,} without a path not compared"] if check.without_path else []
    if check.only_in_trace and check.behind_proxy:
        parts.append(f"{check.only_in_trace:,} answered by the proxy")
    elif check.only_in_trace:
        parts.append(f"{check.only_in_trace:,} not in the log")
    if check.only_in_log:
        of_client = "of an unknown client" if check.unknown_client else "of this client"
        parts.append(f"{check.only_in_log:,} {of_client} only in the log ({', '.join(check.examples)})")
    parts += [f"{check.of_others:,} of other clients"] if check.of_others else []
    parts += [f"{check.at_edges:,} perhaps from before or after the recording"] if check.at_edges else []
    parts += [f"its clock {seconds(check.clock_ahead_s)} ahead"] if check.clock_ahead_s else []
    parts += [f"{pluralize(check.unreadable, 'line')} unreadable"] if check.unreadable else []
    return [f"Access log of the {server} ({check.format}): {', '.join(parts)}."]


def _client(report: Report) -> str:
    return next((mount.client for mount in report.trace.mounts if mount.used), "cvmfs2")


def unobserved(report: Report) -> list[str]:
    """Return what was not observed, and where a trace ends that was cut off."""
    briefly = [text.partition(":")[0].rstrip(".") for text in report.trace.missing]
    lines = [f"Note: {note}." for note in report.notes if note not in report.verdict.missing]
    lines += [f"Not observed: {'; '.join(briefly)}."] if briefly else []
    if report.trace.damage:
        lines.append(f"Incomplete: {report.trace.damage}.")
    if report.trace.redacted:
        lines += [f"Redacted: {text}." for text in report.trace.privacy]
    return lines
