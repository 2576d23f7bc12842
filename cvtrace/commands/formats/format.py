"""What an output is: its name, the endings of its files, where it may go, the options it uses, and how it is written."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import click

from cvtrace.commands.console import doing
from cvtrace.commands.outputs import STDOUT, encoding_of, writing

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis

PREDICTIONS: Final = ("what_if", "rtt", "parallel", "scale", "access_log")
"""Options of outputs that have predictions and the comparison with an access log."""


@dataclass(frozen=True)
class Settings:
    """How an output is written: where to (None: stdout), and what options ask of it."""

    output: Path | None
    stacks: str
    verbose: bool
    what_if: bool
    by: str = "file"
    """Whether flame graphs go by file or by line of code."""

    @property
    def to_stdout(self) -> bool:
        return self.output is None or self.output == STDOUT

    @property
    def to_terminal(self) -> bool:
        return self.to_stdout and sys.stdout.isatty()


class Format(ABC):
    """An output of `cvtrace report`."""

    name: ClassVar[str]
    """The choice of --format."""
    endings: ClassVar[tuple[str, ...]]
    """Of the names of files that may hold it."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of `cvtrace report` that it uses, of those that not every output does."""
    is_binary: ClassVar[bool] = False
    is_several_files: ClassVar[bool] = False
    for_programs: ClassVar[bool] = True
    """Whether other programs read it: then it is never shown in the browser, and its text is UTF-8 whatever the terminal's encoding."""

    def check_place(self, settings: Settings) -> None:
        """Raise UsageError if the output cannot go there."""
        if self.is_several_files and settings.to_stdout:
            raise click.UsageError(f"--format {self.name} makes several files: name a folder or a .zip with -o")
        if self.is_binary and settings.to_terminal:
            raise click.UsageError(f"--format {self.name} is not for a terminal: name a file with -o")

    @abstractmethod
    def write(self, analysis: Analysis, settings: Settings) -> None:
        """Write it; raises UsageError if it cannot be written."""


class TextFormat(Format):
    """An output that is one text."""

    def write(self, analysis: Analysis, settings: Settings) -> None:
        """Write the text to its place."""
        with doing(f"writing the {self.name}"):
            text = self.render(analysis, settings)
        with writing(settings.output) as stream:
            stream.write(text.encode(self.encoding(settings), "replace"))

    def encoding(self, settings: Settings) -> str:
        """Return the encoding of the text: that of the terminal for people."""
        return "utf-8" if self.for_programs else encoding_of(settings.output)

    @abstractmethod
    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the text."""
