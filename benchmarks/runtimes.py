"""One model of the same size in the formats of three runtimes, cold, hot and with too little memory: `python -m benchmarks runtimes --update`.

CVTRACE_TEST_TORCH names an interpreter that has torch and transformers; without it their rows are left out, and the page says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.results import Row, Settings, cells_table, machine, put_between
from benchmarks.tracers import ENVIRONMENT, cvtrace
from cvtrace.analysis import Report, analyse
from cvtrace.lab.client import Mounted, configure, start, unmount
from cvtrace.lab.memory import limited
from cvtrace.lab.model import build
from cvtrace.lab.model.gguf_model import write_gguf
from cvtrace.lab.origin import Origin
from cvtrace.lab.publish import publish
from cvtrace.lab.stack import drop_mount_cache
from cvtrace.probes.cvmfs.counters import counters_of
from cvtrace.probes.cvmfs.mounts import mount_points
from cvtrace.probes.cvmfs.survey import describe
from cvtrace.tracer.store import read_trace

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE.parent / "docs" / "runtimes.md"
FQRN: Final = "runtimes.cvtrace.test"
SIZE_BYTES: Final = int(os.environ.get("CVTRACE_RUNTIMES_BYTES", "200_000_000"))
TOKENS: Final = 16
STATES: Final = ("cold", "hot", "too little memory")
HEAD: Final = ("runtime", "state", "load", "tokens", "generation", "reads: load", "reads: generation", "fetches: load", "fetches: generation",
               "waited in generation", "hits CVMFS", "client counts the same")  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A runtime with its model: the command below the mount, and how much memory it needs without the weights."""

    name: str
    file: str
    command: Callable[[Path], list[str]]
    own_bytes: int


