"""Findings on servers and proxies, and the way to them."""

import ipaddress
from collections import Counter
from typing import Final

import numpy as np

from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.findings.scene import HIGH, MEDIUM, Scene
from cvtrace.analysis.joins.fetches import is_proxied
from cvtrace.analysis.storage.failures import CACHE_NOT_WRITTEN
from cvtrace.analysis.storage.tries import (
    PeerChange,
    connection_error,
    failed_connects_of,
    is_given_up,
    outcome_of,
    pauses,
    peer_changes,
    waited_ns,
)
from cvtrace.analysis.trace.intervals import Bools
from cvtrace.analysis.trace.keys import address_text, host_of
from cvtrace.probes.events import Kind

FEW: Final = 3
"""Fetches below which nothing is said of their way."""
SEQUENTIAL_SHARE: Final = 0.8
SAVING_SHARE: Final = 0.1
FIRST_BYTE_S: Final = 0.02
FIRST_BYTE_SHARE: Final = 0.1
BACK_OFF_SHARE: Final = 0.1
PEERS: Final = 3
"""Servers and proxies that are named."""
COUNTER_NAMES: Final = {
    "download.n_retries": ("retry", "retries"),
    "cvmfs.n_io_error": ("I/O error", "I/O errors"),
    "download.n_host_failover": ("change of server", "changes of server"),
    "download.n_proxy_failover": ("change of proxy", "changes of proxy"),
}
"""Counters of the client -> what they count."""


def _of_used_mounts(scene: Scene) -> Bools:
    return np.isin(scene.study.gets.daemon, [mount.daemon_pid for mount in scene.study.mounts])


def server_errors(scene: Scene) -> Finding | None:
    """Servers or proxies answered with errors, cut their answers short, or did not answer; or no connection to them came about."""
    gets, refusals = scene.study.gets, failed_connects_of(scene.study)
    failed_gets = np.flatnonzero(_of_used_mounts(scene) & gets.failed & ~is_given_up(scene.study)).tolist()
    refused_connections = np.flatnonzero(
        np.isin(refusals.daemon, [mount.daemon_pid for mount in scene.study.mounts])
    ).tolist()
    if not failed_gets and not refused_connections:
        return None
    outcome_counts = Counter(_kind(outcome_of(scene.study, each)) for each in failed_gets)
    outcome_counts.update(connection_error(int(refusals.error[each])) for each in refused_connections)
    outcomes = ", ".join(f"{word} ×{times:,}" for word, times in sorted(outcome_counts.items()))
    tries = int(_of_used_mounts(scene).sum()) + len(refused_connections)
    peers = [*gets.address[failed_gets].tolist(), *refusals.address[refused_connections].tolist()]
    peer_names = [address_text(peer) for peer, _ in Counter(peer for peer in peers if peer >= 0).most_common(PEERS)]
    proxied = any(
        is_proxied(gets.line[each]) for each in failed_gets or np.flatnonzero(_of_used_mounts(scene)).tolist()
    )
    at_peers = f" at {'the proxy ' if proxied else ''}{' and '.join(peer_names)}" if peer_names else ""
    changes = [change for change in peer_changes(scene.study, refusals) if change.before in set(peers)]
    return Finding(
        id="server_errors",
        severity=HIGH,
        title="the server or a proxy failed",
        evidence=f"{len(failed_gets) + len(refused_connections):,} of {pluralize(tries, 'fetch')} failed{at_peers} ({outcomes}); the client then waits and tries again"
        f"{_client_counts(scene)}{_change_in_words(scene, changes)}",
        advice=_remedy(changes, peer_names, proxied=proxied),
    )


def _change_in_words(scene: Scene, changes: list[PeerChange]) -> str:
    """Return when the client went to another proxy or server for the first time, and how long it had tried before."""
    if not changes:
        return ""
    first = changes[0]
    return (
        f"; it went from {address_text(first.before)} to {address_text(first.after)} {seconds((first.start - scene.start_ns) / 1e9)} after the start, "
        f"{seconds((first.start - first.failing_since) / 1e9)} after the first failure"
    )


def _remedy(changes: list[PeerChange], peers: list[str], *, proxied: bool) -> str:
    if not changes:
        return "contact the operator of the server or proxy named in the fetches; configure more than one, so that the client can fail over"
    setting = "CVMFS_HTTP_PROXY" if proxied else "CVMFS_SERVER_URL"
    names = " and ".join(dict.fromkeys(address_text(change.before) for change in changes)) or " and ".join(peers)
    return f"repair {names}, or take it out of {setting} until it works: each change costs its retries and time-outs"


def _kind(outcome: str) -> str:
    """Return what GETs that ended alike have in common: a status, or that the body was cut."""
    if outcome.isdigit():
        return f"status {outcome}"
    return {"cut": "cut short", "too": "too slow"}.get(outcome.partition(" ")[0], outcome)


