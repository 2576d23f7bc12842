"""A trace as columns: events by kind, their texts, and who is target and who is daemon."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis.trace.intervals import (
    Bools,
    Ints,
    Lanes,
    earliest_within,
    empty,
    ints,
    latest_within,
    match,
    numbered,
)
from cvtrace.analysis.trace.keys import thread_kind_key
from cvtrace.analysis.trace.meta import checked
from cvtrace.probes.events import UNFINISHED, Events, Kind, Side, Sight, Texts
from cvtrace.tracer.columns import EventColumns
from cvtrace.tracer.store import Trace

LONGEST_NS: Final = 2**50
"""13 days; a longer event is a damaged one and is cut to this."""

OF_TARGET: Final = tuple(kind for kind in Kind if kind.side is Side.TARGET)
"""Kinds that probes record for the target's process tree only."""


class Rows:
    """Events of some kinds, sorted by start, in columns that are wide (int64, bool) and made when they are first asked for.

    A table is either whole, of columns that are given or of a recording, or rows chosen from such a one; `index` is the place of each row there.
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

    def __init__(
        self, table: Callable[[str], Any] | None = None, index: Ints | None = None, count: int = 0, **columns: Any
    ) -> None:
        self._column = columns.__getitem__ if table is None else table
        self._index = index
        self._count = len(columns["start"]) if table is None else count
        vars(self).update(columns)

    def __len__(self) -> int:
        return self._count if self._index is None else len(self._index)

    @property
    def index(self) -> Ints:
        return np.arange(self._count, dtype=np.int64) if self._index is None else self._index

    def __getattr__(self, name: str) -> Any:
        if name not in Rows.__annotations__:
            raise AttributeError(name)
        column = self._column(name)
        if self._index is not None:
            column = column[self._index]
        setattr(self, name, column)
        return column

    def where(self, chosen: Bools | Ints) -> "Rows":
        """Return the chosen rows, by mask or by index."""
        if self._index is not None:
            return Rows(self._column, self._index[chosen])
        return Rows(self._column, np.flatnonzero(chosen) if chosen.dtype == np.bool_ else ints(chosen))


class _OfKinds:
    """The columns of the events of some kinds, in the order (ts, kind, tid)."""

    def __init__(self, columns: EventColumns, numbers: list[int]) -> None:
        self._columns, self._numbers = columns, sorted(numbers)
        self.count = sum(columns.counts[number] for number in numbers)

    @cached_property
    def _order(self) -> Ints | None:
        if len(self._numbers) < 2:
            return None
        times = np.concatenate([self._columns.column(number, "ts") for number in self._numbers])
        return np.argsort(times, kind="stable")

    def __call__(self, name: str) -> Any:
        parts = [self._of_kind(number, name) for number in self._numbers]
        column = parts[0] if len(parts) == 1 else np.concatenate(parts or [empty()])
        return column if self._order is None else column[self._order]

    def _of_kind(self, number: int, name: str) -> Any:
        columns, count = self._columns, self._columns.counts[number]
        if name == "unfinished":
            return np.full(count, bool(number & UNFINISHED))
        if name == "kind":
            return np.full(count, number & ~UNFINISHED, dtype=np.int64)
        if name == "end":
            return columns.column(number, "ts") + _lengths(columns.column(number, "dur"))
        return columns.column(number, "ts" if name == "start" else name)


def _rows(columns: EventColumns, kinds: tuple[Kind, ...]) -> Rows:
    table = _OfKinds(columns, [number for kind in kinds for number in columns.kinds(int(kind))])
    return Rows(table, count=table.count)


def _lengths(dur: Ints) -> Ints:
    """Cut lengths that are absurd; one of 2^63 and more is negative here."""
    return np.where(dur < 0, LONGEST_NS, np.minimum(dur, LONGEST_NS))


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
    """What was recorded. Built by `recording`."""

    path: Path
    meta: dict[str, Any]
    damage: str | None
    columns: EventColumns
    texts: Texts
    start_ns: int
    end_ns: int
    mounts: tuple[Mount, ...]
    unobserved_events: Events
    """FUSE requests of the target and pages it touched on mounts that are not observed (`meta["other_mounts"]`), in order."""
    threads: "ThreadsSeen"

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def kernel(self) -> str:
        """Release of the kernel that was recorded on; empty where the trace does not tell."""
        return str(self.meta.get("kernel") or "")

    def of(self, *kinds: Kind) -> Rows:
        """Return the events of these kinds."""
        return _rows(self.columns, kinds)

    def windows(self, *kinds: Kind) -> Iterator[Rows]:
        """Return the events of these kinds, those of a stretch of time at once: for sums over a long trace."""
        for columns in self.columns.windows():
            yield _rows(columns, kinds)

    def every(self, thread: int) -> Iterator[tuple[int, Rows]]:
        """Return the events of a thread, kind by kind."""
        for kind in np.unique(self.threads.kind[self.threads.tid == thread]).tolist():
            table = _OfKinds(self.columns, self.columns.kinds(kind))
            rows = Rows(table, count=table.count)
            yield kind, rows.where(rows.tid == thread)

    def has(self, *kinds: Kind) -> bool:
        return any(self.columns.kinds(int(kind)) for kind in kinds)

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

    def processes_of(self, *kinds: Kind) -> Ints:
        """Return the processes that have events of these kinds, sorted."""
        return np.unique(self.threads.tgid[np.isin(self.threads.kind, kinds)])

    @cached_property
    def daemon_pids(self) -> Ints:
        by_events = self.processes_of(Kind.FUSE_DAEMON, Kind.FUSE_REPLY)
        by_meta = ints([mount.daemon_pid for mount in self.mounts if mount.daemon_pid])
        return np.union1d(by_events, by_meta)

    @cached_property
    def target_tgids(self) -> Ints:
        """Processes of the target's tree."""
        forks = self.of(Kind.PROC_FORK)
        of_pid = ints([self.target_pid] if self.target_pid else [])
        known = np.concatenate([of_pid, forks.a, self.processes_of(*OF_TARGET)])
        return np.setdiff1d(known, self.daemon_pids)

    @cached_property
    def target_threads(self) -> tuple[Ints, Ints]:
        """Threads of the target's tree, sorted: (tid, tgid)."""
        forks, seen = self.of(Kind.PROC_FORK), self.threads
        of_target = np.isin(seen.tgid, self.target_tgids)
        tids = np.concatenate([seen.tid[of_target], forks.b, self.target_tgids])
        tgids = np.concatenate([seen.tgid[of_target], forks.a, self.target_tgids])
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


