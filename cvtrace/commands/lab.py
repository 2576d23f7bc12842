"""`cvtrace lab`: the group of the lab's verbs."""

from __future__ import annotations

import os
from typing import Final

import click

from cvtrace.commands.lazy_group import LazyGroup, Verb

VERBS: Final = {
    "up": Verb("cvtrace.commands.lab_up", "Build, publish, serve and mount a model, all in one."),
    "down": Verb("cvtrace.commands.lab_down", "Unmount and stop what `lab up` started."),
    "status": Verb("cvtrace.commands.lab_status", "Print the state of the lab; exit 1 if it is not up."),
    "example": Verb("cvtrace.commands.lab_example", "Print the path of the example script."),
    "model": Verb("cvtrace.commands.lab_model", "Build a GenAI model of any size."),
    "publish": Verb("cvtrace.commands.lab_publish", "Publish a folder as a CVMFS repository."),
    "serve": Verb("cvtrace.commands.lab_serve", "Serve a store over HTTP, in the foreground."),
    "mount": Verb("cvtrace.commands.lab_mount", "Mount a repository with the lab's client."),
}


@click.group(cls=LazyGroup, verbs=VERBS)
def command() -> None:
    """The embedded CVMFS for demo, tests and benchmarks: `lab up` does all of it in one go."""
    from cvtrace.tracer.permission import check_may_mount
    from cvtrace.tracer.user import calling_user

    check_may_mount(calling_user(os.environ))