def run(settings: Settings) -> list[Row]:
    """Make the models, record each runtime in each state, and write the table of docs/runtimes.md with --update."""
    with tempfile.TemporaryDirectory(prefix="cvtrace-runtimes-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        targets = list(_targets(folder))
        published = publish(folder / "source", fqrn=FQRN, store=folder / "store")
        origin = Origin(folder / "store")
        origin.start()
        try:
            lines = [cells for target in targets for cells in _rows(folder, published.key_path, origin.url, target)]
        finally:
            origin.stop()
    table = cells_table(HEAD, lines)
    left_out = "" if len(targets) == 3 else " Without the runtimes that are not installed here."
    if settings.update:
        put_between(PAGE, f"{table}\n\nModels of {SIZE_BYTES / 1e6:.0f} MB, {TOKENS} tokens. {machine()}.{left_out}\n")
    return [Row(f"{cells[0]}, {cells[1]}", ", ".join(cells[2:])) for cells in lines]


def _targets(folder: Path) -> Iterator[Target]:
    """Make the models that can be made here."""
    source = folder / "source"
    source.mkdir()
    package = importlib.util.find_spec("onnxruntime_genai")
    if package is not None and package.submodule_search_locations:
        build(source / "genai", SIZE_BYTES)
        library = Path(package.submodule_search_locations[0]) / "libonnxruntime-genai.so"
        program, onnxruntime = folder / "genai", library.parents[1] / "onnxruntime" / "capi"
        (folder / "lib").mkdir()
        (folder / "lib" / "libonnxruntime.so").symlink_to(next(onnxruntime.glob("libonnxruntime.so*")))
        rpath = f"-Wl,-rpath,{library.parent}"
        subprocess.run(["cc", "-w", "-o", program, HERE / "genai_target.c", library, rpath], check=True)
        yield Target("ONNX, GenAI in C", "genai", lambda model: [str(program), str(model), str(TOKENS)], 80_000_000)
    width, layers, vocabulary = _shape(SIZE_BYTES)
    if importlib.util.find_spec("xllamacpp") is not None:
        write_gguf(source / "llama.gguf", width, layers=layers, extra_tokens=vocabulary - 259)
        command = [sys.executable, str(HERE / "llama_target.py")]
        yield Target("GGUF, llama.cpp", "llama.gguf", lambda model: [*command, str(model), str(TOKENS)], 150_000_000)
    if python := os.environ.get("CVTRACE_TEST_TORCH"):
        words = [python, str(HERE / "transformers_target.py")]
        made = [*words, "make", str(source / "hf"), *map(str, (width, layers, vocabulary))]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield Target("safetensors, transformers", "hf", lambda model: [*words, str(model), str(TOKENS)], 500_000_000)


def _shape(size_bytes: int) -> tuple[int, int, int]:
    """Return width, layers and vocabulary of a llama of 16 bits of about that size: half of it embeddings, half layers."""
    width = 512 if size_bytes < 500_000_000 else 1024
    vocabulary = max(size_bytes // 4 // (2 * width) // 2 * 2, 300)
    layer_bytes = 2 * (4 * width * width + 3 * 2 * width * width)
    return width, max(round(size_bytes / 2 / layer_bytes), 1), vocabulary


@contextlib.contextmanager
def _mounted(folder: Path, key: Path, url: str) -> Iterator[Mounted]:
    """Mount with an empty cache."""
    with tempfile.TemporaryDirectory(prefix="cache-", dir=folder) as cache:
        mountpoint = folder / "mnt"
        mountpoint.mkdir(exist_ok=True)
        mounted = start(configure(FQRN, mountpoint, f"{url}/cvmfs/{FQRN}", key, Path(cache), 4_000_000_000))
        try:
            yield mounted
        finally:
            unmount(mountpoint)


def _rows(folder: Path, key: Path, url: str, target: Target) -> Iterator[tuple[str, ...]]:
    """Record a runtime cold, then hot, then with the client's cache full and too little memory for the weights."""
    with _mounted(folder, key, url) as mounted:
        argv = target.command(mounted.mountpoint / target.file)
        for state in STATES:
            if state == "hot":
                subprocess.run(
                    argv, check=True, env=_environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            if state == STATES[-1]:
                drop_mount_cache(mounted.mountpoint, mounted.workspace)
            pressed = limited(argv, target.own_bytes + SIZE_BYTES // 2)
            with pressed if state == STATES[-1] else contextlib.nullcontext(argv) as command:
                before = _reads(mounted)
                report = _recorded(folder, mounted.mountpoint, command)
                yield _cells(target.name, state, report, _reads(mounted) - before)


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of the targets: GenAI looks for onnxruntime by a name without a version."""
    return {**ENVIRONMENT, "LD_LIBRARY_PATH": str(folder / "lib")}


def _recorded(folder: Path, root: Path, command: list[str]) -> Report:
    traced = cvtrace(command, folder / "trace", "--mount", str(root), environment=_environment(folder))
    return analyse(read_trace(traced.trace))


def _reads(mounted: Mounted) -> int:
    """Return how many READs the client has counted."""
    (mount,) = [describe(point) for point in mount_points() if point.path == str(mounted.mountpoint)]
    return counters_of([mount], seconds=10.0)[0].values["cvmfs.n_fs_read"]


def _cells(name: str, state: str, report: Report, counted: int) -> tuple[str, ...]:
    rows = {row.name: row for row in report.phases}
    generation = [rows[each] for each in ("prefill", "decode", "between") if each in rows]
    load = [rows["load"]] if "load" in rows else []

    def total(chosen: Sequence[object], field: str) -> str:
        return f"{sum(getattr(row, field) or 0 for row in chosen):,}"

    seconds = [sum(row.wall_s for row in chosen) for chosen in (load, generation)]
    waited = sum(row.network_s + row.cache_s for row in generation)
    reads = sum(row.fuse_reads or 0 for row in report.phases)
    return (
        name,
        state,
        f"{seconds[0]:.2f} s",
        str(report.verdict.tokens),
        f"{seconds[1]:.2f} s",
        total(load, "fuse_reads"),
        total(generation, "fuse_reads"),
        total(load, "http_fetches"),
        total(generation, "http_fetches"),
        f"{waited:.2f} s",
        str(report.verdict.generation_hits_cvmfs),
        "yes" if reads == counted else f"no: {reads:,} and {counted:,}",
    )
