"""`cvtrace run --warmup`: the verb `warmup` before a run, in a process of its own that has ended when the recording begins.

Its reads are its own: nothing is recorded yet, and what the client counted for it is counted before the run's first reading of the counters.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from cvtrace.commands.console import say

ENDS_BY_ITSELF_S: Final = 1.0
"""Ctrl-C on a terminal reaches the warm-up, too: so long it may take to say how far it came."""
LOOK_S: Final = 0.02


def warm_up(context: click.Context, path: Path, title: str) -> None:
    """Do what `cvtrace warmup PATH` does and return when that is over. Where it fails, ends the run with its exit code: `title` is not started."""
    from cvtrace.tracer.signals import ended_by_signals

    say(f"warming up before {title} is started")
    sys.stdout.flush()
    sys.stderr.flush()
    with ended_by_signals():
        pid = os.fork()
        if pid == 0:
            _be_the_warmup(context, path)
        try:
            code = _exit_code(os.waitpid(pid, 0)[1])
        except BaseException:
            _end(pid)
            raise
    if code:
        say(f"{title} is not started, as the warm-up did not succeed")
        context.exit(code)


def _be_the_warmup(context: click.Context, path: Path) -> NoReturn:
    """Be the verb, in the child; it may give up the rights of this process, which the recording still needs in the parent."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        root = context.find_root()
        try:
            root.command.main(["warmup", "--", str(path)], prog_name=root.info_name)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _end(pid: int) -> None:
    """See to it that the warm-up is over: it ends by itself where the same Ctrl-C reached it, else it is told, else killed."""
    for number in (None, signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number is not None:
                os.kill(pid, number)
        until_s = time.monotonic() + ENDS_BY_ITSELF_S
        while time.monotonic() < until_s:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:  # the signal came when its end had just been taken note of
                return
            time.sleep(LOOK_S)
