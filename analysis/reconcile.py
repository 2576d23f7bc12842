"""What was traced against what the client itself counted."""

from typing import Final

import numpy as np

from cvtrace.analysis.fetches import Gets
from cvtrace.analysis.model import Check
from cvtrace.analysis.recording import Mount, Recording
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Opcode

COUNTERS: Final = {
    "fuse_reads": "cvmfs.n_fs_read",
    "opens": "cvmfs.n_fs_open",
    "http_fetches": "download.n_requests",
    "http_bytes": "download.sz_transferred_bytes",
}


def reconcile(recording: Recording, requests: Requests, gets: Gets) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Compare the counts of all mounts whose counters are known. Returns (checks, why a check is absent).

    Everything the daemons did counts, whoever asked for it: the counters know no processes.
    """
    counted = [mount for mount in recording.mounts if mount.counters_before and mount.counters_after]
    absent = [_absent(mount) for mount in recording.mounts if mount not in counted]
    if not recording.mounts:
        return (), ("no CVMFS mount was observed",)
    daemons = np.array([mount.daemon_pid for mount in counted], dtype=np.int64)
    served = np.isin(requests.daemon, daemons) & requests.seen_by_daemon
    fetched = np.isin(gets.daemon, daemons)
    traced = {
        "fuse_reads": int((served & requests.is_(Opcode.READ)).sum()),
        "opens": int((served & requests.is_(Opcode.OPEN)).sum()),
        "http_fetches": int(fetched.sum()),
        "http_bytes": int(gets.body_bytes[fetched].sum()),
    }
    checks = []
    for name, counter in COUNTERS.items():
        knowing = [m for m in counted if counter in m.counters_before and counter in m.counters_after]
        if not counted or len(knowing) < len(counted):
            if counted:
                absent.append(f"cvmfs2 did not tell {counter}")
            continue
        client = sum(int(m.counters_after[counter]) - int(m.counters_before[counter]) for m in knowing)
        checks.append(Check(name, traced[name], client, traced[name] == client))
    return tuple(checks), tuple(absent)


def _absent(mount: Mount) -> str:
    why = f": {mount.error}" if mount.error else ""
    return f"the counters of cvmfs2 (pid {mount.daemon_pid}, {mount.path}) could not be read{why}"
