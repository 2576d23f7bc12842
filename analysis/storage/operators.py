"""What the operators of the model's graph took, from onnxruntime's own profile: by type, and by layer as far as names tell."""

from pathlib import Path
from typing import Final

from cvtrace.analysis.contract.storage_schema import Operator, OperatorLayer
from cvtrace.analysis.storage.headers.tensor import layer_of
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


def operator_layers(trace: Path) -> tuple[OperatorLayer, ...]:
    """Add up the nodes by phase and layer of the model, in the order of the layers; none if no profile was taken.

    The layer is in a node's name (`/model/layers.17/attn/qkv_proj/MatMul`), also where onnxruntime fused several into one; a node that
    was made anew by an optimiser may have lost it, and counts where `layer` is None, as does what is of no layer.
    """
    nodes = read_nodes(trace)
    if nodes is None:
        return ()
    summed = nodes.group_by(["phase", "name"]).aggregate([("dur_ns", "sum"), ("dur_ns", "count")]).to_pylist()
    total: dict[tuple[str, int | None], list[int]] = {}
    for row in summed:  # one for each node of the graph, not for each time it ran
        if row["phase"]:
            sums = total.setdefault((row["phase"], layer_of(row["name"])), [0, 0])
            sums[0] += row["dur_ns_count"]
            sums[1] += row["dur_ns_sum"]
    rows = [OperatorLayer(phase, layer, count, spent / 1e9) for (phase, layer), (count, spent) in total.items()]
    return tuple(sorted(rows, key=lambda row: (row.phase, row.layer is None, row.layer or 0)))
