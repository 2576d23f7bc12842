"""`cvtrace compare`: what changed from one run, or set of runs, to another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing
from cvtrace.commands.formats.choice import chosen_name
from cvtrace.commands.outputs import (
    destination,
    encoding_of,
    output_options,
    show_in_browser,
    width_of,
    writing,
)
from cvtrace.commands.refusals import refuse_force_for_nothing

if TYPE_CHECKING:
    from cvtrace.analysis import Report
    from cvtrace.analysis.comparison.compare import Comparison
    from cvtrace.analysis.comparison.experiments import BenchComparison
    from cvtrace.analysis.summary.assemble import Analysis


def _text(a: Path, b: Path, output: Path | None) -> str:
    from cvtrace.analysis.report import comparison

    return comparison.render(_comparison(a, b), width_of(output))


def _json(a: Path, b: Path, _output: Path | None) -> str:
    from cvtrace.analysis.report import comparison

    return comparison.as_json(_comparison(a, b))


def _html(a: Path, b: Path, _output: Path | None) -> str:
    from cvtrace.analysis.comparison.compare import compare
    from cvtrace.analysis.report.html.comparison import render

    (reports_a, drawn_a), (reports_b, drawn_b) = _reports_and_drawn_run(a), _reports_and_drawn_run(b)
    return render(compare(a, reports_a, b, reports_b), drawn_a, drawn_b)


def _text_of_benches(a: Path, b: Path, output: Path | None) -> str:
    from cvtrace.analysis.report import bench_comparison

    return bench_comparison.render(_comparison_of_benches(a, b), width_of(output))


def _json_of_benches(a: Path, b: Path, _output: Path | None) -> str:
    from cvtrace.analysis.report import bench_comparison

    return bench_comparison.as_json(_comparison_of_benches(a, b))


def _html_of_benches(a: Path, b: Path, _output: Path | None) -> str:
    from cvtrace.analysis.bench import read_bench
    from cvtrace.analysis.comparison.experiments import compare_benches
    from cvtrace.analysis.report.html.bench.comparison import render

    bench_a, bench_b = read_bench(a), read_bench(b)
    return render(bench_a, bench_b, compare_benches(bench_a, bench_b))


def _comparison_of_benches(a: Path, b: Path) -> BenchComparison:
    from cvtrace.analysis.bench import read_bench
    from cvtrace.analysis.comparison.experiments import compare_benches

    return compare_benches(read_bench(a), read_bench(b))


def _are_benches(a: Path, b: Path) -> bool:
    """Return whether both are bench folders. Raises UsageError if one of them is and the other is none, TraceMissing if that is not there."""
    from cvtrace.analysis.bench import is_bench

    kinds = {path: is_bench(path) for path in (a, b)}
    if len(set(kinds.values())) > 1:
        bench, other = sorted(kinds, key=lambda path: not kinds[path])
        if not os.path.isdir(other):  # noqa: PTH112 - false also where it may not be looked at
            from cvtrace.tracer.store import read_trace

            read_trace(other)
        raise click.UsageError(f"{bench} is a bench folder and {other} is none: compare two of a kind")
    return all(kinds.values())


OF_BENCHES: Final[dict[str, Callable[[Path, Path, Path | None], str]]] = {
    "text": _text_of_benches,
    "json": _json_of_benches,
    "html": _html_of_benches,
}
"""What makes each form of a comparison of bench folders."""
RENDER: Final[dict[str, Callable[[Path, Path, Path | None], str]]] = {"text": _text, "json": _json, "html": _html}
"""What makes each form of a comparison."""


@click.command(name="compare")
@click.argument("a", type=TRACE)
@click.argument("b", type=TRACE)
@click.option("--format", "form", type=click.Choice(tuple(RENDER)), default="text", show_default=True)
@output_options("Write to this file.  [default: the terminal; A-B.html beside B with --open]")
@click.option(
    "--open", "show", is_flag=True, help="Open the comparison in the browser; as HTML unless --format says otherwise."
)
@click.pass_context
def command(context: click.Context, a: Path, b: Path, form: str, output: Path | None, force: bool, show: bool) -> None:
    """Say what changed from A to B. Each is a trace, a folder with the traces of several runs, or a folder of `cvtrace bench`.

    Compares the verdicts, tokens, reads and fetches, and the times of each phase by class. Several runs are compared by their medians, with a
    95 % confidence interval of the difference; an interval in brackets contains zero. HTML shows both runs side by side.

    Folders of `cvtrace bench` are compared state by state, with the same intervals.
    """
    is_of_benches = _are_benches(a, b)
    form = chosen_name(context, form, output, show=show, choices=tuple(RENDER))
    if not show:
        refuse_force_for_nothing(force, output, "the file")
    output = destination(
        output, lambda: b.resolve().with_name(f"{a.resolve().name}-{b.resolve().name}.{form}"), force, show
    )
    rendered = (OF_BENCHES if is_of_benches else RENDER)[form](a, b, output)
    with writing(output) as stream:
        stream.write(rendered.encode(encoding_of(output), "replace"))
    if show and output is not None:
        show_in_browser(output, "comparison")


def _comparison(a: Path, b: Path) -> Comparison:
    from cvtrace.analysis.comparison.compare import compare

    return compare(a, _reports(a), b, _reports(b))


def _reports(path: Path) -> list[Report]:
    """Return the reports of the traces at a path, one after the other: only reports are kept."""
    from cvtrace.analysis import analyse
    from cvtrace.analysis.comparison.compare import traces_in
    from cvtrace.tracer.store import read_trace

    reports = []
    for number, each in enumerate(traces := traces_in(path), 1):
        with doing(f"analysing run {number} of {len(traces)} in {path}"):
            reports.append(analyse(read_trace(each)))
    return reports


def _reports_and_drawn_run(path: Path) -> tuple[list[Report], Analysis]:
    """Return the reports, and the run that pictures show: of several, the one in the middle is analysed once more."""
    from cvtrace.analysis.comparison.compare import middle, traces_in
    from cvtrace.analysis.summary.assemble import full_analysis
    from cvtrace.tracer.store import read_trace

    traces = traces_in(path)
    reports = _reports(path) if len(traces) > 1 else []
    with doing(f"analysing {path}"):
        middle_run = full_analysis(read_trace(traces[middle(reports)] if reports else traces[0]))
    return reports or [middle_run.report], middle_run
