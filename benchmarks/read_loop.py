"""A loop of one-byte reads: the worst case, every call recorded, none lost."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.rows import Row, Settings, median_of, paired
from benchmarks.tracers import cvtrace, strace, untraced
from cvtrace.probes.events import Kind
from cvtrace.tracer.store import read_trace

CALLS = 2_000_000
CALLS_STRACE = 20_000


def build(folder: Path) -> Path:
    """Compile the loop. Raises SystemExit without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("benchmark: the read loop needs a C compiler: apt install gcc")
    program = folder / "read_loop"
    subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_suffix(".c"))], check=True)
    return program


def run(settings: Settings) -> list[Row]:
    """Measure ns per call untraced, under cvtrace and under strace; count what was recorded and lost."""
    program = build(settings.folder)
    data = settings.folder / "read_loop.data"
    data.write_bytes(bytes(CALLS))
    argv = [str(program), str(data), str(CALLS)]
    recorder_ns: list[float] = []
    lost: list[int] = []
    missed: list[int] = []

    def traced() -> float:
        run = cvtrace(argv, settings.folder / "read_loop.trace")
        reads = int((read_trace(run.trace).events["kind"] == Kind.SYS_READ).sum())
        recorder_ns.append(run.meta["recorder"]["drain_cpu_s"] * 1e9 / run.meta["events"])
        lost.append(sum(run.meta["lost"].values()))
        missed.append(max(0, CALLS - reads))
        return float(run.stdout)

    plain, cv = paired(settings.repeats, lambda: float(untraced(argv)), traced)
    short = [str(program), str(data), str(CALLS_STRACE)]
    st = median_of(settings.repeats, lambda: float(strace(short, log=settings.folder / "read_loop.strace")))
    per_event = sorted(recorder_ns)[len(recorder_ns) // 2]
    return [
        Row("one-byte reads, untraced", f"{plain:.0f} ns per call", "", None),
        Row("one-byte reads under cvtrace", f"{cv:.0f} ns, {cv / plain:.2f} x", "≤ 3 x", cv / plain <= 3),
        Row("one-byte reads under strace", f"{st:.0f} ns, {st / plain:.0f} x", "", None),
        Row(f"lost of {CALLS:,} reads", f"{max(lost) + max(missed):,}", "0", max(lost) + max(missed) == 0),
        Row("recorder CPU per event (drain and write)", f"{per_event:.0f} ns", "< 100 ns", per_event < 100),
    ]
