"""Findings on the client itself: that it ended, was stopped, or did not answer."""

from typing import Final

import numpy as np

from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.findings.scene import HIGH, LOW, MEDIUM, Scene
from cvtrace.analysis.storage.causes import CLIENT_RELOADED
from cvtrace.analysis.storage.failures import GONE
from cvtrace.analysis.storage.reloads import client_reloads
from cvtrace.probes.events import Kind

STOPPED: Final = 0x4
"""TASK_STOPPED, as sched_switch prints it."""
LONG_NS: Final = 1_000_000_000
"""A request that is under way for longer when the recording ends is not merely in flight."""
WORTH_NS: Final = 1_000_000


def client_gone(scene: Scene) -> Finding | None:
    """The client ended while the run used its mount."""
    failures = [row for row in scene.report.failures if row.error in GONE]
    ended_mounts = [mount for mount in scene.study.mounts if mount.ended_ns is not None]
    if not failures and not ended_mounts:
        return None
    failure_times = [row.start_s for row in failures]  # the recorder looks now and then whether the client lives
    ends = [
        f"{mount.client} (pid {mount.daemon_pid}) of {mount.path} had ended by "
        f"{seconds(min((mount.ended_ns or 0) / 1e9 - scene.start_ns / 1e9, *failure_times, scene.duration_s))}"
        for mount in ended_mounts
    ]
    failed_requests = sum(row.count for row in failures)
    evidence = [
        *ends,
        *([f"{pluralize(failed_requests, 'request')} of the run failed for it"] if failed_requests else []),
    ]
    return Finding(
        id="client_gone",
        severity=HIGH,
        title="the client ended while the run used it",
        evidence="; ".join(evidence),
        advice="look for a crash in the system's log, mount the repository again (cvmfs_config probe), and repeat the run",
    )


def client_stopped(scene: Scene) -> Finding | None:
    """The client was stopped, and the run waited for it."""
    study = scene.study
    off = study.recording.of(Kind.OFFCPU)
    off = off.where(((off.c & STOPPED) != 0) & np.isin(off.tgid, [mount.daemon_pid for mount in study.mounts]))
    if not len(off):
        return None
    start, end = int(off.start.min()), int(off.end.max())
    requests = study.requests
    waiting = requests.by_target & requests.expects_reply & (requests.sent < end) & (requests.replied > start)
    number = int((waiting & np.isin(requests.daemon, np.append(off.tgid, -1))).sum())
    if not number or end - start < WORTH_NS:
        return None
    return Finding(
        id="client_stopped",
        severity=HIGH,
        title="the client was stopped",
        evidence=f"for {seconds((end - start) / 1e9)} no thread of it ran (SIGSTOP or a debugger); {pluralize(number, 'request')} of the run waited "
        "meanwhile",
        advice="continue it: kill -CONT PID",
    )


def client_reloaded(scene: Scene) -> Finding | None:
    """The client was reloaded while the run used its mount."""
    daemon, reload_ns = client_reloads(scene.study)
    of_used_mount = np.isin(daemon, [mount.daemon_pid for mount in scene.study.mounts])
    if not of_used_mount.any():
        return None
    repeated_requests = int(((scene.tables.cause == CLIENT_RELOADED) & scene.study.requests.by_target).sum())
    at = seconds((int(reload_ns[of_used_mount].min()) - scene.start_ns) / 1e9)
    return Finding(
        id="client_reloaded",
        severity=MEDIUM if repeated_requests else LOW,
        title="the client was reloaded while the run used it",
        evidence=f"it loaded its library again at {at}, and its counters began anew; {pluralize(repeated_requests, 'request')} of the run repeated earlier "
        "reads or lookups",
        advice="measure again without a reload of the client (cvmfs_config reload, an update of its package)",
    )


def client_silent(scene: Scene) -> Finding | None:
    """The client did not answer any more when the recording ended."""
    study, requests = scene.study, scene.study.requests
    is_unanswered = requests.by_target & requests.expects_reply & ~requests.answered
    age = study.recording.end_ns - requests.sent
    is_overdue = is_unanswered & (age >= LONG_NS)
    if not is_overdue.any() or scene.report.trace.damage:
        return None
    connection = requests.connection[is_overdue]
    paths = [mount.path for mount in study.mounts if mount.connection in connection.tolist()]
    return Finding(
        id="client_silent",
        severity=HIGH,
        title="the client had not answered when the recording ended",
        evidence=f"{pluralize(int(is_overdue.sum()), 'request')} on {', '.join(paths) or 'a mount'} had no answer, the oldest for "
        f"{seconds(int(age[is_overdue].max()) / 1e9)}",
        advice="see what its threads wait for (gdb or /proc/PID/stack) and whether its server answers; cvmfs_talk shows whether it is alive",
    )
