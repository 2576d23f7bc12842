"""Findings on servers and proxies, and the way to them."""

import ipaddress
from collections import Counter
from typing import Final

import numpy as np

from cvtrace.analysis.fetches import is_proxied
from cvtrace.analysis.findings.scene import HIGH, MEDIUM, Scene
from cvtrace.analysis.intervals import Bools, Ints
from cvtrace.analysis.model import Finding
from cvtrace.analysis.report.quantities import counted, seconds

FEW: Final = 3
"""Fetches below which nothing is said of their way."""
SEQUENTIAL_SHARE: Final = 0.8
SAVING_SHARE: Final = 0.1
FIRST_BYTE_S: Final = 0.02
FIRST_BYTE_SHARE: Final = 0.1
BACK_OFF_SHARE: Final = 0.1
BAD_STATUS: Final = 400


def _of_used_mounts(scene: Scene) -> Bools:
    return np.isin(scene.study.gets.daemon, [mount.daemon_pid for mount in scene.study.mounts])


def server_errors(scene: Scene) -> Finding | None:
    """Servers or proxies answered with errors, or not at all."""
    gets, finished = scene.study.gets, scene.report.trace.damage is None
    mine = _of_used_mounts(scene) & ~gets.encrypted
    bad = mine & (gets.status >= BAD_STATUS)
    silent = mine & (gets.status == 0) & (gets.first < 0) & finished
    silent &= gets.sent < _last_sent(scene)  # the last one may have been under way when the recording ended
    count = int(bad.sum() + silent.sum())
    if not count:
        return None
    told = [f"status {status} ×{times:,}" for status, times in sorted(Counter(gets.status[bad].tolist()).items())]
    told += [f"no answer ×{int(silent.sum()):,}"] if silent.any() else []
    return Finding(
        id="server_errors",
        severity=HIGH,
        title="the server or a proxy failed",
        evidence=f"{count:,} of {counted(int(mine.sum()), 'fetch')} failed ({', '.join(told)}); the client then waits and tries again",
        advice="ask whoever runs the server or proxy named in the fetches; with more than one of each the client changes over",
    )


def _last_sent(scene: Scene) -> Ints:
    """Return for each GET when its client sent its last one."""
    gets = scene.study.gets
    daemons, of = np.unique(gets.daemon, return_inverse=True)
    last = np.zeros(len(daemons), dtype=np.int64)
    np.maximum.at(last, of.ravel(), gets.sent)
    return last[of.ravel()]


def back_off(scene: Scene) -> Finding | None:
    """The client slept after failures, and the run waited for that."""
    waited = sum(row.backoff_waited_s or 0 for row in scene.report.phases)
    if not waited:
        return None
    return Finding(
        id="back_off",
        severity=HIGH if scene.is_share(waited, BACK_OFF_SHARE) else MEDIUM,
        title="the client waits before it asks again",
        evidence=f"the run waited {seconds(waited)} of its {seconds(scene.duration_s)} while the client slept after failed requests "
        "(in network.queue)",
        advice="repair the server or proxy named in the fetches; CVMFS_BACKOFF_INIT and CVMFS_BACKOFF_MAX limit the sleep",
        saves_s=waited,
    )


def proxy_missing(scene: Scene) -> Finding | None:
    """All fetches went straight to a server that is not near."""
    study = scene.study
    gets = study.gets
    mine = np.flatnonzero(study.gets_of_target & ~gets.encrypted & (gets.address >= 0))
    if len(mine) < FEW or any(is_proxied(gets.line[number]) for number in mine.tolist()):
        return None
    hosts = {ipaddress.IPv4Address(packed >> 16 & 0xFFFFFFFF) for packed in gets.address[mine].tolist()}
    if not all(host.is_global for host in hosts):
        return None
    return Finding(
        id="proxy_missing",
        severity=MEDIUM,
        title="no proxy is used",
        evidence=f"{counted(len(mine), 'fetch')} went straight to {', '.join(str(host) for host in sorted(hosts))}",
        advice="set CVMFS_HTTP_PROXY to a proxy of the site: it keeps objects for all nodes, nearby",
    )


def slow_first_byte(scene: Scene) -> Finding | None:
    """A good part of the run was waited for the server to begin its answers."""
    mine = [fetch for fetch in scene.report.fetches if fetch.by_target]
    waited = sum(row.classes["network.request"] for row in scene.report.phases)
    if len(mine) < FEW or not scene.is_share(waited, FIRST_BYTE_SHARE):
        return None
    middle = float(np.median([fetch.request_s for fetch in mine]))
    if middle < FIRST_BYTE_S:
        return None
    return Finding(
        id="slow_first_byte",
        severity=MEDIUM,
        title="the server or proxy is slow to answer",
        evidence=f"the first byte of an answer comes {seconds(middle)} after the request (median of {counted(len(mine), 'fetch')}); "
        f"the run waited {seconds(waited)} for first bytes in all",
        advice="use a proxy nearby, or one that has the objects; larger chunks need fewer requests",
        saves_s=waited,
    )


def sequential_fetches(scene: Scene) -> Finding | None:
    """Fetches came one after the other, and cost a good part of the run."""
    found = scene.report.fetching
    if found is None or not found.sequential_share or found.sequential_share < SEQUENTIAL_SHARE:
        return None
    if not scene.is_share(found.parallel_saves_at_most_s, SAVING_SHARE):
        return None
    return Finding(
        id="sequential_fetches",
        severity=MEDIUM,
        title="objects are fetched one after the other",
        evidence=f"no two fetches were under way in {100 * found.sequential_share:.0f} % of the {seconds(found.waited_s)} that the run waited "
        f"for fetches; fetching in parallel could save up to {seconds(found.parallel_saves_at_most_s)}, fetching ahead of time up to "
        f"{seconds(found.sequential_s)}",
        advice="read the files ahead with several readers, parts of large files at once, so that the client fetches in parallel",
        saves_s=found.parallel_saves_at_most_s,
    )
