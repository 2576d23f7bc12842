"""Where a report goes: stdout, or a file that appears whole and replaces nothing unless asked."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click

STDOUT: Final = Path("-")


SCREENS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is there where a browser can be started."""


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
    with unwritable(output):
        if output.exists() and not output.is_file():
            with output.open("wb") as stream:
                yield stream
            return
        part = output.with_name(f".{output.name[:100]}.{os.getpid()}.part")
        try:
            with part.open("xb") as stream:
                yield stream
            part.replace(output)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def unwritable(output: Path) -> Iterator[None]:
    """Tell in one sentence why something cannot be written."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror or error}") from None


def show_in_browser(output: Path, what: str = "report") -> None:
    """Show a file in the user's browser; where there is none, say where the file is."""
    import webbrowser

    shown = any(name in os.environ for name in SCREENS) and webbrowser.open(output.resolve().as_uri())
    click.echo(f"cvtrace: {'' if shown else 'no browser can be started here; '}the {what} is in {output}", err=True)
