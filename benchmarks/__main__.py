"""`make bench`: run the benchmarks, print the table, keep it in bench-out/ (or docs/benchmarks.md with --update)."""

from __future__ import annotations

import os
from pathlib import Path

import click

from benchmarks import (
    ablation,
    analysis,
    api,
    bundle,
    exports,
    fleet,
    html_report,
    large_trace,
    model,
    read_loop,
    recorder,
    runtimes,
    warmup,
    what_if,
)
from benchmarks.results import Settings, machine, table

BENCHMARKS = {
    "recorder": recorder.run,
    "read_loop": read_loop.run,
    "model": model.run,
    "ablation": ablation.run,
    "analysis": analysis.run,
    "large": large_trace.run,
    "html": html_report.run,
    "exports": exports.run,
    "api": api.run,
    "what_if": what_if.run,
    "bundle": bundle.run,
    "fleet": fleet.run,
    "warmup": warmup.run,
    "runtimes": runtimes.run,
}
BY_NAME = ("large",)
"""Benchmarks that need minutes and gigabytes; they run only if they are named."""
OWN_PAGE = ("what_if", "warmup", "bundle", "runtimes")
"""Benchmarks whose table is in a page of its own, which they write; they run only if they are named."""
HEAD = """# What tracing costs

Made by `make bench` ({command}) on: {machine}.

A ratio is the median of {repeats} rounds. In each round an untraced run and a traced run follow each other, in alternating order.
The lowest and the highest ratio are in brackets. Other tools have at most three rounds (one in the loop of one-byte reads). They trace
the client's daemon as well: strace and perf trace with all calls, bpftrace with nine calls and their durations. Their
output goes to /dev/null. Times depend on the machine; ratios can be compared between machines. *Cold*: nothing is in the client's cache. *Warm*: everything
is in the client's cache, and nothing in the page cache.

"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--update",
    is_flag=True,
    help=f"Write docs/benchmarks.md, or the page of the benchmark ({', '.join(OWN_PAGE)}).",
)
def main(names: tuple[str, ...], repeats: int, update: bool) -> None:
    """Measure what tracing costs (root; a few minutes)."""
    if os.geteuid() != 0:
        raise click.ClickException("the benchmarks load BPF programs: run `sudo make bench`")
    root = Path(__file__).resolve().parents[1]
    settings = Settings(repeats, root / "bench-out", update)
    settings.folder.mkdir(exist_ok=True)
    command = f"python -m benchmarks --repeats {repeats} {' '.join(names)}".strip()
    chosen = names or tuple(name for name in BENCHMARKS if name not in OWN_PAGE + BY_NAME)
    rows = [row for name in chosen for row in BENCHMARKS[name](settings)]
    page = HEAD.format(machine=machine(), repeats=repeats, command=command) + table(rows)
    own_page = all(name in OWN_PAGE for name in chosen)
    target = root / "docs" / "benchmarks.md" if update and not own_page else settings.folder / "benchmarks.md"
    target.write_text(page)
    click.echo(page)
    click.echo(f"kept in {target}", err=True)
    if any(row.met is False for row in rows):
        raise SystemExit(1)


main()
