"""A truth builder: composes traces of a target, a client and its download thread from known times, in microseconds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cvtrace.probes.events import EVENT, NO_OFFSET, TEXT, UNFINISHED, Kind, Opcode
from cvtrace.probes.phases.functions import INDEX, USER_PHASE
from cvtrace.tracer.store import Trace

US = 1_000
START = 1_000_000_000  # ns at which the recording starts; times given to a Scene count from here, in µs
TARGET, DAEMON = 100, 200
WORKER, WORKER2, DOWNLOADER = 201, 202, 209
CONNECTION = 42
MOUNT = "/cvmfs/repo.test.org"
MODEL = f"{MOUNT}/models/tiny/model.onnx.data"
ENOENT = -2


def hash_path(number: int) -> str:
    """Return the cache path of object `number`."""
    digits = f"{number:040x}"
    return f"./{digits[:2]}/{digits[2:]}"


def get_line(number: int, suffix: str = "P") -> str:
    digits = f"{number:040x}"
    return f"GET /cvmfs/repo.test.org/data/{digits[:2]}/{digits[2:]}{suffix} HTTP/1.1"


@dataclass
class Fetch:
    """When the parts of a download happen, in µs; `queue` starts the hand-over."""

    handed: float
    get: float
    first: float
    done: float
    filled: float
    connect: float | None = None
    polls: tuple[tuple[float, float], ...] = ()
    last: float | None = None
    number: int = 1
    size: int = 1000
    status: int = 200
    suffix: str = "P"
    path: str = "/models/tiny/model.onnx.data"
    descriptor: int = 61
    address: int = 0xF00


@dataclass
class Scene:
    """Events in any order; `trace()` sorts them."""

    events: list[tuple[int, ...]] = field(default_factory=list)
    texts: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)
    end: float = 1000.0
    unique: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    counters: bool = True

    def add(
        self,
        kind: Kind,
        at: float,
        to: float | None = None,
        *,
        tid: int,
        tgid: int | None = None,
        ret: int = 0,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        text: str | None = None,
        unfinished: bool = False,
    ) -> "Scene":
        start = START + round(at * US)
        length = max(round((to - at) * US), 0) if to is not None else 0
        number = int(kind) | (UNFINISHED if unfinished else 0)
        process = tgid if tgid is not None else (TARGET if tid < DAEMON else DAEMON)
        self.events.append((start, length, process, tid, number, 0, ret, a % 2**64, b % 2**64, c % 2**64))
        if text is not None:
            raw = text.encode()
            self.texts.append((start, tid, int(kind), len(raw), raw[:496]))
        return self

    # The target.

    def call(self, function: str, at: float, to: float, *, tid: int = TARGET, **more: Any) -> "Scene":
        return self.add(Kind.PHASE, at, to, tid=tid, a=INDEX[function], **more)

    def named(self, name: str, at: float, to: float, *, tid: int = TARGET, **more: Any) -> "Scene":
        return self.add(Kind.PHASE, at, to, tid=tid, a=USER_PHASE, text=name, **more)

    def imported(self, module: str, at: float, to: float, depth: int = 0, *, tid: int = TARGET, **more: Any) -> "Scene":
        return self.add(Kind.IMPORT, at, to, tid=tid, b=depth, text=module, **more)

    def off(self, at: float, woken: float, to: float, *, by: int, tid: int = TARGET, state: int = 1) -> "Scene":
        return self.add(Kind.OFFCPU, at, to, tid=tid, a=START + round(woken * US), b=by, c=state)

    def preempted(self, at: float, to: float, *, tid: int = TARGET) -> "Scene":
        return self.add(Kind.OFFCPU, at, to, tid=tid)

    def opened(self, at: float, to: float, fd: int, path: str = MODEL, *, tid: int = TARGET) -> "Scene":
        return self.add(Kind.SYS_OPEN, at, to, tid=tid, ret=fd, a=-100, text=path)

    def read(self, at: float, to: float, fd: int, size: int = 4096, *, tid: int = TARGET) -> "Scene":
        return self.add(Kind.SYS_READ, at, to, tid=tid, ret=size, a=fd, b=NO_OFFSET, c=size)

    # The daemon.

    def request(
        self,
        opcode: Opcode,
        received: float,
        replying: float,
        replied: float,
        *,
        sent: float | None = None,
        asker: int = TARGET,
        sender: int | None = None,
        worker: int = WORKER,
        node: int = 7,
        offset: int = 0,
        size: int = 131072,
        flags: int = 0,
        child: int = 0,
        name: str | None = None,
    ) -> int:
        """Add a FUSE request; `sent` adds what the kernel saw of it. Returns its unique."""
        self.unique += 2
        unique = self.unique
        pid = 0 if opcode is Opcode.RELEASE else asker
        self.add(Kind.FUSE_DAEMON, received, replied, tid=worker, a=unique, b=node, c=opcode << 32 | pid, text=name)
        length = 16 + size if opcode is Opcode.READ else 32
        self.add(Kind.FUSE_REPLY, replying, replied, tid=worker, a=unique, b=length | flags << 32, c=child, ret=length)
        if opcode is Opcode.READ:
            self.add(Kind.FUSE_READ, received, tid=worker, a=unique, b=offset, c=size)
        if sent is not None:
            self.add(
                Kind.FUSE_SEND,
                sent,
                replying + 1,
                tid=sender or asker,
                tgid=None if (sender or asker) < DAEMON else DAEMON,
                a=unique,
                b=CONNECTION,
                c=opcode << 32 | 80,
            )
        return unique

    def hit(self, at: float, number: int, fd: int = 30, *, worker: int = WORKER) -> "Scene":
        return self.add(Kind.CACHE_OPEN, at, at + 1, tid=worker, ret=fd, text=hash_path(number))

    def miss(self, at: float, number: int, *, worker: int = WORKER) -> "Scene":
        return self.add(Kind.CACHE_OPEN, at, at + 1, tid=worker, ret=ENOENT, text=hash_path(number))

    def cache_read(
        self, at: float, to: float, fd: int = 30, size: int = 131072, *, offset: int = 0, worker: int = WORKER
    ) -> "Scene":
        return self.add(Kind.CACHE_READ, at, to, tid=worker, ret=size, a=fd, b=offset, c=size)

    def manifest(self, at: float) -> "Scene":
        """Add the GET of a manifest, as the client's own thread sends it."""
        line = "GET /cvmfs/repo.test.org/.cvmfspublished HTTP/1.1"
        self.add(Kind.HTTP_SEND, at, at + 0.5, tid=DOWNLOADER, ret=90, a=61, c=90, text=line)
        head = "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n"
        return self.add(Kind.HTTP_RECV, at + 1, tid=DOWNLOADER, ret=500, a=61, c=16384, text=head)

    def page(self, kind: Kind, at: float, page: int, pages: int = 1, *, node: int = 7, tid: int = TARGET) -> "Scene":
        """Add a page of a file that the target read, faulted on or had mapped in."""
        count = 0 if kind is Kind.FAULT else pages << 48
        return self.add(kind, at, tid=tid, a=CONNECTION, b=node, c=page | count)

    def fetch(self, fetch_: Fetch, *, worker: int = WORKER) -> "Scene":
        """Add a miss (twice, as the client does), the hand-over, the transfer, and the commit."""
        self.miss(fetch_.handed - 6, fetch_.number, worker=worker).miss(fetch_.handed - 3, fetch_.number, worker=worker)
        self.add(Kind.HANDOVER, fetch_.handed, fetch_.handed + 1, tid=worker, ret=8, a=fetch_.address, b=41)
        first_step = fetch_.connect if fetch_.connect is not None else fetch_.get
        taken_at = min(fetch_.handed + 2, first_step)
        self.add(Kind.HANDOVER_TAKEN, taken_at, tid=DOWNLOADER, ret=8, a=fetch_.address, b=40)
        if fetch_.connect is not None:
            peer = 2 | 8000 << 32
            self.add(
                Kind.HTTP_CONNECT,
                fetch_.connect,
                fetch_.connect + 1,
                tid=DOWNLOADER,
                ret=-115,
                a=fetch_.descriptor,
                b=peer,
                c=0x7F000001,
            )
        self.add(
            Kind.HTTP_SEND,
            fetch_.get,
            fetch_.get + 0.5,
            tid=DOWNLOADER,
            ret=90,
            a=fetch_.descriptor,
            c=90,
            text=get_line(fetch_.number, fetch_.suffix),
        )
        head = f"HTTP/1.1 {fetch_.status} OK\r\nContent-Length: {fetch_.size}\r\n"
        body_at = fetch_.last if fetch_.last is not None else fetch_.done - 1
        self.add(
            Kind.HTTP_RECV,
            fetch_.first,
            tid=DOWNLOADER,
            ret=200 + fetch_.size // 2,
            a=fetch_.descriptor,
            c=16384,
            text=head,
        )
        self.add(
            Kind.HTTP_RECV, body_at, tid=DOWNLOADER, ret=fetch_.size - fetch_.size // 2, a=fetch_.descriptor, c=16384
        )
        for start, stop in fetch_.polls:
            self.add(Kind.DAEMON_POLL, start, stop, tid=DOWNLOADER, ret=1, a=3)
        self.add(Kind.HANDOVER_DONE, fetch_.done, tid=DOWNLOADER, ret=4, b=65)
        self.add(Kind.HANDOVER_RESULT, fetch_.handed + 1.5, fetch_.done + 1, tid=worker, ret=4, b=64)
        self.add(Kind.CACHE_OPEN, fetch_.done + 2, tid=worker, ret=66, text="./txn/fetchAbCdEf")
        self.add(Kind.CACHE_RENAME, fetch_.filled - 2, fetch_.filled - 1, tid=worker, text=hash_path(fetch_.number))
        return self.add(
            Kind.CACHE_INSERT,
            fetch_.filled - 1,
            fetch_.filled,
            tid=worker,
            a=fetch_.size,
            text=f"Part of {fetch_.path}",
        )

    # The trace.

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        events = np.array(self.events, dtype=EVENT)
        texts = np.array(self.texts, dtype=TEXT)
        return events[np.argsort(events["ts"], kind="stable")], texts[np.argsort(texts["ts"], kind="stable")]

    def trace(self, **changes: Any) -> Trace:
        events, texts = self.arrays()
        meta = {**self._meta(events), **self.meta, **changes}
        return Trace(Path("trace"), meta, events, texts, None)

    def _meta(self, events: np.ndarray) -> dict[str, Any]:
        return {
            "schema": "cvtrace-trace/1",
            "cvtrace": "0.1.0",
            "started": "2026-01-01T12:00:00+00:00",
            "host": "node1",
            "kernel": "6.18",
            "machine": "x86_64",
            "target": {"argv": ["phi3-qa.py"], "pid": TARGET, "cwd": "/home/user", "user": "user", "exit_code": 0},
            "clock": {"start_ns": START, "end_ns": START + round(self.end * US), "realtime_offset_ns": 0},
            "probe": "ebpf",
            "missing": [],
            "lost": {},
            "mounts": [self.mount(events)],
            "finished": True,
        }

    def mount(self, events: np.ndarray) -> dict[str, Any]:
        """Return the mount, with counters that agree with what is in the scene."""
        kind = events["kind"] & ~np.uint16(UNFINISHED)
        opcode = (events["c"] >> np.uint64(32))[kind == Kind.FUSE_DAEMON]
        lengths = [int(text.split(b"Content-Length: ")[1]) for *_, text in self.texts if b"Content-Length" in text]
        counters = {
            "cvmfs.n_fs_read": int((opcode == Opcode.READ).sum()),
            "cvmfs.n_fs_open": int((opcode == Opcode.OPEN).sum()),
            "download.n_requests": int((kind == Kind.HTTP_SEND).sum()),
            "download.sz_transferred_bytes": sum(lengths),
        }
        return {
            "path": MOUNT,
            "fqrn": "repo.test.org",
            "connection": CONNECTION,
            "device": CONNECTION,
            "daemon_pid": DAEMON,
            "client": "cvmfs2",
            "version": "2.12.0",
            "workspace": "/var/lib/cvmfs/repo.test.org",
            "counters_before": dict.fromkeys(counters, 10) if self.counters else {},
            "counters_after": {name: 10 + count for name, count in counters.items()} if self.counters else {},
            "error": None if self.counters else "the talk socket is not readable",
        }
