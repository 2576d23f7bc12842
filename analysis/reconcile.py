"""What was traced against what the client itself counted."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.fetches import Gets
from cvtrace.analysis.intervals import Ints
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
        clients = [mount.counted(counter) for mount in counted]
        pairs = [(traced[name].near(client), client) for traced, client in zip(seen, clients, strict=True)]
        if name == "http_bytes" and gets.encrypted.any():
            absent.append("bytes cannot be compared with what cvmfs2 counted: those of HTTPS are seen as on the wire")
            continue
        told = [client for client in clients if client is not None]
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


@dataclass(frozen=True)
class _Bounds:
    """How much was traced while the client counted: what was under way when it was asked may be in its count, or not."""

    least: int
    most: int

    @classmethod
    def of(cls, mount: Mount, start: Ints, end: Ints, amount: Ints) -> "_Bounds":
        """Add up `amount` of what was done from `start` to `end`."""
        if mount.counting_ns is None:
            return cls(int(amount.sum()), int(amount.sum()))
        asked, told, asked_again, told_again = mount.counting_ns
        surely, maybe = (start >= told) & (end <= asked_again), (end >= asked) & (start <= told_again)
        return cls(int(amount[surely].sum()), int(amount[maybe].sum()))

    def near(self, client: int | None) -> int:
        """Return the client's own count if it is one of those that are possible, else the nearest."""
        return self.most if client is None else min(max(client, self.least), self.most)


def _traced(mount: Mount, requests: Requests, gets: Gets) -> dict[str, _Bounds]:
    served = (requests.daemon == mount.daemon_pid) & requests.seen_by_daemon
    fetched = gets.daemon == mount.daemon_pid
    begun = np.where(gets.connecting >= 0, gets.connecting, gets.sent)[fetched]
    got = np.maximum(gets.last, gets.sent)[fetched]

    def asked(opcode: Opcode) -> _Bounds:
        chosen = served & requests.is_(opcode)
        return _Bounds.of(mount, requests.received[chosen], requests.replied[chosen], np.ones(chosen.sum(), np.int64))

    return {
        "fuse_reads": asked(Opcode.READ),
        "opens": asked(Opcode.OPEN),
        "http_fetches": _Bounds.of(mount, begun, got, np.ones(len(got), np.int64)),
        "http_bytes": _Bounds.of(mount, begun, got, gets.body_bytes[fetched]),
    }


def _absent(mount: Mount) -> str:
    why = f": {mount.error}" if mount.error else ""
    return f"the counters of cvmfs2 (pid {mount.daemon_pid}, {mount.path}) could not be read{why}"
