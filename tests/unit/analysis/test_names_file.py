"""The file of tensors in a trace comes from anywhere: it is read within limits, and each value is checked."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import cold_run, stored
from scene import MODEL

from cvtrace.analysis import analyse
from cvtrace.analysis.storage.headers import HeaderTensor, headers_of, in_trace
from cvtrace.tracer.store import read_trace
from cvtrace.tracer.user import current_user

TENSOR = HeaderTensor("model.embed_tokens.weight", "float16", (32, 64), MODEL, 0, 4096)


def test_written_tensors_are_read_back() -> None:
    odd = HeaderTensor("a\x1b[31m\u202e\udc80", "", (), MODEL, 1 << 40, 0)

    assert in_trace.parsed(in_trace.as_bytes([TENSOR, odd])) == [TENSOR, odd]


def test_a_report_has_the_tensors_that_its_trace_keeps(tmp_path: Path) -> None:
    # GIVEN a trace with tensors of its model, and of a file that was never read
    trace = stored(tmp_path, cold_run())
    other_tensor = HeaderTensor("other", "int8", (9,), "/etc/passwd", 0, 9)
    (trace / "tensors.json").write_bytes(in_trace.as_bytes([TENSOR, other_tensor]))
    # WHEN it is reported
    recorded = read_trace(trace)
    report = analyse(recorded, headers_of(recorded, current_user()))
    # THEN the former are told
    assert [row.name for row in report.tensors if row.name] == [TENSOR.name]


def row(**changes: Any) -> list[Any]:
    values: dict[str, Any] = {"name": "n", "dtype": "int8", "shape": [1], "path": MODEL, "offset": 0, "size": 1}
    return list({**values, **changes}.values())


BAD: dict[str, Any] = {
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "a list": [],
    "another schema": {"schema": "cvtrace-tensors/2", "tensors": []},
    "no tensors": {"schema": in_trace.SCHEMA},
    "too many": {"schema": in_trace.SCHEMA, "tensors": [0] * (in_trace.MOST_TENSORS + 1)},
    "short": {"schema": in_trace.SCHEMA, "tensors": [[1, 2]]},
    "long name": {"schema": in_trace.SCHEMA, "tensors": [row(name="x" * 2000)]},
    "no name": {"schema": in_trace.SCHEMA, "tensors": [row(name=None)]},
    "negative": {"schema": in_trace.SCHEMA, "tensors": [row(offset=-1)]},
    "huge": {"schema": in_trace.SCHEMA, "tensors": [row(size=1 << 64)]},
    "no number": {"schema": in_trace.SCHEMA, "tensors": [row(size=1.5)]},
    "true": {"schema": in_trace.SCHEMA, "tensors": [row(offset=True)]},
    "shape": {"schema": in_trace.SCHEMA, "tensors": [row(shape=[1] * 100)]},
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_an_invalid_file_of_tensors_is_left_out_and_reported(tmp_path: Path, content: Any) -> None:
    trace = stored(tmp_path, cold_run())
    (trace / "tensors.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    assert_left_out(trace)


def assert_left_out(trace: Path) -> None:
    recorded = read_trace(trace)
    report = analyse(recorded, headers_of(recorded, current_user()))
    assert report.tensors == ()
    assert "tensors.json of the trace cannot be used" in report.trace.missing[-1]


@pytest.mark.parametrize("planted", ["link", "fifo", "folder", "large"])
def test_a_file_that_is_not_regular_is_not_opened(tmp_path: Path, planted: str) -> None:
    trace, place = stored(tmp_path, cold_run()), tmp_path / "trace" / "tensors.json"
    if planted == "link":
        (tmp_path / "secret").write_bytes(in_trace.as_bytes([TENSOR]))
        place.symlink_to(tmp_path / "secret")
    elif planted == "fifo":
        os.mkfifo(place)
    elif planted == "folder":
        place.mkdir()
    else:
        with place.open("wb") as file:
            file.truncate(in_trace.MOST_BYTES + 1)

    assert_left_out(trace)


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda children: json.dumps(children).encode())
)
@settings(max_examples=200, deadline=None)
def test_an_invalid_file_of_tensors_raises_only_its_own_error(content: bytes) -> None:
    with pytest.raises(in_trace.BadTensorsFile):
        in_trace.parsed(content)
