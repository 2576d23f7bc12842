"""A made-up trace of any number of FUSE requests: a load, then tokens, with fetches now and then. Vectorised, so a million is quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.synthetic_trace import DAEMON, DOWNLOADER, MOUNT, READ_BYTES, Fetch, SyntheticEvents, meta
from cvtrace.probes.events import NO_OFFSET, Kind, Opcode
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.store import Trace

START = 1_000_000_000
US = 1_000
WORKERS = 4
FETCH_EVERY = 100
"""Requests from one fetch to the next."""
LOAD_SHARE = 0.6
OPEN_US = 20

Ints = npt.NDArray[np.int64]


def big_trace(requests: int, tokens: int = 500, files: int = 20, seed: int = 1, slower: float = 1.0) -> Trace:
    """Return a trace of that many READs, on so many files, of which the first 60 % are of the load; fetches take `slower` times as long."""
    events = SyntheticEvents(START)
    random = np.random.default_rng(seed)
    _opens(events, files)
    begin = (files + 1) * OPEN_US * US
    wait = np.clip(random.lognormal(3.2, 0.7, requests), 8, 50_000)
    fetched = np.arange(requests) % FETCH_EVERY == FETCH_EVERY // 2
    wait[fetched] += random.lognormal(7.5, 0.6, int(fetched.sum())) * slower
    pause = random.exponential(6, requests) + 3
    end = begin + np.cumsum((wait + pause) * US).astype(np.int64)
    start = end - (wait * US).astype(np.int64)
    _reads(events, start, end, files, random)
    _fetches(events, start[fetched], end[fetched])
    _phases(events, begin, end, requests, tokens)
    until = START + int(end[-1]) + 2_000 * US
    return Trace(Path("big"), meta(START, until, ["big.py"]), events.events(), events.texts(), None)


def _opens(events: SyntheticEvents, files: int) -> None:
    number = np.arange(files)
    at = (number + 1) * OPEN_US * US
    names = [f"{MOUNT}/models/big/part-{index:03}.onnx.data".encode() for index in number]
    events.add(Kind.SYS_OPEN, at, at + 15 * US, ret=number + 3, a=-100, text=names)
    opened = 2 + 2 * number
    _request(events, Opcode.OPEN, opened, number + 2, at + 1 * US, at + 12 * US, np.full(files, DAEMON + 1))


def _request(
    events: SyntheticEvents, opcode: Opcode, unique: Ints, node: Ints, at: Ints, to: Ints, worker: Ints
) -> None:
    length = 16 + READ_BYTES if opcode is Opcode.READ else 32
    events.request(opcode, unique, node, at, to, worker, reply_bytes=length, taken_ns=2 * US, replying_ns=US)


def _reads(events: SyntheticEvents, start: Ints, end: Ints, files: int, random: np.random.Generator) -> None:
    number = np.arange(len(start))
    per_file = max(len(start) // files, 1)
    node = np.minimum(number // per_file, files - 1) + 2
    offset = (
        np.where(random.random(len(start)) < 0.9, number % per_file, random.integers(0, per_file, len(start)))
        * READ_BYTES
    )
    worker, unique = DAEMON + 1 + number % WORKERS, 1_000_000 + 2 * number
    events.add(Kind.SYS_READ, start - 1 * US, end + 1 * US, ret=READ_BYTES, a=node + 1, b=NO_OFFSET, c=READ_BYTES)
    events.add(Kind.OFFCPU, start + 500, end, a=end + START, b=worker, c=2)
    _request(events, Opcode.READ, unique, node, start, end, worker)
    events.add(Kind.FUSE_READ, start + 2 * US, tid=worker, a=unique, b=offset, c=READ_BYTES)
    events.add(Kind.CACHE_READ, end - 4 * US, end - 2 * US, tid=worker, ret=READ_BYTES, a=30, c=READ_BYTES)


def _fetches(events: SyntheticEvents, start: Ints, end: Ints) -> None:
    number = np.arange(len(start))
    worker = DAEMON + 1 + (number * FETCH_EVERY + FETCH_EVERY // 2) % WORKERS
    objects = [f"{hash_[:2]}/{hash_[2:]}" for hash_ in (f"{hash_:040x}" for hash_ in number.tolist())]
    span = end - start
    at = [start + (span * part / 20).astype(np.int64) for part in range(20)]
    times = Fetch(at[1], at[2], at[3], at[4], at[9], 500_200, at[14], at[15], at[16])
    events.fetch(times, worker, 0xF00 + worker, objects, size=1_000_000)
    events.add(Kind.DAEMON_POLL, at[10], at[12], tid=DOWNLOADER, ret=1, a=3)
    events.add(Kind.HTTP_RECV, at[12], tid=DOWNLOADER, ret=500_000, a=61, c=16384)


def _phases(events: SyntheticEvents, begin: int, end: Ints, requests: int, tokens: int) -> None:
    loaded = int(end[int(requests * LOAD_SHARE)])
    events.add(Kind.PHASE, np.array([begin]), np.array([loaded]), a=INDEX["OgaCreateModel"])
    edges = np.linspace(loaded + 2 * US, int(end[-1]) + 500 * US, tokens + 1).astype(np.int64)
    events.add(Kind.PHASE, edges[:-1], edges[1:] - US, a=INDEX["OgaGenerator_GenerateNextToken"])
