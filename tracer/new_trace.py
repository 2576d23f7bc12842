"""A trace that begins: its folder, and what meta.json says before anything has run."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cvtrace
from cvtrace.probes.credentials import hidden
from cvtrace.probes.namespaces import own_namespace, sees_initial
from cvtrace.tracer.errors import TraceExists
from cvtrace.tracer.ntp import clock_error_ns
from cvtrace.tracer.options import Options
from cvtrace.tracer.redaction import Redaction
from cvtrace.tracer.store import TraceWriter
from cvtrace.tracer.target import Command

MOST_ARGUMENTS: Final = 10_000
LONGEST_ARGUMENT: Final = 150_000
"""The kernel takes 128 kB."""
MOST_ARGUMENT_CHARACTERS: Final = 1_000_000
"""More is left out of meta.json: `argv_left_out` counts the arguments."""


def create_writer(command: Command, options: Options) -> TraceWriter:
    """Create the trace's folder. Raises TraceExists or TraceUnwritable."""
    now = datetime.datetime.now().astimezone()
    meta: dict[str, Any] = {
        "cvtrace": cvtrace.__version__,
        "started": now.isoformat(),
        "host": platform.node(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "pid_namespace": None if sees_initial() else own_namespace(),
        "target": command_meta(command),
        "clock": clock_meta(None, None),
        "probe": None,
        "missing": [],
        "lost": {},
        "mounts": [],
        "events": 0,
        "texts": 0,
        "end": None,
    }
    redaction = Redaction() if options.redact else None
    if options.directory is not None:
        return TraceWriter(
            options.directory,
            meta,
            options.owner,
            force=options.force,
            redaction=redaction,
            max_bytes=options.max_bytes,
        )
    title = "run" if options.redact else re.sub(r"[^A-Za-z0-9._-]", "_", Path(command.title).stem)
    name = f"cvtrace-{title}-{now:%Y%m%d-%H%M%S}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        with contextlib.suppress(TraceExists):  # two recordings within one second
            return TraceWriter(
                Path(name + suffix), meta, options.owner, redaction=redaction, max_bytes=options.max_bytes
            )
    raise TraceExists(f"{name} is already there: choose another folder with -o DIR")


def clock_meta(start_ns: int | None, end_ns: int | None) -> dict[str, int | None]:
    """Return the times of a recording as meta.json has them, how the wall clock stands to CLOCK_MONOTONIC now, and how wrong it may be."""
    return {
        "start_ns": start_ns,
        "end_ns": end_ns,
        "realtime_offset_ns": time.time_ns() - time.monotonic_ns(),
        "error_ns": clock_error_ns(),
    }


def command_meta(command: Command) -> dict[str, Any]:
    """Return a command line as meta.json has it, from the folder and of the user that it is started by."""
    return {
        **argv_meta(command.argv),
        "pid": None,
        "cwd": os.getcwd(),  # noqa: PTH109 - as a string for JSON
        "user": command.user.name,
        "exit_code": None,
    }


def argv_meta(argv: Sequence[str]) -> dict[str, Any]:
    """Return the command line without what is known to be a password, and cut where it is longer than a report shows."""
    words: list[str] = []
    room = MOST_ARGUMENT_CHARACTERS
    for word in hidden(argv)[:MOST_ARGUMENTS]:
        if len(word) > room:
            break
        words.append(word[:LONGEST_ARGUMENT])
        room -= len(word)
    return {"argv": words, **({"argv_left_out": len(argv) - len(words)} if len(words) < len(argv) else {})}
