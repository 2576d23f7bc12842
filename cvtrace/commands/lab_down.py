"""`cvtrace lab down`: unmount and stop what `lab up` started."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--state", type=click.Path(path_type=Path), help="State folder that was given to `lab up`.")
@click.option("--purge", is_flag=True, help="Delete models, repository and cache too.")
@click.option("--force", is_flag=True, help="Unmount even while the mount is in use.")
def command(state: Path | None, purge: bool, force: bool) -> None:
    """Unmount and stop what `lab up` started. Models and caches are kept for the next time."""
    from cvtrace.lab.stack import down

    click.echo("the lab is down" if down(state=state, purge=purge, force=force) else "the lab was not up")
