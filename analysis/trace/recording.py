"""A trace as columns: events by kind, their texts, and who is target and who is daemon."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, earliest_within, empty, ints, latest_within, match
from cvtrace.analysis.trace.keys import thread_kind_key
from cvtrace.analysis.trace.meta import checked
from cvtrace.probes.events import UNFINISHED, Events, Kind, Side, Sight, Texts, in_order
from cvtrace.tracer.store import Trace

LONGEST_NS: Final = 2**50
"""13 days; a longer event is a damaged one and is cut to this."""

OF_TARGET: Final = tuple(kind for kind in Kind if kind.side is Side.TARGET)
"""Kinds that probes record for the target's process tree only."""


class Rows:
    """Events of some kinds, sorted by start, in columns that are wide (int64, bool) and made when they are first asked for.

    A table is either whole, of columns that are given, or rows chosen from such a one; `index` is the place of each row there.
    """

    start: Ints
    end: Ints
    tgid: Ints
    tid: Ints
    kind: Ints
    ret: Ints
    a: Ints
    b: Ints
    c: Ints
    unfinished: Bools

    def __init__(self, table: "Rows | None" = None, index: Ints | None = None, **columns: Any) -> None:
        self._whole = table
        self.index: Ints = np.arange(len(columns["start"]), dtype=np.int64) if index is None else index
        vars(self).update(columns)

    def __len__(self) -> int:
        return len(self.index)

    def __getattr__(self, name: str) -> Any:
        if self._whole is None or name not in Rows.__annotations__:
            raise AttributeError(name)
        column = vars(self._whole)[name][self.index]
        if column.dtype != np.bool_:
            column = column.astype(np.int64, copy=False)
        setattr(self, name, column)
        return column

    def where(self, chosen: Bools | Ints) -> "Rows":
        """Return the chosen rows, by mask or by index."""
        return Rows(self if self._whole is None else self._whole, self.index[chosen])


@dataclass(frozen=True)
class Mount:
    """A mount of the client, as meta.json tells of it; a device that it does not tell is the bare minor."""

    path: str
    fqrn: str
    connection: int
    device: int
    daemon_pid: int
    client: str
    version: str
    counters_before: dict[str, int]
    counters_after: dict[str, int]
    error: str | None
    quota_bytes: int | None = None
    counting_ns: tuple[int, int, int, int] | None = None
    """When the counters before the run were asked for and had come, and those after it; None where the trace does not tell."""
    ended_ns: int | None = None
    """When the client was seen to have ended; None if it was not."""
    revision: int | None = None
    """Of the repository when the recording began; None where the trace does not tell."""

    def counter_delta(self, counter: str) -> int | None:
        """Return how much a counter of the client grew, None if it did not tell."""
        if counter not in self.counters_before or counter not in self.counters_after:
            return None
        return int(self.counters_after[counter]) - int(self.counters_before[counter])

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Mount":
        """Read one entry of meta["mounts"]; what is not there stays empty."""
        times = [*zip(entry.get("counted_ns") or (), entry.get("answered_ns") or (), strict=False)]
        return cls(
            path=str(entry.get("path") or "").rstrip("/"),
            fqrn=str(entry.get("fqrn") or ""),
            connection=int(entry.get("connection") or 0),
            device=int(entry.get("device") or entry.get("connection") or 0),
            daemon_pid=int(entry.get("daemon_pid") or 0),
            client=str(entry.get("client") or "cvmfs2"),
            version=str(entry.get("version") or ""),
            counters_before=dict(entry.get("counters_before") or {}),
            counters_after=dict(entry.get("counters_after") or {}),
            error=entry.get("error"),
            quota_bytes=entry.get("quota_bytes"),
            counting_ns=(*times[0], *times[1]) if len(times) > 1 else None,
            ended_ns=entry.get("daemon_ended_ns"),
            revision=entry.get("revision"),
        )