@dataclass(frozen=True)
class ThreadsSeen:
    """Threads that have events: a row for each thread, process and kind, in the order in which the first of these events began.

    `first` is when it began, `last` when the last one of them was over, `last_start` when the last one of them began.
    """

    tid: Ints
    tgid: Ints
    kind: Ints
    first: Ints
    last: Ints
    last_start: Ints

    def lives(self, tids: Ints) -> tuple[Ints, Ints]:
        """Return when the first event of each of these threads began, and when the last one was over; 2^63 and 0 without any."""
        number = match(tids, self.tid)
        known = number >= 0
        first = np.full(len(tids), np.iinfo(np.int64).max, dtype=np.int64)
        last = np.zeros(len(tids), dtype=np.int64)
        np.minimum.at(first, number[known], self.first[known])
        np.maximum.at(last, number[known], self.last[known])
        return first, last


def _threads_seen(columns: EventColumns) -> ThreadsSeen:
    rows = [np.empty((6, 0), dtype=np.int64)]
    for number in columns:
        table = _OfKinds(columns, [number])
        tids, tid = numbered(table("tid"))
        tgids, tgid = numbered(table("tgid"))
        pairs, pair = numbered(tid * len(tgids) + tgid)
        start, end = table("start"), table("end")
        latest_end = np.full(len(pairs), np.iinfo(np.int64).min, dtype=np.int64)
        np.maximum.at(latest_end, pair, end)
        first, last = np.empty(len(pairs), dtype=np.int64), np.empty(len(pairs), dtype=np.int64)
        first[pair[::-1]], last[pair] = start[::-1], start  # the one that is written last counts
        kind = np.full(len(pairs), number, dtype=np.int64)
        rows.append(np.stack([tids[pairs // len(tgids)], tgids[pairs % len(tgids)], kind, first, latest_end, last]))
    table_of_rows = np.concatenate(rows, axis=1)
    in_turn = table_of_rows[:, np.lexsort((table_of_rows[2], table_of_rows[3]))]
    tid, tgid, kind, first, last, last_start = in_turn
    return ThreadsSeen(tid, tgid, kind & ~UNFINISHED, first, last, last_start)


def recording(trace: Trace) -> Recording:
    """Turn a trace into columns; events in any order, with a negative or absurd length cut to size.

    Raises TraceDamaged if meta.json is not one.
    """
    meta = checked(trace)
    mounts = tuple(Mount.of(entry) for entry in meta.get("mounts") or ())
    if meta.get("dropped"):  # the clients counted what is not in the trace any more
        mounts = tuple(replace(mount, counters_before={}) for mount in mounts)
    columns, unobserved = _split(trace.columns(), mounts, meta)
    clock = meta.get("clock") or {}
    edges = [clock[name] for name in ("start_ns", "end_ns") if isinstance(clock.get(name), int)]
    seen = _threads_seen(columns)
    return Recording(
        path=trace.path,
        meta=meta,
        damage=trace.damage,
        columns=columns,
        texts=trace.texts,
        start_ns=min([*edges, *seen.first[:1].tolist()], default=0),
        end_ns=max([*edges, *seen.last.tolist()], default=0),
        mounts=mounts,
        unobserved_events=unobserved,
        threads=seen,
    )


ON_DEVICES: Final = (Kind.FAULT, Kind.PAGE_READ, Kind.PAGE_MAP, Kind.READAHEAD, Kind.SYS_STAT)
"""Kinds whose `a` is the device of a file."""


def _split(columns: EventColumns, mounts: tuple[Mount, ...], meta: dict[str, Any]) -> tuple[EventColumns, Events]:
    """Tell events on observed mounts and of no mount at all from those on other FUSE mounts, which newer traces have as well."""
    other_mounts = [other for other in meta.get("other_mounts") or () if isinstance(other, dict)]
    connections, devices = (
        ints([other[name] for other in other_mounts if type(other.get(name)) is int and 0 <= other[name] < 2**63])
        for name in ("connection", "device")
    )
    connections = np.setdiff1d(connections, [mount.connection for mount in mounts])
    devices = np.setdiff1d(devices, [mount.device for mount in mounts])
    on_others = {}
    for kind, name, others in [(Kind.FUSE_SEND, "b", connections), *((kind, "a", devices) for kind in ON_DEVICES)]:
        for number in columns.kinds(int(kind)) if len(others) else ():
            is_other = np.isin(columns.column(number, name), others)
            if is_other.any():
                on_others[number] = is_other
    return columns.split(on_others)


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
