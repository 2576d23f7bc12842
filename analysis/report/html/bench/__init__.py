"""A bench as one file of HTML, made as the report of a run is.

strips     a picture of one figure: every run as a point, with the box of its cell
classes    the load of one traced run of each cell by class of time
law        load against what a sweep varies, with the fitted law and its prediction
tables     the runs as text
"""

from __future__ import annotations

from cvtrace.analysis.bench.schema import STATES, Bench
from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report.html.bench import classes, law, strips
from cvtrace.analysis.report.html.bench.tables import links, tables
from cvtrace.analysis.report.html.document import document
from cvtrace.analysis.report.html.palette import STATES as COLOURS
from cvtrace.analysis.report.names import printable

EXPLAINED = "Half of the runs lie between the quartiles. The interval holds the median with 95 % (bootstrap). The ratio is to the local copy."


def render(bench: Bench) -> str:
    """Return the page."""
    metric = text.headline(bench)
    figures = [metric, "first_token_s", "tokens_per_s", *(["total_s"] if metric != "total_s" else [])]
    pictures = [
        strips.picture(bench, metric),
        law.picture(bench),
        classes.picture(bench),
        *(strips.picture(bench, figure) for figure in figures[1:]),
    ]
    headings, rows = text.grid(bench)
    title = text.title(bench)
    return document(
        "bench.html",
        [each for each in pictures if each],
        tables(bench),
        links(bench.info.states),
        title=title,
        question=f"How long does {title} take to {'load' if metric == 'load_s' else 'run'}?",
        answer=_answer(bench, metric),
        about=_about(bench),
        headings=headings,
        rows=rows,
        legend_of_table=EXPLAINED,
        laws=[
            (lines[0], lines[1:])
            for each in bench.laws
            if (lines := [line.strip() for line in text.law_lines(bench, each)])
        ],
        left_out=[line.strip() for line in text.reasons_left_out(bench)],
        made=_made(bench),
        states=[(name, STATES[name]) for name in bench.info.states],
        colours=[(COLOURS[name], name) for name in bench.info.states],
        opened=(),
    )


def _answer(bench: Bench, metric: str) -> str:
    """Return the medians in words; of many cells the fastest and the slowest."""
    rows = [(row, figure) for row in bench.summary if (figure := row.statistic(metric)) is not None]
    if not rows:
        return "No run was in the state that it was to be in."
    if len(rows) > len(STATES):
        rows = [min(rows, key=lambda each: each[1].median), max(rows, key=lambda each: each[1].median)]
    return " · ".join(f"{text.cell_name(bench, row)} {seconds(figure.median)}" for row, figure in rows)


def _about(bench: Bench) -> str:
    runs = [run for run in bench.runs if run.counts]
    traced = sum(run.traced for run in runs)
    return (
        f"Medians. {pluralize(len(runs), 'run')} in random order on {printable(bench.info.host)}, {traced:,} of them traced. "
        + ("" if bench.info.finished else "The experiment is not finished. ")
        + "Every state was verified before and after each run."
    )


def _made(bench: Bench) -> list[tuple[str, str]]:
    info = bench.info
    rows = [
        ("Command", f"cvtrace {' '.join(info.command)}"),
        ("Begun", info.created),
        ("Seed", str(info.seed)),
        ("Rounds", str(info.repeats)),
        ("Host", info.host),
        *((name, value) for name, value in info.versions.items()),
        *((f"Lab: {name}", value) for name, value in info.lab.items()),
    ]
    cost = text.cost_words(bench)
    rows += [("Cost of tracing", cost.partition(": ")[2])] if cost else []
    return [(name, printable(value)) for name, value in rows]
