"""A made-up trace of any number of FUSE requests: a load, then tokens, with fetches now and then. Vectorised, so a million is quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, NO_OFFSET, TEXT, Events, Kind, Opcode, Texts
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.store import Trace

START = 1_000_000_000
US = 1_000
TARGET, DAEMON, DOWNLOADER, WORKERS = 100, 200, 209, 4
CONNECTION = 42
MOUNT = "/cvmfs/repo.test.org"
READ_BYTES = 131_072
FETCH_EVERY = 100
"""Requests from one fetch to the next."""
LOAD_SHARE = 0.6
OPEN_US = 20

Ints = npt.NDArray[np.int64]


def big_trace(requests: int, tokens: int = 500, files: int = 20, seed: int = 1) -> Trace:
    """Return a trace of that many READs, on so many files, of which the first 60 % are of the load."""
    made = _Made()
    random = np.random.default_rng(seed)
    _opens(made, files)
    begin = (files + 1) * OPEN_US * US
    wait = np.clip(random.lognormal(3.2, 0.7, requests), 8, 50_000)
    fetched = np.arange(requests) % FETCH_EVERY == FETCH_EVERY // 2
    wait[fetched] += random.lognormal(7.5, 0.6, int(fetched.sum()))
    pause = random.exponential(6, requests) + 3
    end = begin + np.cumsum((wait + pause) * US).astype(np.int64)
    start = end - (wait * US).astype(np.int64)
    _reads(made, start, end, files, random)
    _fetches(made, start[fetched], end[fetched])
    _phases(made, begin, end, requests, tokens)
    return made.trace(int(end[-1]) + 2_000 * US)


class _Made:
    """Events and texts that were made so far."""

    def __init__(self) -> None:
        self.events: list[Events] = []
        self.texts: list[Texts] = []

    def add(
        self,
        kind: Kind,
        at: Ints,
        to: Ints | None = None,
        *,
        tid: int | Ints,
        text: list[bytes] | None = None,
        **more: object,
    ) -> None:
        rows = np.zeros(len(at), dtype=EVENT)
        rows["ts"], rows["dur"] = at + START, 0 if to is None else to - at
        rows["tid"], rows["tgid"] = tid, np.where(np.asarray(tid) < DAEMON, TARGET, DAEMON)
        rows["kind"] = int(kind)
        for name, value in more.items():
            rows[name] = np.asarray(value).astype(rows.dtype[name], casting="unsafe")
        self.events.append(rows)
        if text is not None:
            told = np.zeros(len(at), dtype=TEXT)
            told["ts"], told["tid"], told["kind"] = rows["ts"], rows["tid"], int(kind)
            told["size"], told["text"] = [len(each) for each in text], text
            self.texts.append(told)

    def trace(self, end: int) -> Trace:
        events = np.concatenate(self.events)
        events = events[np.argsort(events["ts"], kind="stable")]
        mount = {
            "path": MOUNT,
            "fqrn": "repo.test.org",
            "connection": CONNECTION,
            "device": CONNECTION,
            "daemon_pid": DAEMON,
            "client": "cvmfs2",
            "version": "2.12.0",
        }
        meta = {
            "schema": "cvtrace-trace/1",
            "started": "2026-01-01T00:00:00+00:00",
            "host": "bench",
            "target": {"argv": ["big.py"], "pid": TARGET, "cwd": "/", "exit_code": 0},
            "clock": {"start_ns": START, "end_ns": START + end},
            "probe": "ebpf",
            "missing": [],
            "lost": {},
            "mounts": [mount],
            "finished": True,
        }
        return Trace(Path("big"), meta, events, np.concatenate(self.texts), None)


def _opens(made: _Made, files: int) -> None:
    number = np.arange(files)
    at = (number + 1) * OPEN_US * US
    names = [f"{MOUNT}/models/big/part-{each:03}.onnx.data".encode() for each in number]
    made.add(Kind.SYS_OPEN, at, at + 15 * US, tid=TARGET, ret=number + 3, a=-100, text=names)
    opened = 2 + 2 * number
    _asked(made, Opcode.OPEN, opened, number + 2, at + 1 * US, at + 12 * US, np.full(files, DAEMON + 1))


def _asked(made: _Made, opcode: Opcode, unique: Ints, node: Ints, at: Ints, to: Ints, worker: Ints) -> None:
    length = 16 + READ_BYTES if opcode is Opcode.READ else 32
    made.add(Kind.FUSE_SEND, at, to, tid=TARGET, a=unique, b=CONNECTION, c=opcode << 32 | 80)
    made.add(Kind.FUSE_DAEMON, at + 2 * US, to, tid=worker, a=unique, b=node, c=opcode << 32 | TARGET)
    made.add(Kind.FUSE_REPLY, to - 1 * US, to, tid=worker, a=unique, b=length, ret=length)


def _reads(made: _Made, start: Ints, end: Ints, files: int, random: np.random.Generator) -> None:
    number = np.arange(len(start))
    each = max(len(start) // files, 1)
    node = np.minimum(number // each, files - 1) + 2
    offset = np.where(random.random(len(start)) < 0.9, number % each, random.integers(0, each, len(start))) * READ_BYTES
    worker, unique = DAEMON + 1 + number % WORKERS, 1_000_000 + 2 * number
    made.add(
        Kind.SYS_READ, start - 1 * US, end + 1 * US, tid=TARGET, ret=READ_BYTES, a=node + 1, b=NO_OFFSET, c=READ_BYTES
    )
    made.add(Kind.OFFCPU, start + 500, end, tid=TARGET, a=end + START, b=worker, c=2)
    _asked(made, Opcode.READ, unique, node, start, end, worker)
    made.add(Kind.FUSE_READ, start + 2 * US, tid=worker, a=unique, b=offset, c=READ_BYTES)
    made.add(Kind.CACHE_READ, end - 4 * US, end - 2 * US, tid=worker, ret=READ_BYTES, a=30, c=READ_BYTES)


def _fetches(made: _Made, start: Ints, end: Ints) -> None:
    number = np.arange(len(start))
    worker = DAEMON + 1 + (number * FETCH_EVERY + FETCH_EVERY // 2) % WORKERS
    hashes = [f"{each:040x}" for each in number.tolist()]
    missed = [f"./{each[:2]}/{each[2:]}".encode() for each in hashes]
    lines = [f"GET /cvmfs/repo.test.org/data/{each[:2]}/{each[2:]}P HTTP/1.1".encode() for each in hashes]
    head = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"] * len(start)
    span = end - start
    at = [start + (span * part / 20).astype(np.int64) for part in range(20)]
    made.add(Kind.CACHE_OPEN, at[1], at[1] + US, tid=worker, ret=-2, text=missed)
    made.add(Kind.HANDOVER, at[2], at[2] + US // 2, tid=worker, ret=8, a=0xF00 + worker, b=41)
    made.add(Kind.HANDOVER_TAKEN, at[3], tid=DOWNLOADER, ret=8, a=0xF00 + worker, b=40)
    made.add(Kind.HTTP_SEND, at[4], tid=DOWNLOADER, ret=90, a=61, c=90, text=lines)
    made.add(Kind.HTTP_RECV, at[9], tid=DOWNLOADER, ret=500_200, a=61, c=16384, text=head)
    made.add(Kind.DAEMON_POLL, at[10], at[12], tid=DOWNLOADER, ret=1, a=3)
    made.add(Kind.HTTP_RECV, at[12], tid=DOWNLOADER, ret=500_000, a=61, c=16384)
    made.add(Kind.HANDOVER_DONE, at[14], tid=DOWNLOADER, ret=4, b=65)
    made.add(Kind.HANDOVER_RESULT, at[2] + US, at[15], tid=worker, ret=4, b=64)
    made.add(Kind.CACHE_RENAME, at[16], at[16] + US, tid=worker, text=missed)


def _phases(made: _Made, begin: int, end: Ints, requests: int, tokens: int) -> None:
    loaded = int(end[int(requests * LOAD_SHARE)])
    made.add(Kind.PHASE, np.array([begin]), np.array([loaded]), tid=TARGET, a=INDEX["OgaCreateModel"])
    edges = np.linspace(loaded + 2 * US, int(end[-1]) + 500 * US, tokens + 1).astype(np.int64)
    made.add(Kind.PHASE, edges[:-1], edges[1:] - US, tid=TARGET, a=INDEX["OgaGenerator_GenerateNextToken"])
