"""What follows from the classes of time: groups, who waits, and the parts of a fetch."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cvtrace.analysis.contract import classes, columns
from cvtrace.analysis.contract.classes import FETCH_PARTS, GROUP_COLUMNS, GROUPS, MEMBERS, WAITING, Class
from cvtrace.analysis.contract.program_schema import Run
from cvtrace.analysis.contract.report_schema import Phase, Process, Token
from cvtrace.analysis.contract.storage_schema import Fetch

SOURCE = Path(classes.__file__).read_text(encoding="utf-8")
LAST = "    UNATTRIBUTED = 15\n"


def loaded_with(member: str) -> dict[str, Any]:
    """Run the module with one more class."""
    assert LAST in SOURCE
    names: dict[str, Any] = {"__name__": "changed"}
    exec(compile(SOURCE.replace(LAST, f"{LAST}    {member} = 16\n"), "changed", "exec"), names)
    return names


def test_every_class_is_in_one_group() -> None:
    assert sorted(number for group in GROUPS for number in MEMBERS[group]) == [int(member) for member in Class]


@pytest.mark.parametrize("row", [Phase, Token, Process, Run])
def test_rows_of_the_report_have_every_group(row: type) -> None:
    fields = [field.name for field in dataclasses.fields(row)]
    first = fields.index(GROUP_COLUMNS[0])
    assert tuple(fields[first : first + len(GROUP_COLUMNS)]) == GROUP_COLUMNS


def test_exported_tables_say_what_every_group_means() -> None:
    assert tuple(columns.GROUPS) == GROUP_COLUMNS


def test_a_class_of_a_known_group_needs_nothing_else() -> None:
    names = loaded_with("CACHE_UNPACK")
    assert names["LABELS"][16] == "cache.unpack"
    assert 16 in names["MEMBERS"]["cache"]
    assert 16 in names["WAITING"]
    assert 16 in names["BLOCKED_ON_CVMFS"]


@pytest.mark.parametrize("member", ["GPU_COPY", "GPU_WAIT"])
def test_a_class_of_a_new_group_does_not_load_until_the_rows_have_the_group(member: str) -> None:
    with pytest.raises(TypeError, match="gpu_s"):
        loaded_with(member)


def test_a_class_that_is_neither_waiting_nor_on_a_cpu_does_not_load() -> None:
    with pytest.raises(KeyError, match="compute"):
        loaded_with("COMPUTE_SPIN")


def test_a_thread_waits_in_all_classes_but_on_a_cpu_and_where_nothing_is_known() -> None:
    assert {Class(number) for number in range(len(Class))} - {Class(number) for number in WAITING} == {
        Class.COMPUTE_CPU,
        Class.UNATTRIBUTED,
    }


def test_the_parts_of_a_fetch_are_the_times_of_its_row_and_add_up_to_its_life() -> None:
    fields = [field.name for field in dataclasses.fields(Fetch)]
    first = fields.index(FETCH_PARTS[0].column)
    assert tuple(fields[first : first + len(FETCH_PARTS)]) == tuple(part.column for part in FETCH_PARTS)
    times = {part.column: float(2**place) for place, part in enumerate(FETCH_PARTS)}
    row = Fetch(
        url="",
        path="",
        status=0,
        start_s=0.0,
        bytes=0,
        proxy=None,
        phase=None,
        by_target=True,
        encrypted=False,
        **times,
    )
    assert row.life_s == 31.0
