"""What the summary answers, a plain line each: how it was loaded, from where, first token, further tokens, why, how sure."""

from typing import Final

from rich.cells import cell_len

from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS, LABELS
from cvtrace.analysis.contract.quantities import pluralize, script, seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report, TraceInfo
from cvtrace.analysis.contract.verdict_schema import (
    GENERATION,
    INCONCLUSIVE,
    INFERENCE,
    NO,
    PROGRAM,
    YES,
    Part,
    Verdict,
)
from cvtrace.analysis.report import programs
from cvtrace.analysis.report.lines import fitted
from cvtrace.analysis.report.sentences import CHUNK, concurrency, tokens_in_words, until_it_ended

Line = tuple[str, str]
"""A label and what is said."""

SCRIPT, MOUNT, VERSION = 30, 40, 24
"""Cells of a name in the title."""
SHOWN_MOUNTS: Final = 2
QUESTIONS: Final = {
    GENERATION: "Does generation hit CVMFS?",
    INFERENCE: "Does inference hit CVMFS?",
    PROGRAM: "Does this program wait for CVMFS?",
}
WHY: Final = {
    "first_touch": (
        "read was for a page that was not used before",
        "reads were for pages that were not used before",
    ),
    "evicted_page": (
        "read was for a page that was evicted from memory",
        "reads were for pages that were evicted from memory",
    ),
    "evicted_object": (
        "read was for an object that was evicted from the client's cache",
        "reads were for objects that were evicted from the client's cache",
    ),
    "new_file": ("file was opened", "files were opened"),
    "metadata": ("name was looked up", "names were looked up"),
    "catalog_expired": ("request needed a new catalog", "requests needed a new catalog"),
    "streaming_cache": ("read was downloaded and not cached", "reads were downloaded and not cached"),
    "direct_io": ("read bypassed the page cache", "reads bypassed the page cache"),
    "client_reloaded": (
        "read was for a page that was dropped when the client reloaded",
        "reads were for pages that were dropped when the client reloaded",
    ),
}
"""Cause of requests -> what is said of one, and of several."""
HARDLY: Final = 0.01
"""Share of a program's time up to which its waiting is no trouble."""
WORTH_TELLING: Final = 0.005
"""Share of a phase from which on its waiting is told."""


def title(report: Report, width: int) -> str:
    """Return script, mounts, client, probe and, where there is room, events."""
    trace = report.trace
    used_mounts = [mount for mount in trace.mounts if mount.used]
    mounts = " and ".join(fitted(mount.path, MOUNT) for mount in used_mounts[:SHOWN_MOUNTS])
    further = len(used_mounts) - SHOWN_MOUNTS
    mounts += f" and {further} more" if further > 0 else ""
    clients = dict.fromkeys(
        fitted(f"{mount.client} {mount.version}".strip(), VERSION) for mount in used_mounts[:SHOWN_MOUNTS]
    )
    name = fitted(script(trace.target), SCRIPT)
    probes = {"ebpf": "eBPF"}.get(trace.probes, trace.probes)
    parts = [f"{name} on {mounts}", *clients] if used_mounts else [name, _unused(trace)]
    without_events, with_events = (
        " · ".join([*parts, probes + further]) for further in ("", f", {pluralize(trace.events, 'event')}")
    )
    return with_events if cell_len(with_events) <= width else without_events


def _unused(trace: TraceInfo) -> str:
    if not trace.mounts:
        return "no CVMFS mount"
    return f"CVMFS not used {until_it_ended(trace)}".rstrip()


def trouble(report: Report) -> list[str]:
    """Return what is said before any answer: that the recording is not whole."""
    return [f"The recording is incomplete: {report.trace.damage}."] if report.trace.damage else []


def headline(report: Report) -> Line:
    """Return the question and the answer, with its one number."""
    verdict = report.verdict
    reason = {YES: _waiting, NO: _nothing}.get(verdict.answer)
    number = reason(report) if reason else ""
    return QUESTIONS.get(
        verdict.question, QUESTIONS[PROGRAM]
    ), f"{verdict.answer.upper()}{f': {number}' if number else ''}"


def _waiting(report: Report) -> str:
    verdict = report.verdict
    if verdict.question != GENERATION:
        rows = _phases_of_question(report)
        wait_s, wall = sum(waited_s(row) for row in rows), sum(row.wall_s for row in rows)
        hardly = "hardly: " if wait_s < HARDLY * wall else ""
        return f"{hardly}it waited {seconds(wait_s)} of its {seconds(wall)} for CVMFS"
    if verdict.blocked_s is None:
        return f"the client counted {pluralize(verdict.fuse_reads or 0, 'read')} while tokens were generated"
    wall = sum(part.wall_s for _, part, _ in _parts(report))
    return f"it waited {seconds(verdict.blocked_s)} of its {seconds(max(wall, verdict.blocked_s))} for CVMFS"


