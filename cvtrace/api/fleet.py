"""The traces of many nodes together, for Python programs and notebooks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd

from cvtrace.analysis.contract.fleet_report import FleetReport
from cvtrace.analysis.fleet.cluster import ClusterUnusable, NoDask
from cvtrace.analysis.fleet.fleet import Fleet as Together
from cvtrace.analysis.fleet.fleet import fleet_of
from cvtrace.analysis.report.fleet import text
from cvtrace.api.errors import FleetError
from cvtrace.api.frames import frame_of

__all__ = ["Fleet", "fleet"]

PathLike = str | os.PathLike[str]


def fleet(traces: PathLike | Sequence[PathLike], *, scheduler: str | None = None, workers: int | None = None) -> Fleet:
    """Analyse many traces together, as `cvtrace fleet` does.

    `traces` is one or several paths: of traces, of folders with traces at any depth, or patterns. The Dask cluster of `scheduler` does the
    work. Without it, `workers` processes on this machine do; the default is 1 for a few small traces, and otherwise one for each core. Traces that cannot be
    read are in the table `skipped`.

    Raises `cvtrace.TraceError` if there is no trace, and `cvtrace.FleetError` if Dask is missing or the cluster cannot be used.

        >>> fleet = cvtrace.fleet(["cold", "hot"])
        >>> print(fleet.nodes["answer"].tolist())
        ['yes', 'no']
    """
    paths = [traces] if isinstance(traces, str | os.PathLike) else list(traces)
    try:
        return Fleet(fleet_of(paths, scheduler=scheduler, workers=workers))
    except NoDask as missing:
        raise FleetError(
            f"several workers need the Python package {missing}: pip install 'dask[distributed]' cryptography; "
            "workers=1 works without it"
        ) from None
    except ClusterUnusable as error:
        raise FleetError(str(error)) from None


class Fleet:
    """Many traces together. Each table is a DataFrame, and `columns` of it are documented with `cvtrace fleet`.

    >>> print(fleet.objects[["nodes", "fetches", "bytes"]].to_dict("list"))
    {'nodes': [1], 'fetches': [1], 'bytes': [1000000]}
    """

    def __init__(self, together: Together) -> None:
        self._together = together

    @property
    def nodes(self) -> pd.DataFrame:
        """One row for each trace that was read."""
        return self._frame("nodes")

    @property
    def classes(self) -> pd.DataFrame:
        """One row for each trace, phase and class that took time."""
        return self._frame("classes")

    @property
    def activity(self) -> pd.DataFrame:
        """The time of each node by class and interval."""
        return self._frame("activity")

    @property
    def objects(self) -> pd.DataFrame:
        """One row for each object that any node fetched."""
        return self._frame("objects")

    @property
    def files(self) -> pd.DataFrame:
        """One row for each file of which any node fetched a part."""
        return self._frame("files")

    @property
    def load(self) -> pd.DataFrame:
        """The load of all nodes on each proxy over time."""
        return self._frame("load")

    @property
    def skipped(self) -> pd.DataFrame:
        """One row for each trace that could not be read or analysed, and why."""
        return self._frame("skipped")

    def report(self) -> FleetReport:
        """Return what all nodes together show, with all that `cvtrace fleet --format json` prints, as frozen dataclasses.

        >>> print(fleet.report().verdicts)
        {'generation': {'no': 1, 'yes': 1}}
        """
        return self._together.report

    def summary(self) -> str:
        """Return the summary, as `cvtrace fleet` prints it."""
        return text.render(self._together.report)

    def _frame(self, name: str) -> pd.DataFrame:
        return frame_of(self._together.part[name])

    def __repr__(self) -> str:
        report = self._together.report
        return f"<cvtrace.Fleet: {report.nodes:,} traces, {len(report.skipped):,} skipped>"

    def _repr_html_(self) -> str:
        html: str = self.nodes.dropna(axis="columns", how="all").to_html(
            index=False, float_format="{:.4g}".format, na_rep=""
        )
        return html
