"""What `make docs` writes into the documentation is what is committed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import blocks  # noqa: E402


def test_blocks_of_output_are_as_make_docs_wrote_them() -> None:
    """GIVEN docs/made.json WHEN the blocks are hashed THEN none was edited by hand or replaced by another run.

    Pictures may be taken anew when the page changes its looks, before the next `make docs`.
    """
    made = {name: digest for name, digest in json.loads(blocks.HASHES_JSON.read_text()).items() if "#" in name}
    assert made
    assert {name: digest for name, digest in blocks.hashes().items() if "#" in name} == made


def test_an_edited_block_has_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a page with a block WHEN one digit is edited THEN its hash changes."""
    (tmp_path / "docs").mkdir()
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- made: one -->\nold\n<!-- end -->\nb\n")
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    monkeypatch.setattr(blocks, "DOCS", tmp_path / "docs")
    blocks.fill({"one": "12 ms\n"})
    before = blocks.hashes()
    assert page.read_text() == "a\n<!-- made: one -->\n12 ms\n<!-- end -->\nb\n"
    page.write_text(page.read_text().replace("12", "13"))
    assert blocks.hashes().keys() == before.keys()
    assert blocks.hashes() != before


def test_only_one_report_is_kept() -> None:
    """GIVEN the rules of .gitignore THEN no report but cold.html can be committed by accident."""
    rules = (ROOT / ".gitignore").read_text().splitlines()
    assert "/docs/reports/*" in rules
    assert [rule for rule in rules if rule.startswith("!/docs/reports")] == ["!/docs/reports/cold.html"]