def _nothing(report: Report) -> str:
    verdict = report.verdict
    elsewhere = [file for file in verdict.model_files if not file.on_cvmfs]
    if verdict.model_from == "elsewhere" and elsewhere:
        largest = max(elsewhere, key=lambda file: file.mapped_bytes + file.read_bytes)
        return (
            f"the model was opened from {fitted(largest.path.rpartition('/')[0] or '/', MOUNT)}, which is not on CVMFS"
        )
    if verdict.question == GENERATION:
        return (
            f"none of {tokens_in_words(verdict)} needed CVMFS"
            if verdict.tokens != 1
            else "its one token did not need CVMFS"
        )
    return "inference needed nothing from it" if verdict.question == INFERENCE else "it needed nothing from it"


def _phases_of_question(report: Report) -> list[Phase]:
    """Return the phases that the question is about."""
    if report.verdict.question == INFERENCE:
        return [row for row in report.phases if row.name == "run"]
    return list(report.phases)


def _parts(report: Report) -> list[tuple[str, Part, str]]:
    """Return the first token and the further ones: a label each, what it needed, and what else is said of it."""
    verdict = report.verdict
    by_name = {row.name: row for row in report.phases}
    if verdict.first_token and verdict.further_tokens:
        firsts = sum(answer.first_token_s is not None for answer in report.answers)
        further = None if verdict.tokens is None else max(verdict.tokens - firsts, 0)
        label = "more tokens" if further is None else pluralize(further, "more token")
        first = "first tokens" if firsts > 1 else "first token"
        return [(first, verdict.first_token, ""), (label, verdict.further_tokens, _worst(report))]
    parts = [("first token", _part_of(by_name["prefill"]), "")] if "prefill" in by_name else []
    if "decode" in by_name:
        parts.append((tokens_in_words(verdict), _part_of(by_name["decode"]), _worst(report)))
    return parts


def _part_of(row: Phase) -> Part:
    wait_s = None if row.fuse_requests is None else waited_s(row)
    counts = (row.fuse_requests, row.fuse_reads, row.fuse_read_bytes, row.http_fetches, row.http_bytes)
    return Part(row.hits_cvmfs, row.wall_s, wait_s, *counts, {})


def generation(report: Report) -> list[Line]:
    """Return a line on the first token, on the further ones, why they needed CVMFS, and how sure that is."""
    verdict = report.verdict
    if verdict.question != GENERATION:
        return [*programs.lines(report), *_needs(report), *_certainty(report)]
    lines = [line for each in _parts(report) for line in _part_line(*each)]
    between = verdict.between_calls
    if between is not None and between.fuse_requests:
        lines += _part_line("between calls", between, "")
    if verdict.failed_steps:
        lines.append(("failed", f"{pluralize(verdict.failed_steps, 'call')} for a token failed, and made none"))
    return [*lines, *_needs(report), *_tensors(report), *_certainty(report)]


def _needs(report: Report) -> list[Line]:
    """Return what the client counted where nothing else is known, and why CVMFS was needed."""
    verdict, lines = report.verdict, []
    if verdict.fuse_reads is None and report.checks:
        lines.append(("the client", f"counted {_counted_by_client(report)} over the whole run, for all processes"))
    if verdict.causes:
        lines.append(("why", _why(verdict)))
    return lines


def _part_line(label: str, part: Part, suffix: str) -> list[Line]:
    if part.fuse_requests is None or not part.wall_s:
        return []
    needs = programs.needs_in_words(part.fuse_requests, part.fuse_reads, part.http_fetches, part.http_bytes)
    if not needs:
        return [(label, f"needed nothing from CVMFS and took {seconds(part.wall_s)}")]
    wait_s = part.blocked_s or 0.0
    return [(label, f"waited {seconds(wait_s)} of {seconds(max(part.wall_s, wait_s))} for {needs}{suffix}")]


def waited_s(row: Phase) -> float:
    """Return how long a phase was blocked on CVMFS: copies of pages that were there are no waiting."""
    return sum(row.classes[LABELS[number]] for number in BLOCKED_ON_CVMFS)


