"""A long trace as a cold load followed by decode leaves it, made without recording: for measuring the analysis.

The unit is a chunk of 8 MiB: its fetch, the 64 READs of 128 KiB that need it, the page faults behind them, two tensors being
mapped, and the switches of the threads that take part, in the proportions of a recorded load. Units follow each other in time.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.synthetic_trace import CONNECTION, DOWNLOADER, MOUNT, READ_BYTES, TARGET, Fetch, SyntheticEvents, meta
from cvtrace.probes.events import TEXT, Events, Kind, Opcode, Texts, no_texts
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.store import TraceWriter

START_NS: Final = 10**12
UNIT_NS: Final = 3_000_000
POOL, WORKERS = (101, 102, 103), (201, 202)
NODE, READS = 7, 64
CHUNKS_OF_A_FILE: Final = 512
RECEIVES, POLLS = 250, 20
UNIQUES: Final = 2 * (READS + 2)
PART: Final = 256
"""Units made at once."""


def write_long_trace(path: Path, events: int) -> int:
    """Write a finished trace of about so many events, replacing an older one. Returns how many there are."""
    shutil.rmtree(path, ignore_errors=True)
    unit = _unit()
    template, texts = unit.events(), unit.texts()
    units = max(round(events / len(template)), 4)
    reads, gets = units * READS, units
    counters = {
        "cvmfs.n_fs_read": reads,
        "cvmfs.n_fs_open": 2 * units,
        "download.n_requests": gets,
        "download.sz_transferred_bytes": gets * READS * READ_BYTES,
    }
    description = meta(
        START_NS,
        START_NS + units * UNIT_NS,
        ["phi3-qa.py"],
        workspace="/var/lib/cvmfs/repo.test.org",
        counters_before=dict.fromkeys(counters, 0),
        counters_after=counters,
        error=None,
    )
    writer = TraceWriter(path, description)
    for first in range(0, units, PART):
        numbers = np.arange(first, min(first + PART, units), dtype=np.uint64)
        writer.write(_placed(template, numbers), _texts(texts, numbers))
    writer.write(_phases(units), no_texts())
    writer.finish()
    return int(writer.meta["events"])


def _placed(template: Events, numbers: Any) -> Events:
    """Repeat the template, each time with its own times, uniques, offsets and addresses."""
    rows = np.tile(template, (len(numbers), 1))
    kind, number = template["kind"], numbers[:, None]
    rows["ts"] += START_NS + number * np.uint64(UNIT_NS)
    woken = (kind == Kind.OFFCPU) & (template["a"] > 0)
    rows["a"][:, woken] += START_NS + number * np.uint64(UNIT_NS)
    named = np.isin(kind, (Kind.FUSE_SEND, Kind.FUSE_DAEMON, Kind.FUSE_READ, Kind.FUSE_REPLY))
    rows["a"][:, named] += number * np.uint64(UNIQUES)
    within, file = number % np.uint64(CHUNKS_OF_A_FILE), number // np.uint64(CHUNKS_OF_A_FILE)
    rows["b"][:, kind == Kind.FUSE_READ] += within * np.uint64(READS * READ_BYTES)
    pages = np.isin(kind, (Kind.FAULT, Kind.PAGE_MAP, Kind.READAHEAD))
    rows["c"][:, pages] += within * np.uint64(READS * READ_BYTES // 4096)
    rows["b"][:, pages | (kind == Kind.FUSE_DAEMON)] += file
    handed = np.isin(kind, (Kind.HANDOVER, Kind.HANDOVER_TAKEN))
    rows["a"][:, handed] += number % np.uint64(16) * np.uint64(4096)
    return rows.reshape(-1)


def _texts(template: Texts, numbers: Any) -> Texts:
    forms = [(int(row["ts"]), int(row["tid"]), int(row["kind"]), row["text"].decode()) for row in template]
    records = [
        (at + START_NS + number * UNIT_NS, tid, kind, len(text), text.encode())
        for number in numbers.tolist()
        for at, tid, kind, form in forms
        for text in [form.format(head=f"{number % 256:02x}", tail=f"{number:038x}", file=number // CHUNKS_OF_A_FILE)]
    ]
    return np.array(records, dtype=TEXT)


def _phases(units: int) -> Events:
    """The first half is the load, then comes the prefill, then a token per unit."""
    load, calls = units // 2, SyntheticEvents(START_NS)
    calls.add(Kind.PHASE, 0, load * UNIT_NS - 1000, a=INDEX["OgaCreateModel"])
    append = INDEX["OgaGenerator_AppendTokens"]
    calls.add(Kind.PHASE, load * UNIT_NS, (load + 1) * UNIT_NS - 1000, a=append)
    for number in range(load + 1, units):
        token = INDEX["OgaGenerator_GenerateNextToken"]
        calls.add(Kind.PHASE, number * UNIT_NS, (number + 1) * UNIT_NS - 1000, a=token)
    return calls.events()


def _unit() -> SyntheticEvents:
    unit = SyntheticEvents(0)
    for number in range(2):
        _tensor(unit, number, at=1000 + number * 60_000)
    for number in range(READS):
        first = number == 0
        _read(unit, number, at=130_000 if first else 1_200_000 + number * 25_000, length=1_050_000 if first else 15_000)
    _fetch(unit, 140_000, WORKERS[0])
    _pool(unit, 2_850_000)
    return unit


def _tensor(unit: SyntheticEvents, number: int, at: int) -> None:
    """Open, map and close the file of weights, as onnxruntime does for each tensor."""
    fd, unique = 9 + number, 2 * (READS + number + 1)
    unit.add(Kind.SYS_OPEN, at, at + 20_000, ret=fd, a=-100, text=[f"{MOUNT}/model-{{file}}.onnx.data".encode()])
    _request(unit, Opcode.OPEN, unique, at + 2_000, at + 18_000, WORKERS[number], reply=32)
    unit.add(Kind.SYS_STAT, at + 22_000, at + 23_000, a=CONNECTION, b=NODE, c=5)
    unit.add(Kind.SYS_MMAP, at + 24_000, at + 26_000, a=fd, c=1 << 22)
    unit.add(Kind.SYS_MAPPED, at + 24_000, a=0x7F0000000000, b=fd, c=1 << 22)
    unit.add(Kind.SYS_CLOSE, at + 27_000, at + 28_000, a=fd)
    unit.add(Kind.SYS_UNMAP, at + 40_000, at + 42_000, a=0x7F0000000000, c=1 << 22)


def _request(
    unit: SyntheticEvents, opcode: Opcode, unique: int, sent_ns: int, ended: int, worker: int, reply: int
) -> None:
    """A request that the target waits for, from its sending to the wake-up."""
    unit.request(opcode, unique, NODE, sent_ns, ended, worker, reply_bytes=reply, taken_ns=1_500, replying_ns=2_000)
    unit.add(Kind.OFFCPU, sent_ns + 500, ended + 500, a=ended - 500, b=worker, c=2)
    unit.add(Kind.OFFCPU, ended + 1_000, ended + 8_000, tid=worker, a=ended + 7_000, b=TARGET, c=1)


def _read(unit: SyntheticEvents, number: int, at: int, length: int) -> None:
    """A fault that reads ahead, the READ it waits for, and the faults around on what came."""
    unique, page, worker = 2 * (number + 1), number * READ_BYTES // 4096, WORKERS[number % 2]
    if number:
        unit.add(Kind.PAGE_MAP, at, a=CONNECTION, b=NODE, c=page - 1 | 1 << 48)
    unit.add(Kind.FAULT, at + 500, a=CONNECTION, b=NODE, c=page)
    unit.add(Kind.READAHEAD, at + 600, ret=1, a=CONNECTION, b=NODE, c=page | 32 << 48)
    _request(unit, Opcode.READ, unique, at + 1_000, at + 1_000 + length, worker, reply=16 + READ_BYTES)
    unit.add(Kind.FUSE_READ, at + 2_500, tid=worker, a=unique, b=number * READ_BYTES, c=READ_BYTES, ret=-5)
    into = at + length - 8_000
    unit.add(Kind.CACHE_READ, into, into + 4_000, tid=worker, ret=READ_BYTES, a=30, b=0, c=READ_BYTES)
    for place in (0, 16):
        late = at + length + 2_000 + place * 100
        unit.add(Kind.PAGE_MAP, late, a=CONNECTION, b=NODE, c=page + place | 16 << 48)


def _fetch(unit: SyntheticEvents, at: int, worker: int) -> None:
    """The fetch of the chunk: missed twice, handed over, received in pieces, committed."""
    name, size = "{head}/{tail}", READS * READ_BYTES
    per_receive = size // RECEIVES
    times = Fetch(
        missed=at,
        handed=at + 3_000,
        taken_at=at + 5_000,
        sent_at=at + 7_000,
        first=at + 150_000,
        first_bytes=per_receive + 200 + size % RECEIVES,
        done_at=at + 920_000,
        delivered_at=at + 921_000,
        committed=at + 924_000,
    )
    unit.fetch(times, worker, 0xF0000, [name], size)
    unit.add(Kind.CACHE_OPEN, at + 1_000, at + 1_500, tid=worker, ret=-2, text=[f"./{name}".encode()])
    for number in range(1, RECEIVES):
        begin = at + 150_000 + number * 3_000
        unit.add(Kind.HTTP_RECV, begin, begin + 800, tid=DOWNLOADER, ret=per_receive, a=61, c=65_536)
    for number in range(POLLS):
        begin = at + 151_000 + number * 36_000
        unit.add(Kind.DAEMON_POLL, begin, begin + 1_500, tid=DOWNLOADER, ret=1, a=3)
    unit.add(Kind.CACHE_OPEN, at + 922_000, tid=worker, ret=30, text=[b"./txn/fetchAbCdEf"])
    part = [b"Part of /model-{file}.onnx.data"]
    unit.add(Kind.CACHE_INSERT, at + 931_000, at + 932_000, tid=worker, a=size, text=part)
    unit.add(Kind.CACHE_CLOSE, at + 933_000, tid=worker, a=31)
    for number in range(10):
        begin = at + 10_000 + number * 80_000
        unit.add(Kind.DAEMON_FUTEX, begin, begin + 5_000, tid=WORKERS[1], a=0x1000)


def _pool(unit: SyntheticEvents, at: int) -> None:
    """The pool works while the target's thread waits for it, a few times."""
    for turn in range(4):
        begin = at + turn * 30_000
        unit.add(Kind.SYS_WAIT, begin, begin + 25_000, a=202)
        unit.add(Kind.OFFCPU, begin + 500, begin + 24_000, a=begin + 23_000, b=POOL[turn % 3], c=1)
        for tid in POOL:
            unit.add(Kind.OFFCPU, begin + 23_500, begin + 30_000, tid=tid, a=begin + 29_000, b=TARGET, c=1)
        unit.add(Kind.OFFCPU, begin + 26_000, begin + 27_000)


if __name__ == "__main__":
    write_long_trace(Path(sys.argv[1]), int(sys.argv[2]))
