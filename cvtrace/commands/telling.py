"""What cvtrace says on stderr, which may be closed: nobody listening changes neither the work nor the exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cvtrace.tracer.user import User

NOTHING_TO_DRAW_ON = "--watch shows nothing here: stderr is not a terminal that can be drawn on"


def take_the_place_of_closed_streams() -> None:
    """Open the null device for stdin, stdout and stderr as far as they are closed, so that no other file becomes one of them.

    The target still finds them closed: they are not inherited.
    """
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        _stderr_to_nowhere()


def _stderr_to_nowhere() -> None:
    """Drop what cvtrace says; the descriptor stays as it is, for the target."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def tell(text: str, *, end: str = "\n") -> None:
    """Write a text to stderr; once that failed, whatever follows is dropped."""
    try:
        click.echo(text + end, err=True, nl=False)
    except OSError:
        # What could not be written is still in its buffer, and Python would exit with 120 for it.
        _stderr_to_nowhere()


def say(sentence: str) -> None:
    """Say one sentence in cvtrace's name."""
    tell(f"cvtrace: {sentence}")


def progress() -> Callable[[int, int], None] | None:
    """Return what shows how far the finishing of a long trace is: on a terminal only, after a second."""
    if not sys.stderr.isatty():
        return None
    began_s = 0.0

    def show(done: int, total: int) -> None:
        nonlocal began_s
        began_s = began_s or time.monotonic()
        if time.monotonic() - began_s > 1.0:
            end = "\r\033[K" if done >= total else ""
            tell(f"\rcvtrace: finishing the trace: {100 * done // max(total, 1)} %", end=end)

    return show


def tell_summary(path: Path, owner: User, *, verbose: bool = False) -> None:
    """Print the summary of a trace, or everything; whatever goes wrong with it, the trace is whole and the exit code the script's."""
    try:
        from cvtrace.analysis.headers import headers_of
        from cvtrace.analysis.report.text import summary
        from cvtrace.tracer.store import read_trace
        from cvtrace.tracer.user import acting_as

        with acting_as(owner):  # the target may have put a link to something else in the trace's place
            trace = read_trace(path)
        tell(summary(trace, headers_of(trace, owner), verbose=verbose))
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        say(f"the summary could not be made ({type(error).__name__}: {first}); the trace is in {path}")
