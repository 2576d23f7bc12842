"""`make soak MINUTES=30`: loads in a loop under one recording; the recorder must not grow, the kernel's tables not fill, nothing be lost.

The target is a shell that runs a load (a process of its own each time) over and over, on a client that is warm; every tenth
time the pages are dropped, so that FUSE requests come. Samples are taken from outside the recorder, once a second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from cvtrace.lab.stack import Options, forget_pages, temporary
from cvtrace.tracer.store import read_trace

LOAD = Path(__file__).resolve().parents[2] / "examples" / "phi3-qa.py"
SETTLED_S = 20.0
"""The first loads: what the recorder allocates once, it has by then."""
GROWTH_BYTES = 24 << 20
"""Room for what a ring that is mapped brings in page by page as it goes round."""


@dataclass(frozen=True)
class Sample:
    """The recorder at one moment."""

    at_s: float
    rss_bytes: int
    own_bytes: int
    """Without pages that are shared with the kernel's rings and with files."""
    fds: int
    threads: int


def main() -> int:
    """Run; return 1 and say what grew."""
    parser = argparse.ArgumentParser(description="Record loads in a loop for a long time.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--probes", default="ebpf")
    arguments = parser.parse_args()
    with temporary(Options(size_bytes=8_000_000, client="lab")) as stack, tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        enough = Path(folder) / "enough"
        load = f"{sys.executable} {LOAD} -m {stack.model} -e cpu -p rain --tokens 4 >/dev/null 2>&1"
        loop = f"n=0; until [ -e {enough} ]; do {load} || exit 9; n=$((n+1)); done; echo $n"
        mount = ["--mount", str(stack.mountpoint)]
        options = ["--probes", arguments.probes, "--python", sys.executable, "--no-summary", "-o", str(trace)]
        recorder = subprocess.Popen(
            [sys.executable, "-m", "cvtrace", "run", *options, *mount, "--", "sh", "-c", loop],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
        samples = watch(recorder, arguments.minutes * 60, lambda: forget_pages(stack))
        enough.touch()
        output, _ = recorder.communicate()
        if recorder.returncode:
            print(f"soak: the recording ended with {recorder.returncode}")
            return 1
        return judge(samples, trace, int(output))


def watch(recorder: subprocess.Popen[str], seconds: float, disturb: object) -> list[Sample]:
    """Sample the recorder until the time is over or it ends."""
    process = psutil.Process(recorder.pid)
    began_s, samples = time.monotonic(), list[Sample]()
    while (now_s := time.monotonic() - began_s) < seconds and recorder.poll() is None:
        memory = process.memory_info()
        private_bytes = memory.rss - memory.shared
        samples.append(Sample(now_s, memory.rss, private_bytes, process.num_fds(), process.num_threads()))
        if len(samples) % 10 == 0 and callable(disturb):
            disturb()
        time.sleep(1)
    return samples


def judge(samples: list[Sample], trace: Path, loads: int) -> int:
    """Print what was seen, and return 1 if something grew or was lost."""
    read = read_trace(trace)
    settled = [sample for sample in samples if sample.at_s >= SETTLED_S] or samples
    early = settled[: max(1, len(settled) // 4)]
    late = settled[-max(1, len(settled) // 4) :]
    grown = max(sample.own_bytes for sample in late) - max(sample.own_bytes for sample in early)
    fds = min(sample.fds for sample in late) - min(sample.fds for sample in early)  # some are open for a moment
    threads = max(sample.threads for sample in late) - max(sample.threads for sample in early)
    unmatched = int(((read.events["kind"] & 0x8000) != 0).sum())
    print(
        f"soak: {samples[-1].at_s:.0f} s, {loads} loads, {len(read.events):,} events, lost {read.meta['lost'] or 'nothing'}, "
        f"RSS {max(sample.rss_bytes for sample in settled) >> 20} MiB, own memory grew by {grown >> 10} KiB, descriptors by "
        f"{fds}, threads by {threads}; {unmatched} entries were left in the kernel's tables"
    )
    faults = [
        ("own memory grew", grown > GROWTH_BYTES),
        ("descriptors leak", fds > 0),
        ("threads leak", threads > 0),
        ("events were lost", bool(read.meta["lost"])),
        ("the kernel's tables fill: open calls are left of threads that are gone", unmatched > 200),
        ("the trace is damaged", read.damage is not None),
        ("nothing was loaded", loads < 2),
    ]
    for title, wrong in faults:
        if wrong:
            print(f"soak: {title}")
    return int(any(wrong for _, wrong in faults))


if __name__ == "__main__":
    sys.exit(main())
