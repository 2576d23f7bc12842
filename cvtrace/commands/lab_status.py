"""`cvtrace lab status`: the state of the lab."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--state", type=click.Path(path_type=Path), help="State folder that was given to `lab up`.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def command(state: Path | None, as_json: bool) -> None:
    """Print the parts of the lab. The exit code is 0 if all of them are up, else 1."""
    from cvtrace.lab.stack import status

    stack_status = status(state=state)
    stack = stack_status.stack
    if as_json:
        described = stack.to_json() if stack else {}
        click.echo(json.dumps({"up": stack_status.up, "problems": list(stack_status.problems)} | described, indent=2))
    else:
        click.echo("up" if stack_status.up else "down")
        for problem in stack_status.problems:
            click.echo(f"  {problem}; `cvtrace lab up` repairs it, `cvtrace lab down` removes it")
        for name, value in (stack.to_json() if stack else {}).items():
            for line in value.values() if isinstance(value, dict) else [value]:
                click.echo(f"  {name.replace('_', ' '):<12} {line}")
    raise click.exceptions.Exit(0 if stack_status.up else 1)
