"""The result of a bench as text: tables for the terminal, and sentences that the HTML page uses as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

from cvtrace.analysis.bench.schema import LOCAL, Bench, Coefficient, Law, Run, Statistic, SummaryRow, Sweep
from cvtrace.analysis.contract.classes import GROUPS
from cvtrace.analysis.contract.quantities import pluralize, script, seconds, size
from cvtrace.analysis.report.lines import GAP, wrapped
from cvtrace.analysis.report.names import printable

NOTHING: Final = "–"
TEXT, NUMBER = "text", "figure"
MOST_REASONS: Final = 8
QUARTILES: Final = "quartiles"
WAITS: Final = "waits for CVMFS?"
SHORT: Final = {WAITS: "waits?"}
"""Heading -> a shorter one, for a narrow terminal."""
BESIDE: Final = {"load_s": "load", "total_s": "total"}


def render(bench: Bench, width: int = 120) -> str:
    """Return the tables as text."""
    headings, rows = grid(bench)
    blocks = [_drawn(headings, rows, width)]
    if words := words_without_load(bench):
        blocks.append(words)
    if runs := traced_runs(bench):
        blocks.append(f"Why: the {_loaded(runs)} of one traced run in each state\n{_drawn(*_why(bench, runs), width)}")
        if words := words_unattributed(runs):
            blocks.append(words)
    if cost := cost_words(bench):
        blocks.append("\n".join(wrapped(cost, width, subsequent_indent="  ")))
    if bench.laws:
        lines = [f"  {line}" for law in bench.laws for line in law_lines(bench, law)]
        blocks.append("\n".join(["How the load grows", *lines]))
    if reasons := reasons_left_out(bench):
        lines = [
            line for each in reasons for line in wrapped(each, width, initial_indent="  ", subsequent_indent="    ")
        ]
        blocks.append("\n".join(["Left out", *lines]))
    return "\n\n".join(blocks) + "\n"


def title(bench: Bench) -> str:
    """Return the name of the script."""
    return printable(script(bench.info.variants[0].argv))


def headline(bench: Bench) -> str:
    """Return the metric that the table is about: the load, or the whole run if nothing was loaded."""
    return "load_s" if any(row.load_s for row in bench.summary) else "total_s"


def words_without_load(bench: Bench) -> str:
    """Return why the table is about whole runs, nothing if it is about loads."""
    if headline(bench) == "load_s" or not any(run.counts for run in bench.runs):
        return ""
    return (
        "Total is the life of the process: no call that loads a model was seen. Such calls are seen in Python scripts (GenAI, onnxruntime, or "
        '`with cvtrace.phase("load"):`) and, as root, in programs that call the library of GenAI'
    )


def value_of_sweep(bench: Bench, value: float | None) -> str:
    """Return a value of the sweep in words."""
    return "" if value is None else in_words(bench.info.sweep, value)


def in_words(sweep: Sweep | None, value: float) -> str:
    """Return a value of a sweep with its unit."""
    if sweep is None:
        return f"{value:g}"
    if sweep.unit == "B":
        return size(value)
    if sweep.unit == "B/s":
        return f"{size(value)}/s"
    return seconds(value) if sweep.unit == "s" else f"{value:g}"


def cell_name(bench: Bench, row: SummaryRow) -> str:
    """Return the name of a cell: variant, value of the sweep, state."""
    return _name(bench, row.variant, row.sweep_value, row.state)


def run_name(bench: Bench, run: Run) -> str:
    """Return the name of the cell of a run."""
    return _name(bench, run.variant, run.sweep_value, run.state)


def _name(bench: Bench, variant: str, value: float | None, state: str) -> str:
    return " ".join(filter(None, (printable(variant), value_of_sweep(bench, value), state)))


def grid(bench: Bench) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the table of the states: its headings, each with TEXT or NUMBER, and its rows as text."""
    metric = headline(bench)
    has_local = LOCAL in bench.info.states
    headings = [*_names_of_cell(bench), ("state", TEXT), ("n", NUMBER), (BESIDE[metric], NUMBER)]
    headings += [(QUARTILES, NUMBER), ("95 % interval", NUMBER)]
    headings += [(f"× {LOCAL}", NUMBER)] if has_local else []
    headings += [("first token", NUMBER), ("tokens/s", NUMBER)]
    headings += [("total", NUMBER)] if metric != "total_s" else []
    rows = []
    for row in bench.summary:
        main = row.statistic(metric)
        cells = [*_cells_of(bench, row.variant, row.sweep_value), row.state, str(row.n), _time(main)]
        cells += [_range(main.quartiles if main else None), _range(main.interval if main else None)]
        cells += [_ratio(main)] if has_local else []
        cells += [_time(row.first_token_s), NOTHING if row.tokens_per_s is None else f"{row.tokens_per_s.median:.1f}"]
        rows.append(cells + ([_time(row.total_s)] if metric != "total_s" else []))
    return headings, rows


