"""What is said of a fleet in words. Each function returns sentences, the most important one first."""

import time
from collections.abc import Sequence
from typing import Final

from cvtrace.analysis.contract.fleet_report import FleetReport, Shared, SharedObject, SlowNode, Spread
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.verdict_schema import ANSWERS, GENERATION, INFERENCE, PROGRAM

QUESTIONS: Final = {
    GENERATION: "Does generation hit CVMFS?",
    INFERENCE: "Does inference hit CVMFS?",
    PROGRAM: "Does the program wait for CVMFS?",
}
FIGURES: Final = {
    "work_s": "work",
    "load_s": "load",
    "first_token_s": "first token",
    "tokens_per_s": "tokens/s",
    "network_s": "network",
    "fetched_bytes": "fetched",
}
"""Names of spreads."""
TOP: Final = 3
LONG_LINK: Final = 0.5
"""Share of the median node's work from which on it matters how long one link takes for all bytes."""


def title(report: FleetReport) -> str:
    """Return what the fleet is, in one line."""
    scripts = ", ".join(report.scripts[:TOP]) + (" …" if len(report.scripts) > TOP else "")
    hosts = "" if report.hosts == report.nodes else f" on {pluralize(report.hosts, 'host')}"
    lost = f", {report.lost:,} lost" if report.lost else ", none lost"
    return f"{scripts}: {pluralize(report.nodes, 'trace')}{hosts}, {pluralize(report.events, 'event')}{lost}"


def verdicts(report: FleetReport) -> list[tuple[str, str]]:
    """Return each question and how many nodes gave which answer."""
    rows = []
    for question, counts in report.verdicts.items():
        words = [f"{answer.upper()} on {counts[answer]:,}" for answer in ANSWERS if answer in counts]
        rows.append(
            (QUESTIONS.get(question, question), f"{', '.join(words)} of {pluralize(sum(counts.values()), 'node')}")
        )
    return rows


def value(spread: Spread, amount: float) -> str:
    """Return a figure of a spread with its unit."""
    if spread.unit == "s":
        return seconds(amount)
    return size(amount) if spread.unit == "bytes" else f"{amount:,.1f}"


def why(row: SlowNode) -> str:
    """Return what a slow node spent more of than the median node."""
    classes = ", ".join(f"{each.name} +{seconds(each.time_s)}" for each in row.why)
    return classes or "a little more of every class"


def slow(row: SlowNode) -> str:
    """Return how slow a node is, and why."""
    mark = " (straggler)" if row.straggler else ""
    return f"{row.node}{mark}: {seconds(row.work_s)}, {seconds(row.over_s)} above the median: {why(row)}"


def start(report: FleetReport) -> list[str]:
    """Return how the nodes began to fetch."""
    begin = report.start
    if begin is None:
        return ["no GET was recorded on any node" if report.observed else "not observed on any node"]
    where = f"proxy {begin.proxy}" if begin.proxy else "the servers"
    name = "THUNDERING HERD: " if begin.herd else ""
    together = (
        f"{name}90 % of the {pluralize(begin.nodes, 'node')} that fetched began within {seconds(begin.within_s)}, at "
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(begin.first_unix_s))} UTC"
    )
    queue = (
        f"at most {begin.most_waiting:.1f} GETs waited at the same time for a first byte from {where}, {seconds(begin.peak_s)} after the first GET; "
        f"a first byte took {seconds(begin.waited_s)} on average; at most {size(begin.most_bytes_per_s)} were requested within one second"
    )
    return [together, queue]


def shared(report: FleetReport) -> list[str]:
    """Return what nodes fetched that others had fetched, and what a proxy would have saved."""
    row = report.shared
    if not row.fetches:
        return []
    lines = [
        f"{pluralize(row.fetches, 'GET')} ({size(row.bytes)}) fetched {pluralize(row.objects, 'different object')} "
        f"({size(row.bytes - row.repeated_bytes)}); two or more nodes fetched {row.shared_objects:,} of them",
        *_saved(report, row),
    ]
    if row.hits or row.misses:
        lines.append(f"the proxies had {row.hits:,} of {row.hits + row.misses:,} answers in their caches")
    return lines


