"""`cvtrace help [VERB]...`: the same as `cvtrace VERB --help`."""

from __future__ import annotations

import click


@click.command(name="help")
@click.argument("verbs", metavar="[VERB]...", nargs=-1)
@click.pass_context
def command(context: click.Context, verbs: tuple[str, ...]) -> None:
    """Show the help of cvtrace, or of VERB (such as `run` or `lab up`)."""
    at = context.parent or context
    group: click.Command = at.command
    for verb in verbs:
        inner = group.get_command(at, verb) if isinstance(group, click.Group) else None
        if inner is None:
            raise click.UsageError(f"there is no verb '{' '.join(verbs)}': `cvtrace --help` lists all", context)
        group, at = inner, click.Context(inner, info_name=verb, parent=at)
    click.echo(group.get_help(at))
