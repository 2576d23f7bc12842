"""The table of `cvtrace residency` at the width of a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from cvtrace.commands.residency import UNLIMITED, _table
from cvtrace.probes.residency.objects import Object
from cvtrace.probes.residency.survey import File, FileResidency

NAMES = ("genai_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def row(name: str, size: int, pages: int | None, *, cached: bool | None) -> FileResidency:
    file = File(f"/cvmfs/repo.example.org/model/{name}", 1, 2, size, (Object("00", 0, size),))
    return FileResidency(file, None if pages is None else (pages,), None if cached is None else (cached,))


def drawn(rows: list[FileResidency], width: int) -> list[str]:
    output = StringIO()
    Console(file=output, width=width, highlight=False).print(_table(rows, width))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_every_file_has_one_line_of_80_columns_and_a_name_that_tells_it_from_the_others() -> None:
    # GIVEN names that are longer than their column
    rows = [row(name, 2_470_000_000, 1_000_000, cached=True) for name in NAMES]

    # WHEN
    lines = drawn(rows, 80)

    # THEN nothing is wrapped, and a name that is too long keeps its begin and its end
    assert len(lines) == 1 + len(rows) + 1
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines[1:-1]]
    assert names == list(NAMES)


def test_a_name_that_is_longer_than_the_line_keeps_its_begin_and_its_end() -> None:
    rows = [row(f"{each}/{'deep/' * 20}weights.bin", 2_470_000_000, 0, cached=True) for each in ("int4", "fp16")]
    lines = drawn(rows, 80)
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines[1:-1]]
    assert [name[:4] for name in names] == ["int4", "fp16"]
    assert all(name.endswith("/deep/weights.bin") for name in names)


def test_names_are_whole_where_there_is_room() -> None:
    rows = [row(name, 1000, 0, cached=True) for name in NAMES]
    for width in (120, UNLIMITED):
        assert [line.split()[0] for line in drawn(rows, width)[1:-1]] == list(NAMES)


def test_the_total_is_a_lower_bound_where_the_pages_of_a_file_are_unknown() -> None:
    # GIVEN two files, one of which is not opened because that would fetch it
    rows = [row("weights", 2_000_000_000, 1_000_000_000, cached=True), row("small", 58, None, cached=False)]

    # WHEN
    total = drawn(rows, 80)[-1]

    # THEN what is known is shown as a bound, and what is exact without one
    assert total.split()[:8] == ["total", "2.00", "GB", "≥", "1.00", "GB", "2.00", "GB"]


def test_the_total_is_unknown_where_nothing_is_known() -> None:
    rows = [row("weights", 2_000_000, None, cached=None), row("more", 1_000_000, None, cached=None)]
    assert drawn(rows, 80)[-1].split()[:6] == ["total", "3.00", "MB", "?", "?", "?"]