@dataclass(frozen=True)
class Recording:
    """What was recorded. Built by `recording`.

    `all` holds every event, sorted by (ts, kind, tid), in columns as narrow as those of the trace: only compare them, or choose rows.
    """

    path: Path
    meta: dict[str, Any]
    damage: str | None
    all: Rows
    kinds: dict[int, Ints]
    texts: Texts
    start_ns: int
    end_ns: int
    mounts: tuple[Mount, ...]
    unobserved_events: Events
    """FUSE requests of the target and pages it touched on mounts that are not observed (`meta["other_mounts"]`), in order."""

    @property
    def kernel(self) -> str:
        """Release of the kernel that was recorded on; empty where the trace does not tell."""
        return str(self.meta.get("kernel") or "")

    def of(self, *kinds: Kind) -> Rows:
        """Return the events of these kinds."""
        chosen = [self.kinds[kind] for kind in kinds if kind in self.kinds]
        if not chosen:
            return self.all.where(empty())
        return self.all.where(chosen[0] if len(chosen) == 1 else np.sort(np.concatenate(chosen), kind="stable"))

    def has(self, *kinds: Kind) -> bool:
        return any(kind in self.kinds for kind in kinds)

    @property
    def probe(self) -> str:
        return str(self.meta.get("probe") or "")

    @cached_property
    def sees(self) -> frozenset[str]:
        """What the probe could observe (`Sight`). Traces of earlier versions name only the probe."""
        recorded = self.meta.get("sees")
        return _sights_of(self.probe, self.meta) if recorded is None else frozenset(recorded)

    @property
    def sees_requests(self) -> bool:
        """Whether single requests could be observed; without, only phases and the client's own counters are known."""
        return Sight.REQUESTS in self.sees or self.has(Kind.FUSE_DAEMON)

    @property
    def sees_pages(self) -> bool:
        """Whether the probe could observe pages that need no request."""
        return Sight.PAGES in self.sees

    @property
    def sees_sends(self) -> bool:
        """Whether each FUSE request that a thread of the target sends could be observed."""
        return Sight.SENDS in self.sees

    @property
    def sees_scheduler(self) -> bool:
        """Whether the probe could observe when threads are off the CPU."""
        return Sight.SCHEDULER in self.sees

    def lanes(self, keys: Ints) -> Lanes:
        """Return a lane for each distinct key, as long as the recording."""
        return Lanes.of(keys, self.start_ns, self.end_ns)

    def text_index(self, rows: Rows) -> Ints:
        """Return the index into `texts` of each row's text, -1 for none."""
        kinds = np.unique(rows.kind)
        chosen = np.flatnonzero(np.isin(self.texts["kind"] & ~np.uint16(UNFINISHED), kinds))
        if not len(chosen):
            return np.full(len(rows), -1, dtype=np.int64)
        of = self.texts[chosen]
        tids, when = ints(of["tid"]), ints(of["ts"])
        kind = ints(of["kind"] & ~np.uint16(UNFINISHED))
        lanes = self.lanes(thread_kind_key(tids, kind))
        inside = (when >= self.start_ns) & (when <= self.end_ns)
        places = np.where(inside, lanes.at(thread_kind_key(tids, kind), when), -2)
        place = match(places, lanes.at(thread_kind_key(rows.tid, rows.kind), rows.start))
        return np.where(place >= 0, chosen[np.maximum(place, 0)], -1)

    def text(self, rows: Rows) -> list[str]:
        """Return the text of each row, empty where there is none. For thousands of rows, not for millions."""
        index = self.text_index(rows)
        column = self.texts["text"]
        return [column[place].decode("utf-8", "replace") if place >= 0 else "" for place in index]

    @cached_property
    def target_pid(self) -> int:
        return int((self.meta.get("target") or {}).get("pid") or 0)

    @cached_property
    def daemon_pids(self) -> Ints:
        by_events = np.unique(self.of(Kind.FUSE_DAEMON, Kind.FUSE_REPLY).tgid)
        by_meta = ints([mount.daemon_pid for mount in self.mounts if mount.daemon_pid])
        return np.union1d(by_events, by_meta)

    @cached_property
    def target_tgids(self) -> Ints:
        """Processes of the target's tree."""
        forks = self.of(Kind.PROC_FORK)
        known = np.concatenate([ints([self.target_pid] if self.target_pid else []), forks.a, self.of(*OF_TARGET).tgid])
        return np.setdiff1d(known, self.daemon_pids)

    @cached_property
    def target_threads(self) -> tuple[Ints, Ints]:
        """Threads of the target's tree, sorted: (tid, tgid)."""
        forks = self.of(Kind.PROC_FORK)
        of_target = np.isin(self.all.tgid, self.target_tgids)
        tids = np.concatenate([self.all.tid[of_target], forks.b, self.target_tgids])
        tgids = np.concatenate([self.all.tgid[of_target], forks.a, self.target_tgids])
        unique, first = np.unique(tids, return_index=True)
        return unique, tgids[first]

    def is_target_thread(self, tid: Ints) -> Bools:
        return np.isin(tid, self.target_threads[0])


