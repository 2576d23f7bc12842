"""The fenced blocks of shell commands in the documentation, with the mark that says how they are tested.

A block ```sh follows a line `<!-- test: HOW -->`:

    run            tests/integration/test_docs_commands.py runs all such blocks of a page, in order, in one shell
    syntax         verbs and options are checked
    none, WHY      verbs and options are checked; it cannot run in a test, for the reason given
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"(?:<!-- test: (?P<how>[^>]*?) -->\n)?```(?:sh|bash|console)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    how: str
    text: str


def blocks() -> list[Block]:
    """Return every block of the README and of docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Block(str(page.relative_to(ROOT)), match["how"] or "", match["text"])
        for page in pages
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def runnable_pages() -> list[str]:
    """Return the pages with blocks to run."""
    return sorted({block.page for block in blocks() if block.how == "run"})
