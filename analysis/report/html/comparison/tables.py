"""The tables of a comparison: one behind each picture, and all figures and words of its JSON."""

from typing import Any

import numpy as np

from cvtrace.analysis.comparison.compare import Comparison
from cvtrace.analysis.contract.classes import GROUP_COLUMNS, LABELS
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.report.comparison import FIGURE_NAMES, WORDS, words_of_side
from cvtrace.analysis.report.html.comparison.sides import LETTERS, Sides
from cvtrace.analysis.report.html.tables import MOST, Column, Table
from cvtrace.analysis.report.names import printable

TIMES = ("wall_s", *GROUP_COLUMNS)


def tables(sides: Sides) -> list[Table]:
    """Return all tables that have a row."""
    all_tables = [_phases(sides), _tokens(sides), _frames(sides), _figures(sides), _words(sides)]
    return [table for table in all_tables if table.total]


def _phases(sides: Sides) -> Table:
    """A row for each phase of each run, those of one phase below each other."""
    number = {name: place for place, name in enumerate(sides.names)}
    rows = [
        (number[row.name], letter, row)
        for letter, scene in zip(LETTERS, sides.both, strict=True)
        for row in scene.report.phases
    ]
    rows.sort(key=lambda row: row[:2])
    classes = [name for name in LABELS if any(row.classes[name] for *_, row in rows)]
    columns = (
        Column("phase", "text", [sides.phases[place] for place, *_ in rows]),
        Column("run", "text", [letter for _, letter, _ in rows]),
        Column("×", "n", [row.count for *_, row in rows]),
        *(Column(name.removesuffix("_s"), "s", [getattr(row, name) for *_, row in rows]) for name in TIMES),
        *(Column(name, "s", [row.classes[name] for *_, row in rows]) for name in classes),
    )
    return Table("phases", "Phases", columns, {"phase": [place for place, *_ in rows]}, len(rows))


def _tokens(sides: Sides) -> Table:
    """The tokens of both runs; of very many, those that changed most."""
    a, b = sides.tokens
    change = np.where((a >= 0) & (b >= 0), b - a, 0)
    longest_rows = np.sort(np.argsort(-np.abs(change), kind="stable")[:MOST])
    columns = (
        Column("token", "n", longest_rows.tolist()),
        *(Column(letter, "s", _known(ns[longest_rows])) for letter, ns in zip(LETTERS, (a, b), strict=True)),
        Column(
            "change",
            "s",
            [
                None if min(pair) < 0 else (pair[1] - pair[0]) / 1e9
                for pair in zip(a[longest_rows].tolist(), b[longest_rows].tolist(), strict=True)
            ],
            signed=True,
        ),
    )
    links = {"token": longest_rows.tolist(), "phase": [DECODE] * len(longest_rows)}
    return Table("tokens", "Tokens", columns, links, len(a))


def _known(ns: Any) -> list[float | None]:
    return [each / 1e9 if each >= 0 else None for each in ns.tolist()]


def _frames(sides: Sides) -> Table:
    """The frames of the flame graph, those that changed most first."""
    differences = sides.differences
    order = np.argsort(-np.abs(differences.change_ns), kind="stable")[:MOST]
    a_ns, b_ns = differences.a_ns[order], differences.b_ns[order]
    columns = (
        Column("phase", "text", [sides.phases[each] for each in differences.phase[order].tolist()]),
        Column(
            "file", "text", [differences.parts[each] if each >= 0 else "" for each in differences.part[order].tolist()]
        ),
        Column("class", "text", [LABELS[each] for each in differences.value[order].tolist()]),
        Column("A", "s", (a_ns / 1e9).tolist()),
        Column("B", "s", (b_ns / 1e9).tolist()),
        Column("change", "s", ((b_ns - a_ns) / 1e9).tolist(), signed=True),
        Column("new or gone", "text", np.select([a_ns == 0, b_ns == 0], ["new", "vanished"], "").tolist()),
    )
    links = {"phase": differences.phase[order].tolist(), "file": differences.part[order].tolist()}
    return Table("frames", "Time by phase, file and class", columns, links, len(differences))


def _figures(sides: Sides) -> Table:
    """Every figure of the comparison; rows of a phase are linked to it."""
    comparison = sides.comparison
    number = {name: place for place, name in enumerate(sides.names)}
    rows = comparison.changes
    units = [row.unit for row in rows]
    columns = [
        Column("of", "text", [printable(row.of) for row in rows]),
        Column("figure", "text", [FIGURE_NAMES.get(row.name, row.name) for row in rows]),
        Column("A", "n", [row.a for row in rows], units),
        Column("B", "n", [row.b for row in rows], units),
        Column("change", "n", [row.difference for row in rows], units, signed=True),
        Column("B / A", "x", [row.ratio for row in rows]),
    ]
    if any(row.low is not None for row in rows):
        columns += [
            Column("95 % from", "n", [row.low for row in rows], units, signed=True),
            Column("to", "n", [row.high for row in rows], units, signed=True),
            Column("certain", "text", [{None: "", True: "yes", False: "no"}[row.certain] for row in rows]),
        ]
    links = {"phase": [number.get(row.of, -1) for row in rows]}
    return Table("figures", _title(comparison), tuple(columns), links, len(rows))


def _title(comparison: Comparison) -> str:
    return "All figures" if comparison.a.runs == comparison.b.runs == 1 else "All figures: medians of the runs"


def _words(sides: Sides) -> Table:
    rows = sides.comparison.words
    number = {name: place for place, name in enumerate(sides.names)}
    columns = (
        Column("of", "text", [printable(row.of) for row in rows]),
        Column("question", "text", [WORDS.get(row.name, row.name) for row in rows]),
        Column("A", "text", [words_of_side(row.a) for row in rows]),
        Column("B", "text", [words_of_side(row.b) for row in rows]),
    )
    return Table(
        "words", "All answers in words", columns, {"phase": [number.get(row.of, -1) for row in rows]}, len(rows)
    )
