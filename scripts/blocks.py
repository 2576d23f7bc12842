"""Blocks of real output in the documentation: what stands between two marks of a page is written by `make docs`.

    <!-- made: NAME -->
    ...
    <!-- end -->

docs/made.json holds the SHA-256 of every block and of every picture that the same `make docs` wrote. A unit test compares them,
so a block that was edited by hand, or a picture of another run, fails.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
HASHES_JSON: Final = DOCS / "made.json"
BLOCK: Final = re.compile(r"(<!-- made: (?P<name>[a-z0-9-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return the README and every page of docs/."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks_of(page: Path) -> dict[str, str]:
    """Return the text of each block of a page, by name."""
    return {match["name"]: match["text"] for match in BLOCK.finditer(page.read_text(encoding="utf-8"))}


def fill(texts: Mapping[str, str]) -> None:
    """Write the texts into the blocks of all pages; raises KeyError for a block without a text."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda match: f"{match[1]}{texts[match['name']]}{match[4]}", before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def hashes() -> dict[str, str]:
    """Return the SHA-256 of each block and each kept file that `make docs` writes, by name."""
    contents = {
        f"{page.relative_to(ROOT)}#{name}": text.encode() for page in pages() for name, text in blocks_of(page).items()
    }
    for folder, pattern in (("img", "*.png"), ("reports", "cold.html")):
        contents |= {str(path.relative_to(ROOT)): path.read_bytes() for path in sorted((DOCS / folder).glob(pattern))}
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}


def remember() -> None:
    """Write the hashes of what is there now to docs/made.json."""
    HASHES_JSON.write_text(json.dumps(hashes(), indent=1) + "\n", encoding="utf-8")


def console(text: str) -> str:
    """Return output as a fenced block."""
    return f"```text\n{text.strip(chr(10))}\n```\n"
