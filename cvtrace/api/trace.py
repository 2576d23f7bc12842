"""A recorded run for Python programs and notebooks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import pandas as pd

from cvtrace.analysis.attribution.study import Study, sensible_times, study_of
from cvtrace.analysis.contract.frame_columns import FRAMES
from cvtrace.analysis.contract.report_options import Changes, ReportOptions
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import tables as exported
from cvtrace.analysis.report import text
from cvtrace.analysis.storage.headers import Headers, headers_of
from cvtrace.analysis.storage.tables import Tables, storage_tables
from cvtrace.analysis.summary.assemble import report_of
from cvtrace.api import notebook
from cvtrace.api.frames import columns_as_frame, frame_of
from cvtrace.tracer.store import Trace as Recorded
from cvtrace.tracer.store import read_trace
from cvtrace.tracer.user import calling_user

__all__ = ["Trace", "open"]

PathLike = str | os.PathLike[str]
UNCHANGED: Final = Changes()
MOST_PARALLEL: Final = 1000
SCALES: Final = (0.01, 10_000)
"""Least and greatest, as the options of `cvtrace report` have them."""
COPIES_ON_WRITE: Final = int(pd.__version__.partition(".")[0]) >= 3
"""Whether pandas copies the columns of a shallow copy when they are changed."""


def open(
    path: PathLike,
    *,
    model: PathLike | None = None,
    access_log: PathLike | None = None,
    log_clients: Sequence[str] = (),
    rtt_s: float = UNCHANGED.rtt_s,
    parallel: int = UNCHANGED.parallel,
    scale: float = UNCHANGED.scale,
) -> Trace:
    """Open the trace in a folder that `cvtrace run` or `cvtrace attach` wrote.

    This reads the events. They are analysed when the first table is used, once for all tables. The arguments do what the options
    of `cvtrace report` do: `model` is a folder with the files of the model, `access_log` a log of the server or proxy and
    `log_clients` the addresses of this client in it; `rtt_s`, `parallel` and `scale` are what the predictions assume.

    Raises `cvtrace.TraceError` if the folder is missing, is no trace, or is damaged (some damage is noticed by the analysis, when the
    first table is used), and ValueError for arguments that the command refuses.

        >>> trace = cvtrace.open("cold")
        >>> print(trace.report().verdict.answer)
        yes
    """
    folder = None if model is None else Path(model)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"model: there is no folder {folder}")
    options = _options(access_log, log_clients, Changes(rtt_s, parallel, scale))
    recorded = read_trace(Path(path))
    return Trace(recorded, headers_of(recorded, calling_user(os.environ), folder), options)


def _options(access_log: PathLike | None, log_clients: Sequence[str], changes: Changes) -> ReportOptions:
    """Return the options of a report. Raises ValueError for what the command refuses."""
    log = None if access_log is None else Path(access_log)
    for is_right, message in (
        (log is None or log.is_file(), f"access_log: there is no file {log}"),
        (log is not None or not log_clients, "log_clients: they are those of an access_log, which is missing"),
        (changes.rtt_s >= 0, f"rtt_s: {changes.rtt_s} is no time"),
        (
            1 <= changes.parallel <= MOST_PARALLEL,
            f"parallel: {changes.parallel} is not a number from 1 to {MOST_PARALLEL}",
        ),
        (
            SCALES[0] <= changes.scale <= SCALES[1],
            f"scale: {changes.scale} is not a number from {SCALES[0]} to {SCALES[1]}",
        ),
    ):
        if not is_right:
            raise ValueError(message)
    return ReportOptions(log, tuple(log_clients), changes, True)


class Trace:
    """A trace that `cvtrace.open` opened. Each table is a DataFrame.

    A table is made when it is used for the first time. A property returns a copy, so changes of it do not change the trace. `attrs["units"]` of a
    table has the unit of each column, and `columns` also the meaning.

        >>> slow = trace.phases.sort_values("wall_s").iloc[-1]
        >>> print(slow["name"], slow["wall_s"], slow["fuse_reads"])
        load 0.4 1
        >>> trace.reads.groupby("phase", observed=True)["read_bytes"].sum().to_dict()
        {'load': 131072, 'decode': 131072}
    """

    TABLES: Final = tuple(FRAMES)
    """Names of all tables."""

    def __init__(self, recorded: Recorded, headers: Headers, options: ReportOptions) -> None:
        self._recorded = recorded
        self._headers = headers
        self._options = options
        self._frames: dict[str, pd.DataFrame] = {}

    @property
    def path(self) -> Path:
        """The folder of the trace."""
        return self._recorded.path

    @property
    def damage(self) -> str | None:
        """Where and why the trace ends, in one sentence, if it was cut off; None for a whole one."""
        return self._recorded.damage

    def report(self) -> Report:
        """Return the report, with all that `cvtrace report --format json` prints, as frozen dataclasses.

        Fields are added, never renamed. Their units are in their names: `_s` for seconds, `_bytes` for bytes.

            >>> report = trace.report()
            >>> print(report.verdict.question, report.verdict.answer, report.verdict.fuse_reads)
            generation yes 1
        """
        return self._report

    def summary(self) -> str:
        """Return the summary, as `cvtrace report` prints it."""
        return text.render(self._report)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its name. Raises ValueError for a name that is not in `cvtrace.Trace.TABLES`.

        >>> trace.table("phases").equals(trace.phases)
        True
        """
        _refuse_unknown(name)
        if name not in self._frames:
            with sensible_times(self._recorded):
                table = exported.table(name, self._study, self._tables, lambda: self._report)
            self._frames[name] = frame_of(table)
        return self._frames[name].copy(deep=not COPIES_ON_WRITE)

    def columns(self, name: str) -> pd.DataFrame:
        """Return column, dtype, unit and meaning of each column of a table.

        >>> print(*trace.columns("tokens").set_index("column").loc["wall_s"])
        float64 s duration of the call of GenerateNextToken
        """
        _refuse_unknown(name)
        return columns_as_frame(name, FRAMES[name])

    @property
    def verdict(self) -> pd.DataFrame:
        """The answer on the first row, then its parts: first token and further tokens, inside of calls and between them.

        >>> print(trace.verdict.set_index("part").loc["further_tokens", "answer"])
        yes
        """
        return self.table("verdict")

    @property
    def run(self) -> pd.DataFrame:
        """One row: command line, exit code, host, times, probes, lost events, state of the caches, and the verdict."""
        return self.table("run")

    @property
    def phases(self) -> pd.DataFrame:
        """One row for each phase: import, load, tokenizer, prefill, decode, teardown, and those that the script names."""
        return self.table("phases")

    @property
    def classes(self) -> pd.DataFrame:
        """One row for each phase and class of time."""
        return self.table("classes")

    @property
    def tokens(self) -> pd.DataFrame:
        """One row for each token, with the groups of time and the READ requests for it."""
        return self.table("tokens")

    @property
    def answers(self) -> pd.DataFrame:
        """One row for each answer: from its prefill to its last token."""
        return self.table("answers")

    @property
    def runs(self) -> pd.DataFrame:
        """One row for each call of `InferenceSession.run` of plain onnxruntime."""
        return self.table("runs")

    @property
    def requests(self) -> pd.DataFrame:
        """One row for each FUSE request that was observed, of the target and of others."""
        return self.table("requests")

    @property
    def reads(self) -> pd.DataFrame:
        """One row for each READ request of the target, in the order of `requests`."""
        return self.table("reads")

    @property
    def fetches(self) -> pd.DataFrame:
        """One row for each GET, with the times of its parts and the file that needed it."""
        return self.table("fetches")

    @property
    def files(self) -> pd.DataFrame:
        """One row for each file on a mount."""
        return self.table("files")

    @property
    def folders(self) -> pd.DataFrame:
        """One row for each folder on a mount."""
        return self.table("folders")

    @property
    def lines(self) -> pd.DataFrame:
        """One row for each line of code that waited, of a run with `--stacks`; empty without."""
        return self.table("lines")

    @property
    def chunks(self) -> pd.DataFrame:
        """One row for each object of the client's cache that the target used: chunks, whole files, catalogs."""
        return self.table("chunks")

    @property
    def tensors(self) -> pd.DataFrame:
        """One row for each tensor of the model's files, as far as their headers can be read (see `model` of `cvtrace.open`)."""
        return self.table("tensors")

    @property
    def layers(self) -> pd.DataFrame:
        """One row for each layer of the model."""
        return self.table("layers")

    @property
    def waits(self) -> pd.DataFrame:
        """One row for each wait on the critical path, in the order of time, with what the run waited for."""
        return self.table("waits")

    @property
    def stacks(self) -> pd.DataFrame:
        """The critical path by phase, thread, file, tensor and class: the data of flame graphs."""
        return self.table("stacks")

    @property
    def fetching(self) -> pd.DataFrame:
        """One row: the time waited for fetches, and the part of it with one fetch at a time."""
        return self.table("fetching")

    @property
    def client_cache(self) -> pd.DataFrame:
        """One row: the use of the client's cache by the run."""
        return self.table("client_cache")

    @property
    def prefetching(self) -> pd.DataFrame:
        """One row: what the client prefetched in the background, and how much of it was used. No row if it prefetched nothing."""
        return self.table("prefetching")

    @property
    def mounts(self) -> pd.DataFrame:
        """One row for each mount that was observed."""
        return self.table("mounts")

    @property
    def processes(self) -> pd.DataFrame:
        """One row for each process of the target."""
        return self.table("processes")

    @property
    def imports(self) -> pd.DataFrame:
        """One row for each module that the script imported."""
        return self.table("imports")

    @property
    def import_packages(self) -> pd.DataFrame:
        """One row for each package that the script imported modules of."""
        return self.table("import_packages")

    @property
    def operators(self) -> pd.DataFrame:
        """One row for each phase and operator of onnxruntime (`cvtrace run --ort-profile`)."""
        return self.table("operators")

    @property
    def operator_layers(self) -> pd.DataFrame:
        """One row for each phase and layer of the model (`cvtrace run --ort-profile`)."""
        return self.table("operator_layers")

    @property
    def failures(self) -> pd.DataFrame:
        """One row for each kind of request that failed."""
        return self.table("failures")

    @property
    def findings(self) -> pd.DataFrame:
        """One row for each finding, with advice and what it saves at most."""
        return self.table("findings")

    @property
    def checks(self) -> pd.DataFrame:
        """One row for each count that was compared with the client's own."""
        return self.table("checks")

    @property
    def kernel_requests(self) -> pd.DataFrame:
        """One row for each mount: the numbers that the kernel gave to requests, compared with those in the trace."""
        return self.table("kernel_requests")

    @property
    def access_log(self) -> pd.DataFrame:
        """One row if `cvtrace.open` got an `access_log`: the comparison of the log with the trace."""
        return self.table("access_log")

    @property
    def what_if(self) -> pd.DataFrame:
        """One row: what the predictions know of the network to the server."""
        return self.table("what_if")

    @property
    def predictions(self) -> pd.DataFrame:
        """One row for each prediction of `cvtrace report --what-if`."""
        return self.table("predictions")

    @property
    def predicted_phases(self) -> pd.DataFrame:
        """One row for each prediction and phase."""
        return self.table("predicted_phases")

    @cached_property
    def _study(self) -> Study:
        return study_of(self._recorded)

    @cached_property
    def _tables(self) -> Tables:
        return storage_tables(self._study, self._headers)

    @cached_property
    def _report(self) -> Report:
        with sensible_times(self._recorded):
            return report_of(self._study, self._tables, self._options)

    def __repr__(self) -> str:
        return f"<cvtrace.Trace {str(self.path)!r}: {len(self._recorded.events):,} events>"

    def _repr_html_(self) -> str:
        return notebook.trace_html(self._report)


def _refuse_unknown(name: str) -> None:
    if name not in FRAMES:
        raise ValueError(f"there is no table {name!r}: the tables are {', '.join(FRAMES)}")
