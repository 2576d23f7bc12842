"""`cvtrace lab example`: the example script that comes with cvtrace."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

import cvtrace.lab

NAME = "phi3-qa.py"


@click.command()
@click.option(
    "--copy",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Copy the script into this folder.",
)
def command(copy: Path | None) -> None:
    """Print the path of phi3-qa.py, the script that the demo and the documentation record."""
    path = Path(cvtrace.lab.__file__).parent / "example" / NAME
    if copy is not None:
        target = copy / NAME
        if target.exists():
            raise click.UsageError(f"{target} is already there: choose another folder")
        path = Path(shutil.copyfile(path, target))
    click.echo(path)
