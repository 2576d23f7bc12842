"""`make bench`: run the benchmarks, print the table, keep it in bench-out/ (or docs/benchmarks.md with --update)."""

from __future__ import annotations

import os
from pathlib import Path

import click

from benchmarks import load, read_loop
from benchmarks.rows import Settings, machine, table

BENCHMARKS = {"read_loop": read_loop.run, "load": load.run}
HEAD = """# What tracing costs

Made by `make bench` on: {machine}.
Ratios of medians of {repeats} runs, taken in turns with the untraced run. Times are this machine's; the ratios are what carries over.

"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--update", is_flag=True, help="Write docs/benchmarks.md.")
def main(names: tuple[str, ...], repeats: int, update: bool) -> None:
    """Measure what tracing costs (root; a few minutes)."""
    if os.geteuid() != 0:
        raise click.ClickException("the benchmarks load BPF programs: run `sudo make bench`")
    root = Path(__file__).resolve().parents[1]
    settings = Settings(repeats, root / "bench-out")
    settings.folder.mkdir(exist_ok=True)
    rows = [row for name in names or BENCHMARKS for row in BENCHMARKS[name](settings)]
    page = HEAD.format(machine=machine(), repeats=repeats) + table(rows)
    target = root / "docs" / "benchmarks.md" if update else settings.folder / "benchmarks.md"
    target.write_text(page)
    click.echo(page)
    click.echo(f"kept in {target}", err=True)
    if any(row.met is False for row in rows):
        raise SystemExit(1)


main()
