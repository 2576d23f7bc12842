"""Many traces together as DataFrames: the tables of `cvtrace fleet`."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fleets import fleet as command
from fleets import small_fleet
from test_api_tables import DTYPES

import cvtrace
from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_fleet(tmp_path_factory.mktemp("fleet"), nodes=3, events=750)


@pytest.mark.parametrize("name", FLEET_TABLES)
def test_columns_and_types_are_those_that_are_documented(traces: Path, name: str) -> None:
    frame = getattr(cvtrace.fleet(traces), name)

    columns = FLEET_TABLES[name]
    expected = {column: "Int64" if unit == "ns" else DTYPES[unit] for column, (unit, *_) in columns.items()}
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == expected
    assert frame.attrs["units"] == {column: unit for column, (unit, *_) in columns.items()}


def test_tables_and_summary_are_those_of_the_command(traces: Path, tmp_path: Path) -> None:
    command(traces, "--format", "parquet", "-o", tmp_path / "tables")

    fleet = cvtrace.fleet([traces])

    assert (
        fleet.objects["bytes"].tolist() == pq.read_table(tmp_path / "tables" / "objects.parquet")["bytes"].to_pylist()
    )
    assert fleet.summary() == command(traces).stdout
    assert repr(fleet) == "<cvtrace.Fleet: 3 traces, 0 skipped>"
    assert "node-00002" in fleet._repr_html_()


def test_no_trace_is_an_error_of_a_trace(tmp_path: Path) -> None:
    with pytest.raises(cvtrace.TraceError, match="nothing matches"):
        cvtrace.fleet(f"{tmp_path}/*")


def test_without_dask_the_error_says_what_to_install(traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(cvtrace.FleetError, match=r"pip install 'dask\[distributed\]' cryptography; workers=1 works"):
        cvtrace.fleet(traces, workers=2)
