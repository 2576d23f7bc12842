"""Runs inside the virtual machine: a model from the lab, traced cold, and what was seen against what the client counted.

The last line is `RESULT ` and a JSON object; see `Seen`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis import analyse
from cvtrace.lab.stack import Options, Stack, temporary, wipe_client_cache
from cvtrace.probes.ebpf import loader
from cvtrace.probes.events import UNFINISHED, Events, Kind, Opcode
from cvtrace.tracer.store import read_trace

STUCK_S: Final = 300.0
"""After this long, and again and again, the log gets the lines that are being run: a machine that hangs ends without a result."""
SCRIPT: Final = Path(__file__).resolve().parents[2] / "examples" / "phi3-qa.py"
TOKENS: Final = 4
MODEL_BYTES: Final = 4_000_000
MAPS_AND_READS: Final = """
import mmap, os, sys
path = sys.argv[1]
with open(path, "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    total = sum(pages[at] for at in range(0, len(pages), 4096))
fd = os.open(path, os.O_RDONLY)
while os.read(fd, 65536):
    pass
"""
"""Touches each page of a file in a mapping, then reads the file in pieces of 64 KiB, now from the page cache."""


@dataclass
class Observation:
    """What one kernel showed."""

    kernel: str = ""
    rungs: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    """What was compared -> [traced, expected]."""
    notes: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def rungs() -> dict[str, str]:
    """Return for each facility what it is observed by."""
    root = loader.tracefs()
    names = {}
    for rung in loader.RUNGS:
        step = loader.climb(rung, root)
        by = (
            "kprobes"
            if step.kprobes and step.kprobes.attachments
            else "tracepoints"
            if step.programs
            else f"missing: {step.missing}"
        )
        names[rung.program.partition(".")[0]] = by
    return names


def traced(argv: list[str], mount: Path, folder: Path, observation: Observation) -> tuple[Path, str]:
    """Run `cvtrace run --probes ebpf`; return the trace and what was printed, and note how long it took around the trace."""
    command = [sys.executable, "-m", "cvtrace", "run", "--probes", "ebpf", "-o", str(folder)]
    command += ["--python", sys.executable, "--mount", str(mount), "--", sys.executable, *argv]
    environ = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    called_ns = time.monotonic_ns()
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environ
    )
    if result.returncode:
        raise RuntimeError(f"cvtrace run ended with {result.returncode}:\n{result.stdout}")
    clock = json.loads((folder / "meta.json").read_text())["clock"]
    around = (clock["start_ns"] - called_ns, time.monotonic_ns() - clock["end_ns"])
    observation.notes[f"seconds before and after the {folder.name} trace"] = [round(ns / 1e9, 1) for ns in around]
    return folder, result.stdout


def of(events: Events, kind: Kind) -> Events:
    return events[events["kind"] & ~np.uint16(UNFINISHED) == kind]


def in_ranges(rows: Events) -> set[int]:
    """Return the pages of the ranges that PAGE_MAP or PAGE_READ tell."""
    first, pages = (rows["c"] & (1 << 48) - 1).tolist(), (rows["c"] >> 48).tolist()
    return {page for at, length in zip(first, pages, strict=True) for page in range(at, at + length)}


def generation(stack: Stack, folder: Path, observation: Observation) -> None:
    """Ask the model, cold: requests, phases and verdict, and the client's counters."""
    trace, printed = traced(
        [str(SCRIPT), "-m", str(stack.model), "-e", "cpu", "-g", "-p", "rain", "--tokens", str(TOKENS)],
        stack.mountpoint,
        folder,
        observation,
    )
    print(printed)
    meta = json.loads((trace / "meta.json").read_text())
    stored = read_trace(trace)
    report = analyse(stored)
    events = stored.events
    for check in report.checks:
        observation.checks[check.name] = [check.traced, check.client]
    sends = of(events, Kind.FUSE_SEND)
    opcodes = sends["c"] >> 32
    before, after = meta["mounts"][0]["counters_before"], meta["mounts"][0]["counters_after"]
    for name, opcode in (("cvmfs.n_fs_read", Opcode.READ), ("cvmfs.n_fs_open", Opcode.OPEN)):
        observation.checks[f"FUSE_SEND {opcode.name}"] = [int((opcodes == opcode).sum()), after[name] - before[name]]
    daemon = of(events, Kind.FUSE_DAEMON)
    is_known = np.isin(daemon["a"], sends["a"])
    observation.checks["requests of the daemon sent by the kernel"] = [int(is_known.sum()), len(daemon)]
    observation.checks["phases load, tokenizer, prefill, decode"] = [
        sum(phase.name in ("load", "tokenizer", "prefill", "decode") and phase.wall_s > 0 for phase in report.phases),
        4,
    ]
    observation.checks["tokens"] = [report.verdict.tokens, TOKENS]
    observation.checks["lost"] = [sum(meta["lost"].values()), 0]
    observation.notes["verdict"] = report.verdict.generation_hits_cvmfs
    observation.notes["verdict missing"] = list(report.verdict.missing)
    observation.notes["missing"] = meta["missing"]
    observation.notes["events"] = {kind.name: len(of(events, kind)) for kind in Kind if len(of(events, kind))}
    observation.notes["faults with a duration"] = int((of(events, Kind.FAULT)["dur"] > 0).sum())


def pages(stack: Stack, folder: Path, observation: Observation) -> None:
    """Touch the largest file of the model through a mapping, then read it: every page must be told."""
    path = max(stack.model.iterdir(), key=lambda file: file.stat().st_size)
    size, inode = path.stat().st_size, path.stat().st_ino
    trace, _ = traced(["-S", "-c", MAPS_AND_READS, str(path)], stack.mountpoint, folder, observation)
    events = read_trace(trace).events
    faults, maps, reads = (
        events[events["b"] == inode]
        for events in (of(events, kind) for kind in (Kind.FAULT, Kind.PAGE_MAP, Kind.PAGE_READ))
    )
    sends = of(events, Kind.FUSE_SEND)
    pages_used = set(faults["c"].tolist()) | in_ranges(maps)
    count = -(-size // 4096)
    observation.checks["pages told of a mapping"] = [len(pages_used & set(range(count))), count]
    observation.checks["pages told of read()"] = [len(in_ranges(reads) & set(range(count))), count]
    observation.checks["reads told"] = [len(reads), -(-size // 65536)]
    read_requests = sends[sends["c"] >> 32 == Opcode.READ]
    begun = [
        bool(((faults["ts"] <= events["ts"]) & (events["ts"] <= faults["ts"] + faults["dur"])).any())
        for events in read_requests
    ]
    observation.notes["READs sent during a fault"] = [sum(begun), len(read_requests)]
    observation.notes["faults, with a duration"] = [len(faults), int((faults["dur"] > 0).sum())]
    observation.notes["longest fault ms"] = round(float(faults["dur"].max(initial=0)) / 1e6, 1)


def main() -> int:
    """Run both; print the result in any case."""
    observation = Observation(kernel=platform.release())
    started = time.monotonic()
    faulthandler.dump_traceback_later(STUCK_S, repeat=True)
    try:
        observation.rungs = rungs()
        with temporary(Options(size_bytes=MODEL_BYTES, client="lab")) as stack, tempfile.TemporaryDirectory() as name:
            print(f"lab up after {time.monotonic() - started:.0f} s", flush=True)
            generation(stack, Path(name) / "generation", observation)
            print(f"generation observed after {time.monotonic() - started:.0f} s", flush=True)
            stack = wipe_client_cache(stack)
            print(f"lab cold again after {time.monotonic() - started:.0f} s", flush=True)
            pages(stack, Path(name) / "pages", observation)
            print(f"pages observed after {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        observation.error = traceback.format_exc()
        print(observation.error)
    with contextlib.suppress(OSError):
        observation.notes["seconds"] = round(time.monotonic() - started)
    print("RESULT " + json.dumps(asdict(observation)), flush=True)
    return 1 if observation.error else 0


if __name__ == "__main__":
    sys.exit(main())
