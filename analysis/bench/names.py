"""How the cells of an experiment are written: `cold`, `chunked.cold`, `cold@64000000`."""

from __future__ import annotations

from cvtrace.analysis.bench.statistics import CellKey


def cell_name(cell: CellKey, *, several_variants: bool) -> str:
    """Return the name of a cell; that of its variant is left out where there is one variant only."""
    variant, value, state = cell
    head = f"{variant}.{state}" if several_variants else state
    return head if value is None else f"{head}@{value:.12g}"


def spellings(cell: CellKey) -> set[str]:
    """Return all names of a cell: without variant or value of the sweep, it names each that fits."""
    variant, value, state = cell
    heads = {state, f"{variant}.{state}"}
    return heads if value is None else heads | {f"{head}@{value:.12g}" for head in heads}
