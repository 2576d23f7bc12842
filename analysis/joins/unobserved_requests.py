"""What the target asked of FUSE mounts that were not observed: another CVMFS that was left out, or no CVMFS at all.

Of such a mount the kernel's requests are known: who sent which, when, and when it had ended. What its daemon did is not.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cvtrace.analysis.joins.requests import WITHOUT_REPLY
from cvtrace.analysis.trace.intervals import Bools, Ints, ints, latest_within, match, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import UNFINISHED, Kind, Opcode

WAKING_NS: Final = 2_000_000
"""A wait ends at most so long after the request that it was for."""
CVMFS_SOURCE: Final = "cvmfs2"
CVMFS_FOLDER: Final = "/cvmfs/"


@dataclass(frozen=True)
class OtherMount:
    """A FUSE mount that was not observed, as the table of mounts shows it."""

    path: str
    type: str
    source: str
    connection: int

    @property
    def is_cvmfs(self) -> bool:
        """Whether it is a CVMFS, as far as its source and its path tell."""
        return self.source == CVMFS_SOURCE or f"{self.path}/".startswith(CVMFS_FOLDER)


@dataclass(frozen=True)
class UnobservedRequests:
    """Requests that threads of the target sent to `mounts`, sorted by `sent`; those that nobody waits for are left out."""

    mounts: tuple[OtherMount, ...]
    mount: Ints
    asker: Ints
    sent: Ints
    ended: Ints
    opcode: Ints

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def reads(self) -> Bools:
        is_read: Bools = self.opcode == int(Opcode.READ)
        return is_read

    @property
    def to_cvmfs(self) -> Bools:
        """Tell which were sent to a CVMFS."""
        return np.isin(self.mount, [place for place, mount in enumerate(self.mounts) if mount.is_cvmfs])


def unobserved_requests(recording: Recording) -> UnobservedRequests:
    """Gather the requests, by the mounts that meta.json names."""
    mounts = tuple(
        OtherMount(
            str(each.get("path") or ""),
            str(each.get("type") or ""),
            str(each.get("source") or ""),
            each["connection"],
        )
        for each in _meta_entries(recording)
    )
    events = recording.unobserved_events
    events = events[(events["kind"] & ~np.uint16(UNFINISHED)) == Kind.FUSE_SEND]
    mount = match(ints([each.connection for each in mounts]), ints(events["b"].view(np.int64)))
    opcode = ints(events["c"] >> np.uint64(32))
    asker = ints(events["tid"])
    chosen = (mount >= 0) & ~np.isin(opcode, WITHOUT_REPLY) & recording.is_target_thread(asker)
    sent = ints(events["ts"].view(np.int64))
    return UnobservedRequests(
        mounts=mounts,
        mount=mount[chosen],
        asker=asker[chosen],
        sent=sent[chosen],
        ended=(sent + ints(events["dur"].view(np.int64)))[chosen],
        opcode=opcode[chosen],
    )


def _meta_entries(recording: Recording) -> list[dict[str, Any]]:
    entries = recording.meta.get("other_mounts") or ()
    return [each for each in entries if isinstance(each, dict) and type(each.get("connection")) is int]


def waited_for(recording: Recording, unobserved: UnobservedRequests, tid: Ints, start: Ints, woken: Ints) -> Bools:
    """Tell which waits of threads were for one of the requests: sent by the thread before it, or ended right before it was woken.

    A reader that the kernel reads ahead for waits for a page whose request was sent earlier, and is woken when that has ended.
    """
    if not len(unobserved) or not len(tid):
        return np.zeros(len(tid), dtype=bool)
    lanes = recording.lanes(unobserved.asker)
    places = lanes.at(unobserved.asker, unobserved.sent)
    order = np.argsort(places, kind="stable")
    last_sent = latest_within(places[order], lanes.at(tid, start), lanes.span_ns)
    waited = (last_sent >= 0) & (pick(unobserved.ended[order], last_sent, 0) >= woken)
    ends = lanes.at(unobserved.asker, unobserved.ended)
    order = np.argsort(ends, kind="stable")
    last = latest_within(ends[order], lanes.at(tid, woken), lanes.span_ns)
    ended = pick(unobserved.ended[order], last, -1)
    answer: Bools = waited | ((ended > start) & (woken - ended <= WAKING_NS))
    return answer
