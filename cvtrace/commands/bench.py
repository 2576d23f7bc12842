"""`cvtrace bench`: a script in known states of the caches, many times, in random order."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrace.commands.bench_progress import BenchProgress, shown
from cvtrace.commands.console import say
from cvtrace.commands.outputs import show_in_browser, width_of

if TYPE_CHECKING:
    from cvtrace.analysis.bench.schema import Bench


@click.command(
    name="bench",
    context_settings={"allow_interspersed_args": False},
    short_help="Measure a script in known states of the caches, many times.",
)
@click.option(
    "--states",
    default="cold,warm-disk,warm-memory,hot,local",
    show_default=True,
    metavar="LIST",
    help="States of the caches to measure in.",
)
@click.option("--repeats", default=5, show_default=True, metavar="N", type=int, help="Runs in each state.")
@click.option("--seed", type=int, help="Seed of the random order of the runs. [default: a new one, which is printed]")
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="End a run that takes longer. The other runs are still made."
)
@click.option(
    "--trace",
    "trace_all",
    is_flag=True,
    help="Trace all runs except one in each state. Without it, one run in each state is traced.",
)
@click.option(
    "--variant", "variants", metavar="NAME=ARGS", multiple=True, help="Also measure SCRIPT with these additional ARGS."
)
@click.option(
    "--sweep",
    metavar="AXIS=LIST",
    help="Measure on the lab at each value of one axis: size, chunk, quota, delay, bandwidth or threads.",
)
@click.option(
    "--hold-out", metavar="VALUE", help="Value of the sweep that is predicted from the others. [default: the largest]"
)
@click.option(
    "--lab",
    "lab",
    metavar="LIST",
    help="Measure on a lab that is started for it, such as size=64MB,delay=20ms,client=cvmfs2.",
)
@click.option(
    "--model",
    "models",
    metavar="PATH",
    multiple=True,
    help="Files on CVMFS that the script uses and no argument names.",
)
@click.option("--python", metavar="PATH", help="Python for the script; as for cvtrace run.")
@click.option("--user", metavar="NAME", help="Run the script as this user (root only); default: who called sudo.")
@click.option(
    "--copy-to",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for the local copy. [default: the output folder]",
)
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--force", is_flag=True, help="Replace results that are there.")
@click.option("--yes", is_flag=True, help="Do not ask before caches are emptied.")
@click.option("--open", "show", is_flag=True, help="Show the page in the browser afterwards.")
@click.argument("arguments", metavar="SCRIPT [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def command(
    states: str,
    repeats: int,
    seed: int | None,
    timeout: float | None,
    trace_all: bool,
    variants: tuple[str, ...],
    sweep: str | None,
    hold_out: str | None,
    lab: str | None,
    models: tuple[str, ...],
    python: str | None,
    user: str | None,
    copy_to: Path | None,
    output: Path | None,
    force: bool,
    yes: bool,
    show: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT with its ARGS in each state of the caches, --repeats times, in random order within each round.

    cvtrace sets the caches for the files on CVMFS that ARGS name, and verifies the state before and after each run.
    After an interruption, the same command continues.
    """
    from cvtrace.analysis.report.bench import render
    from cvtrace.analysis.report.html.bench import render as page
    from cvtrace.experiment.measure import measure
    from cvtrace.experiment.request import experiment_of
    from cvtrace.experiment.runner import Callbacks
    from cvtrace.tracer.permission import check_may_run_as
    from cvtrace.tracer.user import calling_user, user_named

    caller = calling_user(os.environ)
    runs_as = user_named(user) if user else caller
    check_may_run_as(caller, runs_as)
    experiment = experiment_of(
        arguments,
        states=states,
        repeats=repeats,
        seed=seed,
        trace_all=trace_all,
        variants=_named(variants),
        sweep=sweep,
        hold_out=hold_out,
        lab=lab,
        models=models,
        python=python,
        copy_to=copy_to,
        timeout_s=timeout,
    )
    with shown() as progress:
        callbacks = Callbacks(progress.say, _Confirm(progress, yes=yes), progress, page)
        bench = measure(experiment, runs_as, caller, callbacks, output=output, force=force, command=tuple(sys.argv[1:]))
    click.echo(render(bench, width_of(None, 120)), nl=False)
    say(_where(bench))
    if show:
        show_in_browser(bench.path / "bench.html", "page")
    measured = _measured(bench)
    if not all(row.n for row in bench.summary if (row.variant, row.sweep_value, row.state) in measured):
        raise click.exceptions.Exit(1)


def _measured(bench: Bench) -> set[tuple[str, float | None, str]]:
    """Return the cells that were tried: of the others it was said before that they cannot be reached."""
    return {(run.variant, run.sweep_value, run.state) for run in bench.runs}


def _where(bench: Bench) -> str:
    return f"{bench.path} has runs.csv, runs.parquet, the traces, and bench.html with the plots"


def _named(variants: tuple[str, ...]) -> dict[str, str]:
    rows: dict[str, str] = {}
    for text in variants:
        name, separator, words = text.partition("=")
        if not separator:
            raise click.UsageError(f"'{text}' is not a variant: write --variant NAME=ARGS")
        if name in rows:
            raise click.UsageError(f"two variants are named {name}: give each a name of its own")
        rows[name] = words
    return rows


class _Confirm:
    """Asks before caches are emptied, unless --yes has answered."""

    def __init__(self, progress: BenchProgress, *, yes: bool) -> None:
        self._yes = yes
        self._progress = progress

    def __call__(self, what: str) -> None:
        if self._yes:
            self._progress.say(what)
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{what}: --yes agrees to that")
        with self._progress.pause():
            click.confirm(f"{what[:1].upper()}{what[1:]}. Go on?", abort=True, err=True)
