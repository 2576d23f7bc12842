"""Arguments that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click


class Folder(click.Path):
    """A folder that a verb reads. The reader says what is wrong with it, in the words in which the Python API says it."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path as it is."""
        return Path(value)


TRACE: Final = Folder()