def _names_of_cell(bench: Bench) -> list[tuple[str, str]]:
    variant = [("variant", TEXT)] if len(bench.info.variants) > 1 else []
    return variant + ([(bench.info.sweep.axis, NUMBER)] if bench.info.sweep else [])


def _cells_of(bench: Bench, variant: str, value: float | None) -> list[str]:
    cells = [printable(variant)] if len(bench.info.variants) > 1 else []
    return cells + ([value_of_sweep(bench, value)] if bench.info.sweep else [])


def _time(statistic: Statistic | None) -> str:
    return NOTHING if statistic is None else seconds(statistic.median)


def _ratio(statistic: Statistic | None) -> str:
    return NOTHING if statistic is None or statistic.ratio_to_local is None else f"{statistic.ratio_to_local:.2f}"


def _range(pair: tuple[float, float] | None) -> str:
    """Return a range; its unit once, if both ends have the same."""
    if pair is None:
        return NOTHING
    low, high = (seconds(each) for each in pair)
    return f"{low.partition(' ')[0]}–{high}" if low.partition(" ")[2] == high.partition(" ")[2] else f"{low}–{high}"


def _drawn(headings: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], width: int) -> str:
    """Return a table. One that is too wide loses its quartiles and long headings, then half of its gaps; a cell is never wrapped."""
    cells = [[name for name, _ in headings], *rows]
    if _width(cells, GAP) > width:
        kept = [number for number, (name, _) in enumerate(headings) if name != QUARTILES]
        headings = [(SHORT.get(headings[number][0], headings[number][0]), headings[number][1]) for number in kept]
        rows = [[row[number] for number in kept] for row in rows]
        cells = [[name for name, _ in headings], *rows]
    gap = GAP if _width(cells, GAP) <= width else " "
    rooms = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    kinds = [kind for _, kind in headings]
    first, *others = (
        gap.join(
            f"{cell}{' ' * (room - cell_len(cell))}" if kind == TEXT else f"{' ' * (room - cell_len(cell))}{cell}"
            for cell, room, kind in zip(row, rooms, kinds, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join([first, "─" * (_width(cells, gap)), *others])


def _width(cells: Sequence[Sequence[str]], gap: str) -> int:
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return sum(widths) + len(gap) * (len(widths) - 1)


def traced_runs(bench: Bench) -> list[Run]:
    """Return one traced run of each cell, the latest that counts."""
    usable = [run for run in bench.runs if run.traced and run.counts and run.classes]
    latest = {(run.variant, run.sweep_value, run.state): run for run in usable}
    order = [(row.variant, row.sweep_value, row.state) for row in bench.summary]
    return [latest[key] for key in order if key in latest]


def _loaded(runs: Sequence[Run]) -> str:
    return "load" if any(run.load_s for run in runs) else "run"


def _why(bench: Bench, runs: Sequence[Run]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    headings = [*_names_of_cell(bench), ("state", TEXT), (_loaded(runs), NUMBER)]
    names = ("network", "cache", "compute", "other", "reads", "fetches", "fetched")
    headings += [*((name, NUMBER) for name in names), (WAITS, TEXT)]
    rows = []
    for run in runs:
        groups = groups_of(run)
        other = groups.pop("other") + groups.pop("unattributed")
        cells = [*_cells_of(bench, run.variant, run.sweep_value), run.state, seconds(sum(run.classes.values()))]
        cells += [seconds(value) if value >= 5e-7 else NOTHING for value in (*groups.values(), other)]
        cells += [_count(run.reads), _count(run.fetches)]
        cells += [NOTHING if run.bytes_fetched is None else size(run.bytes_fetched)]
        # The files of a local copy are not on CVMFS, so the question has no answer.
        rows.append([*cells, NOTHING if run.state == LOCAL else run.verdict or NOTHING])
    return headings, rows


def words_unattributed(runs: Sequence[Run]) -> str:
    """Return what `other` contains where the recorder saw little, nothing where it saw most."""
    unseen = sum(run.classes.get("unattributed", 0.0) for run in runs)
    if unseen * 2 < sum(sum(run.classes.values()) for run in runs):
        return ""
    return (
        "The recorder did not see what the time in `other` was for: as root it tells network, cache and compute apart"
    )


def groups_of(run: Run) -> dict[str, float]:
    """Return the seconds of a traced run by group of classes."""
    return {
        group: sum(value for name, value in run.classes.items() if name.partition(".")[0] == group) for group in GROUPS
    }


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def cost_words(bench: Bench) -> str:
    """Return the cost of tracing in each state; an empty text if it was not measured. One traced run gives a ratio and no interval."""
    ratios: dict[str, list[float]] = {}
    for row in bench.cost:
        value = row.load_ratio if row.load_ratio is not None else row.total_ratio
        if value is not None:
            ratios.setdefault(row.state, []).append(value)
    if not ratios:
        return ""
    words = [f"{state} {_span(values)}" for state, values in ratios.items()]
    return f"Cost of tracing (time of the traced run divided by the median of the untraced runs): {', '.join(words)}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if low == high else f"{low:.2f}–{high:.2f}"


def law_lines(bench: Bench, law: Law) -> list[str]:
    """Return a law in words, a line each: the formula, its coefficients with their intervals, the prediction, the note."""
    name = " ".join(filter(None, (printable(law.variant), law.state)))
    lines = [f"{name}: {law.formula}  ({pluralize(law.n, 'run')}, typical error {seconds(law.residual_s)})"]
    lines += [f"  {each.name} = {_coefficient(each)}" for each in law.coefficients]
    if law.held_out is not None:
        held = law.held_out
        without = " ".join(filter(None, (printable(held.variant), value_of_sweep(bench, held.sweep_value))))
        lines.append(
            f"  fitted without {without}: predicts {seconds(held.predicted_s)} ({_range(held.interval)}) for it, "
            f"measured {seconds(held.measured_s)}: {100 * held.error:+.0f} %"
        )
    return [*lines, f"  {law.note}"] if law.note else lines


UNITS: Final = {
    "s per byte": (1e9, "s per GB"),
    "s per request": (1e3, "ms per request"),
    "s": (1.0, "s"),
    "requests": (1.0, "requests one after the other"),
    "bytes": (1e-6, "MB over the link"),
}
"""Unit of a coefficient -> by what it is multiplied for a reader, and the unit that it has then."""


def _coefficient(each: Coefficient) -> str:
    factor, unit = UNITS[each.unit]
    value, low, high = (f"{factor * number:.3g}" for number in (each.value, *each.interval))
    return f"{value} {unit}, 95 % {low} to {high}"


def reasons_left_out(bench: Bench) -> list[str]:
    """Return why runs were left out, a line for each state and reason."""
    count: dict[tuple[str, str], int] = {}
    for run in bench.runs:
        if not run.counts:
            count[run.state, run.reason] = count.get((run.state, run.reason), 0) + 1
    lines = [f"{pluralize(number, f'{state} run')}: {printable(reason)}" for (state, reason), number in count.items()]
    more = len(lines) - MOST_REASONS
    return lines[:MOST_REASONS] + ([f"{more} more reasons"] if more > 0 else [])
