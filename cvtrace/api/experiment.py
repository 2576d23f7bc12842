"""An experiment of `cvtrace bench` for Python programs and notebooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cvtrace.analysis.bench import Bench as Measured
from cvtrace.analysis.bench import read_bench as read_folder
from cvtrace.analysis.bench.schema import METRICS
from cvtrace.analysis.contract.bench_columns import COST, LAWS, RUNS, SUMMARY
from cvtrace.api import notebook
from cvtrace.api.errors import BenchError
from cvtrace.api.frames import rows_as_frame

__all__ = ["Bench", "bench", "read_bench"]

PathLike = str | os.PathLike[str]
SOME_STATE_FAILED = 1
"""Exit code of `cvtrace bench` where a state has no run that counts: the others are there."""


def bench(
    script: PathLike,
    *arguments: PathLike,
    output: PathLike,
    states: Sequence[str] | None = None,
    repeats: int | None = None,
    seed: int | None = None,
    trace: bool = False,
    variants: Mapping[str, str] | None = None,
    sweep: str | None = None,
    hold_out: str | None = None,
    lab: str | None = None,
    model: Sequence[PathLike] = (),
    python: PathLike | None = None,
    force: bool = False,
    yes: bool = False,
    timeout: float | None = None,
) -> Bench:
    """Measure a script in known states of the caches, as `cvtrace bench` does, and return the results in the folder `output`.

    The arguments are the options of the command. Its messages go to `sys.stderr` while it runs. It empties caches; `yes=True`
    confirms this. After an interruption the finished runs are kept, and the same call continues the experiment.

    Raises `cvtrace.BenchError` if the experiment cannot be made.
    """
    command = [sys.executable, "-m", "cvtrace", "bench", "--output", os.fspath(output)]
    options = {
        "--states": ",".join(states) if states is not None else None,
        "--repeats": repeats,
        "--seed": seed,
        "--timeout": timeout,
        "--sweep": sweep,
        "--hold-out": hold_out,
        "--lab": lab,
        "--python": None if python is None else os.fspath(python),
    }
    command += [word for name, value in options.items() if value is not None for word in (name, str(value))]
    command += [word for name, words in (variants or {}).items() for word in ("--variant", f"{name}={words}")]
    command += [word for path in model for word in ("--model", os.fspath(path))]
    command += [name for name, is_set in (("--trace", trace), ("--force", force), ("--yes", yes)) if is_set]
    command += [os.fspath(word) for word in (script, *arguments)]
    code, message = _run(command)
    if code not in (0, SOME_STATE_FAILED):
        raise BenchError(message or f"cvtrace bench ended with {code}", code)
    return read_bench(output)


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run the command and pass on what it says; return its exit code, and its last sentence."""
    last = ""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C at a terminal is for this process alone, which passes it on once
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                last = line.strip() or last
                sys.stderr.write(line)
            return process.wait(), last.removeprefix("cvtrace: ").removeprefix("Error: ")
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # it puts caches and mounts back
            process.wait()
            raise


def read_bench(path: PathLike) -> Bench:
    """Open the results that `cvtrace bench` wrote into a folder, finished or not.

    Raises `cvtrace.TraceError` if the folder is missing, is no such folder, or is damaged.

        >>> slower = cvtrace.read_bench("bench-b")
        >>> medians = slower.summary.pivot(index="figure", columns="state", values="median")
        >>> print(f"{medians.loc['load_s', 'cold'] / medians.loc['load_s', 'hot']:.1f}")
        6.1
    """
    return Bench(read_folder(Path(path)))


class Bench:
    """The results of an experiment. Each table is a DataFrame.

    >>> worse = cvtrace.compare("bench-a", slower).changes
    >>> worse.loc[worse["certain"] & (worse["name"] == "load_s"), "of"].tolist()
    ['cold']
    """

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    @property
    def path(self) -> Path:
        """The folder."""
        return self._measured.path

    @property
    def finished(self) -> bool:
        """Whether all runs were made."""
        return self._measured.info.finished

    @property
    def runs(self) -> pd.DataFrame:
        """One row for each run."""
        return rows_as_frame([tuple(run.row()[name] for name in RUNS) for run in self._measured.runs], RUNS)

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each variant, value of the sweep, state and figure: median, quartiles, and intervals by bootstrap."""
        rows = []
        for row in self._measured.summary:
            for figure in METRICS:
                each = row.statistic(figure)
                cell = (row.variant, row.sweep_value, row.state, figure)
                if each is None:
                    rows.append((*cell, 0, row.left_out, *(None,) * (len(SUMMARY) - 6)))
                    continue
                ratio = (each.ratio_to_local, *(each.ratio_interval or (None, None)))
                rows.append((*cell, each.n, row.left_out, each.median, *each.quartiles, *each.interval, *ratio))
        return rows_as_frame(rows, SUMMARY)

    @property
    def cost(self) -> pd.DataFrame:
        """One row for each variant, value of the sweep and state: the cost of tracing."""
        return rows_as_frame([tuple(getattr(row, name) for name in COST) for row in self._measured.cost], COST)

    @property
    def laws(self) -> pd.DataFrame:
        """One row for each coefficient of each law that was fitted to a sweep."""
        rows = []
        for law in self._measured.laws:
            held = law.held_out
            tail = (None,) * 4 if held is None else (held.sweep_value, held.predicted_s, held.measured_s, held.error)
            terms: list[tuple[Any, ...]] = [
                (each.name, each.value, *each.interval, each.unit) for each in law.coefficients
            ]
            for term in terms or [("", None, None, None, "")]:
                rows.append((law.state, law.variant, law.formula, *term, law.n, law.residual_s, *tail, law.note))
        return rows_as_frame(rows, LAWS)

    def __repr__(self) -> str:
        return f"<cvtrace.Bench {str(self.path)!r}: {len(self._measured.runs):,} runs>"

    def _repr_html_(self) -> str:
        return notebook.bench_html(self._measured)
