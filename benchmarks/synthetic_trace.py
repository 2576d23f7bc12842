"""What made-up traces are built of: events as columns, a FUSE request, a fetch, and what a recorder says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, TEXT, Events, Kind, Opcode, Texts, no_texts
from cvtrace.tracer.store import Trace, TraceWriter

TARGET, DAEMON, DOWNLOADER = 100, 200, 209
CONNECTION = 42
MOUNT: Final = "/cvmfs/repo.test.org"
READ_BYTES: Final = 131_072

Ints = npt.NDArray[np.int64]
Times = Ints | int


class SyntheticEvents:
    """Events and texts that were made so far; times count from `start_ns`, an event or very many at once."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._events: list[Events] = []
        self._texts: list[Texts] = [no_texts()]

    def add(
        self,
        kind: Kind,
        at: Times,
        to: Times | None = None,
        *,
        tid: Times = TARGET,
        text: list[bytes] | None = None,
        **more: Times,
    ) -> None:
        """Add events, one for each time; a text for each if there is one."""
        begin = np.atleast_1d(at)
        rows = np.zeros(len(begin), dtype=EVENT)
        rows["ts"], rows["dur"] = begin + self._start_ns, 0 if to is None else to - begin
        rows["tid"], rows["tgid"] = tid, np.where(np.asarray(tid) < DAEMON, TARGET, DAEMON)
        rows["kind"] = int(kind)
        for name, value in more.items():
            rows[name] = np.asarray(value).astype(rows.dtype[name], casting="unsafe")
        self._events.append(rows)
        if text is not None:
            texts = np.zeros(len(begin), dtype=TEXT)
            texts["ts"], texts["tid"], texts["kind"] = rows["ts"], rows["tid"], int(kind)
            texts["size"], texts["text"] = [len(line) for line in text], text
            self._texts.append(texts)

    def request(
        self,
        opcode: Opcode,
        unique: Times,
        node: Times,
        sent_at: Times,
        ended: Times,
        worker: Times,
        *,
        reply_bytes: int,
        taken_ns: int,
        replying_ns: int,
    ) -> None:
        """Add FUSE requests: the client takes one `taken_ns` after it was sent, and begins the reply so long before its end."""
        self.add(Kind.FUSE_SEND, sent_at, ended, a=unique, b=CONNECTION, c=opcode << 32 | 80)
        self.add(Kind.FUSE_DAEMON, sent_at + taken_ns, ended, tid=worker, a=unique, b=node, c=opcode << 32 | TARGET)
        self.add(Kind.FUSE_REPLY, ended - replying_ns, ended, tid=worker, a=unique, b=reply_bytes, ret=reply_bytes)

    def fetch(self, times: Fetch, worker: Times, address: Times, objects: list[str], size: int) -> None:
        """Add fetches of objects (`head/tail` of their hashes), up to the first byte, and how they end."""
        files = [f"./{path}".encode() for path in objects]
        lines = [f"GET /cvmfs/repo.test.org/data/{path}P HTTP/1.1".encode() for path in objects]
        head = [f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n".encode()] * len(objects)
        self.add(Kind.CACHE_OPEN, times.missed, times.missed + 500, tid=worker, ret=-2, text=files)
        self.add(Kind.HANDOVER, times.handed, times.handed + 500, tid=worker, ret=8, a=address, b=41)
        self.add(Kind.HANDOVER_TAKEN, times.taken_at, tid=DOWNLOADER, ret=8, a=address, b=40)
        self.add(Kind.HTTP_SEND, times.sent_at, tid=DOWNLOADER, ret=90, a=61, c=90, text=lines)
        self.add(Kind.HTTP_RECV, times.first, tid=DOWNLOADER, ret=times.first_bytes, a=61, c=65_536, text=head)
        self.add(Kind.HANDOVER_DONE, times.done_at, tid=DOWNLOADER, ret=4, b=65)
        self.add(Kind.HANDOVER_RESULT, times.handed + 1_000, times.delivered_at, tid=worker, ret=4, b=64)
        self.add(Kind.CACHE_RENAME, times.committed, times.committed + 1_000, tid=worker, text=files)

    def events(self) -> Events:
        """Return the events in the order of time."""
        events = np.concatenate(self._events)
        return events[np.argsort(events["ts"], kind="stable")]

    def texts(self) -> Texts:
        return np.concatenate(self._texts)


@dataclass(frozen=True)
class Fetch:
    """When the parts of fetches happen: handed over to the download thread, taken by it, GET, first byte, end."""

    missed: Times
    handed: Times
    taken_at: Times
    sent_at: Times
    first: Times
    first_bytes: int
    done_at: Times
    delivered_at: Times
    committed: Times


def meta(start_ns: int, end_ns: int, argv: list[str], **mount: Any) -> dict[str, Any]:
    """Return what a recorder says of a trace; `mount` adds to what it says of the mount."""
    mount_entry = {
        "path": MOUNT,
        "fqrn": "repo.test.org",
        "connection": CONNECTION,
        "device": CONNECTION,
        "daemon_pid": DAEMON,
        "client": "cvmfs2",
        "version": "2.12.0",
        **mount,
    }
    return {
        "schema": "cvtrace-trace/1",
        "started": "2026-01-01T00:00:00+00:00",
        "host": "bench",
        "target": {"argv": argv, "pid": TARGET, "cwd": "/", "user": "user", "exit_code": 0},
        "clock": {"start_ns": start_ns, "end_ns": end_ns, "realtime_offset_ns": 0},
        "probe": "ebpf",
        "missing": [],
        "lost": {},
        "mounts": [mount_entry],
        "finished": True,
    }


def write_to(trace: Trace, path: Path) -> None:
    """Write a trace to disk, as a recorder leaves it."""
    writer = TraceWriter(path, trace.meta, force=True)
    writer.write(trace.events, trace.texts)
    writer.finish()
