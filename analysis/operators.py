"""What the operators of the model's graph took, from onnxruntime's own profile."""

from pathlib import Path
from typing import Final

from cvtrace.analysis.model import Operator
from cvtrace.tracer.profile import read_nodes

COST: Final = (
    "onnxruntime's own profile takes some 6 µs of each node, which the times of prefill and decode contain: take those of a run "
    "without --ort-profile"
)


def operators(trace: Path) -> tuple[Operator, ...]:
    """Add up the nodes by phase and operator, the slowest first; none if no profile was taken."""
    nodes = read_nodes(trace)
    if nodes is None:
        return ()
    summed = nodes.group_by(["phase", "op_type"]).aggregate([("dur_ns", "sum"), ("dur_ns", "count")]).to_pylist()
    rows = [
        Operator(phase=row["phase"], op_type=row["op_type"], count=row["dur_ns_count"], time_s=row["dur_ns_sum"] / 1e9)
        for row in summed
        if row["phase"]
    ]
    return tuple(sorted(rows, key=lambda row: (row.phase, -row.time_s, row.op_type)))
