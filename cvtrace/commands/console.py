"""Messages on stderr. A closed stderr changes neither the work nor the exit code."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import termios
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from cvtrace.probes.visible import printable, printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress

    from cvtrace.tracer.user import User

SLOW_S = 1.0
"""What takes longer shows how far it is."""
NOTHING_TO_DRAW_ON = "--watch has no effect: stderr is not a terminal"


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


def tell(text: str, *, end: str = "\n", steers: bool = False) -> None:
    """Write a text to stderr; once that failed, whatever follows is dropped.

    Names in it come from anywhere: unless the text `steers` the terminal by itself, control characters are written out.
    """
    try:
        line = (text if steers else printable_lines(text)) + end
        click.echo(line.replace("\n", "\r\n") if _is_raw() else line, err=True, nl=False)
    except OSError:
        # What could not be written is still in its buffer, and Python would exit with 120 for it.
        _stderr_to_nowhere()


def _is_raw() -> bool:
    """Return whether the terminal is set to take what is written as it is: another user's script has a terminal of its own then."""
    try:
        return not termios.tcgetattr(sys.stderr.fileno())[1] & termios.OPOST
    except (OSError, ValueError, termios.error):  # no terminal
        return False


def say(sentence: str) -> None:
    """Say one sentence in cvtrace's name; ends of lines in names are written out, too."""
    tell(f"cvtrace: {printable(sentence)}")


def report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a defect; in the place of sys.excepthook, as the message may hold any name."""
    tell("".join(traceback.format_exception(kind, error, trace)), end="")


def is_drawn_on() -> bool:
    """Return whether stderr is a terminal on which a line can be taken back."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def note() -> Callable[[str], None] | None:
    """Return what says a sentence on a terminal, and nowhere else; None where there is none."""
    return say if sys.stderr.isatty() else None


@contextlib.contextmanager
def doing(action: str) -> Iterator[None]:
    """Show on a terminal what is being done, and remove the line at the end; in a pipe print nothing."""
    if not is_drawn_on():
        yield
        return
    tell(f"\rcvtrace: {printable(action)} …", end="", steers=True)
    try:
        yield
    finally:
        tell("\r\033[K", end="", steers=True)


def progress() -> Callable[[int, int], None] | None:
    """Return what shows how far the finishing of a long trace is: a bar, on a terminal only, after a second."""
    if not sys.stderr.isatty():
        return None
    began_s = 0.0
    bar: Progress | None = None

    def show(count: int, total: int) -> None:
        nonlocal began_s, bar
        began_s = began_s or time.monotonic()
        try:
            if bar is None and count < total and time.monotonic() - began_s > SLOW_S:
                bar = _bar("cvtrace: finishing the trace", total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=count, refresh=True)
                if count >= total:
                    bar.stop()
                    bar = None
        except (OSError, ImportError):  # nobody reads stderr, or rich is out of reach by now
            bar = None
            began_s = math.inf

    return show


@contextlib.contextmanager
def counting(action: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many of some things are done, as a bar on a terminal; in a pipe show nothing."""
    if not is_drawn_on():
        yield None
        return
    bar: Progress | None = None

    def show(count: int, total: int) -> None:
        nonlocal bar
        bar = bar or _bar(action, total)
        bar.update(bar.task_ids[0], completed=count, refresh=True)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def _bar(action: str, total: int) -> Progress:
    """Return a bar that draws when it is told to, and is taken away when it stops."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    bar.add_task(action, total=total)
    bar.start()
    return bar


def print_summary(path: Path, owner: User, *, verbose: bool = False) -> None:
    """Print the summary of a trace, or everything; whatever goes wrong with it, the trace is whole and the exit code the script's."""

    def show() -> None:
        from cvtrace.analysis.report.text import summary
        from cvtrace.analysis.storage.headers import headers_of
        from cvtrace.tracer.store import read_trace

        with doing("analysing the trace"):
            trace = read_trace(path)
            lines = summary(trace, headers_of(trace, owner), verbose=verbose)
        tell(lines, steers=True)  # it has colours, and writes names out by itself

    as_owner(owner, show, lambda reason: f"the summary could not be written{reason}; the trace is in {path}")


def as_owner(owner: User, work: Callable[[], None], failed: Callable[[str], str]) -> None:
    """Do some work on a trace; of another user, in a child that is wholly that user: the target may have put something else in its place.

    Whatever goes wrong is one sentence, which `failed` makes of the reason.
    """
    if not owner.is_other:
        _try(work, failed)
        return
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # forking beside threads: pyarrow's are made anew in the child
        pid = os.fork()
    if pid == 0:
        try:
            if _try(lambda: _switch_user(owner), failed):
                _try(work, failed)
            sys.stderr.flush()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        say(failed(""))


def _switch_user(owner: User) -> None:
    from cvtrace.commands.sudo_caller import switch_user

    switch_user(owner)


def _try(work: Callable[[], None], failed: Callable[[str], str]) -> bool:
    try:
        work()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        say(failed(f" ({type(error).__name__}: {first})"))
        return False
    return True