def _client_counts(scene: Scene) -> str:
    """Return what the client itself counted of it, as far as it counts that."""
    counts = []
    for counter, nouns in COUNTER_NAMES.items():
        numbers = [mount.counter_delta(counter) or 0 for mount in scene.study.mounts]
        if sum(numbers):
            counts.append(f"{sum(numbers):,} {nouns[sum(numbers) > 1]}")
    return f"; it counted {' and '.join(counts)}" if counts else ""


def back_off(scene: Scene) -> Finding | None:
    """The client slept after failures, and the run waited for that."""
    waited_s, is_seen = float(sum(row.backoff_waited_s or 0 for row in scene.report.phases)), True
    if not waited_s and not scene.study.recording.has(Kind.BACKOFF):
        waited_s, is_seen = waited_ns(scene.study, pauses(scene.study, failed_connects_of(scene.study))) / 1e9, False
    if not waited_s or _is_local(scene):
        return None
    where = "in network.queue" if is_seen else "between its tries, as its own functions are not seen"
    return Finding(
        id="back_off",
        severity=HIGH if scene.is_share(waited_s, BACK_OFF_SHARE) else MEDIUM,
        title="the client waits before it tries again",
        evidence=f"the run waited {seconds(waited_s)} of its {seconds(scene.duration_s)} while the client slept after failed requests "
        f"({where})",
        advice="repair the server or proxy named in the fetches; CVMFS_BACKOFF_INIT and CVMFS_BACKOFF_MAX limit the back-off",
        saves_s=waited_s,
    )


def _is_local(scene: Scene) -> bool:
    """Return whether it was its own cache into which the client could not write: a finding of its own says so."""
    return any(each.error == "ENOSPC" or each.client_said == CACHE_NOT_WRITTEN for each in scene.report.failures)


def proxy_missing(scene: Scene) -> Finding | None:
    """All fetches went straight to a server that is not near."""
    study = scene.study
    gets = study.gets
    direct_gets = np.flatnonzero(study.gets_of_target & ~gets.encrypted & (gets.address >= 0))
    if len(direct_gets) < FEW or any(is_proxied(gets.line[number]) for number in direct_gets.tolist()):
        return None
    hosts = {ipaddress.IPv4Address(host_of(address)) for address in gets.address[direct_gets].tolist()}
    if not all(host.is_global for host in hosts):
        return None
    return Finding(
        id="proxy_missing",
        severity=MEDIUM,
        title="no proxy is used",
        evidence=f"{pluralize(len(direct_gets), 'fetch')} went straight to {', '.join(str(host) for host in sorted(hosts))}",
        advice="set CVMFS_HTTP_PROXY to a proxy of the site, which caches objects for all nodes",
    )


def slow_first_byte(scene: Scene) -> Finding | None:
    """A good part of the run was waited for the server to begin its answers."""
    fetches_of_target = [fetch for fetch in scene.report.fetches if fetch.by_target]
    waited_s = sum(row.classes["network.request"] for row in scene.report.phases)
    if len(fetches_of_target) < FEW or not scene.is_share(waited_s, FIRST_BYTE_SHARE):
        return None
    median_s = float(np.median([fetch.request_s for fetch in fetches_of_target]))
    if median_s < FIRST_BYTE_S:
        return None
    return Finding(
        id="slow_first_byte",
        severity=MEDIUM,
        title="the server or proxy is slow to answer",
        evidence=f"the first byte of an answer comes {seconds(median_s)} after the request (median of {pluralize(len(fetches_of_target), 'fetch')}); "
        f"the run waited {seconds(waited_s)} for first bytes in all",
        advice="use a nearby proxy that has the objects cached; larger chunks need fewer requests",
        saves_s=waited_s,
    )


def sequential_fetches(scene: Scene) -> Finding | None:
    """Fetches came one after the other, and cost a good part of the run."""
    fetching = scene.report.fetching
    if fetching is None or not fetching.sequential_share or fetching.sequential_share < SEQUENTIAL_SHARE:
        return None
    if not scene.is_share(fetching.parallel_saves_at_most_s, SAVING_SHARE):
        return None
    return Finding(
        id="sequential_fetches",
        severity=MEDIUM,
        title="objects are fetched one after the other",
        evidence=f"the run waited {seconds(fetching.waited_s)} for fetches, and only one fetch was in progress for {100 * fetching.sequential_share:.0f} % of that; "
        f"fetching in parallel could save up to {seconds(fetching.parallel_saves_at_most_s)}, fetching before the run up to "
        f"{seconds(fetching.sequential_s)}",
        advice="read the files ahead of the job with several threads, each a part of a large file, so that the client fetches in parallel",
        saves_s=fetching.parallel_saves_at_most_s,
    )
