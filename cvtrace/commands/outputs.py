"""Where a report is written: stdout, or a file. A file appears when it is complete, and replaces another one only with --force."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import click

from cvtrace.commands.console import say
from cvtrace.tracer.safe_open import open_folder, open_special, replacing

STDOUT: Final = Path("-")

Command = TypeVar("Command", bound=Callable[..., Any])

SCREENS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is there where a browser can be started."""


def output_options(help_text: str) -> Callable[[Command], Command]:
    """Give a command the options for its output; `told` is the help of -o."""

    def add(command: Command) -> Command:
        force = click.option("--force", is_flag=True, help="Replace what is there.")
        place = click.option(
            "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), default=None, help=help_text
        )
        return place(force(command))

    return add


def width_of(output: Path | None, otherwise: int = 80) -> int:
    """Return the columns of the terminal that is written to; `otherwise` for a file or a pipe."""
    is_terminal = (output is None or output == STDOUT) and sys.stdout.isatty()
    return max(shutil.get_terminal_size().columns, 80) if is_terminal else otherwise


def destination(output: Path | None, default_place: Callable[[], Path], force: bool, show: bool) -> Path | None:
    """Return where to write: `beside` what it is about, if it is to be shown and no place is named. Raises UsageError."""
    if show and output == STDOUT:
        raise click.UsageError("--open needs a file: give one with -o, or leave -o out")
    refuse_existing(output, force)
    return default_place() if show and output is None else output


def encoding_of(output: Path | None) -> str:
    """Return the encoding of stdout, and UTF-8 for a file."""
    return (sys.stdout.encoding or "utf-8") if output is None or output == STDOUT else "utf-8"


def refuse_existing(output: Path | None, force: bool) -> None:
    """Raise UsageError if there is a file or folder in the place of the output; devices and pipes are written to."""
    if output is None or output == STDOUT or force:
        return
    if output.is_file() or output.is_dir():
        raise click.UsageError(f"{output} is already there: choose another name with -o, or replace it with --force")


@contextlib.contextmanager
def writing(output: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, a device, or a new file that takes the place of `output` when all is written.

    Raises UsageError with one sentence if that cannot be; then nothing is left behind.
    """
    if output is None or output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with unwritable(output), opened_folder(output.parent) as folder:
        special = open_special(folder, output.name)
        if special is not None:
            with special as stream:
                yield stream
            return
        with replacing(folder, output.name) as stream:
            yield stream


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Open a folder without following links of others as root. Raises OSError."""
    folder = open_folder(path)
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def unwritable(output: Path) -> Iterator[None]:
    """Tell in one sentence why something cannot be written."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror or error}") from None


def show_in_browser(output: Path, noun: str = "report") -> None:
    """Show a file in the user's browser; where there is none, say where the file is."""
    import webbrowser

    is_open = any(name in os.environ for name in SCREENS) and webbrowser.open(output.resolve().as_uri())
    say(f"{'' if is_open else 'no browser was found; '}the {noun} is in {output}")
