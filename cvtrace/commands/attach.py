"""`cvtrace attach`: record a running process."""

from __future__ import annotations

import os
from functools import partial

import click

from cvtrace.commands.recording import RecordingOptions, record_with, recording_options


@click.command(name="attach")
@click.argument("pid", type=click.IntRange(min=1))
@recording_options
def command(pid: int, recording: RecordingOptions) -> None:
    """Record the running process PID, its threads and the processes that it starts from now on; then print the summary.

    The recording ends when the process ends, after the time of --for, or with Ctrl-C. Ctrl-C does not end the process.
    """
    from cvtrace.tracer.attach import attach
    from cvtrace.tracer.process import find_process
    from cvtrace.tracer.user import calling_user

    process = find_process(pid)
    caller = calling_user(os.environ)
    record_with(recording, caller, partial(attach, process))
