"""Two benches as one file of HTML: the table of what changed, and the runs of both beside each other in the pictures of a bench."""

from __future__ import annotations

from dataclasses import replace

from cvtrace.analysis.bench.schema import METRICS, STATES, Bench, BenchInfo, Variant
from cvtrace.analysis.comparison.experiments import BenchComparison
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report import bench_comparison as compared
from cvtrace.analysis.report.html.bench import classes, strips
from cvtrace.analysis.report.html.bench.tables import links, tables
from cvtrace.analysis.report.html.document import document
from cvtrace.analysis.report.html.palette import STATES as COLOURS
from cvtrace.analysis.report.names import printable, with_printable_texts

HEADINGS = [
    ("state", text.TEXT),
    ("figure", text.TEXT),
    *((name, text.NUMBER) for name in ("A", "B", "change", "%", "95 % interval")),
]
EXPLAINED = "Medians of the runs that count. The last column holds the difference of the medians with 95 % (bootstrap); in brackets it contains 0: there may be no difference."


def render(a: Bench, b: Bench, comparison: BenchComparison) -> str:
    """Return the page."""
    both = side_by_side(a, b)
    comparison = with_printable_texts(comparison)
    pictures = [*(strips.picture(both, metric) for metric in METRICS), classes.picture(both)]
    names = f"A: {comparison.a.path}, B: {comparison.b.path}."
    notes = " ".join(f"{note[:1].upper()}{note[1:]}." for note in comparison.notes)
    return document(
        "bench.html",
        [each for each in pictures if each],
        tables(both),
        links(both.info.states),
        title=f"{comparison.a.path} and {comparison.b.path}",
        question="What changed from A to B?",
        answer=_answer(comparison, text.headline(both)),
        about=f"{names} {notes}".strip(),
        headings=HEADINGS,
        rows=[
            [cell.name, compared.FIGURES.get(change.name, change.name), *compared.cells(change)]
            for cell in comparison.cells
            for change in cell.changes
        ],
        legend_of_table=EXPLAINED,
        laws=[],
        left_out=[line.strip() for line in text.reasons_left_out(both)],
        made=[*_made("A", a.info), *_made("B", b.info)],
        states=[(name, STATES.get(name, "")) for name in both.info.states],
        colours=[(COLOURS[name], name) for name in both.info.states],
        opened=(),
    )


def _answer(comparison: BenchComparison, metric: str) -> str:
    """Return what changed in the main figure of each state; the first sentence of all if nothing did."""
    main = [change for change in comparison.changes if change.name == metric and change.certain]
    sentences = [f"{compared.sentence(change)}." for change in main] or compared.answer(comparison)[:1]
    return " ".join(sentences)


def side_by_side(a: Bench, b: Bench) -> Bench:
    """Return both as one bench, in which the variants of each are named A and B."""
    sides = [_named(letter, bench) for letter, bench in (("A", a), ("B", b))]
    names = [*a.info.states, *b.info.states]
    states = tuple(state for state in STATES if state in names)
    values = dict.fromkeys(value for bench in (a, b) if bench.info.sweep for value in bench.info.sweep.values)
    sweep = a.info.sweep or b.info.sweep
    info = replace(
        a.info,
        states=states,
        variants=tuple(variant for side in sides for variant in side.info.variants),
        sweep=None if sweep is None else replace(sweep, values=tuple(values)),
        finished=a.info.finished and b.info.finished,
    )
    rows = [(place, row) for side in sides for place, row in enumerate(side.summary)]
    order = sorted(rows, key=lambda each: (each[1].sweep_value or 0.0, states.index(each[1].state), each[0]))
    return Bench(
        a.path,
        info,
        tuple(run for side in sides for run in side.runs if run.state in states),
        tuple(row for _, row in order),
        (),
        (),
    )


def _named(letter: str, bench: Bench) -> Bench:
    """Return a bench whose variants have the letter of their side before their names, without states that are not known."""
    known = set(STATES)
    name_of = {each.name: f"{letter} {each.name}".strip() for each in bench.info.variants}
    if len(name_of) == 1:
        name_of = dict.fromkeys(name_of, letter)
    return replace(
        bench,
        info=replace(
            bench.info, variants=tuple(Variant(name_of[each.name], each.argv) for each in bench.info.variants)
        ),
        runs=tuple(replace(run, variant=name_of.get(run.variant, letter)) for run in bench.runs),
        summary=tuple(
            replace(row, variant=name_of.get(row.variant, letter)) for row in bench.summary if row.state in known
        ),
    )


def _made(letter: str, info: BenchInfo) -> list[tuple[str, str]]:
    rows = [
        ("command", f"cvtrace {' '.join(info.command)}"),
        ("begun", info.created),
        ("host", info.host),
        *((name, value) for name, value in info.versions.items()),
        *((f"lab, {name}", value) for name, value in info.lab.items()),
    ]
    return [(f"{letter}: {name}", printable(value)) for name, value in rows]
