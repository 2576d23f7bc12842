"""Every word that the report uses for a kind of thing is explained in the glossary, at the anchor that pages link to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvtrace.analysis.contract import classes
from cvtrace.analysis.contract.classes import anchor
from cvtrace.analysis.contract.terms import TERMS

GLOSSARY = (Path(__file__).resolve().parents[3] / "docs" / "glossary.md").read_text(encoding="utf-8")
ANCHORS = set(re.findall(r'<a id="([^"]+)"></a>', GLOSSARY))


@pytest.mark.parametrize("name", classes.LABELS)
def test_every_class_of_time_and_its_group_is_explained(name: str) -> None:
    assert anchor(name) in ANCHORS
    assert anchor(name.partition(".")[0]) in ANCHORS


@pytest.mark.parametrize(
    "term",
    [
        *TERMS,
        "chunk",
        "fetch",
        "READ",
        "fault",
        "prefill",
        "decode",
        "cold",
        "warm",
        "hot",
        "mixed",
        "none",
        "load",
        "tokenizer",
        "miss",
        "hit",
        "eviction",
        "quota",
        "catalog",
        "first_touch",
        "evicted_page",
        "evicted_object",
        "streaming_cache",
        "catalog_expired",
        "client_reloaded",
        "direct_io",
        "new_file",
        "metadata",
    ],
)
def test_terms_of_the_report_are_explained(term: str) -> None:
    assert anchor(term) in ANCHORS
