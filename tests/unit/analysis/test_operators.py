"""Operators by type and by layer, from the nodes of a profile."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cvtrace.analysis.contract.storage_schema import Operator, OperatorLayer
from cvtrace.analysis.storage.operators import operator_layers, operators
from cvtrace.tracer.folder import NODES_PARQUET
from cvtrace.tracer.profile import SCHEMA

NODES = (
    ("prefill", -1, "/model/layers.0/attn/MatMul", "MatMulNBits", 900),
    ("decode", 0, "/model/layers.0/attn/MatMul", "MatMulNBits", 100),
    ("decode", 0, "/model/layers.11/attn/MatMul", "MatMulNBits", 200),
    ("decode", 0, "/model/layers.2/Add", "Add", 7),
    ("decode", 1, "/model/layers.11/attn/MatMul", "MatMulNBits", 300),
    ("decode", 1, "/lm_head/MatMul", "MatMulNBits", 50),
    ("", -1, "/model/layers.0/warm_up", "Add", 10_000),
)


def profiled(folder: Path) -> Path:
    columns = list(zip(*((*row[:4], 0, row[4] * 1000) for row in NODES), strict=True))
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), folder / NODES_PARQUET)
    return folder


def test_nodes_are_added_up_by_layer_in_their_order(tmp_path: Path) -> None:
    assert operator_layers(profiled(tmp_path)) == (
        OperatorLayer("decode", 0, 1, 100e-6),
        OperatorLayer("decode", 2, 1, 7e-6),
        OperatorLayer("decode", 11, 2, 500e-6),
        OperatorLayer("decode", None, 1, 50e-6),
        OperatorLayer("prefill", 0, 1, 900e-6),
    )


def test_sums_by_type_and_by_layer_are_equal(tmp_path: Path) -> None:
    trace = profiled(tmp_path)
    by_type, by_layer = operators(trace), operator_layers(trace)
    assert by_type[0] == Operator("decode", "MatMulNBits", 4, 650e-6)
    assert sum(row.count for row in by_type) == sum(row.count for row in by_layer) == 6
    assert round(sum(row.time_s for row in by_type) * 1e9) == round(sum(row.time_s for row in by_layer) * 1e9)


def test_without_a_profile_there_are_no_operators(tmp_path: Path) -> None:
    assert operators(tmp_path) == operator_layers(tmp_path) == ()
