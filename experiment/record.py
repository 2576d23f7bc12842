"""The folder of an experiment: created for the user who called, written after every run, continued after an interruption."""

from __future__ import annotations

import contextlib
import datetime
import glob
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from cvtrace.analysis.bench.folder import BENCH_HTML, OUTPUT, TRACES, read_bench, write_json, write_runs
from cvtrace.analysis.bench.laws import laws
from cvtrace.analysis.bench.schema import Bench, BenchInfo, Run
from cvtrace.analysis.bench.statistics import summarise, tracing_cost
from cvtrace.tracer.errors import TraceDamaged, TraceExists, TraceUnwritable
from cvtrace.tracer.safe_open import open_folder, replacing
from cvtrace.tracer.user import User, acting_as

PREFIX: Final = "cvtrace-bench-"


class Record:
    """The folder, and the runs in it."""

    def __init__(self, path: Path, owner: User, info: BenchInfo, runs: list[Run], held_out: float | None) -> None:
        self.path = path
        self.info = info
        self.runs = runs
        self._owner = owner
        self._held_out = held_out

    @property
    def traces(self) -> Path:
        return self.path / TRACES

    @property
    def output(self) -> Path:
        return self.path / OUTPUT

    def add(self, run: Run) -> None:
        """Write a run down. Raises TraceUnwritable."""
        self.runs.append(run)
        with self._writing() as folder:
            write_runs(folder, self.runs)

    def update(self, info: BenchInfo) -> None:
        """Write down what the experiment is. Raises TraceUnwritable."""
        self.info = info
        with self._writing() as folder:
            write_json(folder, Bench(self.path, info, tuple(self.runs), (), (), ()))

    def summarised(self) -> Bench:
        """Return the folder with what follows from its runs."""
        runs = tuple(self.runs)
        return Bench(
            self.path,
            self.info,
            runs,
            summarise(self.info, runs),
            tracing_cost(self.info, runs),
            laws(self.info, runs, self._held_out),
        )

    def finish(self, bench: Bench, page: str) -> None:
        """Write the summary and the page. Raises TraceUnwritable."""
        with self._writing() as folder:
            write_json(folder, bench)
            with replacing(folder, BENCH_HTML) as stream:
                stream.write(page.encode("utf-8", "replace"))

    def discard(self) -> None:
        """Remove the folder of an experiment that came to no run."""
        with acting_as(self._owner):
            shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[int]:
        with acting_as(self._owner):
            try:
                folder = open_folder(self.path)
                try:
                    yield folder
                finally:
                    os.close(folder)
            except OSError as error:
                raise TraceUnwritable(
                    f"cannot write {self.path}: {error.strerror or error}; the runs before are kept"
                ) from None


def open_record(
    output: Path | None, title: str, info: BenchInfo, owner: User, *, force: bool, held_out: float | None
) -> tuple[Record, bool]:
    """Return the folder to write into, and whether it continues an experiment that was interrupted, or extends one.

    Raises TraceExists if something else is there, TraceUnwritable if the folder cannot be made.
    """
    with acting_as(owner):
        earlier = _read(output) if output is not None else _unfinished(title, info)
        if earlier is not None and not force and _is_continued(earlier, info):
            merged = replace(info, created=earlier.info.created, seed=earlier.info.seed, cells=earlier.info.cells)
            return Record(earlier.path, owner, merged, list(earlier.runs), held_out), True
        path = output or Path(f"{PREFIX}{title}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
        if path.exists() or path.is_symlink():
            _make_room(path, earlier, info, force=force)
        try:
            path.mkdir(mode=0o700)
            (path / TRACES).mkdir()
            (path / OUTPUT).mkdir()
        except OSError as error:
            raise TraceUnwritable(
                f"cannot make the folder {path}: {error.strerror}; name another one with -o"
            ) from None
    return Record(path, owner, info, [], held_out), False


def _read(path: Path) -> Bench | None:
    try:
        return read_bench(path)
    except TraceDamaged:
        return None


def _unfinished(title: str, info: BenchInfo) -> Bench | None:
    """Return the newest experiment in this folder that the same command began and did not finish."""
    for path in sorted(Path().glob(f"{glob.escape(PREFIX + title)}-*"), reverse=True):
        earlier = _read(path)
        if earlier is not None and not earlier.info.finished and _is_continued(earlier, info):
            return earlier
    return None


def _is_continued(earlier: Bench, info: BenchInfo) -> bool:
    """Return whether a command continues an experiment: the same one, that is not finished, or is to have more repeats."""
    same = earlier.info.settings == info.settings
    return same and (not earlier.info.finished or info.repeats > earlier.info.repeats)


def _make_room(path: Path, earlier: Bench | None, info: BenchInfo, *, force: bool) -> None:
    if earlier is None:
        raise TraceExists(f"{path} is already there and is no folder of `cvtrace bench`: choose another name with -o")
    if not force and earlier.runs:
        same = earlier.info.settings == info.settings
        why = "holds this experiment, finished" if same else "holds another experiment"
        more = ", more --repeats continue it," if same else ""
        raise TraceExists(f"{path} {why}:{more} --force replaces it, and -o names another folder")
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise TraceUnwritable(f"cannot replace {path}: {error.strerror}") from None
