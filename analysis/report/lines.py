"""Text in the columns of a terminal: sentences cut into lines, names that fit, tables. Widths are cells: some letters take two."""

import re
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

from cvtrace.analysis.report.names import printable

NO_BREAK: Final = "\N{NO-BREAK SPACE}"
TOGETHER: Final = re.compile(r"(?<=\d) (?=(?:[µm]?s|[kMGT]?B|%)(?!\w))| (?=[=≠×])|(?<=[=≠]) ")
"""Blanks at which no line ends."""
GAP: Final = "  "


def fitted(name: str, most: int) -> str:
    """Return a printable name of at most `most` cells: the middle left out, since both ends tell something."""
    name = printable(name)
    if cell_len(name) <= most:
        return name
    head = _first(name, (most - 1) // 3)
    tail = _first(name[::-1], most - 1 - cell_len(head))[::-1]
    return f"{head}…{tail}"


def _first(name: str, cells: int) -> str:
    """Return as much of the beginning as fits."""
    letters, width = 0, 0
    for letter in name[: max(cells, 0) * 2]:
        width += cell_len(letter)
        if width > cells:
            break
        letters += 1
    return name[:letters]


def wrapped(
    sentence: str, width: int, *, initial_indent: str = "", subsequent_indent: str = "", most: int | None = None
) -> list[str]:
    """Cut a sentence into lines of at most `width` cells, none of which ends between a number and its unit.

    The lines begin with `initial_indent`, then `subsequent_indent`; of more than `most` lines, the last one that is kept ends with an ellipsis.
    """
    words = TOGETHER.sub(NO_BREAK, printable(sentence)).split(" ")
    lines, line = [], initial_indent
    empty = True
    for word in words:
        if not empty and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line, empty = subsequent_indent, True
        line += (
            (word if empty else f" {word}")
            if cell_len(line) + cell_len(word) <= width
            else fitted(word, width - cell_len(line))
        )
        empty = False
    lines.append(line)
    if most is not None and len(lines) > most:
        lines = lines[:most]
        lines[-1] = f"{_first(lines[-1], width - 2).rstrip(' ,;:.')} …"
    return [each.replace(NO_BREAK, " ").rstrip() for each in lines]


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return a table: the first column to the left, numbers to the right, gaps as wide as there is room for."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    gap = GAP if sum(widths) + len(GAP) * (len(widths) - 1) <= width else " "
    return [
        gap.join(
            f"{cell}{' ' * (room - cell_len(cell))}" if number == 0 else f"{' ' * (room - cell_len(cell))}{cell}"
            for number, (cell, room) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
