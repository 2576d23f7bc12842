"""Columns of the tables of a fleet, and names for its nodes."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.fleet_columns import NO_WORK
from cvtrace.analysis.fleet.part import Part
from cvtrace.analysis.trace.intervals import Ints, add_by_group, ints

Floats = npt.NDArray[np.float64]


def numbers(table: Any, name: str) -> Floats:
    """Return a column of numbers, NaN where there is none."""
    return np.array([np.nan if each is None else each for each in table[name].to_pylist()], dtype=np.float64)


def counts(table: Any, name: str) -> Ints:
    """Return a column of whole numbers, 0 where there is none."""
    return ints([each or 0 for each in table[name].to_pylist()])


def texts(table: Any, name: str) -> list[str]:
    """Return a column of texts, empty where there is none."""
    return [each or "" for each in table[name].to_pylist()]


@dataclass(frozen=True)
class Frames:
    """The tables of a fleet as columns; nodes are numbered as they stand in `nodes`."""

    part: Part

    @cached_property
    def nodes(self) -> Any:
        return self.part["nodes"]

    @cached_property
    def names(self) -> list[str]:
        """Return a short name for each node: its host, if no two traces are of one host, else its folder."""
        return names_of(texts(self.nodes, "host"), texts(self.nodes, "trace"))

    @cached_property
    def group(self) -> tuple[list[str], Ints]:
        """Return the scripts, and which one each node ran: only nodes that ran the same are compared."""
        scripts = texts(self.nodes, "script")
        distinct = sorted(set(scripts))
        return distinct, ints([distinct.index(each) for each in scripts])

    @cached_property
    def place(self) -> dict[str, int]:
        """Return the number of each trace."""
        return {trace: number for number, trace in enumerate(texts(self.nodes, "trace"))}

    @cached_property
    def class_times(self) -> Ints:
        """Return ns by node and class, shape (nodes, classes), of the phases that `work_s` counts."""
        table = self.part["classes"]
        number = {label: place for place, label in enumerate(LABELS)}
        of = ints([self.place[each] for each in texts(table, "trace")])
        value = ints([number.get(each, len(LABELS) - 1) for each in texts(table, "class")])
        works = np.array([phase not in NO_WORK for phase in texts(table, "phase")], dtype=bool)
        works |= ~np.isin(of, of[works])
        cell = np.where(works, of * len(LABELS) + value, -1)
        total = add_by_group(cell, counts(table, "time_ns"), len(self.place) * len(LABELS))
        return total.reshape(-1, len(LABELS))


def names_of(hosts: list[str], traces: list[str]) -> list[str]:
    """Return the shortest names that distinguish the nodes."""
    folders = [os.path.basename(trace) for trace in traces]  # noqa: PTH119
    for names in (hosts, folders):
        if all(names) and len(set(names)) == len(names):
            return names
    above = os.path.commonpath(traces) if len(traces) > 1 else ""
    return [os.path.relpath(trace, above) if above else trace for trace in traces]


def median_by_group(values: npt.NDArray[Any], group: Ints) -> Floats:
    """Return for each row the median of the rows of its group, column by column; NaN counts nowhere."""
    result = np.full(values.shape, np.nan)
    for each in np.unique(group).tolist():
        rows = group == each
        column = values[rows].astype(np.float64)
        known = ~np.isnan(column)
        if known.any():
            result[rows] = np.nanmedian(column, axis=0)
    return result
