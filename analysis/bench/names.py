"""How the cells of an experiment are written: `cold`, `chunked.cold`, `cold@64000000`."""

from __future__ import annotations

from collections.abc import Sequence

from cvtrace.analysis.bench.schema import Bench

CellKey = tuple[str, float | None, str]
"""Variant, value of the sweep, state."""


def cells_of(bench: Bench) -> list[CellKey]:
    """Return the cells of a bench in the order of its tables."""
    values: Sequence[float | None] = bench.info.sweep.values if bench.info.sweep else (None,)
    variants = [each.name for each in bench.info.variants]
    return [(variant, value, state) for variant in variants for value in values for state in bench.info.states]


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
