"""What was traced against what the client itself counted."""

from typing import Final

from cvtrace.analysis.fetches import Gets
from cvtrace.analysis.model import Check
from cvtrace.analysis.recording import Mount, Recording
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Opcode

ATTRIBUTES: Final = {"opens": ("nopen", 1), "http_fetches": ("ndownload", 1), "http_bytes": ("rx", 1024)}
"""What the client shows everybody instead, and in which unit: objects fetched for requests, KiB for bytes."""
COUNTERS: Final = {
    "fuse_reads": "cvmfs.n_fs_read",
    "opens": "cvmfs.n_fs_open",
    "http_fetches": "download.n_requests",
    "http_bytes": "download.sz_transferred_bytes",
}


def reconcile(
    recording: Recording, mounts: tuple[Mount, ...], requests: Requests, gets: Gets
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Compare the counts of `mounts`, added up. Returns (checks, why a check is absent).

    A check agrees if each mount does. Everything the daemons did counts, whoever asked for it: the counters know no
    processes. Where requests cannot be observed, the client's count stands alone.
    """
    if not recording.mounts:
        return (), ("no CVMFS mount was observed",)
    by_daemon = {mount.daemon_pid: mount for mount in mounts}
    counted = [mount for mount in by_daemon.values() if mount.counters_before and mount.counters_after]
    absent = [_absent(mount) for mount in by_daemon.values() if mount not in counted]
    seen = [_traced(mount, requests, gets) for mount in counted]
    checks = []
    for name, counter in COUNTERS.items() if counted else ():
        if not recording.sees_requests:
            alone = [shown for mount in counted if (shown := _told(mount, name)) is not None]
            checks += [Check(name, None, sum(alone), None)] if alone else []
            continue
        pairs = [(traced[name], mount.counted(counter)) for mount, traced in zip(counted, seen, strict=True)]
        if name == "http_bytes" and gets.encrypted.any():
            absent.append("bytes cannot be compared with what cvmfs2 counted: those of HTTPS are seen as on the wire")
            continue
        told = [client for _, client in pairs if client is not None]
        if len(told) < len(pairs):
            absent.append(f"cvmfs2 did not tell {counter}")
            continue
        agree = all(ours == client for ours, client in pairs)
        checks.append(Check(name, sum(ours for ours, _ in pairs), sum(told), agree))
    return tuple(checks), tuple(absent)


def _told(mount: Mount, name: str) -> int | None:
    """Return the client's own count, from its attributes if it tells no better."""
    told = mount.counted(COUNTERS[name])
    if told is not None or name not in ATTRIBUTES:
        return told
    attribute, unit = ATTRIBUTES[name]
    shown = mount.counted(attribute)
    return None if shown is None else shown * unit


def _traced(mount: Mount, requests: Requests, gets: Gets) -> dict[str, int]:
    served = (requests.daemon == mount.daemon_pid) & requests.seen_by_daemon
    fetched = gets.daemon == mount.daemon_pid
    return {
        "fuse_reads": int((served & requests.is_(Opcode.READ)).sum()),
        "opens": int((served & requests.is_(Opcode.OPEN)).sum()),
        "http_fetches": int(fetched.sum()),
        "http_bytes": int(gets.body_bytes[fetched].sum()),
    }


def _absent(mount: Mount) -> str:
    why = f": {mount.error}" if mount.error else ""
    return f"the counters of cvmfs2 (pid {mount.daemon_pid}, {mount.path}) could not be read{why}"
