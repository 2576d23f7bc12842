"""A click group whose verbs are written out with their help, and imported when they are called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from cvtrace.commands.examples import epilog_of


@dataclass(frozen=True)
class Verb:
    """Where a verb lives, and the line that `--help` of its group shows for it."""

    module: str
    """Exports a click command named `command`."""
    help: str
    as_caller: bool = False
    """Whether it needs no privileges: under sudo it runs wholly as the user who called."""


class LazyGroup(click.Group):
    """A group that imports the module of a verb only when that verb is called."""

    def __init__(self, *args: Any, verbs: Mapping[str, Verb], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = dict(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order they are written down."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module; raises UsageError when this installation does not have it."""
        verb = self.verbs.get(cmd_name)
        if verb is None:
            return None
        try:
            module = importlib.import_module(verb.module)
        except ModuleNotFoundError as error:
            if error.name != verb.module:
                raise
            raise click.UsageError(
                f"this installation of cvtrace has no '{ctx.command_path} {cmd_name}'", ctx
            ) from error
        command: click.Command = module.command
        if command.epilog is None:
            command.epilog = epilog_of(f"{'lab ' if ctx.parent is not None else ''}{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in self.verbs.items()])