def _saved(report: FleetReport, row: Shared) -> list[str]:
    lines = []
    if row.warm_proxy_saves_s is not None and row.median_saves_s is not None:
        lines.append(
            f"a site proxy that has every object would have saved {size(row.bytes)} from the servers and {seconds(row.warm_proxy_saves_s)} on "
            f"{pluralize(row.predicted_nodes, 'node')}, {seconds(row.median_saves_s)} on the median node (if it answers in 0.5 ms and sends 1 Gbit/s to each node)"
        )
    lines.append(
        f"a site proxy that is empty at first would have saved {size(row.repeated_bytes)} from the servers ({pluralize(row.repeated_fetches, 'GET')})"
    )
    median = next((each.median for each in report.spreads if each.name == "work_s"), 0.0)
    if row.one_link_s > LONG_LINK * median:
        lines.append(f"one link of 1 Gbit/s takes {seconds(row.one_link_s)} for the bytes of all nodes")
    return lines


def shared_file(row: SharedObject) -> str:
    """Return by how many nodes a file or object was fetched."""
    name = row.path or row.object or "objects over HTTPS, whose names are not recorded"
    return f"{name}: {pluralize(row.nodes, 'node')}, {pluralize(row.fetches, 'GET')}, {size(row.bytes)}, of which {size(row.repeated_bytes)} were repeated"


def evicting(report: FleetReport) -> list[str]:
    """Return which nodes' caches evicted what was needed again."""
    rows = report.evicting
    if not rows:
        if not report.observed:
            return ["not observed on any node"]
        of = (
            ""
            if report.observed == report.nodes
            else f" on the {report.observed:,} nodes on which requests were observed"
        )
        return [f"no client's cache evicted an object that was needed again{of}"]
    names = _names([row.node for row in rows])
    quotas = [row.quota_bytes for row in rows if row.quota_bytes]
    limit = f" (limit {size(min(quotas))}, used {size(max(row.working_set_bytes for row in rows))})" if quotas else ""
    total = sum(row.fetched_again_bytes for row in rows)
    return [
        f"on {pluralize(len(rows), 'node')} the client's cache evicted objects that were needed again{limit}; {size(total)} were fetched again: {names}"
    ]


def stragglers(report: FleetReport) -> list[str]:
    """Return which nodes are far slower than the others."""
    rows = [row for row in report.slowest if row.straggler]
    if not rows:
        return ["no node was far slower than the others"]
    return [f"{pluralize(report.stragglers, 'node')} far slower than the others: {_names([row.node for row in rows])}"]


def failed(report: FleetReport) -> list[str]:
    """Return on which nodes the target failed."""
    if not report.failed:
        return []
    return [f"the program failed on {pluralize(len(report.failed), 'node')}: {_names(report.failed)}"]


def clocks(report: FleetReport) -> list[str]:
    """Return how far the nodes' clocks may be apart."""
    row = report.clocks
    lines = ["times are those of each node's own wall clock; they are not corrected"]
    if row.apart_at_most_s is not None:
        lines.append(f"two clocks differ by {seconds(row.apart_at_most_s)} at most")
    else:
        lines.append(
            f"the difference of the clocks is not known for all nodes: the Date of HTTP answers bounds {row.bounded:,} of {row.nodes:,}, "
            f"and {row.synchronised:,} are synchronised by NTP"
        )
    if row.largest_error_s is not None:
        lines.append(
            f"NTP bounds the error of {pluralize(row.synchronised, 'clock')} to {seconds(row.largest_error_s)}"
        )
    if row.ahead and row.behind:
        lines.append(
            f"the clock of {row.ahead} is ahead of that of {row.behind} by {seconds(row.apart_at_least_s)} or more"
        )
    return lines


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[: TOP * 2])
    return f"{shown}, …" if len(names) > TOP * 2 else shown
