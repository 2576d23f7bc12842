"""Stacks for speedscope (https://www.speedscope.app): its JSON, with sampled profiles in nanoseconds.

The format: https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources.
"""

import json
from typing import Any, Final

import numpy as np

from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.lines import Summed
from cvtrace.analysis.trace.intervals import Ints

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
MOST: Final = 300_000
"""Samples of the profile in the order of time; of a run with more, only the sums are told."""
TITLES: Final = {"both": "all of the time", "on-cpu": "on a CPU", "waiting": "waiting"}


def render(stacks: Summed, choice: str, name: str, version: str) -> str:
    """Return the file: the critical path in the order of time, and the sums of what was chosen."""
    names: dict[str, int] = {}
    numbered = [
        [names.setdefault(printable(each), len(names)) for each in stacks.frames(row)] for row in range(len(stacks))
    ]
    choices = ("both", "on-cpu", "waiting") if choice == "both" else (choice,)
    parts = [(f"{TITLES[each]}, summed up", *_summed(stacks, each)) for each in choices]
    rows, ns = _in_order(stacks, choice)
    if len(rows) <= MOST:
        parts.insert(0, (f"{TITLES[choice]}, in its order", rows, ns))
    return json.dumps(
        {
            "$schema": SCHEMA,
            "exporter": f"cvtrace@{version}",
            "name": printable(name),
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": each} for each in names]},
            "profiles": [_profile(title, numbered, rows, ns) for title, rows, ns in parts],
        },
        ensure_ascii=False,
    )


def _summed(stacks: Summed, choice: str) -> tuple[Ints, Ints]:
    rows = stacks.rows(choice)
    return rows, stacks.ns[rows]


def _in_order(stacks: Summed, choice: str) -> tuple[Ints, Ints]:
    """Return the stack and the nanoseconds of each stretch of the critical path in which the stack stays the same."""
    is_chosen = np.isin(stacks.of_piece, stacks.rows(choice)) & (stacks.piece_ns > 0)
    row, ns = stacks.of_piece[is_chosen], stacks.piece_ns[is_chosen]
    if not len(row):
        return row, ns
    first = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    return row[first], np.add.reduceat(ns, first)


def _profile(title: str, numbered: list[list[int]], rows: Ints, ns: Ints) -> dict[str, Any]:
    return {
        "type": "sampled",
        "name": title,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": int(ns.sum()),
        "samples": [numbered[row] for row in rows.tolist()],
        "weights": ns.tolist(),
    }