def _worst(report: Report) -> str:
    worst = max((token.network_s + token.cache_s for token in report.tokens), default=0.0)
    return f"; the slowest {seconds(worst)}" if len(report.tokens) > 1 and worst else ""


def _tensors(report: Report) -> list[Line]:
    """Return the tensor that generation waited for most."""
    worst = max(report.tensors, key=lambda row: row.generation_blocked_s, default=None)
    if worst is None or not worst.name or not worst.generation_blocked_s:
        return []
    wait, reads = seconds(worst.generation_blocked_s), pluralize(worst.generation_reads, "read")
    return [("most of it", f"was for {fitted(worst.name, MOUNT)}: {wait}, {reads}")]


def _counted_by_client(report: Report) -> str:
    names = {"fuse_reads": "read", "opens": "open", "http_fetches": "download"}
    parts = [
        pluralize(check.client, names[check.name]) for check in report.checks if check.name in names and check.client
    ]
    return ", ".join(parts) or "no read"


def _why(verdict: Verdict) -> str:
    parts = []
    for name, number in verdict.causes.items():
        singular, plural = WHY.get(name, (f"request: {name}", f"requests: {name}"))
        parts.append(f"{number:,} {singular if number == 1 else plural}")
    return "; ".join(parts)


def _certainty(report: Report) -> list[Line]:
    """Return why the answer is certain, or what is missing for that."""
    verdict = report.verdict
    if verdict.missing:
        further = len(verdict.missing) - 1
        note = f" (and {pluralize(further, 'more reason')})" if further else ""
        label = "why" if verdict.answer == INCONCLUSIVE else "not sure"
        return [(label, f"{verdict.missing[0]}{note}")]
    parts = ["no event was lost"] if not report.trace.lost else []
    agree = [check for check in report.checks if check.traced is not None]
    kernel = any(each.missing == 0 for each in report.kernel_requests)
    agreeing = ["the client"] if agree and all(check.agree for check in agree) else []
    agreeing += ["the kernel"] if kernel else []
    if agreeing:
        parts.append(f"{' and '.join(agreeing)} {'count' if len(agreeing) > 1 else 'counts'} the same")
    return [("sure", "; ".join(parts))] if parts and verdict.proof else []


def load(report: Report) -> list[Line]:
    """Return how the model was loaded, and from where its bytes came."""
    row = next((each for each in report.phases if each.name == "load" and each.wall_s), None)
    if row is None:
        return []
    if row.fuse_requests is None:
        return [("How was it loaded?", f"in {seconds(row.wall_s)}")]
    wait_s = waited_s(row)
    is_worth_telling = wait_s > WORTH_TELLING * row.wall_s
    duration = f"in {seconds(row.wall_s)}" + (
        f", {seconds(wait_s)} of it waiting for CVMFS" if is_worth_telling else ""
    )
    source = _sources(report, row)
    return [("How was it loaded?", duration), *([("From where?", source)] if source else [])]


def prefetched(report: Report) -> list[Line]:
    """Return what the client prefetched, and of what use that was."""
    row = report.prefetching
    if row is None:
        return []
    of_use = f"{row.used_objects:,} used, which saved {seconds(row.saves_at_most_s)} at most"
    wasted = f"; {row.unused_objects:,} for nothing ({size(row.unused_bytes)})" if row.unused_objects else ""
    return [
        ("Prefetched", f"{pluralize(row.objects, 'object')} ({size(row.bytes)}) in the background: {of_use}{wasted}")
    ]


def _sources(report: Report, row: Phase) -> str:
    sizes = (row.network_bytes or 0, row.disk_bytes or 0, row.page_cache_bytes or 0)
    total = sum(sizes)
    if not total:
        return ""
    fetches = [fetch for fetch in report.fetches if fetch.by_target and fetch.phase == "load"]
    from_network = (
        f"over HTTP ({_fetched(report, row, bool(fetches) and all(CHUNK.search(fetch.url) for fetch in fetches))})"
    )
    places = (from_network if fetches else "over HTTP", "from the client's cache on disk", "from memory")
    parts = [(round(100 * size_bytes / total), place) for size_bytes, place in zip(sizes, places, strict=True)]
    return ", ".join(f"{percent} % {place}" for percent, place in parts if percent)


def _fetched(report: Report, row: Phase, chunks: bool) -> str:
    number = row.http_fetches or 0
    amount = f"{pluralize(number, 'chunk' if chunks else 'fetch')}, {size(row.http_bytes or 0)}"
    return f"{amount}, {concurrency(report, 'load')}" if number > 1 else amount