def _sights_of(probe: str, meta: dict[str, Any]) -> frozenset[str]:
    """Return what a probe of a version observed that did not write `sees` into meta.json."""
    if probe in ("strace", "portable"):
        return frozenset({Sight.REQUESTS} if probe == "strace" else ())
    missing = " ".join(str(each) for each in meta.get("missing") or ())
    unseen = {Sight.SENDS} if probe != "ebpf" or "FUSE tracepoints" in missing else set[Sight]()
    return frozenset(set(Sight) - unseen - ({Sight.SCHEDULER} if probe != "ebpf" else set[Sight]()))


def recording(trace: Trace) -> Recording:
    """Turn a trace into columns; events in any order, with a negative or absurd length cut to size.

    Raises TraceDamaged if meta.json is not one.
    """
    meta = checked(trace)
    mounts = tuple(Mount.of(entry) for entry in meta.get("mounts") or ())
    events, unobserved = _split(in_order(trace.events), mounts, meta)
    when = events["ts"].view(np.int64)
    rows = _rows(events, when)
    kind = rows.kind
    order = np.argsort(kind.astype(np.uint16), kind="stable")
    present, first = np.unique(kind[order], return_index=True)
    places = np.split(order.astype(np.int64), first[1:]) if len(present) else []
    clock = meta.get("clock") or {}
    edges = [clock[name] for name in ("start_ns", "end_ns") if isinstance(clock.get(name), int)]
    start_ns = min([*edges, *(int(when[0]) for _ in range(len(when) > 0))], default=0)
    end_ns = max([*edges, *(int(rows.end.max()) for _ in range(len(when) > 0))], default=0)
    return Recording(
        path=trace.path,
        meta=meta,
        damage=trace.damage,
        all=rows,
        kinds={int(number): place for number, place in zip(present, places, strict=True)},
        texts=trace.texts,
        start_ns=start_ns,
        end_ns=end_ns,
        mounts=mounts,
        unobserved_events=unobserved,
    )


ON_DEVICES: Final = (Kind.FAULT, Kind.PAGE_READ, Kind.PAGE_MAP, Kind.READAHEAD, Kind.SYS_STAT)
"""Kinds whose `a` is the device of a file."""


def _split(events: Events, mounts: tuple[Mount, ...], meta: dict[str, Any]) -> tuple[Events, Events]:
    """Tell events on observed mounts and of no mount at all from those on other FUSE mounts, which newer traces have as well."""
    other_mounts = [other for other in meta.get("other_mounts") or () if isinstance(other, dict)]
    connections, devices = (
        ints([other[name] for other in other_mounts if type(other.get(name)) is int and 0 <= other[name] < 2**63])
        for name in ("connection", "device")
    )
    if not len(other_mounts):
        return events, events[:0]
    kind = events["kind"] & ~np.uint16(UNFINISHED)
    connections = np.setdiff1d(connections, [mount.connection for mount in mounts])
    devices = np.setdiff1d(devices, [mount.device for mount in mounts])
    on_others = (kind == Kind.FUSE_SEND) & np.isin(events["b"].view(np.int64), connections)
    on_others |= np.isin(kind, ON_DEVICES) & np.isin(events["a"].view(np.int64), devices)
    return (events, events[:0]) if not on_others.any() else (events[~on_others], events[on_others])


def _rows(events: Events, when: Ints) -> Rows:
    """Present the columns of the trace where they are: copied, a long trace would be in memory twice."""
    flagged: Any = events["kind"]
    length = np.minimum(events["dur"], np.uint64(LONGEST_NS)).astype(np.int64)
    return Rows(
        start=when,
        end=when + length,
        tgid=events["tgid"],
        tid=events["tid"],
        kind=flagged & ~np.uint16(UNFINISHED),
        ret=events["ret"],
        a=events["a"].view(np.int64),
        b=events["b"].view(np.int64),
        c=events["c"].view(np.int64),
        unfinished=(flagged & np.uint16(UNFINISHED)) != 0,
    )


class EventIndex:
    """Events found by (key, time): `rows` sorted that way, `before` and `after` return indices into them."""

    def __init__(self, recording: Recording, rows: Rows, key: Ints) -> None:
        self.lanes = recording.lanes(key)
        places = self.lanes.at(key, rows.start)
        self.order = np.argsort(places, kind="stable")
        self.rows, self.places = rows.where(self.order), places[self.order]

    def asof_forward(self, key: Ints, time_ns: Ints) -> Ints:
        """Return the first that starts at or after a time, -1 if there is none."""
        return earliest_within(self.places, self.lanes.at(key, time_ns), self.lanes.span_ns)

    def asof_backward(self, key: Ints, time_ns: Ints) -> Ints:
        """Return the last that starts at or before a time, -1 if there is none."""
        return latest_within(self.places, self.lanes.at(key, time_ns), self.lanes.span_ns)
